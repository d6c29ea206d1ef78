//! Every call that the check makes, in order, as data: what `--dry-run` prints is what runs.
//!
//! `{Name}` in an argument is filled in from an earlier answer.

use std::fmt::Write as _;
use std::time::Duration;

use super::Options;

/// One program and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// What the answer is known by, in captures and observations.
    pub(super) name: &'static str,
    /// Why it is made, for people.
    pub(super) why: &'static str,
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
    /// Values that later calls need: their name and the JSON pointer to them in the answer.
    pub(super) captures: Vec<(&'static str, &'static str)>,
    /// Repeat until the answer is what is waited for.
    pub(super) until: Option<Until>,
}

/// What a repeated call waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub(super) what: What,
    pub(super) every: Duration,
    pub(super) at_most: Duration,
}

/// The conditions of [`Until`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// The trace has a span of the dead-letter consumer.
    DeadLetterSpan,
    /// The event source mapping is disabled.
    Disabled,
    /// A message was received.
    Message,
}

/// Times an order is tried: the template's `MaxReceiveCount`.
pub(super) const TRIES: usize = 3;

/// The X-Ray header that is sent on its way through the dead-letter queue and the redrive.
pub(super) const XRAY_HEADER: &str =
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

/// Tries times the visibility timeout of 60 seconds, twice over for pollers and a slow collector.
const WAIT: Duration = Duration::from_secs(6 * 60);

/// The file of orders that the producer is invoked with, below the report's folder.
pub(super) const ORDERS: &str = "orders.json";
/// The file that the producer's answer is written to, below the report's folder.
pub(super) const ANSWER: &str = "answer.json";
/// The folder of reports, from the root of the workspace.
pub(super) const FOLDER: &str = "target/aws-check";

/// The calls of the check itself.
pub(super) fn checks(options: &Options) -> Vec<Call> {
    let mut calls = deploy(options);
    calls.extend(orders(options));
    calls.extend(redrive(options));
    calls.extend(measure(options));
    calls
}

/// The calls that remove what was made; they run whatever happened before.
pub(super) fn removal(options: &Options) -> Vec<Call> {
    vec![
        aws(
            options,
            "queue removed",
            "the redrive's destination goes",
            &["sqs", "delete-queue", "--queue-url", "{RedrivenQueueUrl}"],
        ),
        call(
            "stack removed",
            "the stack goes",
            "sam",
            &with_region(
                options,
                &["delete", "--no-prompts", "--stack-name", &options.stack],
            ),
        ),
    ]
}

fn deploy(options: &Options) -> Vec<Call> {
    let mut parameters = vec![
        format!("OtlpEndpoint={}", options.endpoint),
        format!("OtlpProtocol={}", options.protocol),
        format!("Architecture={}", options.architecture),
        format!("MaxReceiveCount={TRIES}"),
        "LogLevel=debug".to_owned(),
    ];
    if let Some(secret) = &options.headers_secret {
        parameters.push(format!("HeadersSecretArn={secret}"));
        parameters.push(format!("HeaderName={}", options.header_name));
    }
    let with_parameters = |mut words: Vec<String>| {
        words.push("--parameter-overrides".into());
        words.extend(parameters.iter().cloned());
        words
    };
    let deployed = with_region(
        options,
        &[
            "deploy",
            "--stack-name",
            &options.stack,
            "--resolve-s3",
            "--capabilities",
            "CAPABILITY_IAM",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
        ],
    );
    vec![
        aws(
            options,
            "identity",
            "fails early without credentials",
            &["sts", "get-caller-identity"],
        ),
        call(
            "packaged",
            "builds the layer",
            "cargo",
            &["xtask", "package"],
        ),
        call(
            "built",
            "builds the three functions",
            "sam",
            &with_parameters(vec!["build".into()]),
        ),
        call(
            "deployed",
            "makes the stack",
            "sam",
            &with_parameters(deployed),
        ),
        aws(
            options,
            "outputs",
            "the stack's outputs, which later calls name",
            &[
                "cloudformation",
                "describe-stacks",
                "--stack-name",
                &options.stack,
            ],
        ),
    ]
}

fn orders(options: &Options) -> Vec<Call> {
    let payload = format!("fileb://{FOLDER}/{ORDERS}");
    let answer = format!("{FOLDER}/{ANSWER}");
    let url = format!("{}/api/traces/{{TraceId}}", options.traces);
    vec![
        aws(
            options,
            "orders sent",
            "the producer sends the orders, one of which always fails",
            &[
                "lambda",
                "invoke",
                "--function-name",
                "{ProducerFunctionName}",
                "--payload",
                &payload,
                &answer,
            ],
        ),
        call(
            "trace",
            "the trace, until the dead-letter consumer's span is in it",
            "curl",
            &[
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "10",
                &url,
            ],
        )
        .until(What::DeadLetterSpan, Duration::from_secs(10)),
    ]
}

