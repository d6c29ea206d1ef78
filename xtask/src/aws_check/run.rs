//! Makes the calls of the plan. Needs an account, so only its pure parts are tested.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Options;
use super::observe;
use super::plan::{self, ANSWER, Call, FOLDER, ORDERS, What};
use super::report::{self, Observations};
use crate::workspace::Workspace;

/// Values for `{Name}` in arguments.
type Known = BTreeMap<String, String>;

/// Runs the plan, writes the report and removes what was made, whatever went wrong on the way.
pub(super) fn run(options: &Options) -> ExitCode {
    let began = now();
    let folder = Workspace::here().root().join(FOLDER);
    let mut observed = Observations {
        began: utc(began),
        ..Observations::default()
    };
    let mut known = Known::from([
        ("Start".to_owned(), utc(began)),
        ("StartMillis".to_owned(), began.as_millis().to_string()),
    ]);
    if let Err(error) = prepare(options, &folder) {
        eprintln!("{}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    for call in plan::checks(options) {
        println!("{}: {}", call.name, call.why);
        known.insert("Now".to_owned(), utc(now()));
        match answer_of(&call, &mut known) {
            Ok(answer) => {
                observed.answers.insert(call.name, answer);
            }
            Err(error) => {
                println!("  failed: {error}");
                observed.failures.push(format!("{}: {error}", call.name));
                // Without the stack there is nothing to look at; after it every answer stands for itself.
                if !observed.answers.contains_key("outputs") {
                    break;
                }
            }
        }
    }
    if !options.keep {
        remove(options, &mut known, &mut observed);
    }
    observed.ended = utc(now());
    let path = folder.join(format!("{}.md", observed.began.replace(':', "")));
    if let Err(error) = std::fs::write(&path, report::written(options, &observed)) {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("the report: {}", path.display());
    let differs = report::findings(options, &observed)
        .iter()
        .any(|finding| finding.verdict == report::Verdict::Differs);
    if differs || !observed.failures.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn prepare(options: &Options, folder: &PathBuf) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(ORDERS), orders_event(options).to_string())
}

fn remove(options: &Options, known: &mut Known, observed: &mut Observations) {
    for call in plan::removal(options) {
        // A queue that was never made has no URL, and there is nothing to remove.
        let needed = call.arguments.iter().flat_map(|word| placeholders(word));
        if needed.into_iter().all(|name| known.contains_key(name)) {
            println!("{}: {}", call.name, call.why);
            if let Err(error) = answer_of(&call, known) {
                println!("  failed, look after it yourself: {error}");
                observed.failures.push(format!("{}: {error}", call.name));
            }
        }
    }
}

/// What the producer is invoked with: an HTTP API event with the demo's orders, the last of which fails.
pub(super) fn orders_event(options: &Options) -> Value {
    let mut orders: Vec<Value> = (1..=options.orders)
        .map(|number| json!({"id": format!("o-{number}"), "amount": number}))
        .collect();
    orders.push(json!({"id": "o-poison", "amount": 1, "poison": true}));
    json!({
        "version": "2.0", "routeKey": "POST /orders", "rawPath": "/orders", "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {
            "accountId": "", "apiId": "", "domainName": "", "domainPrefix": "", "requestId": "", "routeKey": "POST /orders",
            "stage": "$default", "time": "", "timeEpoch": 0,
            "http": {"method": "POST", "path": "/orders", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "aws-check"}
        },
        "isBase64Encoded": false,
        "body": Value::from(orders).to_string(),
    })
}

/// Makes one call, repeated where the plan says so, and keeps what later calls need.
fn answer_of(call: &Call, known: &mut Known) -> Result<Value, String> {
    let arguments = call
        .arguments
        .iter()
        .map(|word| filled(word, known))
        .collect::<Result<Vec<String>, String>>()?;
    let answer = match call.until {
        None => output(call.program, &arguments)?,
        Some(until) => {
            let end = Instant::now() + until.at_most;
            loop {
                let answer = output(call.program, &arguments);
                match answer {
                    Ok(answer) if is_there(until.what, &answer) => break answer,
                    // What is there at the end is reported, even when it is not all.
                    Ok(answer) if Instant::now() >= end => break answer,
                    Err(error) if Instant::now() >= end => return Err(error),
                    _ => std::thread::sleep(until.every),
                }
            }
        }
    };
    if call.name == "outputs" {
        keep_outputs(&answer, known);
    }
    if call.name == "orders sent" {
        let path = Workspace::here().root().join(FOLDER).join(ANSWER);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        known.insert("TraceId".into(), trace_id(&text)?);
    }
    for (name, pointer) in &call.captures {
        let value = answer.pointer(pointer).and_then(Value::as_str);
        let value = value.ok_or_else(|| format!("{pointer} is not in the answer"))?;
        known.insert((*name).to_owned(), value.to_owned());
    }
    Ok(answer)
}

