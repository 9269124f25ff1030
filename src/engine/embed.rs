//! What an embedder is, what an embedding is, and the bounded template memo.
//!
//! What enters: texts, or the key of a template. What leaves: unit vectors of [`DIMENSIONS`] numbers. Promises: an
//! [`Embedding`] is always finite and of length one; the memo is bounded, and sharing it between requests is pure, since
//! a value depends on its key alone. Absent on purpose: any model; an [`Embedder`] is passed in from outside.

use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use super::text::TemplateKey;

/// Numbers in an embedding: all-MiniLM-L6-v2 and its kin.
pub const DIMENSIONS: usize = 384;

/// How far from one the length of a vector of `f32` can be after it was scaled to one.
const UNIT_TOLERANCE: f64 = 1e-6;

/// A text as a direction: [`DIMENSIONS`] finite numbers of Euclidean length one, and how much of the text the model knew.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    values: Arc<[f32]>,
    unknown_share: f32,
}

/// Numbers that are no embedding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEmbedding {
    /// Use a model with [`DIMENSIONS`] dimensions.
    #[error("{0} numbers instead of {DIMENSIONS}: the model is of another kind")]
    Length(usize),
    /// Do not use this output: the model is broken.
    #[error("the numbers are not finite, or all zero")]
    NoDirection,
}

impl Embedding {
    /// The direction of `values`; what has length one already keeps its bits, so that a snapshot restores what it held.
    ///
    /// # Errors
    /// Not [`DIMENSIONS`] numbers, or without a direction (NaN, infinite, all zero).
    pub fn new(mut values: Vec<f32>) -> Result<Self, NotAnEmbedding> {
        if values.len() != DIMENSIONS {
            return Err(NotAnEmbedding::Length(values.len()));
        }
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return Err(NotAnEmbedding::NoDirection);
        }
        if (length - 1.0).abs() > UNIT_TOLERANCE {
            for value in &mut values {
                *value = (f64::from(*value) / length) as f32;
            }
        }
        Ok(Self {
            values: values.into(),
            unknown_share: 0.0,
        })
    }

    /// The same direction, of a text of which the model does not know this share, 0 to 1: the larger, the less it means.
    #[must_use]
    pub fn with_unknown_share(self, share: f32) -> Self {
        Self {
            unknown_share: if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) },
            ..self
        }
    }

    /// Share of the text that the model does not know.
    pub fn unknown_share(&self) -> f32 {
        self.unknown_share
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Cosine of the angle to `other`, −1 to 1; the same to the bit whoever asks.
    pub fn cosine(&self, other: &Self) -> f32 {
        dot(&self.values, &other.values)
    }
}

/// Sum of products in a fixed order of eight lanes: vectorises, and gives the same bits on every path.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    for (left, right) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane += left * right;
        }
    }
    lanes.iter().sum()
}

/// What takes the embeddings of a part, each with the place of its text.
pub type Landed<'a> = dyn FnMut(Vec<(usize, Embedding)>) -> ControlFlow<()> + 'a;

/// Turns texts into embeddings. Blocks; the result for a text does not depend on the texts beside it.
pub trait Embedder: Send + Sync {
    /// One embedding for every text, in order.
    ///
    /// # Errors
    /// The model failed; none of the texts has an embedding.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError>;

    /// The same in parts, each as soon as it is there: embeddings with the places of their texts. `landed` may take its
    /// time between parts, and ends the work with `Break`.
    ///
    /// # Errors
    /// The model failed; texts that have not landed have no embedding.
    fn embed_in_parts(&self, texts: &[&str], landed: &mut Landed<'_>) -> Result<(), EmbedError> {
        let all = self.embed(texts)?;
        if all.len() != texts.len() {
            return Err(EmbedError::Failed(format!(
                "{} embeddings for {} texts",
                all.len(),
                texts.len()
            )));
        }
        let _ = landed(all.into_iter().enumerate().collect());
        Ok(())
    }

    /// Names the model: embeddings of different versions must not be compared.
    fn model_version(&self) -> &str;
}

/// The model gave no embeddings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// Go on without these embeddings; the same texts may succeed later.
    #[error("the model failed: {0}")]
    Failed(String),
    /// Go on without these embeddings; the model's output is not usable.
    #[error("the model's output is not usable: {0}")]
    Unusable(#[from] NotAnEmbedding),
}

/// Bounded table of embeddings by template, shared by all requests; the earliest inserted make room for new ones.
#[derive(Debug)]
pub struct Memo {
    embeddings: DashMap<TemplateKey, Embedding>,
    order: Mutex<VecDeque<TemplateKey>>,
    capacity: usize,
    evicted: AtomicU64,
}

impl Memo {
    /// An empty table for at most `capacity` templates.
    pub fn new(capacity: usize) -> Self {
        Self {
            embeddings: DashMap::new(),
            order: Mutex::default(),
            capacity: capacity.max(1),
            evicted: AtomicU64::new(0),
        }
    }

    /// The embedding of a template, if it is at hand.
    pub fn get(&self, template: TemplateKey) -> Option<Embedding> {
        self.embeddings.get(&template).map(|embedding| embedding.clone())
    }

    /// Puts an embedding at hand.
    pub fn insert(&self, template: TemplateKey, embedding: Embedding) {
        if self.embeddings.insert(template, embedding).is_some() {
            return;
        }
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.push_back(template);
        while order.len() > self.capacity {
            if let Some(oldest) = order.pop_front() {
                self.embeddings.remove(&oldest);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many templates are at hand.
    pub fn len(&self) -> usize {
        self.embeddings.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.embeddings.is_empty()
    }

    /// How many templates had to make room so far.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn direction(index: usize) -> Embedding {
        let mut values = vec![0.0; DIMENSIONS];
        if let Some(value) = values.get_mut(index) {
            *value = 3.0;
        }
        Embedding::new(values).unwrap()
    }

    #[test]
    fn an_embedding_has_length_one_and_only_directions_become_one() {
        assert_eq!(direction(0).cosine(&direction(0)), 1.0);
        assert_eq!(direction(0).cosine(&direction(1)), 0.0);
        assert_eq!(Embedding::new(vec![1.0; 3]), Err(NotAnEmbedding::Length(3)));
        assert_eq!(Embedding::new(vec![0.0; DIMENSIONS]), Err(NotAnEmbedding::NoDirection));
        assert_eq!(
            Embedding::new(vec![f32::NAN; DIMENSIONS]),
            Err(NotAnEmbedding::NoDirection)
        );
    }

    #[test]
    fn an_embedding_made_of_an_embedding_has_the_same_bits() {
        let embedding = Embedding::new((0..DIMENSIONS).map(|n| n as f32 - 100.5).collect()).unwrap();
        assert_eq!(Embedding::new(embedding.as_slice().to_vec()).unwrap(), embedding);
    }

    #[test]
    fn the_unknown_share_is_a_share_whatever_it_is_set_to() {
        assert_eq!(direction(0).unknown_share(), 0.0);
        for (set, share) in [(0.25, 0.25), (-1.0, 0.0), (7.0, 1.0), (f32::NAN, 0.0)] {
            assert_eq!(direction(0).with_unknown_share(set).unknown_share(), share);
        }
    }

    #[test]
    fn the_memo_is_bounded_and_the_earliest_go_first() {
        let memo = Memo::new(2);
        for key in 0..3 {
            memo.insert(TemplateKey(key), direction(key as usize));
        }
        assert_eq!((memo.len(), memo.evicted()), (2, 1));
        assert_eq!(memo.get(TemplateKey(0)), None);
        assert_eq!(memo.get(TemplateKey(2)), Some(direction(2)));
    }
}
