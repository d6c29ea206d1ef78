//! The argument is neither the message nor its body as JSON.

async fn process(body: String) -> Result<(), std::io::Error> {
    println!("{body}");
    Ok(())
}

fn main() {
    let _ = throughline::run(throughline::traced_sqs_handler(process));
}
