//! What was said of records, counted by service.
//!
//! What enters: batches with their verdicts, and requests that pass unjudged. What leaves: `judged_log_records`, and in shadow
//! mode `shadow_log_records`. Promises: one addition for each verdict of each service of a request, never one a record; at
//! most [`MAX_SERVICES`] names, whatever callers call themselves. Absent on purpose: tenants, who may be many and whose names
//! are nobody else's business.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    engine::{
        front::{Batch, Treatment, UNKNOWN_SERVICE},
        verdict::Verdicts,
        view::{Resource, View},
    },
    telemetry::{Counter, Family, Metrics},
};

/// Services that are counted apart.
const MAX_SERVICES: usize = 200;
/// What further ones are counted as.
const OTHER: &str = "_other";
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// What can be said of a record, in the order of [`Counts`].
const VERDICTS: [&str; 5] = ["normal", "anomalous", "warming_up", "degraded", "bypassed"];

#[derive(Clone, Copy)]
enum Verdict {
    Normal,
    Anomalous,
    WarmingUp,
    Degraded,
    Bypassed,
}

/// Records of a service by verdict.
type Counts = [u64; VERDICTS.len()];

/// See the module.
pub(super) struct Judged {
    metrics: Arc<Metrics>,
    judged: Services,
    shadow: Services,
}

impl Judged {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            judged: Services::default(),
            shadow: Services::default(),
        }
    }

    /// These verdicts were written.
    pub(super) fn count(&self, batch: &Batch, verdicts: &Verdicts) {
        self.judged
            .add(&self.metrics.judged_log_records, by_service(batch, verdicts));
    }

    /// These verdicts were made, and the records pass without.
    pub(super) fn count_shadow(&self, batch: &Batch, verdicts: &Verdicts) {
        self.shadow
            .add(&self.metrics.shadow_log_records, by_service(batch, verdicts));
    }

    /// All of it passes as it came.
    pub(super) fn bypass(&self, view: &View<'_>) {
        let mut counted: Vec<(Arc<str>, Counts)> = Vec::new();
        for (index, records) in view.record_counts().enumerate() {
            let resource = view.resource(index);
            let name = resource
                .as_ref()
                .and_then(Resource::service_name)
                .unwrap_or(UNKNOWN_SERVICE);
            let mut counts = Counts::default();
            add(&mut counts, Verdict::Bypassed, records as u64);
            counted.push((Arc::from(name), counts));
        }
        self.judged.add(&self.metrics.judged_log_records, counted);
    }
}

fn add(counts: &mut Counts, verdict: Verdict, records: u64) {
    if let Some(count) = counts.get_mut(verdict as usize) {
        *count += records;
    }
}

/// The records of each service, by what is said of them.
fn by_service(batch: &Batch, verdicts: &Verdicts) -> Vec<(Arc<str>, Counts)> {
    let mut unjudged = vec![Verdict::Normal; batch.templates.len()];
    for (indices, verdict) in [
        (&verdicts.warming_up, Verdict::WarmingUp),
        (&verdicts.degraded, Verdict::Degraded),
    ] {
        for index in indices {
            if let Some(of_template) = unjudged.get_mut(*index as usize) {
                *of_template = verdict;
            }
        }
    }
    let mut anomalies = verdicts.anomalies.iter().map(|(index, _)| *index as usize).peekable();
    let mut counted = vec![Counts::default(); batch.services.len()];
    for (index, record) in batch.records.iter().enumerate() {
        let is_anomalous = anomalies.next_if_eq(&index).is_some();
        let verdict = match record.treatment {
            Treatment::Judge { .. } if is_anomalous => Verdict::Anomalous,
            Treatment::Judge { template } => unjudged.get(template as usize).copied().unwrap_or(Verdict::Normal),
            Treatment::Ignore => Verdict::Normal,
            Treatment::Exclude => Verdict::Bypassed,
        };
        if let Some(counts) = counted.get_mut(record.service as usize) {
            add(counts, verdict, 1);
        }
    }
    let names = batch.services.iter().map(|service| Arc::clone(&service.name));
    names.zip(counted).collect()
}

/// The counters of a service, by verdict.
type Counters = Arc<[Arc<Counter>; VERDICTS.len()]>;

/// The counters of the services that have been seen.
#[derive(Default)]
struct Services(Mutex<HashMap<Arc<str>, Counters>>);

impl Services {
    fn add(&self, family: &Family<Counter, 2>, counted: Vec<(Arc<str>, Counts)>) {
        for (service, counts) in counted {
            let counters = self.counters(family, service);
            for (counter, count) in counters.iter().zip(counts).filter(|(_, count)| *count > 0) {
                counter.add(count);
            }
        }
    }

    fn counters(&self, family: &Family<Counter, 2>, service: Arc<str>) -> Counters {
        let name = service
            .get(..service.floor_char_boundary(MAX_NAME_BYTES))
            .unwrap_or(&service);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if known.contains_key(name) || known.len() < MAX_SERVICES {
            name
        } else {
            OTHER
        };
        if let Some(counters) = known.get(name) {
            return Arc::clone(counters);
        }
        // All verdicts at once: a rate needs a first value to grow from.
        let counters = Arc::new(VERDICTS.map(|verdict| family.of([name, verdict])));
        known.insert(Arc::from(name), Arc::clone(&counters));
        counters
    }
}
