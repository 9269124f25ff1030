//! What of the scorer survives a restart, as a protobuf message.
//!
//! What enters: a scorer. What leaves: its state, and back. Promises: a restored scorer judges to the bit as the saved
//! one did; numbers that do not fit together are refused. A training under way is not kept: it starts again. The committee is not
//! kept: it comes with the model; nor are opinions: they have a file of their own.

mod forget;
mod messages;

use std::sync::Arc;

use super::{
    Activation, Anomaly, Fitted, Scorer, Settings,
    autoencoder::Autoencoder,
    burst::Window,
    calibration::Calibration,
    company::Unrest,
    detector::Detector,
    drift::Drift,
    episode::{Episode, Series},
    fit::Known,
    service::{Service, ServiceId, Stream},
    templates::{Assessment, Template},
};
use crate::engine::{embed::Embedding, text::TemplateKey};
pub use forget::Forgotten;
pub(super) use forget::unquoted;
pub use messages::ScorerState;
pub use messages::{AnomalyState, AssessmentState};
use messages::{CalibrationState, EpisodeState, FittedState, KnownState, SeriesState, ServiceState, TemplateState};

/// How much a state holds, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Records that were seen.
    pub records: u64,
    /// Templates that are remembered.
    pub templates: usize,
    /// Trainings; 0 while nothing is judged.
    pub generation: u32,
}

