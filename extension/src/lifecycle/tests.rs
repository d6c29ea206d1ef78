//! The table of every state against every event, and the rules by name.

use std::fmt::Write as _;

use super::*;
use crate::breaker::Failure;

const NOW: Duration = Duration::from_secs(1_000_000);
const NO: SignalSet = [false; 3];
const TRACES: SignalSet = [true, false, false];

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The sandbox of a test: a lifecycle and a clock.
struct Play {
    lifecycle: Lifecycle,
    facts: Facts,
}

impl Play {
    fn new() -> Self {
        Self::with(Strategy::End, false)
    }

    fn with(strategy: Strategy, managed_instances: bool) -> Self {
        let settings = Settings {
            flush_timeout: millis(1000),
            strategy,
            managed_instances,
        };
        let facts = Facts {
            unix: NOW,
            ..Facts::default()
        };
        Self {
            lifecycle: Lifecycle::new(settings),
            facts,
        }
    }

    fn hello(mut self) -> Self {
        self.on(Event::Hello);
        self
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.lifecycle.on(&event, &self.facts)
    }

    fn pass(&mut self, time: Duration) {
        self.facts.elapsed += time;
        self.facts.unix += time;
    }

    /// INVOKE with three seconds.
    fn invoke(&mut self, request: &str) -> Vec<Action> {
        let deadline_ms = u64::try_from(self.facts.unix.as_millis()).unwrap() + 3000;
        self.on(Event::Invoke {
            request: request.into(),
            deadline_ms,
        })
    }

    fn shutdown(&mut self) -> Vec<Action> {
        let deadline_ms = u64::try_from(self.facts.unix.as_millis()).unwrap() + 2000;
        self.on(Event::Shutdown { deadline_ms })
    }

    fn complete(&mut self, request: &str) -> Vec<Action> {
        self.on(Event::Complete {
            request: request.into(),
        })
    }

    fn runtime_done(&mut self, request: &str) -> Vec<Action> {
        let time = Some(self.facts.unix);
        self.on(Event::RuntimeDone {
            request: request.into(),
            success: true,
            time,
        })
    }

    /// Spans are in the buffer.
    fn spans(&mut self) -> Vec<Action> {
        self.facts.waiting_bytes[0] = 1000;
        self.on(Event::Arrival)
    }

    /// The export has sent everything.
    fn exported(&mut self, verdict: Result<(), Failure>) -> Vec<Action> {
        self.facts.in_flight = NO;
        self.facts.exporting = None;
        self.facts.waiting_bytes[0] = if verdict.is_ok() { 0 } else { 1000 };
        self.on(Event::Exported([Some(verdict), None, None]))
    }

    fn in_flight(&mut self, purpose: Purpose) {
        self.facts.waiting_bytes[0] = 0;
        self.facts.in_flight = TRACES;
        self.facts.exporting = Some(purpose);
        self.facts.flying_since = Some(self.facts.unix);
    }

    /// Passes the time until the next wake-up and ticks.
    fn tick(&mut self) -> Vec<Action> {
        let at = self.lifecycle.wake_at().expect("a timer is set");
        self.pass(at.saturating_sub(self.facts.elapsed));
        self.on(Event::Tick)
    }

    fn is_waiting(&self) -> bool {
        matches!(self.lifecycle.state(), State::Waiting { .. })
    }
}

const FAILED: Result<(), Failure> = Err(Failure::Answered { after: None });
const FLUSH: Action = Action::Export(Purpose::End, TRACES);
const BACKGROUND: Action = Action::Export(Purpose::Background, TRACES);

// === The table ===

/// Every state that differs, with how to get there. Spans wait in each of them.
fn states() -> Vec<(&'static str, Play)> {
    let begin = |hello: bool| {
        let mut play = Play::new();
        if hello {
            play.on(Event::Hello);
        }
        play
    };
    let mut states = Vec::new();
    states.push(("Waiting, before the first INVOKE", begin(false)));
    let mut play = begin(true);
    play.invoke("current");
    play.complete("current");
    states.push(("Waiting, after an end that was seen", play));
    let mut play = begin(false);
    play.invoke("current");
    states.push(("Waiting, blind", play));
    let mut play = begin(false);
    play.on(Event::Subscribed { accepted: true });
    play.invoke("current");
    states.push(("Invoking, for proof", play));
    let mut play = begin(true);
    play.invoke("current");
    states.push(("Invoking, until its end", play));
    let mut play = begin(true);
    play.invoke("current");
    play.facts.waiting_bytes[0] = 1000;
    play.complete("current");
    play.in_flight(Purpose::End);
    states.push(("Flushing", play));
    let mut play = begin(true);
    play.facts.waiting_bytes[0] = 1000;
    play.shutdown();
    play.in_flight(Purpose::Drain);
    states.push(("Draining", play));
    let mut play = begin(true);
    play.shutdown();
    states.push(("Exited", play));
    for (_, play) in &mut states {
        play.pass(millis(10));
        play.facts.waiting_bytes[0] = 1000;
    }
    states
}

