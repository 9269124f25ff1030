//! Runs of templates and which of them touch: the graph, without ever looking at pairs of records.
//!
//! A *run* is a stretch of records of one template whose consecutive gaps are under the window; equal texts have cosine 1,
//! so they are connected. Two runs of similar templates contain a pair of records closer than the window exactly when
//! the gap between their intervals is: apart, the nearest pair are their ends; overlapping, an end of one lies between
//! two records of the other that are less than a window apart. So intervals are all that is kept. A new record at time t
//! adds only edges from t: to runs within the window of t.
//!
//! In: template keys, embeddings and times, in any order. Out: places of runs to extend, absorb or join; the caller owns
//! what a run means (`P`). Promise: between any two calls, every pair of live runs that touch has been named once to the
//! caller. The list of similar live templates is computed once when a template becomes live and kept up to date by those
//! that become live after it. Absent on purpose: incidents, clocks, caps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use super::super::id::Mixing;
use crate::engine::embed::Embedding;
use crate::engine::slab::Slab;
use crate::engine::text::TemplateKey;

/// Records of one template without a gap of a window or more; times in Unix nanoseconds, both ends included.
#[derive(Clone, Debug)]
pub(super) struct Run<P> {
    /// Place of its template.
    pub template: u32,
    pub start: u64,
    pub end: u64,
    pub payload: P,
    /// Numbers runs in order of creation; tells a run from a later one in the same place.
    serial: u64,
}

/// A template with at least one run.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub key: TemplateKey,
    pub text: Arc<str>,
    pub embedding: Option<Embedding>,
    /// Places of its runs, by start.
    pub runs: Vec<u32>,
    /// When it became comparable; 0 before. Unique, ascending.
    birth: u64,
    similar: Vec<Similar>,
}

/// A live template; stale once the template in that place has another birth.
#[derive(Clone, Copy, Debug)]
struct Similar {
    place: u32,
    birth: u64,
}

/// What is known of a template without runs; a cache, nothing depends on its being there.
#[derive(Clone, Debug, Default)]
struct Acquaintance {
    similar: Vec<Similar>,
    /// Births up to this one have been looked at.
    seen: u64,
}

/// What the caller gets back for a run that is no more.
pub(super) struct Removed<P> {
    pub payload: P,
    pub key: TemplateKey,
    pub text: Arc<str>,
}

/// Work done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Runs looked at as possible neighbours of a record.
    pub links: u64,
    /// Cosines computed.
    pub cosines: u64,
    pub runs: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Runs<P> {
    window: u64,
    similarity: f32,
    /// Equal texts have cosine 1: does that join them?
    equals_join: bool,
    templates: Slab<Template>,
    by_key: HashMap<TemplateKey, u32, Mixing>,
    by_birth: BTreeMap<u64, u32>,
    births: u64,
    runs: Slab<Run<P>>,
    serials: u64,
    /// No live run starts later; `None` when the one that did is gone and nobody has asked since.
    latest_start: Option<u64>,
    /// (end when written, key, serial, place): the run may have grown since.
    endings: BinaryHeap<Reverse<(u64, TemplateKey, u64, u32)>>,
    acquaintances: HashMap<TemplateKey, Acquaintance, Mixing>,
    max_acquaintances: usize,
    pub work: Work,
}

impl<P> Runs<P> {
    /// `window` in nanoseconds; edges need a gap under it and a cosine over `similarity`, both strictly.
    pub fn new(window: u64, similarity: f32, max_acquaintances: usize) -> Self {
        Self {
            window,
            similarity,
            equals_join: window > 0 && 1.0 > similarity,
            templates: Slab::default(),
            by_key: HashMap::default(),
            by_birth: BTreeMap::new(),
            births: 0,
            runs: Slab::default(),
            serials: 0,
            latest_start: Some(0),
            endings: BinaryHeap::new(),
            acquaintances: HashMap::default(),
            max_acquaintances,
            work: Work::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn live_templates(&self) -> usize {
        self.templates.len()
    }

    pub fn get(&self, run: u32) -> Option<&Run<P>> {
        self.runs.get(run)
    }

    pub fn get_mut(&mut self, run: u32) -> Option<&mut Run<P>> {
        self.runs.get_mut(run)
    }

    pub fn template(&self, place: u32) -> Option<&Template> {
        self.templates.get(place)
    }

    /// In no order that may matter.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Run<P>)> {
        self.runs.iter()
    }

    /// In no order that may matter.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.iter().map(|(_, template)| template)
    }

