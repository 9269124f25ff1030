//! The OTLP gRPC receiver: `Export` of the signals that pipelines take, the bytes of each request handed on as they are.
//!
//! What enters: calls of OTLP clients (item numbers of CONFORMANCE.md: 1, 2, 4, 6–9). What leaves: [`Request`]s to the
//! [`Intake`] of their signal, and its answer to the caller.
//! Promise: a caller gets one clear status before its own deadline; what can be sent again says so, with `RetryInfo`,
//! what cannot never looks as if it could; bytes, requests and connections held at the same time are bounded; nothing is
//! decoded; of a caller that must be known and is not, no byte of the body is read.
//! Absent on purpose: how TLS and authentication work, health and reflection services. OTLP/HTTP is its sibling.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Status;

use super::{
    AuthSettings, Signal,
    transport::{
        MIB,
        admission::Place,
        compression::{self, Compression, GRPC},
        connections::Limits,
        framing::{Assembler, FramingError, Outgoing, Payload, next_frame},
        receiver::{self, Common, Protocol},
        reception::{self, Reception},
        signals, tls,
    },
};

pub use super::transport::{
    admission::Admission,
    connections::{Keepalive, ServerParameters},
    entrance::Entrance,
    listening::BindError,
    reception::Counters,
    tls::{ServerSettings as TlsSettings, Version as TlsVersion},
};

/// A caller that would wait longer is not waited with: its request holds a place.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// The section `receivers.otlp.protocols.grpc`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port`; `localhost` listens on IPv4 and IPv6, `:4317` on all interfaces.
    pub endpoint: String,
    /// TLS; left out, plain text.
    pub tls: Option<TlsSettings>,
    /// Who knows the callers; left out, everybody is let in.
    pub auth: Option<AuthSettings>,
    /// Largest request, in MiB after decompression.
    pub max_recv_msg_size_mib: usize,
    /// Keep the callers' headers for exporters (`from_context`).
    pub include_metadata: bool,
    /// Connections at the same time; one more is closed at once.
    pub max_connections: usize,
    /// Calls under way at the same time on one connection.
    pub max_concurrent_streams: u32,
    /// Requests held at the same time; one more is refused with UNAVAILABLE.
    pub max_requests_in_flight: usize,
    /// Bytes of requests held at the same time, in MiB; never less than one largest request.
    pub max_mib_in_flight: usize,
    /// Pings, idle time and age of connections.
    pub keepalive: Keepalive,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".into(),
            tls: None,
            auth: None,
            max_recv_msg_size_mib: 64,
            include_metadata: false,
            max_connections: 1024,
            max_concurrent_streams: 256,
            max_requests_in_flight: 1024,
            max_mib_in_flight: 256,
            keepalive: Keepalive::default(),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.common().validate("localhost:4317")?;
        if !(1..4096).contains(&self.max_recv_msg_size_mib) {
            return Err("`max_recv_msg_size_mib` must lie between 1 and 4095, for example 64".into());
        }
        if self.max_concurrent_streams == 0 {
            return Err("`max_concurrent_streams` must be at least 1".into());
        }
        Ok(())
    }
}

impl Protocol for Settings {
    const ENDPOINT_KEY: &'static str = "`receivers.otlp.protocols.grpc.endpoint`";
    const WITHIN_TLS: &'static [&'static [u8]] = &[tls::HTTP_2];
    type Handler = Service;
    type Body = Outgoing;

    fn common(&self) -> Common<'_> {
        Common {
            endpoint: &self.endpoint,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            max_connections: self.max_connections,
            max_requests_in_flight: self.max_requests_in_flight,
            max_mib_in_flight: self.max_mib_in_flight,
            max_request_bytes: self.max_recv_msg_size_mib.saturating_mul(MIB),
            max_request_key: "max_recv_msg_size_mib",
            include_metadata: self.include_metadata,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            http1: None,
            parameters: self.keepalive.server_parameters.clone(),
            max_concurrent_streams: self.max_concurrent_streams,
        }
    }

    fn handler(&self, reception: Reception) -> Service {
        Service { reception }
    }

    async fn answer(service: &Service, request: HttpRequest<Incoming>) -> Response<Outgoing> {
        service.call(request).await
    }
}

/// A receiver of OTLP by gRPC.
pub type Receiver = receiver::Receiver<Settings>;

/// Answers calls.
pub struct Service {
    reception: Reception,
}

