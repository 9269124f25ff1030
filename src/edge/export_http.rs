//! The OTLP/HTTP exporter: each request to a next hop by `POST`, as protobuf, or as JSON.
//!
//! What enters: [`Request`]s. What leaves: HTTP requests, and the next hop's response as protobuf bytes.
//! Promise (item numbers of CONFORMANCE.md: 16–22): what can succeed later is tried again within the caller's deadline,
//! what cannot is reported with the next hop's own words; `encoding: proto` sends the bytes as they are; nothing a next hop
//! answers is trusted in size or form; any 2xx is success, whatever its body.
//! Absent on purpose: how TLS works, redirects (an endpoint that moves is a mistake to hear of), a queue, and any
//! look into the records.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use prost::Message;
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tonic::Code;

use super::{
    AuthSettings, BoxFuture, Credentials, Exporter, Refusal, Request, Signal,
    transport::{
        compression::{self, Compression, HTTP},
        delivery::{Delivery, MAX_RESPONSE_BYTES, Parcel, USER_AGENT, lost},
        framing::next_frame,
        metadata::Headers,
        next_hop,
        otlp_json::{self, STATUS},
        retry::{self, Failure},
        retry_after, signals, status,
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

/// A connection that is not used for this long is closed, before most servers do.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Characters of a refusal's text that are quoted.
const QUOTED_CHARS: usize = 500;

/// An exporter of type `otlp_http`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Base URL of the next hop; `/v1/logs`, `/v1/traces` or `/v1/metrics` is put behind it.
    pub endpoint: String,
    /// The whole URL for logs, as it stands, instead of `endpoint`.
    pub logs_endpoint: String,
    /// The whole URL for traces, likewise.
    pub traces_endpoint: String,
    /// The whole URL for metrics, likewise.
    pub metrics_endpoint: String,
    /// How requests are written.
    pub encoding: Encoding,
    /// TLS towards the next hop.
    pub tls: TlsSettings,
    /// Who says who we are to the next hop; left out, nobody.
    pub auth: Option<AuthSettings>,
    /// Compression of requests.
    pub compression: Compression,
    /// Headers added to each request.
    pub headers: BTreeMap<String, HeaderSource>,
    /// Longest wait for the answer to one attempt.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Retries.
    pub retry_on_failure: retry::Settings,
}

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Protobuf: the bytes as they are.
    #[default]
    Proto,
    /// OTLP JSON, which cannot hold fields that are not in the schema.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            logs_endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            encoding: Encoding::default(),
            tls: TlsSettings::default(),
            auth: None,
            compression: Compression::default(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            retry_on_failure: retry::Settings::default(),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let written = self.endpoints().count();
        if written == 0 {
            self.url(Signal::Logs)?;
        }
        for signal in Signal::ALL {
            if !self.endpoint.is_empty() || !self.own_endpoint(signal).1.is_empty() {
                self.url(signal)?;
            }
        }
        self.tls.validate().map_err(|error| format!("`tls`: {error}"))?;
        Headers::new(&self.headers)?;
        if self.timeout.is_zero() {
            return Err("`timeout` must be more than 0s, for example 10s".into());
        }
        self.retry_on_failure
            .validate()
            .map_err(|error| format!("`retry_on_failure`: {error}"))
    }

    /// The endpoints that are written: their keys, what stands there, and whether that and `tls` together mean TLS (item 20).
    pub fn endpoints(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        let own = Signal::ALL.map(|signal| self.own_endpoint(signal));
        let written = [("endpoint", self.endpoint.as_str())].into_iter().chain(own);
        written
            .filter(|(_, endpoint)| !endpoint.is_empty())
            .map(|(key, endpoint)| {
                let url = next_hop::url(key, endpoint, "", &self.tls);
                (key, endpoint, url.is_ok_and(|url| url.scheme_str() == Some("https")))
            })
    }

    /// Says what to write so that requests of `signal` have somewhere to go.
    pub fn sends(&self, signal: Signal) -> Result<(), String> {
        match self.url(signal) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "no endpoint for {signal}; write `{}: URL` there, or `endpoint: URL` for all signals",
                self.own_endpoint(signal).0
            )),
        }
    }

    /// The endpoint of one signal, and its key.
    fn own_endpoint(&self, signal: Signal) -> (&'static str, &str) {
        match signal {
            Signal::Logs => ("logs_endpoint", &self.logs_endpoint),
            Signal::Traces => ("traces_endpoint", &self.traces_endpoint),
            Signal::Metrics => ("metrics_endpoint", &self.metrics_endpoint),
        }
    }

    fn url(&self, signal: Signal) -> Result<Uri, String> {
        match self.own_endpoint(signal) {
            (_, "") => next_hop::url("endpoint", &self.endpoint, signals::url_path(signal), &self.tls),
            (key, endpoint) => next_hop::url(key, endpoint, "", &self.tls),
        }
    }
}

