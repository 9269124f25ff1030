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
#[cfg(not(feature = "kafka"))]
use crate::config::NO_KAFKA;
#[cfg(feature = "kafka")]
use crate::edge::receive_kafka;
use crate::{
    config::{ComponentId, Receiver, Settings},
    edge::{
        self, Intake, Intakes, Protocol, Signal,
        memory_limiter::MemoryLimiter,
        receive_grpc::{self, Counters, Entrance},
        receive_http,
    },
    pipeline::received::Received,
    telemetry::{Metrics, Traces},
};

/// A receiver that has its sockets.
pub(super) struct Bound {
    /// Its id.
    pub(super) id: ComponentId,
    protocol: BoundProtocol,
}

enum BoundProtocol {
    Grpc(receive_grpc::Receiver),
    Http(receive_http::Receiver),
    #[cfg(feature = "kafka")]
    Kafka(receive_kafka::Receiver),
}

/// Takes the ports of all receivers.
///
/// # Errors
/// A port is taken, or a certificate, token or password cannot be used.
pub(super) async fn bind(settings: &Settings, identities: &Identities, metrics: &Metrics) -> Result<Vec<Bound>> {
    let mut receivers = Vec::new();
    for (id, receiver) in &settings.receivers {
        let context = || format!("receivers.{id}");
        let otlp = match receiver {
            Receiver::Otlp(otlp) => otlp,
            #[cfg(feature = "kafka")]
            Receiver::Kafka(kafka) => {
                let kafka = receive_kafka::Receiver::new(&id.to_string(), kafka);
                let protocol = BoundProtocol::Kafka(kafka.map_err(anyhow::Error::msg).with_context(context)?);
                receivers.push(Bound {
                    id: id.clone(),
                    protocol,
                });
                continue;
            }
            #[cfg(not(feature = "kafka"))]
            Receiver::Kafka(_) => return Err(anyhow::Error::msg(NO_KAFKA)).with_context(context),
        };
        if let Some(grpc) = &otlp.protocols.grpc {
            let protocol = BoundProtocol::Grpc(bound(grpc, identities).await.with_context(context)?);
            receivers.push(Bound {
                id: id.clone(),
                protocol,
            });
        }
        if let Some(http) = &otlp.protocols.http {
            let protocol = BoundProtocol::Http(bound(http, identities).await.with_context(context)?);
            receivers.push(Bound {
                id: id.clone(),
                protocol,
            });
        }
    }
    for receiver in &receivers {
        receiver.follow(metrics);
    }
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
    /// Where it listens, if it does, and by which protocol.
    pub(super) fn addresses(&self) -> (&'static str, &[SocketAddr]) {
        match &self.protocol {
            #[cfg(feature = "kafka")]
            BoundProtocol::Kafka(_) => (KAFKA, &[]),
            BoundProtocol::Grpc(receiver) => ("grpc", receiver.addresses()),
            BoundProtocol::Http(receiver) => ("http", receiver.addresses()),
        }
    }

    /// What happens before a request is whole, counted also while serving.
    fn follow(&self, metrics: &Metrics) {
        let (entrance, counters): (Entrance, Arc<Counters>) = match &self.protocol {
            #[cfg(feature = "kafka")]
            BoundProtocol::Kafka(receiver) => return follow_kafka(&self.id.to_string(), receiver.counters(), metrics),
            BoundProtocol::Grpc(receiver) => (receiver.entrance(), receiver.counters()),
            BoundProtocol::Http(receiver) => (receiver.entrance(), receiver.counters()),
        };
        let (id, (transport, _)) = (self.id.to_string(), self.addresses());
        let unauthenticated = metrics.receiver_unauthenticated_requests.of([&id, transport]);
        let refused = metrics.receiver_refused_connections.of([&id, transport]);
        metrics.follow(move |_| {
            unauthenticated.follow(counters.unauthenticated_requests.load(Ordering::Relaxed));
            refused.follow(entrance.turned_away());
        });
    }

    /// Serves the signals that `intakes` has, in a task, until `shutdown`, then until the last request has its answer.
    pub(super) fn serve(
        self,
        intakes: Intakes,
        (metrics, traces): (&Metrics, &Traces),
        shutdown: impl Future<Output = ()> + Send + 'static,
        serving: &mut JoinSet<()>,
    ) {
        let (id, (transport, _)) = (self.id.to_string(), self.addresses());
        let received = |signal, intake| -> Arc<dyn Intake> {
            Arc::new(Received::new(intake, signal, [&id, transport], metrics, traces.clone()))
        };
        let intakes = intakes.behind(received);
        let signals: Vec<&str> = intakes.signals().map(Signal::name).collect();
        let signals = signals.join(", ");
        match self.protocol {
            BoundProtocol::Grpc(receiver) => {
                tracing::info!(addresses = ?receiver.addresses(), signals, "receiving OTLP by gRPC");
                serving.spawn(receiver.serve(intakes, shutdown));
            }
            #[cfg(feature = "kafka")]
            BoundProtocol::Kafka(receiver) => {
                tracing::info!(signals, "reading Kafka's topics");
                serving.spawn(receiver.serve(intakes, shutdown));
            }
            BoundProtocol::Http(receiver) => {
                tracing::info!(addresses = ?receiver.addresses(), signals, "receiving OTLP by HTTP");
                serving.spawn(receiver.serve(intakes, shutdown));
            }
        }
    }
}

/// The transport of messages, as metrics name it.
#[cfg(feature = "kafka")]
const KAFKA: &str = "kafka";

/// What a member of a consumer group reads and cannot read.
#[cfg(feature = "kafka")]
fn follow_kafka(id: &str, counters: Arc<receive_kafka::Counters>, metrics: &Metrics) {
    let messages = metrics.kafka_receiver_messages.of([id]);
    let unread = metrics.kafka_receiver_unread_messages.of([id]);
    let retries = metrics.kafka_receiver_retries.of([id]);
    let partitions = metrics.kafka_receiver_partitions.of([id]);
    let rebalances = metrics.kafka_receiver_rebalances.of([id]);
    metrics.follow(move |_| {
        messages.follow(counters.messages.load(Ordering::Relaxed));
        unread.follow(counters.unread_messages.load(Ordering::Relaxed));
        retries.follow(counters.retries.load(Ordering::Relaxed));
        partitions.set(counters.partitions.load(Ordering::Relaxed));
        rebalances.follow(counters.rebalances.load(Ordering::Relaxed));
    });
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
            metrics.memory_limited.set(u64::from(limiter.is_refusing()));
        });
        watching.await;
        Ok(())
    });
    Ok(Some(limiter))
}
