//! Takes OTLP on 127.0.0.1 from any SDK, and hello and complete from the wrapper.
//!
//! Nothing here has a timer: a timer that runs over a freeze would close the function's idle connections at the thaw.
//! Instead connections and bytes are bounded, and whoever has stalled for longest makes room when a bound is reached.

pub mod grpc;
pub mod http;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::flush::unix_now;
use crate::lifecycle::Event;
use crate::log::{self, Level};
use crate::otlp::{self, Signal};

/// The largest request, after decompression. Chosen: gRPC's own default.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of requests that are being received at the same time. Chosen: two of the largest.
const RECEIVING_BYTES_MAX: usize = 8 << 20;
/// Connections to each receiver. Lambda allows 1,024 file descriptors for the whole sandbox.
const CONNECTIONS_MAX: usize = 128;
/// A connection that has not moved for this long in the middle of a request has stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

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

/// One connection's place among the bounded number of them.
#[derive(Clone, Debug)]
pub struct Slot {
    connections: Connections,
    id: u64,
}

#[derive(Clone, Debug, Default)]
struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    rows: HashMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    task: Option<AbortHandle>,
    moved: Instant,
    /// Between two requests, after at least one; everything else may be a client that has stalled.
    idle: bool,
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

// === impl Slot ===

impl Slot {
    /// Bytes have moved in the middle of a request.
    pub fn moved(&self) {
        self.mark(false);
    }

    /// A request has been answered.
    pub fn answered(&self) {
        self.mark(true);
    }

    /// Closes the connection that has stalled for longest, when there is one.
    pub fn close_stalled(&self) {
        let mut table = self.connections.lock();
        let now = Instant::now();
        let stalled = table
            .rows
            .iter()
            .filter(|(id, row)| **id != self.id && !row.idle && now - row.moved >= STALLED_AFTER)
            .min_by_key(|(_, row)| row.moved)
            .map(|(id, _)| *id);
        if let Some(id) = stalled {
            table.close(id);
        }
    }

    fn mark(&self, idle: bool) {
        if let Some(row) = self.connections.lock().rows.get_mut(&self.id) {
            (row.moved, row.idle) = (Instant::now(), idle);
        }
    }
}

// === impl Connections ===

impl Connections {
    /// A place for a new connection; the one that is least missed makes room.
    fn slot(&self) -> Slot {
        let mut table = self.lock();
        if table.rows.len() >= CONNECTIONS_MAX {
            let least = table
                .rows
                .iter()
                .min_by_key(|(_, row)| (row.idle, row.moved))
                .map(|(id, _)| *id);
            if let Some(id) = least {
                table.close(id);
            }
        }
        let id = table.next_id;
        table.next_id += 1;
        table.rows.insert(
            id,
            Row {
                task: None,
                moved: Instant::now(),
                idle: false,
            },
        );
        drop(table);
        Slot {
            connections: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Table ===

impl Table {
    fn close(&mut self, id: u64) {
        if let Some(Row {
            task: Some(task), ..
        }) = self.rows.remove(&id)
        {
            task.abort();
        }
    }
}

/// Binds a receiver's port on 127.0.0.1 only.
///
/// # Errors
/// When the port is taken.
pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Accepts connections for ever and gives each to `serve`, in a task of its own.
pub async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream, Slot) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Connections::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the client was gone at once: neither ends the receiver.
                let fields = [("error", error.to_string().into())];
                log::once(
                    "accept",
                    Level::Warn,
                    "a connection could not be accepted",
                    &fields,
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Answers are small: they must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let slot = connections.slot();
        let id = slot.id;
        let serving = serve(stream, slot);
        let table = connections.clone();
        let task = tokio::spawn(async move {
            let _leave = Leave(table, id);
            serving.await;
        });
        if let Some(row) = connections.lock().rows.get_mut(&id) {
            row.task = Some(task.abort_handle());
        }
    }
}

/// Frees a connection's place however its task ends.
struct Leave(Connections, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.lock().rows.remove(&self.1);
    }
}
