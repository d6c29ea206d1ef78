//! Whether the Throughline extension is in the sandbox, and the calls to it.

use std::sync::Mutex;
use std::time::Duration;

use super::client::{Peer, SendError};
use super::lock;
use super::target::Target;

/// How many hellos may stay without an answer before whoever listens there is a stranger.
const UNANSWERED_MAX: u32 = 4;

/// What is known about the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Not asked yet, or somebody listens who has not answered in time. On a function of 128 MB,
    /// which has a fourteenth of a processor, that is no sign of a stranger.
    Unknown,
    /// It said hello.
    Present,
    /// Nobody listens on its port, or somebody else. Final.
    Absent,
}

/// The extension as this process sees it.
#[derive(Debug)]
pub(crate) struct Extension {
    peer: Peer,
    presence: Mutex<Presence>,
    /// One hello at a time; counts those without an answer.
    greeting: tokio::sync::Mutex<u32>,
}

// === impl Extension ===

impl Extension {
    /// The extension that may listen on this port of 127.0.0.1.
    pub(crate) fn on_port(port: u16) -> Self {
        Self {
            peer: Peer::new(Target::loopback(port)),
            presence: Mutex::new(Presence::Unknown),
            greeting: tokio::sync::Mutex::new(0),
        }
    }

    /// No extension, and nobody who would ask for it.
    pub(crate) fn absent() -> Self {
        Self {
            presence: Mutex::new(Presence::Absent),
            ..Self::on_port(0)
        }
    }

    pub(crate) fn presence(&self) -> Presence {
        *lock(&self.presence)
    }

    pub(super) fn set_absent(&self) {
        *lock(&self.presence) = Presence::Absent;
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Says hello, unless the answer is known, and waits for the answer for `limit` at most.
    pub(crate) async fn greet(&self, limit: Duration) {
        if self.presence() != Presence::Unknown {
            return;
        }
        // Not longer for a hello that another task has under way, either.
        let _ = tokio::time::timeout(limit, self.hello(limit)).await;
    }

    async fn hello(&self, limit: Duration) {
        let mut unanswered = self.greeting.lock().await;
        if self.presence() != Presence::Unknown {
            return;
        }
        *unanswered += 1;
        let path = "/throughline/v1/hello";
        let presence = match self.peer.call(path, r#"{"v":1}"#, limit).await {
            Ok((status, _)) if status.as_u16() == 200 => Presence::Present,
            Err(SendError::Elapsed) if *unanswered < UNANSWERED_MAX => return,
            // 404 first of all: somebody else's server.
            Ok(_) | Err(_) => Presence::Absent,
        };
        *lock(&self.presence) = presence;
    }

    /// Tells that the invocation's last spans have been handed over.
    pub(crate) async fn complete(&self, request_id: &str, limit: Duration) {
        if self.presence() == Presence::Present && is_path_segment(request_id) {
            let path = format!("/throughline/v1/invocations/{request_id}/complete");
            let _ = self.peer.call(&path, "", limit).await;
        }
    }
}

fn is_path_segment(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
