//! Spans of the user's own, and log lines, belong to the record they were made for.
//!
//! Real processes: the orders consumer of the demo, which has `#[instrument]` functions, handling ten
//! records in one invocation. How it is with other ways of making spans is tested with the example
//! `child-spans`, and with other subscribers in the wrapper's `tests/child_spans.rs`.

use std::collections::HashMap;

use lambda_emulator::ReceivedSpan;
use serde_json::json;

use crate::examples::{run, sent};

const RECORDS: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn instrumented_functions_and_log_lines_belong_to_their_record() {
    let records = (1..=RECORDS)
        .map(|n| sent(n, &json!({"id": format!("o-{n}")}).to_string()))
        .collect();
    let run = run("example-consumer", records, &[]).await;
    let of = |name: &str| -> HashMap<&str, &ReceivedSpan> {
        let spans = run.spans.iter().filter(|span| span.name == name);
        spans.map(|span| (span.trace_id.as_str(), span)).collect()
    };
    let (records, reserve, charge) = (of("process orders"), of("reserve"), of("charge"));
    let lines: HashMap<_, _> = run
        .log
        .iter()
        .filter(|line| line["message"] == "order handled")
        .map(|line| (line["trace_id"].as_str().unwrap_or_default(), line))
        .collect();
    for n in 1..=RECORDS {
        let trace = format!("{n:032x}");
        let trace = trace.as_str();
        let record = records
            .get(trace)
            .unwrap_or_else(|| panic!("no record {n}\n{}", run.story));
        assert_eq!(record.parent_span_id, format!("{n:016x}"), "{}", run.story);
        for child in [&reserve, &charge] {
            assert_eq!(child[trace].parent_span_id, record.span_id, "{}", run.story);
            assert_eq!(child[trace].kind, "INTERNAL");
        }
        assert_eq!(
            reserve[trace].attributes["order.id"],
            *format!("o-{n}").as_str()
        );
        let line = lines[trace];
        assert_eq!(line["span_id"], record.span_id.as_str());
        assert_eq!(line["trace_flags"], "01");
        assert_eq!(line["order"], format!("o-{n}"));
        assert_eq!(line["messageId"], format!("m-{n}"));
        assert!(
            line["requestId"].as_str().is_some_and(|id| id.len() == 36),
            "{line}"
        );
    }
    // Deliveries and durations, by the same way: all features are on in binaries for tests.
    assert!(run.data_points >= 2, "{}", run.story);
    let all = usize::try_from(RECORDS).unwrap() * 3;
    assert_eq!(
        run.spans.len(),
        all,
        "each once, and nothing else\n{}",
        run.story
    );
}
