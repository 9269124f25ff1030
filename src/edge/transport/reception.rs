//! Reception: what every OTLP receiver does with a request, whatever protocol brought it.
//!
//! What enters: the body of a call, frame by frame, and its headers. What leaves: [`Request`]s to the [`Intake`] of their signal,
//! and its answer, or the status that the caller should get.
//! Promise: a caller gets one clear status before its own deadline; what can be sent again says so, with `RetryInfo`, what
//! cannot never looks as if it could; bytes and requests held at the same time are bounded; each request is counted once; of a
//! caller that must be known and is not, no byte of the body is read.
//! Absent on purpose: framing, paths and how a status is spelt in a protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tonic::{Code, Status};

use super::{
    MIB,
    admission::{Admission, Place},
    compression::{Compression, DecompressionError},
    metadata, signals, status,
    warnings::Throttle,
};
use crate::edge::{Authenticator, Intake, Intakes, Request, Signal, Stranger};

/// How long a caller that names no timeout is taken to wait for its answer, once its request has arrived.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is kept of a caller's timeout for the way back.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a request may take to arrive when its caller names no timeout.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait asked of callers when the receiver itself refuses.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The largest response (item 9).
const MAX_RESPONSE_BYTES: usize = 4 * MIB;
/// Time between two lines of the log about a signal that nobody takes.
const UNSERVED_INTERVAL: Duration = Duration::from_secs(60);
/// Smaller responses are not worth compressing.
const COMPRESS_FROM_BYTES: usize = 1024;

/// What happened to requests since the start. A request is counted in exactly one of the first five.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests acknowledged.
    pub accepted_requests: AtomicU64,
    /// Requests refused for now: the caller may send them again.
    pub refused_requests: AtomicU64,
    /// Requests refused for good: malformed, too large, or refused by the next hop.
    pub failed_requests: AtomicU64,
    /// Requests of callers that are not known; their bodies were not read.
    pub unauthenticated_requests: AtomicU64,
    /// Calls of methods that Harbinger does not have, or of a signal that no pipeline takes.
    pub unknown_method_requests: AtomicU64,
    /// Bytes of the acknowledged requests, uncompressed, as protobuf.
    pub accepted_bytes: AtomicU64,
}

/// What a receiver holds requests to.
pub struct Bounds {
    /// Who knows the callers; `None` lets everybody in.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Largest request in bytes, after decompression.
    pub max_request_bytes: usize,
    /// The key that sets it.
    pub max_request_key: &'static str,
    /// Whether the callers' headers are kept.
    pub include_metadata: bool,
    /// What is held at the same time.
    pub admission: Arc<Admission>,
}

/// The way from a receiver to the intakes of its signals.
pub struct Reception {
    intakes: Intakes,
    bounds: Bounds,
    counters: Arc<Counters>,
    lanes: Semaphore,
    unserved: [Throttle; Signal::ALL.len()],
}

impl Reception {
    /// A way to `intakes`.
    pub fn new(intakes: impl Into<Intakes>, bounds: Bounds, counters: Arc<Counters>) -> Self {
        Self {
            intakes: intakes.into(),
            bounds,
            counters,
            lanes: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
            unserved: std::array::from_fn(|_| Throttle::every(UNSERVED_INTERVAL)),
        }
    }

