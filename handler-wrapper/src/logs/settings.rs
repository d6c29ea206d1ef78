//! What is logged, and how.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::LineFormat;

/// Targets of the crates below a function, which say at INFO what only their authors want to know,
/// such as that the tracer provider was set. Prefixes.
const BELOW: [&str; 9] = [
    "opentelemetry",
    "lambda_runtime",
    "aws_config",
    "aws_runtime",
    "aws_sdk_",
    "aws_smithy_",
    "hyper::",
    "hyper_util::",
    "rustls::",
];

/// What the environment says about logs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(super) format: LineFormat,
    /// Which events are written.
    pub(super) lines: Targets,
    /// Which `tracing` spans become OpenTelemetry spans.
    pub(super) spans: Targets,
}

impl Settings {
    /// Reads the values of `AWS_LAMBDA_LOG_LEVEL`, `AWS_LAMBDA_LOG_FORMAT` and `RUST_LOG`.
    pub(crate) fn new(level: Option<&str>, format: Option<&str>, rust_log: Option<&str>) -> Self {
        let named = rust_log.map(targets);
        let is_text = format.is_some_and(|format| format.trim().eq_ignore_ascii_case("text"));
        Self {
            format: if is_text {
                LineFormat::Text
            } else {
                LineFormat::Json
            },
            lines: lines(level.and_then(lambda_level), named.clone()),
            // Logging less must not tear holes into traces.
            spans: named.unwrap_or_default().with_default(LevelFilter::INFO),
        }
    }
}

/// What `RUST_LOG` names, at most as detailed as `lowest` allows.
fn lines(lowest: Option<LevelFilter>, named: Option<Targets>) -> Targets {
    let Some(named) = named else {
        let level = lowest.unwrap_or(LevelFilter::INFO);
        // Who asks for DEBUG asks for everything.
        let below = if level > LevelFilter::INFO {
            level
        } else {
            level.min(LevelFilter::WARN)
        };
        return Targets::new()
            .with_targets(BELOW.map(|target| (target, below)))
            .with_default(level);
    };
    let lowest = lowest.unwrap_or(LevelFilter::TRACE);
    // As everywhere with `RUST_LOG`: what it does not name logs errors only.
    let default = named.default_level().unwrap_or(LevelFilter::ERROR);
    named
        .iter()
        .map(|(target, level)| (target.to_owned(), level.min(lowest)))
        .collect::<Targets>()
        .with_default(default.min(lowest))
}

/// The directives of `RUST_LOG` that name a target, a level or both; others need a heavier filter
/// than this one and are passed over.
fn targets(rust_log: &str) -> Targets {
    let readable = |directive: &&str| directive.parse::<Targets>().is_ok();
    let directives: Vec<&str> = rust_log
        .split(',')
        .map(str::trim)
        .filter(readable)
        .collect();
    directives.join(",").parse().unwrap_or_default()
}

/// Lambda's names of levels; FATAL is above our highest one.
fn lambda_level(name: &str) -> Option<LevelFilter> {
    if name.trim().eq_ignore_ascii_case("fatal") {
        return Some(LevelFilter::ERROR);
    }
    name.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn settings(level: &str, rust_log: &str) -> Settings {
        let set = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        Settings::new(
            set(level.to_owned().leak()),
            None,
            set(rust_log.to_owned().leak()),
        )
    }

    #[test]
    fn the_level_of_a_line() {
        for (level, rust_log, of_mine, of_others) in [
            ("", "", Some(Level::INFO), Some(Level::INFO)),
            ("DEBUG", "", Some(Level::DEBUG), Some(Level::DEBUG)),
            ("Warn", "", Some(Level::WARN), Some(Level::WARN)),
            ("FATAL", "", Some(Level::ERROR), Some(Level::ERROR)),
            ("loud", "", Some(Level::INFO), Some(Level::INFO)),
            ("", "debug", Some(Level::DEBUG), Some(Level::DEBUG)),
            ("", "mine=trace", Some(Level::TRACE), Some(Level::ERROR)),
            ("", "warn,mine=trace", Some(Level::TRACE), Some(Level::WARN)),
            (
                "INFO",
                "warn,mine=trace",
                Some(Level::INFO),
                Some(Level::WARN),
            ),
            ("", "info,mine=off", None, Some(Level::INFO)),
            (
                "",
                "info,[span{field=1}]=trace,mine=debug",
                Some(Level::DEBUG),
                Some(Level::INFO),
            ),
        ] {
            let lines = settings(level, rust_log).lines;
            let most = |target: &str| {
                let levels = [
                    Level::TRACE,
                    Level::DEBUG,
                    Level::INFO,
                    Level::WARN,
                    Level::ERROR,
                ];
                levels
                    .into_iter()
                    .find(|level| lines.would_enable(target, level))
            };
            assert_eq!(
                (most("mine"), most("others")),
                (of_mine, of_others),
                "{level:?} {rust_log:?}"
            );
        }
    }

    #[test]
    fn crates_below_the_function_say_what_went_wrong_and_no_more() {
        for (level, rust_log, expected) in [
            ("", "", LevelFilter::WARN),
            ("INFO", "", LevelFilter::WARN),
            ("ERROR", "", LevelFilter::ERROR),
            ("DEBUG", "", LevelFilter::DEBUG),
            ("", "info", LevelFilter::INFO),
            ("", "error,opentelemetry=debug", LevelFilter::DEBUG),
        ] {
            let lines = settings(level, rust_log).lines;
            let most = [
                Level::TRACE,
                Level::DEBUG,
                Level::INFO,
                Level::WARN,
                Level::ERROR,
            ]
            .into_iter()
            .find(|level| lines.would_enable("opentelemetry_sdk", level));
            assert_eq!(
                most.map(LevelFilter::from_level),
                Some(expected),
                "{level:?} {rust_log:?}"
            );
        }
        let lines = settings("", "").lines;
        for target in ["hyperion", "aws_orders", "lambda_handler"] {
            assert!(
                lines.would_enable(target, &Level::INFO),
                "{target} is the user's own"
            );
        }
    }

    #[test]
    fn spans_do_not_become_fewer_with_the_lines() {
        for (level, rust_log) in [("ERROR", ""), ("", "error"), ("", "mine=error")] {
            let spans = settings(level, rust_log).spans;
            assert!(
                spans.would_enable("others", &Level::INFO),
                "{level:?} {rust_log:?}"
            );
            assert!(
                !spans.would_enable("others", &Level::DEBUG),
                "{level:?} {rust_log:?}"
            );
        }
        assert!(
            settings("", "mine=debug")
                .spans
                .would_enable("mine", &Level::DEBUG)
        );
        assert!(
            !settings("", "mine=off")
                .spans
                .would_enable("mine", &Level::ERROR)
        );
    }

    #[test]
    fn lambdas_names_of_formats() {
        for (value, expected) in [
            (None, LineFormat::Json),
            (Some("JSON"), LineFormat::Json),
            (Some("Text"), LineFormat::Text),
            (Some("TEXT "), LineFormat::Text),
            (Some("xml"), LineFormat::Json),
        ] {
            assert_eq!(
                Settings::new(None, value, None).format,
                expected,
                "{value:?}"
            );
        }
    }
}
