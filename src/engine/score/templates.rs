//! What is remembered of templates, whatever the service: their words, and what the words alone say.
//!
//! Promises: bounded; the template not seen for longest is forgotten first, and counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::engine::{embed::Embedding, text::TemplateKey};

/// What is remembered of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    pub(super) text: Arc<str>,
    pub(super) embedding: Option<Embedding>,
    /// How much it sounds like failure, once somebody could listen.
    pub(super) failing: Option<f32>,
    pub(super) lines: u64,
    pub(super) first_seen_unix_nano: u64,
    pub(super) last_seen_unix_nano: u64,
    /// Number of the record it was first seen with.
    pub(super) first_record: u64,
    /// When it was last seen, counted in observations: the smallest is forgotten first.
    pub(super) touched: u64,
    /// Since when it counts as anomalous, where it does.
    pub(super) flagged_unix_nano: Option<u64>,
    /// What the judge of a generation makes of it.
    pub(super) assessment: Assessment,
}

impl Template {
    fn is_orphaned(&self, restored_observations: u64) -> bool {
        self.embedding.is_none() && self.touched <= restored_observations
    }
}

/// How far a template is from what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Assessment {
    /// The training it rests on; 0 is none.
    pub(super) generation: u32,
    /// Error of the reconstruction.
    pub(super) error: f32,
    /// Distance from the nearest usual template, and which that is; none for one that is itself usual.
    pub(super) distance: f32,
    pub(super) nearest: Option<TemplateKey>,
}

/// The templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Templates {
    pub(super) by_key: BTreeMap<TemplateKey, Template>,
    /// Templates by `touched`.
    pub(super) by_touch: BTreeSet<(u64, TemplateKey)>,
    pub(super) observations: u64,
    pub(super) embedded: usize,
    pub(super) evicted: u64,
    /// Observations of the process before, whose queue to the model is gone.
    restored_observations: u64,
    /// Templates that waited for the model then, and were not seen since: nobody embeds them.
    pub(super) orphaned: usize,
}

impl Templates {
    /// What was observed so far was observed by a process before.
    pub(super) fn go_on_from(&mut self, observations: u64) {
        self.observations = observations;
        self.restored_observations = observations;
        self.orphaned = self
            .by_key
            .values()
            .filter(|template| template.embedding.is_none())
            .count();
    }

    /// A template was seen in `count` records, the latest at `time_unix_nano`; `record` is the number of the first.
    pub(super) fn observe(
        &mut self,
        key: TemplateKey,
        text: impl FnOnce() -> Arc<str>,
        count: u64,
        time_unix_nano: u64,
        record: u64,
    ) -> &mut Template {
        self.observations += 1;
        let now = self.observations;
        let restored = self.restored_observations;
        if self.by_key.get(&key).is_some_and(|known| known.is_orphaned(restored)) {
            self.orphaned -= 1;
        }
        let template = self.by_key.entry(key).or_insert_with(|| Template {
            text: text(),
            embedding: None,
            failing: None,
            lines: 0,
            first_seen_unix_nano: time_unix_nano,
            last_seen_unix_nano: time_unix_nano,
            first_record: record,
            touched: now,
            flagged_unix_nano: None,
            assessment: Assessment::default(),
        });
        self.by_touch.remove(&(template.touched, key));
        self.by_touch.insert((now, key));
        template.touched = now;
        template.lines = template.lines.saturating_add(count);
        template.last_seen_unix_nano = template.last_seen_unix_nano.max(time_unix_nano);
        template
    }

    /// Forgets the template not seen for longest; returns which it was.
    pub(super) fn forget_oldest(&mut self) -> Option<TemplateKey> {
        let (_, key) = self.by_touch.pop_first()?;
        if let Some(template) = self.by_key.remove(&key) {
            self.evicted += 1;
            self.orphaned -= usize::from(template.is_orphaned(self.restored_observations));
            self.embedded -= usize::from(template.embedding.is_some());
        }
        Some(key)
    }
}
