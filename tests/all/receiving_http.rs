//! What an OTLP client gets from the HTTP receiver, down to the bytes on the socket.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use harbinger::edge::{
    BoxFuture, Intake, Intakes, Refusal, Request,
    receive_http::{Receiver, Settings},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Barrier,
};

use crate::otlp::{Gate, Recorder, Serving, logs};

pub const PROTOBUF: &str = "application/x-protobuf";
pub const JSON: &str = "application/json";

/// Serves on a free port of 127.0.0.1.
pub async fn start(settings: Settings, intake: Arc<dyn Intake>) -> Serving {
    start_signals(settings, intake.into()).await
}

/// Likewise, for signals other than logs too.
pub async fn start_signals(settings: Settings, intakes: Intakes) -> Serving {
    let receiver = Receiver::bind(Settings {
        endpoint: "127.0.0.1:0".into(),
        ..settings
    });
    Serving::of_signals(receiver.await.unwrap(), intakes)
}

async fn recording() -> (Arc<Recorder>, Serving) {
    let recorder = Arc::new(Recorder::default());
    let serving = start(Settings::default(), recorder.clone()).await;
    (recorder, serving)
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `google.rpc.Status` that every refusal is.
    pub fn status(&self) -> (i32, String) {
        if self.header("content-type") == Some(JSON) {
            let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
            return (
                value["code"].as_i64().unwrap() as i32,
                value["message"].as_str().unwrap().to_owned(),
            );
        }
        assert_eq!(self.header("content-type"), Some(PROTOBUF), "{self:?}");
        let status = tonic_types::Status::decode(&*self.body).unwrap();
        (status.code, status.message)
    }
}

/// One connection of HTTP/1.1.
struct Connection(TcpStream);

impl Connection {
    async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn reply(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("closed without an answer"));
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        let length = reply
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        reply.body = vec![0; length];
        self.0.read_exact(&mut reply.body).await.unwrap();
        reply
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        _ = self.0.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

/// A whole request.
fn post(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

async fn ask(serving: &Serving, request: impl AsRef<[u8]>) -> Reply {
    let mut connection = Connection::to(serving.address).await;
    connection.send(request).await;
    connection.reply().await
}

pub async fn export(serving: &Serving, media_type: &str, body: &[u8]) -> Reply {
    ask(serving, post(&[("content-type", media_type)], body)).await
}

pub async fn export_to(serving: &Serving, path: &str, media_type: &str, body: &[u8]) -> Reply {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    ask(serving, [head.as_bytes(), body].concat()).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

#[tokio::test]
async fn item_01_plain_gzip_and_zstd_requests_arrive_as_they_were() {
    let (recorder, serving) = recording().await;
    for length in [10, 100_000, 3_000_000] {
        let message = logs(&"line ".repeat(length / 5));
        for (encoding, body) in [
            ("identity", message.to_vec()),
            ("gzip", gzip(&message)),
            ("GZIP", gzip(&message)),
            ("zstd", zstd(&message)),
        ] {
            let request = post(&[("content-type", PROTOBUF), ("content-encoding", encoding)], &body);
            assert_eq!(ask(&serving, request).await.status, 200, "{encoding}");
            assert_eq!(recorder.requests.lock().unwrap().pop().unwrap().body, message);
        }
    }
    let request = post(&[("content-type", PROTOBUF), ("content-encoding", "br")], b"?");
    let reply = ask(&serving, request).await;
    assert_eq!(
        (reply.status, reply.header("accept-encoding")),
        (415, Some("gzip,zstd,identity"))
    );
    assert!(reply.status().1.contains("use gzip, zstd or none"));
}

fn partial(message: &str) -> ExportLogsServiceResponse {
    ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 7,
            error_message: message.into(),
        }),
    }
}