/// Loki answers so what it has taken and thrown away (`block_ingestion_until`): no success, whatever its hundreds say.
const THROWN_AWAY: u16 = 260;

/// Where requests of one signal go.
#[derive(Clone)]
struct Hop {
    signal: Signal,
    url: Uri,
    client: Client<Connector, Full<Bytes>>,
}

/// One destination.
pub struct HttpExporter {
    delivery: Delivery,
    hops: Vec<Hop>,
    encoding: Encoding,
    headers: Headers,
    lanes: Semaphore,
}

impl HttpExporter {
    /// Prepares a destination; connects when the first request comes. `seed` drives the jitter of retries.
    pub fn new(settings: &Settings, seed: u64) -> Result<Self, String> {
        settings.validate()?;
        let mut hops: Vec<Hop> = Vec::new();
        for signal in Signal::ALL {
            // A signal without an address is one that no pipeline sends by this exporter.
            let Ok(url) = settings.url(signal) else { continue };
            let same = hops
                .iter()
                .find(|hop| (hop.url.scheme(), hop.url.authority()) == (url.scheme(), url.authority()));
            let client = match same {
                Some(hop) => hop.client.clone(),
                None => client(&url, &settings.tls)?,
            };
            hops.push(Hop { signal, url, client });
        }
        let mut names: Vec<&str> = hops
            .iter()
            .filter_map(|hop| Some(hop.url.authority()?.as_str()))
            .collect();
        names.dedup();
        let name = names.join(", ");
        Ok(Self {
            delivery: Delivery::new(
                name,
                settings.compression,
                settings.timeout,
                settings.retry_on_failure.clone(),
                seed,
            ),
            hops,
            encoding: settings.encoding,
            headers: Headers::new(&settings.headers)?,
            lanes: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
        })
    }

    /// Says who we are by `credentials` with each request.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.headers = self.headers.with_credentials(credentials);
        self
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.delivery.counters()
    }

    async fn deliver(&self, mut request: Request) -> Result<Bytes, Refusal> {
        if self.encoding == Encoding::Json && !request.body.is_empty() {
            let bytes = request.body.len() as u64;
            request.body = json(request.signal, request.body)
                .await
                .map_err(|refusal| self.delivery.refused(refusal, bytes))?;
        }
        self.delivery
            .deliver(request, |parcel, until| self.attempt(parcel, until))
            .await
    }

    async fn attempt(&self, parcel: Parcel, until: Instant) -> Result<Bytes, Failure> {
        let signal = parcel.signal;
        let Some(hop) = self.hops.iter().find(|hop| hop.signal == signal) else {
            return Err(Failure::Final {
                code: Code::Unimplemented,
                message: format!("this exporter has no endpoint for {signal}"),
                details: Bytes::new(),
            });
        };
        let request = self.request(hop.url.clone(), parcel).await;
        let response = hop.client.request(request).await.map_err(|error| lost(&error))?;
        let (parts, body) = response.into_parts();
        // What the status says stands, however the body goes on: half an answer is no reason to send again.
        let read = timeout_at(until, self.read(&parts.headers, body)).await;
        let said = read.unwrap_or_default();
        if parts.status.is_success() && parts.status.as_u16() != THROWN_AWAY {
            return Ok(acknowledgement(signal, &parts.headers, said));
        }
        Err(failure(parts.status, &hop.url, &parts.headers, &said, Timestamp::now()))
    }

    async fn request(&self, url: Uri, parcel: Parcel) -> HttpRequest<Full<Bytes>> {
        let mut request = HttpRequest::new(Full::new(parcel.payload));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        self.headers.write_with_credentials(&parcel.metadata, headers).await;
        // Exactly so, without parameters: Loki compares it (item 22).
        let media_type = match self.encoding {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT_ENCODING, compression::ACCEPTED);
        if let Some(name) = parcel.encoding.name() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        request
    }

    /// The body of an answer, decompressed; empty when there is none, or none that can be read within the limit.
    async fn read(&self, headers: &HeaderMap, mut body: Incoming) -> Bytes {
        let mut held = BytesMut::new();
        while let Some(Ok(frame)) = next_frame(&mut body).await {
            let Ok(data) = frame.into_data() else { continue };
            if held.len() + data.len() > MAX_RESPONSE_BYTES {
                return Bytes::new();
            }
            held.extend_from_slice(&data);
        }
        let encoding = Compression::of(headers, &HTTP).unwrap_or(Compression::None);
        encoding
            .decompress(held.freeze(), MAX_RESPONSE_BYTES, &self.lanes)
            .await
            .unwrap_or_default()
    }
}

