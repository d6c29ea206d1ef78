//! Whatever comes in whatever order, `/next` is asked in time and once.

use proptest::prelude::{Just, any, prop, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::breaker::Failure;
use crate::config::Strategy as FlushStrategy;

/// What happens next in a sandbox that obeys Lambda's rules and breaks everything else.
#[derive(Clone, Debug)]
enum Step {
    /// The answer to `/next`, when it is being asked.
    Invoke {
        request: u8,
        deadline: Deadline,
    },
    Odd,
    Hello,
    Complete(u8),
    RuntimeDone {
        request: u8,
        success: bool,
        age_ms: Option<u64>,
    },
    Telemetry,
    Spans(usize),
    /// The export or the probe ends.
    Done {
        ok: bool,
        timed_out: bool,
    },
    Pass(u64),
    Freeze(u64),
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    Millis(u64),
    Nonsense(u64),
}

fn step() -> impl Generator<Value = Step> {
    let deadline = prop_oneof![
        3 => (1..20_000u64).prop_map(Deadline::Millis),
        1 => prop_oneof![Just(0), Just(600_000), Just(u64::MAX)].prop_map(Deadline::Nonsense),
    ];
    let age = prop::option::of(0..100_000u64);
    prop_oneof![
        6 => (0..4u8, deadline).prop_map(|(request, deadline)| Step::Invoke { request, deadline }),
        1 => Just(Step::Odd),
        1 => Just(Step::Hello),
        4 => (0..4u8).prop_map(Step::Complete),
        4 => (0..4u8, any::<bool>(), age)
            .prop_map(|(request, success, age_ms)| Step::RuntimeDone { request, success, age_ms }),
        1 => Just(Step::Telemetry),
        4 => prop_oneof![Just(1000), Just(EARLY_BYTES)].prop_map(Step::Spans),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(ok, timed_out)| Step::Done { ok, timed_out }),
        6 => (1..3000u64).prop_map(Step::Pass),
        2 => (1..100_000u64).prop_map(Step::Freeze),
    ]
}

/// A sandbox around the lifecycle, which keeps account of what it may do.
struct World {
    lifecycle: Lifecycle,
    facts: Facts,
    asking: bool,
    exited: bool,
    /// When `/next` must have been asked again, after an INVOKE.
    hold_until: Option<Duration>,
    flush_since: Option<Duration>,
}

const FLUSH_TIMEOUT: Duration = Duration::from_millis(700);

impl World {
    fn on(&mut self, event: &Event) {
        let was_flushing = matches!(self.lifecycle.state(), State::Flushing { .. });
        let actions = self.lifecycle.on(event, &self.facts);
        for action in actions {
            match action {
                Action::Next => {
                    assert!(!self.asking, "asked twice");
                    assert!(!self.exited, "asked after the end");
                    self.asking = true;
                    self.hold_until = None;
                }
                Action::Recall | Action::Cancel => {
                    let all = action == Action::Recall;
                    for index in 0..3 {
                        if self.facts.in_flight[index] || all && self.facts.probing[index] {
                            self.facts.waiting_bytes[index] += 1000;
                        }
                        self.facts.in_flight[index] = false;
                        self.facts.probing[index] &= !all;
                    }
                    self.facts.exporting = None;
                }
                Action::Export(purpose, signals) => {
                    self.facts.exporting = Some(purpose);
                    for index in (0..3).filter(|index| signals[*index]) {
                        self.facts.in_flight[index] |= self.facts.waiting_bytes[index] > 0;
                        self.facts.waiting_bytes[index] = 0;
                    }
                }
                Action::Probe(signals) => {
                    assert_eq!(
                        self.facts
                            .probing
                            .iter()
                            .zip(signals)
                            .filter(|(a, b)| **a && *b)
                            .count(),
                        0
                    );
                    for index in (0..3).filter(|index| signals[*index]) {
                        self.facts.probing[index] = true;
                    }
                }
                Action::Exit => self.exited = true,
                Action::Warm => {}
            }
        }
        let flying = self.facts.in_flight != [false; 3] || self.facts.probing != [false; 3];
        self.facts.flying_since =
            flying.then(|| self.facts.flying_since.unwrap_or(self.facts.unix));
        self.facts.oldest = (self.facts.waiting_bytes != [0; 3])
            .then(|| self.facts.oldest.unwrap_or(self.facts.unix));
        let flushing = matches!(self.lifecycle.state(), State::Flushing { .. });
        if flushing && !was_flushing {
            self.flush_since = Some(self.facts.elapsed);
        }
        assert_eq!(
            self.asking,
            matches!(self.lifecycle.state(), State::Waiting { .. })
        );
    }

