//! The ways into the agent: receivers, and the memory limiter before the pipeline.
//!
//! What enters: settings that have been checked. What leaves: bound receivers, then tasks that serve until they are told to
//! stop. Promise: ports are taken before anything else happens. Absent on purpose: the ways out.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::identities::Identities;
use crate::{
    config::{Receiver, Settings},
    edge::{
        self, Intake, Protocol,
        memory_limiter::MemoryLimiter,
        receive_grpc::{self, Counters, Entrance},
        receive_http,
    },
    telemetry::Metrics,
};

/// A receiver that has its sockets.
pub(super) enum Bound {
    Grpc(receive_grpc::Receiver),
    Http(receive_http::Receiver),
}

/// Takes the ports of all receivers.
///
/// # Errors
/// A port is taken, or a certificate, token or password cannot be used.
pub(super) async fn bind(settings: &Settings, identities: &Identities, metrics: &Metrics) -> Result<Vec<Bound>> {
    let mut receivers = Vec::new();
    for (id, Receiver::Otlp(otlp)) in &settings.receivers {
        let context = || format!("receivers.{id}");
        if let Some(grpc) = &otlp.protocols.grpc {
            receivers.push(Bound::Grpc(bound(grpc, identities).await.with_context(context)?));
        }
        if let Some(http) = &otlp.protocols.http {
            receivers.push(Bound::Http(bound(http, identities).await.with_context(context)?));
        }
    }
    let doors: Vec<_> = receivers.iter().map(Bound::door).collect();
    metrics.follow(move |metrics| {
        let unauthenticated =
            |(_, counters): &(Entrance, Arc<Counters>)| counters.unauthenticated_requests.load(Ordering::Relaxed);
        metrics
            .receiver_unauthenticated_requests
            .follow(doors.iter().map(unauthenticated).sum());
        metrics
            .receiver_refused_connections
            .follow(doors.iter().map(|(entrance, _)| entrance.turned_away()).sum());
    });
    Ok(receivers)
}

async fn bound<P: Protocol + Clone>(settings: &P, identities: &Identities) -> Result<edge::Receiver<P>> {
    let receiver = edge::Receiver::bind(settings.clone()).await?;
    Ok(match settings.common().auth {
        Some(auth) => receiver.authenticated_by(identities.authenticator(auth)?),
        None => receiver,
    })
}

impl Bound {
    /// Where it listens, and by which protocol.
    pub(super) fn addresses(&self) -> (&'static str, &[SocketAddr]) {
        match self {
            Self::Grpc(receiver) => ("grpc", receiver.addresses()),
            Self::Http(receiver) => ("http", receiver.addresses()),
        }
    }

    /// Who was turned away, also while serving.
    fn door(&self) -> (Entrance, Arc<Counters>) {
        match self {
            Self::Grpc(receiver) => (receiver.entrance(), receiver.counters()),
            Self::Http(receiver) => (receiver.entrance(), receiver.counters()),
        }
    }

    /// Serves in a task until `shutdown`, then until the last request has its answer.
    pub(super) fn serve(
        self,
        intake: Arc<dyn Intake>,
        shutdown: impl Future<Output = ()> + Send + 'static,
        serving: &mut JoinSet<()>,
    ) {
        match self {
            Self::Grpc(receiver) => {
                tracing::info!(addresses = ?receiver.addresses(), "receiving OTLP logs by gRPC");
                serving.spawn(receiver.serve(intake, shutdown));
            }
            Self::Http(receiver) => {
                tracing::info!(addresses = ?receiver.addresses(), "receiving OTLP logs by HTTP");
                serving.spawn(receiver.serve(intake, shutdown));
            }
        }
    }
}

/// The memory limiter, if there is one, watching.
///
/// # Errors
/// Memory cannot be limited here.
pub(super) fn limit_memory(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<Option<Arc<MemoryLimiter>>> {
    let Some((id, limits)) = &settings.memory_limiter else {
        return Ok(None);
    };
    let limiter = MemoryLimiter::new(limits).with_context(|| format!("processors.{id}"))?;
    tracing::info!(
        soft_limit_mib = limiter.soft_limit_bytes() / (1024 * 1024),
        "requests are refused, for now, while the process has more memory than this"
    );
    let metrics = Arc::clone(metrics);
    let watched = Arc::clone(&limiter);
    tasks.spawn(async move {
        let watching = watched.watch(|limiter| {
            metrics.process_memory_rss_bytes.set(limiter.resident_bytes());
            metrics.memory_limited.set(u64::from(limiter.is_refusing()));
        });
        watching.await;
        Ok(())
    });
    Ok(Some(limiter))
}
