//! `cargo xtask demo`.
#![allow(clippy::print_stdout, reason = "its output is what a command is for")]

use std::process::ExitCode;

use xtask_demo::event;
use xtask_demo::options::{HELP, Options};
use xtask_demo::queues::Queues;
use xtask_demo::run;
use xtask_demo::stage::{Stage, Trouble};

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
    runtime.block_on(demo(&options))
}

async fn demo(options: &Options) -> ExitCode {
    let ended = match &options.event {
        Some(file) => {
            let read = std::fs::read(file).map_err(|error| error.to_string());
            let known =
                read.and_then(|bytes| event::records(&bytes).map(|records| (bytes, records)));
            match known {
                Ok((bytes, records)) => {
                    interruptible(event::run(options, file, bytes, records)).await
                }
                Err(what) => {
                    eprintln!("{} is not an SQS event: {what}", file.display());
                    return ExitCode::from(NOT_AN_EVENT);
                }
            }
        }
        None => orders(options).await,
    };
    match ended {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => {
            eprintln!("\nat least one check failed, see above");
            ExitCode::FAILURE
        }
        Some(Err(trouble)) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("interrupted: everything is stopped");
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// The demo proper. However it ends, no queue is left in somebody else's server.
async fn orders(options: &Options) -> Option<Result<bool, Trouble>> {
    let stage = match Stage::set(options.otlp_endpoint.as_deref()).await {
        Ok(stage) => stage,
        Err(trouble) => return Some(Err(trouble)),
    };
    let queues = match Queues::open(
        &stage.timeline,
        options.sqs_endpoint.as_deref(),
        options.queue,
    )
    .await
    {
        Ok(queues) => queues,
        Err(trouble) => return Some(Err(trouble)),
    };
    let ended = interruptible(run::run(options, &stage, &queues)).await;
    queues.close().await;
    ended
}

/// Nothing after Ctrl-C. Dropping the work stops its servers and kills what runs in its sandboxes.
async fn interruptible<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        ended = work => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    }
}
