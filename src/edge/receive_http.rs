//! The OTLP/HTTP receiver: `POST /v1/logs`, and the paths of the other signals that pipelines take, in protobuf or JSON.
//!
//! What enters: HTTP/1.1 and HTTP/2 requests of OTLP clients (item numbers of CONFORMANCE.md: 1–9). What leaves:
//! [`Request`](super::Request)s to the intake of their signal, always protobuf, and its answer in the request's own encoding.
//! Promise: protobuf is handed on as it came, byte for byte; JSON is translated once; every refusal is a `google.rpc.Status`
//! that says what to do, with an HTTP status that clients retry only where the same bytes can succeed later.
//! Absent on purpose: how TLS and authentication work, and CORS.

mod answer;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Status;

use answer::{Encoding, failure, success};

use super::{
    AuthSettings, Intakes, Signal,
    transport::{
        MIB,
        admission::Place,
        compression::{Compression, HTTP},
        connections::{Http1, Limits, ServerParameters},
        framing::next_frame,
        otlp_json::{self, JsonError},
        receiver::{self, Common, Protocol},
        reception::{READ_TIMEOUT, Reception},
        signals, status, tls,
    },
};

pub use super::transport::{listening::BindError, reception::Counters, tls::ServerSettings as TlsSettings};

/// Calls at a time on one connection of HTTP/2.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// A refused body is read past up to so many times the largest request.
const READ_PAST: usize = 4;
/// From this many bytes on, JSON is translated off the async thread (some milliseconds of work).
const BLOCKING_FROM_BYTES: usize = 256 * 1024;

/// The section `receivers.otlp.protocols.http`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port`; `localhost` listens on IPv4 and IPv6, `:4318` on all interfaces.
    pub endpoint: String,
    /// TLS; left out, plain text.
    pub tls: Option<TlsSettings>,
    /// Who knows the callers; left out, everybody is let in.
    pub auth: Option<AuthSettings>,
    /// The path that takes logs.
    pub logs_url_path: String,
    /// The path that takes traces, where a pipeline does.
    pub traces_url_path: String,
    /// The path that takes metrics, where a pipeline does.
    pub metrics_url_path: String,
    /// Largest request in bytes, after decompression.
    pub max_request_body_size: usize,
    /// Keep the callers' headers for exporters (`from_context`).
    pub include_metadata: bool,
    /// Connections at the same time; one more is closed at once.
    pub max_connections: usize,
    /// Requests held at the same time; one more is refused with 503.
    pub max_requests_in_flight: usize,
    /// Bytes of requests held at the same time, in MiB; never less than one largest request.
    pub max_mib_in_flight: usize,
    /// How long the header of a request may take to arrive.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub read_header_timeout: Duration,
    /// A connection without a request for this long is closed; 0 s never.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".into(),
            tls: None,
            auth: None,
            logs_url_path: signals::url_path(Signal::Logs).into(),
            traces_url_path: signals::url_path(Signal::Traces).into(),
            metrics_url_path: signals::url_path(Signal::Metrics).into(),
            max_request_body_size: 64 * MIB,
            include_metadata: false,
            max_connections: 1024,
            max_requests_in_flight: 1024,
            max_mib_in_flight: 256,
            read_header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.common().validate("localhost:4318")?;
        let paths = self.paths();
        for (index, (signal, path)) in paths.iter().enumerate() {
            let other = paths.iter().skip(index + 1).find(|(_, other)| other == path);
            if let Some((other, _)) = other {
                return Err(format!(
                    "`{other}_url_path: {path}` is where {signal} go: give each signal a path of its own, like {}",
                    signals::url_path(*other)
                ));
            }
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                return Err(format!(
                    "`{signal}_url_path: {path}` is not a path: write one that begins with a slash, like {}",
                    signals::url_path(*signal)
                ));
            }
        }
        if !(1..4096 * MIB).contains(&self.max_request_body_size) {
            return Err(
                "`max_request_body_size` must lie between 1 and 4294967295 bytes, for example 67108864 (64 MiB)".into(),
            );
        }
        if self.read_header_timeout.is_zero() {
            return Err("`read_header_timeout` must be more than 0s, for example 1m".into());
        }
        Ok(())
    }

    /// The path of each signal.
    fn paths(&self) -> [(Signal, String); Signal::ALL.len()] {
        Signal::ALL.map(|signal| {
            let path = match signal {
                Signal::Logs => &self.logs_url_path,
                Signal::Traces => &self.traces_url_path,
                Signal::Metrics => &self.metrics_url_path,
            };
            (signal, path.clone())
        })
    }
}

