//! The edge: all input and output. This file holds the contracts that receivers, exporters, stores and listeners meet.
//!
//! What enters: bytes from callers, files and disks. What leaves: bytes to the next hop and to the state directory.
//! Promise: an edge knows nothing of verdicts; it moves bytes, deadlines and refusals, and never panics on bad input.
//! Absent on purpose: configuration (each edge owns its `Settings`) and everything the engine decides.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::engine::{
    correlate::{Change, Incident},
    tenant::Tenant,
};

pub mod api;
mod auth;
pub mod authenticate_basic;
pub mod authenticate_bearer;
pub mod cluster;
pub mod cluster_kafka;
mod desk;
pub mod export_debug;
pub mod export_file;
pub mod export_http;
pub mod export_kafka;
pub mod export_otlp;
pub mod files;
pub mod halving;
pub mod health;
pub mod host;
pub mod memory_limiter;
pub mod model;
pub mod notify_alertmanager;
pub mod notify_webhook;
pub mod push_otlp;
pub mod queue;
pub mod receive_grpc;
pub mod receive_http;
pub mod receive_kafka;
pub mod store;
mod transport;

pub use transport::{
    delivery::counting_attempts,
    receiver::{Common, Protocol, Receiver},
};

pub use crate::engine::view::Signal;
use auth::Nobody;
pub use auth::{AuthError, AuthSettings, Authenticator, Credentials, Stranger};
pub use desk::{
    AgentMode, AgentStatus, Desk, FeedbackError, Found, Heard, Notice, TemplatePlace, Told, Watch, WhichIncidents,
    WhichTemplates,
};

/// A boxed future, as the object-safe contracts below need.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Request metadata of a caller (lower-case header names and their values), kept when `include_metadata` is on; `traceparent`
/// always is, so that a request's trace goes with it, also through a queue on disk.
///
/// Only printable ASCII values are kept; `grpc-*`, `content-type`, `te`, `user-agent` and `:pseudo` headers never are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub Arc<[(String, String)]>);

impl Metadata {
    /// All values of the header `name` (compared without regard to case), in the order they came.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Those of these pairs whose values are printable ASCII; names in lower case.
    pub fn printable<'p>(pairs: impl Iterator<Item = (&'p str, &'p [u8])>) -> Self {
        let printable = |value: &[u8]| value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let kept = pairs.filter(|(_, value)| printable(value)).map(|(name, value)| {
            let value = value.iter().map(|byte| char::from(*byte)).collect();
            (name.to_ascii_lowercase(), value)
        });
        Self(kept.collect())
    }

    /// The same with one value for `name`, whatever it was before.
    #[must_use]
    pub fn with(&self, name: &str, value: String) -> Self {
        let others = self.0.iter().filter(|(key, _)| !key.eq_ignore_ascii_case(name));
        Self(others.cloned().chain([(name.to_owned(), value)]).collect())
    }
}

/// One export request on its way, still as the bytes it came in (or, outbound, with our attributes spliced in).
#[derive(Clone, Debug)]
pub struct Request {
    /// What it tells of: logs, `ExportLogsServiceRequest`, or another.
    pub signal: Signal,
    /// The protobuf bytes, uncompressed.
    pub body: Bytes,
    /// What the caller said beside the bytes.
    pub metadata: Metadata,
    /// When the caller must have an answer: its own deadline less a margin.
    pub deadline: Instant,
}

/// Why a request was not taken. Says what the caller should do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not what the service takes: do not send them again (INVALID_ARGUMENT).
    #[error("malformed request: {0}")]
    Malformed(String),
    /// Nothing is wrong with the request: send the same bytes again, after `retry_after` if given (UNAVAILABLE + RetryInfo).
    #[error("unavailable: {message}")]
    Unavailable {
        /// What stands in the way.
        message: String,
        /// How long the caller should wait.
        retry_after: Option<Duration>,
    },
    /// The next hop refused for good: its own code (a gRPC status code), message and `grpc-status-details-bin` go back to the caller.
    #[error("refused by the next hop (gRPC code {code}): {message}")]
    Permanent {
        /// gRPC status code of the next hop.
        code: i32,
        /// Its message.
        message: String,
        /// Its encoded `google.rpc.Status`, empty when it sent none.
        details: Bytes,
    },
}

impl Refusal {
    /// Whether the destination says that the request is larger than it takes (RESOURCE_EXHAUSTED; with `RetryInfo` it would be
    /// no refusal for good): its halves may pass.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Permanent { code, .. } if *code == tonic::Code::ResourceExhausted as i32)
    }

    /// What kind it is, in one word out of few.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unavailable { .. } => "unavailable",
            Self::Permanent { .. } => "refused",
        }
    }
}

/// Where a receiver hands its requests. The answer is the acknowledgement: `Ok` only once the next hop has the records, or they are on disk.
pub trait Intake: Send + Sync + 'static {
    /// Whether a request would be taken now. Receivers ask before they read a body, so that a refusal costs nothing.
    ///
    /// # Errors
    /// What to tell the caller instead.
    fn ready(&self) -> Result<(), Refusal> {
        Ok(())
    }
    /// Takes one request; `Ok` holds the bytes of its signal's response for the caller.
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>>;
}

/// Where a receiver hands the requests of each signal. One that is not here is not served.
#[derive(Clone, Default)]
pub struct Intakes(Vec<(Signal, Arc<dyn Intake>)>);

