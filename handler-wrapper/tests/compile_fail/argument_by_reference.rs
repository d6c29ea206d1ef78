//! The message is borrowed.

use throughline::SqsMessage;

async fn process(message: &SqsMessage) -> Result<(), std::io::Error> {
    println!("{:?}", message.body);
    Ok(())
}

fn main() {
    let _ = throughline::run(throughline::traced_sqs_handler(process));
}
