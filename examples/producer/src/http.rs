//! The two shapes that API Gateway and the function exchange.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::order::Order;

/// An HTTP request, as far as this function looks at it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl Request {
    /// The orders in the body.
    ///
    /// # Errors
    ///
    /// When the body is neither an order nor a list of orders: the reason, for the caller.
    pub(crate) fn orders(&self) -> Result<Vec<Order>, String> {
        let body = self.body.as_deref().unwrap_or_default();
        let value: Value = if self.is_base64_encoded {
            let bytes = STANDARD
                .decode(body)
                .map_err(|error| format!("the body is not base64: {error}"))?;
            serde_json::from_slice(&bytes)
        } else {
            serde_json::from_str(body)
        }
        .map_err(|error| format!("the body is not JSON: {error}"))?;
        match value {
            Value::Array(list) => list.iter().map(Order::read).collect(),
            one => Ok(vec![Order::read(&one)?]),
        }
    }
}

/// An HTTP answer in JSON.
pub(crate) fn respond(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": { "content-type": "application/json" },
        "body": body.to_string(),
    })
}
