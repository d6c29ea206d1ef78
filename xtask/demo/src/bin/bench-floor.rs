//! The least an extension can be: registers with the `lambda-extension` crate and does nothing, ever.
//! What the benchmarks compare with.

use lambda_extension::{Error, Extension, LambdaEvent, NextEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Extension::new()
        .with_events_processor(service_fn(async |event: LambdaEvent| {
            if matches!(event.next, NextEvent::Shutdown(_)) {
                std::process::exit(0);
            }
            Ok::<_, Error>(())
        }))
        .run()
        .await
}