fn events() -> Vec<(&'static str, Event)> {
    let done = |request: &str, success| Event::RuntimeDone {
        request: request.into(),
        success,
        time: Some(NOW * 2),
    };
    let deadline_ms = u64::try_from(NOW.as_millis()).unwrap() + 3000;
    vec![
        (
            "INVOKE",
            Event::Invoke {
                request: "next".into(),
                deadline_ms,
            },
        ),
        (
            "INVOKE, deadline 0",
            Event::Invoke {
                request: "next".into(),
                deadline_ms: 0,
            },
        ),
        (
            "SHUTDOWN",
            Event::Shutdown {
                deadline_ms: deadline_ms - 1000,
            },
        ),
        ("unknown event", Event::Unknown),
        ("subscription taken", Event::Subscribed { accepted: true }),
        (
            "subscription refused",
            Event::Subscribed { accepted: false },
        ),
        ("hello", Event::Hello),
        (
            "complete of current",
            Event::Complete {
                request: "current".into(),
            },
        ),
        (
            "complete of another",
            Event::Complete {
                request: "another".into(),
            },
        ),
        ("runtimeDone of current", done("current", true)),
        ("runtimeDone of current, failed", done("current", false)),
        ("runtimeDone of another", done("another", true)),
        ("other telemetry", Event::Telemetry),
        ("arrival", Event::Arrival),
        ("large arrival", Event::Arrival),
        ("exported", Event::Exported([Some(Ok(())), None, None])),
        ("export failed", Event::Exported([Some(FAILED), None, None])),
        ("probe taken", Event::Probed(Signal::Traces, Ok(()))),
        ("probe failed", Event::Probed(Signal::Traces, FAILED)),
        ("tick", Event::Tick),
    ]
}

/// Answers to `/next` come only while it is being asked.
fn cannot_happen(state: &str, event: &str) -> bool {
    let answer_to_next =
        event.starts_with("INVOKE") || event == "SHUTDOWN" || event == "unknown event";
    let subscribing = event.starts_with("subscription");
    answer_to_next && !state.starts_with("Waiting")
        || subscribing && state != "Waiting, before the first INVOKE"
        || state == "Exited"
}

fn table() -> String {
    let mut text = String::from(
        "Every state against every event; spans wait in each. Times are since the process began.\n\
         Written by the test `the_table`; UPDATE_SNAPSHOTS=1 writes it anew.\n",
    );
    for (index, (state, _)) in states().iter().enumerate() {
        let _ = writeln!(text, "\n{state}");
        for (name, event) in events() {
            let (_, mut play) = states().swap_remove(index);
            match name {
                "large arrival" => play.facts.waiting_bytes[0] = EARLY_BYTES,
                "tick" => {
                    let at = play.lifecycle.wake_at();
                    play.pass(at.map_or(Duration::ZERO, |at| at - play.facts.elapsed));
                }
                "exported" | "export failed" => {
                    (play.facts.in_flight, play.facts.exporting) = (NO, None);
                }
                _ => {}
            }
            let actions = play.on(event);
            let never = if cannot_happen(state, name) {
                "  [cannot happen]"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "  {name:<31} {:<44} {}{never}",
                show(play.lifecycle.state()),
                show_all(&actions)
            );
        }
    }
    text
}

fn show(state: &State) -> String {
    match state {
        State::Waiting { blind } => format!("Waiting{}", if *blind { ", blind" } else { "" }),
        State::Invoking(invocation) => format!(
            "Invoking {} until {:?}",
            invocation.request, invocation.until
        ),
        other => format!("{other:?}"),
    }
}

