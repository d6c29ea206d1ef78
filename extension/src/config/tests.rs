use super::*;
use crate::otlp::Signal;
use crate::upstream::{Compression, HeaderSource, Protocol};

fn read_pairs(pairs: &[(&str, &str)]) -> (Config, Vec<String>) {
    let variables = pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let (config, mistakes) = read(&variables, "throughline-extension".into());
    (config, mistakes.iter().map(ToString::to_string).collect())
}

fn url(config: &Config, signal: Signal) -> Option<String> {
    config.upstream.destinations[signal.index()]
        .as_ref()
        .map(|destination| {
            let endpoint = &destination.endpoint;
            format!(
                "{}{}{}",
                if endpoint.tls { "https://" } else { "http://" },
                endpoint.authority(),
                endpoint.path
            )
        })
}

#[test]
fn the_standard_endpoint_alone_is_enough() {
    let (config, mistakes) = read_pairs(&[(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "https://collector.example:4318/otlp/",
    )]);
    assert_eq!(mistakes, [""; 0]);
    assert_eq!(
        url(&config, Signal::Traces).unwrap(),
        "https://collector.example:4318/otlp/v1/traces"
    );
    assert_eq!(
        url(&config, Signal::Logs).unwrap(),
        "https://collector.example:4318/otlp/v1/logs"
    );
    assert_eq!((config.http_port, config.grpc_port), (4318, 4317));
    assert_eq!(config.buffer_bytes, 4 << 20);
    assert_eq!(config.flush_timeout, Duration::from_secs(1));
}

#[test]
fn endpoints_override_each_other() {
    let all = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:2/in?x=1"),
        ("THROUGHLINE_ENDPOINT", "http://ours:3?x=1"),
    ];
    for (count, traces, metrics) in [
        (
            1,
            "http://general:1/v1/traces",
            "http://general:1/v1/metrics",
        ),
        (2, "http://own:2/in?x=1", "http://general:1/v1/metrics"),
        (
            3,
            "http://ours:3/v1/traces?x=1",
            "http://ours:3/v1/metrics?x=1",
        ),
    ] {
        let (config, mistakes) = read_pairs(&all[..count]);
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(url(&config, Signal::Traces).as_deref(), Some(traces));
        assert_eq!(url(&config, Signal::Metrics).as_deref(), Some(metrics));
    }
}

#[test]
fn our_own_receiver_is_not_upstream() {
    for local in [
        "http://localhost:4318",
        "http://127.0.0.1:4317",
        "http://[::1]:4318",
        "http://0.0.0.0:4318",
    ] {
        let (config, mistakes) = read_pairs(&[("OTEL_EXPORTER_OTLP_ENDPOINT", local)]);
        assert!(
            config.upstream.destinations.iter().all(Option::is_none),
            "{local}"
        );
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("own receiver"), "{mistakes:?}");
        // The SDK is pointed at us by the standard variable, upstream is ours to name.
        let (config, mistakes) = read_pairs(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", local),
            ("THROUGHLINE_ENDPOINT", "https://real.example"),
        ]);
        assert_eq!(
            url(&config, Signal::Traces).as_deref(),
            Some("https://real.example/v1/traces")
        );
        assert_eq!(mistakes, [""; 0]);
    }
    let (_, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9"),
        ("THROUGHLINE_HTTP_PORT", "9"),
    ]);
    assert!(mistakes[0].contains("own receiver"), "{mistakes:?}");
}

#[test]
fn headers_are_percent_decoded_and_secrets_are_told_apart() {
    let (config, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://x.example"),
        (
            "THROUGHLINE_HEADERS",
            "Api-Key=a%20b, x=ssm:/path,y=arn:aws:secretsmanager:eu-west-1:1:secret:s#key,api-key=c%3D",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "not=used"),
    ]);
    assert_eq!(mistakes, [""; 0]);
    let headers = &config.upstream.destinations[0].as_ref().unwrap().headers;
    assert_eq!(
        headers.as_slice(),
        [
            ("x".into(), HeaderSource::Secret("ssm:/path".into())),
            (
                "y".into(),
                HeaderSource::Secret("arn:aws:secretsmanager:eu-west-1:1:secret:s#key".into())
            ),
            ("api-key".into(), HeaderSource::Literal("c=".into())),
        ]
    );
}

#[test]
fn all_mistakes_are_reported_at_once_and_none_stops_anything() {
    let (config, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "sesame"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k"),
        ("THROUGHLINE_HTTP_PORT", "0"),
        ("THROUGHLINE_GRPC_PORT", "4318"),
        ("THROUGHLINE_FLUSH", "never"),
        ("THROUGHLINE_FLUSH_TIMEOUT", "1 fortnight"),
        ("THROUGHLINE_BUFFER_BYTES", "1"),
        ("THROUGHLINE_LOG_LEVEL", "loud"),
        ("THROUGHLINE_TELEMETRY_ADDRESS", "localhost"),
    ]);
    for name in [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "THROUGHLINE_HTTP_PORT",
        "THROUGHLINE_GRPC_PORT",
        "THROUGHLINE_FLUSH",
        "THROUGHLINE_FLUSH_TIMEOUT",
        "THROUGHLINE_BUFFER_BYTES",
        "THROUGHLINE_LOG_LEVEL",
        "THROUGHLINE_TELEMETRY_ADDRESS",
    ] {
        let about = mistakes
            .iter()
            .filter(|text| text.split(' ').next() == Some(name))
            .count();
        assert_eq!(about, 1, "{name}: {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), 13, "{mistakes:#?}");
    assert_eq!((config.http_port, config.grpc_port), (4318, 0));
    assert_eq!(config.flush_timeout, FLUSH_TIMEOUT);
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "s3cr3t";
    let (config, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://x.example"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=s3cr3t,s3cr3t,host=s3cr3t,a=s3cr3t%,b%zz=s3cr3t,s3cr3t b=c",
        ),
        ("HTTPS_PROXY", "http://user:s3cr3t@proxy"),
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t"),
        ("AWS_SESSION_TOKEN", "s3cr3t"),
    ]);
    assert_eq!(mistakes.len(), 5);
    assert!(!format!("{config:?} {mistakes:?}").contains(secret));
    let (_, mistakes) = read_pairs(&[(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "https://user:s3cr3t@x.example",
    )]);
    assert!(!format!("{mistakes:?}").contains(secret), "{mistakes:?}");
}

#[test]
fn protocol_and_compression_can_differ_by_signal() {
    let (config, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
    ]);
    // 4317 is our own port, but not on this machine.
    assert_eq!(mistakes, [""; 0]);
    let destination = |signal: Signal| {
        config.upstream.destinations[signal.index()]
            .as_ref()
            .unwrap()
    };
    assert_eq!(destination(Signal::Traces).protocol, Protocol::Grpc);
    assert_eq!(
        destination(Signal::Metrics).protocol,
        Protocol::HttpProtobuf
    );
    assert_eq!(destination(Signal::Logs).compression, Compression::Gzip);
    assert_eq!(destination(Signal::Traces).compression, Compression::None);
}

#[test]
fn misspelt_names_are_told() {
    let (_, mistakes) = read_pairs(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x"),
        ("THROUGHLINE_FLUSH_TIMOUT", "1s"),
        ("THROUGHLINE_PARTIAL_BATCH", "1"),
        ("THROUGHLINE_SOMETHING_ELSE", "1"),
    ]);
    assert_eq!(
        mistakes,
        ["THROUGHLINE_FLUSH_TIMOUT is not known; THROUGHLINE_FLUSH_TIMEOUT is"]
    );
}
