//! The example of a redrive, as a process of its own: an order that fails, its dead letter, and the
//! order that is handled in the end are one trace.

use std::process::Stdio;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use it::binary;
use lambda_emulator::{
    Batch, EventSourceMapping, MappingSpec, OtlpSink, Outcome, ReceivedSpan, Sandbox, Timeline,
};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Duration;

use crate::interop_sqs::bench::{PATIENCE, Server, client};

/// Attempts before an order is a dead letter.
const RECEIVES_MAX: usize = 2;

// `cargo xtask test` leaves tests with `needs_tools` in their path out where the tools cannot be installed.
mod needs_tools {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_redriven_order_stays_in_its_trace_at_local_aws_sqs() {
        there_and_back(Server::theirs().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_order_stays_in_its_trace() {
    let line = there_and_back(Server::ours().await).await;
    // As often as the consumer got it, and once more for the look. (local-aws-sqs does not answer
    // `MessageSystemAttributeNames`, so it tells the example no count.)
    assert_eq!(line["receive_count"], "3", "{line}");
}

/// Gives the line that the example wrote about the dead letter.
async fn there_and_back(server: Server) -> Value {
    let stage = Stage::new(server).await;
    let sent = stage.send_a_poisoned_order().await;
    let failed = stage.fail().await;
    let line = stage.redrive().await;
    let handled = stage.handle().await;

    let (first, last) = (&failed[0].message_ids[0], &handled.message_ids[0]);
    assert_eq!(line["messageId"], first.as_str(), "a dead letter keeps it");
    assert_ne!(first, last, "a redriven message has a new id");
    assert_eq!(line["trace_id"], sent.trace_id.as_str());

    let spans = stage.sink.unique_spans();
    let consumers = |name: &str, id: &str| {
        let found: Vec<_> = spans
            .iter()
            .filter(|span| span.kind == "CONSUMER" && span.name == name)
            .filter(|span| span.attributes["messaging.message.id"] == id)
            .collect();
        found
    };
    let attempts = consumers("process orders", first);
    assert_eq!(attempts.len(), RECEIVES_MAX, "{spans:#?}");
    assert!(attempts.iter().all(|span| span.status == "ERROR"));
    let looked = consumers("process orders-dlq", first);
    let again = consumers("process orders", last);
    assert_eq!((looked.len(), again.len()), (1, 1), "{spans:#?}");
    assert_ne!(again[0].status, "ERROR");
    for hop in attempts.iter().chain(&looked).chain(&again) {
        assert_eq!(hop.parent_span_id, sent.span_id, "{hop:#?}");
    }

    // The poll belongs to no message, so it is a trace of its own that links to them.
    let (polls, rest): (Vec<_>, Vec<_>) = spans
        .iter()
        .partition(|span| span.name == "receive orders-dlq");
    assert_eq!(polls.len(), 1, "{spans:#?}");
    assert_eq!(polls[0].links.len(), 1);
    assert_eq!(polls[0].links[0].span_id, sent.span_id);
    assert!(
        rest.iter().all(|span| span.trace_id == sent.trace_id),
        "{spans:#?}"
    );
    line
}

/// Two queues, and where the spans of all processes go.
struct Stage {
    server: Server,
    client: Client,
    timeline: Timeline,
    sink: OtlpSink,
    orders: String,
    dead_letters: String,
}

impl Stage {
    async fn new(server: Server) -> Self {
        let timeline = Timeline::new();
        let sink = OtlpSink::start_on(&timeline).await.unwrap();
        let client = client(&server, |config| config);
        let dead_letters = client.create_queue().queue_name("orders-dlq");
        let dead_letters = dead_letters.send().await.unwrap().queue_url.unwrap();
        let policy = json!({
            "deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:orders-dlq",
            "maxReceiveCount": RECEIVES_MAX,
        });
        let orders = client
            .create_queue()
            .queue_name("orders")
            .attributes(Attribute::RedrivePolicy, policy.to_string())
            .attributes(Attribute::VisibilityTimeout, "2");
        let orders = orders.send().await.unwrap().queue_url.unwrap();
        Self {
            server,
            client,
            timeline,
            sink,
            orders,
            dead_letters,
        }
    }

    /// A function with the real extension.
    async fn function(&self, example: &str, env: &[(&str, &str)]) -> Sandbox {
        let mut builder = Sandbox::builder(example)
            .timeline(&self.timeline)
            .bootstrap(binary(example))
            .extension(binary("throughline-extension"))
            .extension_env("THROUGHLINE_ENDPOINT", self.sink.url())
            .function_env("AWS_ENDPOINT_URL_SQS", self.server.url())
            .function_env("ORDERS_QUEUE_URL", self.orders.clone())
            .timeout(PATIENCE);
        for (name, value) in env {
            builder = builder.function_env(*name, *value);
        }
        builder.start().await.unwrap()
    }

    /// Gives the span that every hop is to be below.
    async fn send_a_poisoned_order(&self) -> ReceivedSpan {
        let producer = self.function("example-producer", &[]).await;
        let order = json!({ "id": "o-1", "amount": 1, "poison": true });
        let request = json!({ "version": "2.0", "body": order.to_string() });
        let invocation = producer.invoke(request.to_string()).await;
        let log = producer.log_text();
        let Outcome::Answered(answer) = invocation.outcome else {
            panic!("{:?}\n{log}", invocation.outcome);
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}\n{log}");
        ended(&producer).await;
        let spans = self.sink.unique_spans();
        let mut made = spans.into_iter().filter(|span| span.kind == "PRODUCER");
        let create = made.next().expect("the order has a span");
        assert_eq!(create.name, "create orders");
        create
    }

    /// The consumer fails until SQS gives the order up.
    async fn fail(&self) -> Vec<Batch> {
        let consumer = self.function("example-consumer", &[]).await;
        let mapping = self.mapping(&consumer);
        let given_up = async {
            while self.dead_letters().await == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, given_up).await;
        assert!(in_time.is_ok(), "{}", consumer.log_text());
        let batches = mapping.stop().await;
        ended(&consumer).await;
        batches
    }

    /// Runs the example.
    async fn redrive(&self) -> Value {
        let run = Command::new(binary("example-redrive"))
            .env_remove("AWS_LAMBDA_FUNCTION_NAME")
            .env("DEAD_LETTER_QUEUE_URL", &self.dead_letters)
            .env("ORDERS_QUEUE_URL", &self.orders)
            .env("AWS_ENDPOINT_URL_SQS", self.server.url())
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.sink.url())
            .env("OTEL_SERVICE_NAME", "redrive")
            // Nobody listens there: it has no extension.
            .env("THROUGHLINE_HTTP_PORT", "9")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let run = tokio::time::timeout(PATIENCE, run).await;
        let output = run.expect("the redrive ends").unwrap();
        let log = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}\n{told}");
        assert_eq!(self.dead_letters().await, 0, "{log}");
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut lines = lines.filter(|line: &Value| line["message"] == "dead letter");
        let line = lines.next().expect("a line about the dead letter");
        assert!(lines.next().is_none(), "{log}");
        line
    }

