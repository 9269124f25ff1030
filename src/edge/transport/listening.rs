//! Listening sockets: from what a user writes as `endpoint` to bound sockets.
//!
//! What enters: `host:port`. What leaves: listeners on every address of the host (`localhost` is 127.0.0.1 and ::1).
//! Promise: all addresses or an error before anything else starts; the error names address and key. An address family
//! that this machine does not have is skipped as long as another one works.
//! Absent on purpose: unix sockets, and choosing another port when one is taken.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, lookup_host};

use super::reloading::FileError;

/// Nothing listens; says what to change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Write another endpoint.
    #[error("`endpoint: {endpoint}` has no usable address ({source}): write host:port, for example localhost:4317")]
    Unresolved {
        /// As written.
        endpoint: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Stop the other program or choose another port.
    #[error("{address} is already taken by another program: stop that program, or change {key}")]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The configuration key that sets it.
        key: &'static str,
    },
    /// The address cannot be used by this user or on this machine.
    #[error("cannot listen on {address} ({source}): change {key}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The configuration key that sets it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] FileError),
}

/// How often a free port is sought that all addresses of a host have (only for port 0).
const FREE_PORT_TRIES: usize = 16;

/// Checks that `endpoint` is `host:port`; says what to write instead, for example `example`.
pub fn check(endpoint: &str, example: &str) -> Result<(), String> {
    if let Some((_, address)) = endpoint.split_once("://") {
        return Err(format!(
            "`endpoint: {endpoint}` is a URL, and this is where to listen: write host:port, like {address}"
        ));
    }
    if endpoint.parse::<u16>().is_ok() {
        return Err(format!(
            "`endpoint: {endpoint}` is a port without a host: write localhost:{endpoint}, or 0.0.0.0:{endpoint} for all addresses"
        ));
    }
    match endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!(
            "`endpoint: {endpoint}` has no port: write host:port, like {example}"
        )),
    }
}

/// Whether a host, as it is written, is this machine for itself alone.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Binds every address of `endpoint`; `:4317` means all interfaces. With port 0 all addresses share one free port.
pub async fn bind(endpoint: &str, key: &'static str) -> Result<Vec<TcpListener>, BindError> {
    let addresses = resolve(endpoint).await?;
    let mut tries = if addresses.iter().any(|address| address.port() == 0) {
        FREE_PORT_TRIES
    } else {
        1
    };
    loop {
        tries -= 1;
        match bind_all(&addresses, key).await {
            Err(BindError::Taken { .. }) if tries > 0 => {}
            result => return result,
        }
    }
}

async fn resolve(endpoint: &str) -> Result<Vec<SocketAddr>, BindError> {
    let unresolved = |source| BindError::Unresolved {
        endpoint: endpoint.to_owned(),
        source,
    };
    if let Some(port) = endpoint.strip_prefix(':').and_then(|port| port.parse().ok()) {
        // One dual-stack socket where there is IPv6; `bind_all` falls back to the second.
        return Ok(vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let mut addresses: Vec<SocketAddr> = lookup_host(endpoint).await.map_err(unresolved)?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(unresolved(io::Error::from(io::ErrorKind::NotFound)));
    }
    Ok(addresses)
}

async fn bind_all(addresses: &[SocketAddr], key: &'static str) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for &(mut address) in addresses {
        let bound = listeners.first().and_then(|first| first.local_addr().ok());
        if let Some(bound) = bound {
            if bound.ip() == Ipv6Addr::UNSPECIFIED && address.ip() == Ipv4Addr::UNSPECIFIED {
                continue; // the dual-stack socket has it
            }
            address.set_port(bound.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(BindError::Taken { address, key }),
            Err(source) if is_missing_family(&source) => {
                missing.get_or_insert(BindError::Refused { address, key, source });
            }
            Err(source) => return Err(BindError::Refused { address, key, source }),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// EADDRNOTAVAIL, or EAFNOSUPPORT (for which std has no name): no such address on this machine, as `::1` without IPv6.
fn is_missing_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(97)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test]
    async fn localhost_is_every_loopback_address_on_one_port() {
        let listeners = bind("localhost:0", "key").await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        for listener in &listeners {
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_loopback() && address.port() == port);
        }
        let resolved = lookup_host("localhost:0").await.unwrap().count();
        assert!((1..=resolved).contains(&listeners.len()));
    }

    #[tokio::test]
    async fn a_bare_port_means_all_interfaces() {
        let listeners = bind(":0", "key").await.unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(listeners[0].local_addr().unwrap().ip().is_unspecified());
    }

    #[tokio::test]
    async fn a_taken_port_names_address_and_key() {
        let first = bind("127.0.0.1:0", "a.b.endpoint").await.unwrap();
        let address = first[0].local_addr().unwrap();
        let error = bind(&address.to_string(), "a.b.endpoint")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&address.to_string()) && error.contains("a.b.endpoint"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_endpoint_without_a_port_says_what_to_write() {
        let error = bind("localhost", "key").await.unwrap_err().to_string();
        assert!(error.contains("localhost:4317"), "{error}");
    }
}
