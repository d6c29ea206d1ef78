//! `cargo xtask bench`.
#![allow(clippy::print_stdout, reason = "its output is what a command is for")]

use std::path::PathBuf;
use std::process::ExitCode;

use xtask_demo::bench::rows::{self, Programs, Trouble};
use xtask_demo::bench::table::{self, Row};
use xtask_demo::bench::{options, process};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let groups = match options::read(&words) {
        Ok(Some(groups)) => groups,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{}", options::HELP);
            return ExitCode::from(64);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(measure(&groups)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(groups: &[&str]) -> Result<(), Trouble> {
    let programs = programs()?;
    let load = process::load().unwrap_or(f64::NAN);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("{cores} cores, load {load:.1} at the start\n");
    let mut all: Vec<Row> = Vec::new();
    for group in groups {
        eprintln!("measuring: {group}");
        let measured = match *group {
            "sizes" => rows::sizes(&programs),
            "start" => rows::start(&programs).await,
            "added" => rows::added(&programs).await,
            "outages" => rows::outages(&programs).await,
            "throughput" => rows::throughput(&programs).await,
            _ => rows::wrapper(&programs).await,
        };
        match measured {
            Ok(rows) => all.extend(rows),
            Err(trouble) => eprintln!("{group} was not measured: {trouble}"),
        }
    }
    let text = table::draw(&all);
    print!("{text}");
    Ok(())
}

/// `cargo xtask bench` builds them and says where they are.
fn programs() -> Result<Programs, Trouble> {
    let named = |variable: &str| {
        std::env::var_os(variable)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{variable} is not set: start it by `cargo xtask bench`"))
    };
    Ok(Programs {
        extension: named("THROUGHLINE_EXTENSION")?,
        zip: named("THROUGHLINE_LAYER")?,
        folder: named("THROUGHLINE_BINARIES")?,
    })
}
