//! Incidents that are over, for as long as there is room.
//!
//! What enters: incidents as they end. What leaves: the latest of them. Promises: bounded in number and in bytes; what is
//! forgotten first is the oldest of the tenant with the most, so that a noisy one costs the others nothing. Absent on
//! purpose: open incidents.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    edge::Told,
    engine::{
        correlate::{Incident, TemplateCount},
        tenant::Tenant,
    },
};

/// Incidents that are kept.
const MAX_INCIDENTS: usize = 10_000;
/// Bytes of them, texts that are shared counted each time.
const MAX_BYTES: usize = 32 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// In the order they ended.
    by_tenant: BTreeMap<Tenant, VecDeque<Arc<Incident>>>,
    incidents: usize,
    bytes: usize,
}

impl Past {
    /// One more is over.
    pub fn add(&mut self, tenant: &Tenant, incident: Arc<Incident>) {
        self.incidents += 1;
        self.bytes += bytes_of(&incident);
        self.by_tenant.entry(tenant.clone()).or_default().push_back(incident);
        while self.incidents > MAX_INCIDENTS || self.bytes > MAX_BYTES {
            let Some(most) = self.by_tenant.values_mut().max_by_key(|incidents| incidents.len()) else {
                return;
            };
            let Some(forgotten) = most.pop_front() else { return };
            self.incidents -= 1;
            self.bytes -= bytes_of(&forgotten);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.incidents
    }

    /// All of them, in the order they ended, for each tenant.
    pub fn all(&self) -> impl Iterator<Item = Told> {
        self.by_tenant.iter().flat_map(|(tenant, incidents)| {
            incidents.iter().map(|incident| Told {
                tenant: tenant.clone(),
                incident: Arc::clone(incident),
            })
        })
    }
}

/// About what it takes in memory.
fn bytes_of(incident: &Incident) -> usize {
    let texts = [&incident.leading_edge, &incident.worst]
        .map(|record| record.text.len() + record.service.len() + record.reason.len());
    let templates = incident.templates.iter().map(|template| {
        let spans = size_of_val(template.course.records());
        size_of::<TemplateCount>() + template.text.len() + template.service.len() + spans
    });
    let services = incident.services.iter().map(|service| 48 + service.len());
    size_of::<Incident>()
        + texts.iter().sum::<usize>()
        + templates.sum::<usize>()
        + services.sum::<usize>()
        + 8 * incident.aliases.len()
}
