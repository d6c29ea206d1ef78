//! Batches: rules for the whole, and answers entry by entry.

use super::refusal::Refusal;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Most entries of a batch.
const ENTRIES_MAX: usize = 10;

/// The entries of a batch request with their ids.
pub(super) fn entries(request: &Value) -> Result<Vec<(String, &Value)>, Refusal> {
    let entries = request["Entries"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    match entries.len() {
        0 => return Err(Refusal::empty_batch()),
        1..=ENTRIES_MAX => {}
        more => return Err(Refusal::too_many(more)),
    }
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry["Id"].as_str().unwrap_or_default();
        let good = (1..=80).contains(&id.len())
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !good {
            return Err(Refusal::batch_id());
        }
        if !seen.insert(id) {
            return Err(Refusal::not_distinct(id));
        }
        all.push((id.to_owned(), entry));
    }
    Ok(all)
}

/// `Successful` and `Failed`, entry by entry.
pub(super) fn answer(results: Vec<(String, Result<Value, Refusal>)>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in results {
        match result {
            Ok(mut value) => {
                value["Id"] = json!(id);
                successful.push(value);
            }
            Err(refusal) => failed.push(json!({
                "Id": id, "SenderFault": true, "Code": refusal.code, "Message": refusal.message,
            })),
        }
    }
    let mut answer = json!({"Successful": successful});
    if !failed.is_empty() {
        answer["Failed"] = json!(failed);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_the_whole() {
        let batch = |ids: &[&str]| json!({"Entries": ids.iter().map(|id| json!({"Id": id})).collect::<Vec<_>>()});
        let ten: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
        let code = |ids: &[&str]| entries(&batch(ids)).err().map(|refusal| refusal.code);
        assert_eq!(code(&ten[..10]), None);
        assert_eq!(
            code(&ten),
            Some("AWS.SimpleQueueService.TooManyEntriesInBatchRequest")
        );
        assert_eq!(code(&[]), Some("AWS.SimpleQueueService.EmptyBatchRequest"));
        assert_eq!(
            code(&["a", "a"]),
            Some("AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
        );
        assert_eq!(
            code(&["a b"]),
            Some("AWS.SimpleQueueService.InvalidBatchEntryId")
        );
    }
}
