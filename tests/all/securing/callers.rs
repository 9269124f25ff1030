//! Tokens and passwords: who is let in, and as whom we call.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use harbinger::edge::{
    AuthSettings, Authenticator, Exporter, Stranger,
    authenticate_basic::{self, Basic, ClientAuth, Htpasswd},
    authenticate_bearer::{self, BearerToken},
    export_otlp::{self, OtlpExporter},
    receive_grpc::{Receiver, Settings},
};
use http::HeaderMap;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::{Code, Request};

use super::certificates::Files;
use crate::otlp::{Client, EXPORT, Hop, Recorder, Serving, logs, request};

fn bearer(token: &str) -> authenticate_bearer::Settings {
    authenticate_bearer::Settings {
        token: Some(token.into()),
        ..authenticate_bearer::Settings::default()
    }
}

async fn guarded(authenticator: Option<Arc<dyn Authenticator>>) -> (Arc<Recorder>, Serving) {
    let settings = Settings {
        endpoint: "127.0.0.1:0".into(),
        include_metadata: true,
        auth: Some(AuthSettings {
            authenticator: "bearertokenauth".into(),
        }),
        ..Settings::default()
    };
    let mut receiver = Receiver::bind(settings).await.unwrap();
    if let Some(authenticator) = authenticator {
        receiver = receiver.authenticated_by(authenticator);
    }
    let recorder = Arc::new(Recorder::default());
    (recorder.clone(), Serving::of(receiver, recorder))
}

/// The code of a call with these headers.
async fn code(serving: &Serving, headers: &[(&'static str, &str)]) -> Code {
    let mut call = Request::new(logs("x"));
    for (name, value) in headers {
        call.metadata_mut().append(*name, value.parse().unwrap());
    }
    let answer = Client::to(serving.address).await.call(EXPORT, call).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_caller_without_the_right_token_is_unauthenticated() {
    let (recorder, serving) = guarded(Some(Arc::new(BearerToken::load(&bearer("s3cret")).unwrap()))).await;
    let name = "authorization";
    for wrong in [
        &[][..],
        &[(name, "Bearer wrong")],
        &[(name, "Bearer s3cre")],
        &[(name, "Bearer s3cret ")],
        &[(name, "Bearer s3crets")],
        &[(name, "Bearer")],
        &[(name, "s3cret")],
        &[(name, "Basic s3cret")],
        &[("x-authorization", "Bearer s3cret")],
        &[(name, "Bearer wrong"), (name, "Bearer s3cret")],
    ] {
        assert_eq!(code(&serving, wrong).await, Code::Unauthenticated, "{wrong:?}");
    }
    assert!(recorder.bodies().is_empty());
    assert_eq!(serving.counters.unauthenticated_requests.load(Ordering::Relaxed), 10);
    assert_eq!(
        code(&serving, &[(name, "Bearer s3cret"), ("x-tenant", "a")]).await,
        Code::Ok
    );
    assert_eq!(code(&serving, &[(name, "bearer s3cret")]).await, Code::Ok);
    let metadata = recorder.requests.lock().unwrap()[0].metadata.clone();
    assert_eq!(metadata.values("x-tenant").count(), 1);
    assert_eq!(metadata.values(name).count(), 0, "a token is for this agent alone");
}

#[tokio::test]
async fn a_receiver_whose_authenticator_is_missing_lets_nobody_in() {
    let (_, serving) = guarded(None).await;
    assert_eq!(
        code(&serving, &[("authorization", "Bearer s3cret")]).await,
        Code::Unauthenticated
    );
}

/// The answer comes while the body has not: nothing of it is waited for.
#[tokio::test]
async fn a_stranger_is_refused_before_its_body_is_read() {
    let (_, serving) = guarded(Some(Arc::new(BearerToken::load(&bearer("s3cret")).unwrap()))).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let call = super::floods::headers(1, super::floods::END_HEADERS, &super::floods::export_call());
    let hello = [super::floods::HELLO, &call].concat();
    stream.write_all(&hello).await.unwrap();
    loop {
        let (kind, id, _) = super::floods::frame(&mut stream).await.expect("the connection stays");
        if (kind, id) == (super::floods::HEADERS, 1) {
            break;
        }
    }
    assert_eq!(serving.counters.unauthenticated_requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn users_are_let_in_by_password() {
    let settings = authenticate_basic::Settings {
        htpasswd: Some(Htpasswd {
            file: None,
            inline: Some("ann:s3cret".into()),
        }),
        client_auth: None,
    };
    let (_, serving) = guarded(Some(Arc::new(Basic::load(&settings).unwrap()))).await;
    let name = "authorization";
    assert_eq!(code(&serving, &[(name, "Basic YW5uOnMzY3JldA==")]).await, Code::Ok);
    for wrong in [&[][..], &[(name, "Basic YW5uOndyb25n")], &[(name, "Bearer s3cret")]] {
        assert_eq!(code(&serving, wrong).await, Code::Unauthenticated);
    }
}

fn shown(value: &str) -> HeaderMap {
    [(http::header::AUTHORIZATION, value.parse().unwrap())]
        .into_iter()
        .collect()
}

#[tokio::test(start_paused = true)]
async fn tokens_and_users_change_with_their_files() {
    let files = Files::new();
    let tokens = files.write("tokens", "one\ntwo\n");
    let settings = authenticate_bearer::Settings {
        filename: Some(tokens),
        ..authenticate_bearer::Settings::default()
    };
    let bearer = BearerToken::load(&settings).unwrap();
    let known = async |token: &str| bearer.check(&shown(&format!("Bearer {token}"))).await;
    assert_eq!(known("one").await, Ok(()));
    assert_eq!(known("two").await, Ok(()));
    files.write("tokens", "two\nthree\n");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(known("one").await, Err(Stranger::Unknown));
    assert_eq!(known("three").await, Ok(()));
    files.write("tokens", "\n");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(known("three").await, Ok(()), "an empty file is a mistake");

    let users = files.write("users", "ann:one\n");
    let htpasswd = Some(Htpasswd {
        file: Some(users),
        inline: None,
    });
    let basic = Basic::load(&authenticate_basic::Settings {
        htpasswd,
        client_auth: None,
    })
    .unwrap();
    assert_eq!(basic.check(&shown("Basic YW5uOm9uZQ==")).await, Ok(()));
    files.write("users", "ann:two\n");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(basic.check(&shown("Basic YW5uOm9uZQ==")).await, Err(Stranger::Unknown));
}

#[tokio::test]
async fn exporters_show_who_they_are() {
    let hop = Hop::default();
    let settings = export_otlp::Settings {
        endpoint: format!("http://{}", hop.start().await),
        ..export_otlp::Settings::default()
    };
    let client = authenticate_basic::Settings {
        htpasswd: None,
        client_auth: Some(ClientAuth {
            username: "ann".into(),
            password: "s3cret".into(),
        }),
    };
    let exporter = || OtlpExporter::new(&settings, 1).unwrap();
    let by_token = exporter().with_credentials(Arc::new(BearerToken::load(&bearer("s3cret")).unwrap()));
    by_token.export(request(logs("x"))).await.unwrap();
    let by_password = exporter().with_credentials(Arc::new(Basic::load(&client).unwrap()));
    by_password.export(request(logs("x"))).await.unwrap();
    let seen: Vec<_> = hop
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.headers["authorization"].clone())
        .collect();
    assert_eq!(seen, ["Bearer s3cret", "Basic YW5uOnMzY3JldA=="]);
}
