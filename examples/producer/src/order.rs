//! An order as it came, and the two fields that sending it needs.

use serde::Deserialize;
use serde_json::Value;

/// One order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    /// Orders of one group are handled in their order, or share fairly with other groups.
    pub(crate) group: Option<String>,
    /// The JSON that the message's body holds.
    pub(crate) text: String,
}

impl Order {
    /// Reads one order; fields that are not known here go to the consumer as they are.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Known {
            id: String,
            group: Option<String>,
        }
        let known = Known::deserialize(value).map_err(|error| format!("not an order: {error}"))?;
        Ok(Self {
            id: known.id,
            group: known.group,
            text: value.to_string(),
        })
    }
}
