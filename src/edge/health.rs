//! Small read-only pages over HTTP: health (for probes) and metrics (for Prometheus).
//!
//! What enters: `GET` requests. What leaves: what the page's function says at that moment. Promises: binds before
//! anything is served, so that a taken port is one clear error at the start; never touches the path of a record;
//! connections are bounded, and so is the time a request may take to arrive.
//! Absent on purpose: what health means, which the caller decides by the pages it passes, and TLS: what stands here is no
//! secret, and probes speak plain text.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::transport::{
    connections::{self, Http1, Limits, ServerParameters},
    entrance::Entrance,
};

/// More probes than that at a time are none.
const MAX_CONNECTIONS: usize = 64;
/// And more questions at a time on one of them.
const MAX_CONCURRENT_STREAMS: u32 = 16;
/// A request arrives within this, also the next one on the same connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where health is served (the extension `health_check`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` to listen on.
    pub endpoint: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:13133".to_owned(),
        }
    }
}

/// What a page answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A JSON document.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: document.to_string(),
        }
    }

    /// Metrics in the Prometheus text format.
    pub fn metrics(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; version=0.0.4",
            body,
        }
    }
}

/// A path and what is found there.
pub type Page = (&'static str, Arc<dyn Fn() -> Answer + Send + Sync>);

/// A bound port, not yet serving.
#[derive(Debug)]
pub struct Pages {
    listener: TcpListener,
    address: SocketAddr,
}

impl Pages {
    /// Binds `endpoint`.
    ///
    /// # Errors
    /// The port is taken, or the host is unknown.
    pub async fn bind(endpoint: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(endpoint).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages until the task is dropped. Returns only by a bug.
    pub async fn serve(self, pages: Vec<Page>) {
        let limits = Limits {
            http1: Some(Http1 {
                read_header_timeout: HEADER_TIMEOUT,
            }),
            parameters: ServerParameters {
                max_connection_idle: HEADER_TIMEOUT,
                ..ServerParameters::default()
            },
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
        };
        let entrance = Entrance::new(MAX_CONNECTIONS, "the bound of a status page", None);
        let pages = Arc::new(pages);
        let handler = move |request: Request<Incoming>| std::future::ready(respond(&request, &pages));
        connections::serve(vec![self.listener], entrance, &limits, handler, std::future::pending()).await;
    }
}

fn respond(request: &Request<Incoming>, pages: &[Page]) -> Response<Full<Bytes>> {
    let bare = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    let Some((_, page)) = pages.iter().find(|(path, _)| *path == request.uri().path()) else {
        return bare(StatusCode::NOT_FOUND);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    let answer = page();
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}
