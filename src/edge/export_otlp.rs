//! The OTLP gRPC exporter: the bytes of each request to a next hop, unchanged.
//!
//! What enters: [`Request`]s. What leaves: calls of `LogsService/Export`, and the next hop's response bytes.
//! Promise (item numbers of CONFORMANCE.md: 16–21): what can succeed later is tried again within the caller's deadline,
//! what cannot is reported with the next hop's own words; a request is compressed once, and every attempt sends the
//! same bytes; nothing a next hop answers is trusted in size or form.
//! Absent on purpose: TLS (a later version), a queue (its own room) and any look into the records.

use std::{
    collections::BTreeMap,
    error::Error,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Uri, header};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{
    Code,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

use super::{
    BoxFuture, Exporter, Metadata, Refusal, Request,
    transport::{
        EXPORT_PATH, MIB,
        compression::{self, Compression},
        framing::{Assembler, Outgoing, next_frame},
        metadata::Headers,
        partial_success,
        retry::{self, Failure},
        status,
        warnings::Throttle,
    },
};

pub use super::transport::{
    compression::Compression as CompressionSetting,
    metadata::{FromContext, HeaderSource},
    retry::Settings as RetrySettings,
};

/// Most that is read of a response, decompressed (item 19).
const MAX_RESPONSE_BYTES: usize = 4 * MIB;
/// A connection with calls under way that is silent this long is pinged, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("harbinger/", env!("CARGO_PKG_VERSION"));

/// An exporter of type `otlp_grpc`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` (with `tls: {insecure: true}`) or `http://host:port`.
    pub endpoint: String,
    /// TLS towards the next hop.
    pub tls: Tls,
    /// Compression of requests.
    pub compression: Compression,
    /// Headers added to each call.
    pub headers: BTreeMap<String, HeaderSource>,
    /// Longest wait for the answer to one attempt.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Retries.
    pub retry_on_failure: retry::Settings,
    /// Connections that calls take in turn.
    pub connections: usize,
}

/// The section `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// `true`: plain text. As in the Collector, `false` is the default; a scheme in `endpoint` decides over it.
    pub insecure: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: Tls::default(),
            compression: Compression::default(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            retry_on_failure: retry::Settings::default(),
            connections: 1,
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.next_hop()?;
        Headers::new(&self.headers)?;
        if self.timeout.is_zero() {
            return Err("`timeout` must be more than 0s, for example 10s".into());
        }
        if !(1..=64).contains(&self.connections) {
            return Err("`connections` must lie between 1 and 64".into());
        }
        self.retry_on_failure
            .validate()
            .map_err(|error| format!("`retry_on_failure`: {error}"))
    }

    fn next_hop(&self) -> Result<Uri, String> {
        let written = self.endpoint.as_str();
        let address = match written.split_once("://") {
            None if written.is_empty() => {
                return Err(
                    "`endpoint` is missing: write the address of the next hop, like http://localhost:4319".into(),
                );
            }
            None if self.tls.insecure => written,
            None => {
                return Err(format!(
                    "`endpoint: {written}` without a scheme means TLS, which this version of Harbinger does not have: \
                     write `endpoint: http://{written}`, or add `tls: {{insecure: true}}`"
                ));
            }
            Some(("http", address)) => address,
            Some(("https", address)) => {
                return Err(format!(
                    "`endpoint: {written}` asks for TLS, which comes with a later version of Harbinger: \
                     write `http://{address}`, or let a local proxy or Collector speak TLS"
                ));
            }
            Some((scheme, address)) => {
                return Err(format!(
                    "`endpoint: {written}` has the unknown scheme `{scheme}`: write http://{address}"
                ));
            }
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let uri = Uri::try_from(format!("http://{address}"))
            .ok()
            .filter(|uri| uri.path() == "/" && uri.query().is_none());
        uri.filter(|uri| uri.port_u16().is_some()).ok_or_else(|| {
            format!("`endpoint: {written}` is not an address: write http://host:port, nothing behind it")
        })
    }
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
    /// Bytes of the taken requests, uncompressed.
    pub sent_bytes: AtomicU64,
    /// The same as they went over the wire, each once.
    pub sent_wire_bytes: AtomicU64,
    /// Responses with a populated `partial_success`.
    pub partial_successes: AtomicU64,
    /// Records that those responses rejected.
    pub rejected_records: AtomicU64,
}

/// One destination.
#[derive(Debug)]
pub struct OtlpExporter {
    name: String,
    channels: Vec<Channel>,
    turn: AtomicUsize,
    headers: Headers,
    compression: Compression,
    timeout: Duration,
    retry: retry::Settings,
    seeds: Mutex<fastrand::Rng>,
    lanes: Semaphore,
    counters: Arc<Counters>,
    unavailable: Throttle,
    refused: Throttle,
    partial: Throttle,
}

