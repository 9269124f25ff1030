//! What agents that each see a part of one stream share of what they learn, so that what is known to one is news to none.
//!
//! What enters: what others know ([`Scorer::hear`]), how much they have seen, and whether it is here that is trained ([`Scorer::set_elsewhere`]).
//! What leaves: what is known here and not yet told, the most newsworthy first ([`Scorer::drain_knowledge`]). A memory outside keeps the latest of each
//! key; what it holds is remembered here as far as is needed to tell what is new (`told`).
//! Promises: nothing is shared, counted or kept before [`Scorer::share`]; what is noted and told is bounded by what is remembered; hearing something twice, late or
//! in another order changes nothing; what was heard is told again only where something was learned since, or where what was heard lacks something.
//! Absent on purpose: the memory, the agents that live, and people's opinions (`tenants`).

mod hearing;
mod join;
mod messages;
mod model;
mod queue;
mod telling;
mod usual;

use std::collections::BTreeMap;

use super::{
    Fitted, Scorer, ServiceId,
    episode::Series,
    service::{self, Service},
    templates::Template,
};
use crate::engine::text::TemplateKey;
pub use hearing::HeardFact;
use messages::ServiceFact;
pub use messages::{Fact, Knowledge, OpinionFact, SaidFact};
use model::Waiting;
use queue::{Queue, Rank, Subject};
use usual::Usual;

/// The time of an anomalous episode is told again when it is this much later: elsewhere it goes on for as long as an episode may pause.
const STEP_NANO: u64 = 30 * 1_000_000_000;
/// That of what is usual: of most there is nothing else to tell, and there are many.
const USUAL_STEP_NANO: u64 = 120 * 1_000_000_000;

/// So many more records elsewhere since the last call are counted as said since then: what is beyond is what an agent that has
/// come, or come back, had seen before.
const MOST_PASSED_RECORDS: u64 = 20_000;

/// The stream as a whole is told so often.
const STREAM_NANO: u64 = 60 * 1_000_000_000;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shared {
    /// A hash of this agent's name.
    agent: u64,
    keeps_text: bool,
    /// Whether it is here that is trained.
    may_train: bool,
    /// Records that the other agents have seen, once that is known.
    elsewhere_records: Option<u64>,
    /// Records that were said elsewhere since this agent shares.
    pub(super) passed_records: u64,
    /// What is to be told.
    queue: Queue,
    templates: BTreeMap<TemplateKey, ToldTemplate>,
    series: BTreeMap<(TemplateKey, ServiceId), ToldSeries>,
    services: BTreeMap<ServiceId, ServiceFact>,
    usual: Usual,
    stream_unix_nano: u64,
    /// Rank of the model that the memory has, and of the one that judges here, where that was heard of.
    told_model: Option<(u32, u64)>,
    own_model: Option<(u32, u64)>,
    /// A model that waits for its templates.
    waiting: Option<Waiting>,
    /// First records that were had at once, each without knowing of the other's.
    pub(super) races: u64,
}

/// What the memory has of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ToldTemplate {
    lines: u64,
    last_seen_unix_nano: u64,
    flagged_unix_nano: Option<u64>,
    has_text: bool,
    has_embedding: bool,
}

/// What the memory has of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ToldSeries {
    /// The first record anywhere, as far as is known, and the agent that had it; 0 is not known.
    first_seen_unix_nano: u64,
    first_seen_by: u64,
    known: f64,
    last_seen_unix_nano: u64,
    /// Beginning, changes and state of the episode; none while nothing was told.
    episode: Option<(u64, u32, bool, bool)>,
}

/// How things stood before a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    is_flagged: bool,
    known: f64,
    last_seen_unix_nano: u64,
    episode: u64,
    turns: u32,
    service_records: u64,
}

