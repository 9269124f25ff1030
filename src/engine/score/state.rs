//! What of the scorer survives a restart, as a protobuf message.
//!
//! What enters: a scorer. What leaves: its state, and back. Promises: a restored scorer judges to the bit as the saved
//! one did; numbers that do not fit together are refused. A training under way is not kept: it starts again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Fitted, Score, Scorer, Settings, Template, autoencoder::Autoencoder, calibration::Calibration};
use crate::engine::{embed::Embedding, text::TemplateKey};

/// The scorer's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScorerState {
    #[prost(message, repeated, tag = "1")]
    templates: Vec<TemplateState>,
    #[prost(uint64, tag = "2")]
    observations: u64,
    #[prost(uint64, tag = "3")]
    records: u64,
    #[prost(fixed64, tag = "4")]
    latest_unix_nano: u64,
    #[prost(uint64, tag = "5")]
    look_at: u64,
    #[prost(uint64, tag = "6")]
    evicted: u64,
    #[prost(message, optional, tag = "7")]
    judge: Option<FittedState>,
    #[prost(uint64, tag = "8")]
    warm_up_records: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TemplateState {
    #[prost(string, tag = "1")]
    text: String,
    /// Empty when missing.
    #[prost(float, repeated, tag = "2")]
    embedding: Vec<f32>,
    #[prost(uint64, tag = "3")]
    lines: u64,
    #[prost(fixed64, tag = "4")]
    first_seen_unix_nano: u64,
    #[prost(fixed64, tag = "5")]
    last_seen_unix_nano: u64,
    #[prost(uint64, tag = "6")]
    first_record: u64,
    #[prost(uint64, tag = "7")]
    touched: u64,
    #[prost(message, optional, tag = "8")]
    verdict: Option<ScoreState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScoreState {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(double, tag = "2")]
    error: f64,
    #[prost(bool, tag = "3")]
    anomalous: bool,
    #[prost(string, optional, tag = "4")]
    reason: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FittedState {
    #[prost(uint32, tag = "1")]
    generation: u32,
    #[prost(uint64, tag = "2")]
    templates: u64,
    #[prost(uint64, tag = "3")]
    records: u64,
    /// Whether the output is a sigmoid.
    #[prost(bool, tag = "4")]
    sigmoid: bool,
    #[prost(float, repeated, tag = "5")]
    mean: Vec<f32>,
    #[prost(float, repeated, tag = "6")]
    encode: Vec<f32>,
    #[prost(float, repeated, tag = "7")]
    encode_bias: Vec<f32>,
    #[prost(float, repeated, tag = "8")]
    decode: Vec<f32>,
    #[prost(float, repeated, tag = "9")]
    decode_bias: Vec<f32>,
    #[prost(double, repeated, tag = "10")]
    known_errors: Vec<f64>,
    #[prost(double, repeated, tag = "11")]
    known_lines: Vec<f64>,
    #[prost(double, repeated, tag = "12")]
    held_out_errors: Vec<f64>,
    #[prost(double, tag = "13")]
    novelty: f64,
}

/// A state that no scorer wrote, or one of another kind: start clean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} does not fit; what was learned is learned anew")]
pub struct UnusableState(&'static str);

impl Scorer {
    /// The state, for a snapshot.
    pub fn export(&self) -> ScorerState {
        ScorerState {
            templates: self.templates.values().map(TemplateState::of).collect(),
            observations: self.observations,
            records: self.records,
            latest_unix_nano: self.latest_unix_nano,
            look_at: self.look_at,
            warm_up_records: self.warm_up_records,
            evicted: self.evicted,
            judge: self.judge.as_ref().map(FittedState::of),
        }
    }

    /// A scorer that goes on from a state.
    ///
    /// # Errors
    /// The state is not one that [`Scorer::export`] gave.
    pub fn restore(settings: Settings, state: ScorerState) -> Result<Self, UnusableState> {
        let mut templates = BTreeMap::new();
        let mut by_touch = BTreeSet::new();
        for template in state.templates {
            let key = TemplateKey::of(&template.text);
            by_touch.insert((template.touched, key));
            templates.insert(key, template.restore()?);
        }
        if by_touch.len() != templates.len() {
            return Err(UnusableState("the list of templates"));
        }
        let judge = match state.judge {
            Some(judge) => Some(judge.restore(&settings)?),
            None => None,
        };
        Ok(Self {
            embedded: templates
                .values()
                .filter(|template| template.embedding.is_some())
                .count(),
            settings,
            templates,
            by_touch,
            observations: state.observations,
            records: state.records,
            latest_unix_nano: state.latest_unix_nano,
            look_at: state.look_at,
            warm_up_records: state.warm_up_records,
            judge,
            fitting: false,
            evicted: state.evicted,
        })
    }
}

impl TemplateState {
    fn of(template: &Template) -> Self {
        Self {
            text: template.text.to_string(),
            embedding: template
                .embedding
                .as_ref()
                .map(|embedding| embedding.as_slice().to_vec())
                .unwrap_or_default(),
            lines: template.lines,
            first_seen_unix_nano: template.first_seen_unix_nano,
            last_seen_unix_nano: template.last_seen_unix_nano,
            first_record: template.first_record,
            touched: template.touched,
            verdict: template.verdict.as_ref().map(|verdict| ScoreState {
                value: verdict.value,
                error: verdict.error,
                anomalous: verdict.anomalous,
                reason: verdict.reason.as_deref().map(str::to_owned),
            }),
        }
    }

    fn restore(self) -> Result<Template, UnusableState> {
        let embedding = match self.embedding.is_empty() {
            true => None,
            false => Some(Embedding::new(self.embedding).map_err(|_| UnusableState("an embedding"))?),
        };
        Ok(Template {
            text: Arc::from(self.text),
            embedding,
            lines: self.lines,
            first_seen_unix_nano: self.first_seen_unix_nano,
            last_seen_unix_nano: self.last_seen_unix_nano,
            first_record: self.first_record,
            touched: self.touched,
            verdict: self.verdict.map(|verdict| Score {
                value: verdict.value,
                error: verdict.error,
                anomalous: verdict.anomalous,
                reason: verdict.reason.map(Arc::from),
            }),
        })
    }
}

impl FittedState {
    fn of(fitted: &Fitted) -> Self {
        let [mean, encode, encode_bias, decode, decode_bias] = fitted.autoencoder.parts().map(Vec::clone);
        let (known, held_out, novelty) = fitted.calibration.parts();
        Self {
            generation: fitted.generation,
            templates: fitted.templates as u64,
            records: fitted.records,
            sigmoid: fitted.autoencoder.activation() == super::Activation::Sigmoid,
            mean,
            encode,
            encode_bias,
            decode,
            decode_bias,
            known_errors: known.iter().map(|(error, _)| *error).collect(),
            known_lines: known.iter().map(|(_, lines)| *lines).collect(),
            held_out_errors: held_out.to_vec(),
            novelty,
        }
    }

    fn restore(self, settings: &Settings) -> Result<Fitted, UnusableState> {
        let activation = if self.sigmoid {
            super::Activation::Sigmoid
        } else {
            super::Activation::Linear
        };
        let parts = [self.mean, self.encode, self.encode_bias, self.decode, self.decode_bias];
        let autoencoder = Autoencoder::of_parts(activation, parts).ok_or(UnusableState("the network"))?;
        let known = self.known_errors.into_iter().zip(self.known_lines).collect();
        // The percentile of today's settings, not of the day the state was saved.
        let alpha = settings.alpha();
        let calibration = Calibration::new(known, self.held_out_errors, self.novelty, alpha);
        Ok(Fitted {
            threshold: calibration.threshold(alpha),
            autoencoder,
            calibration,
            generation: self.generation,
            templates: self.templates as usize,
            records: self.records,
        })
    }
}
