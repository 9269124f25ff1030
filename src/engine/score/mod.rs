//! Room 4: how unusual a template is, and whether that is anomalous. What enters: templates as they are seen, with
//! embeddings or without. What leaves: scores, and trainings that are due.
//!
//! A stream begins in `WarmingUp` and stays there until it has said enough ([`Settings::warm_up_records`],
//! [`Settings::warm_up_templates`]) and says little that is new (2 % of recent records at most, nine templates of ten embedded): by evidence, never by the
//! clock. Then a network is trained and calibrated on what was said ([`FitJob`]), and templates are judged, each once: a
//! template keeps its verdict, or the second line of a new error would look usual. Templates that are not anomalous join
//! what is usual once they are known for five minutes; training is repeated as that grows.
//!
//! Promises: deterministic; bounded (the template not seen for longest is forgotten first, and counted). Absent on
//! purpose: other detectors than the autoencoder; each will be a file of its own.

mod autoencoder;
mod calibration;
mod detector;
mod fit;
mod notebook;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{embed::Embedding, text::TemplateKey};
pub use autoencoder::Activation;
pub use detector::Detector;
pub use fit::{FitJob, Fitted};
pub use notebook::{notebook_verdicts, percentile};
pub use state::{ScorerState, UnusableState};

/// A template is taken for usual only once it has been known for so long.
const MATURE_NANO: u64 = 300 * 1_000_000_000;

/// A flagged template that is still said after so long is not news any more.
const QUARANTINE_NANO: u64 = 6 * 3600 * 1_000_000_000;

/// Share of recent records with a new template up to which a stream counts as settled.
const SETTLED_NOVELTY: f64 = 0.02;

/// An unsettled stream is judged all the same after so many times the records that were asked for.
const UNSETTLED_FACTOR: u64 = 10;

/// Templates a training takes at most: those said most often.
const MAX_BANK: usize = 4096;

/// How templates are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Output of the autoencoder.
    pub activation: Activation,
    /// Share of a healthy stream's lines, in percent, whose score stays below the threshold.
    pub percentile: f64,
    /// Records needed before the first training.
    pub warm_up_records: u64,
    /// Templates needed before the first training.
    pub warm_up_templates: usize,
    /// Templates remembered.
    pub max_templates: usize,
    /// Start of all randomness in training.
    pub seed: u64,
    /// Detectors that have a say.
    pub detectors: Vec<Detector>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            activation: Activation::Linear,
            percentile: 99.9,
            warm_up_records: 500,
            warm_up_templates: 8,
            max_templates: 20_000,
            seed: 0,
            detectors: Detector::ALL.to_vec(),
        }
    }
}

impl Settings {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !(50.0..100.0).contains(&self.percentile) {
            return Err(format!(
                "percentile: {} is not between 50 and 100; write 99.9",
                self.percentile
            ));
        }
        if self.warm_up_records == 0 || self.warm_up_templates < 2 {
            return Err(
                "warm_up_records, warm_up_templates: nothing is learned from nothing; write 500 and 8".to_owned(),
            );
        }
        if self.max_templates < self.warm_up_templates {
            return Err(format!(
                "max_templates: less than warm_up_templates ({}); write 20000",
                self.warm_up_templates
            ));
        }
        if self.detectors.is_empty() {
            return Err("detectors: without one nothing is judged; leave the key out for all of them".to_owned());
        }
        Ok(())
    }

    /// Share of healthy lines that may be called anomalous.
    fn alpha(&self) -> f64 {
        1.0 - self.percentile / 100.0
    }
}

/// How far learning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// More has to be seen before the first training.
    WarmingUp {
        /// Records so far.
        records_seen: u64,
        /// Records at which the stream is looked at next; it may turn out not to be settled.
        records_needed: u64,
        /// Embedded templates so far.
        templates_seen: usize,
        /// Embedded templates that are needed.
        templates_needed: usize,
    },
    /// The first training is under way.
    Fitting,
    /// Templates are judged.
    Ready {
        /// Counts the trainings.
        generation: u32,
    },
}

/// What is thought of a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// 0 to 1, the share of a healthy stream's lines that are less unusual.
    pub value: f64,
    /// Relative error of the reconstruction.
    pub error: f64,
    /// Whether the value exceeds the percentile.
    pub anomalous: bool,
    /// Why, in a few words; only when anomalous.
    pub reason: Option<Arc<str>>,
}

/// What is remembered of a template.
#[derive(Clone, Debug, PartialEq)]
struct Template {
    text: Arc<str>,
    embedding: Option<Embedding>,
    lines: u64,
    first_seen_unix_nano: u64,
    last_seen_unix_nano: u64,
    /// Number of the record it was first seen with.
    first_record: u64,
    /// When it was last seen, counted in observations: the smallest is forgotten first.
    touched: u64,
    verdict: Option<Score>,
}

