//! A message that fails, goes to the dead-letter queue, and is driven back: one trace all the way.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use opentelemetry::trace::FutureExt;
use opentelemetry::{TraceFlags, TraceId};
use throughline::poller::{DeleteError, Poller};

use super::bench::{Bench, PATIENCE, Server, system};
use super::caller;

async fn arn(bench: &Bench, queue: &str) -> String {
    let get = bench
        .client
        .get_queue_attributes()
        .queue_url(queue)
        .attribute_names(QueueAttributeName::QueueArn);
    get.send().await.unwrap().attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
}

async fn fail(_: Message) -> Result<(), std::fmt::Error> {
    Err(std::fmt::Error)
}

async fn succeed(_: Message) -> Result<(), std::fmt::Error> {
    Ok(())
}

pub(super) async fn to_the_dead_letters_and_back(server: &Server) {
    let bench = Bench::new(server, |interceptor| interceptor.settle_spans(true));
    let dead = bench.queue("dead", &[]).await;
    let dead_arn = arn(&bench, &dead).await;
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead_arn}","maxReceiveCount":"1"}}"#);
    let main = bench
        .queue("main", &[(QueueAttributeName::RedrivePolicy, policy)])
        .await;
    let main_poller = Poller::new(&main).with_tracer_provider(&bench.provider);
    let dead_poller = Poller::new(&dead).with_tracer_provider(&bench.provider);

    let send = bench
        .client
        .send_message()
        .queue_url(&main)
        .message_body("order")
        .send();
    send.with_context(caller(TraceFlags::SAMPLED))
        .await
        .unwrap();
    let producer = bench.span("send main").span_context;

    // The main consumer fails, and gives the message back at once.
    let message = bench.receive(&main, 1, false).await.remove(0);
    let handle = message.receipt_handle.clone();
    let traced = main_poller.trace_messages([message]).next().unwrap();
    let failed = traced.process_and_delete(&bench.client, fail).await;
    assert!(matches!(failed, Err(DeleteError::Process(_))));
    let release = bench
        .client
        .change_message_visibility()
        .queue_url(&main)
        .set_receipt_handle(handle);
    release.visibility_timeout(0).send().await.unwrap();
    let first = bench.span("process main");
    assert_eq!(first.parent_span_id, producer.span_id());
    bench.clear();

    // The next receive finds that it was received often enough, so SQS moves it.
    let dead_letter = tokio::time::timeout(PATIENCE, async {
        loop {
            let receive = bench
                .client
                .receive_message()
                .queue_url(&main)
                .send()
                .await
                .unwrap();
            assert!(receive.messages().is_empty());
            #[allow(deprecated)] // local-aws-sqs knows no other parameter
            let receive = bench
                .client
                .receive_message()
                .attribute_names(QueueAttributeName::All);
            let received = receive
                .queue_url(&dead)
                .visibility_timeout(0)
                .send()
                .await
                .unwrap();
            if let Some(message) = received.messages.unwrap_or_default().pop() {
                return message;
            }
        }
    });
    let dead_letter = dead_letter.await.expect("the message is moved");
    let source = system(
        &dead_letter,
        &MessageSystemAttributeName::DeadLetterQueueSourceArn,
    )
    .map(str::to_owned);
    assert!(source.is_some_and(|arn| arn.ends_with(":main")));
    let traced = dead_poller.trace_messages([dead_letter]).next().unwrap();
    traced.process(succeed).await.unwrap();
    let second = bench.span("process dead");
    assert_eq!(second.parent_span_id, producer.span_id());
    assert_eq!(second.span_context.trace_id(), TraceId::from(7));
    bench.clear();

    // Driven back: a new message to SQS, the same context in its attributes.
    bench
        .client
        .start_message_move_task()
        .source_arn(&dead_arn)
        .send()
        .await
        .unwrap();
    let back = bench.receive(&main, 1, false).await.remove(0);
    let traced = main_poller.trace_messages([back]).next().unwrap();
    traced
        .process_and_delete(&bench.client, succeed)
        .await
        .unwrap();
    let third = bench.span("process main");
    assert_eq!(third.parent_span_id, producer.span_id());
    let delete = bench.span("delete main");
    assert_eq!(
        delete.parent_span_id,
        third.span_context.span_id(),
        "deleting belongs to the message"
    );
    assert_eq!(delete.span_context.trace_id(), TraceId::from(7));
}
