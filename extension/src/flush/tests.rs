use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::ledger::Account;

/// What the scripted upstream does with one request.
#[derive(Clone, Debug)]
enum Answer {
    Is(Outcome),
    Hangs,
    Panics,
    /// Refuses a request that holds this byte.
    RefusesIf(u8),
    /// Takes requests up to this size only.
    TakesUpTo(usize),
}

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Option<Answer>>,
    requests: AtomicUsize,
    taken: Mutex<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
struct Scripted(Arc<Script>);

const ACCEPTED: Outcome = Outcome::Accepted {
    rejected: 0,
    message: String::new(),
};

fn retryable(after: Option<Duration>) -> Outcome {
    Outcome::Retryable {
        status: "503".into(),
        after,
    }
}

impl Scripted {
    fn with(answers: impl IntoIterator<Item = Answer>) -> Self {
        let scripted = Self::default();
        scripted.0.answers.lock().unwrap().extend(answers);
        scripted
    }

    fn otherwise(self, answer: Answer) -> Self {
        *self.0.otherwise.lock().unwrap() = Some(answer);
        self
    }

    fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }
}

impl Transport for Scripted {
    async fn send(&self, _: Signal, chunks: Vec<Bytes>) -> Outcome {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let otherwise = self.0.otherwise.lock().unwrap().clone();
        let answer = self
            .0
            .answers
            .lock()
            .unwrap()
            .pop_front()
            .or(otherwise)
            .unwrap_or(Answer::Is(ACCEPTED));
        let body = chunks.concat();
        let outcome = match answer {
            Answer::Is(outcome) => outcome,
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("scripted"),
            Answer::RefusesIf(byte) if body.contains(&byte) => Outcome::Refused {
                status: "400".into(),
                message: "poison".into(),
            },
            Answer::TakesUpTo(bytes) if body.len() > bytes => Outcome::TooLarge,
            Answer::RefusesIf(_) | Answer::TakesUpTo(_) => ACCEPTED,
        };
        if outcome == ACCEPTED {
            self.0.taken.lock().unwrap().extend(body);
        }
        outcome
    }

    async fn warm(&self, _: Signal) {}
}

/// A request with that many spans, each with the padding.
fn request(spans: usize, padding: &[u8]) -> Bytes {
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    };
    let scope = field(2, &field(5, padding)).repeat(spans);
    Bytes::from(field(1, &field(2, &scope)))
}

struct Setup {
    exporter: Exporter<Scripted>,
    upstream: Scripted,
}

impl Setup {
    fn new(upstream: Scripted) -> Self {
        let buffer = Arc::new(Mutex::new(Buffer::new(8 << 20, REQUEST_BYTES_MAX)));
        Self {
            exporter: Exporter::new(buffer, upstream.clone()),
            upstream,
        }
    }

    fn push(&self, spans: usize, padding: &[u8]) {
        self.exporter.buffer().push(
            Signal::Traces,
            spans as u64,
            request(spans, padding),
            unix_now(),
        );
    }

    fn account(&self) -> Account {
        let buffer = self.exporter.buffer();
        assert!(buffer.ledger().balances());
        *buffer.ledger().account(Signal::Traces)
    }

    async fn export(&mut self) -> Event {
        self.exporter.export(Purpose::End, [true; 3]);
        self.exporter.step().await
    }
}

