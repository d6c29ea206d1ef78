//! `async` was forgotten.

use throughline::SqsMessage;

fn process(message: SqsMessage) -> Result<(), String> {
    println!("{:?}", message.body);
    Ok(())
}

fn main() {
    let _ = throughline::traced_sqs_handler(process);
}
