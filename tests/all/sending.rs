//! What a next hop gets from the OTLP exporter, alone and behind the receiver.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use harbinger::edge::{
    BoxFuture, Exporter, Intake, Metadata, Refusal, Request, Signal,
    export_otlp::{CompressionSetting, FromContext, HeaderSource, OtlpExporter, RetrySettings, Settings},
    receive_grpc,
};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    time::{Duration as Wait, Instant},
};
use tonic::{Code, Status, body::Body, codec::CompressionEncoding};
use tonic_types::{ErrorDetails, StatusExt};

use crate::otlp::{Answer, Client, EXPORT, Hop, Serving, logs, request};

fn settings(address: impl std::fmt::Display) -> Settings {
    Settings {
        endpoint: format!("http://{address}"),
        retry_on_failure: RetrySettings {
            initial_interval: Wait::from_millis(1),
            ..RetrySettings::default()
        },
        ..Settings::default()
    }
}

async fn exporter(hop: &Hop) -> OtlpExporter {
    OtlpExporter::new(&settings(hop.start().await), 1).unwrap()
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn with_retry_info(code: Code, wait: Duration) -> Status {
    Status::with_error_details(code, "busy", ErrorDetails::with_retry_info(Some(wait)))
}

#[tokio::test]
async fn item_16_each_code_is_retried_or_not_as_specified() {
    for code in (1..17).map(Code::from_i32) {
        let retried = matches!(
            code,
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
        );
        let hop = Hop::answering([Answer::Refuse(Status::new(code, "why"))]);
        let exporter = exporter(&hop).await;
        let result = exporter.export(request(logs("x"))).await;
        let counters = exporter.counters();
        let counts = [
            &counters.sent_requests,
            &counters.send_failed_requests,
            &counters.retries,
        ]
        .map(load);
        if retried {
            assert_eq!(
                (result, hop.attempts(), counts),
                (Ok(Bytes::new()), 2, [1, 0, 1]),
                "{code:?}"
            );
        } else {
            let refusal = Refusal::Permanent {
                code: code as i32,
                message: "why".into(),
                details: Bytes::new(),
            };
            assert_eq!(
                (result, hop.attempts(), counts),
                (Err(refusal), 1, [0, 1, 0]),
                "{code:?}"
            );
        }
    }
}

#[tokio::test]
async fn item_16_resource_exhausted_is_retried_with_retry_info() {
    let hop = Hop::answering([Answer::Refuse(with_retry_info(
        Code::ResourceExhausted,
        Duration::from_millis(1),
    ))]);
    assert_eq!(exporter(&hop).await.export(request(logs("x"))).await, Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 2);
}

#[tokio::test]
async fn item_16_http_statuses_without_a_grpc_status() {
    for (status, retried) in [
        (429, true),
        (502, true),
        (503, true),
        (504, true),
        (400, false),
        (404, false),
        (500, false),
    ] {
        let response = http::Response::builder().status(status).body(Body::empty()).unwrap();
        let hop = Hop::answering([Answer::Http(response)]);
        let result = exporter(&hop).await.export(request(logs("x"))).await;
        assert_eq!(
            (result.is_ok(), hop.attempts()),
            (retried, 1 + usize::from(retried)),
            "{status}: {result:?}"
        );
    }
}

#[tokio::test]
async fn item_17_a_wait_that_the_caller_has_no_time_for_is_handed_to_it() {
    let wait = Duration::from_secs(3600);
    let hop = Hop::answering([Answer::Refuse(with_retry_info(Code::Unavailable, wait))]);
    let exporter = exporter(&hop).await;
    let refusal = exporter.export(request(logs("x"))).await.unwrap_err();
    let Refusal::Unavailable { message, retry_after } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!((retry_after, hop.attempts()), (Some(wait), 1));
    assert!(
        message.contains("next hop 127.0.0.1:") && message.contains("UNAVAILABLE: busy"),
        "{message}"
    );
    assert_eq!(load(&exporter.counters().unavailable_requests), 1);
}

#[tokio::test]
async fn item_17_connect_failures_are_retried_until_somebody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap(); // closed again
    let exporter = Arc::new(OtlpExporter::new(&settings(address), 1).unwrap());
    let sending = tokio::spawn({
        let exporter = exporter.clone();
        async move { exporter.export(request(logs("x"))).await }
    });
    while load(&exporter.counters().retries) < 2 {
        tokio::task::yield_now().await;
    }
    let hop = Hop::default();
    hop.serve(TcpListener::bind(address).await.unwrap());
    assert_eq!(sending.await.unwrap(), Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 1);
}

