//! What the compiler says about processors that cannot be one.
//!
//! Each file of `compile_fail/` holds one mistake, and beside it stands what rustc says about it: the errors with
//! their labels, notes and helps. The texts are those of the compiler that `rust-toolchain.toml` pins.
//! After a change of it, or of a bound, `OVERWRITE=1 cargo test -p throughline --test compile_fail` writes them anew;
//! read each as its user would: the first error has to say what is wrong, in words of this crate or of Rust, at the
//! user's line.
//!
//! The cases are compiled against the library that this test was built with. `trybuild` would check all
//! dependencies once more in a folder of its own, which takes minutes on a small machine.
#![allow(clippy::unwrap_used)] // a test

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder of the cases, from this package's folder.
const CASES: &str = "tests/compile_fail";

/// Notes about files that rustc has written, and its options.
const ABOUT_THE_OUTPUT: [&str; 2] = ["the full name for the type", "consider using `--verbose`"];

#[test]
fn mistakes_are_told_in_words_that_help() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(CASES);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    cases.sort();
    assert!(cases.len() >= 6, "{cases:?}");
    let library = library();
    let mut wrong = Vec::new();
    for case in cases {
        let said = said(&case, &library);
        let expected = case.with_extension("txt");
        if std::env::var_os("OVERWRITE").is_some() {
            std::fs::write(&expected, said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", expected.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "the compiler says something else now:\n\n{}",
        wrong.join("\n")
    );
}

/// The library this test is linked with, or one of the same sources with other features.
fn library() -> PathBuf {
    let deps = deps();
    let built = std::fs::read_dir(&deps)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("libthroughline-") && name.ends_with(".rlib")
        });
    let newest = built.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
    newest.unwrap_or_else(|| panic!("no libthroughline in {}", deps.display()))
}

fn deps() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .expect("a test binary lies in target/debug/deps")
        .to_owned()
}

/// The errors of compiling a case.
fn said(case: &Path, library: &Path) -> String {
    let out = tempfolder();
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let output = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--emit=metadata",
            "--error-format=json",
            "--out-dir",
        ])
        .arg(&out)
        .arg("--extern")
        .arg(format!("throughline={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", deps().display()))
        .arg(format!("{CASES}/{name}"))
        .output()
        .expect("rustc starts");
    std::fs::remove_dir_all(&out).unwrap();
    assert!(!output.status.success(), "{name} compiles");
    let mut said = String::new();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let diagnostic: Value = serde_json::from_str(line).unwrap();
        if diagnostic["level"] == "error"
            && !text(&diagnostic["message"]).starts_with("aborting due to")
        {
            tell(&mut said, &diagnostic, &name, "");
        }
    }
    said
}

/// Writes a diagnostic down, with the lines of the case that it points at; nothing of where our own bounds stand.
fn tell(said: &mut String, diagnostic: &Value, case: &str, indent: &str) {
    // The first line: what follows lists types of other crates.
    let message = text(&diagnostic["message"])
        .lines()
        .next()
        .unwrap_or_default();
    if ABOUT_THE_OUTPUT
        .iter()
        .any(|start| message.starts_with(start))
    {
        return;
    }
    let code = diagnostic["code"]["code"]
        .as_str()
        .map_or_else(String::new, |code| format!("[{code}]"));
    writeln!(
        said,
        "{indent}{}{code}: {}",
        text(&diagnostic["level"]),
        message
    )
    .unwrap();
    for span in diagnostic["spans"].as_array().unwrap() {
        if text(&span["file_name"]).ends_with(case) {
            let source = text(&span["text"][0]["text"]).trim();
            let label = span["label"]
                .as_str()
                .map_or_else(String::new, |label| format!("  <- {label}"));
            writeln!(said, "{indent}  {}: {source}{label}", span["line_start"]).unwrap();
        }
    }
    for child in diagnostic["children"].as_array().unwrap() {
        tell(said, child, case, "    ");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn tempfolder() -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("throughline-compile-fail-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
