//! A training's result on its way from the agent that trained to those that judge by it.
//!
//! What enters: the judge here, and a model that was heard of. What leaves: the model as it is told, and a judge of it. Promises: a
//! later training is never replaced by an earlier one; a model waits for its templates, but not for ever; its bank shares embeddings and texts
//! with the templates that are remembered. Absent on purpose: who trains.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{Activation, Fitted, Scorer, autoencoder::Autoencoder, fit::Known},
    messages::ModelFact,
    queue::{Rank, Subject},
};
use crate::engine::text::TemplateKey;

/// A model waits so many calls of [`Scorer::set_elsewhere`] for templates that may never come: forgotten where it was trained.
const PATIENCE_CALLS: u32 = 30;

/// A model that waits for its templates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    rank: (u32, u64),
    model: ModelFact,
    missing: BTreeSet<TemplateKey>,
    calls: u32,
}

impl Waiting {
    /// A template has come; whether it was the last.
    pub(super) fn has_come(&mut self, key: TemplateKey) -> bool {
        self.missing.remove(&key) && self.missing.is_empty()
    }
}

impl Scorer {
    /// The judge, to be told.
    pub(super) fn model_fact(&self) -> Option<ModelFact> {
        let judge = self.judge.as_ref()?;
        let [mean, encode, encode_bias, decode, decode_bias] = judge.autoencoder.parts().map(Vec::clone);
        Some(ModelFact {
            generation: judge.generation,
            records: judge.records,
            sigmoid: judge.autoencoder.activation() == Activation::Sigmoid,
            mean,
            encode,
            encode_bias,
            decode,
            decode_bias,
            bank: judge.bank.iter().map(|known| known.key.0).collect(),
            lines: judge.bank.iter().map(|known| known.lines).collect(),
        })
    }

    /// A model was heard of. The generation that judges from now on, where it is another.
    pub(super) fn hear_model(&mut self, model: ModelFact) -> Option<u32> {
        let rank = model.rank();
        let own = self.own_model_rank();
        let shared = self.shared.as_mut()?;
        shared.told_model = Some(rank);
        if own.is_some_and(|own| own > rank) {
            shared.queue.note(Subject::Model, Rank::Learned);
        }
        let known = own.max(shared.waiting.as_ref().map(|waiting| waiting.rank));
        if known.is_some_and(|known| known >= rank) {
            return None;
        }
        let missing = model.bank.iter().map(|key| TemplateKey(*key));
        let missing: BTreeSet<TemplateKey> = missing.filter(|key| !self.has_embedded(*key)).collect();
        let is_whole = missing.is_empty();
        let waiting = Waiting {
            rank,
            model,
            missing,
            calls: 0,
        };
        self.shared.as_mut()?.waiting = Some(waiting);
        if is_whole { self.adopt() } else { None }
    }

    /// Whatever was in the memory was heard: what a model still waits for is not there.
    pub fn remembered(&mut self) -> Option<u32> {
        self.adopt()
    }

    /// Looks whether a waiting model has waited long enough, or its templates were said here meanwhile.
    pub(super) fn wait_for_templates(&mut self) {
        let Some(mut waiting) = self.shared.as_mut().and_then(|shared| shared.waiting.take()) else {
            return;
        };
        waiting.missing.retain(|key| !self.has_embedded(*key));
        waiting.calls += 1;
        let has_waited = waiting.missing.is_empty() || waiting.calls >= PATIENCE_CALLS;
        if let Some(shared) = &mut self.shared {
            shared.waiting = Some(waiting);
        }
        if has_waited {
            self.adopt();
        }
    }

    fn has_embedded(&self, key: TemplateKey) -> bool {
        let template = self.templates.by_key.get(&key);
        template.is_some_and(|template| template.embedding.is_some())
    }

    fn own_model_rank(&mut self) -> Option<(u32, u64)> {
        let known = self.shared.as_ref()?.own_model;
        let rank = known.or_else(|| self.model_fact().map(|model| model.rank()))?;
        self.shared.as_mut()?.own_model = Some(rank);
        Some(rank)
    }

    /// Judges by the model that waits, if one does: the generation.
    pub(super) fn adopt(&mut self) -> Option<u32> {
        let shared = self.shared.as_mut()?;
        let waiting = shared.waiting.take()?;
        let (rank, model) = (waiting.rank, waiting.model);
        let activation = match model.sigmoid {
            true => Activation::Sigmoid,
            false => Activation::Linear,
        };
        let parts = [
            model.mean,
            model.encode,
            model.encode_bias,
            model.decode,
            model.decode_bias,
        ];
        let autoencoder = Autoencoder::of_parts(activation, parts)?;
        let known = model.bank.iter().zip(&model.lines).filter_map(|(key, lines)| {
            let key = TemplateKey(*key);
            let template = self.templates.by_key.get(&key)?;
            Some(Known {
                key,
                text: Arc::clone(&template.text),
                embedding: template.embedding.clone()?,
                lines: *lines,
            })
        });
        let bank = known.collect();
        shared.own_model = Some(rank);
        if self.judge.is_none() {
            self.warm_up_records = self.warm_up_here();
        }
        self.drifted = false;
        let records = self.all_records();
        self.look_at = self.look_at.max(records + (records / 100).max(100));
        self.judge_by(Fitted {
            autoencoder,
            bank,
            held_out: Vec::new(),
            generation: model.generation,
            records: model.records,
        });
        Some(rank.0)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::super::{MAX_BANK, autoencoder::HIDDEN};
    use super::ModelFact;
    use crate::engine::embed::DIMENSIONS;

    /// What a memory takes is 900,000 bytes.
    #[test]
    fn the_largest_model_is_a_third_of_what_can_be_told() {
        let weights = |count| vec![0.5f32; count];
        let model = ModelFact {
            generation: u32::MAX,
            records: u64::MAX,
            sigmoid: true,
            mean: weights(DIMENSIONS),
            encode: weights(DIMENSIONS * HIDDEN),
            encode_bias: weights(HIDDEN),
            decode: weights(HIDDEN * DIMENSIONS),
            decode_bias: weights(DIMENSIONS),
            bank: vec![u64::MAX; MAX_BANK],
            lines: vec![u64::MAX; MAX_BANK],
        };
        assert!(model.encoded_len() < 300_000, "{}", model.encoded_len());
    }
}