#[tokio::test]
async fn item_17_a_connect_failure_says_who_could_not_be_reached() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings {
        retry_on_failure: RetrySettings {
            enabled: false,
            ..RetrySettings::default()
        },
        ..settings(address)
    };
    let refusal = OtlpExporter::new(&settings, 1)
        .unwrap()
        .export(request(logs("x")))
        .await
        .unwrap_err();
    let message = refusal.to_string();
    assert!(
        message.contains(&address.to_string()) && message.contains("Connection refused"),
        "{message}"
    );
    assert!(matches!(refusal, Refusal::Unavailable { .. }));
}

#[tokio::test]
async fn item_17_a_disconnect_without_an_answer_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exporter = OtlpExporter::new(&settings(listener.local_addr().unwrap()), 1).unwrap();
    let hop = Hop::default();
    let serving = hop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 100]).await; // then hangs up
        }
        serving.serve(listener);
    });
    assert_eq!(exporter.export(request(logs("x"))).await, Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 1);
}

#[tokio::test]
async fn item_17_the_deadline_of_the_caller_ends_everything() {
    let hop = Hop::answering([Answer::Silence]);
    let request = Request {
        deadline: Instant::now() + Duration::from_millis(50),
        ..request(logs("x"))
    };
    let refusal = exporter(&hop).await.export(request).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unavailable { message, .. } if message.contains("no answer in time")),
        "{refusal}"
    );
}

#[tokio::test]
async fn item_18_a_refusal_for_good_comes_back_in_the_next_hops_own_words() {
    let refusal = Status::with_error_details(
        Code::InvalidArgument,
        "entry too far behind",
        ErrorDetails::with_help_link("d", "u"),
    );
    let details = Bytes::copy_from_slice(refusal.details());
    let hop = Hop::answering([Answer::Refuse(refusal)]);
    let result = exporter(&hop).await.export(request(logs("x"))).await;
    let expected = Refusal::Permanent {
        code: 3,
        message: "entry too far behind".into(),
        details,
    };
    assert_eq!((result, hop.attempts()), (Err(expected), 1));
}

#[tokio::test]
async fn item_18_a_partial_success_is_counted_passed_back_and_never_retried() {
    let partial = ExportLogsPartialSuccess {
        rejected_log_records: 7,
        error_message: "too old".into(),
    };
    let response: Bytes = ExportLogsServiceResponse {
        partial_success: Some(partial),
    }
    .encode_to_vec()
    .into();
    let empty = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess::default()),
    };
    let hop = Hop::answering([
        Answer::Take(response.clone()),
        Answer::Take(empty.encode_to_vec().into()),
    ]);
    let exporter = exporter(&hop).await;
    assert_eq!(exporter.export(request(logs("x"))).await, Ok(response));
    exporter.export(request(logs("y"))).await.unwrap();
    let counters = exporter.counters();
    let counts = [
        &counters.sent_requests,
        &counters.partial_successes,
        &counters.rejected_records,
    ]
    .map(load);
    assert_eq!((hop.attempts(), counts), (2, [2, 1, 7]));
}

