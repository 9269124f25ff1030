//! One training, from what the scorer knows to what it judges by: a pure function that takes seconds.
//!
//! What enters: the templates that are admitted as usual, with their line counts. What leaves: a network, the templates it
//! knows, and for the first training what it would have made of each of them had it not known it. Promises: the same job
//! gives the same bits; no template is measured by a network that saw it. Absent on purpose: when to train, and what
//! becomes of old verdicts (`mod`).

use std::sync::Arc;

use fastrand::Rng;

use super::{
    Settings,
    autoencoder::{Autoencoder, Schedule},
    templates::Assessment,
};
use crate::engine::{embed::Embedding, text::TemplateKey};

/// Parts the templates are dealt into; each is measured by a network trained on the others.
const FOLDS: usize = 4;

/// Batches for the network that judges, and for each of those that only calibrate.
const STEPS: usize = 1000;
const FOLD_STEPS: usize = 600;

/// A template that is admitted as usual.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) key: TemplateKey,
    /// For reasons: what something new is nearest to.
    pub(super) text: Arc<str>,
    pub(super) embedding: Embedding,
    pub(super) lines: u64,
}

/// Everything a training needs.
#[derive(Clone, Debug)]
pub struct FitJob {
    pub(super) settings: Settings,
    /// Counts the trainings; also varies the seed.
    pub(super) generation: u32,
    /// The admitted templates, in order of their keys.
    pub(super) bank: Vec<Known>,
    /// Records seen when the job was made.
    pub(super) records: u64,
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The network that judges from now on.
    pub(super) autoencoder: Autoencoder,
    /// What it knows.
    pub(super) bank: Vec<Known>,
    /// For each of the bank, what it would have looked like when it was new. Empty after the first training.
    pub(super) held_out: Vec<(TemplateKey, Assessment)>,
    pub(super) generation: u32,
    pub(super) records: u64,
}

impl FitJob {
    /// Trains. Takes about a second for a thousand templates.
    pub fn run(self) -> Fitted {
        let seed = self.settings.seed.wrapping_add(u64::from(self.generation));
        let rows: Vec<&Embedding> = self.bank.iter().map(|known| &known.embedding).collect();
        // The square root keeps a template of a million lines from being all the network learns.
        let weights: Vec<f64> = self
            .bank
            .iter()
            .map(|known| (known.lines as f64).max(1.0).sqrt())
            .collect();
        let train = |rows: &[&Embedding], weights: &[f64], steps, seed| {
            Autoencoder::fit(rows, weights, self.settings.activation, &Schedule::Steps(steps), seed)
        };
        let autoencoder = train(&rows, &weights, STEPS, seed);
        let mut held_out = Vec::new();
        if self.generation == 1 && rows.len() >= 2 {
            let mut deal: Vec<usize> = (0..rows.len()).collect();
            Rng::with_seed(seed).shuffle(&mut deal);
            let folds = FOLDS.min(rows.len());
            for fold in 0..folds {
                let part = |inside: bool| {
                    let places = deal.iter().enumerate();
                    places.filter_map(move |(dealt, place)| ((dealt % folds == fold) == inside).then_some(*place))
                };
                let (others, their_weights): (Vec<&Embedding>, Vec<f64>) = part(false)
                    .filter_map(|place| Some((*rows.get(place)?, *weights.get(place)?)))
                    .unzip();
                let network = train(&others, &their_weights, FOLD_STEPS, seed.wrapping_add(1 + fold as u64));
                held_out.extend(part(true).filter_map(|place| {
                    let known = self.bank.get(place)?;
                    let (distance, nearest) = nearest(&self.bank, &known.embedding, Some(known.key));
                    let assessment = Assessment {
                        generation: self.generation,
                        error: network.error(&known.embedding),
                        distance,
                        nearest,
                    };
                    Some((known.key, assessment))
                }));
            }
        }
        Fitted {
            autoencoder,
            held_out,
            bank: self.bank,
            generation: self.generation,
            records: self.records,
        }
    }
}

/// Distance from the nearest of the bank other than `except`, and which it is; 0 for one that is in the bank.
fn nearest(bank: &[Known], embedding: &Embedding, except: Option<TemplateKey>) -> (f32, Option<TemplateKey>) {
    let mut best = (-1.0f32, None);
    for known in bank.iter().filter(|known| Some(known.key) != except) {
        let cosine = known.embedding.cosine(embedding);
        if cosine > best.0 {
            best = (cosine, Some(known.key));
        }
    }
    ((2.0 - 2.0 * best.0).max(0.0).sqrt(), best.1)
}

impl Fitted {
    /// What this judge makes of a template.
    pub(super) fn assess(&self, key: TemplateKey, embedding: &Embedding) -> Assessment {
        let (distance, nearest) = if self.knows(key) {
            (0.0, None)
        } else {
            nearest(&self.bank, embedding, None)
        };
        Assessment {
            generation: self.generation,
            error: self.autoencoder.error(embedding),
            distance,
            nearest,
        }
    }

    /// Whether it was trained on the template.
    pub(super) fn knows(&self, key: TemplateKey) -> bool {
        self.bank.binary_search_by_key(&key, |known| known.key).is_ok()
    }

    /// The text of a template of the bank, where texts are kept.
    pub(super) fn text(&self, key: TemplateKey) -> Option<&str> {
        let place = self.bank.binary_search_by_key(&key, |known| known.key).ok()?;
        self.bank
            .get(place)
            .map(|known| &*known.text)
            .filter(|text| !text.is_empty())
    }

    /// One sentence for the log.
    pub fn summary(&self) -> String {
        format!(
            "generation {}: trained on {} templates of {} records",
            self.generation,
            self.bank.len(),
            self.records
        )
    }
}
