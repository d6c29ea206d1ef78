//! Builds and starts the programs that need the sandbox: `xtask-demo` and `xtask-bench`.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::workspace::Workspace;

/// Builds the workspace's binaries, then hands the command line to `binary`.
pub(crate) fn main(binary: &str, arguments: &[String]) -> ExitCode {
    let workspace = Workspace::here();
    eprintln!("building what the demo runs (the first time takes a few minutes)");
    // The same command as in `cargo xtask test`, so that features are unified alike and nothing is compiled twice.
    let built = Command::new(workspace.cargo())
        .args(["build", "--workspace", "--bins", "--all-features"])
        .current_dir(workspace.root())
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(_) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo does not start: {error}");
            return ExitCode::FAILURE;
        }
    }
    let folder = workspace.cargo_target().join("debug");
    // In our place, so that signals and the exit code are the demo's own.
    let error = Command::new(folder.join(binary))
        .args(arguments)
        .env("THROUGHLINE_ROOT", workspace.root())
        .env("THROUGHLINE_BINARIES", &folder)
        .exec();
    eprintln!("{}: {error}", folder.join(binary).display());
    ExitCode::FAILURE
}
