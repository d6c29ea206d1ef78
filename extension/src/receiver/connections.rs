//! Connections, bounded in number: whoever has stalled for longest makes room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::log::{self, Level};

/// Connections to each receiver. Lambda allows 1,024 file descriptors for the whole sandbox.
const CONNECTIONS_MAX: usize = 128;
/// A connection that has not moved for this long in the middle of a request has stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

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
