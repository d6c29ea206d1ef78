//! Where export requests go.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::client::{Peer, SendError};
use super::extension::{Extension, Presence};
use super::outbox::Parcel;
use super::target::Target;

/// Sends export requests to the extension as long as it may be there, else straight to an endpoint.
#[derive(Debug)]
pub(crate) struct Client {
    extension: Option<Arc<Extension>>,
    direct: Option<Peer>,
}

// === impl Client ===

impl Client {
    /// Straight to an endpoint.
    pub(crate) fn new(target: Target) -> Self {
        Self {
            extension: None,
            direct: Some(Peer::new(target)),
        }
    }

    /// To the extension; should it turn out not to be there, to `otherwise`.
    pub(crate) fn to_extension(extension: Arc<Extension>, otherwise: Option<Target>) -> Self {
        Self {
            extension: Some(extension),
            direct: otherwise.map(Peer::new),
        }
    }

    /// Posts an export request.
    pub(super) async fn export(&self, parcel: &Parcel) -> Result<(StatusCode, Bytes), SendError> {
        if let Some(extension) = &self.extension
            && extension.presence() != Presence::Absent
        {
            let result = extension.peer().export(parcel).await;
            let unreachable = matches!(result, Err(SendError::Unreachable));
            // An extension that has said hello and is gone is a crash, which ends the sandbox.
            if !(unreachable && extension.presence() == Presence::Unknown) {
                return result;
            }
            extension.set_absent();
        }
        match &self.direct {
            Some(peer) => peer.export(parcel).await,
            None => Err(SendError::Unreachable),
        }
    }
}