#[tokio::test]
async fn item_19_what_is_read_of_a_response_is_bounded_and_never_trusted() {
    let huge = Bytes::from(vec![0; 5 << 20]);
    let hop = Hop::answering([Answer::Take(huge.clone())]);
    assert_eq!(exporter(&hop).await.export(request(logs("x"))).await, Ok(Bytes::new()));
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let hop = Hop::answering([Answer::Take(huge.clone())]).compressing(encoding);
        assert_eq!(
            exporter(&hop).await.export(request(logs("x"))).await,
            Ok(Bytes::new()),
            "{encoding} bomb"
        );
    }
    let ok = Bytes::from_static(b"\x0a\x02\x08\x01");
    let hop = Hop::answering([Answer::Take(ok.clone())]).compressing(CompressionEncoding::Zstd);
    assert_eq!(exporter(&hop).await.export(request(logs("x"))).await, Ok(ok));
    let hop = Hop::answering([Answer::Take(Bytes::from_static(b"\xff\xff\xff"))]);
    assert_eq!(
        exporter(&hop).await.export(request(logs("x"))).await,
        Ok(Bytes::new()),
        "not a response"
    );
}

#[tokio::test]
async fn item_19_details_that_are_not_base64_do_no_harm() {
    let mut response = Status::invalid_argument("why").into_http::<Body>();
    response
        .headers_mut()
        .insert("grpc-status-details-bin", "!!!".parse().unwrap());
    let hop = Hop::answering([Answer::Http(response)]);
    let expected = Refusal::Permanent {
        code: 3,
        message: "why".into(),
        details: Bytes::new(),
    };
    assert_eq!(exporter(&hop).await.export(request(logs("x"))).await, Err(expected));
}

#[tokio::test]
async fn item_19_success_without_a_message_is_success() {
    let hop = Hop::answering([Answer::Http(Status::ok("").into_http())]);
    assert_eq!(exporter(&hop).await.export(request(logs("x"))).await, Ok(Bytes::new()));
}

#[tokio::test]
async fn item_21_calls_carry_name_version_and_timeout() {
    let hop = Hop::default();
    exporter(&hop).await.export(request(logs("x"))).await.unwrap();
    let seen = hop.seen.lock().unwrap();
    let header = |name: &str| seen[0].headers[name].to_str().unwrap().to_owned();
    assert!(header("user-agent").starts_with(concat!("harbinger/", env!("CARGO_PKG_VERSION"), " ")));
    let timeout: u64 = header("grpc-timeout").strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=10_000).contains(&timeout));
    assert_eq!(header("grpc-encoding"), "gzip");
}

#[tokio::test]
async fn every_compression_arrives_and_every_attempt_sends_the_same_bytes() {
    let message = logs(&"some line of text\n".repeat(100_000));
    for compression in [
        CompressionSetting::Gzip,
        CompressionSetting::Zstd,
        CompressionSetting::None,
    ] {
        let hop = Hop::answering([
            Answer::Refuse(Status::unavailable("")),
            Answer::Refuse(Status::aborted("")),
        ]);
        let exporter = OtlpExporter::new(
            &Settings {
                compression,
                ..settings(hop.start().await)
            },
            1,
        )
        .unwrap();
        exporter.export(request(message.clone())).await.unwrap();
        let seen = hop.seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|call| call.message == message));
        let counters = exporter.counters();
        assert_eq!(load(&counters.sent_bytes), message.len() as u64);
        assert_eq!(
            load(&counters.sent_wire_bytes) < message.len() as u64,
            compression != CompressionSetting::None
        );
    }
}

#[tokio::test]
async fn requests_share_connections_in_turn() {
    let hop = Hop::default();
    let exporter = OtlpExporter::new(
        &Settings {
            connections: 3,
            ..settings(hop.start().await)
        },
        1,
    )
    .unwrap();
    for _ in 0..7 {
        exporter.export(request(logs("x"))).await.unwrap();
    }
    assert_eq!(hop.attempts(), 7);
}

/// The receiver's intake that is nothing but an exporter.
struct Through(OtlpExporter);

