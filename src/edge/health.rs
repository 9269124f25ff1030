//! Small read-only pages over HTTP: health (for probes) and metrics (for Prometheus).
//!
//! What enters: `GET` requests. What leaves: what the page's function says at that moment. Promises: binds before
//! anything is served, so that a taken port is one clear error at the start; never touches the path of a record.
//! Absent on purpose: what health means, which the caller decides by the pages it passes.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

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

    /// Serves the pages until the task is dropped.
    ///
    /// # Errors
    /// The listening socket broke.
    pub async fn serve(self, pages: Vec<Page>) -> std::io::Result<()> {
        let router = pages.into_iter().fold(Router::new(), |router, (path, answer)| {
            router.route(path, get(move || async move { respond(answer()) }))
        });
        axum::serve(self.listener, router).await
    }
}

fn respond(answer: Answer) -> impl IntoResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body)
}
