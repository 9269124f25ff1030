//! What an OTLP client gets from the gRPC receiver.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use harbinger::edge::{
    BoxFuture, Intake, Refusal, Request,
    receive_grpc::{Keepalive, Receiver, ServerParameters, Settings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Barrier,
};
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::StatusExt;

use crate::otlp::{Client, EXPORT, Gate, Recorder, Serving, framed, logs};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

async fn recording() -> (Arc<Recorder>, Serving, Client) {
    let recorder = Arc::new(Recorder::default());
    let serving = Serving::start(Settings::default(), recorder.clone()).await;
    let client = Client::to(serving.address).await;
    (recorder, serving, client)
}

fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

#[tokio::test]
async fn item_01_plain_gzip_and_zstd_requests_arrive_as_they_were() {
    let (recorder, _serving, client) = recording().await;
    let messages: Vec<Bytes> = [10, 100_000, 3_000_000]
        .map(|length| logs(&"line ".repeat(length / 5)))
        .to_vec();
    let clients = [
        client.clone(),
        client.clone().compressing(CompressionEncoding::Gzip),
        client.compressing(CompressionEncoding::Zstd),
    ];
    for mut client in clients {
        for message in &messages {
            assert_eq!(client.export(message.clone()).await.unwrap(), Bytes::new());
        }
        assert_eq!(recorder.bodies(), messages);
        recorder.requests.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn item_01_responses_are_compressed_only_for_callers_that_accept_it() {
    let large = Bytes::from(vec![b'x'; 20_000]);
    let serving = Serving::start(Settings::default(), Recorder::answering(Ok(large.clone()))).await;
    let client = Client::to(serving.address).await;
    for (mut client, expected) in [
        (client.clone(), None),
        (client.clone().accepting(CompressionEncoding::Gzip), Some("gzip")),
        (client.accepting(CompressionEncoding::Zstd), Some("zstd")),
    ] {
        let response = client.call(EXPORT, tonic::Request::new(logs("x"))).await.unwrap();
        assert_eq!(
            response
                .metadata()
                .get("grpc-encoding")
                .map(|name| name.to_str().unwrap()),
            expected
        );
        assert_eq!(response.into_inner(), large);
    }
}

#[tokio::test]
async fn item_01_an_unknown_encoding_is_answered_with_the_known_ones() {
    let (_, _serving, client) = recording().await;
    let status = client.raw(&[GRPC, ("grpc-encoding", "snappy")], framed(1, b"?")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.metadata().get("grpc-accept-encoding").unwrap(),
        "gzip,zstd,identity"
    );
}

#[tokio::test]
async fn item_02_what_is_not_served_is_unimplemented_and_says_what_is() {
    let (_, serving, mut client) = recording().await;
    for (path, says) in [
        (
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "`service.pipelines.traces: {receivers: [otlp], exporters: [...]}`",
        ),
        (
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "`service.pipelines.metrics: {receivers: [otlp], exporters: [...]}`",
        ),
        (
            "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
            "profiles are not supported",
        ),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Import", EXPORT),
        ("/grpc.health.v1.Health/Check", "does not have"),
    ] {
        let status = client.call(path, tonic::Request::new(logs("x"))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(says), "{status}");
    }
    assert_eq!(serving.counters.unknown_method_requests.load(Ordering::Relaxed), 5);
    let response = client.http(&[("content-type", "application/json")], vec![]).await;
    assert_eq!(response.status(), 415);
}

#[tokio::test]
async fn item_04_success_is_the_next_hops_response_and_an_empty_request_succeeds() {
    let (recorder, serving, mut client) = recording().await;
    assert_eq!(client.export(Bytes::new()).await.unwrap(), Bytes::new());
    assert_eq!(recorder.bodies(), [Bytes::new()]);
    *recorder.answer.lock().unwrap() = Some(Ok(Bytes::from_static(b"\x0a\x02\x08\x03")));
    assert_eq!(client.export(logs("x")).await.unwrap(), &b"\x0a\x02\x08\x03"[..]);
    assert_eq!(serving.counters.accepted_requests.load(Ordering::Relaxed), 2);
    assert_eq!(
        serving.counters.accepted_bytes.load(Ordering::Relaxed),
        logs("x").len() as u64
    );
}

#[tokio::test]
async fn item_06_what_cannot_be_decoded_is_invalid_argument() {
    let (recorder, serving, mut client) = recording().await;
    for (encoding, body) in [
        ("gzip", framed(1, b"no gzip at all")),
        ("zstd", framed(1, b"no zstd at all")),
        ("gzip", framed(1, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b])),
        ("identity", framed(1, b"flag without an encoding")),
        ("gzip", framed(7, b"unknown flag")),
        ("gzip", framed(0, b"cut")[..6].to_vec()),
        ("gzip", [framed(0, b"one"), framed(0, b"two")].concat()),
        ("gzip", vec![]),
    ] {
        let status = client.raw(&[GRPC, ("grpc-encoding", encoding)], body.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{encoding} {body:?}: {status}");
    }
    assert!(recorder.bodies().is_empty());
    assert_eq!(serving.counters.failed_requests.load(Ordering::Relaxed), 8);
    assert!(client.export(logs("a neighbour is unharmed")).await.is_ok());
}

#[tokio::test]
async fn item_06_a_malformed_request_is_invalid_argument() {
    let recorder = Recorder::answering(Err(Refusal::Malformed("record 3: bad tag".into())));
    let serving = Serving::start(Settings::default(), recorder).await;
    let status = Client::to(serving.address).await.export(logs("x")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "record 3: bad tag")
    );
}

#[tokio::test]
async fn item_07_oversized_is_resource_exhausted() {
    let recorder = Arc::new(Recorder::default());
    let settings = Settings {
        max_recv_msg_size_mib: 1,
        ..Settings::default()
    };
    let serving = Serving::start(settings, recorder.clone()).await;
    let client = Client::to(serving.address).await;
    let clients = [
        client.clone(),
        client.clone().compressing(CompressionEncoding::Gzip),
        client.compressing(CompressionEncoding::Zstd),
    ];
    for mut client in clients {
        let status = client.export(vec![0; (1 << 20) + 1].into()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("max_recv_msg_size_mib"), "{status}");
        assert_eq!(retry_delay(&status), None, "clients would send it again");
        assert!(
            client.export(vec![0; 1 << 20].into()).await.is_ok(),
            "the limit itself is allowed"
        );
    }
    assert_eq!(recorder.bodies().len(), 3);
}

#[tokio::test]
async fn item_07_bombs_are_stopped_at_the_limit() {
    let (recorder, _serving, client) = recording().await;
    let bomb = Bytes::from(vec![0; 100 << 20]);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let status = client
            .clone()
            .compressing(encoding)
            .export(bomb.clone())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{encoding}");
    }
    assert!(recorder.bodies().is_empty());
}

