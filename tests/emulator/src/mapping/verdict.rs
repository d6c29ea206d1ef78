//! What Lambda reads from the answer to a batch.
//! Source: AWS Lambda, "Implementing partial batch responses", sections on success and failure conditions.

use crate::sandbox::Outcome;
use serde_json::Value;
use std::collections::HashSet;

/// What becomes of the messages of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are deleted.
    Success,
    /// These places in the batch come back, the others are deleted.
    Partial(Vec<usize>),
    /// All come back.
    Failure,
}

impl Verdict {
    /// Whether the message at that place comes back.
    pub fn comes_back(&self, place: usize) -> bool {
        match self {
            Verdict::Success => false,
            Verdict::Partial(places) => places.contains(&place),
            Verdict::Failure => true,
        }
    }
}

pub(super) fn of(
    outcome: &Outcome,
    report_batch_item_failures: bool,
    message_ids: &[String],
) -> Verdict {
    let Outcome::Answered(body) = outcome else {
        return Verdict::Failure;
    };
    if !report_batch_item_failures {
        // Without the setting nobody reads the answer: a partial one deletes what it wanted to keep.
        return Verdict::Success;
    }
    if body.is_empty() {
        return Verdict::Success;
    }
    match serde_json::from_slice(body) {
        Ok(answer) => reported(&answer, message_ids).unwrap_or(Verdict::Failure),
        Err(_) => Verdict::Failure,
    }
}

/// `None` for an answer that cannot be followed.
fn reported(answer: &Value, message_ids: &[String]) -> Option<Verdict> {
    let failures = match answer {
        Value::Null => return Some(Verdict::Success),
        Value::Object(map) => match map.get("batchItemFailures") {
            None | Some(Value::Null) => return Some(Verdict::Success),
            Some(list) => list.as_array()?,
        },
        _ => return None,
    };
    if failures.is_empty() {
        return Some(Verdict::Success);
    }
    let mut places = HashSet::new();
    for failure in failures {
        let id = failure.get("itemIdentifier")?.as_str()?;
        places.insert(message_ids.iter().position(|known| known == id)?);
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_unstable();
    Some(Verdict::Partial(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_they_mean() {
        let ids = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let judge =
            |body: &str, report| of(&Outcome::Answered(body.to_owned().into()), report, &ids);
        for (body, verdict) in [
            ("", Verdict::Success),
            ("null", Verdict::Success),
            ("{}", Verdict::Success),
            (r#"{"batchItemFailures":null}"#, Verdict::Success),
            (r#"{"batchItemFailures":[]}"#, Verdict::Success),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#,
                Verdict::Partial(vec![1]),
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":"c"},{"itemIdentifier":"a"},{"itemIdentifier":"c"}]}"#,
                Verdict::Partial(vec![0, 2]),
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
                Verdict::Failure,
            ),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
                Verdict::Failure,
            ),
            (r#"{"batchItemFailures":[{"id":"a"}]}"#, Verdict::Failure),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"z"}]}"#,
                Verdict::Failure,
            ),
            (r#"{"batchItemFailures":"a"}"#, Verdict::Failure),
            ("not json", Verdict::Failure),
        ] {
            assert_eq!(judge(body, true), verdict, "{body}");
            assert_eq!(
                judge(body, false),
                Verdict::Success,
                "{body} when nobody reads it"
            );
        }
        for outcome in [Outcome::TimedOut, Outcome::FunctionError(Value::Null)] {
            assert_eq!(of(&outcome, true, &ids), Verdict::Failure);
            assert_eq!(of(&outcome, false, &ids), Verdict::Failure);
        }
    }
}