    /// The place of a live template.
    pub fn find(&self, key: TemplateKey) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// Makes a template live, or finds it so. A run must follow.
    pub fn admit(&mut self, key: TemplateKey, text: impl FnOnce() -> Arc<str>, embedding: Option<&Embedding>) -> u32 {
        if let Some(place) = self.find(key) {
            return place;
        }
        let template = Template {
            key,
            text: text(),
            embedding: None,
            runs: Vec::new(),
            birth: 0,
            similar: Vec::new(),
        };
        let place = self.templates.insert(template);
        self.by_key.insert(key, place);
        if let Some(embedding) = embedding {
            self.learn(place, embedding);
        }
        place
    }

    /// A live template's embedding becomes known. False if it was. The caller then joins what its runs [`Self::touch`].
    pub fn learn(&mut self, place: u32, embedding: &Embedding) -> bool {
        let Some(key) = self
            .templates
            .get(place)
            .filter(|template| template.birth == 0)
            .map(|template| template.key)
        else {
            return false;
        };
        self.acquaint(key, embedding);
        let mut similar = self
            .acquaintances
            .remove(&key)
            .map(|known| known.similar)
            .unwrap_or_default();
        similar.retain(|other| is_alive(&self.templates, *other));
        self.births += 1;
        let birth = self.births;
        self.by_birth.insert(birth, place);
        let live = self.templates.len();
        for other in &similar {
            let Some(list) = self
                .templates
                .get_mut(other.place)
                .map(|template| &mut template.similar)
            else {
                continue;
            };
            list.push(Similar { place, birth });
            // Stale entries are dropped when they are the greater part: constant work per birth, bounded length.
            if list.len() > 2 * live + 16 {
                let mut list = std::mem::take(list);
                list.retain(|other| other.birth == birth || is_alive(&self.templates, *other));
                if let Some(template) = self.templates.get_mut(other.place) {
                    template.similar = list;
                }
            }
        }
        if let Some(template) = self.templates.get_mut(place) {
            template.embedding = Some(embedding.clone());
            template.birth = birth;
            template.similar = similar;
        }
        true
    }

    /// Brings what is known of a template without runs up to date.
    fn acquaint(&mut self, key: TemplateKey, embedding: &Embedding) {
        if self.acquaintances.len() >= self.max_acquaintances && !self.acquaintances.contains_key(&key) {
            self.acquaintances.clear();
        }
        let known = self.acquaintances.entry(key).or_default();
        if known.seen == self.births {
            return;
        }
        for (birth, place) in self.by_birth.range(known.seen + 1..) {
            let Some(other) = self.templates.get(*place) else {
                continue;
            };
            self.work.cosines += 1;
            if other.key != key
                && other
                    .embedding
                    .as_ref()
                    .is_some_and(|it| it.cosine(embedding) > self.similarity)
            {
                known.similar.push(Similar {
                    place: *place,
                    birth: *birth,
                });
            }
        }
        known.seen = self.births;
    }

    /// Runs of the template in `place` within the window of `[first, last]`, earliest first. At most two for an instant.
    pub fn own(&self, place: u32, first: u64, last: u64, out: &mut Vec<u32>) {
        if !self.equals_join {
            return;
        }
        let Some(template) = self.templates.get(place) else {
            return;
        };
        let from = out.len();
        for place in template.runs.iter().rev() {
            let Some(run) = self.runs.get(*place) else { continue };
            if run.end < first && first - run.end >= self.window {
                break;
            }
            if self.gap(run, first, last) < self.window {
                out.push(*place);
            }
            if run.start <= first {
                break; // every earlier run is a window or more before this one
            }
        }
        if let Some(found) = out.get_mut(from..) {
            found.reverse();
        }
    }

    /// Runs of templates similar to the live one in `place` that are within the window of `[first, last]`.
    pub fn touch(&mut self, place: u32, first: u64, last: u64, out: &mut Vec<u32>) {
        let Some(template) = self.templates.get(place) else {
            return;
        };
        for other in &template.similar {
            self.work.links += self.near(*other, first, last, out);
        }
    }

    /// The same for a template that may have no runs.
    pub fn touch_of(&mut self, key: TemplateKey, embedding: Option<&Embedding>, time: u64, out: &mut Vec<u32>) {
        if let Some(place) = self.find(key) {
            self.touch(place, time, time, out);
        } else if let Some(embedding) = embedding
            && self.births > 0
        {
            self.acquaint(key, embedding);
            let Some(mut known) = self.acquaintances.remove(&key) else {
                return;
            };
            known.similar.retain(|other| is_alive(&self.templates, *other));
            for other in &known.similar {
                self.work.links += self.near(*other, time, time, out);
            }
            self.acquaintances.insert(key, known);
        }
    }