#[tokio::test]
async fn item_01_responses_are_compressed_only_for_callers_that_accept_it() {
    let large: Bytes = partial(&"too old ".repeat(2000)).encode_to_vec().into();
    let serving = start(Settings::default(), Recorder::answering(Ok(large.clone()))).await;
    for (accepts, encoding) in [
        ("gzip", Some("gzip")),
        ("br, zstd;q=0.5", Some("zstd")),
        ("identity", None),
    ] {
        let request = post(&[("content-type", PROTOBUF), ("accept-encoding", accepts)], &logs("x"));
        let reply = ask(&serving, request).await;
        assert_eq!(reply.header("content-encoding"), encoding);
        let body = match encoding {
            Some("zstd") => zstd::bulk::decompress(&reply.body, 1 << 20).unwrap(),
            Some(_) => std::io::Read::bytes(flate2::read::GzDecoder::new(&*reply.body))
                .collect::<Result<_, _>>()
                .unwrap(),
            None => reply.body,
        };
        assert_eq!(body, large);
    }
}

#[tokio::test]
async fn item_02_what_is_not_served_says_what_is() {
    let (_, serving) = recording().await;
    for (path, says) in [
        ("/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (
            "/v1/metrics",
            "`service.pipelines.metrics: {receivers: [otlp], exporters: [...]}`",
        ),
        ("/v1development/profiles", "profiles are not supported"),
        ("/", "nothing is served at /"),
        ("/v1/logs/", "logs go to /v1/logs"),
        (crate::otlp::EXPORT, "this port takes OTLP by HTTP"),
    ] {
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 2\r\n\r\n{{}}");
        let reply = ask(&serving, request).await;
        let (code, message) = reply.status();
        assert_eq!((reply.status, code), (404, 5));
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(serving.counters.unknown_method_requests.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn item_02_the_path_is_configurable() {
    let settings = Settings {
        logs_url_path: "/otlp/v1/logs".into(),
        ..Settings::default()
    };
    let serving = start(settings, Arc::new(Recorder::default())).await;
    let reply = export(&serving, PROTOBUF, &logs("x")).await;
    assert_eq!(reply.status, 404);
    assert!(reply.status().1.contains("/otlp/v1/logs"));
    let request = String::from_utf8(post(&[("content-type", JSON)], b"{}")).unwrap();
    let reply = ask(&serving, request.replace("/v1/logs", "/otlp/v1/logs?some=query")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn item_03_both_encodings_on_one_port_and_the_answer_in_the_requests_own() {
    let (recorder, serving) = recording().await;
    for (media_type, body, answer) in [
        (PROTOBUF, &logs("x")[..], (PROTOBUF, "")),
        ("Application/X-Protobuf; charset=utf-8", &logs("x"), (PROTOBUF, "")),
        (JSON, b"{}", (JSON, "{}")),
        ("application/json;charset=utf-8", b"{\"resourceLogs\":[]}", (JSON, "{}")),
    ] {
        let reply = export(&serving, media_type, body).await;
        let found = (reply.header("content-type").unwrap(), &*reply.text());
        assert_eq!((reply.status, found), (200, answer), "{media_type}");
    }
    assert_eq!(recorder.bodies().len(), 4);
}

#[tokio::test]
async fn item_03_http_2_with_prior_knowledge_on_the_same_port() {
    let (recorder, serving) = recording().await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = http::Request::post(format!("http://{}/v1/logs", serving.address))
        .header("content-type", PROTOBUF)
        .body(Full::new(logs("by HTTP/2")))
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, http::Version::HTTP_2)
    );
    assert_eq!(recorder.bodies(), [logs("by HTTP/2")]);
    let request = http::Request::get(format!("http://{}/v1/logs", serving.address))
        .body(Full::default())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 405);
    assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn item_04_success_is_the_next_hops_response_and_an_empty_request_succeeds() {
    let (recorder, serving) = recording().await;
    let reply = export(&serving, PROTOBUF, b"").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(recorder.bodies(), [Bytes::new()]);
    let reply = export(&serving, JSON, b"{}").await;
    assert_eq!((reply.status, &*reply.text()), (200, "{}"));
    assert_eq!(serving.counters.accepted_requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn item_05_a_partial_success_comes_back_in_either_encoding() {
    let response: Bytes = partial("too old").encode_to_vec().into();
    let serving = start(Settings::default(), Recorder::answering(Ok(response.clone()))).await;
    assert_eq!(export(&serving, PROTOBUF, &logs("x")).await.body, response);
    let reply = export(&serving, JSON, b"{}").await;
    assert_eq!(
        (reply.status, &*reply.text()),
        (
            200,
            r#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"too old"}}"#
        )
    );
}

#[tokio::test]
async fn item_06_what_cannot_be_decoded_is_a_400_with_a_status_in_the_requests_encoding() {
    let (recorder, serving) = recording().await;
    for (encoding, body) in [
        ("gzip", &b"no gzip at all"[..]),
        ("zstd", b"no zstd at all"),
        ("gzip", &gzip(&logs("cut"))[..20]),
    ] {
        let request = post(&[("content-type", PROTOBUF), ("content-encoding", encoding)], body);
        let reply = ask(&serving, request).await;
        assert_eq!((reply.status, reply.status().0), (400, 3), "{encoding}");
    }
    for (json, says) in [
        (&b"{\"resourceLogs\":[{]}"[..], "line 1 column 19"),
        (b"{}\n\xff", "not UTF-8 at line 2 column 1"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"", "line 1 column 0"),
        (br#"{"resourceLogs":{}}"#, "a list, `resourceLogs`"),
    ] {
        let reply = export(&serving, JSON, json).await;
        let (code, message) = reply.status();
        assert_eq!((reply.status, code), (400, 3));
        assert!(message.contains(says), "{message}");
    }
    assert!(recorder.bodies().is_empty());
    assert_eq!(serving.counters.failed_requests.load(Ordering::Relaxed), 8);
    // What is found malformed further on.
    *recorder.answer.lock().unwrap() = Some(Err(Refusal::Malformed("record 3: bad tag".into())));
    let reply = export(&serving, PROTOBUF, b"\xff").await;
    assert_eq!((reply.status, reply.status()), (400, (3, "record 3: bad tag".into())));
}

#[tokio::test]
async fn item_06_a_wrong_method_is_405_and_a_wrong_media_type_415() {
    let (_, serving) = recording().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = ask(&serving, format!("{method} /v1/logs HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method}");
        assert!(reply.text().contains("takes POST"));
    }
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "application/grpc")],
        &[],
    ] {
        let reply = ask(&serving, post(headers, b"x")).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (415, Some("text/plain; charset=utf-8"))
        );
        assert!(reply.text().contains("application/x-protobuf or application/json"));
    }
}

#[tokio::test]
async fn item_07_oversized_is_413_also_for_a_caller_that_sends_everything_first() {
    let recorder = Arc::new(Recorder::default());
    let settings = Settings {
        max_request_body_size: 1 << 20,
        ..Settings::default()
    };
    let serving = start(settings, recorder.clone()).await;
    let body = vec![0; (1 << 20) + 1];
    for (encoding, body) in [("identity", body.clone()), ("gzip", gzip(&body)), ("zstd", zstd(&body))] {
        for media_type in [PROTOBUF, JSON] {
            let request = post(&[("content-type", media_type), ("content-encoding", encoding)], &body);
            let mut connection = Connection::to(serving.address).await;
            connection.send(request).await;
            let reply = connection.reply().await;
            let (code, message) = reply.status();
            assert_eq!(
                (reply.status, code, reply.header("retry-after")),
                (413, 8, None),
                "{encoding}"
            );
            assert!(message.contains("max_request_body_size"), "{message}");
            connection.send(post(&[("content-type", PROTOBUF)], b"")).await;
            assert_eq!(connection.reply().await.status, 200, "the connection is still good");
            recorder.requests.lock().unwrap().clear();
        }
    }
    let chunk = format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000));
    let head =
        format!("POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ntransfer-encoding: chunked\r\n\r\n");
    let reply = ask(&serving, head.clone() + &chunk.repeat(20) + "0\r\n\r\n").await;
    assert_eq!(reply.status, 413, "no length was announced");
    let reply = ask(&serving, head + &chunk.repeat(14) + "0\r\n\r\n").await;
    assert_eq!((reply.status, recorder.bodies()[0].len()), (200, 980_000));
    assert_eq!(
        export(&serving, PROTOBUF, &body[1..]).await.status,
        200,
        "the limit itself is allowed"
    );
}

