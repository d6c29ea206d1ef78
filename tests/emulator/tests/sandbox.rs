//! The sandbox with small real processes.
#![allow(clippy::unwrap_used, reason = "helpers of tests may, too")]

use lambda_emulator::*;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

const ACTOR: &str = env!("CARGO_BIN_EXE_emulator-actor");
const LONG: Duration = Duration::from_secs(30);

/// The actor under another name, as an extension is known by its file's name.
fn extension(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("extensions");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let _ = std::os::unix::fs::symlink(ACTOR, &path);
    path
}

fn builder(name: &str) -> Builder {
    Sandbox::builder(name)
        .bootstrap(ACTOR)
        .bootstrap_args(["runtime"])
}

fn ext(name: &str) -> Who {
    Who::Extension(name.into())
}

/// State letter of a process as the operating system says.
fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

fn gone(pid: u32) -> bool {
    !PathBuf::from(format!("/proc/{pid}")).exists()
}

fn position(timeline: &Timeline, wanted: impl Fn(&Event) -> bool) -> u64 {
    timeline
        .first(|entry| wanted(&entry.event))
        .unwrap_or_else(|| panic!("{}", timeline.to_text()))
        .seq
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_is_answered_and_then_everybody_is_stopped() {
    let sandbox = builder("orders")
        .extension(extension("plain"))
        .start()
        .await
        .unwrap();
    let pids = [
        sandbox.pid(&Who::Runtime).unwrap(),
        sandbox.pid(&ext("plain")).unwrap(),
    ];
    assert!(sandbox.is_frozen(), "frozen after init");
    for number in 0..3 {
        let invocation = sandbox.invoke(r#"{"do":"echo"}"#).await;
        assert_eq!(invocation.number, number);
        assert_eq!(
            invocation.outcome,
            Outcome::Answered(r#"{"do":"echo"}"#.into())
        );
        assert_eq!(
            sandbox.wait_frozen(&invocation.request_id).await,
            Completion::Done
        );
        for pid in pids {
            assert_eq!(state(pid), 'T');
        }
        assert!(
            sandbox
                .post_runtime_extensions(&invocation.request_id)
                .is_some()
        );
    }
    let end = sandbox.shutdown("spindown").await;
    assert_eq!(end.of(&ext("plain")), Some(ExitReason::Exited(0)));
    assert_eq!(
        end.of(&Who::Runtime),
        Some(ExitReason::Signalled(15)),
        "SIGTERM, as there is an extension"
    );
    assert!(pids.into_iter().all(gone));
    let text = sandbox.log_text();
    assert!(
        text.contains(r#""eventType":"SHUTDOWN""#)
            && text.contains(r#""shutdownReason":"spindown""#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn init_and_shutdown_keep_lambdas_order() {
    let sandbox = builder("order")
        .extension(extension("one"))
        .extension(extension("two"))
        .start()
        .await
        .unwrap();
    let timeline = sandbox.timeline().clone();
    sandbox.shutdown("spindown").await;
    let spawned = |name| {
        position(
            &timeline,
            |e| matches!(e, Event::ProcessSpawned { who, .. } if *who == name),
        )
    };
    let registered = |name| {
        position(
            &timeline,
            |e| matches!(e, Event::Registered { extension, .. } if extension == name),
        )
    };
    let runtime = spawned(Who::Runtime);
    assert!(
        spawned(ext("one")) < runtime && registered("one") < runtime && registered("two") < runtime
    );
    let term = position(&timeline, |e| {
        matches!(
            e,
            Event::SignalSent {
                who: Who::Runtime,
                signal: "SIGTERM"
            }
        )
    });
    let exited = position(&timeline, |e| {
        matches!(
            e,
            Event::ProcessExited {
                who: Who::Runtime,
                ..
            }
        )
    });
    let told = position(&timeline, |e| matches!(e, Event::ShutdownDelivered { .. }));
    let ended = position(&timeline, |e| matches!(e, Event::ShutdownEnded));
    assert!(
        term < exited && exited < told && told < ended,
        "{}",
        timeline.to_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_do_not_see_what_is_the_runtimes() {
    let sandbox = builder("env")
        .extension(extension("seeing"))
        .env("SHARED", "yes")
        .env("_PRIVATE", "hidden")
        .start()
        .await
        .unwrap();
    for wanted in [
        "runtime env _HANDLER=bootstrap",
        "runtime env AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/env",
        "runtime env _PRIVATE=hidden",
        "extension env _HANDLER=",
        "extension env AWS_LAMBDA_LOG_GROUP_NAME=",
        "extension env _PRIVATE=",
        "extension env SHARED=yes",
        "unregistered next answered 403",
    ] {
        // A process's line may still be on its way when its next call has been answered.
        let seen = sandbox
            .wait_for_log(|line| line.text.ends_with(wanted), LONG)
            .await;
        assert!(
            seen.is_some(),
            "{wanted:?} is missing in\n{}",
            sandbox.log_text()
        );
    }
    let registered = r#""accountId":"123456789012""#;
    let seen = sandbox
        .wait_for_log(|line| line.text.contains(registered), LONG)
        .await;
    assert!(
        seen.is_some(),
        "{registered} is missing in\n{}",
        sandbox.log_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_crashes_and_timeouts() {
    let sandbox = builder("bad")
        .extension(extension("watching"))
        .timeout(Duration::from_secs(3))
        .start()
        .await
        .unwrap();
    let error = sandbox.invoke(r#"{"do":"error"}"#).await;
    assert_eq!(
        error.outcome,
        Outcome::FunctionError(json!({"errorType": "Order.Bad", "errorMessage": "no"}))
    );
    assert_eq!(
        sandbox.wait_frozen(&error.request_id).await,
        Completion::Done
    );

    let stale = sandbox.invoke(r#"{"do":"stale"}"#).await;
    assert!(stale.outcome.response().is_some());
    for line in ["stale answered 400", "early next answered 403"] {
        assert!(
            sandbox
                .wait_for_log(|seen| seen.text == line, LONG)
                .await
                .is_some(),
            "{}",
            sandbox.log_text()
        );
    }

    let before = sandbox.pid(&Who::Runtime).unwrap();
    let exit = sandbox.invoke(r#"{"do":"exit"}"#).await;
    let Outcome::Crashed {
        error_type,
        message,
    } = &exit.outcome
    else {
        panic!("{:?}", exit.outcome)
    };
    assert_eq!(error_type, "Runtime.ExitError");
    assert!(message.contains("exit status 3"), "{message}");
    assert!(matches!(
        sandbox.wait_frozen(&exit.request_id).await,
        Completion::Crashed { .. }
    ));
    assert!(sandbox.log_text().contains(r#""shutdownReason":"failure""#));

    let again = sandbox.invoke("{}").await;
    assert!(
        again.outcome.response().is_some(),
        "init again, within the invocation"
    );
    assert_ne!(sandbox.pid(&Who::Runtime).unwrap(), before);
    assert!(
        sandbox
            .timeline()
            .first(|e| matches!(e.event, Event::InitBegan { phase: "invoke" }))
            .is_some()
    );

    let hang = sandbox.invoke(r#"{"do":"hang"}"#).await;
    assert_eq!(hang.outcome, Outcome::TimedOut);
    assert_eq!(
        sandbox.wait_frozen(&hang.request_id).await,
        Completion::TimedOut
    );
    assert!(sandbox.log_text().contains(r#""shutdownReason":"timeout""#));
    assert!(sandbox.pid(&Who::Runtime).is_none() && sandbox.pid(&ext("watching")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_holds_next_past_the_timeout_costs_the_environment_but_not_the_answer() {
    let sandbox = builder("held")
        .extension(extension("holding"))
        .extension_env("ACT", "slow")
        .extension_env("SLOW_MS", "60000")
        .timeout(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke("{}").await;
    assert!(invocation.outcome.response().is_some());
    assert_eq!(
        sandbox.wait_frozen(&invocation.request_id).await,
        Completion::TimedOut
    );
    assert_eq!(sandbox.pid(&ext("holding")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_an_extension_fails_the_invocation() {
    let sandbox = builder("crash")
        .extension(extension("crashing"))
        .extension_env("ACT", "crash-on-invoke")
        .start()
        .await
        .unwrap();
    let crash = sandbox.invoke(r#"{"do":"hang"}"#).await;
    let Outcome::Crashed { error_type, .. } = &crash.outcome else {
        panic!("{:?}", crash.outcome)
    };
    assert_eq!(error_type, "Extension.Crash");

    let killed = builder("killed")
        .extension(extension("victim"))
        .start()
        .await
        .unwrap();
    let pid = killed.pid(&ext("victim")).unwrap();
    killed.kill(&ext("victim")).await.unwrap();
    let invocation = killed.invoke("{}").await;
    assert!(
        matches!(invocation.outcome, Outcome::Crashed { .. }),
        "{:?}",
        invocation.outcome
    );
    assert!(gone(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_shutdown_is_killed_at_two_seconds() {
    let sandbox = builder("deaf")
        .extension(extension("deaf-one"))
        .extension_env("ACT", "deaf")
        .start()
        .await
        .unwrap();
    let end = sandbox.shutdown("spindown").await;
    assert_eq!(end.of(&ext("deaf-one")), Some(ExitReason::Signalled(9)));
    assert!(end.took >= Duration::from_secs(2), "{:?}", end.took);
    // After the end nothing can be invoked.
    assert!(matches!(
        sandbox.invoke("{}").await.outcome,
        Outcome::Crashed { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn init_that_fails_is_told_and_tried_again() {
    for (act, error) in [
        ("exit-at-once", "Extension.Crash"),
        ("init-error", "Extension.Odd"),
    ] {
        let sandbox = builder("init")
            .extension(extension("failing"))
            .extension_env("ACT", act);
        let text = sandbox.clone().start().await.unwrap_err().to_string();
        assert!(text.contains(error), "{text}");
        let sandbox = sandbox.start_anyway().await.unwrap();
        assert!(
            sandbox
                .init_error()
                .is_some_and(|text| text.contains(error))
        );
        let again = sandbox.invoke("{}").await;
        assert!(
            matches!(again.outcome, Outcome::Crashed { .. }),
            "{:?}",
            again.outcome
        );
    }
    let sandbox = builder("exit")
        .function_env("RUNTIME_ACT", "init-exit")
        .start()
        .await
        .unwrap_err();
    assert!(
        sandbox.to_string().contains("Runtime.ExitError"),
        "{sandbox}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_buffered_and_held_back_by_the_freeze() {
    let sandbox = builder("telemetry")
        .extension(extension("hearing"))
        .extension_env("ACT", "telemetry")
        .start()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let invocation = sandbox.invoke("{}").await;
        assert_eq!(
            sandbox.wait_frozen(&invocation.request_id).await,
            Completion::Done
        );
        ids.push(invocation.request_id);
    }
    sandbox.shutdown("spindown").await;
    let timeline = sandbox.timeline();
    let sent = |kind: &str, id: &str| {
        position(
            timeline,
            |event| matches!(event, Event::TelemetrySent { kind: k, request_id, .. } if k == kind && request_id.as_deref() == Some(id)),
        )
    };
    let freezes: Vec<u64> = timeline
        .select(|entry| {
            matches!(
                &entry.event,
                Event::FreezeBegan {
                    request_id: Some(_)
                }
            )
        })
        .iter()
        .map(|entry| entry.seq)
        .collect();
    for (number, id) in ids.iter().enumerate() {
        assert!(sent("platform.start", id) < sent("platform.runtimeDone", id));
        assert!(
            sent("platform.runtimeDone", id) < freezes[number],
            "it was waited for"
        );
        assert!(
            sent("platform.report", id) > freezes[number],
            "made after the last /next, heard after the thaw"
        );
    }
    let text = sandbox.log_text();
    assert!(text.contains(r#""producedBytes":2"#), "{text}");
    assert_eq!(
        text.matches("initDurationMs").count(),
        1,
        "in the first report only\n{text}"
    );
    for kind in [
        "initStart",
        "initRuntimeDone",
        "initReport",
        "extension",
        "telemetrySubscription",
        "report",
    ] {
        assert!(
            text.contains(&format!(r#""type":"platform.{kind}""#)),
            "{kind}\n{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_faults_reach_the_subscriber() {
    let faults = TelemetryFaults::default()
        .unknown_events()
        .restore_events()
        .fractional_numbers()
        .older_request_first()
        .for_invocation(1, TelemetryFault::Lose("platform.runtimeDone".into()))
        .for_invocation(2, TelemetryFault::InvalidJson);
    let sandbox = builder("faults")
        .extension(extension("suffering"))
        .extension_env("ACT", "telemetry")
        .telemetry(faults)
        .timeout(Duration::from_secs(3))
        .start()
        .await
        .unwrap();
    let first = sandbox.invoke("{}").await;
    assert_eq!(
        sandbox.wait_frozen(&first.request_id).await,
        Completion::Done
    );
    // The actor holds /next for the lost event as nobody should.
    for _ in 0..2 {
        let held = sandbox.invoke("{}").await;
        assert_eq!(
            sandbox.wait_frozen(&held.request_id).await,
            Completion::TimedOut
        );
    }
    let text = sandbox.log_text();
    for part in [
        "platform.tomorrow",
        r#""surprise":true"#,
        "restoreReport",
        r#""billedDurationMs":"#,
        "not an object",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        sandbox
            .timeline()
            .first(|e| matches!(&e.event, Event::TelemetryLost { .. }))
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_can_be_refused_or_silent() {
    for (faults, status) in [
        (TelemetryFaults::default().refuse(), 202),
        (TelemetryFaults::default().silent(), 200),
    ] {
        let sandbox = builder("mute")
            .extension(extension("unheard"))
            .extension_env("ACT", "telemetry")
            .telemetry(faults)
            .timeout(Duration::from_secs(2))
            .start()
            .await
            .unwrap();
        let invocation = sandbox.invoke("{}").await;
        sandbox.wait_frozen(&invocation.request_id).await;
        let text = sandbox.log_text();
        assert!(
            text.contains(&format!("subscribe answered {status}\n")),
            "{text}"
        );
        assert!(!text.contains("telemetry ["), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_told_as_scripted_and_delivery_is_ordered() {
    let sandbox = builder("lies")
        .extension(extension("told"))
        .deadline_ms(|_| 0)
        .start()
        .await
        .unwrap();
    sandbox.invoke("{}").await;
    assert!(
        sandbox
            .wait_for_log(|line| line.text == "deadline 0", LONG)
            .await
            .is_some()
    );
    assert!(
        sandbox
            .wait_for_log(|line| line.text.contains(r#""deadlineMs":0"#), LONG)
            .await
            .is_some()
    );

    for (delivery, extension_first) in [
        (Delivery::ExtensionFirst, true),
        (Delivery::ExtensionAfterResponse, false),
        (Delivery::ExtensionAfterRuntimeNext, false),
    ] {
        let sandbox = builder("order")
            .extension(extension("ordered"))
            .delivery(delivery)
            .start()
            .await
            .unwrap();
        let invocation = sandbox.invoke("{}").await;
        assert_eq!(
            sandbox.wait_frozen(&invocation.request_id).await,
            Completion::Done
        );
        let given = |name: Who| {
            position(
                sandbox.timeline(),
                |e| matches!(e, Event::InvokeDelivered { who, .. } if *who == name),
            )
        };
        assert_eq!(
            given(ext("ordered")) < given(Who::Runtime),
            extension_first,
            "{delivery:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_take_several_at_once_and_refuse_invoke() {
    let managed = || {
        builder("managed")
            .extension(extension("fleet"))
            .managed_instances(3)
    };
    let refused = managed().start().await.unwrap_err().to_string();
    assert!(
        refused.contains("register answered 403")
            && refused.contains("INVOKE: ErrorInvalidEventType"),
        "{refused}"
    );

    let sandbox = managed()
        .extension_env("EVENTS", r#"["SHUTDOWN"]"#)
        .extension_env("ACT", "telemetry")
        .start()
        .await
        .unwrap();
    assert!(!sandbox.is_frozen());
    let meet = || sandbox.invoke(r#"{"do":"meet"}"#);
    let (a, b, c) = tokio::join!(meet(), meet(), meet());
    for invocation in [a, b, c] {
        assert!(
            invocation.outcome.response().is_some(),
            "{:?}",
            invocation.outcome
        );
    }
    let end = sandbox.shutdown("spindown").await;
    assert_eq!(end.of(&ext("fleet")), Some(ExitReason::Exited(0)));
    let text = sandbox.log_text();
    assert!(
        !text.contains("platform.runtimeDone") && text.contains("platform.report"),
        "{text}"
    );
    let crashing = managed()
        .extension_env("EVENTS", r#"["SHUTDOWN"]"#)
        .start()
        .await
        .unwrap();
    assert!(matches!(
        crashing.invoke(r#"{"do":"exit"}"#).await.outcome,
        Outcome::Crashed { .. }
    ));
    assert!(
        matches!(crashing.invoke("{}").await.outcome, Outcome::Crashed { .. }),
        "for good"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_sandbox_leaves_nothing() {
    let sandbox = builder("dropped")
        .extension(extension("left"))
        .start()
        .await
        .unwrap();
    let pids = [
        sandbox.pid(&Who::Runtime).unwrap(),
        sandbox.pid(&ext("left")).unwrap(),
    ];
    let timeline = sandbox.timeline().clone();
    drop(sandbox);
    let exits = |entry: &Entry| matches!(entry.event, Event::ProcessExited { .. });
    let mut count = 0;
    timeline
        .wait_for(
            |entry| {
                count += usize::from(exits(entry));
                count == 2
            },
            LONG,
        )
        .await
        .unwrap();
    assert!(pids.into_iter().all(gone));
    let lines: Value = timeline.to_json();
    assert!(
        lines
            .as_array()
            .is_some_and(|lines| lines.iter().all(|line| line["event"].is_string()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_telemetry_comes_later_than_its_buffer_would() {
    let by = Duration::from_millis(200);
    let faults = TelemetryFaults::default().delay("platform.runtimeDone", by);
    let sandbox = builder("late")
        .extension(extension("patient"))
        .extension_env("ACT", "telemetry")
        .telemetry(faults);
    let sandbox = sandbox.start().await.unwrap();
    let invocation = sandbox.invoke("{}").await;
    assert_eq!(
        sandbox.wait_frozen(&invocation.request_id).await,
        Completion::Done
    );
    assert!(
        sandbox
            .post_runtime_extensions(&invocation.request_id)
            .unwrap()
            >= by
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_extension_the_runtime_is_killed_at_once() {
    let sandbox = builder("alone").start().await.unwrap();
    let invocation = sandbox.invoke("{}").await;
    assert_eq!(
        sandbox.wait_frozen(&invocation.request_id).await,
        Completion::Done
    );
    let end = sandbox.shutdown("spindown").await;
    assert_eq!(end.of(&Who::Runtime), Some(ExitReason::Signalled(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sandboxes_share_a_timeline_and_nothing_else() {
    let timeline = Timeline::new();
    let start = |name: &'static str| {
        builder(name)
            .extension(extension("shared"))
            .timeline(&timeline)
            .start()
    };
    let (one, two, three) = tokio::join!(start("one"), start("two"), start("three"));
    let all = [one.unwrap(), two.unwrap(), three.unwrap()];
    let ports: std::collections::HashSet<u16> = all
        .iter()
        .flat_map(|one| [one.http_port(), one.grpc_port()])
        .collect();
    assert_eq!(ports.len(), 6);
    let invocations = tokio::join!(all[0].invoke("0"), all[1].invoke("1"), all[2].invoke("2"));
    for (invocation, payload) in [
        (invocations.0, "0"),
        (invocations.1, "1"),
        (invocations.2, "2"),
    ] {
        assert_eq!(invocation.outcome, Outcome::Answered(payload.into()));
    }
    all[1].shutdown("spindown").await;
    assert!(all[0].invoke("{}").await.outcome.response().is_some());
    let seqs: Vec<u64> = timeline.entries().iter().map(|entry| entry.seq).collect();
    assert!(
        seqs.iter()
            .enumerate()
            .all(|(place, seq)| *seq == place as u64)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_may_come_twice() {
    let sandbox = builder("retry").start().await.unwrap();
    for payload in ["first", "second"] {
        let call = Call {
            payload: payload.into(),
            request_id: Some("retried".into()),
            ..Call::default()
        };
        let invocation = sandbox.call(call).await;
        assert_eq!(invocation.outcome, Outcome::Answered(payload.into()));
        assert_eq!(sandbox.wait_frozen("retried").await, Completion::Done);
    }
}

/// Not a test by itself: the process that the test below kills.
#[tokio::test(flavor = "multi_thread")]
async fn helper_that_waits_to_be_killed() {
    if std::env::var_os("WAIT_TO_BE_KILLED").is_none() {
        return;
    }
    let sandbox = builder("orphans")
        .extension(extension("orphan"))
        .start()
        .await
        .unwrap();
    let pids = [&Who::Runtime, &ext("orphan")].map(|who| sandbox.pid(who).unwrap());
    println!("\npids {} {}", pids[0], pids[1]);
    std::future::pending::<()>().await;
}

#[test]
fn killing_the_test_leaves_no_process_stopped_or_not() {
    use std::io::BufRead;
    let mut helper = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_waits_to_be_killed", "--nocapture"])
        .env("WAIT_TO_BE_KILLED", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(helper.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("pids "))
        .unwrap();
    let pids: Vec<u32> = line
        .split(' ')
        .skip(1)
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(
        pids.iter().all(|pid| state(*pid) == 'T'),
        "frozen after init"
    );
    helper.kill().unwrap();
    helper.wait().unwrap();
    let limit = std::time::Instant::now() + LONG;
    // Nobody tells us: they are no children of ours.
    while !pids.iter().all(|pid| dead(*pid)) {
        assert!(
            std::time::Instant::now() < limit,
            "{pids:?} are still there"
        );
        std::thread::yield_now();
    }
}

/// Gone, or waiting for a parent that takes no interest.
fn dead(pid: u32) -> bool {
    gone(pid)
        || std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.contains(") Z "))
}
