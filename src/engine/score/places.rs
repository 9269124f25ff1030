//! A map in the order of its keys whose values have places: who asks for one a thousand times looks its key up once.
//!
//! In: keys and values. Out: values, by key or by place, and all in the order of their keys. Promise: a place is its value's
//! until that is removed. Absent on purpose: telling a stale place from a new one; keep none beyond a removal.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::engine::slab::Slab;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Places<K, V> {
    index: BTreeMap<K, u32>,
    values: Slab<V>,
}

impl<K, V> Default for Places<K, V> {
    fn default() -> Self {
        Self {
            index: BTreeMap::new(),
            values: Slab::default(),
        }
    }
}

/// Which places the values have makes no difference.
impl<K: Ord, V: PartialEq> PartialEq for Places<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V> Places<K, V> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The place of the value of this key, if there is one.
    pub(super) fn place_of(&self, key: &K) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// The place of the value of this key, which is made if there is none.
    pub(super) fn place_or_insert(&mut self, key: K, value: impl FnOnce() -> V) -> u32 {
        let values = &mut self.values;
        *self.index.entry(key).or_insert_with(|| values.insert(value()))
    }

    /// The value at a place.
    pub(super) fn at(&self, place: u32) -> Option<&V> {
        self.values.get(place)
    }

    /// The same, to be changed.
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut V> {
        self.values.get_mut(place)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(self.place_of(key)?)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(self.place_of(key)?)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.place_or_insert(key, || value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.values.remove(self.index.remove(key)?)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let all = self.index.iter();
        all.filter_map(|(key, place)| Some((key, self.values.get(*place)?)))
    }

    /// Those with these keys, in their order.
    pub(super) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        let some = self.index.range(keys);
        some.filter_map(|(key, place)| Some((key, self.values.get(*place)?)))
    }

    /// All, to be changed in any order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.values_mut()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Restored in another order, a map is the same map.
    #[test]
    fn places_are_reused_and_make_no_difference() {
        let mut places = Places::default();
        let first = places.place_or_insert(2, || "two");
        places.insert(1, "one");
        assert_eq!(places.place_or_insert(2, || "other"), first);
        assert_eq!(places.remove(&2), Some("two"));
        assert_eq!(places.place_or_insert(3, || "three"), first);
        *places.at_mut(first).unwrap() = "drei";
        let mut restored = Places::default();
        restored.insert(3, "drei");
        restored.insert(1, "one");
        assert_eq!(places, restored);
        assert_eq!(places.iter().collect::<Vec<_>>(), [(&1, &"one"), (&3, &"drei")]);
        assert_eq!(places.range(2..=3).collect::<Vec<_>>(), [(&3, &"drei")]);
        restored.insert(1, "eins");
        assert_ne!(places, restored);
    }
}
