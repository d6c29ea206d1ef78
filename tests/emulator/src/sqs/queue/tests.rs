use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn draft(body: &str, group: Option<&str>) -> Draft {
    Draft {
        body: body.into(),
        group: group.map(str::to_owned),
        ..Draft::default()
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message.body.as_str())
        .collect()
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment {
        wall: now.wall + by,
        mono: now.mono + by,
    }
}

#[test]
fn a_received_message_is_hidden_until_its_time_is_over_or_it_is_deleted() {
    let mut queue = Queue::new(QueueSpec::new("q").visibility_timeout(SECOND));
    let now = Moment::now();
    queue.send(draft("a", None), now);
    let (taken, _) = queue.receive(10, None, now);
    assert_eq!(taken[0].receive_count, 1);
    assert!(queue.receive(10, None, now).0.is_empty());
    assert_eq!(queue.counts(now.mono), (0, 1, 0));
    assert_eq!(queue.next_visible(now.mono), Some(now.mono + SECOND));
    let (again, _) = queue.receive(10, None, later(now, SECOND));
    assert_eq!(again[0].receive_count, 2);
    assert_eq!(again[0].first_received, Some(now));
    let old = taken[0].receipt_handle.clone().unwrap();
    assert_eq!(
        queue.delete(&old).unwrap(),
        None,
        "an old handle deletes nothing"
    );
    let handle = again[0].receipt_handle.clone().unwrap();
    assert_eq!(queue.delete(&handle).unwrap(), Some(again[0].id.clone()));
    assert!(queue.delete("nonsense").is_err());
    assert!(queue.messages().is_empty());
}

#[test]
fn what_was_received_too_often_is_moved_with_its_id_and_count() {
    let mut queue = Queue::new(
        QueueSpec::new("q")
            .visibility_timeout(SECOND)
            .redrive("dlq", 2),
    );
    let mut now = Moment::now();
    let (id, ..) = queue.send(draft("a", None), now);
    for _ in 0..2 {
        let (taken, moved) = queue.receive(10, None, now);
        assert_eq!((taken.len(), moved.len()), (1, 0));
        now = later(now, SECOND);
    }
    let (taken, moved) = queue.receive(10, None, now);
    assert!(taken.is_empty());
    assert_eq!(
        (moved[0].to.as_str(), moved[0].message.id.as_str()),
        ("dlq", id.as_str())
    );
    assert_eq!(
        moved[0].message.dead_letter_source.as_deref(),
        Some("arn:aws:sqs:us-east-1:123456789012:q")
    );
    let mut dead = Queue::new(QueueSpec::new("dlq"));
    dead.put_dead(moved.into_iter().next().unwrap().message);
    assert_eq!(dead.receive(1, None, now).0[0].receive_count, 3);
}

#[test]
fn a_redriven_message_is_a_new_one() {
    let now = Moment::now();
    let mut queue = Queue::new(QueueSpec::new("dlq"));
    queue.send(draft("a", None), now);
    let old = queue.take_all().remove(0);
    let mut target = Queue::new(QueueSpec::new("q"));
    target.put_redriven(old.clone(), later(now, SECOND));
    let new = &target.messages()[0];
    assert_eq!((new.body.as_str(), new.receive_count), ("a", 0));
    assert_ne!(new.id, old.id);
    assert!(new.sent > old.sent);
}

#[test]
fn fifo_groups_are_locked_in_flight_and_keep_their_order() {
    let mut queue = Queue::new(QueueSpec::new("q.fifo").visibility_timeout(SECOND));
    let now = Moment::now();
    for (body, group) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
        queue.send(draft(body, Some(group)), now);
    }
    let (first, _) = queue.receive(1, None, now);
    assert_eq!(bodies(&first), ["a1"]);
    assert_eq!(
        bodies(&queue.receive(10, None, now).0),
        ["b1"],
        "group a is locked"
    );
    queue
        .delete(first[0].receipt_handle.as_deref().unwrap())
        .unwrap();
    assert_eq!(
        bodies(&queue.receive(10, None, now).0),
        ["a2", "a3"],
        "one batch may hold a whole group"
    );
    assert_eq!(
        bodies(&queue.receive(10, None, later(now, SECOND)).0),
        ["a2", "b1", "a3"]
    );
    let numbers: Vec<_> = queue
        .messages()
        .iter()
        .map(|message| message.sequence.clone().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers.iter().all(|number| number.len() == 20));
}

