//! There is no result that could be an error.

use throughline::SqsMessage;

async fn process(message: SqsMessage) {
    println!("{:?}", message.body);
}

fn main() {
    let _ = throughline::traced_sqs_handler(process);
}