impl OtlpExporter {
    /// Prepares a destination; connects when the first request comes. `seed` drives the jitter of retries.
    /// Needs a tokio runtime around it.
    pub fn new(settings: &Settings, seed: u64) -> Result<Self, String> {
        settings.validate()?;
        tokio::runtime::Handle::try_current().map_err(|error| error.to_string())?;
        let next_hop = settings.next_hop()?;
        let name = next_hop.authority().map_or_else(String::new, ToString::to_string);
        let endpoint = Endpoint::from(next_hop)
            .user_agent(USER_AGENT)
            .map_err(|error| error.to_string())?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        Ok(Self {
            name,
            channels: (0..settings.connections).map(|_| endpoint.connect_lazy()).collect(),
            turn: AtomicUsize::new(0),
            headers: Headers::new(&settings.headers)?,
            compression: settings.compression,
            timeout: settings.timeout,
            retry: settings.retry_on_failure.clone(),
            seeds: Mutex::new(fastrand::Rng::with_seed(seed)),
            lanes: Semaphore::new(settings.connections),
            counters: Arc::default(),
            unavailable: Throttle::default(),
            refused: Throttle::default(),
            partial: Throttle::default(),
        })
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    async fn deliver(&self, request: Request) -> Result<Bytes, Refusal> {
        let Request {
            body,
            metadata,
            deadline,
        } = request;
        let bytes = body.len() as u64;
        let (payload, encoding) = match self.compression.compress(body.clone()).await {
            Ok(payload) => (payload, self.compression),
            Err(_) => (body.clone(), Compression::None),
        };
        drop(body);
        let wire_bytes = payload.len() as u64;
        let message = Outgoing::new(payload, encoding);
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).u64(..);
        let attempt = |until| self.attempt(message.clone(), encoding, &metadata, until);
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
                        next_hop = self.name,
                        left_out,
                        "unavailable: {message}; callers are told to send again"
                    );
                }
                Err(Refusal::Unavailable {
                    message: format!("next hop {}: {message}", self.name),
                    retry_after,
                })
            }
            Err(refusal) => {
                self.counters.send_failed_requests.fetch_add(1, Ordering::Relaxed);
                if let Some(left_out) = self.refused.admit() {
                    tracing::warn!(
                        next_hop = self.name,
                        bytes,
                        left_out,
                        "{refusal}; {}",
                        if refusal.is_too_large() {
                            "it goes on in halves, if it has any"
                        } else {
                            "its records are not sent again"
                        }
                    );
                }
                Err(refusal)
            }
        }
    }

    /// Looks for a `partial_success` (item 18). A response that cannot be read is no reason to doubt the status beside
    /// it: the caller gets an empty one.
    fn checked(&self, response: Bytes) -> Bytes {
        let partial = match partial_success::read(&response) {
            Ok(None) => return response,
            Ok(Some(partial)) => partial,
            Err(error) => {
                tracing::debug!(next_hop = self.name, "{error}");
                return Bytes::new();
            }
        };
        self.counters.partial_successes.fetch_add(1, Ordering::Relaxed);
        let rejected = partial.rejected_log_records;
        self.counters
            .rejected_records
            .fetch_add(u64::try_from(rejected).unwrap_or_default(), Ordering::Relaxed);
        if let Some(left_out) = self.partial.admit() {
            let reason = partial.error_message.escape_debug();
            tracing::warn!(
                next_hop = self.name,
                rejected,
                left_out,
                "the next hop rejected records for good: {reason}"
            );
        }
        response
    }

    async fn attempt(
        &self,
        message: Outgoing,
        encoding: Compression,
        metadata: &Metadata,
        until: Instant,
    ) -> Result<Bytes, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
        let Some(mut channel) = self.channels.get(turn).cloned() else {
            return Err(Failure::Unsent("no connection".into()));
        };
        poll_fn(|context| channel.poll_ready(context))
            .await
            .map_err(|error| lost(&error))?;
        let response = channel
            .call(self.call(message, encoding, metadata, until))
            .await
            .map_err(|error| lost(&error))?;
        self.answer(response).await
    }

    fn call(&self, message: Outgoing, encoding: Compression, metadata: &Metadata, until: Instant) -> HttpRequest<Body> {
        let mut request = HttpRequest::new(Body::new(message));
        *request.method_mut() = Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::from_static(EXPORT_PATH);
        let headers = request.headers_mut();
        self.headers.write(metadata, headers);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(compression::ACCEPT_ENCODING_HEADER, compression::ACCEPTED);
        if let Some(name) = encoding.name() {
            headers.insert(compression::ENCODING_HEADER, HeaderValue::from_static(name));
        }
        let left = until
            .saturating_duration_since(Instant::now())
            .as_millis()
            .clamp(1, 99_999_999);
        if let Ok(value) = HeaderValue::try_from(format!("{left}m")) {
            headers.insert("grpc-timeout", value);
        }
        request
    }

    async fn answer(&self, response: http::Response<Body>) -> Result<Bytes, Failure> {
        let (parts, mut body) = response.into_parts();
        let mut answer = status::answer(&parts.headers);
        if answer.is_none() && parts.status != http::StatusCode::OK {
            let message = format!(
                "HTTP {} without a gRPC status: is this an OTLP gRPC endpoint?",
                parts.status.as_u16()
            );
            let code = status::of_http(parts.status);
            return Err(status::Answer {
                code,
                message,
                details: Bytes::new(),
                retry_after: None,
            }
            .into());
        }
        // A success may come with a response too large to hold: what is over the limit is read past.
        let mut assembler = Some(Assembler::new(MAX_RESPONSE_BYTES));
        while let Some(frame) = next_frame(&mut body).await {
            match frame
                .map_err(|error| Failure::Passing {
                    message: error.to_string(),
                    retry_after: None,
                })?
                .into_data()
            {
                Ok(data) => assembler = assembler.and_then(|mut held| held.push(data).is_ok().then_some(held)),
                Err(frame) => {
                    answer = frame.into_trailers().ok().as_ref().and_then(status::answer).or(answer);
                }
            }
        }
        match answer {
            Some(answer) if answer.code == Code::Ok => Ok(self.response(&parts.headers, assembler).await),
            Some(answer) => Err(answer.into()),
            None => Err(Failure::Passing {
                message: "the call ended without a status".into(),
                retry_after: None,
            }),
        }
    }

    /// The response bytes; empty when there are none, or none that can be read.
    async fn response(&self, headers: &HeaderMap, assembler: Option<Assembler>) -> Bytes {
        let Some(Ok(payload)) = assembler.map(Assembler::finish) else {
            return Bytes::new();
        };
        if !payload.compressed {
            return payload.bytes;
        }
        let encoding = Compression::of(headers).unwrap_or(Compression::None);
        encoding
            .decompress(payload.bytes, MAX_RESPONSE_BYTES, &self.lanes)
            .await
            .unwrap_or_default()
    }
}