/// A program's answer as JSON; `null` when it says nothing that is JSON.
fn output(program: &str, arguments: &[String]) -> Result<Value, String> {
    let ended = Command::new(program)
        .args(arguments)
        .current_dir(Workspace::here().root())
        .env("AWS_PAGER", "")
        .env("SAM_CLI_TELEMETRY", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !ended.status.success() {
        return Err(format!("{program}: {}", ended.status));
    }
    Ok(serde_json::from_slice(&ended.stdout).unwrap_or(Value::Null))
}

fn is_there(what: What, answer: &Value) -> bool {
    match what {
        What::DeadLetterSpan => observe::records(&observe::spans(answer), "orders-dead-letters")
            .next()
            .is_some(),
        What::Disabled => answer["State"] == "Disabled",
        What::Message => observe::message(answer).is_some(),
    }
}

fn keep_outputs(answer: &Value, known: &mut Known) {
    let outputs = answer
        .pointer("/Stacks/0/Outputs")
        .and_then(Value::as_array);
    for output in outputs.into_iter().flatten() {
        if let (Some(name), Some(value)) =
            (output["OutputKey"].as_str(), output["OutputValue"].as_str())
        {
            known.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// The trace id in the producer's answer, an HTTP API response whose body is JSON.
fn trace_id(answer: &str) -> Result<String, String> {
    let answer: Value =
        serde_json::from_str(answer).map_err(|error| format!("the producer's answer: {error}"))?;
    let body: Value = answer["body"]
        .as_str()
        .and_then(|body| serde_json::from_str(body).ok())
        .unwrap_or(Value::Null);
    body["trace_id"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("the producer's answer has no trace_id: {answer}"))
}

/// The names in `{…}` of an argument; JSON's braces are none.
pub(super) fn placeholders(word: &str) -> Vec<&str> {
    word.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()))
        .collect()
}

fn filled(word: &str, known: &Known) -> Result<String, String> {
    let mut filled = word.to_owned();
    for name in placeholders(word) {
        let value = known
            .get(name)
            .ok_or_else(|| format!("{name} is not known"))?;
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    Ok(filled)
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// RFC 3339 in UTC, to the second, from the time since 1970.
fn utc(unix: Duration) -> String {
    let (days, seconds) = (unix.as_secs() / 86_400, unix.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01, by walking years and months.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_json_is_left_alone() {
        let known = Known::from([("QueueUrl".to_owned(), "https://q".to_owned())]);
        assert_eq!(filled("x={QueueUrl}/y", &known).unwrap(), "x=https://q/y");
        let json = r#"{"id":"x","poison":true}"#;
        assert_eq!(filled(json, &known).unwrap(), json);
        assert_eq!(
            filled("{Missing}", &known),
            Err("Missing is not known".into())
        );
    }

    #[test]
    fn a_trace_id_is_found_in_the_producers_answer() {
        let answer = r#"{"statusCode":200,"body":"{\"trace_id\":\"0af7\"}"}"#;
        assert_eq!(trace_id(answer).unwrap(), "0af7");
        assert!(
            trace_id(r#"{"errorMessage":"x"}"#)
                .unwrap_err()
                .contains("no trace_id")
        );
    }

    #[test]
    fn outputs_become_placeholders() {
        let mut known = Known::new();
        keep_outputs(
            &json!({"Stacks": [{"Outputs": [{"OutputKey": "A", "OutputValue": "b"}]}]}),
            &mut known,
        );
        assert_eq!(known["A"], "b");
    }

    #[test]
    fn conditions_are_recognised() {
        assert!(is_there(What::Disabled, &json!({"State": "Disabled"})));
        assert!(!is_there(What::Disabled, &json!({"State": "Disabling"})));
        assert!(is_there(What::Message, &json!({"Messages": [{}]})));
        assert!(!is_there(What::Message, &Value::Null));
        assert!(!is_there(What::DeadLetterSpan, &json!({"data": []})));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Duration::from_secs(unix)), text);
        }
    }
}
