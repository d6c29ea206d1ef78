//! A Lambda extension that receives OTLP on localhost and flushes it upstream before the freeze.

use std::process::ExitCode;

use throughline_extension::config::{self, Config, Mistake};
use throughline_extension::{cli, log, run};

/// musl's own allocator maps and unmaps memory for each larger request, which costs three times the CPU.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// `EX_USAGE` of sysexits.
const EXIT_USAGE: u8 = 64;

#[allow(clippy::print_stdout, clippy::print_stderr)] // a person asked, no Lambda is around
fn main() -> ExitCode {
    let (config, mut mistakes) = config::read(&config::environment(), config::extension_name());
    match std::env::args().nth(1).as_deref() {
        None => start(config, &mistakes),
        Some("--help" | "-h") => {
            print!("{}", cli::help());
            ExitCode::SUCCESS
        }
        Some("--version" | "-V") => {
            println!("throughline-extension {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some("--check") => {
            mistakes.extend(cli::missing_files(&config));
            print!("{}", cli::check(&config, &mistakes));
            if mistakes.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_USAGE)
            }
        }
        Some(other) => {
            eprintln!("{other:?} is none of --help, --version, --check");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn start(config: Config, mistakes: &[Mistake]) -> ExitCode {
    log::set_level(config.log_level);
    log::report_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives an epoll and a pipe");
    let code = runtime.block_on(run::run(config, mistakes));
    // A name that is still being resolved must not keep us beyond SHUTDOWN's deadline.
    runtime.shutdown_background();
    code
}
