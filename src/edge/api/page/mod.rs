//! The page: what goes on, to be looked at in a browser, and the API's calls in JSON for it (the extension `harbinger_page`).
//!
//! What enters: HTTP requests. What leaves: the page (`document`), answers in JSON (`calls`), and changes as they happen
//! (`changes`). Promises: who is not known, or is brought here by another site, learns and changes nothing (`guard`); on an
//! address that others can reach nothing is served without an authenticator; connections, requests and listeners are
//! bounded; the path of a record never waits. Absent on purpose: any other file or address, and CORS.

mod calls;
mod changes;
mod document;
mod guard;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};
use tonic::{Code, Status};

use super::{MAX_REQUEST_BYTES, service::Service};
use crate::edge::{
    AuthSettings, Authenticator, Desk, Nobody,
    transport::{
        connections::{self, Http1, Limits, ServerParameters},
        entrance::Entrance,
        listening::{self, BindError, is_loopback},
        status,
        tls::{self, ServerSettings as TlsSettings, ServerTls},
    },
};

pub use document::{PAGE, with_data};

/// Connections at a time: a browser has six.
const MAX_CONNECTIONS: usize = 256;
/// Calls at a time on one connection of HTTP/2.
const MAX_CONCURRENT_STREAMS: u32 = 64;
/// A request arrives within this, also the next one on the same connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where the page is served (the extension `harbinger_page`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` to listen on.
    pub endpoint: String,
    /// TLS; left out, plain text.
    pub tls: Option<TlsSettings>,
    /// Who knows the callers; may be left out where only this machine is listened on.
    pub auth: Option<AuthSettings>,
    /// Whether feedback is taken.
    pub feedback: bool,
    /// Where else to look for an incident.
    pub links: Vec<Link>,
}

/// A place to look for an incident in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What it is called on the page.
    pub name: String,
    /// Its address, with the incident's `{incident_id}`, `{logql}` and so on in it.
    pub url: String,
}

/// What stands for something of the incident in a link's address.
const PLACEHOLDERS: [&str; 10] = [
    "incident_id",
    "logql",
    "logql_json",
    "logql_before",
    "start_ms",
    "end_ms",
    "start",
    "end",
    "service",
    "tenant",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4320".to_owned(),
            tls: None,
            auth: None,
            feedback: true,
            links: Vec::new(),
        }
    }
}

impl Settings {
    /// Refuses an address that others can reach where nobody knows them, and links that lead nowhere.
    ///
    /// # Errors
    /// What is wrong and what to write instead, after the key.
    pub fn validate(&self) -> Result<(), String> {
        listening::check(&self.endpoint, "localhost:4320")?;
        if let Some(tls) = &self.tls {
            tls.validate().map_err(|error| format!("`tls`: {error}"))?;
        }
        let (host, port) = self.endpoint.rsplit_once(':').unwrap_or((&self.endpoint, "4320"));
        if self.auth.is_none() && !is_loopback(host) {
            return Err(format!(
                "endpoint: `{}` can be reached by other machines, and nobody would know who asks: write `auth: \
                 {{authenticator: bearertokenauth}}`, or `localhost:{port}` (from elsewhere: `ssh -L {port}:localhost:{port} HOST`)",
                self.endpoint
            ));
        }
        self.links
            .iter()
            .enumerate()
            .try_for_each(|(place, link)| link.validate().map_err(|problem| format!("links[{place}].{problem}")))
    }
}

