//! What is told of what is known here.
//!
//! What enters: a scorer, and what the memory has. What leaves: facts that the memory lacks. Promises: what differs by little is not
//! told again; no text leaves where none is kept. Absent on purpose: when something is noted (the parent).

use std::sync::Arc;

use super::{
    super::{
        Scorer, ServiceId,
        company::Unrest,
        episode::{Series, decay},
        state::{AnomalyState, AssessmentState, unquoted},
    },
    STREAM_NANO, Shared, ToldSeries, ToldTemplate,
    messages::{EpisodeFact, Fact, FlaggedFact, SeriesFact, ServiceFact, StreamFact, TemplateFact, UnrestFact},
    queue::Subject,
    step_nano,
};
use crate::engine::text::TemplateKey;

/// Lines of a template are told again when they have doubled, and by so many more: they only weigh it in trainings, and its embedding
/// goes with them.
const LINES: u64 = 8;

/// Unrest that makes no difference.
const LITTLE_UNREST: f64 = 0.01;

impl Scorer {
    /// What is known here and was not told yet, the most newsworthy first; no more than so many facts.
    pub fn drain_knowledge(&mut self, max_facts: usize) -> Vec<Fact> {
        let mut facts = Vec::new();
        let Some(mut shared) = self.shared.take() else {
            return facts;
        };
        while facts.len() < max_facts
            && let Some(subject) = shared.queue.next()
        {
            facts.extend(self.tell(&mut shared, subject));
        }
        self.shared = Some(shared);
        facts
    }

    /// How much there is to look through for [`Scorer::drain_knowledge`].
    pub fn untold(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.queue.len())
    }

    /// What is to be told of something; `None` when the memory has it.
    fn tell(&self, shared: &mut Shared, subject: Subject) -> Option<Fact> {
        match subject {
            Subject::Stream => {
                // Another agent may have told of it since this was noted.
                let passed_nano = self.latest_unix_nano.saturating_sub(shared.stream_unix_nano);
                (passed_nano > STREAM_NANO).then_some(())?;
                shared.stream_unix_nano = self.latest_unix_nano;
                Some(Fact::Stream(self.stream_fact()))
            }
            Subject::Model => {
                let fact = self.model_fact()?;
                let rank = *shared.own_model.get_or_insert_with(|| fact.rank());
                let is_later = shared.told_model.is_none_or(|told| rank > told);
                is_later.then(|| shared.told_model = Some(rank))?;
                Some(Fact::Model(fact))
            }
            Subject::Service(id) => {
                let fact = self.service_fact(shared, id)?;
                shared.services.insert(id, fact.clone());
                Some(Fact::Service(fact))
            }
            Subject::Usual(id) => self.usual_fact(shared, id).map(Fact::Usual),
            Subject::Template(key) => {
                let told = shared.templates.get(&key).copied().unwrap_or_default();
                let fact = self.template_fact(shared.keeps_text, key)?;
                told.lacks(&fact).then(|| {
                    shared.templates.insert(key, ToldTemplate::of(&fact));
                    Fact::Template(fact)
                })
            }
            Subject::Series(key, id) => {
                let told = shared.series.entry((key, id)).or_default();
                let fact = self.series_fact(told, shared.keeps_text, key, id)?;
                told.lacks(&fact).then(|| {
                    told.remember(&fact);
                    Fact::Series(fact)
                })
            }
        }
    }

    fn stream_fact(&self) -> StreamFact {
        StreamFact {
            latest_unix_nano: self.latest_unix_nano,
            records: self.stream.records,
            first_unix_nano: self.stream.first_unix_nano,
            news: self.stream.news,
            news_records: self.stream.news_records,
            units: self.calibration.units.iter().copied().collect(),
            unit_count: self.calibration.unit_count,
            record_count: self.calibration.record_count,
        }
    }

    /// What is known of a service here and, as it was told, elsewhere.
    pub(super) fn service_fact(&self, shared: &Shared, id: ServiceId) -> Option<ServiceFact> {
        let service = self.services.get(id)?;
        let told = shared.services.get(&id);
        let at_unix_nano = service.unrest.at_unix_nano;
        let others = told.into_iter().flat_map(|told| &told.unrest);
        let others = others.filter(|unrest| unrest.agent != shared.agent);
        let elsewhere: f64 = others.map(|unrest| unrest.level_at(at_unix_nano)).sum();
        let level = service.unrest.level - elsewhere;
        let own = ServiceFact {
            service: service.name.to_string(),
            plain_openings: service.plain_openings.iter().copied().collect(),
            unrest: (level > LITTLE_UNREST)
                .then_some(UnrestFact {
                    agent: shared.agent,
                    level,
                    at_unix_nano,
                })
                .into_iter()
                .collect(),
            records: service.records,
        };
        Some(match told {
            Some(told) => own.join(told.clone()),
            None => own,
        })
    }

    /// What is known of a template that is embedded.
    pub(super) fn template_fact(&self, keeps_text: bool, key: TemplateKey) -> Option<TemplateFact> {
        let template = self.templates.by_key.get(&key)?;
        let embedding = template.embedding.as_ref()?;
        let generation = self.judge.as_ref().map_or(0, |judge| judge.generation);
        Some(TemplateFact {
            key: key.0,
            text: if keeps_text {
                template.text.to_string()
            } else {
                String::new()
            },
            embedding: embedding.as_slice().to_vec(),
            unknown_share: embedding.unknown_share(),
            lines: template.lines,
            first_seen_unix_nano: template.first_seen_unix_nano,
            last_seen_unix_nano: template.last_seen_unix_nano,
            flagged: template.flagged_unix_nano.map(|since_unix_nano| FlaggedFact {
                generation,
                since_unix_nano,
            }),
        })
    }

    /// What is known of a series.
    pub(super) fn series_fact(
        &self,
        told: &ToldSeries,
        keeps_text: bool,
        key: TemplateKey,
        id: ServiceId,
    ) -> Option<SeriesFact> {
        let series = self.series.get(&(key, id))?;
        Some(SeriesFact {
            template: key.0,
            service: self.services.get(id)?.name.to_string(),
            known: self.known_now(series),
            last_seen_unix_nano: series.last_seen_unix_nano,
            first_seen_unix_nano: told.first_seen_unix_nano,
            first_seen_by: told.first_seen_by,
            episode: Some(EpisodeFact::of(series, keeps_text)),
        })
    }

    /// Records of a series that count as usual, decayed to now.
    pub(super) fn known_now(&self, series: &Series) -> f64 {
        let passed = self.passed_records().saturating_sub(series.decayed_at);
        series.known * decay(passed as f64)
    }

    /// Number of the latest record here or elsewhere, by which counts are decayed.
    pub(super) fn passed_records(&self) -> u64 {
        self.records + self.shared.as_ref().map_or(0, |shared| shared.passed_records)
    }
}

