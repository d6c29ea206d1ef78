//! `--event FILE`: a consumer that takes any body, invoked once with an event from a file.

use std::path::Path;

use lambda_emulator::Outcome;
use serde_json::Value;

use crate::options::Options;
use crate::stage::{Stage, Trouble, also, print_logs};
use crate::verdict;
use crate::view::page::Frame;
use crate::view::text::count;

const FUNCTION: &str = "any-consumer";

/// How many records the event has, or what it is instead.
///
/// # Errors
/// What the file holds when that is not an SQS event.
pub fn records(bytes: &[u8]) -> Result<usize, String> {
    let event: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    // Counted here, by nothing of the wrapper's: the check must not trust whom it checks.
    let records = event.get("Records").and_then(Value::as_array);
    let count = records.filter(|records| {
        records
            .iter()
            .all(|record| record.get("eventSource").and_then(Value::as_str) == Some("aws:sqs"))
    });
    match count.map(Vec::len) {
        Some(0) => Err("it has no records, so nothing can be said about it".into()),
        Some(count) => Ok(count),
        None => Err(what_it_is(&event)),
    }
}

/// Names the event that was given instead of one from SQS.
fn what_it_is(event: &Value) -> String {
    let has = |key: &str| event.get(key).is_some();
    let first = |list: &str| {
        event
            .get(list)
            .and_then(Value::as_array)
            .and_then(|list| list.first())
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let record = first("Records");
    let source = text(record.and_then(|record| {
        record
            .get("eventSource")
            .or_else(|| record.get("EventSource"))
    }))
    .or_else(|| text(event.get("eventSource")));
    let name = match source.as_deref() {
        Some("aws:sqs") if has("messageId") => {
            "a single SQS message, without the `Records` around it"
        }
        Some("aws:sqs") => "a mixture of SQS records and others",
        Some("aws:sns") => {
            "an SNS event: the topic invokes the function directly, there is no queue between them"
        }
        Some("aws:s3") => "an S3 event",
        Some("aws:kinesis") => "a Kinesis event",
        Some("aws:dynamodb") => "a DynamoDB stream event",
        Some("aws:kafka" | "SelfManagedKafka") => "a Kafka event",
        Some("aws:rmq") => "a RabbitMQ event",
        Some("aws:mq") => "an ActiveMQ event",
        Some(other) => return format!("it is an event from {other:?}"),
        None if record.is_some_and(|record| record.get("Sns").is_some()) => "an SNS event",
        None if has("rmqMessagesByQueue") => "a RabbitMQ event",
        None if has("deliveryStreamArn") => "a Firehose transformation event",
        None if has("Messages") || has("messages") => {
            "an answer of the ReceiveMessage API, not an event of Lambda"
        }
        None if has("batchItemFailures") => {
            "a partial batch response: what a consumer answers, not what it gets"
        }
        None if has("detail-type") || has("detail") => "an EventBridge event",
        None if has("requestContext") => "an HTTP request",
        None if has("messageId") || has("body") => {
            "a single message, without the `Records` around it"
        }
        None if event.is_array() => "a list, not an event",
        None => "nothing that this demo knows",
    };
    format!("it is {name}")
}

/// Runs it. True when every record gave its span in time.
///
/// # Errors
/// When something does not start.
pub async fn run(
    options: &Options,
    file: &Path,
    bytes: Vec<u8>,
    records: usize,
) -> Result<bool, Trouble> {
    let stage = Stage::set(options.otlp_endpoint.as_deref()).await?;
    let sandbox = stage
        .sandbox(FUNCTION, "example-consumer", &[("RAW_BODIES", "1".into())])
        .await?;
    stage.say(&format!("{}: {}", file.display(), count(records, "record")));
    let invocation = sandbox.invoke(bytes).await;
    sandbox.wait_frozen(&invocation.request_id).await;
    let answer = match &invocation.outcome {
        Outcome::Answered(body) => format!("it answered {}", String::from_utf8_lossy(body)),
        Outcome::FunctionError(error) => format!("it answered with an error: {error}"),
        Outcome::TimedOut => "it ran into its timeout".into(),
        Outcome::Crashed {
            error_type,
            message,
        } => format!("it crashed: {error_type}: {message}"),
    };
    stage.say(&answer);
    let struck = stage.strike(&[&sandbox]).await;
    let verdicts = verdict::of_event(&stage.sink.spans(), &stage.timeline.entries(), records);
    let frame = Frame {
        title: format!("{} from {}", count(records, "record"), file.display()),
        about: format!("One invocation of a consumer that takes any body; {answer}."),
        verdicts: stage
            .passed_on(also(
                verdicts,
                "every extension exported all it had received, and ended by itself",
                struck,
            ))
            .await,
    };
    let held = stage.show(frame, &[FUNCTION])?;
    if !held {
        print_logs(&[&sandbox], options.verbose);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_is_told_apart() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/events");
        let (mut sqs, mut others) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            // By the text alone: where some record says `aws:sqs`, all of them do, except inside Firehose's data.
            let says = text.contains("\"aws:sqs\"") && text.contains("\"Records\"");
            match records(text.as_bytes()) {
                Ok(count) => {
                    assert!(says && count > 0, "{name}");
                    sqs += 1;
                }
                Err(what) => {
                    println!("{name}: {what}");
                    assert!(!says, "{name}: {what}");
                    assert!(
                        !what.contains("nothing that this demo knows"),
                        "{name}: {what}"
                    );
                    others += 1;
                }
            }
        }
        assert!(sqs > 20 && others > 10, "{sqs} {others}");
    }

    #[test]
    fn odd_files_are_told_apart() {
        for (text, what) in [
            ("", "not JSON"),
            ("[1]", "a list"),
            ("{}", "nothing that this demo knows"),
            (r#"{"Records":[]}"#, "no records"),
            (
                r#"{"Records":[{"eventSource":"aws:sqs"},{"eventSource":"aws:sns"}]}"#,
                "a mixture",
            ),
            (r#"{"Records":[{"EventSource":"aws:sns"}]}"#, "an SNS event"),
            (r#"{"Records":[null]}"#, "nothing that"),
        ] {
            let told = records(text.as_bytes()).unwrap_err();
            assert!(told.contains(what), "{text}: {told}");
        }
    }
}