impl Service {
    /// Answers one HTTP/2 request.
    async fn call<B>(&self, request: HttpRequest<B>) -> Response<Outgoing>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method != Method::POST || !is_grpc(&parts.headers) {
            self.reception.count_unknown();
            return not_grpc();
        }
        if let Err((status, _)) = self.reception.know(&mut parts.headers).await {
            return status.into_http();
        }
        let path = parts.uri.path();
        let Some(signal) = signals::of_export_path(path) else {
            self.reception.count_unknown();
            return Status::unimplemented(self.unknown_method(path)).into_http();
        };
        if let Err(message) = self.reception.serves(signal) {
            return Status::unimplemented(message).into_http();
        }
        let accepted = Compression::accepted_by(&parts.headers, &GRPC);
        match self.export(signal, parts.headers, body).await {
            Ok(message) => success(message, accepted).await,
            Err(status) => {
                self.reception.count_refusal(&status);
                status.into_http()
            }
        }
    }

    async fn export<B>(&self, signal: Signal, headers: HeaderMap, body: B) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let deadline = caller_timeout(&headers).map(|timeout| Instant::now() + reception::answer_within(timeout));
        let mut place = self.reception.enter(signal)?;
        let encoding = Compression::of(&headers, &GRPC).map_err(unknown_encoding)?;
        let reading = self.read(body, encoding, &mut place);
        let body = self.reception.arrived(deadline, reading).await?;
        self.reception.hand_on(signal, body, headers, deadline).await
    }

    /// The message of the call, decompressed.
    async fn read<B>(&self, mut body: B, encoding: Compression, place: &mut Place) -> Result<Bytes, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut assembler = Assembler::new(self.reception.limit());
        while let Some(frame) = next_frame(&mut body).await {
            // The caller is gone: nobody reads this status.
            let frame = frame.map_err(|_| Status::cancelled("the call broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            self.reception.hold(place, data.len())?;
            assembler.push(data).map_err(|error| self.unreadable(error))?;
        }
        let Payload { compressed, bytes } = assembler.finish().map_err(|error| self.unreadable(error))?;
        if !compressed {
            return Ok(bytes);
        }
        if encoding == Compression::None {
            return Err(Status::invalid_argument(
                "the message is marked as compressed, but `grpc-encoding` is missing",
            ));
        }
        self.reception.decompressed(bytes, encoding, place).await
    }

    fn unknown_method(&self, path: &str) -> String {
        if let Some(message) = signals::profiles(path) {
            return message.to_owned();
        }
        let path: String = path.chars().take(200).collect();
        let served: Vec<&str> = self.reception.signals().map(signals::export_path).collect();
        format!("Harbinger does not have {path}; it serves {}", served.join(", "))
    }

    fn unreadable(&self, error: FramingError) -> Status {
        match error {
            FramingError::TooLarge { .. } => self.reception.too_large(error),
            _ => Status::invalid_argument(error.to_string()),
        }
    }
}

/// The acknowledgement. An empty message is full success.
async fn success(message: Bytes, accepted: Compression) -> Response<Outgoing> {
    let (message, encoding) = reception::response(message, accepted).await;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Outgoing::new(message, encoding).with_trailers(trailers));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC.accepted, compression::ACCEPTED);
    if let Some(name) = encoding.name() {
        headers.insert(GRPC.encoding, HeaderValue::from_static(name));
    }
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

