use proptest::prelude::*;

use super::*;

const NO_MARK: u64 = u64::MAX;
const NOW: Duration = Duration::ZERO;

/// A request of one ResourceSpans with one ScopeSpans with `spans` spans of `span_bytes` bytes of padding each.
fn request(spans: usize, span_bytes: usize) -> Bytes {
    let span = field(5, &vec![b'n'; span_bytes]);
    let scope: Vec<u8> = (0..spans).flat_map(|_| field(2, &span)).collect();
    Bytes::from(field(1, &field(2, &scope)))
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn push(buffer: &mut Buffer, spans: usize, span_bytes: usize) -> u64 {
    buffer.push(
        Signal::Traces,
        spans as u64,
        request(spans, span_bytes),
        NOW,
    )
}

fn take(buffer: &mut Buffer) -> Option<Batch> {
    buffer.take(Signal::Traces, NO_MARK)
}

#[test]
fn requests_are_merged_up_to_the_limit_and_in_order() {
    let mut buffer = Buffer::new(1 << 20, 1000);
    for spans in 1..=4 {
        push(&mut buffer, spans, 100);
    }
    let counts: Vec<u64> = std::iter::from_fn(|| take(&mut buffer))
        .map(|batch| batch.items())
        .collect();
    // 1 + 2 + 3 spans fit into 1,000 bytes, the fourth request does not.
    assert_eq!(counts, [6, 4]);
    assert!(buffer.ledger().balances());
    assert_eq!(buffer.ledger().account(Signal::Traces).in_flight, 10);
}

#[test]
fn what_comes_after_the_mark_stays() {
    let mut buffer = Buffer::new(1 << 20, 1 << 20);
    push(&mut buffer, 1, 10);
    let mark = buffer.mark();
    push(&mut buffer, 2, 10);
    assert_eq!(buffer.take(Signal::Traces, mark).unwrap().items(), 1);
    assert!(!buffer.waits(Signal::Traces, mark));
    assert!(buffer.take(Signal::Traces, mark).is_none());
    assert!(buffer.waits(Signal::Traces, NO_MARK));
}

#[test]
fn the_oldest_makes_room_and_is_counted() {
    let mut buffer = Buffer::new(1900, 1 << 20);
    let mut dropped = 0;
    for spans in 1..=5 {
        dropped += push(&mut buffer, spans, 100);
        assert!(buffer.bytes() <= 1900);
    }
    let account = *buffer.ledger().account(Signal::Traces);
    assert_eq!((account.overflow, dropped), (1 + 2, 1 + 2));
    assert_eq!(account.buffered, 3 + 4 + 5);
}

#[test]
fn what_is_in_flight_is_inside_the_bound_and_never_dropped() {
    let mut buffer = Buffer::new(2000, 1 << 20);
    push(&mut buffer, 12, 100);
    let batch = take(&mut buffer).unwrap();
    assert_eq!(
        push(&mut buffer, 8, 100),
        8,
        "the newcomer is the only one that can go"
    );
    assert_eq!(buffer.ledger().account(Signal::Traces).in_flight, 12);
    buffer.put_back(batch);
    assert_eq!(buffer.ledger().account(Signal::Traces).buffered, 12);
    assert!(buffer.ledger().balances());
}

#[test]
fn a_request_at_the_bound_fits_and_one_past_it_does_not() {
    let body = request(1, 500);
    for (bytes_max, dropped) in [
        (body.len() + ENTRY_BYTES, 0),
        (body.len() + ENTRY_BYTES - 1, 1),
    ] {
        let mut buffer = Buffer::new(bytes_max, 1 << 20);
        assert_eq!(buffer.push(Signal::Traces, 1, body.clone(), NOW), dropped);
        assert_eq!(buffer.ledger().account(Signal::Traces).too_large, dropped);
    }
}

#[test]
fn a_batch_that_comes_back_stands_in_its_old_place() {
    let mut buffer = Buffer::new(1 << 20, 300);
    for spans in 1..=3 {
        push(&mut buffer, spans, 80);
    }
    let first = take(&mut buffer).unwrap();
    let second = take(&mut buffer).unwrap();
    assert_eq!((first.items(), second.items()), (3, 3));
    buffer.put_back(second);
    buffer.put_back(first);
    assert_eq!(take(&mut buffer).unwrap().items(), 3);
    assert_eq!(take(&mut buffer).unwrap().items(), 3);
}

#[test]
fn a_refused_batch_is_halved_until_only_the_culprit_is_rejected() {
    let mut buffer = Buffer::new(1 << 20, 1 << 20);
    for index in 0..37 {
        push(&mut buffer, 1, if index == 23 { 7 } else { 10 });
    }
    let poison = request(1, 7);
    let mut requests = 0;
    while let Some(batch) = take(&mut buffer) {
        requests += 1;
        if batch.chunks().contains(&poison) {
            buffer.refused(batch);
        } else {
            buffer.acknowledged(batch, 0);
        }
    }
    let account = buffer.ledger().account(Signal::Traces);
    assert_eq!((account.exported, account.rejected), (36, 1));
    assert!(requests <= 2 * 6 + 1, "{requests} requests for one of 37");
}

#[test]
fn what_is_too_large_is_split_by_request_and_then_inside() {
    let mut buffer = Buffer::new(1 << 20, 1 << 20);
    for _ in 0..3 {
        push(&mut buffer, 4, 1000);
    }
    let mut sizes = Vec::new();
    while let Some(batch) = take(&mut buffer) {
        if batch.body_bytes() > 2500 {
            assert_eq!(buffer.too_large(batch), 0);
        } else {
            sizes.push(batch.items());
            buffer.acknowledged(batch, 0);
        }
    }
    assert_eq!(sizes.iter().sum::<u64>(), 12);
    assert_eq!(buffer.ledger().account(Signal::Traces).exported, 12);
}

#[test]
fn one_item_that_is_too_large_is_dropped_and_counted() {
    let mut buffer = Buffer::new(1 << 20, 1 << 20);
    push(&mut buffer, 1, 5000);
    let batch = take(&mut buffer).unwrap();
    assert_eq!(buffer.too_large(batch), 1);
    assert_eq!(buffer.ledger().account(Signal::Traces).too_large, 1);
    assert!(take(&mut buffer).is_none());
}

#[test]
fn a_large_client_request_leaves_in_several() {
    let mut buffer = Buffer::new(1 << 20, 20 << 10);
    push(&mut buffer, 100, 1000);
    let mut items = 0;
    let mut requests = 0;
    while let Some(batch) = take(&mut buffer) {
        assert!(batch.body_bytes() <= 20 << 10);
        items += batch.items();
        requests += 1;
        buffer.acknowledged(batch, 0);
    }
    assert_eq!(items, 100);
    assert!(requests >= 5, "{requests}");
}

#[test]
fn shutdown_drops_what_waits() {
    let mut buffer = Buffer::new(1 << 20, 1 << 20);
    push(&mut buffer, 3, 10);
    buffer.push(Signal::Logs, 2, Bytes::from_static(b""), NOW);
    assert_eq!(buffer.drop_all(), 5);
    assert_eq!(buffer.ledger().account(Signal::Logs).shutdown, 2);
    assert!(buffer.ledger().balances());
    assert_eq!(buffer.bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize, usize),
    Take(usize),
    Acknowledge(u64),
    PutBack,
    Refuse,
    Reject,
    TooLarge,
    DropAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize, 1..6usize, 0..400usize).prop_map(|(signal, items, bytes)| Step::Push(signal, items, bytes)),
        4 => (0..3usize).prop_map(Step::Take),
        2 => (0..8u64).prop_map(Step::Acknowledge),
        2 => Just(Step::PutBack),
        1 => Just(Step::Refuse),
        1 => Just(Step::Reject),
        1 => Just(Step::TooLarge),
        1 => Just(Step::DropAll),
    ]
}

