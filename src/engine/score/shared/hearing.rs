//! What becomes of what other agents know.
//!
//! What enters: a fact. What leaves: an embedding that nobody here has to make any more, and a model that judges from now on. Promises: a
//! template that was heard of counts as seen, a series as known, and an episode that runs elsewhere goes on here with its verdict; counts are
//! added, as far as they are of records that nobody else has counted. Absent on purpose: people's opinions (`tenants`).

use std::sync::Arc;

use super::{
    super::{
        Anomaly, Scorer,
        calibration::Calibration,
        detector::Detector,
        episode::{Episode, QUIET_NANO, Series},
        failure,
        judge::MIN_UNITS,
    },
    ToldTemplate,
    messages::{EpisodeFact, Fact, SeriesFact, ServiceFact, StreamFact, TemplateFact},
    queue::{Rank, Subject},
};
use crate::engine::{embed::Embedding, text::TemplateKey};

/// What was first seen elsewhere no longer ago than this is news of the same stream that is read here.
const RECENT_NANO: u64 = 300 * 1_000_000_000;

/// What became of a fact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeardFact {
    /// An embedding that was not known here.
    pub embedding: Option<(TemplateKey, Embedding)>,
    /// The training that judges from now on, where it is another.
    pub generation: Option<u32>,
}

impl Scorer {
    /// Takes note of what another agent knows; nothing while nothing is shared.
    pub fn hear(&mut self, fact: Fact) -> HeardFact {
        let mut heard = HeardFact::default();
        if self.shared.is_none() {
            return heard;
        }
        match fact {
            Fact::Template(fact) => heard = self.hear_template(fact),
            Fact::Series(fact) => self.hear_series(fact),
            Fact::Service(fact) => self.hear_service(fact),
            Fact::Stream(fact) => self.hear_stream(&fact),
            Fact::Model(fact) => heard.generation = self.hear_model(fact),
            Fact::Usual(fact) => self.hear_usual(&fact),
            Fact::Opinion(_) => {}
        }
        self.make_room();
        heard
    }

    fn hear_template(&mut self, mut heard: TemplateFact) -> HeardFact {
        let mut became = HeardFact::default();
        let key = TemplateKey(heard.key);
        let Some(shared) = self.shared.as_mut() else {
            return became;
        };
        if !shared.keeps_text {
            heard.text.clear();
        }
        let told = shared.templates.insert(key, ToldTemplate::of(&heard));
        let told_lines = told.map_or(0, |told| told.lines);
        let embedding = || {
            let values = std::mem::take(&mut heard.embedding);
            let embedding = Embedding::new(values).ok()?.with_unknown_share(heard.unknown_share);
            became.embedding = Some((key, embedding.clone()));
            Some(embedding)
        };
        let first_record = self.first_record_elsewhere();
        let Some(template) = self.templates.hear(key, embedding, first_record) else {
            return became;
        };
        if let Some((_, embedding)) = &became.embedding {
            template.failing = self.committee.as_ref().map(|committee| committee.hear(embedding));
        }
        if template.text.is_empty() && !heard.text.is_empty() {
            template.text = Arc::from(heard.text.as_str());
        }
        let is_new = template.lines == 0 && template.hearsay;
        template.lines = match told {
            None => template.lines.max(heard.lines),
            Some(_) => heard.lines.max(told_lines) + template.lines.saturating_sub(told_lines),
        };
        template.first_seen_unix_nano = match is_new {
            true => heard.first_seen_unix_nano,
            false => template.first_seen_unix_nano.min(heard.first_seen_unix_nano),
        };
        template.last_seen_unix_nano = template.last_seen_unix_nano.max(heard.last_seen_unix_nano);
        let judge = self.judge.as_ref();
        // What a later training has learned is not marked any more by what was said before it.
        let learned_since = |generation| judge.is_some_and(|judge| judge.generation > generation && judge.knows(key));
        if let Some(flagged) = heard.flagged.filter(|flagged| !learned_since(flagged.generation)) {
            let since = template.flagged_unix_nano.unwrap_or(u64::MAX);
            template.flagged_unix_nano = Some(since.min(flagged.since_unix_nano));
        }
        if let Some(shared) = &mut self.shared {
            let is_whole = shared.waiting.as_mut().is_some_and(|waiting| waiting.has_come(key));
            shared.queue.note(Subject::Template(key), Rank::Counts);
            if is_whole {
                became.generation = self.adopt();
            }
        }
        became
    }

    /// Where a template that is heard of counts as usual as what was said here: before the first training all does.
    fn first_record_elsewhere(&self) -> u64 {
        match self.judge {
            None => 0,
            Some(_) => u64::MAX,
        }
    }

