//! `Deserialize` was forgotten.

use throughline::Json;

struct Order {
    id: String,
}

async fn process(Json(order): Json<Order>) -> Result<(), std::io::Error> {
    println!("{}", order.id);
    Ok(())
}

fn main() {
    let _ = throughline::traced_sqs_handler(process);
}
