//! TLS and mTLS, on both sides.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use harbinger::{
    edge::{
        Exporter, Listener, Refusal,
        export_otlp::{self, OtlpExporter, RetrySettings},
        notify_webhook::{self, Webhook},
        receive_grpc::{Receiver, Settings, TlsSettings, TlsVersion},
    },
    engine::{correlate::Happened, tenant::Tenant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::certificates::{Authority, Certified, Files, Greeting, serve_hop, serve_posts};
use crate::otlp::{Client, Hop, Recorder, Serving, logs, request};

/// Every handshake looks at the files.
const AT_ONCE: Duration = Duration::from_nanos(1);

fn tls(files: &Files, certified: &Certified) -> TlsSettings {
    let (cert_file, key_file) = files.certified(certified);
    TlsSettings {
        cert_file,
        key_file,
        reload_interval: AT_ONCE,
        ..TlsSettings::default()
    }
}

async fn serving(tls: TlsSettings) -> Serving {
    let settings = Settings {
        tls: Some(tls),
        ..Settings::default()
    };
    Serving::start(settings, Arc::new(Recorder::default())).await
}

#[tokio::test]
async fn callers_are_spoken_to_by_tls_1_2_and_1_3_and_not_otherwise() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let serving = serving(tls(&files, &authority.certify("localhost"))).await;
    let address = serving.address;
    assert!(Greeting::trusting(&authority).connect(address).await.is_ok());
    assert!(
        Greeting::trusting(&authority)
            .by_tls_1_2()
            .connect(address)
            .await
            .is_ok()
    );
    for (greeting, said) in [
        (Greeting::trusting(&stranger), "UnknownIssuer"),
        (Greeting::trusting(&authority).naming("elsewhere"), "NotValidForName"),
    ] {
        let refused = greeting.connect(address).await.err().unwrap();
        assert!(refused.contains(said), "{refused}");
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut answer = Vec::new();
    _ = plain.read_to_end(&mut answer).await;
    assert!(answer.len() < 16, "plain text was answered: {answer:?}");
}

#[tokio::test]
async fn a_lowest_version_is_kept_to() {
    let (authority, files) = (Authority::new(), Files::new());
    let settings = TlsSettings {
        min_version: TlsVersion::Tls13,
        ..tls(&files, &authority.certify("localhost"))
    };
    let serving = serving(settings).await;
    assert!(Greeting::trusting(&authority).connect(serving.address).await.is_ok());
    let old = Greeting::trusting(&authority)
        .by_tls_1_2()
        .connect(serving.address)
        .await;
    assert!(old.err().unwrap().contains("ProtocolVersion"));
}

#[tokio::test]
async fn with_a_client_ca_only_callers_with_its_certificates_get_in() {
    let (authority, callers, files) = (Authority::new(), Authority::new(), Files::new());
    let settings = TlsSettings {
        client_ca_file: files.authority(&callers),
        ..tls(&files, &authority.certify("localhost"))
    };
    let serving = serving(settings).await;
    let greeting = || Greeting::trusting(&authority);
    let known = callers.certify("shop");
    assert!(greeting().showing(&known).connect(serving.address).await.is_ok());
    assert!(
        greeting()
            .showing(&known)
            .by_tls_1_2()
            .connect(serving.address)
            .await
            .is_ok()
    );
    let (forged, expired) = (authority.certify("shop"), callers.certify_until("shop", 2020));
    for refused in [
        greeting(),
        greeting().by_tls_1_2(),
        greeting().showing(&forged),
        greeting().showing(&expired),
    ] {
        assert!(refused.connect(serving.address).await.is_err());
    }
    assert_eq!(serving.counters.accepted_requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn certificates_change_under_running_connections() {
    let (old, new, files) = (Authority::new(), Authority::new(), Files::new());
    let serving = serving(tls(&files, &old.certify("localhost"))).await;
    let mut running = Greeting::trusting(&old).connect(serving.address).await.unwrap();

    files.certified(&new.certify("localhost"));
    assert!(Greeting::trusting(&new).connect(serving.address).await.is_ok());
    assert!(Greeting::trusting(&old).connect(serving.address).await.is_err());
    running.export(logs("as before")).await.unwrap();

    for broken in ["", "-----BEGIN CERTIFICATE-----\nhalf"] {
        files.write("cert.pem", broken);
        assert!(Greeting::trusting(&new).connect(serving.address).await.is_ok());
    }
    files.write("cert.pem", &old.certify("localhost").certificate); // not the key's
    assert!(Greeting::trusting(&new).connect(serving.address).await.is_ok());
    files.certified(&old.certify("localhost"));
    assert!(Greeting::trusting(&old).connect(serving.address).await.is_ok());
    running.export(logs("as before")).await.unwrap();
}

#[tokio::test]
async fn who_may_call_changes_without_a_restart() {
    let (authority, before, after, files) = (Authority::new(), Authority::new(), Authority::new(), Files::new());
    let settings = TlsSettings {
        client_ca_file: files.authority(&before),
        ..tls(&files, &authority.certify("localhost"))
    };
    let serving = serving(settings).await;
    let (shop_before, shop_after) = (before.certify("shop"), after.certify("shop"));
    let connect = async |certified| {
        let greeting = Greeting::trusting(&authority).showing(certified);
        greeting.connect(serving.address).await.is_ok()
    };
    assert_eq!((connect(&shop_before).await, connect(&shop_after).await), (true, false));
    files.authority(&after);
    assert_eq!((connect(&shop_before).await, connect(&shop_after).await), (false, true));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start_with_key_path_and_advice() {
    let (authority, files) = (Authority::new(), Files::new());
    let certified = authority.certify("localhost");
    let good = tls(&files, &certified);
    let other_key = files.write("other.pem", &authority.certify("localhost").key);
    let no_pem = files.write("no.pem", "hunter2");
    let with_passphrase = files.write("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2");
    let missing = files.path("missing.pem");
    for (settings, said) in [
        (
            TlsSettings {
                cert_file: Some(missing.clone()),
                ..good.clone()
            },
            ["tls.cert_file: cannot read ", "missing.pem", "a file that exists"],
        ),
        (
            TlsSettings {
                cert_file: Some(no_pem.clone()),
                ..good.clone()
            },
            [
                "tls.cert_file: ",
                "no.pem: no certificate in PEM form",
                "BEGIN CERTIFICATE",
            ],
        ),
        (
            TlsSettings {
                key_file: Some(no_pem.clone()),
                ..good.clone()
            },
            ["tls.key_file: ", "no.pem: no private key", "BEGIN PRIVATE KEY"],
        ),
        (
            TlsSettings {
                key_file: Some(other_key),
                ..good.clone()
            },
            ["tls.key_file: ", "other.pem: not the key of ", "two files of one pair"],
        ),
        (
            TlsSettings {
                key_file: Some(with_passphrase),
                ..good.clone()
            },
            ["tls.key_file: ", "locked.pem: the key has a passphrase", "openssl pkey"],
        ),
        (
            TlsSettings {
                client_ca_file: Some(no_pem),
                ..good.clone()
            },
            ["tls.client_ca_file: ", "no.pem: no certificate", "BEGIN CERTIFICATE"],
        ),
        (
            TlsSettings {
                key_file: None,
                ..good.clone()
            },
            ["tls: ", "`key_file` is missing", "plain text"],
        ),
    ] {
        assert!(settings.check_files().is_err(), "{settings:?}");
        let settings = Settings {
            endpoint: "127.0.0.1:0".into(),
            tls: Some(settings),
            ..Settings::default()
        };
        let refused = Receiver::bind(settings).await.err().unwrap().to_string();
        assert!(said.iter().all(|part| refused.contains(part)), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    assert_eq!(good.check_files(), Ok(()));
}

#[tokio::test]
async fn known_loss_handshakes_that_stall_keep_nobody_else_waiting() {
    let (authority, files) = (Authority::new(), Files::new());
    let serving = serving(tls(&files, &authority.certify("localhost"))).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap(); // a ClientHello begins
        stalled.push(stream);
    }
    assert!(Greeting::trusting(&authority).connect(serving.address).await.is_ok());
    let stopped = serving.stop();
    stopped.await.unwrap();
}

fn to(endpoint: String, tls: export_otlp::TlsSettings) -> OtlpExporter {
    let settings = export_otlp::Settings {
        endpoint,
        tls,
        retry_on_failure: RetrySettings {
            enabled: false,
            ..RetrySettings::default()
        },
        ..export_otlp::Settings::default()
    };
    OtlpExporter::new(&settings, 1).unwrap()
}

fn trusting(files: &Files, authority: &Authority) -> export_otlp::TlsSettings {
    export_otlp::TlsSettings {
        ca_file: files.authority(authority),
        reload_interval: AT_ONCE,
        ..export_otlp::TlsSettings::default()
    }
}

async fn refused(exporter: OtlpExporter) -> String {
    match exporter.export(request(logs("x"))).await {
        Err(Refusal::Unavailable { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn item_20_https_and_no_scheme_are_tls_and_http_is_not() {
    let (authority, files) = (Authority::new(), Files::new());
    let (encrypted, plain) = (Hop::default(), Hop::default());
    let encrypted_port = serve_hop(&encrypted, &authority.certify("localhost"), None)
        .await
        .port();
    let plain_port = plain.start().await.port();
    for insecure in [true, false] {
        let tls = export_otlp::TlsSettings {
            insecure,
            ..trusting(&files, &authority)
        };
        let https = to(format!("https://localhost:{encrypted_port}"), tls.clone());
        https.export(request(logs("x"))).await.unwrap();
        let http = to(format!("http://127.0.0.1:{plain_port}"), tls.clone());
        http.export(request(logs("x"))).await.unwrap();
        let bare = to(
            format!("localhost:{}", if insecure { plain_port } else { encrypted_port }),
            tls,
        );
        // `localhost` may be ::1 first, where nobody listens.
        bare.export(request(logs("x"))).await.unwrap();
    }
    assert_eq!((encrypted.attempts(), plain.attempts()), (3, 3));
}

#[tokio::test]
async fn a_next_hop_that_is_not_who_it_should_be_gets_nothing() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let hop = Hop::default();
    let port = serve_hop(&hop, &authority.certify("collector"), None).await.port();
    let endpoint = || format!("https://localhost:{port}");
    let wrong_name = refused(to(endpoint(), trusting(&files, &authority))).await;
    assert!(
        wrong_name.contains("not valid for name") && wrong_name.contains("tls.server_name_override"),
        "{wrong_name}"
    );
    let named = |authority: &Authority| export_otlp::TlsSettings {
        server_name_override: Some("collector".into()),
        ..trusting(&files, authority)
    };
    let wrong_authority = refused(to(endpoint(), named(&stranger))).await;
    assert!(
        wrong_authority.contains("UnknownIssuer") && wrong_authority.contains("tls.ca_file"),
        "{wrong_authority}"
    );
    let expired = serve_hop(&hop, &authority.certify_until("localhost", 2020), None)
        .await
        .port();
    let expired = refused(to(format!("https://localhost:{expired}"), trusting(&files, &authority))).await;
    assert!(expired.contains("expired"), "{expired}");
    let plain = Hop::default().start().await.port();
    let plain = refused(to(format!("https://127.0.0.1:{plain}"), trusting(&files, &authority))).await;
    assert!(plain.contains("TLS with 127.0.0.1 failed"), "{plain}");
    assert_eq!(hop.attempts(), 0);

    to(endpoint(), named(&authority))
        .export(request(logs("x")))
        .await
        .unwrap();
    let unverified = export_otlp::TlsSettings {
        insecure_skip_verify: true,
        ..trusting(&files, &stranger)
    };
    to(endpoint(), unverified).export(request(logs("x"))).await.unwrap();
    assert_eq!(hop.attempts(), 2);
}

#[tokio::test]
async fn a_next_hop_that_asks_for_a_certificate_gets_the_one_that_is_in_the_file_then() {
    let (authority, callers, files, ca) = (Authority::new(), Authority::new(), Files::new(), Files::new());
    let hop = Hop::default();
    let port = serve_hop(&hop, &authority.certify("localhost"), Some(&callers))
        .await
        .port();
    let endpoint = || format!("https://localhost:{port}");
    assert!(!refused(to(endpoint(), trusting(&ca, &authority))).await.is_empty());
    let (cert_file, key_file) = files.certified(&authority.certify("agent"));
    let exporter = to(
        endpoint(),
        export_otlp::TlsSettings {
            cert_file,
            key_file,
            ..trusting(&ca, &authority)
        },
    );
    assert!(
        exporter.export(request(logs("x"))).await.is_err(),
        "of another authority"
    );
    files.certified(&callers.certify("agent"));
    exporter.export(request(logs("x"))).await.unwrap();
    assert_eq!(hop.attempts(), 1);
}

/// The whole way by Harbinger's own two sides.
#[tokio::test]
async fn the_exporter_and_the_receiver_understand_each_other() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let (server, client) = (Files::new(), Files::new());
    let recorder = Arc::new(Recorder::default());
    let settings = Settings {
        tls: Some(TlsSettings {
            client_ca_file: server.authority(&callers),
            ..tls(&server, &authority.certify("localhost"))
        }),
        ..Settings::default()
    };
    let serving = Serving::start(settings, recorder.clone()).await;
    let (cert_file, key_file) = client.certified(&callers.certify("agent"));
    let exporter = to(
        format!("https://localhost:{}", serving.address.port()),
        export_otlp::TlsSettings {
            cert_file,
            key_file,
            ..trusting(&client, &authority)
        },
    );
    let large = logs(&"line ".repeat(400_000));
    exporter.export(request(large.clone())).await.unwrap();
    assert!(recorder.bodies() == [large]);
    let none: Client = Greeting::trusting(&authority)
        .showing(&callers.certify("shop"))
        .connect(serving.address)
        .await
        .unwrap();
    drop(none);
}

#[tokio::test]
async fn notifiers_speak_tls_where_their_endpoint_is_https() {
    let (authority, stranger, files) = (Authority::new(), Authority::new(), Files::new());
    let (address, posts) = serve_posts(&authority.certify("localhost")).await;
    for (trusted, taken) in [(&stranger, 0), (&authority, 1)] {
        let settings = notify_webhook::Settings {
            endpoint: Some(format!("https://localhost:{}/hook", address.port())),
            tls: trusting(&files, trusted),
            ..notify_webhook::Settings::default()
        };
        let mut webhook = Webhook::new(&settings, "incident_id").unwrap().unwrap();
        let opened = crate::telling::change(Happened::Opened, crate::telling::incident(crate::telling::id(1)));
        webhook.hear(&Tenant::default(), &opened);
        assert_eq!(webhook.tell().await.sent, taken as u64);
        assert_eq!(posts.load(Ordering::Relaxed), taken);
    }
}
