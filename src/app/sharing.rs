//! The agents that this one shares incidents with.
//!
//! What enters: the section `cluster`. What leaves: what carries entries between them, this agent's name, and how long the others may be waited
//! for. Promise: without a name, or in a build that cannot, the agent does not start. Absent on purpose: what is shared.

#[cfg(feature = "kafka")]
use std::sync::Arc;

use anyhow::{Context, Error, Result};

#[cfg(not(feature = "kafka"))]
use crate::config::NO_KAFKA;
#[cfg(feature = "kafka")]
use crate::edge::cluster_kafka::ClusterKafka;
use crate::{config::Settings, edge, pipeline::cluster::Membership};

/// What the pipeline needs of the others; nothing where incidents are not shared. Needs a tokio runtime around it.
///
/// # Errors
/// The key, what is wrong, and what to write.
pub(super) fn cluster_of(settings: &Settings) -> Result<Option<Membership>> {
    let Some(cluster) = settings.harbinger.shared_by() else {
        return Ok(None);
    };
    let key = format!("processors.{}.cluster", settings.processor);
    let agent_id = cluster.sharing.agent_id(edge::host::name().as_deref());
    let agent_id = agent_id.map_err(Error::msg).with_context(|| key.clone())?;
    #[cfg(feature = "kafka")]
    {
        let kafka = ClusterKafka::new(&format!("{key}, agent {agent_id}"), &cluster.kafka);
        let kafka = kafka.map_err(Error::msg).context(key)?;
        Ok(Some(Membership {
            cluster: Arc::new(kafka),
            agent_id,
            deadline: cluster.sharing.deadline,
        }))
    }
    #[cfg(not(feature = "kafka"))]
    {
        let _ = agent_id;
        Err(Error::msg(NO_KAFKA)).context(key)
    }
}
