//! What is said of the records of one batch, stored sparsely: what is not mentioned is normal and in no incident.
//!
//! What enters: anomalies and incidents, by index into the batch. What leaves: the same, looked up. Absent on purpose:
//! texts and times, which the batch has.

use std::sync::Arc;

use super::{correlate::IncidentId, score::Anomaly};

/// The verdicts of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// Indices of the templates whose tenant still learns what is normal, ascending: nothing of them is called anomalous.
    pub warming_up: Vec<u32>,
    /// Indices of the templates for which there was no embedding to judge by, ascending.
    pub degraded: Vec<u32>,
    /// Record index and anomaly, ascending by index.
    pub anomalies: Vec<(u32, Arc<Anomaly>)>,
    /// Record index and incident, ascending by index.
    pub incidents: Vec<(u32, IncidentId)>,
}

impl Verdicts {
    /// Why each of a batch's `count` templates could not be judged: the attribute's value; `None` where it was.
    pub fn unjudged_by_template(&self, count: usize) -> Vec<Option<&'static str>> {
        let warming_up = self.warming_up.iter().map(|index| (*index, "warming_up"));
        let degraded = self.degraded.iter().map(|index| (*index, "degraded"));
        spread(count, warming_up.chain(degraded))
    }

    /// How many records and templates it mentions: what it takes in memory, and 0 where there is nothing to say.
    pub fn mentions(&self) -> usize {
        self.warming_up.len() + self.degraded.len() + self.anomalies.len() + self.incidents.len()
    }

    /// Brings everything into ascending order, after parts were put together.
    pub fn sort(&mut self) {
        self.warming_up.sort_unstable();
        self.degraded.sort_unstable();
        self.anomalies.sort_by_key(|(index, _)| *index);
        self.incidents.sort_by_key(|(index, _)| *index);
    }

    /// The anomaly of every record of a batch of `count` records; `None` is normal.
    pub fn anomaly_by_record(&self, count: usize) -> Vec<Option<&Arc<Anomaly>>> {
        spread(count, self.anomalies.iter().map(|(index, anomaly)| (*index, anomaly)))
    }

    /// The incident of every record of a batch of `count` records.
    pub fn incident_by_record(&self, count: usize) -> Vec<Option<IncidentId>> {
        spread(count, self.incidents.iter().copied())
    }
}

fn spread<T: Clone>(count: usize, sparse: impl Iterator<Item = (u32, T)>) -> Vec<Option<T>> {
    let mut dense = vec![None; count];
    for (index, value) in sparse {
        if let Some(slot) = dense.get_mut(index as usize) {
            *slot = Some(value);
        }
    }
    dense
}
