//! The walk and the split against prost, which decodes for itself.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
    metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;

/// The items of each scope of each resource; for metrics, points of each metric of each scope.
type Shape = Vec<Vec<Vec<usize>>>;

fn shape() -> impl Strategy<Value = Shape> {
    let few = |max| 0..=max;
    let metrics = prop::collection::vec(few(4usize), few(4usize));
    prop::collection::vec(prop::collection::vec(metrics, few(3usize)), few(3usize))
}

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue {
        value: Some(any_value::Value::StringValue(value.into())),
    })
}

fn resource(at: usize) -> Option<Resource> {
    let attribute = KeyValue {
        key: "r".into(),
        value: text(&at.to_string()),
        ..Default::default()
    };
    (at != 1).then(|| Resource {
        attributes: vec![attribute],
        ..Default::default()
    })
}

fn scope(at: usize) -> Option<InstrumentationScope> {
    (at != 2).then(|| InstrumentationScope {
        name: format!("s{at}"),
        ..Default::default()
    })
}

/// Numbers the items of a request, so that each can be told from all others.
#[derive(Default)]
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.next().to_be_bytes().to_vec()
    }
}

fn traces(shape: &Shape) -> ExportTraceServiceRequest {
    let mut ids = Ids::default();
    let mut span = || Span {
        span_id: ids.bytes(),
        name: "n".into(),
        ..Default::default()
    };
    let mut scope_spans = |(at, metrics): (usize, &Vec<usize>)| ScopeSpans {
        scope: scope(at),
        spans: (0..metrics.iter().sum()).map(|_| span()).collect(),
        schema_url: "u".into(),
    };
    let resource_spans = shape.iter().enumerate().map(|(at, scopes)| ResourceSpans {
        resource: resource(at),
        scope_spans: scopes.iter().enumerate().map(&mut scope_spans).collect(),
        schema_url: String::new(),
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn logs(shape: &Shape) -> ExportLogsServiceRequest {
    let mut ids = Ids::default();
    let mut record = || LogRecord {
        time_unix_nano: ids.next(),
        ..Default::default()
    };
    let mut scope_logs = |(at, metrics): (usize, &Vec<usize>)| ScopeLogs {
        scope: scope(at),
        log_records: (0..metrics.iter().sum()).map(|_| record()).collect(),
        schema_url: String::new(),
    };
    let resource_logs = shape.iter().enumerate().map(|(at, scopes)| ResourceLogs {
        resource: resource(at),
        scope_logs: scopes.iter().enumerate().map(&mut scope_logs).collect(),
        schema_url: "u".into(),
    });
    ExportLogsServiceRequest {
        resource_logs: resource_logs.collect(),
    }
}

fn metrics(shape: &Shape) -> ExportMetricsServiceRequest {
    let mut ids = Ids::default();
    let mut scope_metrics = |(at, metrics): (usize, &Vec<usize>)| ScopeMetrics {
        scope: scope(at),
        metrics: metrics
            .iter()
            .map(|points| metric(*points, &mut ids))
            .collect(),
        schema_url: String::new(),
    };
    let resource_metrics = shape
        .iter()
        .enumerate()
        .map(|(at, scopes)| ResourceMetrics {
            resource: resource(at),
            scope_metrics: scopes.iter().enumerate().map(&mut scope_metrics).collect(),
            schema_url: "u".into(),
        });
    ExportMetricsServiceRequest {
        resource_metrics: resource_metrics.collect(),
    }
}

/// A metric of one of the five kinds, by turns.
fn metric(points: usize, ids: &mut Ids) -> Metric {
    let kind = ids.next() % 5;
    let mut times = (0..points).map(|_| ids.next());
    macro_rules! points {
        ($point:ident) => {
            times
                .by_ref()
                .map(|time_unix_nano| $point {
                    time_unix_nano,
                    ..Default::default()
                })
                .collect()
        };
    }
    let data = match kind {
        0 => Data::Gauge(Gauge {
            data_points: points!(NumberDataPoint),
        }),
        1 => Data::Sum(Sum {
            data_points: points!(NumberDataPoint),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        2 => Data::Histogram(Histogram {
            data_points: points!(HistogramDataPoint),
            aggregation_temporality: 1,
        }),
        3 => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points!(ExponentialHistogramDataPoint),
            aggregation_temporality: 2,
        }),
        _ => Data::Summary(Summary {
            data_points: points!(SummaryDataPoint),
        }),
    };
    Metric {
        name: "m".into(),
        unit: "1".into(),
        data: Some(data),
        ..Default::default()
    }
}

fn encoded(signal: Signal, shape: &Shape) -> Vec<u8> {
    match signal {
        Signal::Traces => traces(shape).encode_to_vec(),
        Signal::Metrics => metrics(shape).encode_to_vec(),
        Signal::Logs => logs(shape).encode_to_vec(),
    }
}

/// Every item with what it belongs to, as text; `None` when prost cannot decode the request.
fn items(signal: Signal, request: &[u8]) -> Option<Vec<String>> {
    let mut items = Vec::new();
    match signal {
        Signal::Traces => {
            for one in ExportTraceServiceRequest::decode(request)
                .ok()?
                .resource_spans
            {
                for two in one.scope_spans {
                    for span in two.spans {
                        let around = (&one.resource, &one.schema_url, &two.scope, &two.schema_url);
                        items.push(format!("{around:?} {span:?}"));
                    }
                }
            }
        }
        Signal::Logs => {
            for one in ExportLogsServiceRequest::decode(request)
                .ok()?
                .resource_logs
            {
                for two in one.scope_logs {
                    for record in two.log_records {
                        let around = (&one.resource, &one.schema_url, &two.scope, &two.schema_url);
                        items.push(format!("{around:?} {record:?}"));
                    }
                }
            }
        }
        Signal::Metrics => {
            for one in ExportMetricsServiceRequest::decode(request)
                .ok()?
                .resource_metrics
            {
                for two in one.scope_metrics {
                    for metric in two.metrics {
                        let around = (&one.resource, &one.schema_url, &two.scope, &two.schema_url);
                        items.extend(points(&metric).map(|point| format!("{around:?} {point}")));
                    }
                }
            }
        }
    }
    Some(items)
}

fn points(metric: &Metric) -> impl Iterator<Item = String> {
    let mut around = metric.clone();
    macro_rules! texts {
        ($data:expr) => {
            std::mem::take(&mut $data.data_points)
                .iter()
                .map(|point| format!("{point:?}"))
                .collect::<Vec<_>>()
        };
    }
    let points = match &mut around.data {
        Some(Data::Gauge(data)) => texts!(data),
        Some(Data::Sum(data)) => texts!(data),
        Some(Data::Histogram(data)) => texts!(data),
        Some(Data::ExponentialHistogram(data)) => texts!(data),
        Some(Data::Summary(data)) => texts!(data),
        None => Vec::new(),
    };
    points
        .into_iter()
        .map(move |point| format!("{around:?} {point}"))
}

fn signal() -> impl Strategy<Value = Signal> {
    prop::sample::select(Signal::ALL.as_slice())
}

proptest! {
    #[test]
    fn the_count_is_prosts(signal in signal(), shape in shape()) {
        let request = encoded(signal, &shape);
        let items = items(signal, &request).unwrap();
        prop_assert_eq!(count(signal, &request), Ok(items.len() as u64));
    }

    #[test]
    fn two_requests_after_one_another_are_one(signal in signal(), shape in shape()) {
        let mut request = encoded(signal, &shape);
        let once = count(signal, &request).unwrap();
        request.extend_from_within(..);
        prop_assert_eq!(count(signal, &request), Ok(2 * once));
    }

    #[test]
    fn parts_hold_the_same_items(signal in signal(), shape in shape()) {
        let request = encoded(signal, &shape);
        let whole = items(signal, &request).unwrap();
        let Some((first, second)) = split(signal, &request) else {
            prop_assert!(whole.len() < 2, "{} items and no split", whole.len());
            return Ok(());
        };
        let (one, two) = (count(signal, &first).unwrap(), count(signal, &second).unwrap());
        prop_assert!(one > 0 && two > 0);
        prop_assert_eq!(one + two, whole.len() as u64);
        let both = [items(signal, &first).unwrap(), items(signal, &second).unwrap()].concat();
        prop_assert_eq!(&both, &whole);
        let joined = [first, second].concat();
        prop_assert_eq!(items(signal, &joined).unwrap(), whole);
    }

    #[test]
    fn splitting_ends_at_single_items(signal in signal(), shape in shape()) {
        let request = encoded(signal, &shape);
        let items = count(signal, &request).unwrap();
        let (mut open, mut single) = (vec![request], 0);
        while let Some(request) = open.pop() {
            match split(signal, &request) {
                Some((first, second)) => open.extend([first, second]),
                None => single += count(signal, &request).unwrap(),
            }
        }
        prop_assert_eq!(single, items);
    }

    // What prost decodes is not refused, whatever stands in it; what the walk refuses, prost refuses too.
    #[test]
    fn damaged_requests_never_panic(
        signal in signal(),
        shape in shape(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut request = encoded(signal, &shape);
        for (at, byte) in damage {
            if !request.is_empty() {
                let at = at.index(request.len());
                request[at] = byte;
            }
        }
        let length = request.len();
        for request in [&request[..], &request[..cut.index(length + 1)]] {
            let counted = count(signal, request);
            let parts = split(signal, request);
            if let Some(items) = items(signal, request) {
                prop_assert_eq!(counted, Ok(items.len() as u64));
            }
            if let (Ok(whole), Some((first, second))) = (counted, parts) {
                prop_assert_eq!(count(signal, &first).unwrap() + count(signal, &second).unwrap(), whole);
            }
            let _ = partial_success(signal, request);
            let _ = parse_status(request);
        }
    }

    #[test]
    fn random_bytes_never_panic(signal in signal(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = (count(signal, &bytes), split(signal, &bytes));
        let _ = (partial_success(signal, &bytes), parse_status(&bytes), gunzip_bounded(&bytes, 64));
        let _ = json_to_protobuf(signal, &bytes);
    }

    #[test]
    fn gzip_is_undone_by_gunzip(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4)) {
        let plain = chunks.concat();
        let packed = gzip(chunks.iter().map(AsRef::as_ref));
        prop_assert_eq!(gunzip_bounded(&packed, plain.len()), Ok(plain.clone()));
        if !plain.is_empty() {
            prop_assert_eq!(gunzip_bounded(&packed, plain.len() - 1), Err(GunzipError::TooLarge));
            prop_assert_eq!(gunzip_bounded(&packed[..packed.len() - 1], plain.len()), Err(GunzipError::Malformed));
        }
    }
}

#[test]
fn shapes_of_a_request() {
    let table: [(&[u8], Result<u64, Malformed>); 9] = [
        (b"", Ok(0)),
        // resource_spans { scope_spans { spans {} spans {} } }
        (b"\x0a\x06\x12\x04\x12\x00\x12\x00", Ok(2)),
        // The same, with an unknown group and unknown numbers around.
        (
            b"\x7b\x08\x01\x7c\x0a\x06\x12\x04\x12\x00\x12\x00\x65abcd\x61abcdefgh\x68\x05",
            Ok(2),
        ),
        // resource_spans as a number
        (b"\x08\x01", Err(Malformed)),
        // cut off
        (b"\x0a\x06\x12\x04\x12\x00\x12", Err(Malformed)),
        // a group that another one ends
        (b"\x7b\x08\x01\x74", Err(Malformed)),
        // a field with number 0
        (b"\x02\x00", Err(Malformed)),
        // a wire type that does not exist
        (b"\x0f", Err(Malformed)),
        // JSON
        (b"{\"resourceSpans\":[]}", Err(Malformed)),
    ];
    for (request, counted) in table {
        assert_eq!(count(Signal::Traces, request), counted, "{request:x?}");
    }
}

#[test]
fn a_bomb_stays_small() {
    let bomb = gzip([vec![0; 64 << 20].as_slice()]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(gunzip_bounded(&bomb, 4 << 20), Err(GunzipError::TooLarge));
}

#[test]
fn partial_success_is_prosts() {
    let response = |rejected_spans| {
        let error_message = "too old".to_owned();
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message,
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    };
    let said = |rejected| PartialSuccess {
        rejected,
        message: "too old".into(),
    };
    assert_eq!(partial_success(Signal::Traces, &response(3)), said(3));
    assert_eq!(partial_success(Signal::Traces, &response(0)), said(0));
    assert_eq!(partial_success(Signal::Traces, &response(-3)), said(0));
    for nothing in [&b""[..], b"{}", b"\x0a\x00", b"<html>"] {
        assert_eq!(
            partial_success(Signal::Traces, nothing),
            PartialSuccess::default()
        );
    }
}

#[test]
fn statuses_are_read_as_written() {
    for (code, message) in [(0, ""), (3, "no protobuf"), (-1, "ä")] {
        let expected = RpcStatus {
            code,
            message: message.into(),
            retry_delay: None,
        };
        assert_eq!(parse_status(&status(code, message)), Some(expected));
    }
    assert_eq!(
        status_json(3, "a \"b\""),
        br#"{"code":3,"message":"a \"b\""}"#
    );
    // google.rpc.Status with a RetryInfo of 1.5 s among its details.
    let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
    let mut bytes = status(14, "later");
    bytes.extend_from_slice(&[0x1a, any.len() as u8]);
    bytes.extend_from_slice(any);
    let status = parse_status(&bytes).unwrap();
    assert_eq!(
        status.retry_delay,
        Some(std::time::Duration::from_millis(1500))
    );
    assert_eq!((status.code, status.message.as_str()), (14, "later"));
    assert_eq!(parse_status(b"<html>no</html>"), None);
}
