//! What is remembered of templates, whatever the service: their words, and what the words alone say.
//!
//! Promises: bounded; the template not seen for longest is forgotten first, and counted.

use std::{collections::VecDeque, sync::Arc};

use super::places::Places;
use crate::engine::{embed::Embedding, text::TemplateKey};

/// So many entries that are passed over are kept however few templates there are.
const MIN_PASSED_OVER: usize = 64;

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
    /// It was heard of, and not said here yet: nobody here embeds it.
    pub(super) hearsay: bool,
    /// What the judge of a generation makes of it.
    pub(super) assessment: Assessment,
}

impl Template {
    fn new(text: Arc<str>, time_unix_nano: u64, record: u64) -> Self {
        Self {
            text,
            embedding: None,
            failing: None,
            lines: 0,
            first_seen_unix_nano: time_unix_nano,
            last_seen_unix_nano: time_unix_nano,
            first_record: record,
            touched: 0,
            flagged_unix_nano: None,
            hearsay: false,
            assessment: Assessment::default(),
        }
    }

    fn is_orphaned(&self, restored_observations: u64) -> bool {
        self.embedding.is_none() && (self.hearsay || self.touched <= restored_observations)
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
#[derive(Clone, Debug, Default)]
pub(super) struct Templates {
    pub(super) by_key: Places<TemplateKey, Template>,
    /// In the order of `touched`, with their places; who was touched again since is passed over.
    by_touch: VecDeque<(u64, TemplateKey, u32)>,
    pub(super) observations: u64,
    pub(super) embedded: usize,
    pub(super) evicted: u64,
    /// Observations of the process before, whose queue to the model is gone.
    restored_observations: u64,
    /// Templates that waited for the model then, and were not seen since: nobody embeds them.
    pub(super) orphaned: usize,
}

/// The order of touches follows from the templates.
impl PartialEq for Templates {
    fn eq(&self, other: &Self) -> bool {
        let counts = |it: &Self| {
            (
                it.observations,
                it.embedded,
                it.evicted,
                it.restored_observations,
                it.orphaned,
            )
        };
        self.by_key == other.by_key && counts(self) == counts(other)
    }
}

impl Templates {
    /// What was observed so far was observed by a process before.
    pub(super) fn go_on_from(&mut self, observations: u64) {
        self.observations = observations;
        self.restored_observations = observations;
        let by_touch = self.by_key.iter().map(|(key, template)| (template.touched, *key));
        let mut by_touch: Vec<(u64, TemplateKey)> = by_touch.collect();
        by_touch.sort_unstable();
        let placed = by_touch
            .into_iter()
            .filter_map(|(touched, key)| Some((touched, key, self.by_key.place_of(&key)?)));
        self.by_touch = placed.collect();
        self.orphaned = self
            .by_key
            .iter()
            .filter(|(_, template)| template.embedding.is_none())
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
    ) -> Option<&mut Template> {
        let mut text = Some(text);
        let place = self.touch(key, || {
            let text = text.take().map(|text| text()).unwrap_or_default();
            Template::new(text, time_unix_nano, record)
        });
        let template = self.by_key.at_mut(place)?;
        if std::mem::take(&mut template.hearsay)
            && template.text.is_empty()
            && let Some(text) = text
        {
            template.text = text();
        }
        template.lines = template.lines.saturating_add(count);
        template.last_seen_unix_nano = template.last_seen_unix_nano.max(time_unix_nano);
        Some(template)
    }

    /// A template was heard of, with this embedding if it is known: it counts as seen.
    pub(super) fn hear(
        &mut self,
        key: TemplateKey,
        embedding: impl FnOnce() -> Option<Embedding>,
        record: u64,
    ) -> Option<&mut Template> {
        let place = self.touch(key, || Template {
            hearsay: true,
            ..Template::new(Arc::default(), 0, record)
        });
        let template = self.by_key.at_mut(place)?;
        if template.embedding.is_none() {
            template.embedding = embedding();
            self.embedded += usize::from(template.embedding.is_some());
        }
        self.orphaned += usize::from(template.is_orphaned(self.restored_observations));
        Some(template)
    }

    /// The place of a template that counts as seen now; it is made if there is none.
    fn touch(&mut self, key: TemplateKey, template: impl FnOnce() -> Template) -> u32 {
        self.observations += 1;
        let now = self.observations;
        let place = self.by_key.place_or_insert(key, template);
        if let Some(template) = self.by_key.at_mut(place) {
            self.orphaned -= usize::from(template.touched > 0 && template.is_orphaned(self.restored_observations));
            template.touched = now;
        }
        self.by_touch.push_back((now, key, place));
        if self.by_touch.len() > 2 * self.by_key.len() + MIN_PASSED_OVER {
            let templates = &self.by_key;
            self.by_touch
                .retain(|(touched, _, place)| templates.at(*place).is_some_and(|it| it.touched == *touched));
        }
        place
    }

    /// Forgets the template not seen for longest; returns which it was.
    pub(super) fn forget_oldest(&mut self) -> Option<TemplateKey> {
        loop {
            let (touched, key, place) = self.by_touch.pop_front()?;
            if self.by_key.at(place).is_none_or(|template| template.touched != touched) {
                continue;
            }
            if let Some(template) = self.by_key.remove(&key) {
                self.evicted += 1;
                self.orphaned -= usize::from(template.is_orphaned(self.restored_observations));
                self.embedded -= usize::from(template.embedding.is_some());
            }
            return Some(key);
        }
    }
}
