//! The producer's half and the poller against servers and clients that we did not write:
//! `local-aws-sqs` from npm, boto3 and OpenTelemetry's Python SDK.

pub(crate) mod bench;
mod front;
mod redrive;
mod sending;
mod worker;

use opentelemetry::KeyValue;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{FutureExt, SpanContext, TraceContextExt, TraceState};
use opentelemetry::{Context, SpanId, TraceFlags, TraceId};
use serde_json::Value;
use throughline::parent::ContextSource;

use bench::{Bench, Server, python, read};

/// A caller's context with everything in it that can travel.
fn caller(flags: TraceFlags) -> Context {
    let state = TraceState::from_key_value([("vendor", "1")]).unwrap();
    let remote = SpanContext::new(TraceId::from(7), SpanId::from(8), flags, true, state);
    Context::new()
        .with_remote_span_context(remote)
        .with_baggage([KeyValue::new("tenant", "a b%")])
}

// `cargo xtask test` leaves tests with `needs_tools` in their path out where the tools cannot be installed.
mod needs_tools {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn contexts_come_back_from_local_aws_sqs() {
        sending::round_trips(&Server::theirs().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn batches_come_back_from_local_aws_sqs() {
        sending::batches(&Server::theirs().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn local_aws_sqs_refuses_an_eleventh_attribute_and_never_one_of_ours() {
        sending::eleven_attributes(&Server::theirs().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn fifo_deduplication_is_not_changed_by_our_attributes_at_local_aws_sqs() {
        sending::fifo(&Server::theirs().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_redriven_message_keeps_its_trace_at_local_aws_sqs() {
        redrive::to_the_dead_letters_and_back(&Server::theirs().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_python_producer_with_opentelemetry_is_continued() {
        let server = Server::theirs().await;
        let bench = Bench::new(&server, |interceptor| interceptor);
        for (propagator, source) in [
            ("tracecontext", ContextSource::W3c),
            ("xray", ContextSource::Xray),
        ] {
            let queue = bench.queue(&format!("python-{propagator}"), &[]).await;
            let produced = python("produce.py", &[&server.url(), &queue, propagator]).await;
            let mut produced: Vec<(String, String)> = produced
                .as_array()
                .unwrap()
                .iter()
                .filter(|span| span["kind"] == "PRODUCER")
                .map(|span| (text(&span["trace_id"]), text(&span["span_id"])))
                .collect();
            let mut continued = Vec::new();
            for message in bench.receive(&queue, 3, true).await {
                let context = read(&message);
                assert_eq!(context.source, source);
                let parent = context.parent.expect("it is continued").span_context;
                assert!(parent.is_sampled());
                continued.push((parent.trace_id().to_string(), parent.span_id().to_string()));
                if propagator == "tracecontext" {
                    assert_eq!(
                        context.baggage.unwrap().get("tenant").unwrap().as_str(),
                        "a"
                    );
                }
            }
            produced.sort();
            continued.sort();
            assert_eq!(continued, produced, "{propagator}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_python_consumer_continues_our_producer() {
        let server = Server::theirs().await;
        let bench = Bench::new(&server, |interceptor| interceptor);
        let queue = bench.queue("to-python", &[]).await;
        let context = caller(TraceFlags::SAMPLED);
        let send = bench
            .client
            .send_message()
            .queue_url(&queue)
            .message_body("single");
        send.send().with_context(context.clone()).await.unwrap();
        let entry = |id: &str| {
            let entry = aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder().id(id);
            entry.message_body(format!("batch-{id}")).build().unwrap()
        };
        let batch = bench
            .client
            .send_message_batch()
            .queue_url(&queue)
            .entries(entry("0"))
            .entries(entry("1"));
        batch.send().with_context(context).await.unwrap();

        let seen = python("consume.py", &[&server.url(), &queue, "3"]).await;
        let mut seen: Vec<(String, String)> = seen
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                assert_eq!(message["trace_id"], "00000000000000000000000000000007");
                assert_eq!(message["sampled"], true);
                assert_eq!(message["tracestate"], "vendor=1");
                (text(&message["body"]), text(&message["parent"]))
            })
            .collect();
        seen.sort();
        let creates = bench.spans("create to-python");
        let single = bench
            .spans("send to-python")
            .into_iter()
            .find(|span| span.span_kind == opentelemetry::trace::SpanKind::Producer)
            .unwrap();
        let id =
            |span: &opentelemetry_sdk::trace::SpanData| span.span_context.span_id().to_string();
        assert_eq!(
            seen,
            [
                ("batch-0".to_owned(), id(&creates[0])),
                ("batch-1".to_owned(), id(&creates[1])),
                ("single".to_owned(), id(&single)),
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_come_back_from_our_own_sqs() {
    sending::round_trips(&Server::ours().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_come_back_from_our_own_sqs() {
    sending::batches(&Server::ours().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_sqs_refuses_what_sqs_refuses_and_never_anything_of_ours() {
    let server = Server::ours().await;
    sending::eleven_attributes(&server).await;
    sending::sizes(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_deduplication_is_not_changed_by_our_attributes() {
    sending::fifo(&Server::ours().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_message_keeps_its_trace() {
    redrive::to_the_dead_letters_and_back(&Server::ours().await).await;
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
