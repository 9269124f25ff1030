//! What has come together before: templates in one incident, and services in one request.
//!
//! In: pairs, as incidents grow. Out: how strongly one suggests the other. Promises: bounded (when full, everything is
//! counted for half, and what is left of little is forgotten); a template that comes with everything suggests nothing.
//! Absent on purpose: time.

use std::collections::BTreeMap;

/// Pairs remembered of a kind.
const MAX_PAIRS: usize = 16_384;
/// Requests that two services have to share to be neighbours.
const NEIGHBOURS_FROM: u32 = 2;

/// A template of a service: keys.
pub(super) type Kind = (u64, u64);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Companions {
    /// In how many incidents a kind was.
    pub incidents: BTreeMap<Kind, u32>,
    /// In how many incidents two kinds were; the lesser first.
    pub pairs: BTreeMap<(Kind, Kind), u32>,
    /// How many ids two services have shared; the lesser first.
    pub services: BTreeMap<(u64, u64), u32>,
}

impl Companions {
    /// A kind is new in an incident which has these kinds already.
    pub fn meet(&mut self, kind: Kind, others: impl Iterator<Item = Kind>) {
        *self.incidents.entry(kind).or_default() += 1;
        for other in others {
            *self.pairs.entry(ordered(kind, other)).or_default() += 1;
        }
        halve(&mut self.incidents);
        halve(&mut self.pairs);
    }

    /// Two services have carried one id.
    pub fn share(&mut self, one: u64, other: u64) {
        if one != other {
            *self.services.entry(ordered(one, other)).or_default() += 1;
            halve(&mut self.services);
        }
    }

    /// In how many incidents a kind was.
    pub fn incidents_of(&self, kind: Kind) -> u32 {
        self.incidents.get(&kind).copied().unwrap_or_default()
    }

    /// Of the incidents that had either kind, about how many had both: 0 to 1.
    pub fn together(&self, one: Kind, other: Kind) -> f64 {
        let both = self.pairs.get(&ordered(one, other)).copied().unwrap_or_default();
        let either = self.incidents_of(one).max(self.incidents_of(other));
        f64::from(both) / f64::from(either.max(2))
    }

    /// Whether two services work for one another.
    pub fn are_neighbours(&self, one: u64, other: u64) -> bool {
        self.services
            .get(&ordered(one, other))
            .is_some_and(|ids| *ids >= NEIGHBOURS_FROM)
    }
}

fn ordered<T: Ord>(one: T, other: T) -> (T, T) {
    if one <= other { (one, other) } else { (other, one) }
}

fn halve<K: Ord>(counts: &mut BTreeMap<K, u32>) {
    if counts.len() > MAX_PAIRS {
        counts.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_everything_suggests_nothing() {
        let mut companions = Companions::default();
        let (chatty, cause, effect) = ((1, 0), (2, 0), (3, 0));
        for _ in 0..3 {
            companions.meet(cause, [].into_iter());
            companions.meet(effect, [cause].into_iter());
            companions.meet(chatty, [cause, effect].into_iter());
        }
        for other in 10..60 {
            companions.meet((other, 0), [].into_iter());
            companions.meet(chatty, [(other, 0)].into_iter());
        }
        assert!(companions.together(cause, effect) > 0.9);
        assert!(companions.together(chatty, cause) < 0.1);
    }

    #[test]
    fn is_bounded() {
        let mut companions = Companions::default();
        for kind in 0..3 * MAX_PAIRS as u64 {
            companions.meet((kind, 0), [(0, 0)].into_iter());
            companions.share(kind, 0);
        }
        assert!(companions.pairs.len() <= MAX_PAIRS);
        assert!(companions.incidents.len() <= MAX_PAIRS);
        assert!(companions.services.len() <= MAX_PAIRS);
    }
}
