//! The names of incidents: given at opening, never taken back, never given twice.
//!
//! In: groups by the place of their opening episode, ids. Out: whose id is whose, and whom an alias stands for. Promises:
//! bounded (the oldest aliases are forgotten first, and counted by the caller); of two incidents that are one, the one
//! named first goes on. Absent on purpose: why groups are one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::id::{IncidentId, UsedIds};
use super::episode::Place;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub max_aliases: usize,
    /// Id of a group, and how many were named before it.
    pub by_group: BTreeMap<Place, (IncidentId, u64)>,
    groups: BTreeMap<IncidentId, Place>,
    /// Whom an id stands for that is no incident's own any more; never another such id.
    survivors: BTreeMap<IncidentId, IncidentId>,
    /// The same, the other way round.
    aliases_of: BTreeMap<IncidentId, BTreeSet<IncidentId>>,
    order: VecDeque<IncidentId>,
    pub named: u64,
    pub used: UsedIds,
}

impl Names {
    pub fn new(max_aliases: usize) -> Self {
        Self {
            max_aliases,
            ..Self::default()
        }
    }

    pub fn of(&self, group: Place) -> Option<IncidentId> {
        self.by_group.get(&group).map(|(id, _)| *id)
    }

    pub fn group(&self, id: IncidentId) -> Option<Place> {
        self.groups.get(&id).copied()
    }

    /// Gives a group its id.
    pub fn give(&mut self, group: Place, id: IncidentId) {
        self.named += 1;
        self.used.remember(id);
        self.by_group.insert(group, (id, self.named));
        self.groups.insert(id, group);
    }

    /// The group's opening turned out to be another.
    pub fn opener_moved(&mut self, from: Place, to: Place) {
        if !self.by_group.contains_key(&to)
            && let Some(name) = self.by_group.remove(&from)
        {
            self.groups.insert(name.0, to);
            self.by_group.insert(to, name);
        }
    }

    /// The group is over, or part of another: its id is no group's any more.
    pub fn release(&mut self, group: Place) -> Option<IncidentId> {
        let (id, _) = self.by_group.remove(&group)?;
        self.groups.remove(&id);
        Some(id)
    }

    /// From now on an id, and whatever stands for it, stands for another. How many aliases were forgotten for that.
    pub fn alias(&mut self, id: IncidentId, survivor: IncidentId) -> u64 {
        let survivor = self.resolve(survivor);
        if survivor == id {
            return 0; // bytes on a disk can say anything
        }
        let mut aliases = self.aliases_of.remove(&id).unwrap_or_default();
        aliases.insert(id);
        for alias in &aliases {
            if self.survivors.insert(*alias, survivor).is_none() {
                self.order.push_back(*alias);
            }
        }
        self.aliases_of.entry(survivor).or_default().append(&mut aliases);
        let mut forgotten = 0;
        while self.order.len() > self.max_aliases
            && let Some(oldest) = self.order.pop_front()
        {
            let of = self.survivors.remove(&oldest);
            if let Some(aliases) = of.and_then(|of| self.aliases_of.get_mut(&of)) {
                aliases.remove(&oldest);
            }
            self.aliases_of.retain(|_, aliases| !aliases.is_empty());
            forgotten += 1;
        }
        forgotten
    }

    /// Whom an id stands for; itself where nothing else is known.
    pub fn resolve(&self, id: IncidentId) -> IncidentId {
        self.survivors.get(&id).copied().unwrap_or(id)
    }

    /// Every id that stands for this one, sorted.
    pub fn aliases_of(&self, id: IncidentId) -> Vec<IncidentId> {
        let aliases = self.aliases_of.get(&id);
        aliases.into_iter().flatten().copied().collect()
    }

    /// Whether an incident has or had this id.
    pub fn is_taken(&self, id: IncidentId) -> bool {
        self.used.contains(id) || self.groups.contains_key(&id) || self.survivors.contains_key(&id)
    }

    /// Aliases and whom they stand for, oldest first.
    pub fn aliases(&self) -> impl Iterator<Item = (IncidentId, IncidentId)> {
        self.order.iter().map(|alias| (*alias, self.resolve(*alias)))
    }
}
