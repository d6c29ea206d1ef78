//! The documentation: every link leads somewhere, every variable is described, every command does what it shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use it::workspace;

/// The longest that one documented command may take, a build of the workspace included.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Folders without documentation of ours.
const FOREIGN: &[&str] = &["target", "node_modules", "cdk.out", "dist"];

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let pages = files(workspace(), "md");
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let text = read(&page);
        for link in links(&text) {
            if let Err(reason) = followed(&page, &link) {
                broken.push(format!("{}: {link}: {reason}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_variable_is_in_the_readme_and_in_the_reference() {
    for page in ["README.md", "docs/configuration.md"] {
        compare_with_the_code(page);
    }
}

fn compare_with_the_code(page: &str) {
    let documented: BTreeSet<String> = variables(&read(&workspace().join(page)), '`')
        .iter()
        .map(|name| of_all_signals(name))
        .collect();
    let mut read_by_code = BTreeSet::new();
    for crate_ in ["extension/src", "handler-wrapper/src"] {
        for file in files(&workspace().join(crate_), "rs") {
            // Tests make variables up.
            if file.file_stem().is_some_and(|name| name != "tests") {
                let text = read(&file);
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                read_by_code.extend(variables(code, '"').iter().map(|name| of_all_signals(name)));
            }
        }
    }
    assert!(
        read_by_code.contains("THROUGHLINE_FLUSH"),
        "{read_by_code:?}"
    );
    let missing: Vec<&String> = read_by_code.difference(&documented).collect();
    assert!(missing.is_empty(), "not in {page}: {missing:?}");
    let ours = documented
        .iter()
        .filter(|name| name.starts_with("THROUGHLINE_"));
    let invented: Vec<&String> = ours.filter(|name| !read_by_code.contains(*name)).collect();
    assert!(invented.is_empty(), "only in {page}: {invented:?}");
}

/// Blocks marked `console`: lines that begin with `$ `, or all lines when none does, are run by `sh` in the
/// workspace's root, and what follows them has to appear in the output, in this order; `…` stands for anything.
#[test]
fn every_console_block_does_what_it_shows() {
    let mut wrong = Vec::new();
    let mut commands = 0;
    for page in files(workspace(), "md") {
        for block in blocks(&read(&page), "console") {
            for (command, expected) in steps(&block) {
                commands += 1;
                match run(&command) {
                    Err(reason) => wrong.push(format!("{}: $ {command}\n{reason}", shown(&page))),
                    Ok(output) => {
                        if let Some(line) = missing_line(&expected, &output) {
                            wrong.push(format!(
                                "{}: $ {command}\nno line {line:?} in\n{output}",
                                shown(&page)
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(commands > 0, "no page has a console block");
}

#[test]
fn the_parts_of_this_test_see_what_is_there() {
    let page = "# A `b` & c!\n[x](y.md#z) ![i](<p q.png>)\n```console\n$ echo a\\\nb\na…\n$ true\n```\n`[no](link)`\n";
    assert_eq!(links(page), ["y.md#z", "p q.png"]);
    assert_eq!(anchors(page), ["a-b--c"]);
    let block = &blocks(page, "console")[0];
    assert_eq!(
        steps(block),
        [
            ("echo a\\\nb".to_owned(), vec!["a…".to_owned()]),
            ("true".to_owned(), vec![])
        ]
    );
    assert_eq!(
        missing_line(&["a…c".into(), "d".into()], "x\nabc\nd\n"),
        None
    );
    assert_eq!(
        missing_line(&["d".into(), "abc".into()], "abc\nd\n"),
        Some("abc".to_owned())
    );
    assert_eq!(
        variables("\"OTEL_X\" \"OTEL_\" \"THROUGHLINE_A_B\" \"OTHER\"", '"')
            .into_iter()
            .collect::<Vec<_>>(),
        ["OTEL_X", "THROUGHLINE_A_B"]
    );
}

/// All files with this ending below a folder, without what others made.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir()
                && !path.is_symlink()
                && !name.starts_with('.')
                && !FOREIGN.contains(&name.as_str())
            {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The targets of links and pictures outside of code.
fn links(text: &str) -> Vec<String> {
    let prose = without_code(text);
    let mut found = Vec::new();
    for (at, _) in prose.match_indices("](") {
        let rest = &prose[at + 2..];
        let target = match rest.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => rest.split([')', ' ', '\n']).next(),
        };
        found.extend(target.map(str::to_owned));
    }
    found
}

/// The text without fenced blocks and code in a line.
fn without_code(text: &str) -> String {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Every other part between back quotes is code.
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

fn followed(page: &Path, link: &str) -> Result<(), String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = link
        .split_once('#')
        .map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        page.parent().expect("a page lies in a folder").join(file)
    };
    if !target.exists() {
        return Err("there is no such file".into());
    }
    match anchor {
        Some(anchor) if target.extension().is_some_and(|ending| ending == "md") => {
            let anchors = anchors(&read(&target));
            if anchors.iter().any(|known| known == anchor) {
                Ok(())
            } else {
                Err(format!("no heading has this anchor, but {anchors:?}"))
            }
        }
        _ => Ok(()),
    }
}

/// The anchors that GitHub gives to headings: lower case, letters, digits, `-` and `_`, spaces as `-`.
fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let title = title.trim().to_lowercase();
        let anchor = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        });
        anchors.push(anchor.collect());
    }
    anchors
}

/// `OTEL_EXPORTER_OTLP_TRACES_X` is documented where `OTEL_EXPORTER_OTLP_X` is.
fn of_all_signals(name: &str) -> String {
    ["TRACES_", "METRICS_", "LOGS_"]
        .iter()
        .find_map(|signal| {
            let rest = name
                .strip_prefix("OTEL_EXPORTER_OTLP_")?
                .strip_prefix(signal)?;
            (rest != "TEMPORALITY_PREFERENCE").then(|| format!("OTEL_EXPORTER_OTLP_{rest}"))
        })
        .unwrap_or_else(|| name.to_owned())
}

/// The names of OpenTelemetry's and our variables between quotes of this kind.
fn variables(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|word| word.starts_with("THROUGHLINE_") || word.starts_with("OTEL_"))
        .filter(|word| {
            !word.ends_with('_')
                && word
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
        .map(str::to_owned)
        .collect()
}

/// Fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| !line.trim_start().starts_with("```"))
                .collect();
            if kind.trim() == language {
                found.push(block.join("\n"));
            }
        }
    }
    found
}

/// Commands with the output that is shown below them; a command goes on after a line that ends in `\`.
/// In a block without any `$ ` every line is a command.
fn steps(block: &str) -> Vec<(String, Vec<String>)> {
    if !block.lines().any(|line| line.starts_with("$ ")) {
        let marked: Vec<String> = block
            .replace("\\\n", " ")
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| format!("$ {line}"))
            .collect();
        return if marked.is_empty() {
            Vec::new()
        } else {
            steps(&marked.join("\n"))
        };
    }
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some((command, expected))) if expected.is_empty() && command.ends_with('\\') => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some((_, expected))) if !line.trim().is_empty() => {
                expected.push(line.trim_end().to_owned());
            }
            _ => {}
        }
    }
    steps
}

/// The first expected line that does not come, in order, among the lines of the output.
fn missing_line(expected: &[String], output: &str) -> Option<String> {
    let mut lines = output.lines();
    expected
        .iter()
        .find(|wanted| *wanted != "…" && !lines.any(|line| fits(wanted, line.trim_end())))
        .cloned()
}

/// Whether a line is as wanted, `…` standing for anything.
fn fits(wanted: &str, line: &str) -> bool {
    let parts: Vec<&str> = wanted.split('…').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return wanted == line;
    }
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Both streams of a command that ends well and in time.
fn run(command: &str) -> Result<String, String> {
    let log = std::env::temp_dir().join(format!("throughline-docs-{}", std::process::id()));
    let file = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(|error| error.to_string())?)
        .stderr(file);
    // As in the shell of a person, who has not been started by cargo.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
            shell.env_remove(&*name);
        }
    }
    let mut child = shell.spawn().map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("still running after {PATIENCE:?}"));
            }
            // The only way to wait for a process with a limit in std.
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let output = read(&log);
    let _ = std::fs::remove_file(&log);
    if status.success() {
        Ok(output)
    } else {
        Err(format!("{status}\n{output}"))
    }
}
