use serde_json::json;

use super::super::tests::options;
use super::*;

fn span(id: usize, parent: &str, service: &str, tags: &[(&str, &str)]) -> Value {
    let attributes: Vec<Value> = tags
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect();
    json!({
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": [{
            "spanId": format!("{id:016x}"), "parentSpanId": parent, "name": "x",
            "startTimeUnixNano": "2000000", "endTimeUnixNano": "3000000", "attributes": attributes,
        }]}]
    })
}

/// What a run looks like in which everything happens as in the sandbox.
fn as_promised() -> Observations {
    let producer = format!("{:016x}", 1);
    let message = ("messaging.message.id", "m");
    let mut batches = vec![span(1, "", "orders-producer", &[])];
    for id in 2..7 {
        batches.push(span(id, &producer, "orders-consumer", &[message]));
    }
    for id in 7..10 {
        batches.push(span(
            id,
            &producer,
            "orders-consumer",
            &[message, ("error.type", "E")],
        ));
    }
    batches.push(span(
        10,
        &producer,
        "orders-dead-letters",
        &[message, ("throughline.dead_letter.source", "orders")],
    ));
    let received = |id: &str, count: &str| json!({"Messages": [{"MessageId": id, "Attributes": {"AWSTraceHeader": XRAY_HEADER, "ApproximateReceiveCount": count}}]});
    let log = json!({"events": [
        {"timestamp": 1, "message": r#"{"message":"flushed","request_id":"r","ended_by":"complete","held_ms":2.5,"telemetry_ms":26.0}"#},
        {"timestamp": 2, "message": "REPORT RequestId: r\tDuration: 12.34 ms\tBilled Duration: 13 ms\tMemory Size: 256 MB\tMax Memory Used: 31 MB\t"},
        {"timestamp": 3, "message": r#"{"message":"ledger","ledger":{"spans":{"dropped":{"overflow":0,"too_large":0,"shutdown":0}}}}"#},
    ]});
    Observations {
        answers: BTreeMap::from([
            ("trace", json!({"batches": batches})),
            ("log", log),
            ("post-runtime", json!({"Datapoints": [{"Average": 3.0}]})),
            ("header sent", json!({"MessageId": "m-1"})),
            ("dead letter", received("m-1", "4")),
            ("redriven", received("m-2", "1")),
        ]),
        failures: Vec::new(),
        began: "2026-11-22T10:00:00Z".into(),
        ended: "2026-11-22T10:20:00Z".into(),
    }
}

fn some() -> Options {
    options(&[
        "--endpoint=https://in.example.com",
        "--traces=https://q.example.com",
    ])
    .unwrap()
}

fn verdicts(observed: &Observations, wanted: Verdict) -> Vec<&'static str> {
    let all = findings(&some(), observed);
    all.iter()
        .filter(|finding| finding.verdict == wanted)
        .map(|finding| finding.question)
        .collect()
}

#[test]
fn a_run_like_the_sandbox_is_as_promised() {
    let observed = as_promised();
    assert_eq!(verdicts(&observed, Verdict::Differs), [""; 0]);
    assert_eq!(verdicts(&observed, Verdict::NotSeen), ["its init, ms"]);
    assert_eq!(verdicts(&observed, Verdict::AsPromised).len(), 6);
    let text = written(&some(), &observed);
    assert!(
        text.contains("| records in the producer's trace | 8 | 8 | as promised |"),
        "{text}"
    );
    assert!(
        text.contains("| AWSTraceHeader after a redrive | nothing | unchanged | measured |"),
        "{text}"
    );
    assert!(
        text.contains("| what ended the invocations | nothing | complete: 1 | measured |"),
        "{text}"
    );
    assert!(
        text.contains("| message id after the redrive | nothing | another | measured |"),
        "{text}"
    );
}

#[test]
fn nothing_seen_is_never_as_promised() {
    let observed = Observations {
        failures: vec!["a | b\nc".into()],
        ..Observations::default()
    };
    assert_eq!(verdicts(&observed, Verdict::AsPromised), [""; 0]);
    assert_eq!(verdicts(&observed, Verdict::Differs), [""; 0]);
    assert!(written(&some(), &observed).contains("- a \\| b c"));
}

/// Makes an observation that breaks one promise.
type Breaks = fn(&mut Observations);

#[test]
fn each_broken_promise_is_found() {
    let broken: [(&str, Breaks); 5] = [
        ("records in the producer's trace", |observed| {
            observed.answers.get_mut("trace").unwrap()["batches"]
                .as_array_mut()
                .unwrap()
                .remove(2);
        }),
        (
            "dead letters in the same trace, naming their queue",
            |observed| {
                observed.answers.get_mut("trace").unwrap()["batches"]
                    .as_array_mut()
                    .unwrap()
                    .pop();
            },
        ),
        ("spans whose parent is missing", |observed| {
            observed.answers.get_mut("trace").unwrap()["batches"]
                .as_array_mut()
                .unwrap()
                .remove(0);
        }),
        (
            "flushes that ended before the invocation's REPORT",
            |observed| {
                observed.answers.get_mut("log").unwrap()["events"][0]["timestamp"] = json!(5);
            },
        ),
        (
            "spans dropped, by the ledgers of ended sandboxes",
            |observed| {
                let line = r#"{"message":"ledger","ledger":{"spans":{"dropped":{"overflow":2}}}}"#;
                observed.answers.get_mut("log").unwrap()["events"][2]["message"] = json!(line);
            },
        ),
    ];
    for (question, breaks) in broken {
        let mut observed = as_promised();
        breaks(&mut observed);
        assert_eq!(verdicts(&observed, Verdict::Differs), [question]);
    }
}