    fn hear_series(&mut self, heard: SeriesFact) {
        let (Some(id), Some(mut running)) = (self.services.heard_of(&heard.service), heard.episode.clone()) else {
            return;
        };
        let key = TemplateKey(heard.template);
        let first_record = self.first_record_elsewhere();
        let template = self.templates.hear(key, || None, first_record);
        let failing = template.map_or(0.0, |template| f64::from(template.failing.unwrap_or(0.0)));
        let (now, is_judged) = (self.passed_records(), self.judge.is_some());
        let Some(shared) = &mut self.shared else { return };
        if !shared.keeps_text
            && let Some(anomaly) = &mut running.anomaly
        {
            anomaly.unquote();
        }
        let told = shared.series.entry((key, id)).or_default();
        let was_told = told.episode.is_some().then_some(told.known);
        if told.first_seen_by == shared.agent && heard.first_seen_unix_nano > 0 && heard.first_seen_by != shared.agent {
            let (own, other) = (told.first_seen_unix_nano, heard.first_seen_unix_nano);
            // Counted by the one that was not the first.
            shared.races += u64::from((other, heard.first_seen_by) < (own, shared.agent));
        }
        let is_earlier = told.first_seen_unix_nano == 0
            || (heard.first_seen_unix_nano, heard.first_seen_by) < (told.first_seen_unix_nano, told.first_seen_by);
        if heard.first_seen_unix_nano > 0 && is_earlier {
            (told.first_seen_unix_nano, told.first_seen_by) = (heard.first_seen_unix_nano, heard.first_seen_by);
        }
        told.remember(&heard);

        let place = self.series.place_or_insert((key, id), Series::default);
        let Some(series) = self.series.at_mut(place) else {
            return;
        };
        series.decay_to(now);
        series.known = match was_told {
            None => series.known.max(heard.known),
            Some(told) => heard.known.max(told) + (series.known - told).max(0.0),
        };
        let own_is_over = series.episode.number == 0
            || heard.last_seen_unix_nano.saturating_sub(series.last_seen_unix_nano) > QUIET_NANO;
        let heard_is_over = series.last_seen_unix_nano.saturating_sub(heard.last_seen_unix_nano) > QUIET_NANO;
        series.last_seen_unix_nano = series.last_seen_unix_nano.max(heard.last_seen_unix_nano);
        // What a memory tells of long ago is no news of today's.
        let is_recent = self.latest_unix_nano.abs_diff(heard.first_seen_unix_nano) <= RECENT_NANO;
        if series.episode.number == 0 && is_recent && failing < failure::HARMLESS {
            self.stream.heard_news();
        }
        if own_is_over {
            self.episodes += 1;
            series.episode = running.into_episode(self.episodes);
        } else if !heard_is_over && running.beats(&series.episode, is_judged) {
            series.episode = running.into_episode(series.episode.number);
        }
        let opened = series
            .episode
            .anomaly
            .is_some()
            .then_some(series.episode.started_unix_nano);
        if let (Some(service), Some(opened)) = (self.services.get_mut(id), opened) {
            service.heard_opening(opened);
        }
        shared.queue.note(Subject::Series(key, id), Rank::Counts);
    }

    fn hear_service(&mut self, heard: ServiceFact) {
        let Some(id) = self.services.heard_of(&heard.service) else {
            return;
        };
        let (Some(shared), Some(service)) = (&mut self.shared, self.services.get_mut(id)) else {
            return;
        };
        service.heard_plain_openings(&heard.plain_openings);
        let told = shared.services.remove(&id);
        service.records = match &told {
            None => service.records.max(heard.records),
            Some(told) => heard.records.max(told.records) + service.records.saturating_sub(told.records),
        };
        let told = told.unwrap_or_default();
        for unrest in heard.unrest.iter().filter(|unrest| unrest.agent != shared.agent) {
            let before = told.unrest.iter().find(|before| before.agent == unrest.agent);
            if before.is_some_and(|before| before.at_unix_nano >= unrest.at_unix_nano) {
                continue;
            }
            service.unrest.fade(unrest.at_unix_nano);
            let now = service.unrest.at_unix_nano;
            let more = unrest.level_at(now) - before.map_or(0.0, |before| before.level_at(now));
            service.unrest.level = (service.unrest.level + more).max(0.0);
        }
        shared.services.insert(id, told.join(heard));
    }

    /// Whoever is new to a stream takes what is usual in it from those that are not.
    fn hear_stream(&mut self, heard: &StreamFact) {
        let Some(shared) = &mut self.shared else { return };
        shared.stream_unix_nano = shared.stream_unix_nano.max(heard.latest_unix_nano);
        if self.stream.news_records * 2.0 < heard.news_records {
            self.stream.news = heard.news;
            self.stream.news_records = heard.news_records;
            self.stream.records = self.stream.records.max(heard.records);
            if heard.first_unix_nano > 0 {
                self.stream.first_unix_nano = heard.first_unix_nano;
            }
        }
        let own_units = self.calibration.units.len();
        if own_units < MIN_UNITS && heard.units.len() > own_units {
            self.calibration = Calibration::of(heard.units.iter().copied(), heard.record_count);
            self.calibration.unit_count = heard.unit_count.max(heard.units.len() as u64);
        }
    }
}

impl EpisodeFact {
    /// The same episode under a number of ours.
    fn into_episode(self, number: u64) -> Episode {
        let anomaly = self.anomaly.map(|anomaly| {
            Arc::new(Anomaly {
                score: anomaly.score,
                p_value: anomaly.p_value,
                detector: Detector::ALL
                    .into_iter()
                    .find(|detector| detector.name() == anomaly.detector),
                reason: anomaly.shared_reason(),
                episode: number,
            })
        });
        Episode {
            number,
            started_unix_nano: self.started_unix_nano,
            judged: self.judged,
            known: self.known,
            quiet_nano: self.quiet_nano,
            assessment: self
                .assessment
                .map(|assessment| assessment.restore())
                .unwrap_or_default(),
            anomaly,
            suppressed: self.suppressed,
            turns: self.turns,
        }
    }

    /// Of two episodes that run at once, whether this one goes on: of the same, the one that is further; of two, the anomalous
    /// one, else the earlier.
    fn beats(&self, own: &Episode, is_judged: bool) -> bool {
        if self.judged != own.judged {
            return self.judged == is_judged;
        }
        let is_anomalous = (self.anomaly.is_some(), own.anomaly.is_some());
        if self.started_unix_nano == own.started_unix_nano {
            return (self.turns, is_anomalous.0) > (own.turns, is_anomalous.1);
        }
        match is_anomalous {
            (true, false) => true,
            (false, true) => false,
            _ => self.started_unix_nano < own.started_unix_nano,
        }
    }
}
