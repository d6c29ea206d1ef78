use super::*;
use Outcome::{Failed, NotStarted, Succeeded};

const WHOLE: AnswerPolicy = AnswerPolicy {
    partial: false,
    report_all_failed: false,
};
const PARTIAL: AnswerPolicy = AnswerPolicy {
    partial: true,
    report_all_failed: false,
};
const EVEN_ALL: AnswerPolicy = AnswerPolicy {
    partial: true,
    report_all_failed: true,
};

fn decide(
    records: &[(Option<&str>, Outcome)],
    policy: AnswerPolicy,
) -> Result<Vec<String>, &'static str> {
    let response = answer(records.iter().copied(), policy).map_err(|error| error.error_type())?;
    Ok(response
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier)
        .collect())
}

/// A policy, a batch, and the ids that are returned, or the type of the error.
type Row<'a> = (
    AnswerPolicy,
    &'a [(Option<&'a str>, Outcome)],
    Result<&'a [&'a str], &'static str>,
);

// semantics of partial batch responses, Lambda developer guide, "Handling errors for an SQS event source".
#[test]
fn the_answer_follows_from_ids_outcomes_and_policy() {
    let (a, b, c) = (Some("a"), Some("b"), Some("c"));
    let table: &[Row<'_>] = &[
        // Nothing failed: an answer without ids is complete success, under every mapping.
        (WHOLE, &[], Ok(&[])),
        (PARTIAL, &[], Ok(&[])),
        (WHOLE, &[(a, Succeeded), (None, Succeeded)], Ok(&[])),
        (PARTIAL, &[(a, Succeeded), (None, Succeeded)], Ok(&[])),
        // Whole batch: one failure fails all.
        (WHOLE, &[(a, Succeeded), (b, Failed)], Err("RecordsFailed")),
        (
            WHOLE,
            &[(a, Succeeded), (b, NotStarted)],
            Err("RecordsFailed"),
        ),
        (WHOLE, &[(a, Failed)], Err("RecordsFailed")),
        // Partial: those which failed or were not started, in their order.
        (
            PARTIAL,
            &[(a, Failed), (b, Succeeded), (c, Failed)],
            Ok(&["a", "c"]),
        ),
        (
            PARTIAL,
            &[(a, Succeeded), (b, Failed), (c, NotStarted)],
            Ok(&["b", "c"]),
        ),
        // Each id once.
        (
            PARTIAL,
            &[(a, Failed), (a, Failed), (b, Succeeded), (a, Succeeded)],
            Ok(&["a"]),
        ),
        // A failure that cannot be named: never an empty or made-up id.
        (
            PARTIAL,
            &[(a, Succeeded), (None, Failed)],
            Err("FailedRecordWithoutId"),
        ),
        (
            PARTIAL,
            &[(a, Succeeded), (Some(""), Failed)],
            Err("FailedRecordWithoutId"),
        ),
        (
            EVEN_ALL,
            &[(a, Failed), (None, NotStarted)],
            Err("FailedRecordWithoutId"),
        ),
        // Not one succeeded.
        (
            PARTIAL,
            &[(a, Failed), (b, Failed)],
            Err("AllRecordsFailed"),
        ),
        (
            PARTIAL,
            &[(a, Failed), (b, NotStarted)],
            Err("AllRecordsFailed"),
        ),
        (EVEN_ALL, &[(a, Failed), (b, NotStarted)], Ok(&["a", "b"])),
        (EVEN_ALL, &[(a, Failed)], Ok(&["a"])),
    ];
    for (policy, records, expected) in table {
        let expected = expected.map(|ids| ids.iter().map(ToString::to_string).collect());
        assert_eq!(decide(records, *policy), expected, "{policy:?} {records:?}");
    }
}

#[test]
fn the_error_says_how_many_and_which_types_but_no_payload() {
    let records = [
        (Some("a"), Succeeded),
        (Some("b"), Failed),
        (Some("c"), NotStarted),
    ];
    let error = answer(records.into_iter(), WHOLE)
        .unwrap_err()
        .with_error_types(
            ["orders::Error", "panic", "panic"]
                .into_iter()
                .map(Cow::Borrowed),
        );
    assert_eq!(
        error.to_string(),
        "1 of 3 records failed and 1 were not started; the whole batch goes back to the queue \
         (error types: orders::Error, panic)"
    );
    let diagnostic = Diagnostic::from(error);
    assert_eq!(diagnostic.error_type, "RecordsFailed");
}

#[test]
fn few_error_types_are_named() {
    let names = (0..100).map(|n| Cow::Owned(n.to_string()));
    let error = answer([(None, Failed)].into_iter(), WHOLE)
        .unwrap_err()
        .with_error_types(names);
    assert_eq!(error.error_types().len(), ERROR_TYPES_MAX);
}
