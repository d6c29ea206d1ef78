//! One table per rule, then properties against an oracle that shares no code with the planner.

use proptest::prelude::*;

use super::*;

const TP: usize = 11 + 6 + 55; // name, type and value of a traceparent
const TS: usize = 10 + 6 + 5;
const BG: usize = 7 + 6 + 8;

fn entry(attributes: usize, bytes: usize) -> Entry {
    Entry {
        attributes,
        bytes,
        offered: [TP, TS, BG],
        ..Entry::default()
    }
}

fn limits(message_bytes: usize) -> Limits {
    Limits {
        message_bytes,
        call_bytes: MESSAGE_BYTES_MAX,
        xray: XrayHeader::Overflow,
    }
}

/// `T`, `S`, `B` for the attributes, `x` for the X-Ray header, in this order.
fn letters(plan: &Plan) -> String {
    let mut text = String::new();
    for (field, letter) in Field::ALL.into_iter().zip(["T", "S", "B"]) {
        text.push_str(if plan.fields.has(field) { letter } else { "" });
    }
    text.push_str(if plan.xray { "x" } else { "" });
    text
}

fn one(entry: Entry, limits: &Limits) -> String {
    letters(&plan(&[entry], limits)[0])
}

#[test]
fn sizes_count_name_type_and_value() {
    assert_eq!(Field::Traceparent.bytes(&"x".repeat(55)), TP);
    assert_eq!(Field::Tracestate.bytes("a=b,c"), TS);
    assert_eq!(Field::Baggage.bytes("tenant=a"), BG);
}

#[test]
fn slots_go_to_traceparent_then_tracestate_then_baggage() {
    let table = [
        "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TSB", "TS", "T", "x", "x",
    ];
    for (attributes, expected) in table.into_iter().enumerate() {
        assert_eq!(
            one(entry(attributes, 100), &limits(MESSAGE_BYTES_MAX)),
            expected,
            "{attributes} attributes"
        );
    }
}

#[test]
fn what_has_no_value_takes_no_slot() {
    let table = [
        "TB", "TB", "TB", "TB", "TB", "TB", "TB", "TB", "TB", "T", "x",
    ];
    for (attributes, expected) in table.into_iter().enumerate() {
        let without_tracestate = Entry {
            offered: [TP, 0, BG],
            ..entry(attributes, 100)
        };
        assert_eq!(
            one(without_tracestate, &limits(MESSAGE_BYTES_MAX)),
            expected,
            "{attributes} attributes"
        );
    }
    let nothing = Entry {
        offered: [0, 0, 0],
        ..entry(0, 100)
    };
    assert_eq!(
        one(nothing, &limits(MESSAGE_BYTES_MAX)),
        "x",
        "the hooks write no header for an invalid span"
    );
}

#[test]
fn bytes_are_given_up_in_the_opposite_order() {
    let body = 1_000;
    for (room, expected) in [
        (TP + TS + BG, "TSB"),
        (TP + TS + BG - 1, "TS"),
        (TP + TS, "TS"),
        (TP + TS - 1, "T"),
        (TP, "T"),
        (TP - 1, "x"),
        (0, "x"),
    ] {
        assert_eq!(
            one(entry(0, body), &limits(body + room)),
            expected,
            "{room} bytes of room"
        );
    }
    assert_eq!(
        one(entry(0, body), &limits(body - 1)),
        "x",
        "a message that is too large by itself"
    );
}

#[test]
fn the_largest_message_of_sqs_gets_the_header() {
    let room = |room: usize| {
        one(
            entry(0, MESSAGE_BYTES_MAX - room),
            &limits(MESSAGE_BYTES_MAX),
        )
    };
    assert_eq!(room(0), "x");
    assert_eq!(room(TP - 1), "x");
    assert_eq!(room(TP), "T");
    assert_eq!(room(TP + TS + BG), "TSB");
}

#[test]
fn the_callers_own_traceparent_stays_alone() {
    let own = Entry {
        callers_own: true,
        taken: Fields::of(&[Field::Traceparent]),
        ..entry(1, 100)
    };
    assert_eq!(one(own.clone(), &limits(MESSAGE_BYTES_MAX)), "");
    let always = Limits {
        xray: XrayHeader::Always,
        ..limits(MESSAGE_BYTES_MAX)
    };
    assert_eq!(one(own, &always), "x", "with the caller's context in it");
}

#[test]
fn a_traceparent_of_the_callers_that_no_consumer_can_read_is_kept_and_the_header_helps() {
    let broken = Entry {
        taken: Fields::of(&[Field::Traceparent]),
        ..entry(1, 100)
    };
    assert_eq!(
        one(broken, &limits(MESSAGE_BYTES_MAX)),
        "Bx",
        "no tracestate without its traceparent"
    );
}

#[test]
fn names_the_caller_has_taken_are_not_written() {
    let taken = Entry {
        taken: Fields::of(&[Field::Tracestate, Field::Baggage]),
        ..entry(2, 100)
    };
    assert_eq!(one(taken, &limits(MESSAGE_BYTES_MAX)), "T");
}