#[tokio::test]
async fn item_07_a_caller_that_waits_for_leave_is_spared_the_body() {
    let (recorder, serving) = recording().await;
    let head = |length: usize| {
        format!(
            "POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {length}\r\nexpect: \
             100-continue\r\n\r\n"
        )
    };
    let mut connection = Connection::to(serving.address).await;
    connection.send(head(100 << 20)).await;
    assert_eq!(connection.reply().await.status, 413);
    connection.closed().await;
    let mut connection = Connection::to(serving.address).await;
    connection.send(head(logs("x").len())).await;
    assert_eq!(connection.reply().await.status, 100);
    connection.send(logs("x")).await;
    assert_eq!(connection.reply().await.status, 200);
    assert_eq!(recorder.bodies(), [logs("x")]);
}

#[tokio::test]
async fn known_loss_decompression_bombs_are_stopped_at_the_limit() {
    let (recorder, serving) = recording().await;
    let bomb = vec![b' '; 100 << 20];
    for (encoding, bomb) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        for media_type in [PROTOBUF, JSON] {
            let request = post(&[("content-type", media_type), ("content-encoding", encoding)], &bomb);
            assert_eq!(ask(&serving, request).await.status, 413, "{encoding}");
        }
    }
    assert!(recorder.bodies().is_empty());
}

