//! One training, from what the scorer knows to what it judges by: a pure function that takes seconds.
//!
//! What enters: the templates that are admitted as usual, with their line counts, and the stream's novelty. What leaves:
//! a network and its calibration. Promises: the same job gives the same bits; no template's held-out error comes from a
//! network that saw it. Absent on purpose: when to train, and what becomes of old verdicts (`mod`).

use fastrand::Rng;

use super::{
    Settings,
    autoencoder::{Autoencoder, Schedule},
    calibration::Calibration,
};
use crate::engine::embed::Embedding;

/// Parts the templates are dealt into; each is measured by a network trained on the others.
const FOLDS: usize = 4;

/// Batches for the network that judges, and for each of those that only calibrate.
const STEPS: usize = 1000;
const FOLD_STEPS: usize = 600;

/// Everything a training needs.
#[derive(Clone, Debug)]
pub struct FitJob {
    pub(super) settings: Settings,
    /// Counts the trainings; also varies the seed.
    pub(super) generation: u32,
    /// Embedding and number of lines of each admitted template.
    pub(super) bank: Vec<(Embedding, u64)>,
    /// Share of recent lines whose template was new.
    pub(super) novelty: f64,
    /// Records seen when the job was made.
    pub(super) records: u64,
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The network that judges from now on.
    pub(super) autoencoder: Autoencoder,
    /// What is usual.
    pub(super) calibration: Calibration,
    /// The smallest error that is anomalous.
    pub(super) threshold: f64,
    pub(super) generation: u32,
    pub(super) templates: usize,
    pub(super) records: u64,
}

impl FitJob {
    /// Trains and calibrates. Takes about a second for a thousand templates.
    pub fn run(self) -> Fitted {
        let seed = self.settings.seed.wrapping_add(u64::from(self.generation));
        let rows: Vec<&Embedding> = self.bank.iter().map(|(embedding, _)| embedding).collect();
        // The square root keeps a template of a million lines from being all the network learns.
        let weights: Vec<f64> = self
            .bank
            .iter()
            .map(|(_, lines)| (*lines as f64).max(1.0).sqrt())
            .collect();
        let train = |rows: &[&Embedding], weights: &[f64], steps, seed| {
            Autoencoder::fit(rows, weights, self.settings.activation, &Schedule::Steps(steps), seed)
        };
        let autoencoder = train(&rows, &weights, STEPS, seed);
        let known = self
            .bank
            .iter()
            .map(|(embedding, lines)| (f64::from(autoencoder.relative_error(embedding)), *lines as f64));

        let mut deal: Vec<usize> = (0..rows.len()).collect();
        Rng::with_seed(seed).shuffle(&mut deal);
        let mut held_out = Vec::with_capacity(rows.len());
        let folds = if rows.len() < 2 { 0 } else { FOLDS.min(rows.len()) };
        for fold in 0..folds {
            let part = |inside: bool| {
                let places = deal
                    .iter()
                    .enumerate()
                    .filter(move |(dealt, _)| (dealt % folds == fold) == inside);
                places.filter_map(|(_, place)| Some((*rows.get(*place)?, *weights.get(*place)?)))
            };
            let (others, their_weights): (Vec<&Embedding>, Vec<f64>) = part(false).unzip();
            let network = train(&others, &their_weights, FOLD_STEPS, seed.wrapping_add(1 + fold as u64));
            held_out.extend(part(true).map(|(embedding, _)| f64::from(network.relative_error(embedding))));
        }
        let alpha = self.settings.alpha();
        let calibration = Calibration::new(known.collect(), held_out, self.novelty, alpha);
        Fitted {
            threshold: calibration.threshold(alpha),
            templates: rows.len(),
            autoencoder,
            calibration,
            generation: self.generation,
            records: self.records,
        }
    }
}

impl Fitted {
    /// One sentence for the log.
    pub fn summary(&self) -> String {
        let tail = if self.calibration.tail_fitted() {
            ", too few to resolve the percentile: their tail is fitted"
        } else {
            ""
        };
        format!(
            "generation {}: trained on {} templates of {} records; anomalous above error {:.3} (from {} held-out errors{tail})",
            self.generation,
            self.templates,
            self.records,
            self.threshold,
            self.calibration.units(),
        )
    }
}
