//! OTLP by HTTP is as guarded as by gRPC: the same TLS, tokens and trust, on both sides.

use std::sync::{Arc, atomic::Ordering};

use harbinger::edge::{
    AuthSettings, Exporter, Receiver, Refusal,
    authenticate_bearer::{self, BearerToken},
    export_http::{self, HttpExporter, RetrySettings},
    receive_http::{Settings, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::certificates::{Authority, Files};
use crate::otlp::{Recorder, Serving, logs, request};

fn bearer(token: &str) -> Arc<BearerToken> {
    let settings = authenticate_bearer::Settings {
        token: Some(token.into()),
        ..authenticate_bearer::Settings::default()
    };
    Arc::new(BearerToken::load(&settings).unwrap())
}

async fn guarded(tls: Option<TlsSettings>) -> (Arc<Recorder>, Serving) {
    let receiver = Receiver::bind(Settings {
        endpoint: "127.0.0.1:0".into(),
        tls,
        auth: Some(AuthSettings {
            authenticator: "bearertokenauth".into(),
        }),
        ..Settings::default()
    });
    let recorder = Arc::new(Recorder::default());
    let receiver = receiver.await.unwrap().authenticated_by(bearer("s3cret"));
    (recorder.clone(), Serving::of(receiver, recorder))
}

/// What an exporter with this authority, certificate and token is told.
async fn send(serving: &Serving, tls: export_http::TlsSettings, token: &str) -> Result<(), Refusal> {
    let settings = export_http::Settings {
        endpoint: format!("https://localhost:{}", serving.address.port()),
        tls,
        retry_on_failure: RetrySettings {
            enabled: false,
            ..RetrySettings::default()
        },
        ..export_http::Settings::default()
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap().with_credentials(bearer(token));
    exporter.export(request(logs("x"))).await.map(|_| ())
}

#[tokio::test]
async fn by_tls_with_certificate_and_token_records_arrive_and_with_less_they_do_not() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let (cert_file, key_file) = files.certified(&authority.certify("localhost"));
    let server = TlsSettings {
        cert_file,
        key_file,
        client_ca_file: files.authority(&authority),
        ..TlsSettings::default()
    };
    let (recorder, serving) = guarded(Some(server)).await;
    let (cert_file, key_file) = files.certified(&authority.certify("shop"));
    let whole = export_http::TlsSettings {
        ca_file: files.authority(&authority),
        cert_file,
        key_file,
        ..export_http::TlsSettings::default()
    };
    assert_eq!(send(&serving, whole.clone(), "s3cret").await, Ok(()));
    assert_eq!(recorder.bodies(), [logs("x")]);
    let refused = send(&serving, whole.clone(), "wrong").await.unwrap_err();
    assert!(matches!(refused, Refusal::Permanent { code: 16, .. }), "{refused}");
    let distrusting = export_http::TlsSettings {
        ca_file: files.authority(&stranger),
        ..whole.clone()
    };
    let elsewhere = export_http::TlsSettings {
        server_name_override: Some("elsewhere".into()),
        ..whole.clone()
    };
    let nobody = export_http::TlsSettings {
        cert_file: None,
        key_file: None,
        ..whole
    };
    for without in [distrusting, elsewhere, nobody] {
        let refused = send(&serving, without, "s3cret").await.unwrap_err();
        assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
    }
    assert_eq!(recorder.bodies().len(), 1);
    assert_eq!(serving.counters.unauthenticated_requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_stranger_gets_401_and_is_told_how_to_show_itself_before_its_body_is_read() {
    let (recorder, serving) = guarded(None).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let call = "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it hung up");
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 401"), "{answer}");
    assert!(
        answer.contains("www-authenticate: bearer") && answer.contains("\"code\":16"),
        "{answer}"
    );
    assert!(recorder.bodies().is_empty());
}
