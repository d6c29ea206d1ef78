//! What is left when the loop itself fails: the function must go on.

use crate::lambda::extensions_api::Events;
use crate::lifecycle::Event;
use crate::log::{self, Level};

/// Runs the loop to its end. Should it panic, which is a bug of ours, the function is not taken down with it:
/// from then on events are asked for and nothing is exported, until SHUTDOWN.
pub(super) async fn outlive(drive: impl Future<Output = ()> + Send + 'static, mut events: Events) {
    if tokio::spawn(drive).await.is_ok() {
        return;
    }
    let text = "the extension has failed; the function goes on without its telemetry";
    log::line(Level::Error, text, &[]);
    while !matches!(events.next().await, Event::Shutdown { .. }) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::lambda::RuntimeApi;

    /// Answers one request with each of these bodies, in turn; how many it answered.
    async fn serve(listener: TcpListener, bodies: [&str; 3]) -> usize {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut answered = 0;
        for body in bodies {
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let answer = format!("{head}{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            answered += 1;
        }
        answered
    }

    #[tokio::test]
    async fn a_panic_of_the_loop_is_followed_by_nothing_but_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = RuntimeApi::parse(&listener.local_addr().unwrap().to_string());
        let invoke = r#"{"eventType":"INVOKE","requestId":"r","deadlineMs":1}"#;
        let shutdown = r#"{"eventType":"SHUTDOWN","deadlineMs":1}"#;
        let served = tokio::spawn(serve(listener, [invoke, invoke, shutdown]));
        outlive(async { panic!("scripted") }, Events::new(api, "id".into())).await;
        assert_eq!(served.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_loop_that_ends_is_the_end() {
        // Nobody listens there: asking would never end.
        let api = RuntimeApi::parse("127.0.0.1:1");
        outlive(async {}, Events::new(api, "id".into())).await;
    }
}
