//! The API: questions about incidents, templates and the agent, by gRPC, for the command line and for other programs.
//!
//! What enters: calls as `proto/harbinger/v1/incidents.proto` defines them. What leaves: what the [`Desk`] answers. Beside it
//! are server reflection, so that a client needs no stubs, and `grpc.health.v1`. Promises: listens on this machine's
//! loopback only, whatever the name of the host resolves to; what a caller can make it hold is bounded; the path of a record
//! is never waited for, nor made to wait; connections are bounded. Absent on purpose: TLS and authentication, which loopback
//! stands for, and what the answers are. The same calls in JSON, for a browser, are in [`page`].

pub(crate) mod answers;
mod feedback;
pub mod json;
pub mod page;
pub mod proto;
mod query;
mod questions;
mod service;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::transport::Server;

use super::{
    Desk,
    transport::{entrance::Entrance, listening::is_loopback, punctual::Punctual, tls},
};
use proto::incidents_server::IncidentsServer;
use service::Service;

/// Connections at a time: every watcher may have one of its own, with room beside them for questions.
const MAX_CONNECTIONS: usize = 256;
/// What a peer has begun it finishes within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after an accept that failed (no file descriptor left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls at a time on one connection, watchers included.
const MAX_CALLS_A_CONNECTION: u32 = 64;
/// A caller who does not answer a ping of the transport is gone, and so is what was kept for him.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// No question is longer.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Where the API is served (the extension `harbinger_api`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` to listen on; the host is this machine's loopback.
    pub endpoint: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4319".to_owned(),
        }
    }
}

impl Settings {
    /// Refuses an address that others than this machine could reach.
    ///
    /// # Errors
    /// What is wrong and what to write instead, after the key.
    pub fn validate(&self) -> Result<(), String> {
        let Some((host, port)) = self
            .endpoint
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
        else {
            return Err(format!(
                "endpoint: `{}` is not `host:port`; write `127.0.0.1:4319`",
                self.endpoint
            ));
        };
        if is_loopback(host) {
            return Ok(());
        }
        Err(format!(
            "endpoint: `{}` can be reached by other machines, and the API has neither TLS nor authentication: it is for \
             this machine only; write `127.0.0.1:{port}` (from elsewhere: `ssh -L \
             {port}:127.0.0.1:{port} HOST`)",
            self.endpoint
        ))
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The port is taken, or the host unknown.
    #[error("cannot listen on {endpoint} ({problem}): choose another port, or stop whoever has it")]
    Bind {
        /// What was asked for.
        endpoint: String,
        /// What the system says.
        problem: std::io::Error,
    },
    /// The name of the host is not this machine's alone.
    #[error("{endpoint} is {address} here, which other machines can reach: write 127.0.0.1 instead of the name")]
    NotLoopback {
        /// What was asked for.
        endpoint: String,
        /// What the name stands for.
        address: SocketAddr,
    },
    /// The transport broke.
    #[error("the API can serve no longer: {0}; restart the agent")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors that were built in are not whole.
    #[error("the API's own descriptors are not usable ({0}): build the program anew")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A bound port, not yet serving.
#[derive(Debug)]
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
}

impl Api {
    /// Binds the endpoint.
    ///
    /// # Errors
    /// The port is taken, the host is unknown, or it is not this machine's alone.
    pub async fn bind(settings: &Settings) -> Result<Self, ApiError> {
        let endpoint = || settings.endpoint.clone();
        let bind = |problem| ApiError::Bind {
            endpoint: endpoint(),
            problem,
        };
        let listener = TcpListener::bind(&settings.endpoint).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        if !address.ip().is_loopback() {
            return Err(ApiError::NotLoopback {
                endpoint: endpoint(),
                address,
            });
        }
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the task is dropped. `incident_attribute` is what records carry the id in, for queries.
    ///
    /// # Errors
    /// The transport broke.
    pub async fn serve(self, desk: Arc<dyn Desk>, incident_attribute: String) -> Result<(), ApiError> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let incidents = IncidentsServer::new(Service::new(desk, incident_attribute));
        let incidents = incidents.max_decoding_message_size(MAX_REQUEST_BYTES);
        reporter.set_serving::<IncidentsServer<Service>>().await;
        Server::builder()
            .max_concurrent_streams(MAX_CALLS_A_CONNECTION)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .add_service(incidents)
            .add_service(health)
            .add_service(reflection().build_v1()?)
            // Clients in other languages still ask by the older name.
            .add_service(reflection().build_v1alpha()?)
            .serve_with_incoming(incoming(self.listener))
            .await?;
        Ok(())
    }
}

/// Connections as they come, up to the bound.
fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Punctual<tls::Stream>>> {
    let entrance = Entrance::new(MAX_CONNECTIONS, "the bound of the API", None);
    stream::unfold((listener, entrance), |(listener, entrance)| async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(place) = entrance.place() else { continue };
            _ = stream.set_nodelay(true);
            if let Some(stream) = entrance.admit(stream, place).await {
                return Some((Ok(Punctual::new(stream, HEADER_TIMEOUT)), (listener, entrance)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_listened_on() {
        let validate = |endpoint: &str| {
            let endpoint = endpoint.to_owned();
            Settings { endpoint }.validate()
        };
        for good in [
            "127.0.0.1:4319",
            "127.8.8.8:1",
            "[::1]:4319",
            "localhost:0",
            "LOCALHOST:4319",
        ] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for open in [
            "0.0.0.0:4319",
            "[::]:4319",
            ":4319",
            "10.0.0.7:4319",
            "agent.example:4319",
            "localhost.example:1",
        ] {
            assert!(
                validate(open).is_err_and(|why| why.contains("write `127.0.0.1:")),
                "{open}"
            );
        }
        for no_endpoint in ["", "4319", "localhost", "127.0.0.1:http"] {
            assert!(
                validate(no_endpoint).is_err_and(|why| why.contains("`host:port`")),
                "{no_endpoint}"
            );
        }
    }
}
