//! The entrance of a server: so many connections and no more, and TLS where it is asked for.
//!
//! What enters: connections as they are accepted. What leaves: those that are let in, each with a place that is free again
//! when it ends. Promise: who is turned away is closed at once, counted and said, throttled; handshakes take a place too.
//! Absent on purpose: a bound for each address, as a Collector or a proxy is one address for many.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    tls::{ServerTls, Stream},
    warnings::Throttle,
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Entrance(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<Semaphore>,
    tls: Option<ServerTls>,
    /// The setting that bounds connections, for the log.
    key: &'static str,
    turned_away: AtomicU64,
    full: Throttle,
}

/// A place that a connection has until this is dropped.
#[derive(Debug)]
pub struct ConnectionPlace(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Entrance {
    /// For `max_connections` at a time, which `key` sets; by TLS if there is one.
    pub fn new(max_connections: usize, key: &'static str, tls: Option<ServerTls>) -> Self {
        let places = max_connections.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(places)),
            tls,
            key,
            turned_away: AtomicU64::new(0),
            full: Throttle::default(),
        }))
    }

    /// A place for one more connection; without one it is to be closed.
    pub fn place(&self) -> Option<ConnectionPlace> {
        if let Ok(permit) = self.0.places.clone().try_acquire_owned() {
            return Some(ConnectionPlace(permit));
        }
        self.0.turned_away.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.0.full.admit() {
            let key = self.0.key;
            tracing::warn!(
                left_out,
                "a connection was closed at once: there are as many as {key} allows"
            );
        }
        None
    }

    /// The connection as it is spoken over; `None` when there was no handshake.
    pub async fn admit(&self, stream: TcpStream, place: ConnectionPlace) -> Option<Stream> {
        let stream = match &self.0.tls {
            None => Stream::plain(stream),
            Some(tls) => tls.accept(stream).await?,
        };
        Some(stream.holding(place))
    }

    /// Connections closed because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.0.turned_away.load(Ordering::Relaxed)
    }
}
