//! What is remembered of each template for the report: how often it was said, and how badly the network reproduced it.
//!
//! What enters: judged requests. What leaves: the map's points, and how reconstruction errors are distributed. Promises:
//! bounded: beyond [`MAX_SEEN`] templates only anomalous ones are taken, up to twice as many. Absent on purpose: which
//! of them the engine has forgotten since; those have no embedding any more and so no place on the map.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use anyhow::Result;
use serde::Serialize;

use super::{super::listing::Listing, map::Map, scores::rounded};
use crate::{
    commands::offline::Outcome,
    engine::{front::Batch, score::Detector, state::State, text::TemplateKey},
};

/// Templates that are remembered.
const MAX_SEEN: usize = 16_384;
/// Templates on the map.
const MAX_SHOWN: usize = 5000;
/// Width of the spans that errors are counted in, and how many there may be.
const ERROR_STEP: f64 = 0.02;
const MAX_ERROR_STEPS: usize = 100;

/// A template.
#[derive(Clone, Debug)]
struct Seen {
    text: Arc<str>,
    /// Who said it first.
    service: Arc<str>,
    records: u64,
    anomalous_records: u64,
    /// The largest error of its reconstruction, as far as it was judged.
    error: Option<f64>,
    /// The incident of its first anomalous record, else the first that it was context of: its number.
    incident: Option<(bool, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Templates {
    seen: BTreeMap<TemplateKey, Seen>,
}

/// The distribution as it is written.
#[derive(Debug, Serialize)]
pub struct WrittenErrors {
    of: &'static str,
    edges: Vec<f64>,
    usual: Vec<u64>,
    anomalous: Vec<u64>,
    threshold: Option<f64>,
}

/// The map as it is written.
#[derive(Debug, Serialize)]
pub struct WrittenMap {
    explained: [f64; 2],
    templates: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    x: f64,
    y: f64,
    key: String,
    text: String,
    service: String,
    records: u64,
    anomalous_records: u64,
    incident_id: String,
}

impl Templates {
    /// Takes a request that was judged.
    pub fn note(&mut self, batch: &Batch, outcomes: &[Outcome]) {
        for (record, outcome) in batch.records.iter().zip(outcomes) {
            let template = record.template().and_then(|template| batch.templates.get(template));
            let service = batch.services.get(record.service as usize);
            let (Some(template), Some(service)) = (template, service) else {
                continue;
            };
            let room = if outcome.is_anomaly { 2 * MAX_SEEN } else { MAX_SEEN };
            if self.seen.len() >= room && !self.seen.contains_key(&template.key) {
                continue;
            }
            let seen = self.seen.entry(template.key).or_insert_with(|| Seen {
                text: Arc::clone(&template.text),
                service: Arc::clone(&service.name),
                records: 0,
                anomalous_records: 0,
                error: None,
                incident: None,
            });
            seen.records += 1;
            seen.anomalous_records += u64::from(outcome.is_anomaly);
            if outcome.score.is_some() {
                let contribution = outcome.evidence.get(Detector::Autoencoder.index());
                let error = contribution.map(|contribution| Detector::Autoencoder.value_of(*contribution));
                seen.error = seen.error.into_iter().chain(error).reduce(f64::max);
            }
            if let Some(incident) = outcome.forwarded
                && seen
                    .incident
                    .is_none_or(|(is_anomaly, _)| outcome.is_anomaly && !is_anomaly)
            {
                seen.incident = Some((outcome.is_anomaly, incident.to_raw()));
            }
        }
    }

    /// The text of a template; empty for one that is not remembered.
    pub fn text(&self, key: TemplateKey) -> &str {
        self.seen.get(&key).map_or("", |seen| &*seen.text)
    }

    /// How the errors of reconstruction are distributed; `None` where nothing was judged by them.
    pub fn errors(&self) -> Option<WrittenErrors> {
        let errors = self
            .seen
            .values()
            .filter_map(|seen| Some((seen.error?, seen.anomalous_records > 0)));
        let (mut usual, mut anomalous) = (Vec::new(), Vec::new());
        for (error, is_anomalous) in errors {
            let step = ((error.max(0.0) / ERROR_STEP) as usize).min(MAX_ERROR_STEPS - 1);
            let counts = if is_anomalous { &mut anomalous } else { &mut usual };
            if counts.len() <= step {
                counts.resize(step + 1, 0u64);
            }
            if let Some(count) = counts.get_mut(step) {
                *count += 1;
            }
        }
        let steps = usual.len().max(anomalous.len());
        usual.resize(steps, 0);
        anomalous.resize(steps, 0);
        (steps > 0).then(|| WrittenErrors {
            of: "templates",
            edges: (0..=steps).map(|step| rounded(step as f64 * ERROR_STEP)).collect(),
            usual,
            anomalous,
            // No error alone makes a record anomalous.
            threshold: None,
        })
    }

    /// The map of those whose meaning is known, the anomalous first and the frequent next; `text` may leave one out.
    ///
    /// # Errors
    /// The axes could not be found.
    pub fn map(&self, state: &State, listing: &Listing, text: impl Fn(&str) -> String) -> Result<WrittenMap> {
        let mut shown: Vec<_> = state
            .embeddings()
            .filter_map(|(key, embedding)| Some((key, embedding, self.seen.get(&key)?)))
            .collect();
        // Stable: equals stay in order of their keys.
        shown.sort_by_key(|(_, _, seen)| (seen.anomalous_records == 0, Reverse(seen.records)));
        shown.truncate(MAX_SHOWN);
        let embeddings: Vec<_> = shown.iter().map(|(_, embedding, _)| *embedding).collect();
        let map = Map::of(&embeddings)?;
        let name_of = |number: u64| {
            let entry = listing.place(number).and_then(|place| listing.entries.get(place));
            entry.map(|entry| entry.name.clone())
        };
        Ok(WrittenMap {
            explained: map.explained.map(rounded),
            templates: (shown.iter().zip(map.points))
                .map(|((key, _, seen), [x, y])| Point {
                    x: rounded(x),
                    y: rounded(y),
                    key: key.to_string(),
                    text: text(&seen.text),
                    service: seen.service.to_string(),
                    records: seen.records,
                    anomalous_records: seen.anomalous_records,
                    incident_id: seen
                        .incident
                        .and_then(|(_, number)| name_of(number))
                        .unwrap_or_default(),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        front::{BatchService, BatchTemplate, Observation, Treatment},
        score::DETECTORS,
    };

    fn note(templates: &mut Templates, key: u64, is_anomaly: bool, error: f64) {
        let batch = Batch {
            services: vec![BatchService {
                tenant: 0,
                name: Arc::from("shop"),
            }],
            templates: vec![BatchTemplate {
                key: TemplateKey(key),
                text: Arc::from("text"),
                records: 1,
            }],
            records: vec![Observation {
                time_unix_nano: 1,
                service: 0,
                treatment: Treatment::Judge { template: 0 },
                severity_number: 9,
                ids: (0, 0),
                delay_nano: 0,
            }],
            ..Batch::default()
        };
        let mut evidence = [0.0; DETECTORS];
        if let Some(said) = evidence.get_mut(Detector::Autoencoder.index()) {
            *said = error / Detector::Autoencoder.value_of(1.0);
        }
        let outcome = Outcome {
            is_anomaly,
            score: Some(0.0),
            evidence,
            ..Outcome::default()
        };
        templates.note(&batch, &[outcome]);
    }

    #[test]
    fn each_template_is_counted_once_by_its_largest_error() {
        let mut templates = Templates::default();
        for (key, is_anomaly, error) in [
            (1, false, 0.05),
            (1, false, 0.031),
            (2, false, 0.01),
            (3, true, 0.07),
            (3, false, 0.01),
            (4, true, 99.0),
        ] {
            note(&mut templates, key, is_anomaly, error);
        }
        let errors = templates.errors();
        let counts = |of: fn(&WrittenErrors) -> &Vec<u64>| {
            errors
                .as_ref()
                .map(|errors| of(errors).iter().take(4).copied().collect())
        };
        assert_eq!(counts(|errors| &errors.usual), Some(vec![1u64, 0, 1, 0]));
        assert_eq!(counts(|errors| &errors.anomalous), Some(vec![0u64, 0, 0, 1]));
        assert_eq!(
            errors.map(|errors| (errors.edges.len(), errors.anomalous.iter().sum::<u64>())),
            Some((MAX_ERROR_STEPS + 1, 2))
        );
        assert!(Templates::default().errors().is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_is_anomalous_finds_room() {
        let mut templates = Templates::default();
        for key in 0..3 * MAX_SEEN as u64 {
            note(&mut templates, key, false, 0.1);
        }
        assert_eq!(templates.seen.len(), MAX_SEEN);
        for key in 0..3 * MAX_SEEN as u64 {
            note(&mut templates, key, true, 0.1);
        }
        assert_eq!(templates.seen.len(), 2 * MAX_SEEN);
        assert_eq!(
            (templates.text(TemplateKey(0)), templates.text(TemplateKey(u64::MAX))),
            ("text", "")
        );
    }
}
