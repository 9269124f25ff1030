//! The same graph over rows that are all there already: the notebook's partition.
//!
//! In: rows in input order. Out: a component number per row. Promise: equals the brute-force graph; numbers ascend with
//! the first row of each component. Absent on purpose: ids, events, bounds — a file is as long as it is.

use std::sync::Arc;
use std::time::Duration;

use super::super::nanos;
use super::runs::Runs;
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// The connected components of `rows`, each a time (Unix nanoseconds) and an index into `embeddings`: an edge where
/// |Δt| < `window` and cosine > `similarity`, both strictly; rows of one index are equal texts, cosine 1. A row without
/// a time is a component of its own; an index without an embedding is like itself only.
pub fn components(
    rows: &[(Option<u64>, usize)],
    embeddings: &[Embedding],
    window: Duration,
    similarity: f32,
) -> Vec<usize> {
    let window = nanos(window);
    let mut in_time: Vec<(u64, usize, usize)> = (rows.iter().enumerate())
        .filter_map(|(row, (time, index))| Some(((*time)?, row, *index)))
        .collect();
    in_time.sort_unstable();

    let mut runs: Runs<usize> = Runs::new(window, similarity, embeddings.len());
    let mut forest = Forest::default();
    let mut node_of_row: Vec<Option<usize>> = vec![None; rows.len()];
    let (mut own, mut links) = (Vec::new(), Vec::new());
    for (time, row, index) in in_time {
        while let Some(run) = time.checked_sub(window).and_then(|by| runs.ended(by)) {
            runs.remove(run);
        }
        let key = TemplateKey(index as u64);
        own.clear();
        if let Some(template) = runs.find(key) {
            runs.own(template, time, time, &mut own);
        }
        let node = if let Some(run) = own.first() {
            runs.extend(*run, time, time); // in order: a run that grows forward touches nothing new
            runs.get(*run).map(|run| run.payload)
        } else {
            let template = runs.admit(key, || Arc::from(""), embeddings.get(index));
            links.clear();
            runs.touch(template, time, time, &mut links);
            let node = forest.plant();
            for other in links.iter().filter_map(|run| runs.get(*run)) {
                forest.unite(node, other.payload);
            }
            runs.insert(template, time, time, node);
            Some(node)
        };
        if let Some(known) = node_of_row.get_mut(row) {
            *known = node;
        }
    }

    let mut number_of_root = std::collections::HashMap::new();
    let mut numbers = 0;
    let mut next = || {
        numbers += 1;
        numbers - 1
    };
    (node_of_row.into_iter())
        .map(|node| match node {
            None => next(),
            Some(node) => *number_of_root.entry(forest.root(node)).or_insert_with(&mut next),
        })
        .collect()
}

/// Union–find with path halving.
#[derive(Default)]
struct Forest(Vec<usize>);

impl Forest {
    fn plant(&mut self) -> usize {
        self.0.push(self.0.len());
        self.0.len() - 1
    }

    fn parent(&self, node: usize) -> usize {
        self.0.get(node).copied().unwrap_or(node)
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.parent(node) != node {
            let grandparent = self.parent(self.parent(node));
            if let Some(parent) = self.0.get_mut(node) {
                *parent = grandparent;
            }
            node = grandparent;
        }
        node
    }

    fn unite(&mut self, one: usize, two: usize) {
        let (one, two) = (self.root(one), self.root(two));
        if let Some(parent) = self.0.get_mut(one.max(two)) {
            *parent = one.min(two);
        }
    }
}
