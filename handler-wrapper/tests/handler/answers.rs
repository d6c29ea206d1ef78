//! Which messages go back to the queue, rule by rule.

use serde_json::{Value, json};
use throughline::{BatchError, FromMessage, Json, SqsMessage, Telemetry, traced_sqs_handler};

use crate::support::{Collector, call, error, event, message};

/// Does what its body says.
async fn obey(message: SqsMessage) -> Result<(), String> {
    match message.body.as_deref() {
        Some("fail") => Err("as told".to_owned()),
        Some("panic") => panic!("as told"),
        _ => Ok(()),
    }
}

fn failing(ids: &[&str]) -> Result<Vec<String>, String> {
    Ok(ids.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn by_default_one_failure_returns_the_whole_batch() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey).telemetry(&collector.telemetry);
    let good = [message("x", ""), message("y", "")];
    assert_eq!(call(&handler, event(good)).await, failing(&[]));
    let mixed = [message("a", ""), message("b", "fail"), message("c", "")];
    assert_eq!(
        call(&handler, event(mixed)).await,
        Err("RecordsFailed".to_owned())
    );
    assert!(
        collector.records().contains_key("c"),
        "a standard queue's batch is processed to its end"
    );
}

#[tokio::test]
async fn a_partial_answer_names_those_that_failed() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey)
        .telemetry(&collector.telemetry)
        .partial_batch();
    let mixed = [
        message("a", "fail"),
        message("b", ""),
        message("c", "panic"),
        message("d", ""),
    ];
    assert_eq!(call(&handler, event(mixed)).await, failing(&["a", "c"]));
    assert_eq!(
        collector.records().len(),
        4,
        "a panic ends its record and nothing else"
    );
}

#[tokio::test]
async fn when_nothing_succeeded_the_invocation_fails_unless_told_otherwise() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey)
        .telemetry(&collector.telemetry)
        .partial_batch();
    let bad = || event([message("a", "fail"), message("b", "fail")]);
    assert_eq!(
        call(&handler, bad()).await,
        Err("AllRecordsFailed".to_owned())
    );
    assert_eq!(
        call(&handler.report_all_failed(), bad()).await,
        failing(&["a", "b"])
    );
}

#[tokio::test]
async fn a_failure_that_cannot_be_named_fails_the_invocation() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey)
        .telemetry(&collector.telemetry)
        .partial_batch()
        .report_all_failed();
    for id in [Value::Null, json!(""), json!({"x": 1})] {
        let batch = [
            message("a", ""),
            message("b", "fail").set("/messageId", id.clone()),
        ];
        let expected = Err("FailedRecordWithoutId".to_owned());
        assert_eq!(call(&handler, event(batch)).await, expected, "{id}");
        let batch = [
            message("a", "fail"),
            message("b", "").set("/messageId", id.clone()),
        ];
        assert_eq!(call(&handler, event(batch)).await, failing(&["a"]), "{id}");
    }
    let batch = || {
        let mut event = event([message("a", "")]);
        let null: throughline::Batch = serde_json::from_str(
            r#"{"Records":[{"messageId":"a","body":"","eventSource":"aws:sqs"},null]}"#,
        )
        .unwrap();
        event.payload = null;
        event
    };
    assert_eq!(
        call(&handler, batch()).await,
        Err("FailedRecordWithoutId".to_owned())
    );
}

#[tokio::test]
async fn an_id_that_comes_twice_is_reported_once() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey)
        .telemetry(&Telemetry::disabled())
        .partial_batch();
    let batch = [message("a", "fail"), message("a", "fail"), message("b", "")];
    assert_eq!(call(&handler, event(batch)).await, failing(&["a"]));
    drop(collector);
}

#[tokio::test]
async fn an_empty_batch_succeeds_without_a_span() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(obey)
        .telemetry(&collector.telemetry)
        .batch_span(throughline::BatchSpan::Always);
    assert_eq!(call(&handler, event([])).await, failing(&[]));
    assert!(collector.spans().is_empty());
}