impl Link {
    fn validate(&self) -> Result<(), String> {
        if self.name.trim().is_empty() {
            return Err("name: is empty; write what the link is called, as `Logs in Grafana`".to_owned());
        }
        if !["https://", "http://"]
            .iter()
            .any(|scheme| self.url.starts_with(scheme))
        {
            return Err(format!(
                "url: `{}` does not begin with https:// or http://; write the address of what is linked to",
                self.url
            ));
        }
        for part in self.url.split('{').skip(1) {
            // Whatever else stands in braces belongs to the address.
            let Some((name, _)) = part.split_once('}') else {
                continue;
            };
            let is_meant = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if is_meant && !PLACEHOLDERS.contains(&name) {
                return Err(format!(
                    "url: there is no {{{name}}}; there are {{{}}}",
                    PLACEHOLDERS.join("}, {")
                ));
            }
        }
        Ok(())
    }
}

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Choose another endpoint, or mend the certificate.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The name of the host is not this machine's alone.
    #[error(
        "{endpoint} is {address} here, which other machines can reach: write 127.0.0.1 instead of the name, or `auth: \
         {{authenticator: bearertokenauth}}`"
    )]
    NotLoopback {
        /// What was asked for.
        endpoint: String,
        /// What the name stands for.
        address: SocketAddr,
    },
}

/// A bound port, not yet serving.
#[derive(Debug)]
pub struct Page {
    settings: Settings,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    entrance: Entrance,
    authenticator: Option<Arc<dyn Authenticator>>,
}

impl Page {
    /// Binds the endpoint and reads certificates.
    ///
    /// # Errors
    /// The port is taken, the host is unknown, or others can reach it and nobody is to know them.
    pub async fn bind(settings: &Settings) -> Result<Self, PageError> {
        let tls = settings.tls.as_ref();
        let tls = tls
            .map(|tls| ServerTls::load(tls, &[tls::HTTP_2, tls::HTTP_1]))
            .transpose()
            .map_err(BindError::from)?;
        let listeners = listening::bind(&settings.endpoint, "`extensions.harbinger_page.endpoint`").await?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let reachable = addresses.iter().find(|address| !address.ip().is_loopback());
        if let (None, Some(address)) = (&settings.auth, reachable) {
            return Err(PageError::NotLoopback {
                endpoint: settings.endpoint.clone(),
                address: *address,
            });
        }
        Ok(Self {
            entrance: Entrance::new(MAX_CONNECTIONS, "the bound of the page", tls),
            // Who is to know callers comes later; until then nobody is known.
            authenticator: settings.auth.as_ref().map(|_| Arc::new(Nobody) as _),
            settings: settings.clone(),
            listeners,
            addresses,
        })
    }

    /// Lets in only whom `authenticator` knows.
    #[must_use]
    pub fn authenticated_by(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Where it listens; one port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What to open in a browser to reach one of its addresses.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
        match address.ip().is_loopback() {
            true => format!("{scheme}://localhost:{}/", address.port()),
            false => format!("{scheme}://{address}/"),
        }
    }

    /// Serves until the task is dropped. `incident_attribute` is what records carry the id in, for queries. Returns only by a
    /// bug.
    pub async fn serve(self, desk: Arc<dyn Desk>, incident_attribute: String) {
        let limits = Limits {
            http1: Some(Http1 {
                read_header_timeout: READ_TIMEOUT,
            }),
            parameters: ServerParameters {
                max_connection_idle: READ_TIMEOUT,
                ..ServerParameters::default()
            },
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
        };
        let settings = json!({
            "links": self.settings.links,
            "incident_attribute": incident_attribute,
            "may_give_feedback": self.settings.feedback,
        });
        let server = Arc::new(Server {
            service: Service::new(desk, incident_attribute),
            settings: Bytes::from(settings.to_string()),
            takes_feedback: self.settings.feedback,
            authenticator: self.authenticator,
        });
        let handler = move |request: Request<Incoming>| {
            let server = Arc::clone(&server);
            async move { server.respond(request).await }
        };
        connections::serve(self.listeners, self.entrance, &limits, handler, std::future::pending()).await;
    }
}

/// Answers requests.
struct Server {
    service: Service,
    settings: Bytes,
    takes_feedback: bool,
    authenticator: Option<Arc<dyn Authenticator>>,
}

