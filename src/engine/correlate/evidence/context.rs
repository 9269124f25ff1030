//! Normal records that belong to an incident: alike and near, or said in one breath.
//!
//! In: normal records. Out: the incident they are context of. Promises: a record of a stream without open incidents costs
//! nothing; nothing here changes what is an incident or how long it lives. Absent on purpose: certainty; a record that
//! left before its incident opened is found by service and time.

use std::collections::HashMap;

use super::super::id::Mixing;
use super::super::incident::MAX_SERVICE_BYTES;
use super::episode::Place;
use super::group::silence;
use super::{Evidence, Node};
use crate::engine::correlate::IncidentId;

/// Further than this from an incident's records nothing is its context, nanoseconds.
const NEAR_NANO: u64 = 30 * 1_000_000_000;
/// From this severity on (OTLP: ERROR) what is said in one breath with an incident belongs to it.
const ERROR: i32 = 17;
/// Templates whose likeness is remembered.
const MAX_MEMO: usize = 16_384;

/// Which group a template is most like: asked once until groups change.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    version: u64,
    memo: HashMap<u64, (u64, Option<Place>), Mixing>,
}

impl Context {
    /// What groups say has changed.
    pub fn changed(&mut self) {
        self.version += 1;
    }
}

impl Evidence {
    /// A normal record. The incident it is context of.
    pub(super) fn attach(&mut self, node: &Node<'_>, service: u64, ids: &[u64]) -> Option<IncidentId> {
        let group = self.same_breath(node, service, ids).or_else(|| self.alike(node))?;
        let id = self.names.of(group)?;
        self.counters.attached += 1;
        let end = node.service.floor_char_boundary(MAX_SERVICE_BYTES);
        let past = self.past.entry(group).or_default();
        past.add_context(node, node.service.get(..end).unwrap_or_default());
        Some(id)
    }

    /// The incident that the service is just speaking of: for the same request, or gravely.
    fn same_breath(&self, node: &Node<'_>, service: u64, ids: &[u64]) -> Option<Place> {
        let first = ids.first().copied().unwrap_or_default();
        if first == 0 && node.severity_number < ERROR {
            return None;
        }
        let (group, heard) = self.live.voices.get(&(service, first))?;
        (silence(*heard, node.time_unix_nano) == 0).then_some(*group)
    }

    /// The incident most like the record's template, if that is like it enough, and near.
    fn alike(&mut self, node: &Node<'_>) -> Option<Place> {
        let version = self.context.version;
        let known = self.context.memo.get(&node.template.0).filter(|(of, _)| *of == version);
        let group = match known {
            Some((_, group)) => *group,
            None => {
                let group = self.most_alike(node);
                if self.context.memo.len() >= MAX_MEMO {
                    self.context.memo.clear();
                }
                self.context.memo.insert(node.template.0, (version, group));
                group
            }
        }?;
        let of = self.live.groups.get(&group)?;
        let time = node.time_unix_nano;
        (time.saturating_add(NEAR_NANO) >= of.first && time <= of.last.saturating_add(NEAR_NANO)).then_some(group)
    }

    fn most_alike(&self, node: &Node<'_>) -> Option<Place> {
        let mut best: Option<(f32, Place)> = None;
        for (place, group) in &self.live.groups {
            for said in &group.core {
                let likeness = if said.kind.0 == node.template.0 {
                    1.0
                } else {
                    match (&said.embedding, node.embedding) {
                        (Some(one), Some(other)) => one.cosine(other),
                        _ => 0.0,
                    }
                };
                if likeness > self.settings.similarity && best.is_none_or(|(most, _)| likeness > most) {
                    best = Some((likeness, *place));
                }
            }
        }
        best.map(|(_, place)| place)
    }
}
