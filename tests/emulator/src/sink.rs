//! The OTLP sink: an upstream that decodes for itself, answers by script, and says when it had read and answered what.

mod answer;
mod connection;
mod decode;
mod grpc;
mod tls;

pub use answer::SinkAnswer;
pub use decode::{Attributes, ReceivedSpan, Signal, SpanEvent, SpanLink, Value};

use crate::{
    certificates::Certificates,
    clock::Moment,
    timeline::{Entry, Event, Timeline},
};
use bytes::Bytes;
use decode::Decoded;
use std::{
    collections::{HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A request the sink has read whole.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// Number in the order of arrival, from 0.
    pub number: usize,
    /// Which signal; `None` for a path that is none of OTLP's.
    pub signal: Option<Signal>,
    /// Path as it was asked for.
    pub path: String,
    /// Headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as it came over the wire.
    pub wire_bytes: usize,
    /// Body, decompressed.
    pub body: Bytes,
    /// Spans, data points or log records in it; 0 when it could not be decoded.
    pub items: usize,
    /// Why it could not be decoded.
    pub decode_error: Option<String>,
    /// Number of the HTTP connection it came on, from 0; of gRPC's it is not known.
    pub connection: usize,
    /// When its body had been read whole.
    pub arrived: Moment,
    /// Whether the sink took what was in it: its answer is a success, whether or not the client heard it.
    pub taken: bool,
    /// How many of its items a partial success rejected, the last ones.
    pub rejected: usize,
    /// Status of the answer, `None` while there is none.
    pub status: Option<u16>,
    /// When the answer had been written whole, `None` when it was not.
    pub acknowledged: Option<Moment>,
}

impl ReceivedRequest {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An OTLP collector on a loopback port. Cloning shares it; it stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct OtlpSink(Arc<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    address: SocketAddr,
    grpc_address: SocketAddr,
    tls: bool,
    servers: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

/// What connections share.
#[derive(Debug)]
struct Shared {
    timeline: Timeline,
    source: Arc<str>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Bumped to make idle connections close.
    close_idle: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    script: VecDeque<SinkAnswer>,
    default: SinkAnswer,
    requests: Vec<ReceivedRequest>,
    decoded: Vec<Decoded>,
    connections: usize,
    keep: bool,
}

impl OtlpSink {
    /// Starts one with a timeline of its own.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(&Timeline::new()).await
    }

    /// Starts one that writes to a shared timeline.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start_on(timeline: &Timeline) -> io::Result<Self> {
        Self::start_with(timeline, None, false).await
    }

    /// Starts one that speaks TLS only, on both sides; with `client_auth` it wants a client's certificate.
    ///
    /// # Errors
    /// When no loopback port can be bound or the certificates cannot be used.
    pub async fn start_tls(
        timeline: &Timeline,
        certificates: &Certificates,
        client_auth: bool,
    ) -> io::Result<Self> {
        Self::start_with(timeline, Some(certificates), client_auth).await
    }

    async fn start_with(
        timeline: &Timeline,
        certificates: Option<&Certificates>,
        client_auth: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let grpc_listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, grpc_address) = (listener.local_addr()?, grpc_listener.local_addr()?);
        let acceptor = certificates
            .map(|all| tls::acceptor(all, client_auth))
            .transpose()?;
        let grpc_tls = certificates.map(|all| tls::grpc(all, client_auth));
        let shared = Arc::new(Shared::new(timeline));
        let http = tokio::spawn(connection::accept(listener, shared.clone(), acceptor));
        let served = grpc::serve(grpc_listener, shared.clone(), grpc_tls);
        let grpc = tokio::spawn(async move {
            // It ends when it is aborted; a test that needs it then finds nobody there.
            let _ = served.await;
        });
        let tls = certificates.is_some();
        Ok(Self(Arc::new(Running {
            shared,
            address,
            grpc_address,
            tls,
            servers: [http, grpc],
        })))
    }

    /// Base URL for OTLP/HTTP, `http://127.0.0.1:PORT` or https: what `OTEL_EXPORTER_OTLP_ENDPOINT` wants.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.0.address)
    }

    /// URL for OTLP/gRPC, `http://127.0.0.1:PORT` or https.
    pub fn grpc_url(&self) -> String {
        format!("{}://{}", self.scheme(), self.0.grpc_address)
    }

    fn scheme(&self) -> &'static str {
        if self.0.tls { "https" } else { "http" }
    }

    /// Address its HTTP side listens on.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The timeline it writes to.
    pub fn timeline(&self) -> &Timeline {
        &self.0.shared.timeline
    }

    /// Answers for the next requests, one each, in order of arrival; after them the default. Replaces the script.
    pub fn script(&self, answers: impl IntoIterator<Item = SinkAnswer>) {
        self.0.shared.lock().script = answers.into_iter().collect();
    }

    /// The answer when the script is used up; at first [`SinkAnswer::Ok`].
    pub fn set_default(&self, answer: SinkAnswer) {
        self.0.shared.lock().default = answer;
    }

    /// Closes every connection that has no request under way, as a server does that lost patience: unannounced.
    pub fn close_idle_connections(&self) {
        self.0.shared.close_idle.send_modify(|count| *count += 1);
    }

    /// HTTP connections accepted so far.
    pub fn connections(&self) -> usize {
        self.0.shared.lock().connections
    }

    /// Every request that was read whole.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.shared.lock().requests.clone()
    }

    /// Spans the sink took: of requests answered with success, less what a partial success rejected.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.0.shared.spans(|request| match request.taken {
            true => request.items - request.rejected,
            false => 0,
        })
    }

    /// Spans that arrived, whatever was answered.
    pub fn arrived_spans(&self) -> Vec<ReceivedSpan> {
        self.0.shared.spans(|request| request.items)
    }

    /// [`OtlpSink::spans`] without repetitions of the same trace and span id (delivery is at least once).
    pub fn unique_spans(&self) -> Vec<ReceivedSpan> {
        let mut seen = HashSet::new();
        let mut spans = self.spans();
        spans.retain(|span| seen.insert((span.trace_id.clone(), span.span_id.clone())));
        spans
    }

    /// How many spans the sink took; cheap, and right also when they are not kept.
    pub fn span_count(&self) -> usize {
        self.taken_items(Signal::Traces)
    }

    /// Whether bodies and spans are kept, as they are at first. Without them a benchmark's sink stays small.
    pub fn keep(&self, keep: bool) {
        self.0.shared.lock().keep = keep;
    }

    /// Data points taken so far.
    pub fn data_points(&self) -> usize {
        self.taken_items(Signal::Metrics)
    }

    /// Log records taken so far.
    pub fn log_records(&self) -> usize {
        self.taken_items(Signal::Logs)
    }

    /// Waits until `count` spans were taken ([`OtlpSink::spans`]).
    ///
    /// # Errors
    /// The spans that came `within` the time, when they were fewer.
    pub async fn wait_for_spans(
        &self,
        count: usize,
        within: Duration,
    ) -> Result<Vec<ReceivedSpan>, Vec<ReceivedSpan>> {
        match self
            .wait_until(|sink| sink.span_count() >= count, within)
            .await
        {
            true => Ok(self.spans()),
            false => Err(self.spans()),
        }
    }

    /// Waits until `count` requests were read.
    pub async fn wait_for_requests(&self, count: usize, within: Duration) -> bool {
        self.wait_until(|sink| sink.0.shared.lock().requests.len() >= count, within)
            .await
    }

    /// Waits until `met` is true; it is asked whenever a request arrived or was answered.
    pub async fn wait_until(&self, met: impl Fn(&Self) -> bool, within: Duration) -> bool {
        let mut changed = self.0.shared.changed.subscribe();
        let wait = async {
            while !met(self) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }

    /// Entries of the timeline that this sink wrote.
    pub fn entries(&self) -> Vec<Entry> {
        self.timeline()
            .select(|entry| *entry.source == *self.0.shared.source)
    }

    fn taken_items(&self, signal: Signal) -> usize {
        let state = self.0.shared.lock();
        state
            .requests
            .iter()
            .filter(|request| request.taken && request.signal == Some(signal))
            .map(|request| request.items - request.rejected)
            .sum()
    }
}

