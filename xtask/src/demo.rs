//! Builds and starts the programs that need the sandbox: the demo and the benchmarks.

// The programs' own reading of their command lines: a wrong one is told before minutes of compiling.
#[path = "../demo/src/bench/options.rs"]
#[allow(unreachable_pub, reason = "public in the crate it belongs to")]
mod bench_options;
#[path = "../demo/src/options.rs"]
#[allow(unreachable_pub, reason = "public in the crate it belongs to")]
#[allow(
    dead_code,
    reason = "here it is only asked whether the line can be read"
)]
mod demo_options;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::USAGE;
use crate::package;
use crate::workspace::Workspace;

/// `cargo xtask demo`.
pub(crate) fn demo(words: &[String]) -> ExitCode {
    if let Err(code) = understood(
        demo_options::Options::read(words.iter().cloned()),
        demo_options::HELP,
    ) {
        return code;
    }
    let workspace = Workspace::here();
    eprintln!("building what the demo runs (the first time takes a few minutes)");
    // The same command as in `cargo xtask test`, so that features are unified alike and nothing is compiled twice.
    if let Err(code) = cargo(
        &workspace,
        &["build", "--workspace", "--bins", "--all-features"],
    ) {
        return code;
    }
    let folder = workspace.cargo_target().join("debug");
    let mut program = Command::new(folder.join("xtask-demo"));
    become_it(
        program
            .args(words)
            .env("THROUGHLINE_ROOT", workspace.root())
            .env("THROUGHLINE_BINARIES", folder),
    )
}

/// `cargo xtask bench`.
pub(crate) fn bench(words: &[String]) -> ExitCode {
    if let Err(code) = understood(bench_options::read(words), bench_options::HELP) {
        return code;
    }
    let workspace = Workspace::here();
    eprintln!(
        "building the layer and, with optimisation, what it is measured with (takes some minutes)"
    );
    let layer = match package::pack(&workspace, package::Arch::this_machine()) {
        Ok(layer) => layer,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let programs = [
        "build",
        "--release",
        "--package",
        "xtask-demo",
        "--package",
        "example-consumer",
        "--bins",
    ];
    if let Err(code) = cargo(&workspace, &programs) {
        return code;
    }
    let folder = workspace.cargo_target().join("release");
    let mut program = Command::new(folder.join("xtask-bench"));
    become_it(
        program
            .args(words)
            .env("THROUGHLINE_EXTENSION", layer.binary())
            .env("THROUGHLINE_LAYER", layer.zip())
            .env("THROUGHLINE_BINARIES", folder),
    )
}

/// Nothing when the line can be read; else the exit code, after help or mistake were told.
fn understood<T>(read: Result<Option<T>, String>, help: &str) -> Result<(), ExitCode> {
    match read {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            print!("{help}");
            Err(ExitCode::SUCCESS)
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{help}");
            Err(ExitCode::from(USAGE))
        }
    }
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<(), ExitCode> {
    let built = Command::new(workspace.cargo())
        .args(arguments)
        .current_dir(workspace.root())
        .status();
    match built {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("cargo does not start: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// Runs the program in our place, so that signals and the exit code are its own.
fn become_it(program: &mut Command) -> ExitCode {
    let error = program.exec();
    eprintln!("{}: {error}", program.get_program().to_string_lossy());
    ExitCode::FAILURE
}
