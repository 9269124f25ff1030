//! What is said of the records of one batch, stored sparsely: what is not mentioned is normal and in no incident.
//!
//! What enters: scores and incidents, by index into the batch. What leaves: the same, looked up. Absent on purpose:
//! texts and times, which the batch has.

use super::{correlate::IncidentId, score::Score};

/// What is said of a template when it is not simply normal.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateVerdict {
    /// The template is anomalous.
    Anomalous(Score),
    /// There was no embedding to judge by.
    Degraded,
}

/// Whether the verdicts of a batch rest on a trained model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// Still learning what is normal: nothing is called anomalous.
    #[default]
    WarmingUp,
    /// Judged by the trained model.
    Model,
}

/// The verdicts of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// What they rest on.
    pub basis: Basis,
    /// Template index and verdict, ascending by index.
    pub templates: Vec<(u32, TemplateVerdict)>,
    /// Record index and incident, ascending by index.
    pub incidents: Vec<(u32, IncidentId)>,
}

impl Verdicts {
    /// The verdict of every template of a batch of `count` templates; `None` is normal.
    pub fn by_template(&self, count: usize) -> Vec<Option<&TemplateVerdict>> {
        spread(count, self.templates.iter().map(|(index, verdict)| (*index, verdict)))
    }

    /// The incident of every record of a batch of `count` records.
    pub fn by_record(&self, count: usize) -> Vec<Option<IncidentId>> {
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