// === impl Shared ===

impl Shared {
    fn new(timeline: &Timeline) -> Self {
        let state = State {
            script: VecDeque::new(),
            default: SinkAnswer::Ok,
            requests: Vec::new(),
            decoded: Vec::new(),
            connections: 0,
            keep: true,
        };
        Self {
            timeline: timeline.clone(),
            source: Arc::from("sink"),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            close_idle: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn connected(&self) -> usize {
        let mut state = self.lock();
        state.connections += 1;
        state.connections - 1
    }

    /// The answer for the next request: script first, then default.
    fn next_answer(&self) -> SinkAnswer {
        let mut state = self.lock();
        state
            .script
            .pop_front()
            .unwrap_or_else(|| state.default.clone())
    }

    /// Writes a request down; gives its number.
    fn arrived(&self, mut request: ReceivedRequest, decoded: Decoded) -> usize {
        let signal = request.signal.map_or("none", Signal::as_str);
        let items = request.items;
        let mut state = self.lock();
        let number = state.requests.len();
        request.number = number;
        request.arrived = self.timeline.record(
            &self.source,
            Event::SinkRequestArrived {
                number,
                signal,
                items,
            },
        );
        if state.keep {
            state.decoded.push(decoded);
        } else {
            request.body = Bytes::new();
            state.decoded.push(Decoded::default());
        }
        state.requests.push(request);
        drop(state);
        self.changed();
        number
    }

    /// Settles what becomes of a request, before a byte of the answer is written.
    fn decided(&self, number: usize, status: u16, rejected: usize) {
        let mut state = self.lock();
        let taken = (200..300).contains(&status);
        state.requests[number].status = Some(status);
        state.requests[number].taken = taken;
        if taken {
            state.requests[number].rejected = rejected.min(state.requests[number].items);
        }
        drop(state);
        self.changed();
    }

    fn acknowledged(&self, number: usize, at: Moment) {
        self.lock().requests[number].acknowledged = Some(at);
        self.changed();
    }

    /// The first spans of every request, as many as `wanted` says.
    fn spans(&self, wanted: impl Fn(&ReceivedRequest) -> usize) -> Vec<ReceivedSpan> {
        let state = self.lock();
        let pairs = state.requests.iter().zip(&state.decoded);
        let spans = pairs.flat_map(|(request, decoded)| {
            decoded
                .spans
                .iter()
                .take(wanted(request))
                .map(|span| ReceivedSpan {
                    request: request.number,
                    arrived: request.arrived,
                    acknowledged: request.acknowledged,
                    ..span.clone()
                })
        });
        spans.collect()
    }
}