impl Template {
    fn flagged(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.anomalous)
    }
}

/// The serial state of scoring.
#[derive(Clone, Debug, PartialEq)]
pub struct Scorer {
    settings: Settings,
    templates: BTreeMap<TemplateKey, Template>,
    /// Templates by `touched`.
    by_touch: BTreeSet<(u64, TemplateKey)>,
    observations: u64,
    records: u64,
    embedded: usize,
    latest_unix_nano: u64,
    /// Records at which the stream is looked at next.
    look_at: u64,
    /// Records that the first training had seen; 0 before it.
    warm_up_records: u64,
    judge: Option<Fitted>,
    fitting: bool,
    evicted: u64,
}

impl Scorer {
    /// A scorer that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            look_at: settings.warm_up_records,
            settings,
            templates: BTreeMap::new(),
            by_touch: BTreeSet::new(),
            observations: 0,
            records: 0,
            embedded: 0,
            latest_unix_nano: 0,
            warm_up_records: 0,
            judge: None,
            fitting: false,
            evicted: 0,
        }
    }

    /// A template was seen with `count` records, the latest at `time_unix_nano`. The embedding may be missing, and come
    /// with a later call (of count 0, if need be).
    pub fn observe(
        &mut self,
        key: TemplateKey,
        text: impl FnOnce() -> Arc<str>,
        embedding: Option<&Embedding>,
        count: u64,
        time_unix_nano: u64,
    ) {
        self.observations += 1;
        self.latest_unix_nano = self.latest_unix_nano.max(time_unix_nano);
        let (now, record) = (self.observations, self.records);
        self.records = self.records.saturating_add(count);
        let template = self.templates.entry(key).or_insert_with(|| Template {
            text: text(),
            embedding: None,
            lines: 0,
            first_seen_unix_nano: time_unix_nano,
            last_seen_unix_nano: time_unix_nano,
            first_record: record,
            touched: now,
            verdict: None,
        });
        self.by_touch.remove(&(template.touched, key));
        self.by_touch.insert((now, key));
        template.touched = now;
        template.lines = template.lines.saturating_add(count);
        template.last_seen_unix_nano = template.last_seen_unix_nano.max(time_unix_nano);
        if template.embedding.is_none() && embedding.is_some() {
            template.embedding = embedding.cloned();
            self.embedded += 1;
        }
        self.forget_beyond_bound();
    }

    fn forget_beyond_bound(&mut self) {
        while self.templates.len() > self.settings.max_templates {
            let Some((_, key)) = self.by_touch.pop_first() else {
                return;
            };
            if let Some(forgotten) = self.templates.remove(&key) {
                self.evicted += 1;
                self.embedded -= usize::from(forgotten.embedding.is_some());
            }
        }
    }

    /// The template's score; `None` while warming up, for an unknown template, and without an embedding.
    pub fn judge(&mut self, key: TemplateKey) -> Option<Score> {
        let judge = self.judge.as_ref()?;
        let template = self.templates.get_mut(&key)?;
        let embedding = template.embedding.as_ref()?;
        // What was said in warm-up is usual, also when its embedding came too late for the training.
        let alpha = if template.first_record < self.warm_up_records {
            0.0
        } else {
            self.settings.alpha()
        };
        let verdict = template.verdict.get_or_insert_with(|| verdict(judge, alpha, embedding));
        Some(verdict.clone())
    }

    /// How far learning has come.
    pub fn phase(&self) -> Phase {
        match &self.judge {
            Some(judge) => Phase::Ready {
                generation: judge.generation,
            },
            None if self.fitting => Phase::Fitting,
            None => Phase::WarmingUp {
                records_seen: self.records,
                records_needed: self.look_at,
                templates_seen: self.embedded,
                templates_needed: self.settings.warm_up_templates,
            },
        }
    }

    /// The training that is due now, if one is. There is one at a time: the next after [`Scorer::install`].
    pub fn take_fit(&mut self) -> Option<FitJob> {
        if self.fitting || !self.fit_is_due() {
            return None;
        }
        Some(self.start_fit())
    }

    /// A training on whatever was seen; `None` when nothing was, or one is under way.
    pub fn force_fit(&mut self) -> Option<FitJob> {
        if self.fitting || self.embedded == 0 {
            return None;
        }
        Some(self.start_fit())
    }

    /// A training has ended: templates are judged by it from now on. Verdicts that were given stay.
    pub fn install(&mut self, fitted: Fitted) {
        self.fitting = false;
        for template in self.templates.values_mut() {
            // What was quarantined long enough is usual now, and judged anew.
            if template.flagged() && outlived_quarantine(template) {
                template.verdict = None;
            }
        }
        if self.judge.is_none() {
            self.warm_up_records = fitted.records;
        }
        self.judge = Some(fitted);
    }

    /// Templates with embeddings, in order of their keys.
    pub fn embeddings(&self) -> impl Iterator<Item = (TemplateKey, &Embedding)> {
        self.templates
            .iter()
            .filter_map(|(key, template)| Some((*key, template.embedding.as_ref()?)))
    }

    /// Templates remembered.
    pub fn templates(&self) -> usize {
        self.templates.len()
    }

    /// Templates forgotten so far for want of room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn fit_is_due(&mut self) -> bool {
        match &self.judge {
            None => {
                // Nine of ten: a few may fail or be too new; judging by what is half known would call the rest news.
                let all_embedded = self.embedded * 10 >= self.templates.len() * 9;
                if self.records < self.look_at || self.embedded < self.settings.warm_up_templates || !all_embedded {
                    return false;
                }
                let patience = self.settings.warm_up_records.saturating_mul(UNSETTLED_FACTOR);
                // Looking costs a walk over the templates: not again before a tenth more has been seen.
                self.look_at = self.records + self.records / 10 + 1;
                self.novelty() <= SETTLED_NOVELTY || self.records >= patience
            }
            // Counting the admitted walks over the templates too: only when some more records have come.
            Some(_) if self.records < self.look_at => false,
            Some(judge) => {
                let (fitted_records, fitted_templates) = (judge.records, judge.templates);
                self.look_at = self.records + (self.records / 100).max(100);
                let admitted = self.templates.values().filter(|template| self.admits(template)).count();
                let grown = admitted.min(MAX_BANK) * 4 >= fitted_templates * 5 + 16;
                let doubled = self.records >= fitted_records.saturating_mul(2) && self.records >= fitted_records + 500;
                grown || doubled
            }
        }
    }

    fn start_fit(&mut self) -> FitJob {
        self.fitting = true;
        let mut admitted: Vec<&Template> = self
            .templates
            .values()
            .filter(|template| self.admits(template))
            .collect();
        if admitted.len() > MAX_BANK {
            // Stable: equals keep the order of their keys.
            admitted.sort_by_key(|template| std::cmp::Reverse(template.lines));
            admitted.truncate(MAX_BANK);
        }
        let bank = admitted
            .into_iter()
            .filter_map(|it| Some((it.embedding.clone()?, it.lines)))
            .collect();
        FitJob {
            settings: self.settings.clone(),
            generation: self
                .judge
                .as_ref()
                .map_or(1, |judge| judge.generation.saturating_add(1)),
            bank,
            novelty: self.novelty(),
            records: self.records,
        }
    }

    /// Whether a template counts as usual: all of warm-up do; later those that were not flagged and are known for a while.
    fn admits(&self, template: &Template) -> bool {
        let known_for = self.latest_unix_nano.saturating_sub(template.first_seen_unix_nano);
        let warm_up = self.judge.is_none() || template.first_record < self.warm_up_records;
        let admitted = if template.flagged() {
            outlived_quarantine(template)
        } else {
            warm_up || known_for >= MATURE_NANO
        };
        template.embedding.is_some() && admitted
    }

    /// Share of the later half of all records whose template was new then and is not flagged; one is always added, so
    /// that a stream without news still expects some.
    fn novelty(&self) -> f64 {
        let half = self.records / 2;
        let recent = self.records - half;
        let new = self
            .templates
            .values()
            .filter(|template| template.first_record >= half && !template.flagged());
        (new.count() as f64 + 1.0) / recent.max(1) as f64
    }
}

/// Flagged, and still said long after it was first.
fn outlived_quarantine(template: &Template) -> bool {
    template
        .last_seen_unix_nano
        .saturating_sub(template.first_seen_unix_nano)
        >= QUARANTINE_NANO
}

fn verdict(judge: &Fitted, alpha: f64, embedding: &Embedding) -> Score {
    let error = f64::from(judge.autoencoder.relative_error(embedding));
    let p_value = judge.calibration.p_value(error);
    let anomalous = p_value < alpha;
    let reason = anomalous.then(|| {
        Arc::from(format!(
            "unlike what is usual here: reconstruction error {error:.2}, usual up to {:.2}",
            judge.threshold
        ))
    });
    Score {
        value: 1.0 - p_value,
        error,
        anomalous,
        reason,
    }
}
