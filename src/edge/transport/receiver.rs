//! A receiver of any protocol: its sockets, who is let in, and its way to the intakes of its signals.
//!
//! What enters: settings, which are a [`Protocol`]'s. What leaves: a bound receiver, then one that serves until it is told to
//! stop. Promise: a taken port or a bad certificate is known before anything else has happened; a receiver that is to know
//! its callers lets nobody in until it is given somebody who does. Absent on purpose: how a request is spelt.

use std::{fmt::Debug, future::Future, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::{
    MIB,
    admission::Admission,
    connections::{self, Limits},
    entrance::Entrance,
    listening::{self, BindError},
    reception::{Bounds, Counters, Reception},
    tls::{ServerSettings, ServerTls},
};
use crate::edge::{AuthSettings, Authenticator, Intakes, Nobody};

/// What the settings of every protocol have.
#[derive(Clone, Copy, Debug)]
pub struct Common<'s> {
    /// `host:port`.
    pub endpoint: &'s str,
    /// TLS, if there is.
    pub tls: Option<&'s ServerSettings>,
    /// Who knows the callers, if anybody is to.
    pub auth: Option<&'s AuthSettings>,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Requests held at the same time.
    pub max_requests_in_flight: usize,
    /// MiB of them; never less than one largest request.
    pub max_mib_in_flight: usize,
    /// Largest request in bytes, after decompression.
    pub max_request_bytes: usize,
    /// The key that sets it.
    pub max_request_key: &'static str,
    /// Whether the callers' headers are kept.
    pub include_metadata: bool,
}

impl Common<'_> {
    /// Checks what every protocol checks.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self, example: &str) -> Result<(), String> {
        listening::check(self.endpoint, example)?;
        if let Some(tls) = self.tls {
            tls.validate().map_err(|error| format!("`tls`: {error}"))?;
        }
        if self.max_connections == 0 {
            return Err("`max_connections` must be at least 1, for example 1024".into());
        }
        if self.max_requests_in_flight == 0 {
            return Err("`max_requests_in_flight` must be at least 1".into());
        }
        Ok(())
    }

    fn admission(&self) -> Arc<Admission> {
        let max_bytes = self.max_mib_in_flight.saturating_mul(MIB).max(self.max_request_bytes);
        Arc::new(Admission::new(self.max_requests_in_flight, max_bytes))
    }

    fn bounds(&self, admission: Arc<Admission>, authenticator: Option<Arc<dyn Authenticator>>) -> Bounds {
        Bounds {
            authenticator,
            max_request_bytes: self.max_request_bytes,
            max_request_key: self.max_request_key,
            include_metadata: self.include_metadata,
            admission,
        }
    }

    /// A way to the intakes without a socket in front of it.
    pub fn reception(&self, intakes: impl Into<Intakes>) -> Reception {
        Reception::new(intakes, self.bounds(self.admission(), None), Arc::default())
    }
}

/// A protocol, which is what its settings are.
pub trait Protocol: Debug + Send + Sync + 'static {
    /// Where users set the address, for the error about a taken port.
    const ENDPOINT_KEY: &'static str;
    /// What is spoken within TLS.
    const WITHIN_TLS: &'static [&'static [u8]];
    /// What answers requests.
    type Handler: Send + Sync + 'static;
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static;

    /// What every protocol has.
    fn common(&self) -> Common<'_>;
    /// What connections are held to.
    fn limits(&self) -> Limits;
    /// What answers requests by this way to the intakes.
    fn handler(&self, reception: Reception) -> Self::Handler;
    /// Answers one request.
    fn answer(handler: &Self::Handler, request: Request<Incoming>)
    -> impl Future<Output = Response<Self::Body>> + Send;
}

/// A receiver that has its sockets and is not serving yet.
#[derive(Debug)]
pub struct Receiver<P> {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    settings: P,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    entrance: Entrance,
    authenticator: Option<Arc<dyn Authenticator>>,
}

impl<P: Protocol> Receiver<P> {
    /// Takes the address and reads certificates. Do this before anything else starts: a taken port is then the only thing
    /// that happened.
    pub async fn bind(settings: P) -> Result<Self, BindError> {
        let common = settings.common();
        let tls = common.tls.map(|tls| ServerTls::load(tls, P::WITHIN_TLS));
        let entrance = Entrance::new(common.max_connections, "`max_connections`", tls.transpose()?);
        let listeners = listening::bind(common.endpoint, P::ENDPOINT_KEY).await?;
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        // Who is to know callers comes later; until then nobody is known.
        let authenticator = common.auth.map(|_| Arc::new(Nobody) as Arc<dyn Authenticator>);
        Ok(Self {
            listeners,
            addresses,
            counters: Arc::default(),
            admission: common.admission(),
            entrance,
            authenticator,
            settings,
        })
    }

    /// Lets in only whom `authenticator` knows.
    #[must_use]
    pub fn authenticated_by(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Its connections, also while serving.
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// The bound addresses, at least one; they share one port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters, also while serving.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// What is held at the moment, also while serving.
    pub fn admission(&self) -> Arc<Admission> {
        self.admission.clone()
    }

    /// Serves the signals that `intakes` has until `shutdown`; then accepts nothing more, and returns when every request under way has its answer.
    pub async fn serve(self, intakes: impl Into<Intakes>, shutdown: impl Future<Output = ()>) {
        let limits = self.settings.limits();
        let bounds = self.settings.common().bounds(self.admission, self.authenticator);
        let handler = Arc::new(self.settings.handler(Reception::new(intakes, bounds, self.counters)));
        let handler = move |request| {
            let handler = handler.clone();
            async move { P::answer(&handler, request).await }
        };
        connections::serve(self.listeners, self.entrance, &limits, handler, shutdown).await;
    }
}