    /// The consumer as it is once its mistake was mended: it takes the order.
    async fn handle(&self) -> Batch {
        let mended = self
            .function("example-consumer", &[("RAW_BODIES", "1")])
            .await;
        let mapping = self.mapping(&mended);
        let came = mapping.wait_for_batches(1, PATIENCE).await;
        assert!(came, "{}", self.timeline.to_text());
        let mut batches = mapping.stop().await;
        ended(&mended).await;
        assert_eq!(batches.len(), 1);
        batches.remove(0)
    }

    fn mapping(&self, consumer: &Sandbox) -> EventSourceMapping {
        let spec = MappingSpec::default()
            .batch_size(1)
            .report_batch_item_failures(true)
            // local-aws-sqs answers long polls late, and must have done so before the order is back.
            .wait(Duration::from_secs(1));
        EventSourceMapping::start(&self.server.url(), &self.orders, consumer, spec)
    }

    /// How many dead letters can be received.
    async fn dead_letters(&self) -> u32 {
        let name = Attribute::ApproximateNumberOfMessages;
        let get = self.client.get_queue_attributes();
        let get = get
            .queue_url(&self.dead_letters)
            .attribute_names(name.clone());
        let count = get.send().await.unwrap().attributes.unwrap()[&name].parse();
        count.unwrap()
    }
}

/// What a function still holds leaves when its sandbox ends.
async fn ended(sandbox: &Sandbox) {
    sandbox.wait_idle().await;
    sandbox.shutdown("spindown").await;
}
