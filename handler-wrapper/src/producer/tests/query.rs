//! The protocol of SNS, "awsQuery": a form in, XML out. Both are JSON to the tests.

use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::body::SdkBody;
use serde_json::{Map, Value, json};

use super::fake::{Answer, response};

/// A form as the JSON that SQS would be sent: lists are lists, message attributes are an object.
pub(super) fn parse(form: &[u8]) -> Value {
    let mut parsed = json!({});
    for pair in std::str::from_utf8(form).unwrap().split('&') {
        let (key, value) = pair.split_once('=').unwrap();
        let path: Vec<_> = key.split('.').collect();
        *descend(&mut parsed, &path) = decode(value).into();
    }
    with_attributes(&mut parsed);
    for entry in parsed["PublishBatchRequestEntries"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        with_attributes(entry);
    }
    parsed
}

fn descend<'a>(mut place: &'a mut Value, mut path: &[&str]) -> &'a mut Value {
    loop {
        (place, path) = match path {
            [] => return place,
            ["member" | "entry", number, rest @ ..] => {
                if place.is_null() {
                    *place = json!([]);
                }
                let list = place.as_array_mut().unwrap();
                let index = number.parse::<usize>().unwrap() - 1;
                if list.len() <= index {
                    list.resize(index + 1, json!({}));
                }
                (&mut list[index], rest)
            }
            [name, rest @ ..] => (&mut place[*name], rest),
        };
    }
}

fn with_attributes(message: &mut Value) {
    if let Some(Value::Array(list)) = message.get_mut("MessageAttributes").map(Value::take) {
        let named = list.into_iter().map(|mut entry| {
            let name = entry["Name"].as_str().unwrap().to_owned();
            (name, entry["Value"].take())
        });
        message["MessageAttributes"] = named.collect::<Map<_, _>>().into();
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Success, with a message id for every entry.
pub(super) fn default_answer(request: &Value) -> Answer {
    let entries = request["PublishBatchRequestEntries"].as_array();
    Answer::Ok(match request["Action"].as_str().unwrap() {
        "Publish" => json!({ "MessageId": "m-1" }),
        "PublishBatch" => json!({
            "Successful": entries.into_iter().flatten().map(|entry| {
                let id = entry["Id"].as_str().unwrap();
                json!({ "Id": id, "MessageId": format!("m-{id}") })
            }).collect::<Vec<_>>(),
            "Failed": [],
        }),
        _ => json!({}),
    })
}

pub(super) fn result(action: &str, body: &Value) -> Response<SdkBody> {
    let result = xml(body);
    response(
        200,
        format!(
            "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>{result}</{action}Result>\
             <ResponseMetadata><RequestId>request-1</RequestId></ResponseMetadata></{action}Response>"
        ),
    )
}

pub(super) fn error(status: u16, code: &str) -> Response<SdkBody> {
    response(
        status,
        format!(
            "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>no</Message></Error><RequestId>request-1</RequestId></ErrorResponse>"
        ),
    )
}

fn xml(value: &Value) -> String {
    match value {
        Value::Array(list) => list
            .iter()
            .map(|item| format!("<member>{}</member>", xml(item)))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("<{name}>{}</{name}>", xml(value)))
            .collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