impl Protocol for Settings {
    const ENDPOINT_KEY: &'static str = "`receivers.otlp.protocols.http.endpoint`";
    const WITHIN_TLS: &'static [&'static [u8]] = &[tls::HTTP_2, tls::HTTP_1];
    type Handler = Handler;
    type Body = Full<Bytes>;

    fn common(&self) -> Common<'_> {
        Common {
            endpoint: &self.endpoint,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            max_connections: self.max_connections,
            max_requests_in_flight: self.max_requests_in_flight,
            max_mib_in_flight: self.max_mib_in_flight,
            max_request_bytes: self.max_request_body_size,
            max_request_key: "max_request_body_size",
            include_metadata: self.include_metadata,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            http1: Some(Http1 {
                read_header_timeout: self.read_header_timeout,
            }),
            parameters: ServerParameters {
                max_connection_idle: self.idle_timeout,
                ..ServerParameters::default()
            },
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
        }
    }

    fn handler(&self, reception: Reception) -> Handler {
        Handler {
            reception,
            paths: self.paths(),
        }
    }

    async fn answer(handler: &Handler, request: HttpRequest<Incoming>) -> Response<Full<Bytes>> {
        handler.call(request).await
    }
}

/// A receiver of OTLP by HTTP.
pub type Receiver = receiver::Receiver<Settings>;

/// What a request tells of, and how it is written.
#[derive(Clone, Copy)]
struct Coming {
    signal: Signal,
    encoding: Encoding,
    compression: Compression,
}

/// Answers requests.
pub struct Handler {
    reception: Reception,
    paths: [(Signal, String); Signal::ALL.len()],
}

impl Handler {
    /// Without a socket, an authenticator or a connection around it, as fuzzing calls it.
    pub fn alone(settings: &Settings, intakes: impl Into<Intakes>) -> Self {
        settings.handler(settings.common().reception(intakes))
    }

    /// Answers one request.
    pub async fn call<B>(&self, request: HttpRequest<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (mut parts, mut body) = request.into_parts();
        if let Err((refusal, challenge)) = self.reception.know(&mut parts.headers).await {
            let mut response = failure(status::to_http(&refusal), &refusal, Encoding::of(&parts.headers));
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            return response;
        }
        let expects_leave = parts.headers.contains_key(header::EXPECT);
        let version = parts.version;
        let mut begun = false;
        let response = match self.served(&parts) {
            Ok(coming) => {
                let accepted = Compression::accepted_by(&parts.headers, &HTTP);
                match self.export(coming, parts.headers, &mut body, &mut begun).await {
                    Ok(message) => success(coming.signal, message, coming.encoding, accepted).await,
                    Err(refusal) => {
                        self.reception.count_refusal(&refusal);
                        failure(status::to_http(&refusal), &refusal, Some(coming.encoding))
                    }
                }
            }
            Err((code, refusal)) => failure(code, &refusal, Encoding::of(&parts.headers)),
        };
        // A caller of HTTP/1 that is still sending reads no answer from a connection that is closed for it. One that waits
        // for leave to send is given none.
        let refused = !response.status().is_success();
        if refused && version < Version::HTTP_2 && (begun || !expects_leave) {
            read_past(body, self.reception.limit().saturating_mul(READ_PAST));
        }
        response
    }

    /// What comes, and how it is written; or why nothing like it is served.
    fn served(&self, parts: &http::request::Parts) -> Result<Coming, (StatusCode, Status)> {
        let signal = self.signal(parts.uri.path())?;
        let unserved = |code: StatusCode, status: Status| {
            self.reception.count_unknown();
            (code, status)
        };
        if parts.method != Method::POST {
            let message = format!("{} takes POST, not {}", parts.uri.path(), parts.method);
            return Err(unserved(StatusCode::METHOD_NOT_ALLOWED, Status::unimplemented(message)));
        }
        let unsupported =
            |message: String| unserved(StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::invalid_argument(message));
        let encoding = Encoding::of(&parts.headers).ok_or_else(|| {
            unsupported("the content type must be application/x-protobuf or application/json".to_owned())
        })?;
        let compression = Compression::of(&parts.headers, &HTTP).map_err(|name| {
            unsupported(format!(
                "`content-encoding: {name}` is not supported; use gzip, zstd or none"
            ))
        })?;
        Ok(Coming {
            signal,
            encoding,
            compression,
        })
    }

