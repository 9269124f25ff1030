//! The sink: takes every request, as cheaply as possible, and says what came.
//!
//! Enters: calls of OTLP's `LogsService/Export`, plain text. Leaves: success, and at the end one line: requests, bytes, and of every
//! so many requests, read in full, how many records there were and how many of them say `is_anomaly`. Promises: what is read in full is
//! chosen by count, not by look. Absent on purpose: anything but success.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value};
use prost::Message;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::cpu_s;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen: `host:port`.
    #[arg(long)]
    listen: String,
    /// One request of so many is read in full.
    #[arg(long, default_value_t = 97)]
    read_every: u64,
}

#[derive(Clone, Default, Serialize)]
pub struct Came {
    requests: u64,
    wire_bytes: u64,
    read_requests: u64,
    read_records: u64,
    read_marked: u64,
    read_anomalous: u64,
    read_degraded: u64,
    cpu_s: f64,
}

/// Takes requests until SIGTERM or SIGINT.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Came> {
    let listener = TcpListener::bind(&arguments.listen).await?;
    let came: Arc<Mutex<Came>> = Arc::default();
    let (mut ended, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let sink = Sink {
        came: Arc::clone(&came),
        read_every: arguments.read_every.max(1),
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                tokio::spawn(sink.clone().connection(stream));
            }
            _ = ended.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    let mut came = came.lock().unwrap_or_else(PoisonError::into_inner).clone();
    came.cpu_s = cpu_s();
    Ok(came)
}

#[derive(Clone)]
struct Sink {
    came: Arc<Mutex<Came>>,
    read_every: u64,
}

impl Sink {
    async fn connection(self, stream: TcpStream) -> anyhow::Result<()> {
        let mut server = h2::server::Builder::new();
        server
            .initial_window_size(1 << 24)
            .initial_connection_window_size(1 << 26);
        server.max_frame_size(1 << 20).max_concurrent_streams(10_000);
        let mut connection = server.handshake::<_, Bytes>(stream).await?;
        while let Some(call) = connection.accept().await {
            let (request, respond) = call?;
            tokio::spawn(self.clone().call(request, respond));
        }
        Ok(())
    }

    async fn call(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> anyhow::Result<()> {
        let encoding = request.headers().get("grpc-encoding").cloned();
        let number = {
            let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
            came.requests += 1;
            came.requests
        };
        let is_read = number % self.read_every == 0;
        let (mut kept, mut bytes) = (BytesMut::new(), 0);
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let data = data?;
            bytes += data.len() as u64;
            if is_read {
                kept.extend_from_slice(&data);
            }
            body.flow_control().release_capacity(data.len())?;
        }
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .body(())?;
        let mut answer = respond.send_response(head, false)?;
        answer.send_data(Bytes::from_static(&[0; 5]), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        answer.send_trailers(trailers)?;
        let read = if is_read {
            Some(read(&kept, encoding.as_ref())?)
        } else {
            None
        };
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.wire_bytes += bytes;
        if let Some(request) = read {
            came.count(&request);
        }
        Ok(())
    }
}

fn read(framed: &[u8], encoding: Option<&HeaderValue>) -> anyhow::Result<ExportLogsServiceRequest> {
    let (flag, message) = (framed.first(), framed.get(5..).unwrap_or_default());
    let encoding = encoding.filter(|_| flag == Some(&1)).map(HeaderValue::as_bytes);
    Ok(match encoding {
        Some(b"gzip") => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::bufread::GzDecoder::new(message), &mut plain)?;
            ExportLogsServiceRequest::decode(plain.as_slice())?
        }
        Some(b"zstd") => ExportLogsServiceRequest::decode(zstd::stream::decode_all(message)?.as_slice())?,
        _ => ExportLogsServiceRequest::decode(message)?,
    })
}

impl Came {
    fn count(&mut self, request: &ExportLogsServiceRequest) {
        self.read_requests += 1;
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        for record in scopes.flat_map(|scope| &scope.log_records) {
            let value = |key: &str| {
                let attribute = record.attributes.iter().rev().find(|attribute| attribute.key == key)?;
                attribute.value.as_ref()?.value.as_ref()
            };
            self.read_records += 1;
            self.read_marked += u64::from(value("is_anomaly").is_some());
            self.read_anomalous += u64::from(value("is_anomaly") == Some(&Value::BoolValue(true)));
            self.read_degraded += u64::from(
                matches!(value("harbinger.verdict"), Some(Value::StringValue(verdict)) if verdict == "degraded"),
            );
        }
    }
}