    fn near(&self, other: Similar, first: u64, last: u64, out: &mut Vec<u32>) -> u64 {
        let Some(template) = self
            .templates
            .get(other.place)
            .filter(|template| template.birth == other.birth)
        else {
            return 0;
        };
        let mut looked_at = 0;
        for place in template.runs.iter().rev() {
            let Some(run) = self.runs.get(*place) else { continue };
            looked_at += 1;
            if self.gap(run, first, last) < self.window {
                out.push(*place);
            } else if run.end < first && self.equals_join {
                break; // earlier runs end earlier still
            }
        }
        looked_at
    }

    /// Nanoseconds between a run and `[first, last]`; 0 when they overlap.
    pub fn gap(&self, run: &Run<P>, first: u64, last: u64) -> u64 {
        if run.end < first {
            first - run.end
        } else {
            run.start.saturating_sub(last)
        }
    }

    /// A new run of the live template in `place`.
    pub fn insert(&mut self, place: u32, start: u64, end: u64, payload: P) -> u32 {
        self.serials += 1;
        self.work.runs += 1;
        let serial = self.serials;
        let run = self.runs.insert(Run {
            template: place,
            start,
            end,
            payload,
            serial,
        });
        self.latest_start = self.latest_start.map(|latest| latest.max(start));
        let Some(template) = self.templates.get_mut(place) else {
            return run;
        };
        let runs = &self.runs;
        let at = template
            .runs
            .partition_point(|other| runs.get(*other).is_some_and(|other| other.start <= start));
        template.runs.insert(at, run);
        self.endings.push(Reverse((end, template.key, serial, run)));
        if self.endings.len() > 2 * self.runs.len() + 64 {
            self.rewrite_endings();
        }
        run
    }

    /// Extends a run to `[first, last]`, which is within the window of it. True if it may now touch runs it did not
    /// touch before; false needs no look: the interval did not grow, or grew forward and no run lies there yet.
    pub fn extend(&mut self, run: u32, first: u64, last: u64) -> bool {
        let Some(end) = self.runs.get(run).map(|run| run.end) else {
            return false;
        };
        let forward = last > end && self.latest_start().saturating_sub(end) >= self.window;
        let Some(run) = self.runs.get_mut(run) else {
            return false;
        };
        let back = first < run.start;
        run.start = run.start.min(first);
        run.end = run.end.max(last);
        back || forward
    }

    fn latest_start(&mut self) -> u64 {
        let runs = &self.runs;
        *self
            .latest_start
            .get_or_insert_with(|| runs.iter().map(|(_, run)| run.start).max().unwrap_or(0))
    }

    /// Unites two runs of one template; what `other` meant comes back.
    pub fn absorb(&mut self, run: u32, other: u32) -> Option<P> {
        let (start, end) = self.runs.get(other).map(|other| (other.start, other.end))?;
        let run = self.runs.get_mut(run)?;
        run.start = run.start.min(start);
        run.end = run.end.max(end);
        self.remove(other).map(|removed| removed.payload)
    }

    /// Forgets a run, and its template with the last one.
    pub fn remove(&mut self, place: u32) -> Option<Removed<P>> {
        let run = self.runs.remove(place)?;
        if self.latest_start == Some(run.start) {
            self.latest_start = None;
        }
        let template = self.templates.get_mut(run.template)?;
        template.runs.retain(|other| *other != place);
        let (key, text) = (template.key, Arc::clone(&template.text));
        if template.runs.is_empty()
            && let Some(template) = self.templates.remove(run.template)
        {
            self.by_key.remove(&key);
            self.by_birth.remove(&template.birth);
            if template.birth > 0 && self.acquaintances.len() < self.max_acquaintances {
                self.acquaintances.insert(
                    key,
                    Acquaintance {
                        similar: template.similar,
                        seen: self.births,
                    },
                );
            }
        }
        Some(Removed {
            payload: run.payload,
            key,
            text,
        })
    }

    /// The run that ended first (ties by key), if it ended at or before `by`. Asking again without removing it may name
    /// the next one.
    pub fn ended(&mut self, by: u64) -> Option<u32> {
        while let Some(Reverse((end, key, serial, place))) = self.endings.peek().copied() {
            if end > by {
                return None;
            }
            self.endings.pop();
            match self.runs.get(place).filter(|run| run.serial == serial) {
                None => {}
                Some(run) if run.end > end => self.endings.push(Reverse((run.end, key, serial, place))),
                Some(_) => return Some(place),
            }
        }
        None
    }

    fn rewrite_endings(&mut self) {
        let key_of = |run: &Run<P>| self.templates.get(run.template).map(|template| template.key);
        self.endings = (self.runs.iter())
            .filter_map(|(place, run)| Some(Reverse((run.end, key_of(run)?, run.serial, place))))
            .collect();
    }
}

fn is_alive(templates: &Slab<Template>, similar: Similar) -> bool {
    templates
        .get(similar.place)
        .is_some_and(|template| template.birth == similar.birth)
}
