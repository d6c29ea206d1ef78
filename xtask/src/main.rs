//! The commands of this workspace: `cargo xtask demo | test | package | bench`.
//!
//! This binary is compiled before any check can run, so it holds only what starts other programs.
//! The demo and the benchmarks need the sandbox; they are the crate `xtask-demo`, built on first use.
#![allow(clippy::print_stdout, reason = "its output is what a command is for")]

mod aws_check;
mod checks;
mod command;
mod demo;
mod flags;
mod package;
mod workspace;

use std::process::ExitCode;

/// The exit code for a command line that cannot be understood (`EX_USAGE` of BSD's sysexits).
const USAGE: u8 = 64;

const HELP: &str = "\
cargo xtask <command>

  demo      sends orders from a producer through SQS to a consumer and a dead-letter
            consumer, each in a sandbox that freezes, and draws the one trace that results
  test      every check: formatting, lints, documentation, licences, tests, templates
  package   the layer for x86_64 and arm64, reproducible, with sizes checked
  bench     measures the numbers of the README
  aws-check deploys template.yaml to your account, and compares what happens with the sandbox

`cargo xtask <command> --help` tells a command's options.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => {
            eprint!("{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    match command {
        "test" => checks::main(rest),
        "demo" => demo::demo(rest),
        "aws-check" => aws_check::run(rest),
        "package" => package::main(rest),
        "bench" => demo::bench(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("there is no command {other:?}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}
