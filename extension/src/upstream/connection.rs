//! One connection to upstream, moved forward only by the future that uses it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::connect::Stream;
use super::endpoint::Protocol;

/// What is read of an answer.
/// Chosen, because `partial_success` and `Status` are a few hundred bytes; whoever sends more is not an OTLP backend.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An HTTP/1.1 or HTTP/2 connection that carries one request at a time.
pub(super) struct Connection {
    sender: Sender,
    driver: Driver,
    last_use: SystemTime,
}

enum Sender {
    Http1(http1::SendRequest<Chunks>),
    Http2(http2::SendRequest<Chunks>),
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: http::StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`ANSWER_BYTES_MAX`] bytes; what came before the body broke off.
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    /// Whether the body came to its end, so that the connection can be used again.
    pub(super) whole: bool,
}

// === impl Connection ===

impl Connection {
    /// Speaks HTTP over an open stream.
    pub(super) async fn handshake(stream: Stream, protocol: Protocol) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        let driver = Driver::default();
        let sender = match protocol {
            Protocol::HttpProtobuf => {
                let (sender, connection) = http1::Builder::new().handshake(io).await?;
                driver.add(async { drop(connection.await) });
                Sender::Http1(sender)
            }
            Protocol::Grpc => {
                let (sender, connection) =
                    http2::Builder::new(driver.executor()).handshake(io).await?;
                driver.add(async { drop(connection.await) });
                Sender::Http2(sender)
            }
        };
        Ok(Self {
            sender,
            driver,
            last_use: SystemTime::now(),
        })
    }

    /// Whether the connection can carry a request, as far as can be seen from here:
    /// an upstream that has closed it in order is noticed, one that is just gone is not.
    ///
    /// Never waits: a connection that is not ready at once is not worth waiting for.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        poll_fn(|context| {
            // Twice, because the driver finds what has come since the last use, a close among it,
            // and the sender learns of it only then.
            for _ in 0..2 {
                driver.poll(context);
                let ready = match sender {
                    Sender::Http1(sender) => sender.poll_ready(context),
                    Sender::Http2(sender) => sender.poll_ready(context),
                };
                if let Poll::Ready(ready) = ready {
                    return Poll::Ready(ready.is_ok());
                }
            }
            Poll::Ready(false)
        })
        .await
    }

    /// Whether the last use is longer ago than `age_max`, or in the future, by the wall clock:
    /// a monotonic one may stand still while the sandbox is paused.
    pub(super) fn is_older_than(&self, age_max: Duration) -> bool {
        self.last_use.elapsed().map_or(true, |age| age > age_max)
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When no answer began. Dropping the future, or an error, leaves a connection not worth keeping.
    pub(super) async fn exchange(&mut self, request: Request<Chunks>) -> hyper::Result<Answer> {
        let sender = &mut self.sender;
        let exchange = async {
            let response = match sender {
                Sender::Http1(sender) => sender.send_request(request).await?,
                Sender::Http2(sender) => sender.send_request(request).await?,
            };
            Ok(read(response).await)
        };
        let answer = self.driver.beside(exchange).await;
        self.last_use = SystemTime::now();
        answer
    }
}

async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers, mut whole) = (Vec::new(), None, true);
    while let Some(frame) = incoming.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) if body.len() + data.len() <= ANSWER_BYTES_MAX => {
                body.extend_from_slice(&data);
            }
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Ok(Ok(_)) | Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Answer {
        status: head.status,
        headers: head.headers,
        body,
        trailers,
        whole,
    }
}

/// The futures that move a connection forward.
///
/// It takes the place of an executor: hyper hands its tasks to it, and they run only while a request is polled.
/// So nothing reads or writes between invocations, and dropping the connection ends all of it at once.
#[derive(Default)]
struct Driver(Arc<Mutex<Vec<Task>>>);

/// What hyper hands tasks to. Tasks hold it themselves, so it must not keep them alive.
#[derive(Clone)]
struct Executor(Weak<Mutex<Vec<Task>>>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

// === impl Driver ===

impl Driver {
    fn executor(&self) -> Executor {
        Executor(Arc::downgrade(&self.0))
    }

    fn add(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0
            .lock()
            .expect("no panic while the lock is held")
            .push(Box::pin(task));
    }

    /// Polls every task, those included that are added meanwhile.
    fn poll(&self, context: &mut Context<'_>) {
        let lock = || self.0.lock().expect("no panic while the lock is held");
        let mut waiting = Vec::new();
        loop {
            // The lock is not held while a task runs, for a task may add another.
            let Some(mut task) = lock().pop() else { break };
            if task.as_mut().poll(context).is_pending() {
                waiting.push(task);
            }
        }
        lock().append(&mut waiting);
    }

    /// Runs `future` to its end with the tasks beside it.
    async fn beside<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            if polled.is_pending() {
                self.poll(context);
            }
            polled
        })
        .await
    }
}

// === impl Executor ===

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        // Without its driver the connection is gone, and so is the task's purpose.
        if let Some(tasks) = self.0.upgrade() {
            Driver(tasks).add(task);
        }
    }
}

/// A request body that was cut into chunks already: sent with its length known, without copying.
pub(super) struct Chunks {
    rest: std::vec::IntoIter<Bytes>,
    bytes_left: u64,
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn new(chunks: Vec<Bytes>) -> Self {
        let bytes_left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            rest: chunks.into_iter(),
            bytes_left,
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.rest.find(|chunk| !chunk.is_empty());
        self.bytes_left -= next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}
