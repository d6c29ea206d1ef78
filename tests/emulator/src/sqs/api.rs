//! Operations of the JSON protocol: `POST /` with `X-Amz-Target: AmazonSQS.{operation}`.

use super::{
    Shared, attribute, batch,
    queue::{Draft, Queue},
    receive::{names, receive},
    refusal::Refusal,
    send,
    settings::{MESSAGE_BYTES_MAX, QueueSpec},
};
use crate::{
    clock::Moment,
    http::{Call, header, json as respond},
    ids,
    timeline::Event,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

type Done = Result<Value, Refusal>;

pub(super) async fn answer(shared: Arc<Shared>, call: Call) -> Response<Full<Bytes>> {
    let target = header(call.headers(), "x-amz-target").unwrap_or_default();
    let operation = target
        .strip_prefix("AmazonSQS.")
        .unwrap_or(target)
        .to_owned();
    let request: Value = serde_json::from_slice(call.body()).unwrap_or_default();
    let trace = header(call.headers(), "x-amzn-trace-id");
    let done = match operation.as_str() {
        "ReceiveMessage" => receive(&shared, &request).await,
        _ => act(&shared, &operation, &request, trace),
    };
    let mut response = match done {
        Ok(value) => respond(StatusCode::OK, &value),
        Err(refusal) => refusal.response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    headers.insert(
        "x-amzn-requestid",
        HeaderValue::from_str(&ids::uuid()).expect("a UUID is a header value"),
    );
    response
}

fn act(shared: &Shared, operation: &str, request: &Value, trace: Option<&str>) -> Done {
    let url = request["QueueUrl"].as_str().unwrap_or_default();
    match operation {
        "CreateQueue" => create(shared, request),
        "GetQueueUrl" => {
            let name = request["QueueName"].as_str().unwrap_or_default();
            shared.with(name, |_, _| Ok(json!({"QueueUrl": shared.url(name)})))
        }
        "ListQueues" => Ok(list(shared, request)),
        "GetQueueAttributes" => shared.with(url, |queue, now| Ok(attributes(queue, now, request))),
        "SetQueueAttributes" => shared.with(url, |queue, _| {
            queue.spec.apply(&request["Attributes"]).map(|()| json!({}))
        }),
        "DeleteQueue" => delete_queue(shared, url),
        "PurgeQueue" => shared.with(url, |queue, _| {
            queue.purge();
            Ok(json!({}))
        }),
        "SendMessage" => shared.with(url, |queue, now| {
            let draft = send::draft(&queue.spec, request, trace)?;
            Ok(put(shared, queue, draft, now, request))
        }),
        "SendMessageBatch" => shared.with(url, |queue, now| {
            send_batch(shared, queue, now, request, trace)
        }),
        "DeleteMessage" => shared.with(url, |queue, _| delete(shared, queue, request)),
        "DeleteMessageBatch" => shared.with(url, |queue, _| {
            let entries = batch::entries(request)?;
            let results = entries
                .into_iter()
                .map(|(id, entry)| (id, delete(shared, queue, entry)));
            Ok(batch::answer(results.collect()))
        }),
        "ChangeMessageVisibility" => shared.with(url, |queue, now| change(queue, now, request)),
        "ChangeMessageVisibilityBatch" => shared.with(url, |queue, now| {
            let entries = batch::entries(request)?;
            let results = entries
                .into_iter()
                .map(|(id, entry)| (id, change(queue, now, entry)));
            Ok(batch::answer(results.collect()))
        }),
        "ListDeadLetterSourceQueues" => sources(shared, url),
        "StartMessageMoveTask" => move_task(shared, request),
        "ListMessageMoveTasks" => list_moves(shared, request),
        "TagQueue" | "UntagQueue" | "AddPermission" | "RemovePermission" => {
            shared.with(url, |_, _| Ok(json!({})))
        }
        "ListQueueTags" => shared.with(url, |_, _| Ok(json!({"Tags": {}}))),
        other => Err(Refusal::operation(other)),
    }
}

fn create(shared: &Shared, request: &Value) -> Done {
    let mut spec = QueueSpec::new(request["QueueName"].as_str().unwrap_or_default());
    spec.apply(&request["Attributes"])?;
    Ok(json!({"QueueUrl": shared.create(spec)?}))
}

fn delete_queue(shared: &Shared, url: &str) -> Done {
    let name = url.rsplit('/').next().unwrap_or_default();
    shared
        .lock()
        .remove(name)
        .map(|_| json!({}))
        .ok_or_else(Refusal::no_queue)
}

fn list(shared: &Shared, request: &Value) -> Value {
    let prefix = request["QueueNamePrefix"].as_str().unwrap_or_default();
    let queues = shared.lock();
    let urls: Vec<_> = queues
        .keys()
        .filter(|name| name.starts_with(prefix))
        .map(|name| shared.url(name))
        .collect();
    json!({"QueueUrls": urls})
}

fn sources(shared: &Shared, url: &str) -> Done {
    let name = url.rsplit('/').next().unwrap_or_default();
    let queues = shared.lock();
    if !queues.contains_key(name) {
        return Err(Refusal::no_queue());
    }
    let feeds = |queue: &&Queue| {
        queue
            .spec
            .redrive
            .as_ref()
            .is_some_and(|redrive| redrive.queue == name)
    };
    let urls: Vec<_> = queues
        .values()
        .filter(feeds)
        .map(|queue| shared.url(&queue.spec.name))
        .collect();
    // In lower case in the protocol, unlike its neighbours.
    Ok(json!({"queueUrls": urls}))
}

/// Moves at once, so that a task has ended when it is first asked for.
fn move_task(shared: &Shared, request: &Value) -> Done {
    let name = |key: &str| request[key].as_str().and_then(|arn| arn.rsplit(':').next());
    let from = name("SourceArn").ok_or_else(|| Refusal::missing("SourceArn"))?;
    let moved = shared
        .move_all(from, name("DestinationArn"))
        .map_err(|_| Refusal::no_resource())?;
    let mut task = json!({
        "ApproximateNumberOfMessagesMoved": moved,
        "ApproximateNumberOfMessagesToMove": moved,
        "SourceArn": request["SourceArn"],
        "StartedTimestamp": Moment::now().unix_ms(),
        "Status": "COMPLETED",
    });
    if let Some(to) = request["DestinationArn"].as_str() {
        task["DestinationArn"] = json!(to);
    }
    let mut moves = shared.moves.lock().unwrap_or_else(PoisonError::into_inner);
    moves.push(task);
    Ok(json!({"TaskHandle": ids::uuid()}))
}

/// The latest first, one unless asked for more. `TaskHandle` is given for tasks under way only, so never.
fn list_moves(shared: &Shared, request: &Value) -> Done {
    let from = request["SourceArn"]
        .as_str()
        .ok_or_else(|| Refusal::missing("SourceArn"))?;
    let count = request["MaxResults"].as_u64().unwrap_or(1);
    let moves = shared.moves.lock().unwrap_or_else(PoisonError::into_inner);
    let of_queue = moves.iter().rev().filter(|task| task["SourceArn"] == from);
    let tasks: Vec<_> = of_queue
        .take(usize::try_from(count).unwrap_or(10))
        .collect();
    Ok(json!({"Results": tasks}))
}

fn attributes(queue: &Queue, now: Moment, request: &Value) -> Value {
    let mut all = queue.spec.to_json();
    let (visible, in_flight, delayed) = queue.counts(now.mono);
    all["ApproximateNumberOfMessages"] = json!(visible.to_string());
    all["ApproximateNumberOfMessagesNotVisible"] = json!(in_flight.to_string());
    all["ApproximateNumberOfMessagesDelayed"] = json!(delayed.to_string());
    let wanted = names(request, "AttributeNames");
    let mut map = Map::new();
    for (name, value) in all.as_object_mut().into_iter().flat_map(std::mem::take) {
        if wanted.iter().any(|one| *one == "All" || *one == name) {
            map.insert(name, value);
        }
    }
    if map.is_empty() {
        json!({})
    } else {
        json!({"Attributes": map})
    }
}

/// Puts a judged message into its queue; gives the answer's fields.
fn put(shared: &Shared, queue: &mut Queue, draft: Draft, now: Moment, request: &Value) -> Value {
    let mut value = json!({"MD5OfMessageBody": attribute::md5_of_body(&draft.body)});
    if let Some(md5) = Draft::md5_of_attributes(&draft.attributes) {
        value["MD5OfMessageAttributes"] = json!(md5);
    }
    let own = request["MessageSystemAttributes"].is_object();
    if let Some(md5) = draft
        .trace_header
        .as_deref()
        .filter(|_| own)
        .and_then(attribute::md5_of_system)
    {
        value["MD5OfMessageSystemAttributes"] = json!(md5);
    }
    let (id, sequence, new) = queue.send(draft, now);
    if new {
        let (queue, message_id) = (queue.spec.name.clone(), id.clone());
        shared.record(Event::MessageSent { queue, message_id });
    }
    value["MessageId"] = json!(id);
    if let Some(sequence) = sequence {
        value["SequenceNumber"] = json!(sequence);
    }
    value
}

fn send_batch(
    shared: &Shared,
    queue: &mut Queue,
    now: Moment,
    request: &Value,
    trace: Option<&str>,
) -> Done {
    let entries = batch::entries(request)?;
    let drafts: Vec<_> = entries
        .into_iter()
        .map(|(id, entry)| (id, entry, send::draft(&queue.spec, entry, trace)))
        .collect();
    // The limit of the whole is that of one message, whatever the queue's own is.
    let bytes = drafts
        .iter()
        .map(|(_, entry, draft)| {
            draft
                .as_ref()
                .map_or_else(|_| raw_bytes(entry), Draft::bytes)
        })
        .sum();
    if bytes > MESSAGE_BYTES_MAX {
        return Err(Refusal::batch_too_long(bytes, MESSAGE_BYTES_MAX));
    }
    let results = drafts.into_iter().map(|(id, entry, draft)| {
        let done = draft.map(|draft| put(shared, queue, draft, now, entry));
        (id, done)
    });
    Ok(batch::answer(results.collect()))
}

/// Size of an entry that was refused by itself.
fn raw_bytes(entry: &Value) -> usize {
    entry["MessageBody"].as_str().map_or(0, str::len)
}

fn delete(shared: &Shared, queue: &mut Queue, request: &Value) -> Done {
    let handle = request["ReceiptHandle"]
        .as_str()
        .ok_or_else(|| Refusal::missing("ReceiptHandle"))?;
    if let Some(message_id) = queue.delete(handle)? {
        shared.record(Event::MessageDeleted {
            queue: queue.spec.name.clone(),
            message_id,
        });
    }
    Ok(json!({}))
}

fn change(queue: &mut Queue, now: Moment, request: &Value) -> Done {
    let handle = request["ReceiptHandle"]
        .as_str()
        .ok_or_else(|| Refusal::missing("ReceiptHandle"))?;
    let seconds = request["VisibilityTimeout"]
        .as_u64()
        .filter(|seconds| *seconds <= 43_200);
    let seconds = seconds.ok_or_else(|| Refusal::parameter("VisibilityTimeout is invalid."))?;
    queue
        .change_visibility(handle, Duration::from_secs(seconds), now)
        .map(|()| json!({}))
}
