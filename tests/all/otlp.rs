//! OTLP clients and next hops made of tonic, so that Harbinger is tested against another implementation of gRPC.
//!
//! Absent on purpose: Harbinger's own framing, compression and retries.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use harbinger::edge::{
    self, BoxFuture, Intake, Intakes, Protocol, Refusal, Request, Signal,
    receive_grpc::{Entrance, Receiver, Settings},
};
use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use prost::Message;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tonic::{
    Status,
    body::Body,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

pub const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
pub const EXPORT_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Messages as bytes.
#[derive(Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// A request of one record.
pub fn logs(text: &str) -> Bytes {
    let body = Some(AnyValue {
        value: Some(any_value::Value::StringValue(text.into())),
    });
    let scope_logs = vec![ScopeLogs {
        log_records: vec![LogRecord {
            body,
            ..Default::default()
        }],
        ..Default::default()
    }];
    let resource_logs = vec![ResourceLogs {
        scope_logs,
        ..Default::default()
    }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

/// An OTLP client.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub grpc: tonic::client::Grpc<Channel>,
}

impl Client {
    pub async fn to(address: SocketAddr) -> Self {
        let channel = Endpoint::try_from(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self::over(channel)
    }

    pub fn over(channel: Channel) -> Self {
        Self {
            grpc: tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(8 << 20),
            channel,
        }
    }

    pub fn compressing(mut self, encoding: CompressionEncoding) -> Self {
        self.grpc = self.grpc.send_compressed(encoding);
        self
    }

    pub fn accepting(mut self, encoding: CompressionEncoding) -> Self {
        self.grpc = self.grpc.accept_compressed(encoding);
        self
    }

    pub async fn call(
        &mut self,
        path: &'static str,
        request: tonic::Request<Bytes>,
    ) -> Result<tonic::Response<Bytes>, Status> {
        self.grpc.ready().await.unwrap();
        self.grpc
            .unary(request, http::uri::PathAndQuery::from_static(path), Raw)
            .await
    }

    pub async fn export(&mut self, message: Bytes) -> Result<Bytes, Status> {
        self.call(EXPORT, tonic::Request::new(message))
            .await
            .map(tonic::Response::into_inner)
    }

    /// Sends `body` as it is, frame prefix included; gives the status in the response's headers.
    pub async fn raw(&self, headers: &[(&'static str, &str)], body: Vec<u8>) -> Status {
        let response = self.http(headers, body).await;
        Status::from_header_map(response.headers()).expect("no status in the headers")
    }

    pub async fn http(&self, headers: &[(&'static str, &str)], body: Vec<u8>) -> http::Response<Body> {
        let mut request = http::Request::post(EXPORT).header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(axum::body::Body::from(body))).unwrap();
        let mut channel = self.channel.clone();
        std::future::poll_fn(|context| tower_service::Service::poll_ready(&mut channel, context))
            .await
            .unwrap();
        tower_service::Service::call(&mut channel, request).await.unwrap()
    }
}

/// A message with its gRPC prefix.
pub fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// A receiver that is serving.
pub struct Serving {
    pub address: SocketAddr,
    pub counters: Arc<harbinger::edge::receive_grpc::Counters>,
    pub entrance: Entrance,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves on a free port of 127.0.0.1, or on `settings.endpoint` if it was changed.
    pub async fn start(settings: Settings, intake: Arc<dyn Intake>) -> Self {
        Self::start_signals(settings, intake.into()).await
    }

    /// Likewise, for signals other than logs too.
    pub async fn start_signals(mut settings: Settings, intakes: Intakes) -> Self {
        if settings.endpoint == Settings::default().endpoint {
            settings.endpoint = "127.0.0.1:0".into();
        }
        Self::of_signals(Receiver::bind(settings).await.unwrap(), intakes)
    }

    pub fn of<P: Protocol>(receiver: edge::Receiver<P>, intake: Arc<dyn Intake>) -> Self {
        Self::of_signals(receiver, intake.into())
    }

    pub fn of_signals<P: Protocol>(receiver: edge::Receiver<P>, intakes: Intakes) -> Self {
        let (address, counters, entrance) = (receiver.addresses()[0], receiver.counters(), receiver.entrance());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(receiver.serve(intakes, async { _ = stopped.await }));
        Self {
            address,
            counters,
            entrance,
            stop,
            task,
        }
    }

    /// Asks it to stop; the task ends when the last call has its answer.
    pub fn stop(self) -> JoinHandle<()> {
        _ = self.stop.send(());
        self.task
    }
}

/// An intake that takes everything, or answers as told, and remembers.
#[derive(Default)]
pub struct Recorder {
    pub requests: Mutex<Vec<Request>>,
    pub answer: Mutex<Option<Result<Bytes, Refusal>>>,
}

impl Recorder {
    pub fn answering(answer: Result<Bytes, Refusal>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Some(answer)),
            ..Self::default()
        })
    }

    pub fn bodies(&self) -> Vec<Bytes> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .map(|request| request.body.clone())
            .collect()
    }
}

impl Intake for Recorder {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        self.requests.lock().unwrap().push(request);
        let answer = self.answer.lock().unwrap().clone().unwrap_or(Ok(Bytes::new()));
        Box::pin(async { answer })
    }
}

/// Holds every request until told.
pub struct Gate {
    pub arrived: Semaphore,
    pub open: Semaphore,
}

impl Gate {
    pub fn shut() -> Arc<Self> {
        Arc::new(Self {
            arrived: Semaphore::new(0),
            open: Semaphore::new(0),
        })
    }
}

impl Intake for Gate {
    fn accept(&self, _request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async {
            self.arrived.add_permits(1);
            self.open.acquire().await.unwrap().forget();
            Ok(Bytes::new())
        })
    }
}

