//! The notebook's rule, for those who compare: raw text, an autoencoder with sigmoid output trained on the rows it
//! judges, the 95th percentile of its own errors, and a graph over all rows whose components are the incidents.
//!
//! What enters: rows in input order. What leaves: for each its verdict, its error as score, and the number of its
//! component, 0, 1, 2 … in row order. Promises: strict `>` everywhere, linear percentile, rows without a time are
//! incidents of their own, as the notebook has it. Absent on purpose: everything that came after the notebook.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{analyze::Judged, input::message};
use crate::{
    edge::files::Row,
    engine::{
        correlate,
        embed::{Embedder, Embedding},
        score,
    },
};

const EMBED_TEXTS: usize = 64;

/// Judges all rows at once; `progress` is told how many more rows are embedded.
///
/// # Errors
/// The model failed on a text.
pub fn judge(rows: &[Row], embedder: &dyn Embedder, progress: &dyn Fn(u64)) -> Result<Vec<Judged>> {
    let mut place_of_text: HashMap<&str, usize> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let places: Vec<usize> = rows
        .iter()
        .map(|row| {
            let text = message(row);
            *place_of_text.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        })
        .collect();
    let mut embeddings: Vec<Embedding> = Vec::with_capacity(texts.len());
    let rows_per_text = rows.len() as f64 / texts.len().max(1) as f64;
    for some in texts.chunks(EMBED_TEXTS) {
        embeddings.extend(embedder.embed(some).context("the model failed")?);
        progress((some.len() as f64 * rows_per_text) as u64);
    }
    let of_rows: Vec<Embedding> = places
        .iter()
        .filter_map(|place| embeddings.get(*place).cloned())
        .collect();
    let verdicts = score::notebook_verdicts(&of_rows, 0);
    let nodes: Vec<(Option<u64>, usize)> = rows
        .iter()
        .zip(&places)
        .map(|(row, place)| (row.time_unix_nano, *place))
        .collect();
    let graph = correlate::Settings::default();
    let components = correlate::components(&nodes, &embeddings, graph.window, graph.similarity);
    Ok(verdicts
        .into_iter()
        .zip(components)
        .map(|((error, is_anomaly), component)| Judged {
            is_anomaly,
            score: Some(error),
            incident_id: component.to_string(),
            template: None,
        })
        .collect())
}
