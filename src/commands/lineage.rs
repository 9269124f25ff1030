//! What became of the incidents of a run: which were merged into which, whose children they are, which were told.
//!
//! What enters: the engine's events and changes, in order, as they come. What leaves: for any id that was ever given the
//! id it goes by at the end, its aliases, its parent, the first of its line. Promises: complete, also where the engine has
//! forgotten an alias by now, which is how that is found out. Absent on purpose: a bound; a file ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::{
    correlate::{Change, Event, IncidentId},
    state::State,
};

/// What the engine had to tell of incidents since it was last asked, in order.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// For the journal.
    pub events: Vec<Event>,
    /// For whoever watches.
    pub changes: Vec<Change>,
}

impl Heard {
    /// Hears what there is; what was heard before is forgotten.
    pub fn hear(&mut self, state: &mut State) {
        self.events.clear();
        self.changes.clear();
        state.drain_events(&mut self.events);
        state.drain_changes(&mut self.changes);
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// What an incident was merged into.
    merged: BTreeMap<IncidentId, IncidentId>,
    /// Whose child an incident is.
    parents: BTreeMap<IncidentId, IncidentId>,
    /// Incidents that were large enough to be told.
    announced: BTreeSet<IncidentId>,
}

impl Lineage {
    /// Takes what the engine has just told.
    pub fn follow(&mut self, state: &State, heard: &Heard) {
        for event in &heard.events {
            match event {
                Event::Merged(merged) => {
                    let (from, into) = (IncidentId::from_raw(merged.from), IncidentId::from_raw(merged.into));
                    self.merged.insert(from, into);
                }
                // Small incidents are never told by changes, but a parent is known from the opening on.
                Event::Opened(opened) => {
                    let id = IncidentId::from_raw(opened.id);
                    let parent = state.incident(id).filter(|incident| incident.id == id);
                    self.child_of(id, parent.and_then(|incident| incident.parent));
                }
                Event::Joined(_) | Event::Extended(_) | Event::Closed(_) => {}
            }
        }
        for change in &heard.changes {
            self.tell(change);
        }
    }

    fn tell(&mut self, change: &Change) {
        if change.incident.announced {
            self.announced.insert(change.incident.id);
        }
        self.child_of(change.incident.id, change.incident.parent);
    }

    fn child_of(&mut self, id: IncidentId, parent: Option<IncidentId>) {
        self.parents.extend(parent.map(|parent| (id, parent)));
    }

    /// The id that an incident goes by at the end.
    pub fn last(&self, id: IncidentId) -> IncidentId {
        // An id is merged once and never opens again, so there is no circle.
        let mut last = id;
        while let Some(into) = self.merged.get(&last) {
            last = *into;
        }
        last
    }

    /// What an id was merged into, itself perhaps an alias by now.
    pub fn merged_into(&self, id: IncidentId) -> Option<IncidentId> {
        self.merged.get(&id).copied()
    }

    /// The incident whose longest life this one outlived, by the id it goes by at the end.
    pub fn parent(&self, id: IncidentId) -> Option<IncidentId> {
        let parent = self.last(*self.parents.get(&id)?);
        (parent != id).then_some(parent)
    }

    /// The first of its line: itself, or the parent of its parent and so on.
    pub fn root(&self, id: IncidentId) -> IncidentId {
        let mut root = self.last(id);
        // A parent that was merged into its own descendant would be a circle: no line is longer than there are children.
        for _ in 0..self.parents.len() {
            let Some(parent) = self.parent(root) else { break };
            root = parent;
        }
        root
    }

    /// Every id that was given to what goes by this one at the end, but for itself, sorted.
    pub fn aliases(&self, id: IncidentId) -> Vec<IncidentId> {
        let mergers = self.merged.keys().copied();
        mergers.filter(|alias| self.last(*alias) == id).collect()
    }

    /// Whether it was large enough to be told.
    pub fn is_announced(&self, id: IncidentId) -> bool {
        self.announced.contains(&id)
    }
}

#[cfg(test)]
impl Lineage {
    /// What became of these, by number: each into its second.
    pub fn of_merges<const N: usize>(merged: [(u64, u64); N]) -> Self {
        let ids = merged.map(|(from, into)| (IncidentId::from_raw(from), IncidentId::from_raw(into)));
        Self {
            merged: BTreeMap::from(ids),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> IncidentId {
        IncidentId::from_raw(number << 30)
    }

    #[test]
    fn merges_and_children_are_followed_to_their_ends() {
        let lineage = Lineage {
            merged: BTreeMap::from([(id(3), id(2)), (id(2), id(1)), (id(6), id(5))]),
            parents: BTreeMap::from([(id(5), id(3)), (id(7), id(6))]),
            announced: BTreeSet::from([id(1)]),
        };
        assert_eq!((lineage.last(id(3)), lineage.last(id(9))), (id(1), id(9)));
        assert_eq!(lineage.aliases(id(1)), [id(2), id(3)]);
        assert_eq!((lineage.parent(id(7)), lineage.parent(id(1))), (Some(id(5)), None));
        assert_eq!((lineage.root(id(7)), lineage.root(id(6))), (id(1), id(1)));
        assert!(lineage.is_announced(id(1)) && !lineage.is_announced(id(5)));
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let lineage = Lineage {
            parents: BTreeMap::from([(id(1), id(2)), (id(2), id(1))]),
            ..Lineage::default()
        };
        assert!([id(1), id(2)].contains(&lineage.root(id(1))));
    }
}
