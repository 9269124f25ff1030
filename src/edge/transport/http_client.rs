//! A small HTTP/1 client: a document to an endpoint, and what comes of it.
//!
//! What enters: a body, headers and a time limit. What leaves: the answer's bytes, or whether trying again can help.
//! Promise: an answer is read up to a limit and no further; nothing that a peer answers is trusted in form; the values of
//! headers are in no message; `https` is always TLS. Absent on purpose: redirects (an endpoint that moves is a mistake to
//! hear of), cookies, and retries, whose rhythm is the caller's.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

use super::{
    metadata::{HeaderSource, Headers},
    tls::{self, ClientSettings, Connector},
};
use crate::edge::Metadata;

/// Bytes of a refusal's body that are quoted.
const QUOTED_BYTES: usize = 200;
const USER_AGENT: &str = concat!("harbinger/", env!("CARGO_PKG_VERSION"));

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answered, or the answer says to come back: send it again later.
    #[error("{0}")]
    Passing(String),
    /// The request is not wanted: look at endpoint, headers and the other side's log; sending it again changes nothing.
    #[error("{0}")]
    Final(String),
}

/// Checks an endpoint that is written as a URL, and gives it without a slash at its end.
///
/// # Errors
/// What is wrong with it and what to write instead, after the key.
pub fn endpoint(written: &str, example: &str) -> Result<String, String> {
    let authority = written
        .split_once("://")
        .map_or(written, |(_, rest)| rest)
        .split('/')
        .next();
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(
            "endpoint: holds a user name; write it without, and `headers: {Authorization: …}` beside it".to_owned(),
        );
    }
    let uri = Uri::try_from(written).ok();
    let uri = uri.filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if uri.is_none() {
        return Err(format!("endpoint: `{written}` is not a URL; write it like `{example}`"));
    }
    Ok(written.trim_end_matches('/').to_owned())
}

/// Checks headers, whose values are written out: there is no caller whose headers could be passed on.
///
/// # Errors
/// What is wrong with them and what to write instead, after the key.
pub fn headers(settings: &BTreeMap<String, HeaderSource>) -> Result<HeaderMap, String> {
    let of_caller = |source: &HeaderSource| matches!(source, HeaderSource::Caller(_));
    if let Some((name, _)) = settings.iter().find(|(_, source)| of_caller(source)) {
        return Err(format!(
            "headers: `{name}` cannot be a caller's, as incidents have no caller; write its value"
        ));
    }
    let headers = Headers::new(settings).map_err(|problem| format!("headers: {problem}"))?;
    let mut written = HeaderMap::new();
    headers.write(&Metadata::default(), &mut written);
    Ok(written)
}

/// Connections to one endpoint, opened when needed and kept while they are good.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    headers: HeaderMap,
    timeout: Duration,
}

impl HttpClient {
    /// A client of `endpoint` that sends these headers with each call, and waits this long for each answer.
    ///
    /// # Errors
    /// A file of `tls` that cannot be used.
    pub fn new(endpoint: &str, tls: &ClientSettings, headers: HeaderMap, timeout: Duration) -> Result<Self, String> {
        let uri = Uri::try_from(endpoint).map_err(|problem| format!("endpoint: {problem}"))?;
        let connector = Connector::to(&uri, tls, &[tls::HTTP_1]).map_err(|problem| problem.to_string())?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            headers,
            timeout,
        })
    }

    /// Posts a JSON document.
    ///
    /// # Errors
    /// It was not taken; whether trying again can help.
    pub async fn post(&self, url: &str, json: Bytes) -> Result<(), CallError> {
        // Of what is taken nothing needs to be read, but an answer read to its end leaves a connection to use again.
        self.call(Method::POST, url, json, 64 * 1024).await.map(|_| ())
    }

    /// Gets a document of at most so many bytes.
    ///
    /// # Errors
    /// There is none; whether trying again can help.
    pub async fn get(&self, url: &str, max_bytes: usize) -> Result<Bytes, CallError> {
        self.call(Method::GET, url, Bytes::new(), max_bytes).await
    }

    /// Sends a request as it is; gives the answer, whatever its status, with at most so many bytes of its body.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Result<Response<Bytes>, CallError> {
        let exchange = async {
            let response = self.send(request.map(Full::new)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, max_bytes).collect().await;
            // The status counts; what is said beside it may be missing.
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(Response::from_parts(parts, body))
        };
        timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> CallError {
        CallError::Passing(format!("no answer within {:?}", self.timeout))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CallError> {
        self.client.request(request).await.map_err(|problem| {
            let mut message = problem.to_string();
            let mut source = std::error::Error::source(&problem);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            CallError::Passing(message)
        })
    }

    async fn call(&self, method: Method, url: &str, body: Bytes, max_bytes: usize) -> Result<Bytes, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(body))
            .map_err(|problem| CallError::Final(problem.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(self.headers.clone());
        timeout(self.timeout, self.answer(request, max_bytes))
            .await
            .unwrap_or_else(|_| Err(self.late()))
    }

    async fn answer(&self, request: Request<Full<Bytes>>, max_bytes: usize) -> Result<Bytes, CallError> {
        let response = self.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        if status.is_success() {
            return match body {
                Ok(body) => Ok(body.to_bytes()),
                // Taken is taken, whatever else the answer says; who wants a document gets an empty one.
                Err(_) => Ok(Bytes::new()),
            };
        }
        let said = body.map(|body| body.to_bytes()).unwrap_or_default();
        let said: String = String::from_utf8_lossy(&said).chars().take(QUOTED_BYTES).collect();
        let message = format!("{status}: {}", said.escape_debug());
        Err(if is_passing(status) {
            CallError::Passing(message)
        } else {
            CallError::Final(message)
        })
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Waits between attempts: twice as long each time, up to half a minute, and up to a quarter longer or shorter, so that
/// agents do not come back in step.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    failures: u32,
}

impl Waits {
    /// Longest wait, before jitter.
    const MAX: Duration = Duration::from_secs(30);

    /// The next attempt begins anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Attempts that have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        let wait = Duration::from_millis(500)
            .saturating_mul(1 << self.failures.min(6))
            .min(Self::MAX);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.75 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_or_refused_with_what_to_write() {
        let checked = |written| endpoint(written, "http://localhost:9093");
        assert_eq!(
            checked("http://am:9093/prefix/"),
            Ok("http://am:9093/prefix".to_owned())
        );
        assert_eq!(checked("https://am:9093"), Ok("https://am:9093".to_owned()));
        for (written, said) in [
            ("am:9093", "write it like `http://localhost:9093`"),
            ("", "is not a URL"),
            ("http://user:pass@am", "Authorization"),
            ("ftp://user:pass@am", "Authorization"),
        ] {
            let refused = checked(written).unwrap_err();
            assert!(refused.starts_with("endpoint: ") && refused.contains(said), "{refused}");
            assert!(!refused.contains("pass"), "{refused}");
        }
    }

    #[test]
    fn waits_grow_to_half_a_minute() {
        let mut waits = Waits::default();
        let all: Vec<Duration> = (0..9).map(|_| waits.after_failure()).collect();
        let bound = |wait: Duration, base: f64| (base * 0.75..=base * 1.25).contains(&wait.as_secs_f64());
        for (wait, base) in all.into_iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!(bound(wait, base), "{wait:?} for {base}");
        }
    }
}