impl Exporter for OtlpExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.deliver(request))
    }
}

/// A connection that could not be made, or broke before an answer.
fn lost(error: &(dyn Error + 'static)) -> Failure {
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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn next_hop(endpoint: &str, insecure: bool) -> Result<String, String> {
        let settings = Settings {
            endpoint: endpoint.into(),
            tls: Tls { insecure },
            ..Settings::default()
        };
        settings.next_hop().map(|uri| uri.to_string())
    }

    #[test]
    fn item_20_the_scheme_decides_over_the_insecure_flag() {
        let plain = Ok("http://hop:4317/".to_owned());
        for insecure in [true, false] {
            assert_eq!(next_hop("http://hop:4317", insecure), plain);
            assert_eq!(next_hop("http://hop:4317/", insecure), plain);
            assert!(
                next_hop("https://hop:4317", insecure)
                    .unwrap_err()
                    .contains("write `http://hop:4317`")
            );
        }
        assert_eq!(next_hop("hop:4317", true), plain);
        let error = next_hop("hop:4317", false).unwrap_err();
        assert!(
            error.contains("http://hop:4317") && error.contains("tls: {insecure: true}"),
            "{error}"
        );
    }

    #[test]
    fn an_endpoint_that_is_none_says_what_to_write() {
        for endpoint in [
            "",
            "http://",
            "http://hop",
            "http://hop:4317/v1/logs",
            "grpc://hop:4317",
            "http://h o p:1",
        ] {
            assert!(next_hop(endpoint, true).unwrap_err().contains("http://"), "{endpoint}");
        }
        assert_eq!(next_hop("http://[::1]:4317", true).unwrap(), "http://[::1]:4317/");
    }

    #[test]
    fn settings_read_like_the_collectors() {
        let yaml = "endpoint: http://loki:4317\ncompression: zstd\ntimeout: 1m30s\n\
                    headers: {X-Plain: a, X-Scope-OrgID: {from_context: X-Scope-OrgID}}\n\
                    retry_on_failure: {initial_interval: 250ms, max_elapsed_time: 0s}";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(
            (settings.timeout, settings.compression),
            (Duration::from_secs(90), Compression::Zstd)
        );
        assert_eq!(settings.retry_on_failure.max_interval, Duration::from_secs(30));
        let written = serde_yaml::to_string(&settings).unwrap();
        assert_eq!(serde_yaml::from_str::<Settings>(&written).unwrap(), settings);
        let error = serde_yaml::from_str::<Settings>("compression: snappy")
            .unwrap_err()
            .to_string();
        assert!(error.contains("gzip"), "{error}");
    }

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