impl Server {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let mut response = match self.answer(&parts, body).await {
            Ok(response) => response,
            Err((status, challenge)) => {
                let mut response = refusal(&status);
                if let Some(challenge) = challenge {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            // What the page says of itself, in a place where it can also forbid frames.
            (
                header::CONTENT_SECURITY_POLICY,
                "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn answer(&self, parts: &Parts, body: Incoming) -> Result<Response<Body>, (Status, Option<HeaderValue>)> {
        let is_get = matches!(parts.method, Method::GET | Method::HEAD);
        let path = parts.uri.path();
        if path == "/" && is_get {
            // Nothing is in it that anybody may not know.
            return Ok(said("text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes())));
        }
        guard::check(self.authenticator.as_deref(), parts).await?;
        let refuse = |status: Status| (status, None);
        match (path, calls::method_of(path)) {
            ("/settings", _) if is_get => Ok(said("application/json", self.settings.clone())),
            (_, Some("WatchIncidents")) if is_get => {
                let changes = changes::watch(&self.service, parts.uri.query()).await.map_err(refuse)?;
                Ok(spoken("text/event-stream", StreamBody::new(changes).boxed_unsync()))
            }
            (_, Some(method)) if parts.method == Method::POST => {
                if calls::is_feedback(method) && !self.takes_feedback {
                    let status = Status::permission_denied("this page takes no feedback (`feedback: false`)");
                    return Err(refuse(status));
                }
                let body = json_body(&parts.headers, body).await.map_err(refuse)?;
                let answer = calls::answer(&self.service, method, &body).await.map_err(refuse)?;
                Ok(said("application/json", answer))
            }
            _ => Err(refuse(Status::not_found("nothing is here: the page is at /"))),
        }
    }
}

/// The body of a call, which must say that it is JSON: no form of another site can.
async fn json_body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Status> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Status::invalid_argument("send `content-type: application/json`"));
    }
    let read = timeout(READ_TIMEOUT, Limited::new(body, MAX_REQUEST_BYTES).collect()).await;
    let read = read.map_err(|_| Status::deadline_exceeded("the request did not arrive in time"))?;
    let body = read.map_err(|_| Status::invalid_argument("the request is broken off, or larger than 64 KiB"))?;
    Ok(body.to_bytes())
}

fn said(content_type: &'static str, body: Bytes) -> Response<Body> {
    spoken(content_type, Full::from(body).boxed_unsync())
}

fn spoken(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refusal(refused: &Status) -> Response<Body> {
    let body = json!({
        "code": status::name(refused.code()).to_ascii_lowercase(),
        "message": refused.message(),
    });
    let mut response = said("application/json", Bytes::from(body.to_string()));
    *response.status_mut() = match refused.code() {
        // A page that asks too much, or while it is full, may ask again.
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => status::to_http(refused),
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().err().unwrap_or_default()
    }

    #[test]
    fn whoever_can_be_reached_must_know_who_asks() {
        assert_eq!(refused(|_| {}), "");
        assert!(
            refused(|it| it.endpoint = "0.0.0.0:4320".to_owned()).contains("auth: {authenticator: bearertokenauth}")
        );
        let auth = AuthSettings {
            authenticator: "bearertokenauth".to_owned(),
        };
        assert_eq!(
            refused(|it| {
                it.endpoint = "0.0.0.0:4320".to_owned();
                it.auth = Some(auth);
            }),
            ""
        );
        assert!(refused(|it| it.endpoint = "4320".to_owned()).contains("localhost:4320"));
    }

    #[test]
    fn links_lead_somewhere() {
        let link = |name: &str, url: &str| {
            vec![Link {
                name: name.to_owned(),
                url: url.to_owned(),
            }]
        };
        let grafana = "http://localhost:3000/explore?panes={\"a\":{\"q\":\"{logql_json}\"}}&from={start_ms}";
        assert_eq!(refused(|it| it.links = link("Grafana", grafana)), "");
        assert!(refused(|it| it.links = link("Grafana", "javascript:alert(1)")).starts_with("links[0].url: "));
        assert!(
            refused(|it| it.links = link("Grafana", "https://g/{id}"))
                .contains("there is no {id}; there are {incident_id}")
        );
        assert!(refused(|it| it.links = link(" ", "https://g/")).starts_with("links[0].name: "));
    }
}
