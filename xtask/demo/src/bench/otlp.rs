//! Export requests written by hand: the protobuf of OTLP's `ExportTraceServiceRequest`, and nothing to decode it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A request of `count` spans of some 270 bytes each, whose ids begin at `first` under the given trace.
pub fn request(trace: u64, first: u64, count: u64) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let mut scope_spans = field(1, &field(1, b"bench"));
    for number in first..first + count {
        scope_spans.extend(field(2, &span(trace, number + 1, now)));
    }
    let resource = [
        attribute("service.name", "bench"),
        attribute("faas.name", "bench"),
    ]
    .concat();
    let mut resource_spans = field(1, &resource);
    resource_spans.extend(field(2, &scope_spans));
    field(1, &resource_spans)
}

fn span(trace: u64, id: u64, now: u64) -> Vec<u8> {
    let mut span = field(1, &[[0; 8], (trace + 1).to_be_bytes()].concat());
    span.extend(field(2, &id.to_be_bytes()));
    span.extend(field(5, b"process orders"));
    // Kind 5 is CONSUMER.
    span.extend([6 << 3, 5]);
    for (number, time) in [(7, now), (8, now + 1_000)] {
        span.push(number << 3 | 1);
        span.extend(time.to_le_bytes());
    }
    for (name, value) in [
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", "orders"),
        (
            "messaging.message.id",
            "059f36b4-87a3-44ab-83d2-661975830a7d",
        ),
    ] {
        span.extend(field(
            9,
            &[
                field(1, name.as_bytes()),
                field(2, &field(1, value.as_bytes())),
            ]
            .concat(),
        ));
    }
    span
}

/// Field 1 of a resource: a key and a text.
fn attribute(name: &str, value: &str) -> Vec<u8> {
    field(
        1,
        &[
            field(1, name.as_bytes()),
            field(2, &field(1, value.as_bytes())),
        ]
        .concat(),
    )
}

/// A field of bytes: its number and type, its length, itself.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_emulator::OtlpSink;
    use std::time::Duration;

    #[tokio::test]
    async fn a_collector_reads_what_was_written() {
        let sink = OtlpSink::start().await.unwrap();
        let url = format!("{}/v1/traces", sink.url());
        let body = request(7, 20, 10);
        let kind = [("content-type", "application/x-protobuf")];
        crate::client::post(&url, &kind, body.into()).await.unwrap();
        let spans = sink
            .wait_for_spans(10, Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(spans.len(), 10);
        assert_eq!(spans[0].span_id, format!("{:016x}", 21));
        assert_eq!(spans[9].name, "process orders");
        assert_eq!(spans[0].attributes["messaging.system"], "aws_sqs");
        assert_eq!(spans[0].resource["faas.name"], "bench");
    }
}