#[tokio::test]
async fn item_08_too_many_requests_are_503_with_retry_after_at_once() {
    let gate = Gate::shut();
    let settings = Settings {
        max_requests_in_flight: 2,
        ..Settings::default()
    };
    let serving = start(settings, gate.clone()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::to(serving.address).await;
        connection
            .send(post(&[("content-type", PROTOBUF)], &logs("held")))
            .await;
        held.push(connection);
    }
    gate.arrived.acquire_many(2).await.unwrap().forget();
    let reply = export(&serving, JSON, b"{}").await;
    let (code, message) = reply.status();
    assert_eq!((reply.status, code, reply.header("retry-after")), (503, 14, Some("1")));
    assert!(message.contains("max_requests_in_flight"), "{message}");
    assert_eq!(serving.counters.refused_requests.load(Ordering::Relaxed), 1);
    gate.open.add_permits(3);
    for mut connection in held {
        assert_eq!(connection.reply().await.status, 200);
    }
    assert_eq!(export(&serving, JSON, b"{}").await.status, 200, "there is room again");
}

#[tokio::test]
async fn item_08_refusals_reach_the_caller_with_what_it_should_do() {
    let (recorder, serving) = recording().await;
    let refused = async |refusal| {
        *recorder.answer.lock().unwrap() = Some(Err(refusal));
        export(&serving, PROTOBUF, &logs("x")).await
    };
    let reply = refused(Refusal::Unavailable {
        message: "hop is down".into(),
        retry_after: Some(Duration::from_millis(2500)),
    })
    .await;
    assert_eq!(
        (reply.status, reply.status(), reply.header("retry-after")),
        (503, (14, "hop is down".into()), Some("3"))
    );
    let reply = refused(Refusal::Unavailable {
        message: String::new(),
        retry_after: None,
    })
    .await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, None));
    for (code, http) in [
        (3, 400),
        (16, 401),
        (7, 403),
        (5, 404),
        (8, 413),
        (12, 501),
        (13, 500),
        (14, 500),
        (0, 500),
    ] {
        let reply = refused(Refusal::Permanent {
            code,
            message: "stream limit".into(),
            details: Bytes::new(),
        })
        .await;
        assert_eq!(reply.status, http, "{code}");
        assert!(reply.status().1.contains("stream limit"));
    }
}

