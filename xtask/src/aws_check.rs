//! `cargo xtask aws-check`: the demo's orders on a real account, compared with what the sandbox promised.
//!
//! For somebody with an account: it deploys `template.yaml`, sends orders, reads the trace from a collector,
//! looks at an X-Ray header on its way through a dead-letter queue and a redrive, writes a dated report, and
//! removes everything again.
//! The plan, the readers of what comes back and the report are tested; running the plan needs an account, and
//! nobody has done it as part of this project's checks.

mod observe;
mod plan;
mod report;
mod run;

use std::process::ExitCode;

use crate::USAGE;
use crate::flags::Flags;

const HELP: &str = "\
cargo xtask aws-check --endpoint URL --traces URL [options]

Deploys template.yaml, sends orders, compares what happens with what the sandbox promised,
writes target/aws-check/<date>.md and removes the stack. Costs a few cents.
Needs `aws`, `sam`, `cargo-lambda` and `curl` on the path, and credentials in the environment.
It has not been run as part of this project's checks; its plan, readers and report are tested.

  --endpoint URL         where the functions send their traces (OTLP)
  --protocol P           http/protobuf (default) or grpc
  --headers-secret ARN   Secrets Manager secret of the endpoint's header
  --header-name NAME     that header (default: authorization)
  --traces URL           a query API of Jaeger or Tempo that has the same traces:
                         URL/api/traces/<trace id> is read
  --stack NAME           default: throughline-check
  --region REGION        default: what the aws command is set up with
  --architecture A       x86_64 (default) or arm64
  --orders N             how many orders are sent besides the one that fails (1 to 9, default 5)
  --dry-run              prints every call and makes none
  --keep                 leaves the stack
";

/// What the command line asked for.
#[derive(Clone, Debug)]
struct Options {
    endpoint: String,
    protocol: String,
    headers_secret: Option<String>,
    header_name: String,
    traces: String,
    stack: String,
    region: Option<String>,
    architecture: String,
    orders: usize,
    dry_run: bool,
    keep: bool,
}

/// Runs the command with the words after its name.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(words) {
        Ok(options) => options,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            eprint!("\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    if options.dry_run {
        print!("{}", plan::shown(&options));
        return ExitCode::SUCCESS;
    }
    run::run(&options)
}

/// Reads the command line.
///
/// # Errors
/// Everything that is wrong with it, one line each.
fn parse(words: &[String]) -> Result<Options, Vec<String>> {
    let mut options = Options {
        endpoint: String::new(),
        protocol: "http/protobuf".into(),
        headers_secret: None,
        header_name: "authorization".into(),
        traces: String::new(),
        stack: "throughline-check".into(),
        region: None,
        architecture: "x86_64".into(),
        orders: 5,
        dry_run: false,
        keep: false,
    };
    let mut mistakes = Vec::new();
    let mut flags = Flags::new(words);
    while let Some(name) = flags.next_name() {
        match name.as_str() {
            "--dry-run" => options.dry_run = true,
            "--keep" => options.keep = true,
            "--endpoint" | "--protocol" | "--headers-secret" | "--header-name" | "--traces"
            | "--stack" | "--region" | "--architecture" | "--orders" => {
                match flags.value_of(&name) {
                    Ok(value) => set(&mut options, &name, value, &mut mistakes),
                    Err(mistake) => mistakes.push(mistake),
                }
            }
            _ => mistakes.push(format!("there is no option {name:?}")),
        }
    }
    for (name, value) in [
        ("--endpoint", &options.endpoint),
        ("--traces", &options.traces),
    ] {
        if !value.starts_with("http://") && !value.starts_with("https://") {
            mistakes.push(format!("{name} needs an http:// or https:// URL"));
        }
    }
    if mistakes.is_empty() {
        Ok(options)
    } else {
        Err(mistakes)
    }
}

fn set(options: &mut Options, name: &str, value: String, mistakes: &mut Vec<String>) {
    let mut one_of = |value: String, choices: &[&str]| {
        if !choices.contains(&value.as_str()) {
            mistakes.push(format!(
                "{name}={value:?} is none of {}",
                choices.join(", ")
            ));
        }
        value
    };
    match name {
        "--endpoint" => options.endpoint = value,
        "--protocol" => options.protocol = one_of(value, &["http/protobuf", "grpc"]),
        "--headers-secret" => options.headers_secret = Some(value),
        "--header-name" => options.header_name = value,
        "--traces" => options.traces = value.trim_end_matches('/').to_owned(),
        "--stack" => options.stack = value,
        "--region" => options.region = Some(value),
        "--architecture" => options.architecture = one_of(value, &["x86_64", "arm64"]),
        "--orders" => match value.parse() {
            // SQS takes ten entries in a batch, and one of ours fails.
            Ok(count @ 1..=9) => options.orders = count,
            _ => mistakes.push(format!("--orders={value:?} is not a number from 1 to 9")),
        },
        _ => unreachable!("only called for the options above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn options(words: &[&str]) -> Result<Options, Vec<String>> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        parse(&words)
    }

    #[test]
    fn two_urls_are_enough() {
        let options = options(&[
            "--endpoint=https://in.example.com",
            "--traces",
            "https://q.example.com/",
        ])
        .unwrap();
        assert_eq!(options.traces, "https://q.example.com");
        assert_eq!((options.orders, options.dry_run), (5, false));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mistakes = options(&[
            "--orders=10",
            "--protocol",
            "smoke",
            "--endpoint",
            "--what",
            "--architecture=mips",
        ])
        .unwrap_err();
        assert_eq!(mistakes.len(), 7, "{mistakes:#?}");
    }
}
