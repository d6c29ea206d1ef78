//! For any batch, outcomes and order of completion: the answer is the one that the rules give, every
//! started record has one span, and nothing of one record reaches another.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::TraceContextExt;
use proptest::prelude::*;
use throughline::{SqsMessage, traced_sqs_handler};

use crate::support::{Collector, Message, call, event, message, value};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Succeed,
    Fail,
    Panic,
    BadBody,
}

#[derive(Clone, Debug)]
struct Plan {
    id: Option<u8>,
    group: Option<u8>,
    fate: Fate,
    /// How often it waits; with concurrency this decides who ends first.
    waits: u8,
    has_producer: bool,
}

#[derive(Clone, Debug)]
struct Case {
    records: Vec<Plan>,
    fifo: bool,
    partial: bool,
    report_all: bool,
    skip_group: bool,
    concurrency: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let fate = prop_oneof![
        6 => Just(Fate::Succeed),
        2 => Just(Fate::Fail),
        1 => Just(Fate::Panic),
        1 => Just(Fate::BadBody),
    ];
    // Ids repeat now and then, and are missing now and then.
    let id = prop_oneof![19 => (0_u8..60).prop_map(Some), 1 => Just(None)];
    let group = prop_oneof![4 => (0_u8..3).prop_map(Some), 1 => Just(None)];
    (id, group, fate, 0_u8..4, any::<bool>()).prop_map(|(id, group, fate, waits, has_producer)| {
        Plan {
            id,
            group,
            fate,
            waits,
            has_producer,
        }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        1_usize..5,
    );
    (prop::collection::vec(plans(), 0..14), switches).prop_map(
        |(records, (fifo, partial, report_all, skip_group, concurrency))| Case {
            records,
            fifo,
            partial,
            report_all,
            skip_group,
            concurrency,
        },
    )
}

/// What the processors saw, by index in the batch.
#[derive(Debug, Default)]
struct Log {
    started: Vec<usize>,
    running_groups: Vec<Option<u8>>,
    problems: Vec<String>,
}

fn messages(case: &Case) -> Vec<Message> {
    let one = |(index, plan): (usize, &Plan)| {
        let mut m = message("", &index.to_string());
        m = m.set("/messageId", plan.id.map(|id| format!("m{id}")));
        m = m.queue(if case.fifo { "q.fifo" } else { "q" });
        if let Some(group) = plan.group {
            m = m.group(&group.to_string());
        }
        if plan.has_producer {
            m = m
                .sent_by_span(trace_of(index), true)
                .attribute("baggage", &format!("index={index}"));
        }
        if plan.fate == Fate::BadBody {
            m = m.set("/body", serde_json::Value::Null);
        }
        m
    };
    case.records.iter().enumerate().map(one).collect()
}

fn trace_of(index: usize) -> u64 {
    index as u64 + 1
}

/// What is wrong with the current context for the record at `index`, if anything.
fn context_problem(index: usize, plan: &Plan) -> Option<String> {
    let cx = Context::current();
    let baggage = cx.baggage().get("index").map(ToString::to_string);
    let span = cx.span().span_context().clone();
    let expected = plan.has_producer.then(|| index.to_string());
    if baggage != expected {
        return Some(format!("record {index} has baggage {baggage:?}"));
    }
    let in_own_trace = span.trace_id() == u128::from(trace_of(index)).into();
    if in_own_trace != plan.has_producer || !span.is_valid() {
        return Some(format!("record {index} is in trace {}", span.trace_id()));
    }
    None
}

async fn run(case: &Case) -> (Result<Vec<String>, String>, Log, Collector) {
    let collector = Collector::new();
    let log = Arc::new(Mutex::new(Log::default()));
    let process = {
        let (plans, log, fifo) = (Arc::new(case.records.clone()), Arc::clone(&log), case.fifo);
        move |message: SqsMessage| {
            let (plans, log) = (Arc::clone(&plans), Arc::clone(&log));
            async move {
                let index: usize = message.body.unwrap().parse().unwrap();
                let plan = &plans[index];
                {
                    let mut log = log.lock().unwrap();
                    log.started.push(index);
                    if fifo && log.running_groups.contains(&plan.group) {
                        log.problems
                            .push(format!("group of {index} runs twice at once"));
                    }
                    log.running_groups.push(plan.group);
                }
                for turn in 0..=plan.waits {
                    let problem = context_problem(index, plan);
                    log.lock().unwrap().problems.extend(problem);
                    if turn < plan.waits {
                        tokio::task::yield_now().await;
                    }
                }
                let mut log = log.lock().unwrap();
                let position = log
                    .running_groups
                    .iter()
                    .position(|g| *g == plan.group)
                    .unwrap();
                log.running_groups.remove(position);
                drop(log);
                match plan.fate {
                    Fate::Fail => Err(std::fmt::Error),
                    Fate::Panic => std::panic::resume_unwind(Box::new("planned")),
                    _ => Ok(()),
                }
            }
        }
    };
    let mut handler = traced_sqs_handler(process)
        .telemetry(&collector.telemetry)
        .concurrency(case.concurrency);
    handler = if case.partial {
        handler.partial_batch()
    } else {
        handler.whole_batch()
    };
    if case.report_all {
        handler = handler.report_all_failed();
    }
    if case.skip_group {
        handler = handler.fifo_skip_group();
    }
    let answer = call(&handler, event(messages(case))).await;
    let left = Context::current();
    assert!(
        !left.has_active_span() && left.baggage().is_empty(),
        "a context is left behind"
    );
    let log = std::mem::take(&mut *log.lock().unwrap());
    (answer, log, collector)
}

/// The records that one at a time starts, by the rules for FIFO queues.
fn started_in_order(case: &Case) -> BTreeSet<usize> {
    let (mut started, mut skipped, mut stopped) = (BTreeSet::new(), HashSet::new(), false);
    for (index, plan) in case.records.iter().enumerate() {
        if case.fifo && (stopped || skipped.contains(&plan.group)) {
            continue;
        }
        started.insert(index);
        if plan.fate != Fate::Succeed {
            if case.skip_group {
                skipped.insert(plan.group);
            } else {
                stopped = true;
            }
        }
    }
    started
}

/// The answer for a batch of which these were started, by the rules for answers.
fn expected_answer(case: &Case, started: &BTreeSet<usize>) -> Result<Vec<String>, &'static str> {
    let returned: Vec<usize> = (0..case.records.len())
        .filter(|i| !started.contains(i) || case.records[*i].fate != Fate::Succeed)
        .collect();
    if returned.is_empty() {
        return Ok(Vec::new());
    }
    if !case.partial {
        return Err("RecordsFailed");
    }
    if returned.iter().any(|i| case.records[*i].id.is_none()) {
        return Err("FailedRecordWithoutId");
    }
    if returned.len() == case.records.len() && !case.report_all {
        return Err("AllRecordsFailed");
    }
    let mut ids = Vec::new();
    for index in returned {
        let id = format!("m{}", case.records[index].id.unwrap());
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn check(case: &Case) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (answer, log, collector) = runtime.block_on(run(case));
    assert_eq!(log.problems, Vec::<String>::new());

    // A record whose body cannot be read is started, but never reaches the processor; its span shows it.
    let spans = collector.spans();
    let processed: BTreeSet<usize> = log.started.iter().copied().collect();
    assert_eq!(
        processed.len(),
        log.started.len(),
        "a record was processed twice"
    );
    let bad_bodies = spans
        .iter()
        .filter(|s| value(s, "error.type").is_some_and(|v| v.as_str() == "invalid_body"))
        .count();
    assert_eq!(
        spans.len(),
        processed.len() + bad_bodies,
        "one span for each started record"
    );

    let mut span_ids = HashSet::new();
    assert!(
        spans
            .iter()
            .all(|s| span_ids.insert(s.span_context.span_id())),
        "a span twice"
    );
    let by_trace: HashMap<u128, usize> = spans.iter().fold(HashMap::new(), |mut counts, span| {
        *counts
            .entry(u128::from_be_bytes(span.span_context.trace_id().to_bytes()))
            .or_default() += 1;
        counts
    });
    for index in &processed {
        if case.records[*index].has_producer {
            assert_eq!(
                by_trace.get(&u128::from(trace_of(*index))),
                Some(&1),
                "record {index}"
            );
        }
    }

    let sequential = case.concurrency == 1 || !case.fifo;
    if sequential {
        let started = if case.fifo {
            started_in_order(case)
        } else {
            (0..case.records.len()).collect()
        };
        let reaching: BTreeSet<usize> = started
            .iter()
            .copied()
            .filter(|i| case.records[*i].fate != Fate::BadBody)
            .collect();
        assert_eq!(processed, reaching);
        assert_eq!(
            answer,
            expected_answer(case, &started).map_err(str::to_owned)
        );
        return;
    }
    // Groups at the same time: which were started depends on who ended first, so the rules are
    // checked against what was seen.
    for (index, plan) in case.records.iter().enumerate() {
        let blocked = case.records[..index].iter().enumerate().any(|(i, p)| {
            p.group == plan.group && (p.fate != Fate::Succeed || !processed.contains(&i))
        });
        assert!(
            !(blocked && processed.contains(&index)),
            "{index} overtook a failure of its group"
        );
    }
    if case.skip_group {
        let started = started_in_order(case);
        assert_eq!(
            answer,
            expected_answer(case, &started).map_err(str::to_owned)
        );
    } else if let Ok(ids) = answer {
        let not_done = |i: &usize| !processed.contains(i) || case.records[*i].fate != Fate::Succeed;
        let mut expected: Vec<String> = Vec::new();
        for index in (0..case.records.len()).filter(not_done) {
            let id = format!("m{}", case.records[index].id.unwrap());
            if !expected.contains(&id) {
                expected.push(id);
            }
        }
        assert_eq!(ids, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_what_the_rules_give_and_nothing_leaks(case in cases()) {
        check(&case);
    }
}