impl Exporter for HttpExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.deliver(request))
    }
}

fn client(url: &Uri, tls: &TlsSettings) -> Result<Client<Connector, Full<Bytes>>, String> {
    let connector = Connector::to(url, tls, &[tls::HTTP_1]).map_err(|problem| problem.to_string())?;
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE);
    Ok(client.build(connector))
}

async fn json(signal: Signal, protobuf: Bytes) -> Result<Bytes, Refusal> {
    let written = spawn_blocking(move || otlp_json::to_json(otlp_json::request(signal), &protobuf)).await;
    match written {
        Ok(Ok(json)) => Ok(json.into()),
        Ok(Err(error)) => Err(Refusal::Malformed(format!(
            "not writable as JSON ({error}); `encoding: proto` takes any request"
        ))),
        Err(error) => Err(Refusal::Malformed(error.to_string())),
    }
}

/// What a body is written in, by its media type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Protobuf,
    Json,
    Other,
}

impl MediaType {
    fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let name = value.and_then(|value| value.split(';').next()).unwrap_or_default();
        match name.trim().to_ascii_lowercase().as_str() {
            // The last is what Loki calls it.
            "application/x-protobuf" | "application/protobuf" | "application/octet-stream" => Self::Protobuf,
            "application/json" => Self::Json,
            _ => Self::Other,
        }
    }
}

/// The signal's response in an answer that is a success; empty when it holds none.
fn acknowledgement(signal: Signal, headers: &HeaderMap, body: Bytes) -> Bytes {
    match MediaType::of(headers) {
        MediaType::Protobuf => body,
        MediaType::Json => {
            let response = otlp_json::to_protobuf(otlp_json::response(signal), &body);
            response.map_or_else(|_| Bytes::new(), Bytes::from)
        }
        MediaType::Other => Bytes::new(),
    }
}