fn traces(verdict: Result<(), Failure>) -> Event {
    Event::Exported([Some(verdict), None, None])
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_and_acknowledged() {
    let mut setup = Setup::new(Scripted::default());
    setup.push(3, b"a");
    setup.push(4, b"b");
    assert_eq!(setup.export().await, traces(Ok(())));
    assert_eq!(setup.upstream.requests(), 1, "two requests are merged");
    assert_eq!((setup.account().exported, setup.account().received), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn an_export_of_nothing_is_over_at_once() {
    let mut setup = Setup::new(Scripted::default());
    assert_eq!(setup.export().await, Event::Exported([None; 3]));
}

#[tokio::test(start_paused = true)]
async fn what_arrives_during_the_flush_is_not_waited_for() {
    let mut setup = Setup::new(Scripted::default());
    setup.push(1, b"a");
    setup.exporter.export(Purpose::End, [true; 3]);
    setup.push(2, b"b");
    assert_eq!(setup.exporter.step().await, traces(Ok(())));
    assert_eq!((setup.account().exported, setup.account().buffered), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn one_503_is_tried_again_and_two_are_a_failure() {
    let mut setup = Setup::new(Scripted::with([Answer::Is(retryable(None))]));
    setup.push(1, b"a");
    assert_eq!(setup.export().await, traces(Ok(())));
    assert_eq!(setup.upstream.requests(), 2);

    let mut setup = Setup::new(Scripted::default().otherwise(Answer::Is(retryable(None))));
    setup.push(1, b"a");
    assert_eq!(
        setup.export().await,
        traces(Err(Failure::Answered { after: None }))
    );
    assert_eq!(setup.upstream.requests(), 2);
    assert_eq!(setup.account().buffered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_is_left_to_the_breaker() {
    let after = Some(Duration::from_secs(3));
    let mut setup = Setup::new(Scripted::default().otherwise(Answer::Is(retryable(after))));
    setup.push(1, b"a");
    assert_eq!(
        setup.export().await,
        traces(Err(Failure::Answered { after }))
    );
    assert_eq!(setup.upstream.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn cancelled_requests_are_back_in_their_place() {
    let mut setup = Setup::new(Scripted::with([Answer::Hangs]));
    setup.push(5, b"a");
    setup.exporter.export(Purpose::End, [true; 3]);
    let waited = tokio::time::timeout(Duration::from_secs(1), setup.exporter.step()).await;
    assert!(waited.is_err());
    assert_eq!(setup.account().in_flight, 5);
    setup.exporter.cancel();
    assert_eq!(
        (setup.account().in_flight, setup.account().buffered),
        (0, 5)
    );
    assert_eq!(setup.export().await, traces(Ok(())));
    assert_eq!(setup.account().exported, 5);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_not_waited_for_and_survives_a_cancel() {
    let mut setup = Setup::new(Scripted::with([Answer::Hangs]));
    setup.push(1, b"a");
    setup.exporter.probe([true, false, false]);
    tokio::task::yield_now().await;
    setup.push(2, b"b");
    assert_eq!(setup.export().await, traces(Ok(())));
    setup.exporter.cancel();
    assert_eq!(setup.account().in_flight, 1);
    let mut facts = Facts::default();
    setup.exporter.fill_facts(&mut facts);
    assert_eq!(
        (facts.probing, facts.in_flight),
        ([true, false, false], [false; 3])
    );
    setup.exporter.recall();
    assert_eq!(setup.account().buffered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_tells_its_own_result() {
    let mut setup = Setup::new(Scripted::with([Answer::Is(retryable(None))]));
    setup.push(1, b"a");
    setup.exporter.probe([true, false, false]);
    let failed = Err(Failure::Answered { after: None });
    assert_eq!(
        setup.exporter.step().await,
        Event::Probed(Signal::Traces, failed)
    );
    assert_eq!(setup.upstream.requests(), 1, "a probe is one request");
    assert_eq!(setup.account().buffered, 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_poisoned_request_is_rejected() {
    let mut setup = Setup::new(Scripted::default().otherwise(Answer::RefusesIf(b'!')));
    for number in 0..20 {
        setup.push(2, if number == 13 { b"!" } else { b"a" });
    }
    assert_eq!(setup.export().await, traces(Ok(())));
    let account = setup.account();
    assert_eq!((account.exported, account.rejected), (38, 2));
    assert!(
        setup.upstream.requests() <= 11,
        "{}",
        setup.upstream.requests()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_path_rejects_everything_without_a_search() {
    let refused = Outcome::Refused {
        status: "404".into(),
        message: String::new(),
    };
    let mut setup = Setup::new(Scripted::default().otherwise(Answer::Is(refused)));
    for _ in 0..20 {
        setup.push(1, b"a");
    }
    setup.export().await;
    assert_eq!(
        (setup.upstream.requests(), setup.account().rejected),
        (1, 20)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_goes_in_parts() {
    let mut setup = Setup::new(Scripted::default().otherwise(Answer::TakesUpTo(3000)));
    for _ in 0..3 {
        setup.push(10, &[b'a'; 500]);
    }
    setup.push(1, &[b'b'; 3001]);
    assert_eq!(setup.export().await, traces(Ok(())));
    let account = setup.account();
    assert_eq!((account.exported, account.too_large), (30, 1));
}

#[tokio::test(start_paused = true)]
async fn rejected_spans_of_a_partial_success_are_counted() {
    let partial = Outcome::Accepted {
        rejected: 2,
        message: "quota".into(),
    };
    let mut setup = Setup::new(Scripted::with([Answer::Is(partial)]));
    setup.push(5, b"a");
    assert_eq!(setup.export().await, traces(Ok(())));
    assert_eq!((setup.account().exported, setup.account().rejected), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_not_the_spans_fault() {
    let unauthorized = Outcome::Unauthorized {
        status: "401".into(),
    };
    let mut setup = Setup::new(Scripted::with([Answer::Is(unauthorized)]));
    setup.push(5, b"a");
    assert_eq!(
        setup.export().await,
        traces(Err(Failure::Answered { after: None }))
    );
    assert_eq!(setup.account().buffered, 5);
    assert!(setup.exporter.failure(Signal::Traces).contains("401"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_request_and_no_span() {
    let mut setup = Setup::new(Scripted::with([Answer::Panics]));
    setup.push(5, b"a");
    assert!(matches!(
        setup.export().await,
        Event::Exported([Some(Err(_)), None, None])
    ));
    assert_eq!(setup.account().buffered, 5);
    assert_eq!(setup.export().await, traces(Ok(())));
    assert_eq!(setup.account().exported, 5);
}

#[tokio::test(start_paused = true)]
async fn several_requests_are_in_flight_at_once_but_not_more_than_the_bound() {
    let mut setup = Setup::new(Scripted::default().otherwise(Answer::Hangs));
    for _ in 0..6 {
        setup.push(1, &vec![b'a'; 900 << 10]);
    }
    setup.exporter.export(Purpose::Drain, [true; 3]);
    let _ = tokio::time::timeout(Duration::from_secs(1), setup.exporter.step()).await;
    assert_eq!(setup.upstream.requests(), FLIGHTS_MAX);
    setup.exporter.cancel();
    assert_eq!(setup.account().buffered, 6);
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Is(ACCEPTED)),
        1 => (0..9u64).prop_map(|rejected| Answer::Is(Outcome::Accepted { rejected, message: String::new() })),
        1 => Just(Answer::Is(retryable(None))),
        1 => Just(Answer::Is(retryable(Some(Duration::from_secs(9))))),
        1 => Just(Answer::Is(Outcome::TooLarge)),
        1 => Just(Answer::Is(Outcome::Refused { status: "400".into(), message: String::new() })),
        1 => Just(Answer::Is(Outcome::Lost { why: String::new() })),
        1 => Just(Answer::Is(Outcome::Unreachable { why: String::new() })),
        1 => Just(Answer::Hangs),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_silently_whatever_upstream_answers(
        answers in prop::collection::vec(answer(), 0..30),
        pushes in prop::collection::vec((1..5usize, 0..3000usize), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut setup = Setup::new(Scripted::with(answers));
            let mut received = 0;
            for (spans, bytes) in pushes {
                received += spans as u64;
                setup.push(spans, &vec![b'a'; bytes]);
                setup.exporter.export(Purpose::Background, [true; 3]);
                let _ = tokio::time::timeout(Duration::from_millis(100), setup.exporter.step()).await;
                setup.account();
            }
            setup.exporter.recall();
            // Upstream is well again: what is left goes, and every span is accounted for.
            setup.upstream.0.answers.lock().unwrap().clear();
            while setup.account().buffered > 0 {
                let _ = setup.export().await;
            }
            let account = setup.account();
            prop_assert_eq!(account.received, received);
            prop_assert_eq!(account.exported + account.rejected + account.too_large, received);
            Ok(())
        })?;
    }
}