#[tokio::test]
async fn item_09_connections_are_served_at_the_same_time() {
    const CALLS: usize = 50;
    struct Together(Barrier);
    impl Intake for Together {
        fn accept(&self, _request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            Box::pin(async {
                self.0.wait().await; // nobody goes on before all are here
                Ok(Bytes::new())
            })
        }
    }
    let serving = start(Settings::default(), Arc::new(Together(Barrier::new(CALLS)))).await;
    let mut connections = Vec::new();
    for _ in 0..CALLS {
        let mut connection = Connection::to(serving.address).await;
        connection.send(post(&[("content-type", JSON)], b"{}")).await;
        connections.push(connection);
    }
    for mut connection in connections {
        assert_eq!(connection.reply().await.status, 200);
    }
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_order_however_they_come() {
    let (recorder, serving) = recording().await;
    let mut connection = Connection::to(serving.address).await;
    let several: Vec<u8> = ["one", "two", "three"]
        .iter()
        .flat_map(|text| post(&[("content-type", PROTOBUF)], &logs(text)))
        .collect();
    let (first, rest) = several.split_at(40);
    connection.send(first).await;
    connection.send(rest).await;
    for _ in 0..3 {
        assert_eq!(connection.reply().await.status, 200);
    }
    assert_eq!(recorder.bodies(), ["one", "two", "three"].map(logs));
}

/// The body of the first record of what was handed on.
fn received(recorder: &Recorder) -> opentelemetry_proto::tonic::logs::v1::LogRecord {
    let request = recorder.requests.lock().unwrap().pop().unwrap();
    let mut request = ExportLogsServiceRequest::decode(request.body).unwrap();
    request.resource_logs[0].scope_logs[0].log_records.remove(0)
}

fn json_record(fields: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#)
}

#[tokio::test]
async fn item_10_json_is_handed_on_as_protobuf() {
    let (recorder, serving) = recording().await;
    let json = json_record(
        r#""timeUnixNano":"1544712660300000000","observedTimeUnixNano":1544712660300000001,"severityNumber":17,
           "traceId":"5B8EFFF798038103D269B633813FC60C","flags":1,"futureField":[{}],
           "body":{"kvlistValue":{"values":[{"key":"d","value":{"doubleValue":"NaN"}},{"key":"b","value":{"bytesValue":"AAE="}}]}}"#,
    );
    assert_eq!(export(&serving, JSON, json.as_bytes()).await.status, 200);
    let record = received(&recorder);
    assert_eq!(
        (
            record.time_unix_nano,
            record.observed_time_unix_nano,
            record.severity_number,
            record.flags
        ),
        (1_544_712_660_300_000_000, 1_544_712_660_300_000_001, 17, 1)
    );
    assert_eq!(record.trace_id.len(), 16);
    let reply = export(&serving, JSON, json_record(r#""severityNumber":"ERROR""#).as_bytes()).await;
    assert_eq!(reply.status, 400);
    assert!(reply.status().1.contains("number of the enum"));
    // Large enough to be translated off the async thread.
    let text = "ä\n\"".repeat(200_000);
    let json = json_record(&format!(
        r#""body":{{"stringValue":{}}}"#,
        serde_json::to_string(&text).unwrap()
    ));
    assert_eq!(export(&serving, JSON, json.as_bytes()).await.status, 200);
    assert_eq!(recorder.bodies(), [logs(&text)]);
}

#[tokio::test]
async fn item_12_a_record_with_a_broken_id_stays() {
    let (recorder, serving) = recording().await;
    for id in ["", "abc", "00000000000000000000000000000000", "not hex at all"] {
        let json = json_record(&format!(r#""traceId":"{id}","spanId":"{id}","severityText":"stays""#));
        assert_eq!(export(&serving, JSON, json.as_bytes()).await.status, 200);
        let record = received(&recorder);
        assert_eq!(
            (record.trace_id.len(), record.span_id.len(), &*record.severity_text),
            (0, 0, "stays")
        );
    }
}

#[tokio::test]
async fn item_13_an_empty_value_is_valid_and_deep_nesting_a_400() {
    let (recorder, serving) = recording().await;
    assert_eq!(
        export(&serving, JSON, json_record(r#""body":{}"#).as_bytes())
            .await
            .status,
        200
    );
    assert!(received(&recorder).body.is_some());
    for depth in [100, 1_000_000] {
        let deep = r#"{"arrayValue":{"values":["#.repeat(depth);
        let reply = export(&serving, JSON, json_record(&format!(r#""body":{deep}"#)).as_bytes()).await;
        assert_eq!(reply.status, 400);
        assert!(reply.status().1.contains("recursion limit"));
    }
}

#[tokio::test]
async fn metadata_is_kept_only_when_asked_for() {
    for include_metadata in [false, true] {
        let recorder = Arc::new(Recorder::default());
        let settings = Settings {
            include_metadata,
            ..Settings::default()
        };
        let serving = start(settings, recorder.clone()).await;
        let request = post(
            &[
                ("content-type", PROTOBUF),
                ("X-Scope-OrgID", "tenant"),
                ("accept", "*/*"),
            ],
            &logs("x"),
        );
        ask(&serving, request).await;
        let metadata = recorder.requests.lock().unwrap()[0].metadata.clone();
        let expected = [("x-scope-orgid".to_owned(), "tenant".to_owned())];
        assert_eq!(&*metadata.0, if include_metadata { &expected[..] } else { &[] });
    }
}

#[tokio::test]
async fn known_loss_slow_headers_and_idle_connections_are_closed() {
    let soon = Duration::from_millis(30);
    for (read_header_timeout, idle_timeout) in [(soon, Duration::ZERO), (soon * 1000, soon)] {
        let settings = Settings {
            read_header_timeout,
            idle_timeout,
            ..Settings::default()
        };
        let serving = start(settings, Arc::new(Recorder::default())).await;
        for beginning in [
            &b"PRI * HT"[..],                         // neither version yet
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",      // HTTP/2 that never begins
            b"POST /v1/logs HTTP/1.1\r\nhost: x\r\n", // a header that never ends
        ] {
            let mut connection = Connection::to(serving.address).await;
            connection.send(beginning).await;
            _ = connection.0.read_to_end(&mut Vec::new()).await;
        }
        let mut connection = Connection::to(serving.address).await;
        connection.send(post(&[("content-type", JSON)], b"{}")).await;
        assert_eq!(connection.reply().await.status, 200);
        connection.closed().await;
    }
}

#[tokio::test]
async fn shutdown_accepts_nothing_more_and_finishes_what_is_under_way() {
    let gate = Gate::shut();
    let serving = start(Settings::default(), gate.clone()).await;
    let address = serving.address;
    let (mut busy, mut idle) = (Connection::to(address).await, Connection::to(address).await);
    busy.send(post(&[("content-type", JSON)], b"{}")).await;
    gate.arrived.acquire().await.unwrap().forget();
    idle.send("POST /v1/logs HTTP/1.1\r\n").await;
    let mut stopped = serving.stop();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    gate.open.add_permits(1);
    assert_eq!(busy.reply().await.status, 200);
    busy.closed().await;
    (&mut stopped).await.unwrap();
}

#[tokio::test]
async fn strangers_on_the_port_harm_nobody() {
    let (recorder, serving) = recording().await;
    let many = format!("POST /v1/logs HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let long = format!("POST /v1/logs HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(200_000));
    for hello in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n",
        b"POST /v1/logs HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{}",
        many.as_bytes(),
        long.as_bytes(),
    ] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        _ = stream.write_all(hello).await;
        _ = stream.shutdown().await;
        _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert!(recorder.bodies().is_empty());
    assert_eq!(export(&serving, PROTOBUF, &logs("x")).await.status, 200);
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = Settings {
        endpoint: address.clone(),
        ..Settings::default()
    };
    let error = Receiver::bind(settings).await.err().unwrap().to_string();
    assert!(
        error.contains(&address) && error.contains("receivers.otlp.protocols.http.endpoint"),
        "{error}"
    );
}
