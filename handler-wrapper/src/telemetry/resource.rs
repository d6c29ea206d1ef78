//! What produces the telemetry: the function.

use std::env;

use opentelemetry::{Key, KeyValue};
use opentelemetry_aws::detector::LambdaResourceDetector;
use opentelemetry_sdk::Resource;

/// The resource of this process: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` first, then
/// what Lambda says.
///
/// The published detector knows `faas.*`, `cloud.*` and the log group, and the account's id where
/// an extension has left it; it does not name the service.
pub(super) fn detect() -> Resource {
    let stated = Resource::builder().build();
    let unset = |name: &'static str| stated.get(&Key::from_static_str(name)).is_none();
    let unnamed = stated
        .get(&Key::from_static_str("service.name"))
        .is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let mut builder = Resource::builder();
    // Only what nobody stated: what is given to the builder wins over the environment.
    if let Ok(name) = env::var("AWS_LAMBDA_FUNCTION_NAME")
        && unnamed
    {
        builder = builder.with_attribute(KeyValue::new("service.name", name));
    }
    if let Ok(version) = env::var("AWS_LAMBDA_FUNCTION_VERSION")
        && unset("service.version")
        && version != "$LATEST"
    {
        builder = builder.with_attribute(KeyValue::new("service.version", version));
    }
    let lambda = Resource::builder_empty()
        .with_detector(Box::new(LambdaResourceDetector))
        .build();
    let detected = lambda
        .iter()
        .filter(|(key, _)| stated.get(key).is_none())
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    builder.with_attributes(detected).build()
}
