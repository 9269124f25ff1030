//! The OTLP gRPC exporter: the bytes of each request to a next hop, unchanged.
//!
//! What enters: [`Request`]s. What leaves: calls of `Export` of their signal's service, and the next hop's response bytes.
//! Promise (item numbers of CONFORMANCE.md: 16–21): what can succeed later is tried again within the caller's deadline,
//! what cannot is reported with the next hop's own words; a request is compressed once, and every attempt sends the
//! same bytes; nothing a next hop answers is trusted in size or form.
//! Absent on purpose: how TLS works, a queue (its own room) and any look into the records.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
    AuthSettings, BoxFuture, Credentials, Exporter, Refusal, Request,
    transport::{
        compression::{self, Compression, GRPC},
        delivery::{Delivery, MAX_RESPONSE_BYTES, Parcel, USER_AGENT, lost},
        framing::{Assembler, Outgoing, next_frame},
        metadata::Headers,
        next_hop,
        retry::{self, Failure},
        signals, status,
        tls::{self, Connector},
    },
};

pub use super::transport::{
    compression::Compression as CompressionSetting,
    delivery::Counters,
    metadata::{FromContext, HeaderSource},
    retry::Settings as RetrySettings,
    tls::ClientSettings as TlsSettings,
};

/// A connection with calls under way that is silent this long is pinged, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// An exporter of type `otlp_grpc`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `http://host:port`, `https://host:port`, or `host:port`, which means TLS unless `tls.insecure`.
    pub endpoint: String,
    /// TLS towards the next hop.
    pub tls: TlsSettings,
    /// Who says who we are to the next hop; left out, nobody.
    pub auth: Option<AuthSettings>,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: TlsSettings::default(),
            auth: None,
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
        self.tls.validate().map_err(|error| format!("`tls`: {error}"))?;
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

    /// Whether `endpoint` and `tls` together mean TLS (item 20).
    pub fn is_encrypted(&self) -> bool {
        self.next_hop().is_ok_and(|uri| uri.scheme_str() == Some("https"))
    }

    fn next_hop(&self) -> Result<Uri, String> {
        next_hop::host_and_port("endpoint", &self.endpoint, &self.tls)
    }
}

/// One destination.
#[derive(Debug)]
pub struct OtlpExporter {
    delivery: Delivery,
    channels: Vec<Channel>,
    turn: AtomicUsize,
    headers: Headers,
    lanes: Semaphore,
}

impl OtlpExporter {
    /// Prepares a destination; connects when the first request comes. `seed` drives the jitter of retries.
    /// Needs a tokio runtime around it.
    pub fn new(settings: &Settings, seed: u64) -> Result<Self, String> {
        settings.validate()?;
        tokio::runtime::Handle::try_current().map_err(|error| error.to_string())?;
        let next_hop = settings.next_hop()?;
        let name = next_hop.authority().map_or_else(String::new, ToString::to_string);
        let connector =
            Connector::to(&next_hop, &settings.tls, &[tls::HTTP_2]).map_err(|problem| problem.to_string())?;
        let endpoint = Endpoint::from(next_hop)
            .user_agent(USER_AGENT)
            .map_err(|error| error.to_string())?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        Ok(Self {
            delivery: Delivery::new(
                name,
                settings.compression,
                settings.timeout,
                settings.retry_on_failure.clone(),
                seed,
            ),
            channels: (0..settings.connections)
                .map(|_| endpoint.connect_with_connector_lazy(connector.clone()))
                .collect(),
            turn: AtomicUsize::new(0),
            headers: Headers::new(&settings.headers)?,
            lanes: Semaphore::new(settings.connections),
        })
    }

    /// Says who we are by `credentials` with each call.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.headers = self.headers.with_credentials(credentials);
        self
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.delivery.counters()
    }

    async fn attempt(&self, parcel: Parcel, until: Instant) -> Result<Bytes, Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.channels.len().max(1);
        let Some(mut channel) = self.channels.get(turn).cloned() else {
            return Err(Failure::Unsent("no connection".into()));
        };
        poll_fn(|context| channel.poll_ready(context))
            .await
            .map_err(|error| lost(&error))?;
        let call = self.call(parcel, until).await;
        let response = channel.call(call).await.map_err(|error| lost(&error))?;
        self.answer(response).await
    }

    async fn call(&self, parcel: Parcel, until: Instant) -> HttpRequest<Body> {
        let Parcel {
            signal,
            payload,
            encoding,
            metadata,
        } = parcel;
        let mut request = HttpRequest::new(Body::new(Outgoing::new(payload, encoding)));
        *request.method_mut() = Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::from_static(signals::export_path(signal));
        let headers = request.headers_mut();
        self.headers.write_with_credentials(&metadata, headers).await;
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC.accepted, compression::ACCEPTED);
        if let Some(name) = encoding.name() {
            headers.insert(GRPC.encoding, HeaderValue::from_static(name));
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
        let encoding = Compression::of(headers, &GRPC).unwrap_or(Compression::None);
        encoding
            .decompress(payload.bytes, MAX_RESPONSE_BYTES, &self.lanes)
            .await
            .unwrap_or_default()
    }
}

impl Exporter for OtlpExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(
            self.delivery
                .deliver(request, |parcel, until| self.attempt(parcel, until)),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

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
}