/// What a next hop does with a call.
pub enum Answer {
    /// Success with these response bytes.
    Take(Bytes),
    /// This status.
    Refuse(Status),
    /// Exactly this response.
    Http(http::Response<Body>),
    /// Nothing, for ever.
    Silence,
}

/// A call that a next hop has seen.
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub message: Bytes,
}

/// A next hop that answers from a list, then takes everything.
#[derive(Clone, Default)]
pub struct Hop {
    pub answers: Arc<Mutex<VecDeque<Answer>>>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    compress: Option<CompressionEncoding>,
}

impl Hop {
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            ..Self::default()
        }
    }

    /// Compresses its responses.
    pub fn compressing(self, encoding: CompressionEncoding) -> Self {
        Self {
            compress: Some(encoding),
            ..self
        }
    }

    /// Listens on a free port until the test ends.
    pub async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve(listener);
        address
    }

    pub fn serve(&self, listener: TcpListener) {
        tokio::spawn(
            Server::builder()
                .add_service(self.clone())
                .add_service(OfTraces(self.clone()))
                .add_service(OfMetrics(self.clone()))
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
    }

    pub fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl tonic::server::NamedService for Hop {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl tower_service::Service<http::Request<Body>> for Hop {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hop = self.clone();
        Box::pin(async move {
            let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
            let told = Arc::new(Mutex::new(None));
            let mut grpc = tonic::server::Grpc::new(Raw)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(256 << 20);
            if let Some(encoding) = hop.compress {
                grpc = grpc.send_compressed(encoding);
            }
            let response = grpc
                .unary(
                    Unary {
                        hop,
                        path,
                        headers,
                        told: told.clone(),
                    },
                    request,
                )
                .await;
            Ok(told.lock().unwrap().take().unwrap_or(response))
        })
    }
}

/// The same hop under the names of the other signals' services.
macro_rules! service {
    ($service:ident, $name:literal) => {
        #[derive(Clone)]
        struct $service(Hop);

        impl tonic::server::NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl tower_service::Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = <Hop as tower_service::Service<http::Request<Body>>>::Future;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                self.0.call(request)
            }
        }
    };
}

service!(OfTraces, "opentelemetry.proto.collector.trace.v1.TraceService");
service!(OfMetrics, "opentelemetry.proto.collector.metrics.v1.MetricsService");

struct Unary {
    hop: Hop,
    path: String,
    headers: HeaderMap,
    told: Arc<Mutex<Option<http::Response<Body>>>>,
}

impl tower_service::Service<tonic::Request<Bytes>> for Unary {
    type Response = tonic::Response<Bytes>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let seen = Seen {
            path: self.path.clone(),
            headers: self.headers.clone(),
            message: request.into_inner(),
        };
        self.hop.seen.lock().unwrap().push(seen);
        let answer = self
            .hop
            .answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Answer::Take(Bytes::new()));
        let told = self.told.clone();
        Box::pin(async move {
            match answer {
                Answer::Take(response) => Ok(tonic::Response::new(response)),
                Answer::Refuse(status) => Err(status),
                Answer::Silence => std::future::pending().await,
                Answer::Http(response) => {
                    *told.lock().unwrap() = Some(response);
                    Ok(tonic::Response::new(Bytes::new()))
                }
            }
        })
    }
}

/// A request of logs that may wait a minute for its answer.
pub fn request(body: Bytes) -> Request {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    Request {
        signal: Signal::Logs,
        body,
        metadata: harbinger::edge::Metadata::default(),
        deadline,
    }
}