#[tokio::test]
async fn item_07_a_request_of_100_mb_is_refused_by_default_and_taken_when_allowed() {
    let body = Bytes::from(vec![7; 100_000_000]);
    let (_, _serving, mut client) = recording().await;
    assert_eq!(
        client.export(body.clone()).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    assert!(client.export(logs("the connection is still good")).await.is_ok());

    let recorder = Arc::new(Recorder::default());
    let settings = Settings {
        max_recv_msg_size_mib: 128,
        max_mib_in_flight: 1,
        ..Settings::default()
    };
    let serving = Serving::start(settings, recorder.clone()).await;
    Client::to(serving.address).await.export(body.clone()).await.unwrap();
    assert!(recorder.bodies() == [body]);
}

#[tokio::test]
async fn item_08_too_many_requests_are_unavailable_with_retry_info_at_once() {
    let gate = Gate::shut();
    let settings = Settings {
        max_requests_in_flight: 2,
        ..Settings::default()
    };
    let serving = Serving::start(settings, gate.clone()).await;
    let client = Client::to(serving.address).await;
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.export(logs("held")).await })
        })
        .collect();
    gate.arrived.acquire_many(2).await.unwrap().forget();
    let status = client.clone().export(logs("one too many")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(retry_delay(&status).is_some() && status.message().contains("max_requests_in_flight"));
    assert_eq!(serving.counters.refused_requests.load(Ordering::Relaxed), 1);
    gate.open.add_permits(3);
    for call in held {
        call.await.unwrap().unwrap();
    }
    client.clone().export(logs("there is room again")).await.unwrap();
}

#[tokio::test]
async fn item_08_refusals_reach_the_caller_with_what_it_should_do() {
    let wait = Duration::from_millis(2500);
    let details = Status::with_error_details(
        Code::Unknown,
        "",
        tonic_types::ErrorDetails::with_help_link("docs", "u"),
    );
    let details = Bytes::copy_from_slice(details.details());
    let recorder = Arc::new(Recorder::default());
    let serving = Serving::start(Settings::default(), recorder.clone()).await;
    let mut client = Client::to(serving.address).await;
    let mut refused = async |refusal| {
        *recorder.answer.lock().unwrap() = Some(Err(refusal));
        client.export(logs("x")).await.unwrap_err()
    };

    let status = refused(Refusal::Unavailable {
        message: "hop is down".into(),
        retry_after: Some(wait),
    })
    .await;
    assert_eq!(
        (status.code(), status.message(), retry_delay(&status)),
        (Code::Unavailable, "hop is down", Some(wait))
    );
    let status = refused(Refusal::Unavailable {
        message: String::new(),
        retry_after: None,
    })
    .await;
    assert_eq!((status.code(), retry_delay(&status)), (Code::Unavailable, None));
    let permanent = Refusal::Permanent {
        code: 7,
        message: "not allowed, 100 %".into(),
        details: details.clone(),
    };
    let status = refused(permanent).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "not allowed, 100 %")
    );
    assert_eq!(status.details(), details);
}

