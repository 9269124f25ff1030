//! Delivery: what every OTLP exporter does with a request, whatever protocol takes it.
//!
//! What enters: [`Request`]s, and a way to attempt one. What leaves: the next hop's answer, or what its caller should do.
//! Promise (items 16–18, 21): a request is compressed once, and every attempt sends the same bytes; what can succeed later
//! is tried again within the caller's deadline; each request is counted once; what is lost is said, at most every few
//! seconds; a request of nothing is not sent.
//! Absent on purpose: connections and how an answer is spelt in a protocol, and a queue.

use std::{
    cell::Cell,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    MIB,
    compression::Compression,
    partial_success,
    retry::{self, Failure},
    warnings::Throttle,
};
use crate::edge::{Metadata, Refusal, Request, Signal};

/// Most that is read of a response, decompressed (item 19).
pub const MAX_RESPONSE_BYTES: usize = 4 * MIB;
/// What Harbinger calls itself.
pub const USER_AGENT: &str = concat!("harbinger/", env!("CARGO_PKG_VERSION"));

tokio::task_local! {
    /// Attempts at the request under way, where somebody wants to know.
    static ATTEMPTS: Cell<u64>;
}

/// What came of `exporting`, and how many attempts were made in it.
pub async fn counting_attempts<T>(exporting: impl Future<Output = T>) -> (T, u64) {
    let counted = async {
        let outcome = exporting.await;
        (outcome, ATTEMPTS.with(Cell::get))
    };
    ATTEMPTS.scope(Cell::new(0), counted).await
}

/// What became of requests since the start. A request is counted in exactly one of the first three.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests the next hop has taken.
    pub sent_requests: AtomicU64,
    /// Requests the next hop refused for good.
    pub send_failed_requests: AtomicU64,
    /// Requests given back to the caller to send again.
    pub unavailable_requests: AtomicU64,
    /// Attempts beyond the first.
    pub retries: AtomicU64,
    /// Bytes of the taken requests, uncompressed, as they went out.
    pub sent_bytes: AtomicU64,
    /// The same as they went over the wire, each once.
    pub sent_wire_bytes: AtomicU64,
    /// Responses with a populated `partial_success`.
    pub partial_successes: AtomicU64,
    /// Items that those responses rejected.
    pub rejected_records: AtomicU64,
}

/// What an attempt sends, the same each time.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What it tells of.
    pub signal: Signal,
    /// The body, compressed by `encoding` already.
    pub payload: Bytes,
    /// How it is compressed.
    pub encoding: Compression,
    /// What the caller said beside the bytes.
    pub metadata: Metadata,
}

/// One destination, without its connections.
#[derive(Debug)]
pub struct Delivery {
    next_hop: String,
    compression: Compression,
    timeout: Duration,
    retry: retry::Settings,
    seeds: Mutex<fastrand::Rng>,
    counters: Arc<Counters>,
    unavailable: Throttle,
    refused: Throttle,
    partial: Throttle,
}

