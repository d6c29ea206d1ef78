//! Every event of a folder, as other projects publish them: those from SQS keep all their records,
//! the others are refused with an error that says what they are.
//!
//! `EVENTS_DIR` names another folder than `tests/fixtures/events`.

use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;
use throughline::Batch;

fn folder() -> PathBuf {
    env::var_os("EVENTS_DIR").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/events").into(),
        PathBuf::from,
    )
}

/// The message ids of an SQS event; `None` for anything else.
fn message_ids<'a>(event: &'a Value) -> Option<Vec<Option<&'a str>>> {
    let records = event.get("Records")?.as_array()?;
    let ours = records
        .iter()
        .all(|r| r.get("eventSource").and_then(Value::as_str) == Some("aws:sqs"));
    let id = |record: &'a Value| record.get("messageId").and_then(Value::as_str);
    (ours && !records.is_empty()).then(|| records.iter().map(id).collect())
}

#[test]
fn every_event_of_the_folder_is_kept_whole_or_refused_by_name() {
    let (mut ours, mut foreign) = (0, 0);
    for entry in fs::read_dir(folder()).expect("the folder of events") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = fs::read(&path).expect("an event");
        let Ok(event) = serde_json::from_slice::<Value>(&bytes) else {
            let refused = serde_json::from_slice::<Batch>(&bytes).is_err();
            assert!(refused, "{name} is not even JSON and was taken");
            continue;
        };
        let batch: Result<Batch, _> = serde_json::from_slice(&bytes);
        match (message_ids(&event), batch) {
            (Some(ids), Ok(batch)) => {
                let read: Vec<_> = batch.messages().map(|m| m.message_id.as_deref()).collect();
                assert_eq!(read, ids, "{name}");
                ours += 1;
            }
            (Some(_), Err(error)) => panic!("{name} is from SQS and was refused: {error}"),
            (None, Ok(_)) => panic!("{name} is not from SQS and was taken"),
            (None, Err(error)) => {
                let text = error.to_string();
                println!("{name}: {text}");
                assert!(text.starts_with("not an SQS event: "), "{name}: {text}");
                foreign += 1;
            }
        }
    }
    println!("{ours} events from SQS, {foreign} others");
    assert!(ours + foreign > 0, "no event in {}", folder().display());
}