fn show_all(actions: &[Action]) -> String {
    let one = |action: &Action| match action {
        Action::Export(purpose, _) => format!("Export for {purpose:?}"),
        Action::Probe(_) => "Probe".into(),
        other => format!("{other:?}"),
    };
    if actions.is_empty() {
        "-".into()
    } else {
        actions.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lifecycle/table.txt");
    let table = table();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    for (line, (known, now)) in known.lines().zip(table.lines()).enumerate() {
        assert_eq!(known, now, "line {} of src/lifecycle/table.txt", line + 1);
    }
    assert_eq!(known.len(), table.len());
}

// === Rule 1: hold only while an end signal is proven alive ===

#[test]
fn with_the_wrapper_complete_ends_the_invocation() {
    let mut play = Play::new().hello();
    assert_eq!(play.invoke("r"), [Action::Warm]);
    assert_eq!(play.spans(), []);
    assert_eq!(play.complete("r"), [FLUSH]);
    assert_eq!(play.exported(Ok(())), [Action::Next]);
    assert!(play.is_waiting());
}

#[test]
fn complete_may_come_before_its_invoke() {
    let mut play = Play::new().hello();
    play.facts.waiting_bytes[0] = 1000;
    assert_eq!(play.complete("r"), []);
    assert_eq!(play.invoke("r"), [Action::Warm, BACKGROUND, FLUSH]);
    // It was used up: the next invocation waits for its own.
    play.exported(Ok(()));
    assert_eq!(play.invoke("s"), [Action::Warm]);
}

#[test]
fn an_early_complete_of_another_request_is_dropped_at_the_next_invoke() {
    let mut play = Play::new().hello();
    play.complete("s");
    assert_eq!(play.invoke("r"), [Action::Warm]);
    play.complete("r");
    assert_eq!(play.invoke("s"), [Action::Warm]);
    assert!(!play.is_waiting());
}

#[test]
fn no_more_than_sixteen_early_completes_are_kept() {
    let mut play = Play::new();
    for number in 0..1000 {
        play.complete(&format!("r{number}"));
    }
    assert_eq!(play.lifecycle.early.len(), 16);
}

#[test]
fn telemetry_that_was_heard_ends_the_invocation() {
    let mut play = Play::new();
    play.on(Event::Subscribed { accepted: true });
    play.on(Event::Telemetry);
    assert_eq!(play.invoke("r"), [Action::Warm]);
    play.spans();
    assert_eq!(play.runtime_done("older"), []);
    assert_eq!(play.runtime_done("r"), [FLUSH]);
}

#[test]
fn a_silent_subscription_gets_250_ms_of_the_first_invocation_only() {
    let mut play = Play::new();
    play.on(Event::Subscribed { accepted: true });
    assert_eq!(play.invoke("r"), [Action::Warm]);
    let begun = play.facts.elapsed;
    assert_eq!(play.tick(), [Action::Next]);
    assert_eq!(play.facts.elapsed - begun, millis(250));
    assert_eq!(play.invoke("s"), [Action::Warm, Action::Next]);
}

#[test]
fn a_subscription_that_speaks_in_time_holds_the_first_invocation() {
    let mut play = Play::new();
    play.on(Event::Subscribed { accepted: true });
    play.invoke("r");
    play.pass(millis(249));
    play.on(Event::Telemetry);
    play.pass(millis(1000));
    assert_eq!(play.on(Event::Tick), []);
    play.spans();
    assert_eq!(play.runtime_done("r"), [FLUSH]);
}

#[test]
fn a_refused_subscription_gets_nothing() {
    let mut play = Play::new();
    play.on(Event::Subscribed { accepted: false });
    assert_eq!(play.invoke("r"), [Action::Warm, Action::Next]);
}

#[test]
fn a_lost_end_costs_one_held_invocation_and_the_next_is_not_held() {
    let mut play = Play::new();
    play.on(Event::Telemetry);
    play.invoke("r");
    let begun = play.facts.elapsed;
    assert_eq!(play.tick(), [Action::Next]);
    // 3 s less 10 %.
    assert_eq!(play.facts.elapsed - begun, millis(2700));
    assert_eq!(play.invoke("s"), [Action::Warm, Action::Next]);
    // platform.start alone is not the signal that was lost.
    play.on(Event::Telemetry);
    assert_eq!(play.invoke("t"), [Action::Warm, Action::Next]);
    play.runtime_done("t");
    assert_eq!(play.invoke("u"), [Action::Warm]);
}

#[test]
fn a_signal_that_is_always_late_costs_less_and_less() {
    let mut play = Play::new();
    play.on(Event::Telemetry);
    let mut held = 0;
    for number in 0..100 {
        play.invoke(&format!("r{number}"));
        if !play.is_waiting() {
            held += 1;
            play.tick();
        }
        play.runtime_done(&format!("r{number}"));
    }
    assert!(
        held <= 4,
        "{held} of 100 were held to the end of their time"
    );
}

#[test]
fn hello_makes_the_wrapper_believed_again() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.tick();
    assert_eq!(play.invoke("s"), [Action::Warm, Action::Next]);
    play.on(Event::Hello);
    assert_eq!(play.invoke("t"), [Action::Warm]);
}