impl Delivery {
    /// Deliveries to `next_hop`, which is its name in messages. `timeout` bounds one attempt; `seed` drives the jitter of
    /// retries.
    pub fn new(
        next_hop: String,
        compression: Compression,
        timeout: Duration,
        retry: retry::Settings,
        seed: u64,
    ) -> Self {
        Self {
            next_hop,
            compression,
            timeout,
            retry,
            seeds: Mutex::new(fastrand::Rng::with_seed(seed)),
            counters: Arc::default(),
            unavailable: Throttle::default(),
            refused: Throttle::default(),
            partial: Throttle::default(),
        }
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Delivers by `attempt`, which is to have an answer by the time it is given.
    pub async fn deliver<F>(&self, request: Request, attempt: impl Fn(Parcel, Instant) -> F) -> Result<Bytes, Refusal>
    where
        F: Future<Output = Result<Bytes, Failure>>,
    {
        let Request {
            signal,
            body,
            metadata,
            deadline,
        } = request;
        if body.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = body.len() as u64;
        let (payload, encoding) = match self.compression.compress(body.clone()).await {
            Ok(payload) => (payload, self.compression),
            Err(_) => (body.clone(), Compression::None),
        };
        drop(body);
        let wire_bytes = payload.len() as u64;
        let parcel = Parcel {
            signal,
            payload,
            encoding,
            metadata,
        };
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).u64(..);
        let attempt = |until| {
            // Nobody wants to know, most of the time.
            let _ = ATTEMPTS.try_with(|attempts| attempts.set(attempts.get() + 1));
            attempt(parcel.clone(), until)
        };
        let retried = || _ = self.counters.retries.fetch_add(1, Ordering::Relaxed);
        match retry::deliver(&self.retry, seed, deadline, self.timeout, attempt, retried).await {
            Ok(response) => {
                self.counters.sent_requests.fetch_add(1, Ordering::Relaxed);
                self.counters.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
                self.counters.sent_wire_bytes.fetch_add(wire_bytes, Ordering::Relaxed);
                Ok(self.checked(response))
            }
            Err(Refusal::Unavailable { message, retry_after }) => {
                self.counters.unavailable_requests.fetch_add(1, Ordering::Relaxed);
                if let Some(left_out) = self.unavailable.admit() {
                    tracing::warn!(
                        next_hop = self.next_hop,
                        left_out,
                        "unavailable: {message}; callers are told to send again"
                    );
                }
                Err(Refusal::Unavailable {
                    message: format!("next hop {}: {message}", self.next_hop),
                    retry_after,
                })
            }
            Err(refusal) => Err(self.refused(refusal, bytes)),
        }
    }

    /// Counts and tells of what will never be taken.
    pub fn refused(&self, refusal: Refusal, bytes: u64) -> Refusal {
        self.counters.send_failed_requests.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.refused.admit() {
            tracing::warn!(
                next_hop = self.next_hop,
                bytes,
                left_out,
                "{refusal}; {}",
                if refusal.is_too_large() {
                    "it goes on in halves, if it has any"
                } else {
                    "its items are not sent again"
                }
            );
        }
        refusal
    }

    /// Looks for a `partial_success` (item 18). A response that cannot be read is no reason to doubt the status beside
    /// it: the caller gets an empty one.
    fn checked(&self, response: Bytes) -> Bytes {
        let partial = match partial_success::read(&response) {
            Ok(None) => return response,
            Ok(Some(partial)) => partial,
            Err(error) => {
                tracing::debug!(next_hop = self.next_hop, "{error}");
                return Bytes::new();
            }
        };
        self.counters.partial_successes.fetch_add(1, Ordering::Relaxed);
        let rejected = partial.rejected_items;
        self.counters
            .rejected_records
            .fetch_add(u64::try_from(rejected).unwrap_or_default(), Ordering::Relaxed);
        if let Some(left_out) = self.partial.admit() {
            let reason = partial.error_message.escape_debug();
            tracing::warn!(
                next_hop = self.next_hop,
                rejected,
                left_out,
                "the next hop rejected items for good: {reason}"
            );
        }
        response
    }
}

/// A connection that could not be made, or broke before an answer.
pub fn lost(error: &(dyn Error + 'static)) -> Failure {
    let mut messages = Vec::new();
    let mut unsent = false;
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::TimeoutExpired>() {
            return Failure::late();
        }
        unsent |= error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled);
        let message = error.to_string();
        if !messages.iter().any(|known: &String| known.contains(&message)) {
            messages.push(message);
        }
        next = error.source();
    }
    let message = messages.join(": ");
    if unsent {
        Failure::Unsent(message)
    } else {
        Failure::Passing {
            message,
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_once_each_with_their_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Outer(#[source] std::io::Error);
        let failure = lost(&Outer(std::io::ErrorKind::ConnectionRefused.into()));
        assert!(
            matches!(failure, Failure::Passing { message, .. } if message == "transport error: connection refused")
        );
    }
}
