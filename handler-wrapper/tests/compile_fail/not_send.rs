//! Something that belongs to one thread is kept over an await.

use std::rc::Rc;

use throughline::SqsMessage;

async fn process(message: SqsMessage) -> Result<(), std::io::Error> {
    let shared = Rc::new(message);
    std::future::ready(()).await;
    println!("{:?}", shared.body);
    Ok(())
}

fn main() {
    let _ = throughline::traced_sqs_handler(process);
}