    /// Time passes; timers that fall due are served when they do.
    fn pass(&mut self, time: Duration) {
        let end = self.facts.elapsed + time;
        for _ in 0..10_000 {
            let Some(at) = self.lifecycle.wake_at().filter(|at| *at <= end) else {
                break;
            };
            let step = at.saturating_sub(self.facts.elapsed);
            self.facts.elapsed += step;
            self.facts.unix += step;
            self.on(&Event::Tick);
            self.check();
        }
        let rest = end.saturating_sub(self.facts.elapsed);
        self.facts.elapsed += rest;
        self.facts.unix += rest;
        self.check();
    }

    fn check(&self) {
        if let Some(until) = self.hold_until {
            assert!(
                self.facts.elapsed <= until,
                "held beyond the bound: {:?}",
                self.lifecycle.state()
            );
        }
        if let (State::Flushing { .. }, Some(since)) = (self.lifecycle.state(), self.flush_since) {
            assert!(
                self.facts.elapsed <= since + FLUSH_TIMEOUT,
                "flushed beyond the budget"
            );
        }
    }

    fn invoke(&mut self, request: String, deadline: Deadline) {
        let unix_ms = u64::try_from(self.facts.unix.as_millis()).unwrap();
        let (deadline_ms, limit) = match deadline {
            Deadline::Millis(millis) => (unix_ms + millis, Duration::from_millis(millis)),
            Deadline::Nonsense(deadline_ms) => (deadline_ms, LIMIT_UNKNOWN),
        };
        self.asking = false;
        self.hold_until = Some(self.facts.elapsed + limit);
        self.on(&Event::Invoke {
            request,
            deadline_ms,
        });
    }
}

fn play(steps: Vec<Step>, strategy: FlushStrategy) {
    let settings = Settings {
        flush_timeout: FLUSH_TIMEOUT,
        strategy,
        managed_instances: false,
    };
    let mut world = World {
        lifecycle: Lifecycle::new(settings),
        facts: Facts {
            unix: Duration::from_secs(1_000_000),
            ..Facts::default()
        },
        asking: true,
        exited: false,
        hold_until: None,
        flush_since: None,
    };
    world.on(&Event::Subscribed {
        accepted: steps.len().is_multiple_of(2),
    });
    for step in steps {
        let request = |request: u8| format!("r{request}");
        match step {
            Step::Invoke {
                request: id,
                deadline,
            } if world.asking => world.invoke(request(id), deadline),
            Step::Odd if world.asking => {
                world.asking = false;
                world.on(&Event::Unknown);
            }
            Step::Invoke { .. } | Step::Odd => {}
            Step::Hello => world.on(&Event::Hello),
            Step::Complete(id) => world.on(&Event::Complete {
                request: request(id),
            }),
            Step::RuntimeDone {
                request: id,
                success,
                age_ms,
            } => {
                let time = age_ms.map(|age| world.facts.unix - Duration::from_millis(age));
                world.on(&Event::RuntimeDone {
                    request: request(id),
                    success,
                    time,
                });
            }
            Step::Telemetry => world.on(&Event::Telemetry),
            Step::Spans(bytes) => {
                world.facts.waiting_bytes[bytes % 3] += bytes;
                world.on(&Event::Arrival);
            }
            Step::Done { ok, timed_out } => {
                let failure = if timed_out {
                    Failure::TimedOut
                } else {
                    Failure::Unreachable
                };
                let verdict = if ok { Ok(()) } else { Err(failure) };
                if world.facts.exporting.take().is_some() {
                    let verdicts = world
                        .facts
                        .in_flight
                        .map(|flying| flying.then_some(verdict));
                    world.facts.in_flight = [false; 3];
                    world.on(&Event::Exported(verdicts));
                } else if let Some(signal) = Signal::ALL
                    .into_iter()
                    .find(|s| world.facts.probing[s.index()])
                {
                    world.facts.probing[signal.index()] = false;
                    world.on(&Event::Probed(signal, verdict));
                }
            }
            Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
            // Only what waits is frozen; the wall clock goes on, the monotonic one need not.
            Step::Freeze(millis) if world.asking => {
                world.facts.unix += Duration::from_millis(millis);
            }
            Step::Freeze(_) => {}
        }
        world.check();
    }
    // However it stands: the next event is asked for within the longest bound, and SHUTDOWN ends it in time.
    world.pass(LIMIT_UNKNOWN + FLUSH_TIMEOUT);
    assert!(world.asking);
    let deadline_ms = u64::try_from(world.facts.unix.as_millis()).unwrap() + 2000;
    world.asking = false;
    world.on(&Event::Shutdown { deadline_ms });
    world.pass(Duration::from_millis(1900));
    assert!(world.exited);
}

proptest! {
    #[test]
    fn next_is_never_held_beyond_its_bound(steps in prop::collection::vec(step(), 0..120)) {
        play(steps.clone(), FlushStrategy::End);
        play(steps, FlushStrategy::Adaptive);
    }
}
