use std::collections::BTreeSet;

use super::super::tests::options;
use super::*;

fn some() -> Options {
    options(&[
        "--endpoint=https://in.example.com",
        "--traces=https://q.example.com",
        "--region=eu-west-1",
    ])
    .unwrap()
}

#[test]
fn every_placeholder_is_captured_before_it_is_needed() {
    // The stack's outputs are template.yaml's; the rest comes from `run`.
    let template = include_str!("../../../../template.yaml");
    let outputs = template.split("\nOutputs:\n").nth(1).unwrap();
    let mut known: BTreeSet<&str> = outputs
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with(' '))
        .collect();
    assert!(known.contains("OrdersQueueUrl"), "{known:?}");
    known.extend(["TraceId", "StartMillis", "Start", "Now"]);
    for call in checks(&some()).into_iter().chain(removal(&some())) {
        for word in &call.arguments {
            for name in super::super::run::placeholders(word) {
                assert!(
                    known.contains(name),
                    "{}: {name} is not known yet",
                    call.name
                );
            }
        }
        known.extend(call.captures.iter().map(|(name, _)| *name));
    }
}

#[test]
fn names_are_unique_since_answers_are_known_by_them() {
    let calls: Vec<Call> = checks(&some())
        .into_iter()
        .chain(removal(&some()))
        .collect();
    let names: BTreeSet<&str> = calls.iter().map(|call| call.name).collect();
    assert_eq!(names.len(), calls.len());
}

#[test]
fn a_dry_run_shows_every_call_as_it_would_be_typed() {
    let text = shown(&some());
    for call in checks(&some()).into_iter().chain(removal(&some())) {
        assert!(
            text.contains(&format!("# {}: ", call.name)),
            "{}",
            call.name
        );
    }
    for line in [
        "sam deploy --stack-name throughline-check --resolve-s3 --capabilities CAPABILITY_IAM --no-confirm-changeset \
         --no-fail-on-empty-changeset --region eu-west-1 --parameter-overrides OtlpEndpoint=https://in.example.com \
         OtlpProtocol=http/protobuf Architecture=x86_64 MaxReceiveCount=3 LogLevel=debug",
        "curl --silent --show-error --fail --max-time 10 https://q.example.com/api/traces/{TraceId}",
        "sam delete --no-prompts --stack-name throughline-check --region eu-west-1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n\n{text}");
    }
    assert!(
        text.contains(r#"--message-body '{"id":"x-ray","amount":1,"poison":true}'"#),
        "{text}"
    );
}

#[test]
fn parameters_are_those_of_the_template() {
    let template = include_str!("../../../../template.yaml");
    let mut all = some();
    all.headers_secret = Some("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x".into());
    let deploy = checks(&all)
        .into_iter()
        .find(|call| call.name == "deployed")
        .unwrap();
    let mut parameters = deploy
        .arguments
        .iter()
        .skip_while(|word| *word != "--parameter-overrides")
        .skip(1)
        .peekable();
    assert!(parameters.peek().is_some());
    for parameter in parameters {
        let name = parameter.split('=').next().unwrap();
        assert!(
            template.contains(&format!("\n  {name}:\n    Type: ")),
            "{name}"
        );
    }
}