#[test]
fn a_nonsense_deadline_holds_only_with_the_wrapper() {
    let unix = u64::try_from(NOW.as_millis()).unwrap();
    for deadline_ms in [0, 600_000, unix, unix - 1, unix + 7_200_001, u64::MAX] {
        let event = Event::Invoke {
            request: "r".into(),
            deadline_ms,
        };
        let mut play = Play::new();
        play.on(Event::Telemetry);
        assert_eq!(
            play.on(event.clone()),
            [Action::Warm, Action::Next],
            "{deadline_ms}"
        );
        let mut play = Play::new().hello();
        assert_eq!(play.on(event), [Action::Warm], "{deadline_ms}");
        assert_eq!(play.lifecycle.wake_at(), Some(millis(899_500)));
    }
    // Two hours are the last that is believed: less 500 ms.
    let mut play = Play::new().hello();
    play.on(Event::Invoke {
        request: "r".into(),
        deadline_ms: unix + 7_200_000,
    });
    assert_eq!(play.lifecycle.wake_at(), Some(millis(7_199_500)));
}

#[test]
fn the_runtime_done_of_an_earlier_try_of_the_same_request_ends_nothing() {
    let mut play = Play::new().hello();
    play.invoke("r");
    let first = play.facts.unix;
    play.complete("r");
    play.pass(Duration::from_secs(60));
    // The asynchronous retry has the same id.
    play.invoke("r");
    play.spans();
    let late = Event::RuntimeDone {
        request: "r".into(),
        success: true,
        time: Some(first),
    };
    assert_eq!(play.on(late), []);
    assert_eq!(play.runtime_done("r"), [FLUSH]);
}

#[test]
fn a_function_that_is_done_before_we_see_its_invoke_is_not_held() {
    let mut play = Play::new();
    play.on(Event::Telemetry);
    play.invoke("r");
    play.spans();
    let before = Some(play.facts.unix - millis(3));
    let done = Event::RuntimeDone {
        request: "r".into(),
        success: true,
        time: before,
    };
    assert_eq!(play.on(done), [FLUSH]);
}

// === Rule 2: budgets ===

#[test]
fn a_flush_ends_with_its_budget() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.complete("r");
    play.in_flight(Purpose::End);
    let begun = play.facts.elapsed;
    assert_eq!(play.tick(), [Action::Cancel, Action::Next]);
    assert_eq!(play.facts.elapsed - begun, millis(1000));
}

#[test]
fn near_the_deadline_the_budget_is_what_is_left() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.pass(millis(2650));
    play.complete("r");
    // hard_stop: 3 s less 3 %.
    assert_eq!(play.lifecycle.wake_at(), Some(millis(2910)));
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.pass(millis(2950));
    assert_eq!(play.complete("r"), [Action::Next]);
}

#[test]
fn after_a_failure_the_budget_is_half_a_second() {
    let mut play = Play::new();
    play.on(Event::Telemetry);
    play.invoke("r");
    play.spans();
    play.on(Event::RuntimeDone {
        request: "r".into(),
        success: false,
        time: None,
    });
    assert_eq!(play.lifecycle.wake_at(), Some(millis(500)));
}

#[test]
fn nothing_to_flush_holds_nothing() {
    let mut play = Play::new().hello();
    play.invoke("r");
    assert_eq!(play.complete("r"), [Action::Next]);
}

// === Rules 4 and 5: background ===

#[test]
fn blind_arrivals_are_exported_after_50_quiet_milliseconds() {
    let mut play = Play::new();
    play.invoke("r");
    assert_eq!(play.spans(), []);
    play.pass(millis(30));
    assert_eq!(play.spans(), []);
    let last = play.facts.elapsed;
    assert_eq!(play.tick(), [BACKGROUND]);
    assert_eq!(play.facts.elapsed - last, millis(50));
}

