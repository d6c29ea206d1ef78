//! What produces the telemetry: the function.

use std::env;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;

/// The resource of this process: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` first, then
/// what Lambda says.
pub(super) fn detect() -> Resource {
    let resource = Resource::builder().build();
    let unnamed = resource
        .get(&Key::from_static_str("service.name"))
        .is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let function = env::var("AWS_LAMBDA_FUNCTION_NAME").ok();
    match function.filter(|_| unnamed) {
        // Set afterwards and only then: as an attribute of the builder it would win over
        // OTEL_SERVICE_NAME.
        Some(name) => Resource::builder()
            .with_attribute(KeyValue::new("service.name", name))
            .build(),
        None => resource,
    }
}
