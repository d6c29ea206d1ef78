//! What the environment says about metrics.

use opentelemetry_sdk::metrics::Temporality;

use super::config::{say, var};
use crate::export::Target;

/// How metrics are exported, if they are.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) temporality: Temporality,
    /// Where they go when they do not go where spans do.
    pub(super) own: Option<Target>,
}

/// Reads the settings; `same` says that there is one target for all signals, as the extension is.
pub(super) fn read(same: bool) -> Option<Settings> {
    settings(same, var)
}

fn settings(same: bool, var: impl Fn(&str) -> Option<String>) -> Option<Settings> {
    if var("OTEL_METRICS_EXPORTER").is_some_and(|name| name.trim() == "none") {
        return None;
    }
    let temporality = var("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").map_or(Temporality::Cumulative, |text| {
        text.trim().parse().unwrap_or_else(|_| {
            say(&format!(
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE={text:?} is not cumulative, delta or lowmemory; \
                 cumulative is used"
            ));
            Temporality::Cumulative
        })
    });
    if same {
        return Some(Settings {
            temporality,
            own: None,
        });
    }
    let (name, target) = match (
        var("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        var("OTEL_EXPORTER_OTLP_ENDPOINT"),
    ) {
        (Some(url), _) => (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            Target::signal_endpoint(&url),
        ),
        (None, Some(url)) => {
            let apart = ["TRACES_ENDPOINT", "TRACES_HEADERS", "METRICS_HEADERS"];
            if !apart
                .into_iter()
                .any(|end| var(&format!("OTEL_EXPORTER_OTLP_{end}")).is_some())
            {
                return Some(Settings {
                    temporality,
                    own: None,
                });
            }
            ("OTEL_EXPORTER_OTLP_ENDPOINT", Target::endpoint(&url))
        }
        // An endpoint for traces alone: nobody said where metrics go.
        (None, None) => return None,
    };
    let mut target = target
        .map_err(|error| say(&format!("{name}={error}; no metrics are sent")))
        .ok()?;
    let headers =
        var("OTEL_EXPORTER_OTLP_METRICS_HEADERS").or_else(|| var("OTEL_EXPORTER_OTLP_HEADERS"));
    let unreadable = headers.map_or(0, |list| target.add_headers(&list));
    if unreadable > 0 {
        say(&format!(
            "{unreadable} entries of OTEL_EXPORTER_OTLP_METRICS_HEADERS are not `name=value`"
        ));
    }
    #[cfg(feature = "tls")]
    if let Some(path) = var("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE")
        .or_else(|| var("OTEL_EXPORTER_OTLP_CERTIFICATE"))
    {
        let trusted = std::fs::read(&path).map_or(0, |pem| target.trust(&pem));
        if trusted == 0 {
            say(&format!(
                "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE={path:?} holds no certificate; the public ones are trusted"
            ));
        }
    }
    Some(Settings {
        temporality,
        own: Some(target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(same: bool, variables: &[(&str, &str)]) -> Option<Settings> {
        settings(same, |name| {
            let found = variables
                .iter()
                .find(|(end, _)| name == format!("OTEL_{end}"));
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// `none`, `shared` with the spans' connection, or where else.
    fn way(same: bool, variables: &[(&str, &str)]) -> String {
        match of(same, variables) {
            None => "none".to_owned(),
            Some(Settings { own: None, .. }) => "shared".to_owned(),
            Some(Settings {
                own: Some(target), ..
            }) => target.shown("/v1/metrics"),
        }
    }

    #[test]
    fn where_metrics_go() {
        let all = ("EXPORTER_OTLP_ENDPOINT", "http://all:1/base");
        let traces = ("EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2/t");
        let metrics = ("EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:3/m");
        assert_eq!(way(false, &[]), "none");
        assert_eq!(way(false, &[all]), "shared");
        assert_eq!(way(false, &[traces]), "none");
        assert_eq!(way(false, &[traces, all]), "all:1/base/v1/metrics");
        assert_eq!(
            way(false, &[all, ("EXPORTER_OTLP_METRICS_HEADERS", "a=b")]),
            "all:1/base/v1/metrics"
        );
        assert_eq!(way(false, &[all, metrics]), "metrics:3/m");
        assert_eq!(
            way(false, &[("EXPORTER_OTLP_METRICS_ENDPOINT", "metrics:3")]),
            "none"
        );
        assert_eq!(
            way(true, &[all, metrics]),
            "shared",
            "with the extension, whatever upstream is"
        );
        assert_eq!(way(true, &[all, ("METRICS_EXPORTER", "none")]), "none");
    }

    #[test]
    fn temporality_is_cumulative_unless_told_otherwise() {
        let name = "EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        for (value, expected) in [
            ("delta", Temporality::Delta),
            ("DELTA", Temporality::Delta),
            ("lowmemory", Temporality::LowMemory),
            ("cumulative", Temporality::Cumulative),
            ("sometimes", Temporality::Cumulative),
        ] {
            assert_eq!(
                of(true, &[(name, value)]).unwrap().temporality,
                expected,
                "{value}"
            );
        }
        assert_eq!(of(true, &[]).unwrap().temporality, Temporality::Cumulative);
    }
}