    /// The signal that a path takes, if a pipeline does.
    fn signal(&self, path: &str) -> Result<Signal, (StatusCode, Status)> {
        let known = self.paths.iter().find(|(_, known)| known == path);
        // Where a signal's path is another one, whoever sends it to the usual one is told so below.
        let usual = || {
            let mut unserved = Signal::ALL.into_iter().filter(|signal| self.path(*signal).is_none());
            unserved.find(|signal| path.ends_with(signals::url_path(*signal)))
        };
        let not_found = |message: String| (StatusCode::NOT_FOUND, Status::not_found(message));
        match known.map(|(signal, _)| *signal).or_else(usual) {
            Some(signal) => self.reception.serves(signal).map(|()| signal).map_err(not_found),
            None => {
                self.reception.count_unknown();
                Err(not_found(self.wrong_path(path)))
            }
        }
    }

    /// Where a signal is taken, if it is.
    fn path(&self, signal: Signal) -> Option<&str> {
        let served = self.reception.signals().any(|served| served == signal);
        let mut paths = self.paths.iter().filter(|(known, _)| served && *known == signal);
        paths.next().map(|(_, path)| path.as_str())
    }

    fn wrong_path(&self, path: &str) -> String {
        if let Some(message) = signals::profiles(path) {
            return message.to_owned();
        }
        let served = Signal::ALL
            .into_iter()
            .filter_map(|signal| Some((signal, self.path(signal)?)));
        let served: Vec<String> = served.map(|(signal, path)| format!("{signal} go to {path}")).collect();
        let served = served.join(", ");
        if signals::of_export_path(path).is_some() {
            return format!(
                "this port takes OTLP by HTTP; send gRPC to `receivers.otlp.protocols.grpc` (port 4317), or let the \
                 sender speak http/protobuf: {served}"
            );
        }
        let path: String = path.chars().take(200).collect();
        format!("nothing is served at {path}; {served}")
    }