/// What an answer that is no success means (items 16 and 17); `now` is for a `Retry-After` that is a date.
fn failure(code: StatusCode, url: &Uri, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Failure {
    let (said, details) = said(headers, body);
    let mut message = format!("HTTP {code}");
    if matches!(code, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
        message = format!("{message} at {url}; is that where OTLP is taken? (by Loki below /otlp)");
    }
    if let Some(location) = headers.get(header::LOCATION).filter(|_| code.is_redirection()) {
        let location = String::from_utf8_lossy(location.as_bytes());
        message = format!("{message} to {location}, which is not followed: write it as the endpoint");
    }
    if !said.is_empty() {
        message = format!("{message}: {said}");
    }
    let message = status::cut(message);
    if status::http_retried(code) {
        return Failure::Passing {
            message,
            retry_after: retry_after::read(headers, now),
        };
    }
    Failure::Final {
        code: status::of_otlp_http(code),
        message,
        details,
    }
}

/// The message of a refusal's body, and its `google.rpc.Status` if that came as protobuf and is no larger than it should be.
fn said(headers: &HeaderMap, body: &Bytes) -> (String, Bytes) {
    let status = match MediaType::of(headers) {
        MediaType::Protobuf => tonic_types::Status::decode(&**body).ok(),
        MediaType::Json => otlp_json::to_protobuf(&STATUS, body)
            .ok()
            .and_then(|bytes| tonic_types::Status::decode(&*bytes).ok()),
        MediaType::Other => None,
    };
    match status {
        Some(status) if !status.message.is_empty() => {
            let whole = MediaType::of(headers) == MediaType::Protobuf && body.len() <= status::MAX_DETAILS_BYTES;
            let details = if whole { body.clone() } else { Bytes::new() };
            (status.message, details)
        }
        _ => {
            let text = String::from_utf8_lossy(body);
            let quoted: String = text.trim().chars().take(QUOTED_CHARS).collect();
            (quoted.escape_debug().to_string(), Bytes::new())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const NOW: &str = "2026-11-22T19:35:10Z";

    fn answered(code: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> Failure {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let code = StatusCode::from_u16(code).unwrap();
        let url = Uri::from_static("http://loki:3100/v1/logs");
        failure(code, &url, &map, &Bytes::copy_from_slice(body), NOW.parse().unwrap())
    }

    #[test]
    fn item_16_each_status_is_retried_or_not_as_specified() {
        for code in (300..600).chain([100, 101]) {
            let passing = matches!(answered(code, &[], b""), Failure::Passing { .. });
            assert_eq!(passing, [429, 502, 503, 504].contains(&code), "{code}");
        }
    }

    #[test]
    fn item_17_a_retry_after_is_honoured_as_seconds_and_as_a_date() {
        for (header, seconds) in [("7", Some(7)), ("Sun, 22 Nov 2026 19:36:10 GMT", Some(60)), ("?", None)] {
            let Failure::Passing { retry_after, .. } = answered(503, &[("retry-after", header)], b"") else {
                panic!("{header}")
            };
            assert_eq!(retry_after, seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn item_18_a_refusal_is_told_in_the_next_hops_own_words() {
        let protobuf = tonic_types::Status {
            code: 3,
            message: "too old".into(),
            details: Vec::new(),
        }
        .encode_to_vec();
        let (proto, json, text) = (
            [("content-type", "application/x-protobuf")],
            [("content-type", "application/json; charset=utf-8")],
            [("content-type", "text/plain")],
        );
        for (headers, body, says) in [
            (&proto[..], &protobuf[..], "HTTP 400 Bad Request: too old"),
            (
                &json,
                br#"{"code":3,"message":"too old","details":[]}"#,
                "HTTP 400 Bad Request: too old",
            ),
            (&json, br#"{"error":"x"}"#, r#"HTTP 400 Bad Request: {\"error\":\"x\"}"#),
            (
                &text,
                b"entry too far behind\n",
                "HTTP 400 Bad Request: entry too far behind",
            ),
            (
                &proto,
                b"\xff plain after all",
                "HTTP 400 Bad Request: \u{fffd} plain after all",
            ),
            (
                &[("content-type", "application/octet-stream")],
                &protobuf[..],
                "HTTP 400 Bad Request: too old",
            ),
            (&[], b"", "HTTP 400 Bad Request"),
        ] {
            let Failure::Final { code, message, details } = answered(400, headers, body) else {
                panic!("{says}")
            };
            assert_eq!((code, message.as_str()), (Code::InvalidArgument, says));
            assert!(details.is_empty() || details == protobuf);
        }
        let Failure::Final { message, .. } = answered(404, &[], b"") else {
            panic!()
        };
        assert!(message.contains("at http://loki:3100/v1/logs"), "{message}");
        let Failure::Final { code, .. } = answered(413, &[], b"") else {
            panic!()
        };
        assert_eq!(code, Code::ResourceExhausted, "splitting goes by it");
        let Failure::Final { message, .. } = answered(308, &[("location", "https://other/v1/logs")], b"") else {
            panic!()
        };
        assert!(message.contains("https://other/v1/logs"), "{message}");
        let long = vec![b'x'; 1 << 20];
        let Failure::Final { message, .. } = answered(400, &text, &long) else {
            panic!()
        };
        assert!(message.len() < 3000);
    }

    #[test]
    fn settings_read_like_the_collectors() {
        let yaml = "endpoint: http://loki:3100/otlp\nencoding: json\ncompression: none\n\
                    headers: {X-Scope-OrgID: {from_context: X-Scope-OrgID}}";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(settings.url(Signal::Logs).unwrap(), "http://loki:3100/otlp/v1/logs");
        let written = serde_yaml::to_string(&settings).unwrap();
        assert_eq!(serde_yaml::from_str::<Settings>(&written).unwrap(), settings);
        let settings: Settings = serde_yaml::from_str("{logs_endpoint: 'http://a/b', endpoint: 'http://c'}").unwrap();
        assert_eq!(settings.url(Signal::Logs).unwrap(), "http://a/b", "as it stands");
        assert_eq!(settings.url(Signal::Traces).unwrap(), "http://c/v1/traces");
        let settings: Settings = serde_yaml::from_str("{traces_endpoint: 'https://a/b'}").unwrap();
        assert_eq!((settings.validate(), settings.sends(Signal::Traces)), (Ok(()), Ok(())));
        assert_eq!(
            settings.endpoints().collect::<Vec<_>>(),
            [("traces_endpoint", "https://a/b", true)]
        );
        assert!(
            settings
                .sends(Signal::Logs)
                .unwrap_err()
                .contains("`logs_endpoint: URL`")
        );
        assert!(
            Settings::default()
                .validate()
                .unwrap_err()
                .contains("`endpoint` is missing")
        );
    }
}
