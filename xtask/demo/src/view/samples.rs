//! Captures made by hand, as the demo gives them.

use super::model::{Capture, Flush, Lane, Link, Mark, MarkKind, Nanos, Note, Span};

const START: Nanos = 1_795_338_764_000_000_000;

fn ms(ms: f64) -> Nanos {
    START + (ms * 1e6) as Nanos
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

struct Sketch {
    id: &'static str,
    parent: &'static str,
    name: &'static str,
    kind: &'static str,
    service: &'static str,
    from: f64,
    to: f64,
}

fn span(sketch: Sketch) -> Span {
    Span {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        span_id: sketch.id.into(),
        parent_span_id: sketch.parent.into(),
        name: sketch.name.into(),
        kind: sketch.kind.into(),
        start: ms(sketch.from),
        end: ms(sketch.to),
        resource: pairs(&[
            ("faas.name", sketch.service),
            ("cloud.provider", "aws"),
            ("cloud.region", "eu-west-1"),
        ]),
        scope: "throughline".into(),
        arrived: ms(sketch.to + 2.0),
        acknowledged: Some(ms(sketch.to + 2.4)),
        ..Span::default()
    }
}

fn delivery(
    id: &'static str,
    parent: &'static str,
    message: &str,
    count: u32,
    from: f64,
    to: f64,
) -> Span {
    let mut span = span(Sketch {
        id,
        parent,
        name: "process orders",
        kind: "CONSUMER",
        service: "orders-consumer",
        from,
        to,
    });
    span.attributes = pairs(&[
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.message.id", message),
        ("faas.trigger", "pubsub"),
        ("throughline.message.receive_count", &count.to_string()),
        ("throughline.message.queue_time", "0.108"),
        ("throughline.context.source", "w3c"),
    ]);
    span.links = vec![Link {
        trace_id: span.trace_id.clone(),
        span_id: parent.into(),
    }];
    span
}

fn failed(mut span: Span) -> Span {
    span.error = true;
    span.status_message = "OrderError".into();
    span.attributes
        .push(("error.type".into(), "example_consumer::OrderError".into()));
    span
}

fn child(id: &'static str, parent: &'static str, name: &'static str, from: f64, to: f64) -> Span {
    let mut span = span(Sketch {
        id,
        parent,
        name,
        kind: "INTERNAL",
        service: "orders-consumer",
        from,
        to,
    });
    span.events = vec![Note {
        name: "stock reserved".into(),
        at: ms(to),
        attributes: pairs(&[("items", "3")]),
    }];
    span
}

/// Three orders of which the second always fails and ends in the dead-letter queue.
pub(crate) fn demo() -> Capture {
    let producer = |id, parent, name, kind, from, to| {
        span(Sketch {
            id,
            parent,
            name,
            kind,
            service: "orders-producer",
            from,
            to,
        })
    };
    let mut send = producer("a5", "a1", "send orders", "CLIENT", 1.6, 12.0);
    send.links = ["a2", "a3", "a4"]
        .map(|id| Link {
            trace_id: send.trace_id.clone(),
            span_id: id.into(),
        })
        .to_vec();
    send.attributes = pairs(&[
        ("messaging.batch.message_count", "3"),
        ("server.address", "127.0.0.1"),
    ]);
    let mut dead = delivery("d1", "a3", "m-2", 1, 3_350.0, 3_351.2);
    dead.name = "process orders-dlq".into();
    dead.resource = pairs(&[("faas.name", "orders-dead-letters")]);
    dead.attributes
        .push(("throughline.dead_letter.source".into(), "orders".into()));
    let spans = vec![
        producer("a1", "", "POST /orders", "SERVER", 0.0, 13.0),
        producer("a2", "a1", "create orders", "PRODUCER", 1.0, 1.1),
        producer("a3", "a1", "create orders", "PRODUCER", 1.2, 1.3),
        producer("a4", "a1", "create orders", "PRODUCER", 1.4, 1.5),
        send,
        delivery("b1", "a2", "m-1", 1, 118.0, 121.0),
        child("b2", "b1", "validate", 118.1, 118.9),
        child("b3", "b1", "charge", 119.0, 120.9),
        failed(delivery("c1", "a3", "m-2", 1, 120.0, 122.0)),
        failed(child("c2", "c1", "validate", 120.1, 121.0)),
        delivery("b4", "a4", "m-3", 1, 123.0, 125.0),
        failed(delivery("c3", "a3", "m-2", 2, 1_168.0, 1_170.0)),
        failed(delivery("c4", "a3", "m-2", 3, 2_214.0, 2_264.0)),
        dead,
    ];
    let mark = |kind, from, to| Mark {
        kind,
        from: ms(from),
        to: ms(to),
    };
    let lane = |name: &str, marks| Lane {
        name: name.into(),
        marks,
    };
    let flush = |lane: &str, spans, at: f64| Flush {
        lane: lane.into(),
        spans,
        arrived: ms(at),
        acknowledged: Some(ms(at + 0.4)),
    };
    Capture {
        spans,
        lanes: vec![
            lane(
                "orders-producer",
                vec![
                    mark(MarkKind::ColdStart, -40.0, -3.0),
                    mark(MarkKind::Invocation, -2.0, 15.0),
                    mark(MarkKind::Frozen, 16.0, 3_400.0),
                ],
            ),
            lane(
                "orders-consumer",
                vec![
                    mark(MarkKind::ColdStart, 70.0, 116.0),
                    mark(MarkKind::Invocation, 117.0, 128.0),
                    mark(MarkKind::Frozen, 129.0, 1_167.0),
                    mark(MarkKind::Invocation, 1_167.0, 1_172.0),
                    mark(MarkKind::Frozen, 1_173.0, 2_213.0),
                    mark(MarkKind::Invocation, 2_213.0, 2_267.0),
                    mark(MarkKind::Frozen, 2_268.0, 3_400.0),
                ],
            ),
            lane(
                "orders-dead-letters",
                vec![
                    mark(MarkKind::ColdStart, 3_300.0, 3_345.0),
                    mark(MarkKind::Invocation, 3_346.0, 3_353.0),
                    mark(MarkKind::Frozen, 3_354.0, 3_400.0),
                ],
            ),
        ],
        flushes: vec![
            flush("orders-producer", 5, 14.0),
            flush("orders-consumer", 6, 126.5),
            flush("orders-consumer", 1, 1_171.0),
            flush("orders-consumer", 1, 2_265.5),
            flush("orders-dead-letters", 1, 3_352.0),
        ],
    }
}

/// Names, values and ids that try to break out of wherever they are put.
pub(crate) fn hostile() -> Capture {
    let evil = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`\u{1b}[2J\u{202e}";
    let mut capture = demo();
    for span in &mut capture.spans {
        span.name = evil.into();
        span.kind = evil.into();
        span.status_message = evil.into();
        span.scope = evil.into();
        span.trace_id = evil.into();
        span.attributes.push((evil.into(), evil.into()));
        span.resource = vec![("faas.name".into(), evil.into())];
        span.events.push(Note {
            name: evil.into(),
            at: span.start,
            attributes: vec![(evil.into(), evil.into())],
        });
        span.links.push(Link {
            trace_id: evil.into(),
            span_id: evil.into(),
        });
    }
    for lane in &mut capture.lanes {
        lane.name = evil.into();
    }
    capture
}