fn not_grpc() -> Response<Outgoing> {
    let mut response = Response::new(Outgoing::default());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn unknown_encoding(name: String) -> Status {
    let message = format!("`grpc-encoding: {name}` is not supported; use gzip, zstd or none");
    let mut status = Status::unimplemented(message);
    let accepted = tonic::metadata::MetadataValue::try_from(compression::ACCEPTED.as_bytes());
    if let Ok(accepted) = accepted {
        status.metadata_mut().insert(GRPC.accepted, accepted);
    }
    status
}

/// `grpc-timeout`: at most eight digits and a unit; anything else counts as none.
fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.min(MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::{Arc, Mutex};

    use super::{
        super::transport::{admission::Admission, reception::Bounds, status},
        *,
    };
    use crate::edge::{BoxFuture, Intake, Refusal, Request};
    use tonic::Code;

    /// Never answers; remembers the deadline it was given.
    #[derive(Default)]
    struct Silent(Mutex<Option<Instant>>);

    impl Intake for Silent {
        fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            *self.0.lock().unwrap() = Some(request.deadline);
            Box::pin(std::future::pending())
        }
    }

    /// A body whose first half comes at once and the second never.
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

    fn service(intake: Arc<dyn Intake>, admission: Admission) -> (Service, Arc<Admission>) {
        let admission = Arc::new(admission);
        let bounds = Bounds {
            max_request_bytes: MIB,
            max_request_key: "max_recv_msg_size_mib",
            include_metadata: false,
            authenticator: None,
            admission: admission.clone(),
        };
        let reception = Reception::new(intake, bounds, Arc::default());
        (Service { reception }, admission)
    }

    fn roomy() -> Admission {
        Admission::new(10, 10 * MIB)
    }

    fn call<B>(timeout: Option<&str>, body: B) -> HttpRequest<B> {
        let mut request =
            HttpRequest::post(signals::export_path(Signal::Logs)).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        request.body(body).unwrap()
    }

    fn status(response: &Response<Outgoing>) -> status::Answer {
        status::answer(response.headers()).unwrap()
    }

    /// How long a caller waits for its answer when the next hop never gives one.
    async fn waits(timeout: Option<&str>) -> Duration {
        let silent = Arc::new(Silent::default());
        let started = Instant::now();
        let body = Outgoing::new(Bytes::from_static(b"x"), Compression::None);
        let response = service(silent.clone(), roomy()).0.call(call(timeout, body)).await;
        let answer = status(&response);
        assert_eq!(
            (answer.code, answer.retry_after),
            (Code::Unavailable, Some(reception::RETRY_AFTER))
        );
        assert_eq!(silent.0.lock().unwrap().unwrap(), Instant::now().max(started));
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_a_margin_before_the_callers_deadline() {
        let milliseconds = Duration::from_millis;
        for (timeout, expected) in [
            (None, milliseconds(4500)),
            (Some("nonsense"), milliseconds(4500)),
            (Some("123456789S"), milliseconds(4500)),
            (Some("3S"), milliseconds(2500)),
            (Some("2000m"), milliseconds(1500)),
            (Some("1M"), milliseconds(59_500)),
            (Some("600m"), milliseconds(300)),
            (Some("4000u"), milliseconds(2)),
            (Some("99999999H"), milliseconds(599_500)),
        ] {
            assert_eq!(waits(timeout).await, expected, "{timeout:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn known_loss_slow_bodies_are_given_up_and_their_places_are_free_again() {
        for (timeout, expected) in [(Some("3S"), 2500), (None, 60_000)] {
            let (service, admission) = service(Arc::new(Silent::default()), roomy());
            let started = Instant::now();
            let body = Stalled(Some(Bytes::from_static(&[0, 0, 0, 0, 9, 1])));
            let response = service.call(call(timeout, body)).await;
            assert_eq!(status(&response).code, Code::Unavailable);
            assert_eq!(started.elapsed(), Duration::from_millis(expected));
            assert_eq!((admission.requests(), admission.bytes()), (0, 0));
        }
    }

    #[tokio::test]
    async fn item_08_bytes_held_at_the_same_time_are_bounded() {
        let (service, _) = service(Arc::new(Silent::default()), Admission::new(10, 2000));
        for encoding in [Compression::None, Compression::Gzip] {
            let payload = encoding.compress(vec![0; 3000].into()).await.unwrap();
            let mut request = call(None, Outgoing::new(payload, encoding));
            let name = encoding.name().unwrap_or("identity");
            request
                .headers_mut()
                .insert(GRPC.encoding, HeaderValue::from_static(name));
            let answer = status(&service.call(request).await);
            assert_eq!(answer.code, Code::Unavailable);
            assert!(answer.message.contains("max_mib_in_flight") && answer.retry_after.is_some());
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
                    max_recv_msg_size_mib: 0,
                    ..default()
                },
                "max_recv_msg_size_mib",
            ),
            (
                Settings {
                    max_requests_in_flight: 0,
                    ..default()
                },
                "max_requests_in_flight",
            ),
        ] {
            assert!(settings.validate().unwrap_err().contains(name));
        }
        assert_eq!(default().validate(), Ok(()));
    }

    #[test]
    fn settings_read_like_the_collectors() {
        let yaml = "endpoint: 0.0.0.0:4317\nmax_recv_msg_size_mib: 16\ninclude_metadata: true\n\
                    keepalive: {server_parameters: {max_connection_age: 60s, max_connection_age_grace: 10s}}";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(
            settings.keepalive.server_parameters.max_connection_age,
            Duration::from_secs(60)
        );
        assert!(serde_yaml::from_str::<Settings>("endpont: x").is_err());
        let written = serde_yaml::to_string(&settings).unwrap();
        assert_eq!(serde_yaml::from_str::<Settings>(&written).unwrap(), settings);
    }
}