#[test]
fn standard_queues_do_not_lock_fair_groups() {
    let mut queue = Queue::new(QueueSpec::new("q"));
    let now = Moment::now();
    for body in ["1", "2"] {
        queue.send(draft(body, Some("tenant")), now);
    }
    assert_eq!(bodies(&queue.receive(1, None, now).0), ["1"]);
    assert_eq!(bodies(&queue.receive(1, None, now).0), ["2"]);
}

#[test]
fn deduplication_lasts_five_minutes() {
    let mut queue = Queue::new(QueueSpec::new("q.fifo"));
    let now = Moment::now();
    let same = || Draft {
        deduplication_id: Some("d".into()),
        ..draft("a", Some("g"))
    };
    let (id, sequence, new) = queue.send(same(), now);
    assert!(new);
    assert_eq!(
        queue.send(same(), later(now, DEDUPLICATION - SECOND)),
        (id, sequence, false)
    );
    assert!(queue.send(same(), later(now, DEDUPLICATION)).2);
    assert_eq!(queue.messages().len(), 2);
}

#[test]
fn visibility_can_be_changed_while_in_flight_only() {
    let mut queue = Queue::new(QueueSpec::new("q").visibility_timeout(SECOND));
    let now = Moment::now();
    queue.send(draft("a", None), now);
    let handle = queue.receive(1, None, now).0[0]
        .receipt_handle
        .clone()
        .unwrap();
    queue
        .change_visibility(&handle, Duration::ZERO, now)
        .unwrap();
    assert_eq!(
        queue.change_visibility(&handle, SECOND, now),
        Err(Refusal::not_in_flight())
    );
    assert_eq!(queue.receive(1, None, now).0.len(), 1);
}

#[test]
fn nothing_is_lost_or_doubled_whatever_the_order_of_calls() {
    // A small deterministic generator; the seed repeats a failure.
    for seed in 0..50_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut queue = Queue::new(
            QueueSpec::new("q.fifo")
                .visibility_timeout(SECOND)
                .redrive("dlq.fifo", 3),
        );
        let mut now = Moment::now();
        let (mut sent, mut deleted, mut dead) = (0, 0, 0);
        let mut handles = Vec::new();
        for _ in 0..300 {
            match random(4) {
                0 => {
                    let group = ["a", "b", "c"][random(3)];
                    queue.send(draft(&sent.to_string(), Some(group)), now);
                    sent += 1;
                }
                1 => {
                    let (taken, moved) = queue.receive(random(10) + 1, None, now);
                    dead += moved.len();
                    let mut last: HashMap<String, usize> = HashMap::new();
                    for message in &taken {
                        let number: usize = message.body.parse().unwrap();
                        let before = last.insert(message.group.clone().unwrap(), number);
                        assert!(
                            before.is_none_or(|before| before < number),
                            "order, seed {seed}"
                        );
                    }
                    handles.extend(
                        taken
                            .into_iter()
                            .filter_map(|message| message.receipt_handle),
                    );
                }
                2 if !handles.is_empty() => {
                    let handle = handles.swap_remove(random(handles.len()));
                    deleted += usize::from(queue.delete(&handle).unwrap().is_some());
                }
                _ => now = later(now, SECOND / 2),
            }
            assert_eq!(queue.messages().len() + deleted + dead, sent, "seed {seed}");
        }
    }
}
