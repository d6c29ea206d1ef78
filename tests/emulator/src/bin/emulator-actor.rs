//! Plays the function or the extension in the emulator's own tests, with nothing but `std`.
//!
//! With the argument `runtime` it is a function that does what its event says: `{"do":"echo"}`, `error`, `exit`,
//! `hang`, `stale`, `meet`; of an SQS batch it fails the records whose body says `poison`. Without one it is an extension that does what `ACT` says: `plain`, `telemetry`, `slow`,
//! `crash-on-invoke`, `deaf` (ignores SHUTDOWN), `exit-at-once`, `init-error`.
#![allow(
    clippy::print_stdout,
    reason = "what it prints is what the tests look for"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a panic is a failed test, seen in its log"
)]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::exit,
    sync::{Barrier, LazyLock, mpsc},
    thread::sleep,
    time::Duration,
};

static MEETING: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(3));

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> String {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }
}

/// One request on a connection of its own.
fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let mut stream = TcpStream::connect(&api).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {api}\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{head}\r\n{body}").unwrap();
    let (line, headers, body) = read(&mut BufReader::new(stream));
    Answer {
        status: line.split(' ').nth(1).unwrap().parse().unwrap(),
        headers,
        body,
    }
}

type Message = (String, Vec<(String, String)>, String);

fn read(reader: &mut impl BufRead) -> Message {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines
        .get(1..)
        .unwrap_or_default()
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (
        lines.first().cloned().unwrap_or_default(),
        headers,
        String::from_utf8(body).unwrap(),
    )
}

fn main() {
    match env::args().nth(1).as_deref() {
        Some("runtime") => match env::var("AWS_LAMBDA_MAX_CONCURRENCY") {
            Ok(count) => side_by_side(count.parse().unwrap()),
            Err(_) => runtime(),
        },
        _ => extension(&env::var("ACT").unwrap_or_else(|_| "plain".into())),
    }
}

/// As many at once as Managed Instances ask for.
fn side_by_side(count: usize) {
    let threads: Vec<_> = (0..count).map(|_| std::thread::spawn(runtime)).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn runtime() {
    if env::var("RUNTIME_ACT").as_deref() == Ok("init-exit") {
        exit(7);
    }
    for name in [
        "_HANDLER",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "_PRIVATE",
        "SHARED",
    ] {
        println!("runtime env {name}={}", env::var(name).unwrap_or_default());
    }
    loop {
        let event = ask("GET", "/2018-06-01/runtime/invocation/next", &[], "");
        let id = event.header("lambda-runtime-aws-request-id");
        println!("deadline {}", event.header("lambda-runtime-deadline-ms"));
        let answer = |kind: &str, body: &str| {
            let answer = ask(
                "POST",
                &format!("/2018-06-01/runtime/invocation/{id}/{kind}"),
                &[],
                body,
            );
            println!("{kind} answered {}", answer.status);
        };
        let wish: serde_json::Value = serde_json::from_str(&event.body).unwrap_or_default();
        match wish["do"].as_str() {
            Some("error") => answer("error", r#"{"errorType":"Order.Bad","errorMessage":"no"}"#),
            Some("exit") => exit(3),
            // Comes back when three invocations are here at the same time.
            Some("meet") => {
                MEETING.wait();
            }
            Some("hang") => sleep(Duration::from_secs(600)),
            Some("stale") => {
                let answer = ask(
                    "POST",
                    "/2018-06-01/runtime/invocation/00000000-none/response",
                    &[],
                    "{}",
                );
                println!("stale answered {}", answer.status);
                let early = ask("GET", "/2018-06-01/runtime/invocation/next", &[], "");
                println!("early next answered {}", early.status);
            }
            _ => {}
        }
        if let Some(records) = wish["Records"].as_array() {
            let failed: Vec<_> = records
                .iter()
                .filter(|record| {
                    record["body"]
                        .as_str()
                        .is_some_and(|body| body.contains("poison"))
                })
                .map(|record| serde_json::json!({"itemIdentifier": record["messageId"]}))
                .collect();
            println!("batch {}", event.body);
            answer(
                "response",
                &serde_json::json!({"batchItemFailures": failed}).to_string(),
            );
        } else if wish["do"] != "error" {
            answer("response", &event.body);
        }
    }
}

fn extension(act: &str) {
    if act == "exit-at-once" {
        exit(5);
    }
    for name in [
        "_HANDLER",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "_PRIVATE",
        "SHARED",
    ] {
        println!(
            "extension env {name}={}",
            env::var(name).unwrap_or_default()
        );
    }
    let name = env::args()
        .next()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let next_path = "/2020-01-01/extension/event/next";
    println!(
        "unregistered next answered {}",
        ask("GET", next_path, &[], "").status
    );
    let events = env::var("EVENTS").unwrap_or_else(|_| r#"["INVOKE","SHUTDOWN"]"#.into());
    let headers = [
        ("lambda-extension-name", name.as_str()),
        ("lambda-extension-accept-feature", "accountId"),
    ];
    let registered = ask(
        "POST",
        "/2020-01-01/extension/register",
        &headers,
        &format!(r#"{{"events":{events}}}"#),
    );
    println!(
        "register answered {} {}",
        registered.status, registered.body
    );
    let id = registered.header("lambda-extension-identifier");
    let mine = [
        ("lambda-extension-identifier", id.as_str()),
        ("lambda-extension-function-error-type", "Extension.Odd"),
    ];
    if act == "init-error" {
        ask(
            "POST",
            "/2020-01-01/extension/init/error",
            &mine,
            r#"{"errorMessage":"no","errorType":"x"}"#,
        );
        exit(1);
    }
    let telemetry = (act == "telemetry").then(|| subscribe(&mine));
    loop {
        let answer = ask("GET", next_path, &mine, "");
        let event: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        println!("event {}", answer.body);
        if event["eventType"] == "SHUTDOWN" {
            if act == "deaf" {
                continue;
            }
            exit(0);
        }
        match act {
            "crash-on-invoke" => exit(9),
            "slow" => sleep(Duration::from_millis(
                env::var("SLOW_MS").unwrap().parse().unwrap(),
            )),
            _ => {}
        }
        if let Some(telemetry) = &telemetry {
            // Holds the freeze back until the function's end is known.
            while telemetry.recv().unwrap() != event["requestId"].as_str().unwrap() {}
        }
    }
}

/// Subscribes and gives the request ids of `platform.runtimeDone` events.
fn subscribe(mine: &[(&str, &str)]) -> mpsc::Receiver<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (done, dones) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let done = done.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &done));
        }
    });
    let body = format!(
        r#"{{"schemaVersion":"2025-01-29","types":["platform"],"buffering":{{"maxItems":1000,"maxBytes":262144,"timeoutMs":25}},"destination":{{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}/"}}}}"#
    );
    println!(
        "subscribe answered {}",
        ask("PUT", "/2022-07-01/telemetry", mine, &body).status
    );
    dones
}

fn serve(mut stream: TcpStream, done: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
        let (_, _, body) = read(&mut reader);
        println!("telemetry {body}");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        for event in serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap_or_default() {
            if event["type"] == "platform.runtimeDone" {
                let id = event["record"]["requestId"].as_str().unwrap_or_default();
                let _ = done.send(id.to_owned());
            }
        }
    }
}