    /// Takes a request; `begun` says whether its body was looked at.
    async fn export<B>(
        &self,
        coming: Coming,
        headers: HeaderMap,
        body: &mut B,
        begun: &mut bool,
    ) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Coming {
            signal,
            encoding,
            compression,
        } = coming;
        let mut place = self.reception.enter(signal)?;
        let announced = body.size_hint().lower();
        if announced > self.reception.limit() as u64 {
            return Err(self.over_limit());
        }
        *begun = true;
        let reading = self.read(body, compression, &mut place);
        let mut message = self.reception.arrived(None, reading).await?;
        if encoding == Encoding::Json {
            let json = message.len();
            message = self.protobuf(signal, message).await?;
            self.reception.hold(&mut place, message.len().saturating_sub(json))?;
        }
        self.reception.hand_on(signal, message, headers, None).await
    }

    /// The body, decompressed.
    async fn read<B>(&self, body: &mut B, compression: Compression, place: &mut Place) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut whole = Bytes::new();
        let mut parts = BytesMut::new();
        while let Some(frame) = next_frame(body).await {
            // The caller is gone, or its chunks are broken: nobody reads this status.
            let frame = frame.map_err(|_| Status::invalid_argument("the request broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            let held = whole.len() + parts.len();
            if held + data.len() > self.reception.limit() {
                return Err(self.over_limit());
            }
            self.reception.hold(place, data.len())?;
            if held == 0 {
                whole = data;
                continue;
            }
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&data);
        }
        let message = if parts.is_empty() { whole } else { parts.freeze() };
        if compression == Compression::None {
            return Ok(message);
        }
        self.reception.decompressed(message, compression, place).await
    }

    fn over_limit(&self) -> Status {
        let limit = self.reception.limit();
        self.reception
            .too_large(format!("the request is over the limit of {limit} bytes"))
    }

    async fn protobuf(&self, signal: Signal, json: Bytes) -> Result<Bytes, Status> {
        let is_small = json.len() < BLOCKING_FROM_BYTES;
        let translate = move || otlp_json::to_protobuf(otlp_json::request(signal), &json).map(Bytes::from);
        let wrong = |error: JsonError| Status::invalid_argument(format!("not OTLP JSON: {error}"));
        if is_small {
            return translate().map_err(wrong);
        }
        let _lane = self.reception.lanes().acquire().await;
        match spawn_blocking(translate).await {
            Ok(translated) => translated.map_err(wrong),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

/// Reads a body to its end, but no more than `max_bytes`, in a task of its own.
fn read_past<B>(mut body: B, max_bytes: usize)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    tokio::spawn(timeout(READ_TIMEOUT, async move {
        let mut left = max_bytes;
        while let Some(Ok(frame)) = next_frame(&mut body).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                break;
            };
            left = rest;
        }
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::{Arc, Mutex};

    use http::HeaderValue;
    use http_body_util::BodyExt;
    use tokio::time::Instant;

    use super::{
        super::transport::{admission::Admission, reception::Bounds},
        *,
    };
    use crate::edge::{BoxFuture, Intake, Refusal, Request};

    /// Never answers; remembers the deadline it was given.
    #[derive(Default)]
    struct Silent(Mutex<Option<Instant>>);

    impl Intake for Silent {
        fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            *self.0.lock().unwrap() = Some(request.deadline);
            Box::pin(std::future::pending())
        }
    }

    /// A body whose first part comes at once and the rest never.
    struct Stalled(Option<Bytes>);

    impl Body for Stalled {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            self.0.take().map_or(std::task::Poll::Pending, |data| {
                std::task::Poll::Ready(Some(Ok(http_body::Frame::data(data))))
            })
        }
    }

    fn service(admission: Admission) -> (Handler, Arc<Admission>) {
        let admission = Arc::new(admission);
        let bounds = Bounds {
            authenticator: None,
            max_request_bytes: MIB,
            max_request_key: "max_request_body_size",
            include_metadata: false,
            admission: admission.clone(),
        };
        let silent: Arc<dyn Intake> = Arc::new(Silent::default());
        let reception = Reception::new(silent, bounds, Arc::default());
        (Settings::default().handler(reception), admission)
    }

    fn post<B>(content_encoding: Compression, body: B) -> HttpRequest<B> {
        let name = content_encoding.name().unwrap_or("identity");
        HttpRequest::post("/v1/logs")
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", name)
            .body(body)
            .unwrap()
    }

    async fn text(response: Response<Full<Bytes>>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn item_08_a_next_hop_that_says_nothing_is_a_503_before_the_caller_gives_up() {
        let (service, admission) = service(Admission::new(10, 10 * MIB));
        let started = Instant::now();
        let response = service
            .call(post(Compression::None, Full::new(Bytes::from_static(b"x"))))
            .await;
        assert_eq!(
            (response.status(), &response.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from(1))
        );
        assert_eq!(started.elapsed(), Duration::from_millis(4500));
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn known_loss_a_slow_body_is_given_up_and_its_place_is_free_again() {
        let (service, admission) = service(Admission::new(10, 10 * MIB));
        let started = Instant::now();
        let body = Stalled(Some(Bytes::from_static(b"half")));
        let response = service.call(post(Compression::None, body)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(started.elapsed(), READ_TIMEOUT);
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn item_08_bytes_held_at_the_same_time_are_bounded() {
        let (service, _) = service(Admission::new(10, 2000));
        for encoding in [Compression::None, Compression::Gzip] {
            let payload = encoding.compress(vec![0; 3000].into()).await.unwrap();
            let response = service.call(post(encoding, Full::new(payload))).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(text(response).await.contains("max_mib_in_flight"));
        }
    }

    #[test]
    fn senseless_settings_are_named() {
        let default = Settings::default;
        for (settings, name) in [
            (
                Settings {
                    endpoint: "localhost".into(),
                    ..default()
                },
                "endpoint",
            ),
            (
                Settings {
                    logs_url_path: "v1/logs".into(),
                    ..default()
                },
                "logs_url_path",
            ),
            (
                Settings {
                    metrics_url_path: "/v1/traces".into(),
                    ..default()
                },
                "metrics_url_path",
            ),
            (
                Settings {
                    max_request_body_size: 0,
                    ..default()
                },
                "max_request_body_size",
            ),
            (
                Settings {
                    max_requests_in_flight: 0,
                    ..default()
                },
                "max_requests_in_flight",
            ),
            (
                Settings {
                    read_header_timeout: Duration::ZERO,
                    ..default()
                },
                "read_header_timeout",
            ),
        ] {
            assert!(settings.validate().unwrap_err().contains(name));
        }
        assert_eq!(default().validate(), Ok(()));
    }
}