    /// The signals that a pipeline takes.
    pub fn signals(&self) -> impl Iterator<Item = Signal> + '_ {
        self.intakes.signals()
    }

    /// Whether a pipeline takes this signal. If none does, that is counted, and said in the log once a minute.
    ///
    /// # Errors
    /// What to write so that one does.
    pub fn serves(&self, signal: Signal) -> Result<(), String> {
        if self.intakes.of(signal).is_some() {
            return Ok(());
        }
        self.count_unknown();
        let message = signals::unserved(signal);
        if let Some(left_out) = self.unserved.get(signal as usize).and_then(Throttle::admit) {
            tracing::warn!(left_out, "refused: {message}");
        }
        Err(message)
    }

    fn intake(&self, signal: Signal) -> Result<&Arc<dyn Intake>, Status> {
        let intake = self.intakes.of(signal);
        intake.ok_or_else(|| Status::unimplemented(signals::unserved(signal)))
    }

    /// The largest request in bytes.
    pub fn limit(&self) -> usize {
        self.bounds.max_request_bytes
    }

    /// Work on large requests takes one of these.
    pub fn lanes(&self) -> &Semaphore {
        &self.lanes
    }

    /// Whether the caller may send anything. What it showed was for this agent: no exporter may pass it on.
    ///
    /// # Errors
    /// What it is told, and in HTTP the value of `WWW-Authenticate`.
    pub async fn know(&self, headers: &mut HeaderMap) -> Result<(), (Status, HeaderValue)> {
        let Some(authenticator) = &self.bounds.authenticator else {
            return Ok(());
        };
        if let Err(stranger) = authenticator.check(headers).await {
            self.counters.unauthenticated_requests.fetch_add(1, Ordering::Relaxed);
            let status = match stranger {
                Stranger::Unknown => Status::unauthenticated(stranger.to_string()),
                Stranger::Busy => busy(&stranger.to_string()),
            };
            return Err((status, authenticator.challenge()));
        }
        headers.remove(authenticator.header());
        Ok(())
    }

    /// A place for one more request, before anything of it is read.
    pub fn enter(&self, signal: Signal) -> Result<Place, Status> {
        let place = self.bounds.admission.enter();
        let place = place.ok_or_else(|| busy("too many requests at the same time (`max_requests_in_flight`)"))?;
        self.intake(signal)?.ready().map_err(status::of_refusal)?;
        Ok(place)
    }

    /// Holds `more` bytes in `place`.
    pub fn hold(&self, place: &mut Place, more: usize) -> Result<(), Status> {
        if place.grow(more) {
            return Ok(());
        }
        Err(busy("too many bytes at the same time (`max_mib_in_flight`)"))
    }

    /// Waits for a request to arrive until the caller's deadline, or for as long as is good for one without.
    pub async fn arrived<T>(
        &self,
        deadline: Option<Instant>,
        reading: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let until = deadline.unwrap_or_else(|| Instant::now() + READ_TIMEOUT);
        timeout_at(until, reading)
            .await
            .map_err(|_| busy("the request did not arrive in time"))?
    }

    /// Decompresses a whole message; `place` holds what it is then.
    pub async fn decompressed(
        &self,
        message: Bytes,
        encoding: Compression,
        place: &mut Place,
    ) -> Result<Bytes, Status> {
        let message = encoding
            .decompress(message, self.limit(), &self.lanes)
            .await
            .map_err(|error| match error {
                DecompressionError::TooLarge { .. } => self.too_large(error),
                DecompressionError::Corrupt { .. } => Status::invalid_argument(error.to_string()),
            })?;
        place.empty();
        self.hold(place, message.len())?;
        Ok(message)
    }

    /// Item 7. Without `RetryInfo`, so that no client sends it again.
    pub fn too_large(&self, what: impl std::fmt::Display) -> Status {
        let key = self.bounds.max_request_key;
        Status::new(
            Code::ResourceExhausted,
            format!("{what}; make batches smaller, or raise `{key}`"),
        )
    }

    /// Hands a request on and waits for the answer, which is the caller's acknowledgement.
    pub async fn hand_on(
        &self,
        signal: Signal,
        body: Bytes,
        headers: HeaderMap,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + answer_within(DEFAULT_TIMEOUT));
        let metadata = if self.bounds.include_metadata {
            metadata::kept(&headers)
        } else {
            metadata::kept_always(&headers)
        };
        drop(headers);
        let bytes = body.len() as u64;
        let request = Request {
            signal,
            body,
            metadata,
            deadline,
        };
        let answer = timeout_at(deadline, self.intake(signal)?.accept(request))
            .await
            .map_err(|_| busy("the next hop did not answer in time"))?
            .map_err(status::of_refusal)?;
        self.counters.accepted_requests.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(answer)
    }

    /// Counts a request that is answered with `status`.
    pub fn count_refusal(&self, status: &Status) {
        let counter = if status::is_retried(status) {
            &self.counters.refused_requests
        } else {
            &self.counters.failed_requests
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call of something that is not served.
    pub fn count_unknown(&self) {
        self.counters.unknown_method_requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// The acknowledgement as it goes out: nothing where it is too large, compressed where that is accepted and worth it.
pub async fn response(message: Bytes, accepted: Compression) -> (Bytes, Compression) {
    let message = if message.len() > MAX_RESPONSE_BYTES {
        Bytes::new()
    } else {
        message
    };
    if message.len() < COMPRESS_FROM_BYTES {
        return (message, Compression::None);
    }
    match accepted.compress(message.clone()).await {
        Ok(compressed) => (compressed, accepted),
        Err(_) => (message, Compression::None),
    }
}

/// Refused by the receiver itself, for now.
pub fn busy(message: &str) -> Status {
    status::unavailable(message, Some(RETRY_AFTER))
}

/// Time for the work: the caller's patience less a margin for the way back, which is at most half of it.
pub fn answer_within(timeout: Duration) -> Duration {
    timeout - MARGIN.min(timeout / 2)
}