proptest! {
    #[test]
    fn the_ledger_balances_and_the_bound_holds_after_every_step(steps in prop::collection::vec(step(), 1..200)) {
        let mut buffer = Buffer::new(4000, 1500);
        let mut flying: VecDeque<Batch> = VecDeque::new();
        for step in steps {
            match step {
                Step::Push(signal, items, bytes) => {
                    // Only requests for spans are well-formed here; the buffer does not look inside of others.
                    let signal = Signal::ALL[signal];
                    buffer.push(signal, items as u64, request(items, bytes), NOW);
                }
                Step::Take(signal) => flying.extend(buffer.take(Signal::ALL[signal], NO_MARK)),
                other => {
                    if let Some(batch) = flying.pop_front() {
                        match other {
                            Step::Acknowledge(rejected) => buffer.acknowledged(batch, rejected),
                            Step::Refuse => { buffer.refused(batch); }
                            Step::Reject => buffer.rejected(batch),
                            Step::TooLarge => { buffer.too_large(batch); }
                            _ => buffer.put_back(batch),
                        }
                    } else if matches!(other, Step::DropAll) {
                        buffer.drop_all();
                    }
                }
            }
            prop_assert!(buffer.ledger().balances());
            prop_assert!(buffer.bytes() <= 4000);
            let in_flight: u64 = Signal::ALL.iter().map(|signal| buffer.ledger().account(*signal).in_flight).sum();
            prop_assert_eq!(in_flight, flying.iter().map(Batch::items).sum::<u64>());
            for queue in &buffer.queues {
                prop_assert!(queue.iter().is_sorted_by_key(|entry| entry.sequence));
            }
            let waiting: usize = buffer.queues.iter().flatten().map(Entry::cost).sum();
            prop_assert_eq!(waiting, buffer.waiting_bytes.iter().sum::<usize>());
        }
    }
}
