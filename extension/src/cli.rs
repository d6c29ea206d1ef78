//! What the command line prints: `--help` and `--check`.

use std::fmt::Write as _;

use crate::config::{Config, Mistake, Strategy, VARIABLES};
use crate::otlp::Signal;
use crate::upstream::{Compression, Destination, HeaderSource, Protocol};

/// The text of `--help`: what this is, and every variable.
pub fn help() -> String {
    let mut text = format!(
        "throughline-extension {}\n\n\
         A Lambda extension: it receives OTLP on localhost and flushes it upstream before the freeze.\n\
         Lambda starts it without arguments from /opt/extensions; everything is set by variables.\n\n\
         usage: throughline-extension [--help | --version | --check]\n\n\
         --check  say what the present environment would do, and every mistake in it;\n         \
         exits with 64 when there is one\n\nvariables:\n",
        env!("CARGO_PKG_VERSION")
    );
    for variable in VARIABLES {
        let default = if variable.default.is_empty() {
            "none"
        } else {
            variable.default
        };
        let per_signal = if variable.per_signal {
            "; also for one signal, as …_OTLP_TRACES_…"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "  {}\n      {}{per_signal}\n      {}, default: {default}",
            variable.name, variable.meaning, variable.unit
        );
    }
    text
}

/// The text of `--check`: what would be done, without any secret in it.
pub fn check(config: &Config, mistakes: &[Mistake]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "receives   OTLP/HTTP on 127.0.0.1:{}",
        config.http_port
    );
    if config.grpc_port != 0 {
        let _ = writeln!(
            text,
            "           OTLP/gRPC on 127.0.0.1:{}",
            config.grpc_port
        );
    }
    let _ = writeln!(text, "keeps      {} bytes at most", config.buffer_bytes);
    let strategy = match config.strategy {
        Strategy::End => "at the end of every invocation",
        Strategy::Adaptive => {
            "at the end of an invocation, or beside the next one when they come close together"
        }
    };
    let _ = writeln!(
        text,
        "flushes    {strategy}, for {:?} at most",
        config.flush_timeout
    );
    for signal in Signal::ALL {
        let line = config.upstream.destinations[signal.index()]
            .as_ref()
            .map_or_else(
                || "nowhere: received, counted and dropped".to_owned(),
                destination,
            );
        let _ = writeln!(
            text,
            "{:<10} to {line}",
            format!("{signal:?}").to_lowercase()
        );
    }
    if let Some(file) = &config.upstream.headers_file {
        let _ = writeln!(
            text,
            "           with further headers from {}",
            file.display()
        );
    }
    let _ = writeln!(text, "logs       from level {} on", config.log_level);
    for mistake in mistakes {
        let _ = writeln!(text, "mistake    {mistake}");
    }
    text
}

/// Files that are named and cannot be read, which the extension itself finds out when it needs them.
pub fn missing_files(config: &Config) -> Vec<Mistake> {
    let headers = config
        .upstream
        .headers_file
        .iter()
        .map(|file| ("THROUGHLINE_HEADERS_FILE", file));
    let tls = config
        .upstream
        .destinations
        .iter()
        .flatten()
        .flat_map(|destination| {
            let tls = &destination.tls;
            let files = [
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", &tls.ca),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    &tls.client_certificate,
                ),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &tls.client_key),
            ];
            files
                .into_iter()
                .filter_map(|(name, file)| Some((name, file.as_ref()?)))
        });
    let mut mistakes: Vec<Mistake> = Vec::new();
    for (variable, file) in headers.chain(tls) {
        if let Err(error) = std::fs::File::open(file) {
            let text = format!("names {}, which cannot be read: {error}", file.display());
            let mistake = Mistake {
                variable: variable.into(),
                text,
            };
            // The three signals usually share their files.
            if !mistakes.contains(&mistake) {
                mistakes.push(mistake);
            }
        }
    }
    mistakes
}

fn destination(destination: &Destination) -> String {
    let endpoint = &destination.endpoint;
    let scheme = if endpoint.tls { "https" } else { "http" };
    let (protocol, path) = match destination.protocol {
        Protocol::HttpProtobuf => ("http/protobuf", endpoint.path.as_str()),
        Protocol::Grpc => ("grpc", ""),
    };
    let mut line = format!("{scheme}://{}{path} ({protocol}", endpoint.authority());
    if destination.compression == Compression::Gzip {
        line.push_str(", gzip");
    }
    line.push(')');
    for (name, value) in &destination.headers {
        let kind = match value {
            HeaderSource::Literal(_) => "set",
            HeaderSource::Secret(reference) => reference.as_str(),
        };
        let _ = write!(line, ", header {name}: {kind}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Variables};

    #[test]
    fn the_help_names_every_variable() {
        let help = help();
        for variable in VARIABLES {
            assert!(help.contains(variable.name));
        }
    }

    #[test]
    fn the_check_shows_no_secret() {
        let variables = Variables::from([
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT".into(),
                "https://collector.example".into(),
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS".into(),
                "authorization=Bearer%20s3cr3t".into(),
            ),
            ("THROUGHLINE_FLUSH".into(), "later".into()),
        ]);
        let (config, mistakes) = config::read(&variables, "x".into());
        let text = check(&config, &mistakes);
        assert!(!text.contains("s3cr3t"), "{text}");
        assert!(text.contains("header authorization: set"), "{text}");
        assert!(text.contains("mistake    THROUGHLINE_FLUSH"), "{text}");
        assert!(
            text.contains("traces     to https://collector.example/v1/traces"),
            "{text}"
        );
    }

    #[test]
    fn files_that_are_not_there_are_mistakes_once() {
        let variables = Variables::from([
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT".into(),
                "https://collector.example".into(),
            ),
            (
                "OTEL_EXPORTER_OTLP_CERTIFICATE".into(),
                "/nowhere/ca.pem".into(),
            ),
            ("THROUGHLINE_HEADERS_FILE".into(), "/nowhere/headers".into()),
        ]);
        let (config, mistakes) = config::read(&variables, "x".into());
        assert_eq!(mistakes, []);
        let missing = missing_files(&config);
        let names: Vec<&str> = missing
            .iter()
            .map(|mistake| mistake.variable.as_str())
            .collect();
        assert_eq!(
            names,
            ["THROUGHLINE_HEADERS_FILE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]
        );
    }
}