impl Before {
    pub(super) fn of(template: &Template, series: &Series, service: &Service) -> Self {
        Self {
            is_flagged: template.flagged_unix_nano.is_some(),
            known: series.known,
            last_seen_unix_nano: series.last_seen_unix_nano,
            episode: series.episode.number,
            turns: series.episode.turns,
            service_records: service.records,
        }
    }
}

/// Whether a count has grown by a quarter, more or less: beyond a power of two, or a quarter of the way to the next.
fn has_grown(before: f64, after: f64) -> bool {
    (before.to_bits() ^ after.to_bits()) >> 50 != 0
}

/// Whether a time has passed a step.
fn has_passed(before_unix_nano: u64, after_unix_nano: u64, is_anomalous: bool) -> bool {
    let step = step_nano(is_anomalous);
    before_unix_nano / step != after_unix_nano / step
}

fn step_nano(is_anomalous: bool) -> u64 {
    if is_anomalous { STEP_NANO } else { USUAL_STEP_NANO }
}

impl Shared {
    /// A record was judged. Of most there is nothing to tell, which is found at once and without looking anything up.
    #[inline]
    pub(super) fn saw(
        &mut self,
        place: (TemplateKey, ServiceId),
        before: &Before,
        template: &Template,
        series: &Series,
        service: &Service,
        is_restless: bool,
    ) {
        let has_turned = series.episode.turns != before.turns;
        let goes_on = series.episode.number == before.episode && !has_turned;
        let (earlier, later) = (before.last_seen_unix_nano, series.last_seen_unix_nano);
        let is_anomalous = series.episode.anomaly.is_some();
        let has_grown = has_grown(before.known, series.known) || has_passed(earlier, later, is_anomalous);
        if has_turned || is_restless || has_grown_by(before.service_records, service.records) {
            self.queue.note(Subject::Service(place.1), Rank::Episodes);
            self.queue.note(Subject::Usual(place.1), Rank::Episodes);
        }
        if goes_on && !has_grown {
            return;
        }
        let is_first_sight = before.episode == 0;
        if is_first_sight {
            let told = self.series.entry(place).or_default();
            told.first_seen_unix_nano = series.episode.started_unix_nano;
            told.first_seen_by = self.agent;
        }
        if template.flagged_unix_nano.is_some() != before.is_flagged {
            self.queue.note(Subject::Template(place.0), Rank::News);
        }
        let is_news = is_first_sight || has_turned || (!goes_on && series.episode.anomaly.is_some());
        let rank = match (is_news, goes_on) {
            (true, _) => Rank::News,
            (false, false) => Rank::Episodes,
            (false, true) => Rank::Counts,
        };
        self.queue.note(Subject::Series(place.0, place.1), rank);
    }

    /// A template was said in so many more records.
    pub(super) fn observed(&mut self, key: TemplateKey, template: &Template, count: u64) {
        if template.embedding.is_none() {
            return;
        }
        let is_told = self.templates.get(&key).is_some_and(|told| told.has_embedding);
        if !is_told {
            self.queue.note(Subject::Template(key), Rank::News);
        } else if has_grown_by(template.lines.saturating_sub(count), template.lines) {
            self.queue.note(Subject::Template(key), Rank::Counts);
        }
        if template.last_seen_unix_nano.saturating_sub(self.stream_unix_nano) > STREAM_NANO {
            self.queue.note(Subject::Stream, Rank::Learned);
        }
    }

    /// A template was forgotten, and its series.
    pub(super) fn forget(&mut self, key: TemplateKey) {
        self.templates.remove(&key);
        let all = (key, ServiceId(0))..=(key, ServiceId(u32::MAX));
        let series: Vec<_> = self.series.range(all).map(|(place, _)| *place).collect();
        for place in series {
            self.series.remove(&place);
        }
        self.queue.forget(key);
    }

    /// A training of our own has ended.
    pub(super) fn trained(&mut self) {
        self.own_model = None;
        // Whatever was told of it lately: what is usual was measured by this training.
        self.stream_unix_nano = 0;
        self.queue.note(Subject::Stream, Rank::News);
        self.queue.note(Subject::Model, Rank::News);
    }
}