impl UnrestFact {
    /// Its level, faded.
    pub(super) fn level_at(&self, now_unix_nano: u64) -> f64 {
        let unrest = Unrest {
            level: self.level,
            at_unix_nano: self.at_unix_nano,
        };
        unrest.level_at(now_unix_nano)
    }
}

impl EpisodeFact {
    fn of(series: &Series, keeps_text: bool) -> Self {
        let episode = &series.episode;
        Self {
            started_unix_nano: episode.started_unix_nano,
            judged: episode.judged,
            known: episode.known,
            quiet_nano: episode.quiet_nano,
            assessment: Some(AssessmentState::of(episode.assessment)),
            anomaly: episode.anomaly.as_deref().map(|anomaly| {
                let mut anomaly = AnomalyState::of(anomaly);
                if !keeps_text {
                    anomaly.unquote();
                }
                anomaly
            }),
            suppressed: episode.suppressed,
            turns: episode.turns,
        }
    }

    /// What tells it from other episodes, and how it stands.
    fn stand(&self) -> (u64, u32, bool, bool) {
        (
            self.started_unix_nano,
            self.turns,
            self.anomaly.is_some(),
            self.suppressed,
        )
    }
}

impl AnomalyState {
    /// Quotes nothing.
    pub(super) fn unquote(&mut self) {
        if let Some((without, _)) = unquoted(&self.reason) {
            self.reason = without;
        }
    }

    pub(super) fn shared_reason(&self) -> Arc<str> {
        Arc::from(self.reason.as_str())
    }
}

impl ToldTemplate {
    pub(super) fn of(fact: &TemplateFact) -> Self {
        Self {
            lines: fact.lines,
            last_seen_unix_nano: fact.last_seen_unix_nano,
            flagged_unix_nano: fact.flagged.map(|flagged| flagged.since_unix_nano),
            has_text: !fact.text.is_empty(),
            has_embedding: !fact.embedding.is_empty(),
        }
    }

    /// Whether there is more to know than was told, by as much as matters.
    pub(super) fn lacks(&self, fact: &TemplateFact) -> bool {
        let of = Self::of(fact);
        let is_newly_flagged = of.flagged_unix_nano.is_some() && self.flagged_unix_nano.is_none();
        (of.has_text && !self.has_text)
            || (of.has_embedding && !self.has_embedding)
            || is_newly_flagged
            || of.lines >= 2 * self.lines + LINES
    }
}

impl ToldSeries {
    /// The memory has this now.
    pub(super) fn remember(&mut self, fact: &SeriesFact) {
        self.known = fact.known;
        self.last_seen_unix_nano = fact.last_seen_unix_nano;
        self.episode = fact.episode.as_ref().map(EpisodeFact::stand);
    }

    /// Whether there is more to know than was told, by as much as matters.
    pub(super) fn lacks(&self, fact: &SeriesFact) -> bool {
        let Some(episode) = self.episode else { return true };
        let running = fact.episode.as_ref();
        let step_nano = step_nano(running.is_some_and(|running| running.anomaly.is_some()));
        fact.episode.as_ref().is_some_and(|own| own.stand() != episode)
            || fact.known >= self.known + (self.known / 4.0).max(1.0)
            || fact.last_seen_unix_nano > self.last_seen_unix_nano.saturating_add(step_nano / 2)
    }
}
