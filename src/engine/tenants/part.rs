//! A batch of several tenants, taken apart and put together again.
//!
//! What enters: a batch, and the verdicts of its parts. What leaves: a batch for each tenant, and the verdicts of the whole.
//! Promise: every record, service and template is where it was. Absent on purpose: verdicts.

use std::sync::Arc;

use crate::engine::{
    embed::Embedding,
    front::{Batch, BatchService, Observation, Treatment},
    verdict::Verdicts,
};

/// A tenant's part of a batch, as a batch of its own, and where everything in it stood.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) batch: Batch,
    services: Vec<u32>,
    templates: Vec<u32>,
    records: Vec<u32>,
}

impl Part {
    /// The parts of a batch, in the order of its tenants.
    pub(super) fn all(batch: &Batch) -> Vec<Self> {
        let mut parts: Vec<Self> = batch.tenants.iter().map(|_| Self::default()).collect();
        // Services and templates belong to one tenant each: where they stand in its part.
        let mut services: Vec<Option<u32>> = vec![None; batch.services.len()];
        let mut templates: Vec<Option<u32>> = vec![None; batch.templates.len()];
        for (place, record) in (0..).zip(&batch.records) {
            let service = batch.services.get(record.service as usize);
            let Some((service, part)) =
                service.and_then(|service| Some((service, parts.get_mut(service.tenant as usize)?)))
            else {
                continue;
            };
            let Some(known) = services.get_mut(record.service as usize) else {
                continue;
            };
            let of_service = *known.get_or_insert_with(|| {
                part.services.push(record.service);
                part.batch.services.push(BatchService {
                    tenant: 0,
                    name: Arc::clone(&service.name),
                });
                (part.services.len() - 1) as u32
            });
            let treatment = match record.treatment {
                Treatment::Judge { template } => {
                    let Some((known, said)) = templates
                        .get_mut(template as usize)
                        .zip(batch.templates.get(template as usize))
                    else {
                        continue;
                    };
                    let template = *known.get_or_insert_with(|| {
                        part.templates.push(template);
                        part.batch.templates.push(said.clone());
                        (part.templates.len() - 1) as u32
                    });
                    Treatment::Judge { template }
                }
                other => other,
            };
            part.records.push(place);
            part.batch.records.push(Observation {
                service: of_service,
                treatment,
                ..*record
            });
        }
        parts
    }

    /// The embeddings of this part's templates, of those of the whole.
    pub(super) fn embeddings(&self, all: &[Option<Embedding>]) -> Vec<Option<Embedding>> {
        let places = self.templates.iter();
        places
            .map(|place| all.get(*place as usize).cloned().flatten())
            .collect()
    }

    /// What is said of this part, of what is said of the whole; but for incidents.
    pub(super) fn take_out(&self, all: &Verdicts) -> Verdicts {
        let within = |places: &[u32], said: &[u32]| -> Vec<u32> {
            let places = (0..).zip(places);
            places
                .filter(|(_, place)| said.contains(place))
                .map(|(at, _)| at)
                .collect()
        };
        let anomalies = self.records.iter().zip(0..).filter_map(|(place, at)| {
            let found = all.anomalies.binary_search_by_key(place, |(place, _)| *place).ok()?;
            Some((at, Arc::clone(&all.anomalies.get(found)?.1)))
        });
        Verdicts {
            warming_up: within(&self.templates, &all.warming_up),
            degraded: within(&self.templates, &all.degraded),
            anomalies: anomalies.collect(),
            incidents: Vec::new(),
        }
    }

    /// Adds the verdicts of this part to those of the whole, each at its place there.
    pub(super) fn put_back(&self, verdicts: Verdicts, all: &mut Verdicts) {
        let at = |places: &[u32], index: u32| places.get(index as usize).copied();
        let template = |index: u32| at(&self.templates, index);
        all.degraded.extend(verdicts.degraded.into_iter().filter_map(template));
        all.warming_up
            .extend(verdicts.warming_up.into_iter().filter_map(template));
        let anomalies = verdicts.anomalies.into_iter();
        all.anomalies
            .extend(anomalies.filter_map(|(index, anomaly)| Some((at(&self.records, index)?, anomaly))));
        let incidents = verdicts.incidents.into_iter();
        all.incidents
            .extend(incidents.filter_map(|(index, incident)| Some((at(&self.records, index)?, incident))));
    }
}