#[test]
fn blind_arrivals_without_a_pause_are_exported_all_the_same() {
    let mut play = Play::new();
    play.invoke("r");
    let begun = play.facts.elapsed;
    loop {
        play.spans();
        play.pass(millis(20));
        if play.on(Event::Tick) == [BACKGROUND] {
            break;
        }
        assert!(play.facts.elapsed - begun < Duration::from_secs(2));
    }
}

#[test]
fn late_spans_leave_at_once() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.complete("r");
    assert_eq!(play.spans(), [BACKGROUND]);
}

#[test]
fn what_a_freeze_cut_off_is_recalled_at_the_next_invoke() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.complete("r");
    play.spans();
    play.in_flight(Purpose::Background);
    play.pass(millis(5000));
    assert_eq!(play.invoke("s"), [Action::Recall, Action::Warm, BACKGROUND]);
    // Without a freeze in between it goes on.
    play.in_flight(Purpose::Background);
    play.pass(millis(10));
    play.complete("s");
    play.exported(Ok(()));
    play.in_flight(Purpose::Background);
    assert_eq!(play.invoke("t"), [Action::Warm]);
}

#[test]
fn large_buffers_leave_while_the_function_runs() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.facts.waiting_bytes[0] = EARLY_BYTES - 1;
    assert_eq!(play.on(Event::Arrival), []);
    play.facts.waiting_bytes[0] = EARLY_BYTES;
    assert_eq!(play.on(Event::Arrival), [BACKGROUND]);
}

#[test]
fn a_flush_waits_for_what_is_in_flight_already() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.in_flight(Purpose::Background);
    assert_eq!(play.complete("r"), [FLUSH]);
}

// === The breaker ===

#[test]
fn one_failed_answer_and_invocations_do_not_wait() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.complete("r");
    assert_eq!(play.exported(FAILED), [Action::Next]);
    // Too early for a probe.
    play.pass(millis(500));
    assert_eq!(play.invoke("s"), [Action::Warm]);
    assert_eq!(play.complete("s"), [Action::Next]);
    // A second later one runs beside the function, and its end does not wait for it.
    play.pass(millis(600));
    assert_eq!(play.invoke("t"), [Action::Warm, Action::Probe(TRACES)]);
    play.facts.probing = TRACES;
    assert_eq!(play.complete("t"), [Action::Next]);
}

#[test]
fn a_probe_that_is_taken_brings_the_rest_along() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.complete("r");
    play.exported(FAILED);
    play.pass(millis(1500));
    play.invoke("s");
    assert_eq!(play.on(Event::Probed(Signal::Traces, Ok(()))), [BACKGROUND]);
    assert_eq!(play.complete("s"), [FLUSH]);
}

#[test]
fn a_probe_that_a_freeze_cut_off_is_no_result() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.complete("r");
    play.exported(FAILED);
    play.pass(millis(1500));
    play.invoke("s");
    play.facts.probing = TRACES;
    play.facts.flying_since = Some(play.facts.unix);
    play.complete("s");
    play.pass(Duration::from_secs(100));
    assert_eq!(
        play.invoke("t"),
        [Action::Recall, Action::Warm, Action::Probe(TRACES)]
    );
}

#[test]
fn two_budgets_at_most_are_lost_to_a_silent_upstream() {
    let mut play = Play::new().hello();
    let mut lost = 0;
    for number in 0..50 {
        let request = format!("r{number}");
        play.invoke(&request);
        play.facts.probing = NO;
        play.spans();
        if play.complete(&request) == [FLUSH] {
            play.in_flight(Purpose::End);
            play.tick();
            lost += 1;
            play.facts.in_flight = NO;
            play.facts.exporting = None;
        }
        play.pass(millis(100));
    }
    assert_eq!(lost, 2);
}

#[test]
fn one_signal_s_dead_upstream_does_not_stop_the_others() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.facts.waiting_bytes = [1000, 1000, 0];
    assert_eq!(
        play.complete("r"),
        [Action::Export(Purpose::End, [true, true, false])]
    );
    play.facts.waiting_bytes = [0, 1000, 0];
    let verdicts = [Some(Ok(())), Some(Err(Failure::Unreachable)), None];
    assert_eq!(play.on(Event::Exported(verdicts)), [Action::Next]);
    play.invoke("s");
    play.facts.waiting_bytes = [1000, 1000, 0];
    assert_eq!(play.complete("s"), [FLUSH]);
}

// === Rule 6: Managed Instances ===