fn has_grown_by(before: u64, after: u64) -> bool {
    has_grown(before as f64, after as f64)
}

impl Scorer {
    /// Tells from now on what is learned here, under this agent's hash, and takes note of what others know. Texts of others are
    /// taken, and own ones told, only where they are kept.
    pub fn share(&mut self, agent: u64, keeps_text: bool) {
        let mut shared = Shared {
            agent,
            keeps_text,
            may_train: false,
            elsewhere_records: None,
            passed_records: 0,
            queue: Queue::default(),
            templates: BTreeMap::new(),
            series: BTreeMap::new(),
            services: BTreeMap::new(),
            usual: Usual::of(self.services.calibrations()),
            stream_unix_nano: 0,
            told_model: None,
            own_model: None,
            waiting: None,
            races: 0,
        };
        // What a snapshot held may be more than the memory has.
        for (key, _) in self.templates.by_key.iter() {
            shared.queue.note(Subject::Template(*key), Rank::Counts);
        }
        for ((key, id), _) in self.series.iter() {
            shared.queue.note(Subject::Series(*key, *id), Rank::Counts);
        }
        if self.judge.is_some() {
            shared.queue.note(Subject::Stream, Rank::Learned);
            shared.queue.note(Subject::Model, Rank::Learned);
        }
        self.shared = Some(Box::new(shared));
    }

    /// The other agents have seen so many records, and it is here that is trained or not. To be called again and again,
    /// every few seconds; before the first call nothing is trained here.
    pub fn set_elsewhere(&mut self, records: u64, may_train: bool) {
        let Some(shared) = &mut self.shared else { return };
        shared.may_train = may_train;
        match shared.elsewhere_records.replace(records) {
            Some(before) => {
                let more = records.saturating_sub(before).min(MOST_PASSED_RECORDS);
                shared.passed_records += more;
                self.stream.pass(more);
            }
            None => {
                let all = self.records.saturating_add(records);
                self.stream.records = self.stream.records.max(service::said(all));
            }
        }
        self.wait_for_templates();
    }

    /// Records seen here, for the others' [`Scorer::set_elsewhere`].
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Records seen here and elsewhere.
    pub(super) fn all_records(&self) -> u64 {
        let elsewhere = self.shared.as_ref().and_then(|shared| shared.elsewhere_records);
        self.records.saturating_add(elsewhere.unwrap_or_default())
    }

    /// Records here before the first training, one at least: where none was, what others said before that still counts as usual.
    pub(super) fn warm_up_here(&self) -> u64 {
        self.records.max(1)
    }

    pub(super) fn may_train(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.may_train)
    }

    /// Whether another agent's training is as late as this one of ours.
    pub(super) fn is_overtaken(&self, fitted: &Fitted) -> bool {
        let judge = self.judge.as_ref().filter(|_| self.shared.is_some());
        judge.is_some_and(|judge| judge.generation >= fitted.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    /// What an agent had seen before it came was not said just now: it does not make what is known here fade.
    #[test]
    fn an_agent_that_comes_back_makes_nobody_forget() {
        let mut scorer = Scorer::new(Settings::default());
        scorer.share(1, true);
        for records in [5_000_000, 5_000_100, 100, 5_000_200, 5_000_300] {
            scorer.set_elsewhere(records, false);
        }
        assert_eq!(scorer.passed_records(), 100 + MOST_PASSED_RECORDS + 100);
        assert_eq!(scorer.all_records(), 5_000_300);
    }

    #[test]
    fn counts_are_told_again_as_they_grow_by_a_quarter_or_so() {
        let told = (1..1000u32).filter(|count| has_grown(f64::from(count - 1), f64::from(*count)));
        assert_eq!(
            told.take(16).collect::<Vec<u32>>(),
            [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]
        );
    }
}
