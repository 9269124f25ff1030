//! The page's server as a browser meets it: HTTP/1.1 on a real port, in front of a pipeline.

use std::net::SocketAddr;

use bytes::Bytes;
use harbinger::edge::{
    AuthSettings, Desk,
    api::page::{Page, Settings},
    authenticate_bearer::{BearerToken, Settings as BearerSettings},
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

use super::*;

struct Browser {
    pipeline: Arc<Pipeline>,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn open(settings: Settings) -> Browser {
    let pipeline = pipeline(None, Mode::Mark).0;
    let settings = Settings {
        endpoint: "127.0.0.1:0".to_owned(),
        ..settings
    };
    let page = Page::bind(&settings).await.unwrap();
    let page = match &settings.auth {
        None => page,
        Some(_) => {
            let token = serde_json::from_value::<BearerSettings>(json!({"token": "open sesame"})).unwrap();
            page.authenticated_by(Arc::new(BearerToken::load(&token).unwrap()))
        }
    };
    let address = page.addresses()[0];
    let desk: Arc<dyn Desk> = Arc::clone(&pipeline) as _;
    let task = tokio::spawn(page.serve(desk, "incident_id".to_owned()));
    Browser {
        pipeline,
        address,
        client: Client::builder(TokioExecutor::new()).build_http(),
        task,
    }
}

impl Browser {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> http::Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let (head, body) = self.send(Method::GET, path, headers, "").await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn call(&self, method: &str, request: Value) -> (StatusCode, Value) {
        let path = format!("/harbinger.v1.Incidents/{method}");
        let json = [("content-type", "application/json")];
        let (head, body) = self
            .send(Method::POST, &path, &json, &request.to_string())
            .await
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, serde_json::from_slice(&body).unwrap())
    }
}

/// The next event of a stream: its id and its data.
async fn event(body: &mut Incoming) -> (String, Value) {
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    let line = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .to_owned()
    };
    (line("id: "), serde_json::from_str(&line("data: ")).unwrap())
}

/// The page is there for everybody, cannot be framed, and is never kept by a browser.
#[tokio::test]
async fn the_page_is_one_file() {
    let browser = open(Settings::default()).await;
    let (status, headers, body) = browser.get("/", &[]).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(body.contains(r#"<script type="application/json" id="harbinger-data">null</script>"#));
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(browser.get("/index.html", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        browser.send(Method::POST, "/", &[], "").await.status(),
        StatusCode::NOT_FOUND
    );
}

/// The calls are those of gRPC, in JSON; mistakes say what to do.
#[tokio::test]
async fn calls_answer_what_the_api_answers() {
    let browser = open(Settings::default()).await;
    for second in 0..3 {
        tell(&browser.pipeline, &Tenant::default(), vec![incident(second)]);
    }
    let (status, page) = browser.call("ListIncidents", json!({"page_size": 2})).await;
    assert_eq!(status, StatusCode::OK);
    let listed = page["incidents"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["id"]), (2, &json!(id(2).to_string())));
    assert_eq!(listed[0]["worst"]["text"], "disk vanished");
    let rest = json!({"page_token": page["next_page_token"]});
    assert_eq!(
        browser.call("ListIncidents", rest).await.1["incidents"][0]["id"],
        id(0).to_string()
    );
    let one = browser.call("GetIncident", json!({"id": id(1).to_string()})).await.1;
    assert_eq!(one["incident"]["records"], 12);
    assert_eq!(browser.call("GetStatus", json!({})).await.1["past_incidents"], 3);

    let (status, refused) = browser.call("GetIncident", json!({"id": id(40).to_string()})).await;
    assert_eq!((status, &refused["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let (status, refused) = browser.call("ListIncidents", json!({"pages": 1})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(refused["message"].as_str().unwrap().contains("pages"), "{refused}");
    assert_eq!(browser.call("Explode", json!({})).await.0, StatusCode::NOT_IMPLEMENTED);
    let large = json!({"text_contains": "x".repeat(70_000)});
    assert_eq!(browser.call("ListIncidents", large).await.0, StatusCode::BAD_REQUEST);
}

/// Changes come as they happen, and again from where a reader left off.
#[tokio::test]
async fn changes_come_as_events() {
    let browser = open(Settings::default()).await;
    let path = "/harbinger.v1.Incidents/WatchIncidents";
    let response = browser.send(Method::GET, path, &[], "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body();
    let (_, beginning) = event(&mut events).await;
    assert!(beginning.get("incident").is_none());
    tell(&browser.pipeline, &Tenant::default(), vec![incident(1), incident(2)]);
    let (first, told) = event(&mut events).await;
    assert_eq!(
        (&told["happened"], &told["incident"]["id"]),
        (&json!("HAPPENED_CLOSED"), &json!(id(1).to_string()))
    );
    let resumed = format!("{path}?after_sequence={first}");
    let mut events = browser.send(Method::GET, &resumed, &[], "").await.into_body();
    assert_eq!(event(&mut events).await.0, first);
    assert_eq!(event(&mut events).await.1["incident"]["id"], id(2).to_string());
    assert_eq!(
        browser.get(&format!("{path}?since=1"), &[]).await.0,
        StatusCode::BAD_REQUEST
    );
}

/// Another site, another name for this machine, and a form learn and change nothing.
#[tokio::test]
async fn nobody_else_may_ask() {
    let browser = open(Settings::default()).await;
    assert_eq!(browser.get("/settings", &[]).await.0, StatusCode::OK);
    for foreign in [
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(
            browser.get("/settings", &[foreign]).await.0,
            StatusCode::FORBIDDEN,
            "{foreign:?}"
        );
    }
    let path = "/harbinger.v1.Incidents/GiveFeedback";
    for form in ["text/plain", "application/x-www-form-urlencoded"] {
        let response = browser.send(Method::POST, path, &[("content-type", form)], "{}").await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }
    let mute = open(Settings {
        feedback: false,
        ..Settings::default()
    })
    .await;
    let (status, refused) = mute.call("GiveFeedback", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(refused["message"].as_str().unwrap().contains("feedback: false"));
    assert_eq!(mute.call("ListFeedback", json!({})).await.0, StatusCode::OK);
}

/// With an authenticator, whoever has no token sees the page and nothing in it.
#[tokio::test]
async fn a_token_is_asked_for() {
    let browser = open(Settings {
        auth: Some(AuthSettings {
            authenticator: "bearertokenauth".to_owned(),
        }),
        ..Settings::default()
    })
    .await;
    assert_eq!(browser.get("/", &[]).await.0, StatusCode::OK);
    for path in ["/settings", "/harbinger.v1.Incidents/WatchIncidents", "/anything"] {
        let (status, headers, _) = browser.get(path, &[]).await;
        assert_eq!(
            (status, &headers["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap())
        );
        let wrong = [("authorization", "Bearer open barley")];
        assert_eq!(browser.get(path, &wrong).await.0, StatusCode::UNAUTHORIZED);
    }
    // Known callers may come by any name: the agent has many.
    let right = [("authorization", "Bearer open sesame"), ("host", "agent.example")];
    assert_eq!(browser.get("/settings", &right).await.0, StatusCode::OK);
}
