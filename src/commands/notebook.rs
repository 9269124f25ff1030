//! The notebook's rule, for those who compare: raw text, an autoencoder with sigmoid output trained on the rows it
//! judges, the 95th percentile of its own errors, and a graph over all rows whose components are the incidents.
//!
//! What enters: rows in input order. What leaves: for each its verdict, its error as score, and the number of its
//! component, 0, 1, 2 … in row order. Promises: strict `>` everywhere, linear percentile, rows without a time are
//! incidents of their own, as the notebook has it. Absent on purpose: everything that came after
//! the notebook, and bounded memory: all rows are judged by each other (a few dozen bytes each), all distinct texts are held.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::analyze::Verdict;
use crate::engine::{
    correlate,
    embed::{Embedder, Embedding},
    score,
};

const EMBED_TEXTS: usize = 64;

/// All rows, as the notebook needs them: it judges by all of them at once.
#[derive(Debug, Default)]
pub struct Notebook {
    place_of_text: HashMap<String, usize>,
    /// Time of each row, and where its text is.
    rows: Vec<(Option<u64>, usize)>,
}

impl Notebook {
    /// Takes the next row.
    pub fn push(&mut self, time_unix_nano: Option<u64>, message: &str) {
        let place = match self.place_of_text.get(message) {
            Some(place) => *place,
            None => {
                let place = self.place_of_text.len();
                self.place_of_text.insert(message.to_owned(), place);
                place
            }
        };
        self.rows.push((time_unix_nano, place));
    }

    /// When the rows happened, as far as they say.
    pub fn times(&self) -> impl Iterator<Item = Option<u64>> {
        self.rows.iter().map(|(time, _)| *time)
    }

    /// Judges all rows; `progress` is told how many more rows are embedded.
    ///
    /// # Errors
    /// The model failed on a text.
    pub fn judge(self, embedder: &dyn Embedder, progress: &dyn Fn(u64)) -> Result<Vec<Verdict>> {
        let Self { place_of_text, rows } = self;
        let mut texts = vec![""; place_of_text.len()];
        for (text, place) in &place_of_text {
            if let Some(slot) = texts.get_mut(*place) {
                *slot = text;
            }
        }
        let mut embeddings: Vec<Embedding> = Vec::with_capacity(texts.len());
        let rows_per_text = rows.len() as f64 / texts.len().max(1) as f64;
        for some in texts.chunks(EMBED_TEXTS) {
            embeddings.extend(embedder.embed(some).context("the model failed")?);
            progress((some.len() as f64 * rows_per_text) as u64);
        }
        let of_rows: Vec<Embedding> = rows
            .iter()
            .filter_map(|(_, place)| embeddings.get(*place).cloned())
            .collect();
        let verdicts = score::notebook_verdicts(&of_rows, 0);
        let graph = correlate::Settings::default();
        let components = correlate::components(&rows, &embeddings, graph.window, graph.similarity);
        Ok(verdicts
            .into_iter()
            .zip(components)
            .map(|((error, is_anomaly), component)| Verdict {
                is_anomaly,
                score: Some(error),
                incident: Some(component as u64),
                template: None,
            })
            .collect())
    }
}