#[test]
fn the_header_follows_its_policy_and_the_caller() {
    let policy = |xray, entry: Entry| {
        one(
            entry,
            &Limits {
                xray,
                ..limits(MESSAGE_BYTES_MAX)
            },
        )
    };
    assert_eq!(policy(XrayHeader::Always, entry(0, 1)), "TSBx");
    assert_eq!(policy(XrayHeader::Never, entry(10, 1)), "");
    let taken = |attributes| Entry {
        xray_taken: true,
        ..entry(attributes, 1)
    };
    assert_eq!(policy(XrayHeader::Always, taken(0)), "TSB");
    assert_eq!(policy(XrayHeader::Overflow, taken(10)), "");
    assert!(plan(&[taken(10)], &limits(MESSAGE_BYTES_MAX))[0].overflows);
}

#[test]
fn a_batch_gives_up_baggage_everywhere_then_tracestate_everywhere_then_its_last_traceparents() {
    let entries = [entry(0, 100), entry(9, 100), entry(0, 100)];
    let bodies = 300;
    let full = bodies + 3 * TP + 2 * TS + 2 * BG;
    let batch = |call_bytes| {
        let limits = Limits {
            call_bytes,
            ..limits(MESSAGE_BYTES_MAX)
        };
        plan(&entries, &limits)
            .iter()
            .map(letters)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(batch(full), "TSB T TSB");
    assert_eq!(batch(full - 1), "TS T TS");
    assert_eq!(batch(bodies + 3 * TP + 2 * TS), "TS T TS");
    assert_eq!(batch(bodies + 3 * TP + 2 * TS - 1), "T T T");
    assert_eq!(batch(bodies + 3 * TP), "T T T");
    assert_eq!(batch(bodies + 3 * TP - 1), "T T x");
    assert_eq!(batch(bodies + 2 * TP - 1), "T x x");
    assert_eq!(batch(bodies + TP - 1), "x x x");
    assert_eq!(batch(0), "x x x");
}

#[test]
fn each_entry_keeps_within_its_own_limit_too() {
    let limits = Limits {
        message_bytes: 1_000,
        call_bytes: MESSAGE_BYTES_MAX,
        xray: XrayHeader::Overflow,
    };
    let plans = plan(
        &[entry(0, 1_000 - TP), entry(0, 0), entry(0, 1_000)],
        &limits,
    );
    assert_eq!(
        plans.iter().map(letters).collect::<Vec<_>>(),
        ["T", "TSB", "x"]
    );
}

#[test]
fn an_empty_batch_is_no_trouble() {
    assert!(plan(&[], &limits(0)).is_empty());
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let taken = (any::<bool>(), any::<bool>(), any::<bool>());
    let offered = (
        prop_oneof![Just(0usize), Just(TP)],
        0usize..600,
        0usize..9_000,
    );
    (
        0usize..13,
        0usize..5_000,
        taken,
        offered,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(attributes, bytes, taken, offered, own, xray_taken)| {
            let mut entry = Entry {
                attributes,
                bytes,
                xray_taken,
                ..Entry::default()
            };
            for (field, taken) in Field::ALL.into_iter().zip([taken.0, taken.1, taken.2]) {
                entry.taken.set(field, taken);
            }
            entry.offered = [offered.0, offered.1, offered.2];
            entry.callers_own = own && taken.0;
            entry
        })
}

proptest! {
    #[test]
    fn no_plan_crosses_a_limit_that_the_caller_did_not_cross(
        entries in prop::collection::vec(any_entry(), 0..11),
        message_bytes in 0usize..16_000, call_bytes in 0usize..60_000,
        xray in prop_oneof![Just(XrayHeader::Overflow), Just(XrayHeader::Always), Just(XrayHeader::Never)],
    ) {
        let plans = plan(&entries, &Limits { message_bytes, call_bytes, xray });
        prop_assert_eq!(plans.len(), entries.len());
        let mut total_after = 0;
        let mut total_before = 0;
        for (entry, plan) in entries.iter().zip(&plans) {
            // Counted anew, by hand, from the letters: what SQS would count.
            let letters = letters(plan);
            let written: Vec<usize> = [("T", 0), ("S", 1), ("B", 2)].iter().filter(|(l, _)| letters.contains(l)).map(|(_, n)| *n).collect();
            let size = entry.bytes + written.iter().map(|n| entry.offered[*n]).sum::<usize>();
            prop_assert!(size <= message_bytes || written.is_empty());
            prop_assert!(entry.attributes + written.len() <= 10 || written.is_empty());
            for n in &written {
                prop_assert!(entry.offered[*n] > 0, "an empty value");
                prop_assert!(!entry.taken.0[*n], "the caller's own");
            }
            prop_assert!(!letters.contains('S') || letters.contains('T'));
            if entry.callers_own { prop_assert!(written.is_empty()); }
            if entry.xray_taken || xray == XrayHeader::Never { prop_assert!(!plan.xray); }
            if xray == XrayHeader::Overflow && plan.xray { prop_assert!(!letters.contains('T')); }
            total_before += entry.bytes;
            total_after += size;
        }
        prop_assert!(total_after <= call_bytes || total_after == total_before
            || plans.iter().all(|plan| !plan.fields.has(Field::Traceparent) && !plan.fields.has(Field::Tracestate) && !plan.fields.has(Field::Baggage)));
    }
}
