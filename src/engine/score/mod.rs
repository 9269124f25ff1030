//! Room 4: how unusual a record is, and whether that is anomalous. What enters: records as templates of services, in
//! order. What leaves: what is thought of each, trainings that are due, and notes worth a line in the log.
//!
//! A stream begins in `WarmingUp` and stays there until it has said enough ([`Settings::warm_up_records`],
//! [`Settings::warm_up_templates`], nine of ten embedded): by evidence, never by the clock. Then a network is trained ([`FitJob`]), and records are judged: each detector says its part, one fixed
//! combination weighs them ([`detector`]), the stream's own calibration says how strong news must be here ([`calibration`]),
//! and the verdict holds for the episode ([`episode`]). What was anomalous and grave is not learned from, until it has been
//! said for six hours; everything else joins what is usual once it is known for five minutes, and training is repeated as that grows.
//!
//! Promises: deterministic; bounded (the template not seen for longest is forgotten first, and counted). Absent on
//! purpose: sequences of records, and numbers within them.

mod autoencoder;
mod burst;
mod calibration;
mod company;
mod detector;
mod drift;
mod episode;
mod explain;
mod failure;
mod fit;
mod judge;
mod listing;
mod neighbour;
mod notebook;
mod opinion;
mod places;
mod rarity;
mod service;
mod settings;
mod severity;
mod shared;
mod state;
mod templates;

use std::sync::Arc;

use super::{embed::Embedding, opinions::Opinions, text::TemplateKey};
pub use autoencoder::Activation;
use calibration::Calibration;
pub use detector::{DETECTORS, Detector, Evidence};
use drift::Drift;
use episode::Series;
pub use explain::{Explanation, Hypothesis, Outcome, Side};
pub use failure::Committee;
use fit::Known;
pub use fit::{FitJob, Fitted};
pub use judge::{Anomaly, Judgement, Note, Seat};
pub use listing::KnownTemplate;
pub use notebook::{notebook_verdicts, percentile};
use opinion::Admission;
pub use opinion::SAID_TO_BE_REAL;
use places::Places;
pub use service::ServiceId;
use service::{Services, Stream};
pub use settings::Settings;
use shared::Shared;
pub use shared::{Fact, HeardFact, Knowledge, OpinionFact, SaidFact};
pub use state::{Forgotten, Learned, ScorerState, UnusableState};
use templates::{Template, Templates};

/// A template is taken for usual only once it has been known for so long.
const MATURE_NANO: u64 = 300 * 1_000_000_000;

/// A flagged template that is still said after so long is not news any more.
const QUARANTINE_NANO: u64 = 6 * 3600 * 1_000_000_000;

/// Templates a training takes at most: those said most often.
const MAX_BANK: usize = 4096;

/// Services that a remembered template may have on average; beyond it, too, the template not seen for longest is forgotten.
const SERIES_A_TEMPLATE: usize = 4;

/// How far learning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// More has to be seen before the first training.
    WarmingUp {
        /// Records so far.
        records_seen: u64,
        /// Records at which the first training is due, if the templates are there and embedded.
        records_needed: u64,
        /// Embedded templates so far.
        templates_seen: usize,
        /// Embedded templates that are needed.
        templates_needed: usize,
    },
    /// The first training is under way.
    Fitting,
    /// Records are judged.
    Ready {
        /// Counts the trainings.
        generation: u32,
    },
}

/// Counts of a scorer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Templates remembered now.
    pub templates: u64,
    /// Templates forgotten so far for want of room.
    pub evicted_templates: u64,
    /// Episodes so far that were not marked because their service had spent its budget.
    pub over_budget: u64,
    /// Episodes so far that were not marked because they were a release.
    pub released: u64,
    /// Templates of services so far whose first record several agents had at once, each without knowing of the other's.
    pub first_sight_races: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            templates: self.templates + other.templates,
            evicted_templates: self.evicted_templates + other.evicted_templates,
            over_budget: self.over_budget + other.over_budget,
            released: self.released + other.released,
            first_sight_races: self.first_sight_races + other.first_sight_races,
        }
    }
}

/// The serial state of scoring.
#[derive(Clone, Debug, PartialEq)]
pub struct Scorer {
    settings: Settings,
    /// Which detectors have a say, in the order of [`Detector::ALL`].
    on: [bool; DETECTORS],
    committee: Option<Committee>,
    opinions: Opinions,
    templates: Templates,
    series: Places<(TemplateKey, ServiceId), Series>,
    services: Services,
    stream: Stream,
    calibration: Calibration,
    drift: Drift,
    records: u64,
    episodes: u64,
    latest_unix_nano: u64,
    /// Records at which the stream is looked at next.
    look_at: u64,
    /// What is usual has changed since the last training.
    drifted: bool,
    /// Records that the first training had seen; 0 before it.
    warm_up_records: u64,
    judge: Option<Fitted>,
    fitting: bool,
    /// Episodes that were not marked: for want of budget, and because they were a release.
    over_budget: u64,
    released: u64,
    notes: Vec<Note>,
    /// What agents of a cluster know of each other; none where there is one.
    shared: Option<Box<Shared>>,
}