#[test]
fn managed_instances_export_by_age_and_size() {
    let mut play = Play::with(Strategy::End, true);
    assert_eq!(play.spans(), []);
    assert_eq!(play.lifecycle.wake_at(), Some(millis(1000)));
    play.pass(millis(600));
    assert_eq!(play.spans(), []);
    assert_eq!(play.tick(), [BACKGROUND]);
    assert_eq!(play.facts.elapsed, millis(1000));
    play.facts.waiting_bytes[0] = EARLY_BYTES;
    assert_eq!(play.on(Event::Arrival), [BACKGROUND]);
}

#[test]
fn managed_instances_probe_by_the_clock() {
    let mut play = Play::with(Strategy::End, true);
    play.spans();
    play.tick();
    play.exported(FAILED);
    assert_eq!(play.tick(), [Action::Probe(TRACES)]);
    assert_eq!(play.on(Event::Probed(Signal::Traces, FAILED)), []);
    assert_eq!(play.tick(), [Action::Probe(TRACES)]);
    assert_eq!(play.on(Event::Probed(Signal::Traces, Ok(()))), [BACKGROUND]);
}

// === Rule 8: SHUTDOWN ===

#[test]
fn shutdown_as_the_first_event_exits() {
    assert_eq!(Play::new().shutdown(), [Action::Exit]);
}

#[test]
fn shutdown_drains_within_its_bound() {
    let mut play = Play::new();
    play.facts.waiting_bytes[0] = 1000;
    assert_eq!(play.shutdown(), [Action::Export(Purpose::Drain, [true; 3])]);
    assert_eq!(play.lifecycle.wake_at(), Some(millis(1800)));
    assert_eq!(play.exported(Ok(())), [Action::Exit]);

    let mut play = Play::new();
    play.facts.waiting_bytes[0] = 1000;
    play.shutdown();
    assert_eq!(play.tick(), [Action::Cancel, Action::Exit]);
    assert_eq!(play.on(Event::Arrival), []);
}

#[test]
fn shutdown_tries_once_more_though_the_breaker_is_open_but_shortly() {
    let mut play = Play::new().hello();
    play.invoke("r");
    play.spans();
    play.complete("r");
    play.exported(FAILED);
    let begun = play.facts.elapsed;
    assert_eq!(play.shutdown(), [Action::Export(Purpose::Drain, [true; 3])]);
    assert_eq!(play.lifecycle.wake_at(), Some(begun + millis(500)));
}

#[test]
fn shutdown_keeps_its_own_deadline() {
    let mut play = Play::new();
    play.facts.waiting_bytes[0] = 1000;
    let unix = u64::try_from(NOW.as_millis()).unwrap();
    play.on(Event::Shutdown {
        deadline_ms: unix + 500,
    });
    assert_eq!(play.lifecycle.wake_at(), Some(millis(400)));
}

// === Rule 7 and the strategies ===

#[test]
fn an_unknown_event_is_followed_by_the_next_request() {
    assert_eq!(Play::new().on(Event::Unknown), [Action::Next]);
}

#[test]
fn adaptive_exports_beside_the_next_invocation_in_a_burst() {
    let mut play = Play::with(Strategy::Adaptive, false).hello();
    let mut kinds = Vec::new();
    for number in 0..6 {
        let request = format!("r{number}");
        let begin = play.invoke(&request);
        if begin.contains(&BACKGROUND) {
            play.exported(Ok(()));
        }
        play.facts.oldest = Some(play.facts.unix);
        play.spans();
        let end = play.complete(&request);
        kinds.push((begin.contains(&BACKGROUND), end == [Action::Next]));
        if end == [FLUSH] {
            play.exported(Ok(()));
        }
        play.pass(millis(20));
    }
    assert_eq!(
        kinds,
        [
            (false, false),
            (false, false),
            (false, true),
            (true, true),
            (true, true),
            (true, true)
        ]
    );
    // After a pause it is `end` again, and an old span is never left to the next invocation.
    play.pass(Duration::from_secs(2));
    play.invoke("late");
    assert_eq!(play.complete("late"), [FLUSH]);
}

#[test]
fn adaptive_flushes_what_is_old() {
    let mut play = Play::with(Strategy::Adaptive, false).hello();
    for number in 0..5 {
        let request = format!("r{number}");
        play.invoke(&request);
        play.complete(&request);
        play.pass(millis(10));
    }
    play.invoke("r");
    play.facts.oldest = Some(play.facts.unix - Duration::from_secs(5));
    play.spans();
    assert_eq!(play.complete("r"), [FLUSH]);
}