/// A state that no scorer wrote, or one of another kind: start clean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} does not fit; what was learned is learned anew")]
pub struct UnusableState(&'static str);

impl ScorerState {
    /// How much it holds.
    pub fn learned(&self) -> Learned {
        Learned {
            records: self.records,
            templates: self.templates.len(),
            generation: self.judge.as_ref().map_or(0, |judge| judge.generation),
        }
    }
}

impl Scorer {
    /// The state, for a snapshot.
    pub fn export(&self) -> ScorerState {
        ScorerState {
            templates: self.templates.by_key.iter().map(TemplateState::of).collect(),
            series: self.series.iter().map(SeriesState::of).collect(),
            services: self.services.all.iter().map(ServiceState::of).collect(),
            calibration: Some(CalibrationState::of(&self.calibration)),
            judge: self.judge.as_ref().map(FittedState::of),
            observations: self.templates.observations,
            records: self.records,
            episodes: self.episodes,
            latest_unix_nano: self.latest_unix_nano,
            look_at: self.look_at,
            evicted: self.templates.evicted,
            warm_up_records: self.warm_up_records,
            over_budget: self.over_budget,
            released: self.released,
            drift_log_stake: self.drift.log_stake,
            drifted: self.drifted,
            stream_records: self.stream.records,
            stream_first_unix_nano: self.stream.first_unix_nano,
            stream_news: self.stream.news,
            stream_news_records: self.stream.news_records,
        }
    }

    /// A scorer that goes on from a state.
    ///
    /// # Errors
    /// The state is not one that [`Scorer::export`] gave.
    pub fn restore(settings: Settings, state: ScorerState) -> Result<Self, UnusableState> {
        let mut scorer = Self::new(settings);
        let count = state.templates.len();
        for template in state.templates {
            let key = TemplateKey(template.key);
            let template = template.restore()?;
            scorer.templates.embedded += usize::from(template.embedding.is_some());
            scorer.templates.by_key.insert(key, template);
        }
        if scorer.templates.by_key.len() != count {
            return Err(UnusableState("the list of templates"));
        }
        scorer.templates.go_on_from(state.observations);
        scorer.templates.evicted = state.evicted;
        scorer.services.all = state.services.into_iter().map(ServiceState::restore).collect();
        for series in state.series {
            let place = (TemplateKey(series.template), ServiceId(series.service));
            if series.service as usize >= scorer.services.all.len() {
                return Err(UnusableState("the list of services"));
            }
            scorer.series.insert(place, series.restore()?);
        }
        scorer.calibration = state.calibration.map(CalibrationState::restore).unwrap_or_default();
        scorer.judge = state.judge.map(FittedState::restore).transpose()?;
        // A template of the bank that is still remembered was one value before, and is again.
        for known in scorer.judge.iter_mut().flat_map(|judge| &mut judge.bank) {
            let Some(template) = scorer.templates.by_key.get(&known.key) else {
                continue;
            };
            if template.text == known.text {
                known.text = Arc::clone(&template.text);
            }
            if let Some(embedding) = template.embedding.as_ref().filter(|own| **own == known.embedding) {
                known.embedding = embedding.clone();
            }
        }
        scorer.records = state.records;
        scorer.episodes = state.episodes;
        scorer.latest_unix_nano = state.latest_unix_nano;
        scorer.look_at = state.look_at;
        scorer.warm_up_records = state.warm_up_records;
        scorer.over_budget = state.over_budget;
        scorer.released = state.released;
        scorer.drifted = state.drifted;
        scorer.drift = Drift {
            log_stake: state.drift_log_stake,
        };
        scorer.stream = Stream {
            records: state.stream_records,
            first_unix_nano: state.stream_first_unix_nano,
            news: state.stream_news,
            news_records: state.stream_news_records,
        };
        Ok(scorer)
    }
}

impl TemplateState {
    fn of((key, template): (&TemplateKey, &Template)) -> Self {
        Self {
            key: key.0,
            text: template.text.to_string(),
            embedding: template
                .embedding
                .as_ref()
                .map(|embedding| embedding.as_slice().to_vec())
                .unwrap_or_default(),
            failing: template.failing,
            lines: template.lines,
            first_seen_unix_nano: template.first_seen_unix_nano,
            last_seen_unix_nano: template.last_seen_unix_nano,
            first_record: template.first_record,
            touched: template.touched,
            flagged_unix_nano: template.flagged_unix_nano,
            assessment: Some(AssessmentState::of(template.assessment)),
            unknown_share: template.embedding.as_ref().map_or(0.0, Embedding::unknown_share),
        }
    }

    fn restore(self) -> Result<Template, UnusableState> {
        Ok(Template {
            text: Arc::from(self.text),
            embedding: match self.embedding.is_empty() {
                true => None,
                false => Some(embedding(self.embedding, self.unknown_share)?),
            },
            failing: self.failing,
            lines: self.lines,
            first_seen_unix_nano: self.first_seen_unix_nano,
            last_seen_unix_nano: self.last_seen_unix_nano,
            first_record: self.first_record,
            touched: self.touched,
            flagged_unix_nano: self.flagged_unix_nano,
            hearsay: false,
            assessment: self.assessment.map(AssessmentState::restore).unwrap_or_default(),
        })
    }
}

fn embedding(values: Vec<f32>, unknown_share: f32) -> Result<Embedding, UnusableState> {
    let embedding = Embedding::new(values).map_err(|_| UnusableState("an embedding"))?;
    Ok(embedding.with_unknown_share(unknown_share))
}

impl AssessmentState {
    pub(super) fn of(assessment: Assessment) -> Self {
        Self {
            generation: assessment.generation,
            error: assessment.error,
            distance: assessment.distance,
            nearest: assessment.nearest.map(|key| key.0),
        }
    }

    pub(super) fn restore(self) -> Assessment {
        Assessment {
            generation: self.generation,
            error: self.error,
            distance: self.distance,
            nearest: self.nearest.map(TemplateKey),
        }
    }
}

impl SeriesState {
    fn of(((template, service), series): (&(TemplateKey, ServiceId), &Series)) -> Self {
        Self {
            template: template.0,
            service: service.0,
            known: series.known,
            decayed_at: series.decayed_at,
            last_seen_unix_nano: series.last_seen_unix_nano,
            window_latest: series.window.latest,
            window_counts: series.window.counts.to_vec(),
            window_before: series.window.before,
            episode: Some(EpisodeState::of(&series.episode)),
        }
    }

    fn restore(self) -> Result<Series, UnusableState> {
        Ok(Series {
            known: self.known,
            decayed_at: self.decayed_at,
            last_seen_unix_nano: self.last_seen_unix_nano,
            window: Window {
                latest: self.window_latest,
                counts: self.window_counts.try_into().map_err(|_| UnusableState("a window"))?,
                before: self.window_before,
            },
            episode: self.episode.unwrap_or_default().restore()?,
        })
    }
}

impl EpisodeState {
    fn of(episode: &Episode) -> Self {
        Self {
            number: episode.number,
            started_unix_nano: episode.started_unix_nano,
            judged: episode.judged,
            known: episode.known,
            quiet_nano: episode.quiet_nano,
            assessment: Some(AssessmentState::of(episode.assessment)),
            anomaly: episode.anomaly.as_deref().map(AnomalyState::of),
            suppressed: episode.suppressed,
            turns: episode.turns,
        }
    }

    fn restore(self) -> Result<Episode, UnusableState> {
        let anomaly = match self.anomaly {
            None => None,
            Some(anomaly) => {
                let named = Detector::ALL
                    .into_iter()
                    .find(|detector| detector.name() == anomaly.detector);
                Some(Arc::new(Anomaly {
                    score: anomaly.score,
                    p_value: anomaly.p_value,
                    detector: Some(named.ok_or(UnusableState("a detector's name"))?),
                    reason: Arc::from(anomaly.reason),
                    episode: self.number,
                }))
            }
        };
        Ok(Episode {
            number: self.number,
            started_unix_nano: self.started_unix_nano,
            judged: self.judged,
            known: self.known,
            quiet_nano: self.quiet_nano,
            assessment: self.assessment.map(AssessmentState::restore).unwrap_or_default(),
            anomaly,
            suppressed: self.suppressed,
            turns: self.turns,
        })
    }
}

impl AnomalyState {
    pub(super) fn of(anomaly: &Anomaly) -> Self {
        Self {
            score: anomaly.score,
            p_value: anomaly.p_value,
            detector: anomaly.detector.map_or("", Detector::name).to_owned(),
            reason: anomaly.reason.to_string(),
        }
    }
}

impl ServiceState {
    fn of(service: &Service) -> Self {
        Self {
            name: service.name.to_string(),
            records: service.records,
            unrest: service.unrest.level,
            unrest_unix_nano: service.unrest.at_unix_nano,
            calibration: Some(CalibrationState::of(&service.calibration)),
            openings: service.openings.iter().copied().collect(),
            plain_openings: service.plain_openings.iter().copied().collect(),
            noted_unix_nano: service.noted_unix_nano,
        }
    }

    fn restore(self) -> Service {
        Service {
            name: Arc::from(self.name),
            records: self.records,
            unrest: Unrest {
                level: self.unrest,
                at_unix_nano: self.unrest_unix_nano,
            },
            calibration: self.calibration.map(CalibrationState::restore).unwrap_or_default(),
            openings: self.openings.into(),
            plain_openings: self.plain_openings.into(),
            noted_unix_nano: self.noted_unix_nano,
        }
    }
}

impl CalibrationState {
    fn of(calibration: &Calibration) -> Self {
        Self {
            units: calibration.units.iter().copied().collect(),
            unit_count: calibration.unit_count,
            record_count: calibration.record_count,
            usual: calibration.usual,
            usual_alpha: calibration.usual_alpha,
            looked_up_at: calibration.looked_up_at,
        }
    }

    fn restore(self) -> Calibration {
        Calibration {
            units: self.units.into(),
            unit_count: self.unit_count,
            record_count: self.record_count,
            usual: self.usual,
            usual_alpha: self.usual_alpha,
            looked_up_at: self.looked_up_at,
        }
    }
}

impl FittedState {
    fn of(fitted: &Fitted) -> Self {
        let [mean, encode, encode_bias, decode, decode_bias] = fitted.autoencoder.parts().map(Vec::clone);
        Self {
            generation: fitted.generation,
            records: fitted.records,
            sigmoid: fitted.autoencoder.activation() == Activation::Sigmoid,
            mean,
            encode,
            encode_bias,
            decode,
            decode_bias,
            bank: fitted
                .bank
                .iter()
                .map(|known| KnownState {
                    key: known.key.0,
                    text: known.text.to_string(),
                    embedding: known.embedding.as_slice().to_vec(),
                    lines: known.lines,
                    unknown_share: known.embedding.unknown_share(),
                })
                .collect(),
        }
    }

    fn restore(self) -> Result<Fitted, UnusableState> {
        let activation = if self.sigmoid {
            Activation::Sigmoid
        } else {
            Activation::Linear
        };
        let parts = [self.mean, self.encode, self.encode_bias, self.decode, self.decode_bias];
        let bank: Result<Vec<Known>, UnusableState> = self
            .bank
            .into_iter()
            .map(|known| {
                Ok(Known {
                    key: TemplateKey(known.key),
                    text: Arc::from(known.text),
                    embedding: embedding(known.embedding, known.unknown_share)?,
                    lines: known.lines,
                })
            })
            .collect();
        Ok(Fitted {
            autoencoder: Autoencoder::of_parts(activation, parts).ok_or(UnusableState("the network"))?,
            bank: bank?,
            held_out: Vec::new(),
            generation: self.generation,
            records: self.records,
        })
    }
}
