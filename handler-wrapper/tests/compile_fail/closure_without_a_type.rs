//! A closure whose argument could be anything.

fn main() {
    let _ = throughline::traced_sqs_handler(|message| async move {
        println!("{:?}", message);
        Ok::<(), std::io::Error>(())
    });
}
