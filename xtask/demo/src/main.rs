//! `cargo xtask demo`.
#![allow(clippy::print_stdout, reason = "its output is what a command is for")]

use std::process::ExitCode;

use xtask_demo::event;
use xtask_demo::options::{HELP, Options};
use xtask_demo::stage::Trouble;

/// A file that is not what its option says.
const NOT_AN_EVENT: u8 = 2;
/// A command line that cannot be understood (`EX_USAGE` of BSD's sysexits).
const USAGE: u8 = 64;
/// Ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        // Dropping the demo stops its servers and kills what runs in its sandboxes.
        tokio::select! {
            code = demo(options) => code,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: everything is stopped");
                ExitCode::from(INTERRUPTED)
            }
        }
    })
}

async fn demo(options: Options) -> ExitCode {
    let ended = match options.event.clone() {
        Some(file) => {
            let read = std::fs::read(&file).map_err(|error| error.to_string());
            let known =
                read.and_then(|bytes| event::records(&bytes).map(|records| (bytes, records)));
            match known {
                Ok((bytes, records)) => event::run(&options, &file, bytes, records).await,
                Err(what) => {
                    eprintln!("{} is not an SQS event: {what}", file.display());
                    return ExitCode::from(NOT_AN_EVENT);
                }
            }
        }
        None => Err("not there yet".into()),
    };
    report(ended)
}

fn report(ended: Result<bool, Trouble>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("\nat least one check failed, see above");
            ExitCode::FAILURE
        }
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}