impl Scorer {
    /// A scorer that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            on: settings.detectors_on(),
            look_at: settings.warm_up_records,
            settings,
            committee: None,
            opinions: Opinions::default(),
            templates: Templates::default(),
            series: Places::default(),
            services: Services::default(),
            stream: Stream::default(),
            calibration: Calibration::default(),
            drift: Drift::default(),
            drifted: false,
            records: 0,
            episodes: 0,
            latest_unix_nano: 0,
            warm_up_records: 0,
            judge: None,
            fitting: false,
            over_budget: 0,
            released: 0,
            notes: Vec::new(),
            shared: None,
        }
    }

    /// Judges by these settings from the next record on, as far as they can change in a running engine.
    pub fn adjust(&mut self, settings: &Settings) {
        self.settings.adjust(settings);
    }

    /// Listens to this committee from now on; without one no text sounds like failure.
    pub fn appoint(&mut self, committee: Committee) {
        for template in self.templates.by_key.values_mut() {
            if template.failing.is_none() {
                template.failing = template.embedding.as_ref().map(|embedding| committee.hear(embedding));
            }
        }
        self.committee = Some(committee);
    }

    /// A template was seen in `count` records, the latest at `time_unix_nano`; each record is judged by
    /// [`Scorer::record`] afterwards. The embedding may be missing, and come with a later call (of count 0, if need be).
    pub fn observe(
        &mut self,
        key: TemplateKey,
        text: impl FnOnce() -> Arc<str>,
        embedding: Option<&Embedding>,
        count: u64,
        time_unix_nano: u64,
    ) {
        self.latest_unix_nano = self.latest_unix_nano.max(time_unix_nano);
        let template = self.templates.observe(key, text, count, time_unix_nano, self.records);
        if let Some(template) = template.filter(|template| template.embedding.is_none())
            && let Some(embedding) = embedding
        {
            template.failing = self.committee.as_ref().map(|committee| committee.hear(embedding));
            template.embedding = Some(embedding.clone());
            self.templates.embedded += 1;
        }
        if let Some(shared) = &mut self.shared
            && let Some(template) = self.templates.by_key.get(&key)
        {
            shared.observed(key, template, count);
        }
        self.make_room();
    }

    /// Forgets what was not seen for longest, as long as there is too much.
    fn make_room(&mut self) {
        let max_templates = self.settings.max_templates;
        while self.templates.by_key.len() > max_templates || self.series.len() > max_templates * SERIES_A_TEMPLATE {
            let Some(forgotten) = self.templates.forget_oldest() else {
                return;
            };
            let all = (forgotten, ServiceId(0))..=(forgotten, ServiceId(u32::MAX));
            let series: Vec<_> = self.series.range(all).map(|(key, _)| *key).collect();
            for key in series {
                self.series.remove(&key);
            }
            if let Some(shared) = &mut self.shared {
                shared.forget(forgotten);
            }
        }
    }

    /// The seat of a template that was observed, for [`Scorer::mark`].
    pub fn seat(&self, key: TemplateKey) -> Option<Seat> {
        let template = self.templates.by_key.place_of(&key)?;
        Some(Seat {
            key,
            template,
            series: None,
        })
    }

    /// The service of this name, for [`Scorer::record`].
    pub fn service(&mut self, name: &Arc<str>) -> ServiceId {
        self.services.of(name)
    }

    /// Takes everything as not yet said, but keeps what was learned: a file is read again once the judge is ready.
    pub fn rewind(&mut self) {
        for template in self.templates.by_key.values_mut() {
            template.lines = 0;
        }
        self.series.clear();
        self.services = Services::default();
        self.stream = Stream::default();
        self.warm_up_records = 0;
        self.records = 0;
    }

    /// How far learning has come.
    pub fn phase(&self) -> Phase {
        match &self.judge {
            Some(judge) => Phase::Ready {
                generation: judge.generation,
            },
            None if self.fitting => Phase::Fitting,
            None => Phase::WarmingUp {
                records_seen: self.all_records(),
                records_needed: self.look_at,
                templates_seen: self.templates.embedded,
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
        if self.fitting || self.templates.embedded == 0 {
            return None;
        }
        Some(self.start_fit())
    }

    /// A training has ended: episodes are judged by it from now on. Verdicts that were given stay. One that another agent's
    /// has overtaken meanwhile is left.
    pub fn install(&mut self, mut fitted: Fitted) {
        self.fitting = false;
        if self.is_overtaken(&fitted) {
            return;
        }
        if self.judge.is_none() {
            self.warm_up_records = match &self.shared {
                None => fitted.records,
                Some(_) => self.warm_up_here(),
            };
            self.calibration = self.calibrated(&fitted);
        }
        fitted.held_out.clear();
        self.judge_by(fitted);
        if let Some(shared) = &mut self.shared {
            shared.trained();
        }
    }

    fn judge_by(&mut self, fitted: Fitted) {
        for known in &fitted.bank {
            if let Some(template) = self.templates.by_key.get_mut(&known.key) {
                template.flagged_unix_nano = None;
            }
        }
        self.judge = Some(fitted);
    }

    /// Templates with embeddings, in order of their keys.
    pub fn embeddings(&self) -> impl Iterator<Item = (TemplateKey, &Embedding)> {
        let templates = self.templates.by_key.iter();
        templates.filter_map(|(key, template)| Some((*key, template.embedding.as_ref()?)))
    }

    /// Counts for whoever watches.
    pub fn tally(&self) -> Tally {
        Tally {
            templates: self.templates.by_key.len() as u64,
            evicted_templates: self.templates.evicted,
            over_budget: self.over_budget,
            released: self.released,
            first_sight_races: self.shared.as_ref().map_or(0, |shared| shared.races),
        }
    }

    /// What is worth a line in the log since the last call.
    pub fn drain_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn fit_is_due(&mut self) -> bool {
        let records = self.all_records();
        if !self.may_train() {
            return false;
        }
        match &self.judge {
            None => {
                // Nine of ten: a few may fail or be too new; judging by what is half known would call the rest news.
                let embedded = self.templates.embedded;
                let all = self.templates.by_key.len() - self.templates.orphaned;
                records >= self.look_at && embedded >= self.settings.warm_up_templates && embedded * 10 >= all * 9
            }
            Some(_) if self.drifted => true,
            // Counting the admitted walks over the templates too: only when some more records have come.
            Some(_) if records < self.look_at => false,
            Some(judge) => {
                let (fitted_records, fitted_templates) = (judge.records, judge.bank.len());
                self.look_at = records + (records / 100).max(100);
                let suffices = |templates: usize| templates.min(MAX_BANK) * 4 >= fitted_templates * 5 + 16;
                // Only embedded templates are admitted: where even all of them would not suffice, none is looked at.
                let grown = suffices(self.templates.embedded) && {
                    let templates = self.templates.by_key.iter();
                    suffices(templates.filter(|(key, template)| self.admits(**key, template)).count())
                };
                let doubled = records >= fitted_records.saturating_mul(2) && records >= fitted_records + 500;
                grown || doubled
            }
        }
    }

    fn start_fit(&mut self) -> FitJob {
        self.fitting = true;
        self.drifted = false;
        let templates = self.templates.by_key.iter();
        let mut bank: Vec<Known> = templates
            .filter(|(key, template)| self.admits(**key, template))
            .filter_map(|(key, template)| {
                Some(Known {
                    key: *key,
                    text: Arc::clone(&template.text),
                    embedding: template.embedding.clone()?,
                    lines: template.lines,
                })
            })
            .collect();
        if bank.len() > MAX_BANK {
            // Stable: equals keep the order of their keys.
            bank.sort_by_key(|known| std::cmp::Reverse(known.lines));
            bank.truncate(MAX_BANK);
            bank.sort_by_key(|known| known.key);
        }
        FitJob {
            settings: self.settings.clone(),
            generation: self
                .judge
                .as_ref()
                .map_or(1, |judge| judge.generation.saturating_add(1)),
            bank,
            records: self.all_records(),
        }
    }

    /// Whether a template counts as usual: all of warm-up do; later those that were not flagged and are known for a while;
    /// and what people say, before all.
    fn admits(&self, key: TemplateKey, template: &Template) -> bool {
        let known_for = self.latest_unix_nano.saturating_sub(template.first_seen_unix_nano);
        let warm_up = self.judge.is_none() || template.first_record < self.warm_up_records;
        let by_rule = || match template.flagged_unix_nano {
            Some(since) => template.last_seen_unix_nano.saturating_sub(since) >= QUARANTINE_NANO,
            None => warm_up || known_for >= MATURE_NANO,
        };
        let admitted = match self.admission(key) {
            None => by_rule(),
            Some(Admission::Granted) => true,
            Some(Admission::Kept) => self.judge.as_ref().is_some_and(|judge| judge.knows(key)),
            Some(Admission::Refused) => false,
        };
        template.embedding.is_some() && admitted
    }
}
