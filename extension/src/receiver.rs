//! Takes OTLP on 127.0.0.1 from any SDK, and hello and complete from the wrapper.
//!
//! Nothing here has a timer: a timer that runs over a freeze would close the function's idle connections at the thaw.
//! Instead connections and bytes are bounded, and whoever has stalled for longest makes room when a bound is reached.

mod connections;
pub mod grpc;
pub mod http;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

pub use self::connections::{Slot, accept};
use crate::buffer::Buffer;
use crate::flush::unix_now;
use crate::lifecycle::Event;
use crate::otlp::{self, Signal};

/// The largest request, after decompression. Chosen: gRPC's own default.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of requests that are being received at the same time. Chosen: two of the largest.
const RECEIVING_BYTES_MAX: usize = 8 << 20;

/// The door to the buffer, shared by both receivers.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffer: Arc<Mutex<Buffer>>,
    arrived: Notify,
    receiving: AtomicUsize,
    events: mpsc::Sender<Event>,
}

/// What became of a client's request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is in the buffer.
    Accepted,
    /// It is no OTLP request of this signal.
    Malformed(String),
    /// It can never fit; the text names the bound.
    TooLarge(String),
    /// Not now: others are being received.
    Busy,
}

/// Bytes of a request that is being received; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    intake: Intake,
    bytes: usize,
}

// === impl Intake ===

impl Intake {
    /// A door to this buffer; hello and complete go to `events`.
    pub fn new(buffer: Arc<Mutex<Buffer>>, events: mpsc::Sender<Event>) -> Self {
        Self(Arc::new(Shared {
            buffer,
            arrived: Notify::new(),
            receiving: AtomicUsize::new(0),
            events,
        }))
    }

    /// Takes one protobuf request, which must be a copy of its own size.
    pub fn accept(&self, signal: Signal, request: Vec<u8>) -> Verdict {
        let items = match otlp::count(signal, &request) {
            // Nothing to keep; an empty request is a valid one (OTLP, "Full Success").
            Ok(0) => return Verdict::Accepted,
            Ok(items) => items,
            Err(error) => return Verdict::Malformed(error.to_string()),
        };
        let mut buffer = self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = buffer.fits(request.len());
        buffer.push(
            signal,
            items,
            Bytes::from(request.into_boxed_slice()),
            unix_now(),
        );
        drop(buffer);
        self.0.arrived.notify_one();
        if fits {
            Verdict::Accepted
        } else {
            Verdict::TooLarge(
                "the request is larger than the whole buffer, see THROUGHLINE_BUFFER_BYTES".into(),
            )
        }
    }

    /// Claims room for bytes that are about to be received; `None`: too many others are being received.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation {
            intake: self.clone(),
            bytes: 0,
        };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Waits until something has arrived since the last call.
    pub async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Hands an event of the wrapper to the lifecycle.
    fn tell(&self, event: Event) {
        // A full channel means thousands of calls in one turn of the loop: nobody well-behaved loses anything.
        let _ = self.0.events.try_send(event);
    }
}

// === impl Reservation ===

impl Reservation {
    /// Claims more room; `false`: there is none.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let receiving = &self.intake.0.receiving;
        let before = receiving.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > RECEIVING_BYTES_MAX {
            receiving.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.intake
            .0
            .receiving
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Binds a receiver's port on 127.0.0.1 only.
///
/// # Errors
/// When the port is taken.
pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}