impl Intakes {
    /// With `intake` for `signal`.
    #[must_use]
    pub fn with(mut self, signal: Signal, intake: Arc<dyn Intake>) -> Self {
        self.0.retain(|(known, _)| *known != signal);
        self.0.push((signal, intake));
        self
    }

    /// That of `signal`.
    pub fn of(&self, signal: Signal) -> Option<&Arc<dyn Intake>> {
        let found = self.0.iter().find(|(known, _)| *known == signal);
        found.map(|(_, intake)| intake)
    }

    /// Those of `signals` alone.
    #[must_use]
    pub fn only(&self, signals: impl Iterator<Item = Signal>) -> Self {
        let found = signals.filter_map(|signal| Some((signal, Arc::clone(self.of(signal)?))));
        Self(found.collect())
    }

    /// Each behind what `entry` makes of it.
    #[must_use]
    pub fn behind(self, entry: impl Fn(Signal, Arc<dyn Intake>) -> Arc<dyn Intake>) -> Self {
        let behind = |(signal, intake)| (signal, entry(signal, intake));
        Self(self.0.into_iter().map(behind).collect())
    }

    /// The signals that are served.
    pub fn signals(&self) -> impl Iterator<Item = Signal> + '_ {
        self.0.iter().map(|(signal, _)| *signal)
    }
}

impl From<Arc<dyn Intake>> for Intakes {
    /// For logs alone.
    fn from(intake: Arc<dyn Intake>) -> Self {
        Self::default().with(Signal::Logs, intake)
    }
}

/// A way out. `Ok` means the destination has accepted the bytes, or a queue has them on disk; retries happen inside, never past
/// `request.deadline`.
pub trait Exporter: Send + Sync + 'static {
    /// Sends one request; `Ok` holds the bytes of the destination's response, possibly with a `partial_success`.
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>>;
}

/// A way out that keeps a request on disk until its destination has it. `export` is `reserve` and `keep` in one.
pub trait Keeper: Exporter {
    /// Room for a request; it is given free again when what is returned is dropped unused.
    fn reserve(&self, request: &Request) -> BoxFuture<'_, Result<Box<dyn Reserved>, Refusal>>;
}

/// Room that a [`Keeper`] has reserved.
pub trait Reserved: Send {
    /// Keeps the request that the room was reserved for; `Ok` means that it is on disk.
    fn keep(self: Box<Self>, request: Request) -> BoxFuture<'static, Result<(), Refusal>>;
}

/// How many items the response of a destination reports as rejected.
pub fn rejected_items(response: &[u8]) -> u64 {
    let partial = transport::partial_success::read(response).ok().flatten();
    partial.map_or(0, |partial| u64::try_from(partial.rejected_items).unwrap_or_default())
}

/// Where what was learned survives a restart. Calls block: never from an async thread.
pub trait Store: Send + Sync + 'static {
    /// Replaces the snapshot atomically (write aside, sync, rename, sync the directory).
    fn save_snapshot(&self, bytes: &[u8]) -> std::io::Result<()>;
    /// Appends one entry to the journal of the current epoch; durable (fdatasync) on return when `sync`.
    fn append_journal(&self, entry: &[u8], sync: bool) -> std::io::Result<()>;
    /// Returns once everything appended is on the disk (fdatasync).
    fn sync_journal(&self) -> std::io::Result<()>;
    /// Begins the journal of `epoch`; entries of epochs before the saved snapshot's are deleted by [`Store::prune_journal`].
    fn begin_epoch(&self, epoch: u64) -> std::io::Result<()>;
    /// Deletes journals of epochs older than `epoch`.
    fn prune_journal(&self, epoch: u64) -> std::io::Result<()>;
    /// The file of opinions as it is now, which people may have edited; `None` when there is none.
    fn load_feedback(&self) -> std::io::Result<Option<String>>;
    /// Replaces the file of opinions atomically.
    fn save_feedback(&self, yaml: &str) -> std::io::Result<()>;
}

/// The clock of this machine, Unix nanoseconds; 0 before 1970.
pub fn now_unix_nano() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// What came of one step of a [`Listener`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tellings {
    /// Tellings that were taken.
    pub sent: u64,
    /// Tellings that were refused, or given up after retries.
    pub failed: u64,
    /// Tellings for which there was no room.
    pub dropped: u64,
    /// When the next step is due, unless something is heard before; now or earlier where there is more to do at once.
    pub next: Option<Instant>,
}

/// Somebody outside who is told of incidents. Its pace is its own: no log ever waits for it.
pub trait Listener: Send + 'static {
    /// Its name in the configuration, for the log.
    fn name(&self) -> &'static str;
    /// Takes note of a change; sends nothing.
    fn hear(&mut self, tenant: &Tenant, change: &Change);
    /// Whether it keeps up what is open, and so wants [`Listener::hear_open`].
    fn follows_open(&self) -> bool {
        false
    }
    /// Takes note of all that is open: at the start, and when changes were missed. Those it knows that are not among them
    /// are over.
    fn hear_open(&mut self, _open: Vec<(Tenant, Incident)>) {}
    /// Sends what is due, as far as one step goes: an attempt that ends by itself in bounded time.
    fn tell(&mut self) -> BoxFuture<'_, Tellings>;
    /// Changes that it has heard of and not told.
    fn waiting(&self) -> usize;
}