impl Intake for Through {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        self.0.export(request)
    }
}

async fn through(hop: &Hop) -> (Serving, Client) {
    let headers = BTreeMap::from([
        (
            "X-Scope-OrgID".to_owned(),
            HeaderSource::Caller(FromContext {
                from_context: "X-Scope-OrgID".into(),
            }),
        ),
        ("X-Plain".to_owned(), HeaderSource::Value("as written".into())),
    ]);
    let exporter = OtlpExporter::new(
        &Settings {
            headers,
            ..settings(hop.start().await)
        },
        1,
    )
    .unwrap();
    let receiving = receive_grpc::Settings {
        include_metadata: true,
        ..receive_grpc::Settings::default()
    };
    let serving = Serving::start(receiving, Arc::new(Through(exporter))).await;
    let client = Client::to(serving.address).await;
    (serving, client)
}

#[tokio::test]
async fn item_15_unknown_fields_pass_receiver_and_exporter_byte_for_byte() {
    let hop = Hop::default();
    let (_serving, mut client) = through(&hop).await;
    // Field 1000 at the top, field 99 in ResourceLogs, a known field in an unusual place, and no valid OTLP at all.
    for message in [
        &b"\xc2\x3e\x03abc\x0a\x05\x9a\x06\x02hi\x0a\x00"[..],
        b"\xff\xfe",
        b"\x80\x80\x80",
    ] {
        client.export(Bytes::from_static(message)).await.unwrap();
        assert_eq!(hop.seen.lock().unwrap().pop().unwrap().message, message);
    }
}

#[tokio::test]
async fn headers_of_the_caller_reach_the_next_hop() {
    let hop = Hop::default();
    let (_serving, mut client) = through(&hop).await;
    let mut message = tonic::Request::new(logs("x"));
    message
        .metadata_mut()
        .insert("x-scope-orgid", "tenant-a".parse().unwrap());
    message.metadata_mut().insert("x-other", "stays".parse().unwrap());
    client.call(EXPORT, message).await.unwrap();
    client.export(logs("no header")).await.unwrap();
    let seen = hop.seen.lock().unwrap();
    assert_eq!(seen[0].headers["x-scope-orgid"], "tenant-a");
    assert_eq!(seen[0].headers["x-plain"], "as written");
    assert!(!seen[0].headers.contains_key("x-other") && !seen[1].headers.contains_key("x-scope-orgid"));
}

#[tokio::test]
async fn the_next_hops_status_reaches_the_caller() {
    let refusal = with_retry_info(Code::Unavailable, Duration::from_secs(3000));
    let hop = Hop::answering([
        Answer::Refuse(Status::failed_precondition("stream limit")),
        Answer::Refuse(refusal),
        Answer::Refuse(Status::resource_exhausted("larger than my limit")),
    ]);
    let (_serving, mut client) = through(&hop).await;
    let status = client.export(logs("x")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "stream limit")
    );
    let status = client.export(logs("x")).await.unwrap_err();
    let wait = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(
        (status.code(), wait),
        (Code::Unavailable, Some(Duration::from_secs(3000)))
    );
    let status = client.export(logs("x")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.get_details_retry_info().is_none()),
        (Code::ResourceExhausted, true)
    );
}

#[tokio::test]
async fn a_request_whose_deadline_has_passed_is_not_sent() {
    let hop = Hop::default();
    let late = Request {
        signal: Signal::Logs,
        deadline: Instant::now(),
        metadata: Metadata::default(),
        body: logs("x"),
    };
    assert!(matches!(
        exporter(&hop).await.export(late).await,
        Err(Refusal::Unavailable { .. })
    ));
    assert_eq!(hop.attempts(), 0);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    let error = OtlpExporter::new(
        &Settings {
            endpoint: "grpc://loki:4317".into(),
            ..Settings::default()
        },
        1,
    )
    .err()
    .unwrap();
    assert!(error.contains("http://loki:4317"), "{error}");
}
