//! What a pipeline is built from.
//!
//! What enters: the halves of the engine, and what stands around them. What leaves: the same, in one hand. Absent on purpose: how it is wired.

use std::sync::Arc;

use super::{Mode, cluster::Membership, embedding};
use crate::{
    edge::{Exporter, Store},
    engine::{embed::Embedder, front::Front, tenants::Tenants},
    telemetry::Metrics,
};

/// What the pipeline is built from.
pub struct Parts {
    /// Reads requests, writes verdicts.
    pub front: Front,
    /// What was learned so far.
    pub state: Tenants,
    /// The caller's header that names the tenant of its records, if one does.
    pub tenant_header: Option<String>,
    /// The model, if it could be loaded.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// How embeddings are waited for.
    pub embedding: embedding::Settings,
    /// What to do with verdicts at first.
    pub mode: Mode,
    /// The way out.
    pub exporter: Arc<dyn Exporter>,
    /// Where what is learned survives; `None` keeps it in memory only.
    pub store: Option<Arc<dyn Store>>,
    /// Epoch of the journal that is being written.
    pub epoch: u64,
    /// The agents whose incidents are this one's too, if there are such.
    pub cluster: Option<Membership>,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
}