#[tokio::test]
async fn item_09_calls_of_one_connection_run_at_the_same_time() {
    const CALLS: usize = 100;
    struct Together(Barrier);
    impl Intake for Together {
        fn accept(&self, _request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            Box::pin(async {
                self.0.wait().await; // nobody goes on before all are here
                Ok(Bytes::new())
            })
        }
    }
    let serving = Serving::start(Settings::default(), Arc::new(Together(Barrier::new(CALLS)))).await;
    let client = Client::to(serving.address).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.export(logs("x")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
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
        let serving = Serving::start(settings, recorder.clone()).await;
        let mut request = tonic::Request::new(logs("x"));
        request
            .metadata_mut()
            .insert("x-scope-orgid", "tenant".parse().unwrap());
        Client::to(serving.address).await.call(EXPORT, request).await.unwrap();
        let metadata = recorder.requests.lock().unwrap()[0].metadata.clone();
        let expected = [("x-scope-orgid".to_owned(), "tenant".to_owned())];
        assert_eq!(&*metadata.0, if include_metadata { &expected[..] } else { &[] });
    }
}

#[tokio::test]
async fn localhost_answers_on_every_loopback_address() {
    let settings = Settings {
        endpoint: "localhost:0".into(),
        ..Settings::default()
    };
    let receiver = Receiver::bind(settings).await.unwrap();
    let addresses: Vec<SocketAddr> = receiver.addresses().to_vec();
    let intake: Arc<dyn Intake> = Arc::new(Recorder::default());
    let serving = tokio::spawn(receiver.serve(intake, std::future::pending()));
    for address in addresses {
        Client::to(address).await.export(logs("x")).await.unwrap();
    }
    serving.abort();
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
        error.contains(&address) && error.contains("receivers.otlp.protocols.grpc.endpoint"),
        "{error}"
    );
}

#[tokio::test]
async fn shutdown_accepts_nothing_more_and_finishes_what_is_under_way() {
    let gate = Gate::shut();
    let serving = Serving::start(Settings::default(), gate.clone()).await;
    let address = serving.address;
    let mut client = Client::to(address).await;
    let call = tokio::spawn(async move { client.export(logs("under way")).await });
    gate.arrived.acquire().await.unwrap().forget();
    let mut stopped = serving.stop();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopped.is_finished());
    gate.open.add_permits(1);
    call.await.unwrap().unwrap();
    (&mut stopped).await.unwrap();
}

/// Frame types of HTTP/2 (RFC 9113).
const GOAWAY: u8 = 7;

/// Connects, says hello and reads frame types until the receiver closes.
async fn frames_until_closed(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut kinds = Vec::new();
    let mut header = [0; 9];
    while stream.read_exact(&mut header).await.is_ok() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        kinds.push(header[3]);
        let (ping, unacknowledged) = (header[3] == 6, header[4] & 1 == 0);
        if ping && unacknowledged {
            let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &payload].concat();
            _ = stream.write_all(&answer).await;
        }
    }
    kinds
}

#[tokio::test]
async fn aged_and_idle_connections_are_told_to_go() {
    let soon = Duration::from_millis(20);
    for parameters in [
        ServerParameters {
            max_connection_age: soon,
            ..ServerParameters::default()
        },
        ServerParameters {
            max_connection_age: soon,
            max_connection_age_grace: soon * 500,
            ..ServerParameters::default()
        },
        ServerParameters {
            max_connection_idle: soon,
            ..ServerParameters::default()
        },
    ] {
        let settings = Settings {
            keepalive: Keepalive {
                server_parameters: parameters,
            },
            ..Settings::default()
        };
        let serving = Serving::start(settings, Arc::new(Recorder::default())).await;
        let kinds = frames_until_closed(serving.address).await;
        assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    }
}

#[tokio::test]
async fn strangers_on_the_port_harm_nobody() {
    let (recorder, serving, mut client) = recording().await;
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n",
    ] {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(hello).await.unwrap();
        stream.shutdown().await.unwrap();
        _ = stream.read_to_end(&mut Vec::new()).await;
    }
    client.export(logs("x")).await.unwrap();
    assert_eq!(recorder.bodies().len(), 1);
}