fn redrive(options: &Options) -> Vec<Call> {
    let queue = format!("{}-redriven", options.stack);
    let header =
        format!(r#"{{"AWSTraceHeader":{{"DataType":"String","StringValue":"{XRAY_HEADER}"}}}}"#);
    let receive = |name, why, url: &str| {
        aws(
            options,
            name,
            why,
            &[
                "sqs",
                "receive-message",
                "--queue-url",
                url,
                "--message-system-attribute-names",
                "All",
                "--message-attribute-names",
                "All",
                "--visibility-timeout",
                "5",
                "--wait-time-seconds",
                "20",
            ],
        )
        .until(What::Message, Duration::from_secs(1))
    };
    vec![
        aws(
            options,
            "mappings",
            "the dead-letter consumer's mapping",
            &[
                "lambda",
                "list-event-source-mappings",
                "--function-name",
                "{DeadLetterFunctionName}",
            ],
        )
        .capture("DeadLetterMapping", "/EventSourceMappings/0/UUID"),
        aws(
            options,
            "consumer stopped",
            "the next dead letter has to stay in its queue",
            &[
                "lambda",
                "update-event-source-mapping",
                "--uuid",
                "{DeadLetterMapping}",
                "--no-enabled",
            ],
        ),
        aws(
            options,
            "consumer stopping",
            "until it has stopped",
            &[
                "lambda",
                "get-event-source-mapping",
                "--uuid",
                "{DeadLetterMapping}",
            ],
        )
        .until(What::Disabled, Duration::from_secs(5)),
        aws(
            options,
            "header sent",
            "an order that fails, with an X-Ray header and no traceparent",
            &[
                "sqs",
                "send-message",
                "--queue-url",
                "{OrdersQueueUrl}",
                "--message-body",
                r#"{"id":"x-ray","amount":1,"poison":true}"#,
                "--message-system-attributes",
                &header,
            ],
        )
        .capture("SentMessageId", "/MessageId"),
        receive(
            "dead letter",
            "what the move to the dead-letter queue left",
            "{OrdersDeadLetterQueueUrl}",
        ),
        aws(
            options,
            "queue made",
            "a destination without a consumer",
            &["sqs", "create-queue", "--queue-name", &queue],
        )
        .capture("RedrivenQueueUrl", "/QueueUrl"),
        aws(
            options,
            "queue arn",
            "its ARN",
            &[
                "sqs",
                "get-queue-attributes",
                "--queue-url",
                "{RedrivenQueueUrl}",
                "--attribute-names",
                "QueueArn",
            ],
        )
        .capture("RedrivenQueueArn", "/Attributes/QueueArn"),
        aws(
            options,
            "redrive",
            "moves the dead letter",
            &[
                "sqs",
                "start-message-move-task",
                "--source-arn",
                "{OrdersDeadLetterQueueArn}",
                "--destination-arn",
                "{RedrivenQueueArn}",
            ],
        ),
        receive("redriven", "what the redrive left", "{RedrivenQueueUrl}"),
    ]
}

fn measure(options: &Options) -> Vec<Call> {
    let group = format!("/aws/lambda/{}-consumer", options.stack);
    vec![
        aws(
            options,
            "log",
            "REPORT lines and the extension's own lines",
            &[
                "logs",
                "filter-log-events",
                "--log-group-name",
                &group,
                "--start-time",
                "{StartMillis}",
            ],
        ),
        aws(
            options,
            "post-runtime",
            "how long the extension held the sandbox after the function",
            &[
                "cloudwatch",
                "get-metric-statistics",
                "--namespace",
                "AWS/Lambda",
                "--metric-name",
                "PostRuntimeExtensionsDuration",
                "--dimensions",
                "Name=FunctionName,Value={ConsumerFunctionName}",
                "--start-time",
                "{Start}",
                "--end-time",
                "{Now}",
                "--period",
                "3600",
                "--statistics",
                "Average",
                "Maximum",
                "SampleCount",
            ],
        ),
    ]
}

/// The whole plan as text, for `--dry-run`.
pub(super) fn shown(options: &Options) -> String {
    let mut text = format!(
        "# writes {FOLDER}/{ORDERS}:\n{}\n\n",
        super::run::orders_event(options)
    );
    for call in checks(options) {
        call.show(&mut text);
    }
    writeln!(text, "# writes {FOLDER}/<date>.md\n").expect("a String takes everything");
    if options.keep {
        text.push_str("# --keep: nothing is removed\n");
    } else {
        for call in removal(options) {
            call.show(&mut text);
        }
    }
    text
}

fn call(
    name: &'static str,
    why: &'static str,
    program: &'static str,
    arguments: &[impl AsRef<str>],
) -> Call {
    Call {
        name,
        why,
        program,
        arguments: arguments
            .iter()
            .map(|word| word.as_ref().to_owned())
            .collect(),
        captures: Vec::new(),
        until: None,
    }
}

fn aws(options: &Options, name: &'static str, why: &'static str, arguments: &[&str]) -> Call {
    let mut words = with_region(options, arguments);
    words.extend(["--output".to_owned(), "json".to_owned()]);
    call(name, why, "aws", &words)
}

fn with_region(options: &Options, arguments: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    if let Some(region) = &options.region {
        words.extend(["--region".to_owned(), region.clone()]);
    }
    words
}

// === impl Call ===

impl Call {
    fn capture(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.captures.push((name, pointer));
        self
    }

    fn until(mut self, what: What, every: Duration) -> Self {
        self.until = Some(Until {
            what,
            every,
            at_most: WAIT,
        });
        self
    }

    fn show(&self, text: &mut String) {
        let repeated = self.until.map_or(String::new(), |until| {
            format!(
                " (repeated every {} s, {} s at most)",
                until.every.as_secs(),
                until.at_most.as_secs()
            )
        });
        let words: Vec<String> = self.arguments.iter().map(|word| quoted(word)).collect();
        writeln!(
            text,
            "# {}: {}{repeated}\n{} {}\n",
            self.name,
            self.why,
            self.program,
            words.join(" ")
        )
        .expect("a String takes everything");
    }
}

/// The word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,{}+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
