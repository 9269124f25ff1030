//! A model for tests: every word is a direction, so that texts that share most words are alike.

use harbinger::engine::embed::{DIMENSIONS, EmbedError, Embedder, Embedding};

/// See the module.
pub struct Words;

/// The text's embedding.
pub fn embedding(text: &str) -> Embedding {
    let mut vector = vec![0.001f32; DIMENSIONS];
    for word in text.split_whitespace() {
        vector[xxhash_rust::xxh3::xxh3_64(word.as_bytes()) as usize % DIMENSIONS] += 1.0;
    }
    Embedding::new(vector).unwrap()
}

impl Embedder for Words {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        Ok(texts.iter().map(|text| embedding(text)).collect())
    }

    fn model_version(&self) -> &str {
        "words"
    }
}
