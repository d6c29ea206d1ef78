//! `cargo xtask test`: every check, one after the other, and a table of how they ended.

mod parts;
mod table;
mod tools;

use std::process::ExitCode;
use std::time::Instant;

use self::parts::{PARTS, Part};
use self::table::Row;
use self::tools::Tools;
use crate::USAGE;
use crate::command::Log;
use crate::flags::Flags;
use crate::workspace::Workspace;

/// How one part ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Everything held; the text says how much that was, or is empty.
    Passed(String),
    /// Something did not hold; the text is shown in full.
    Failed(String),
    /// It could not run, for this reason.
    Skipped(String),
}

/// What a part finds when it runs.
#[derive(Debug)]
pub(crate) struct Checks {
    workspace: Workspace,
    tools: Tools,
}

#[derive(Debug, Default)]
struct Options {
    strict: bool,
    only: Vec<String>,
}

/// Reads the command line, runs the parts, prints the table.
///
/// Exit code 0 when nothing failed, 1 when something did (`--strict`: or was skipped), 64 for a wrong command line.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let options = match read(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{}", help());
            return ExitCode::from(USAGE);
        }
    };
    let chosen: Vec<&Part> = PARTS
        .iter()
        .filter(|part| options.only.is_empty() || options.only.iter().any(|name| name == part.name))
        .collect();
    let workspace = Workspace::here();
    // Installing waits for the network while the first parts wait for the compiler.
    let tools = Tools::install_in_background(&workspace, chosen.iter().any(|part| part.tools));
    let checks = Checks { workspace, tools };
    let rows: Vec<Row> = chosen.into_iter().map(|part| checks.run(part)).collect();
    print!("{}", table::draw(&rows));
    let good = rows.iter().all(|row| match row.outcome {
        Outcome::Passed(_) => true,
        Outcome::Skipped(_) => !options.strict,
        Outcome::Failed(_) => false,
    });
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Checks {
    fn run(&self, part: &Part) -> Row {
        println!("==> {:<10} {}", part.name, part.about);
        let started = Instant::now();
        let folder = self.workspace.output("xtask");
        let outcome = match Log::create(&folder, part.name) {
            Ok(log) => (part.run)(self, &log),
            Err(error) => Outcome::Failed(format!("{}: {error}", folder.display())),
        };
        let seconds = started.elapsed().as_secs_f64();
        match &outcome {
            Outcome::Failed(output) => println!("{output}\n    {} FAILED", part.name),
            Outcome::Skipped(reason) => println!("    {} skipped: {reason}", part.name),
            Outcome::Passed(_) => println!("    {} passed in {seconds:.1} s", part.name),
        }
        Row {
            name: part.name,
            outcome,
            seconds,
        }
    }
}

fn read(arguments: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    let mut flags = Flags::new(arguments);
    while let Some(name) = flags.next_name() {
        match name.as_str() {
            "--strict" => options.strict = true,
            "--only" => {
                for part in flags.value_of(&name)?.split(',') {
                    if !PARTS.iter().any(|known| known.name == part) {
                        return Err(format!("there is no part {part:?}"));
                    }
                    options.only.push(part.to_owned());
                }
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other:?} is not an option of `cargo xtask test`")),
        }
    }
    Ok(Some(options))
}

fn help() -> String {
    let mut text = String::from(
        "\
cargo xtask test [--strict] [--only PART[,PART]]

Runs every check. A part that cannot run here is skipped and says why.

  --strict      a skipped part is a failure
  --only PART   only this part; may be repeated

Parts:
",
    );
    for part in PARTS {
        text.push_str(&format!("  {:<11} {}\n", part.name, part.about));
    }
    text.push_str(
        "
Python and npm packages go to target/tools (THROUGHLINE_TOOLS), once for each set of versions.
What each part said is kept in target/xtask/PART.log.
",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            (&["--only", "fmtt"][..], "there is no part \"fmtt\""),
            (&["--only"][..], "--only needs a value"),
            (
                &["--fast"][..],
                "\"--fast\" is not an option of `cargo xtask test`",
            ),
        ] {
            assert_eq!(read(&words(line)).unwrap_err(), said);
        }
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let options = read(&words(&["--only", "fmt,docs", "--only=tests"]))
            .unwrap()
            .unwrap();
        assert_eq!(options.only, ["fmt", "docs", "tests"]);
    }

    #[test]
    fn help_names_every_part() {
        let help = help();
        for part in PARTS {
            assert!(help.contains(part.name), "{}", part.name);
        }
    }
}