#[derive(serde::Deserialize)]
struct Order {
    id: String,
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_one_failed_record() {
    let collector = Collector::new();
    async fn process(Json(order): Json<Order>) -> Result<(), std::fmt::Error> {
        assert_eq!(order.id, "o");
        Ok(())
    }
    let handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .partial_batch();
    let good = r#"{"id":"o"}"#;
    let batch = [
        message("a", good),
        message("b", "{"),
        message("c", r#"{"id":"card 4111"#),
        message("d", good).set("/body", Value::Null),
        message("e", good).set("/body", json!({"id": "o"})),
        message("f", good),
    ];
    assert_eq!(
        call(&handler, event(batch)).await,
        failing(&["b", "c", "d", "e"])
    );
    let records = collector.records();
    for id in ["b", "c", "d", "e"] {
        // The text of a parser's error would quote the body.
        let invalid = ("invalid_body".to_owned(), "invalid_body".to_owned());
        assert_eq!(error(&records[id]), Some(invalid), "{id}");
    }
    assert_eq!(error(&records["f"]), None);
}

#[tokio::test]
async fn a_raw_processor_never_sees_a_message_without_its_body() {
    let handler = traced_sqs_handler(obey)
        .telemetry(&Telemetry::disabled())
        .partial_batch();
    let batch = [message("a", "").set("/body", Value::Null), message("b", "")];
    assert_eq!(call(&handler, event(batch)).await, failing(&["a"]));
}

#[tokio::test]
async fn without_telemetry_the_answers_are_the_same() {
    let collector = Collector::new();
    let batches = || {
        [
            vec![message("a", "")],
            vec![
                message("a", "fail"),
                message("b", ""),
                message("c", "panic"),
            ],
            vec![message("a", "fail")],
            vec![
                message("a", "").queue("q.fifo"),
                message("b", "fail").queue("q.fifo"),
                message("c", "").queue("q.fifo"),
            ],
        ]
    };
    for (with, without) in batches().into_iter().zip(batches()) {
        let on = traced_sqs_handler(obey)
            .telemetry(&collector.telemetry)
            .partial_batch();
        let off = traced_sqs_handler(obey)
            .telemetry(&Telemetry::disabled())
            .partial_batch();
        assert_eq!(
            call(&on, event(with)).await,
            call(&off, event(without)).await
        );
    }
}

#[tokio::test]
async fn every_kind_of_error_and_processor_is_taken() {
    fn plain(_: SqsMessage) -> impl Future<Output = Result<(), std::io::Error>> + Send {
        std::future::ready(Ok(()))
    }
    fn early_panic(_: SqsMessage) -> std::future::Ready<Result<(), std::fmt::Error>> {
        panic!("before there is a future")
    }
    struct Length(usize);
    impl FromMessage for Length {
        fn from_message(message: SqsMessage) -> Result<Self, throughline::Error> {
            Ok(Self(message.body.ok_or("no body")?.len()))
        }
    }
    let off = Telemetry::disabled();
    let batch = || event([message("a", "12")]);
    assert_eq!(
        call(&traced_sqs_handler(plain).telemetry(&off), batch()).await,
        failing(&[])
    );
    let closure = traced_sqs_handler(async |m: SqsMessage| {
        if m.body.is_some() {
            Err(throughline::Error::from("boxed"))
        } else {
            Ok(())
        }
    });
    assert!(call(&closure.telemetry(&off), batch()).await.is_err());
    let own =
        traced_sqs_handler(async |Length(n)| if n == 2 { Ok(()) } else { Err(std::fmt::Error) });
    assert_eq!(call(&own.telemetry(&off), batch()).await, failing(&[]));
    assert!(
        call(&traced_sqs_handler(early_panic).telemetry(&off), batch())
            .await
            .is_err()
    );
}

#[test]
fn the_handler_is_a_service_that_lambda_runtime_takes() {
    fn taken<H, F>(_: &H)
    where
        H: tower::Service<
                lambda_runtime::LambdaEvent<throughline::Batch>,
                Error = BatchError,
                Response = throughline::SqsBatchResponse,
                Future = F,
            > + Clone
            + Send
            + 'static,
        F: Future + Send + 'static,
    {
    }
    taken(&traced_sqs_handler(obey));
    let layered = tower::ServiceBuilder::new().service(traced_sqs_handler(obey));
    drop(lambda_runtime::run(layered));
}
