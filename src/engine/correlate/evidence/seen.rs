//! Since when an id is known: one that was there long before is a tenant's, a host's or a project's, and links nothing.
//!
//! In: ids of all records. Out: the fresh ones. Promises: bounded, the oldest half forgotten at once; an id that was
//! forgotten is fresh again. Absent on purpose: what survives a restart; after one, ids are fresh again.

use std::collections::HashMap;

use super::super::id::Mixing;

/// An id links what is said within so long of its first sight, nanoseconds.
const FRESH_NANO: u64 = 600 * 1_000_000_000;
/// Half as many ids as are remembered.
const HALF: usize = 32_768;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    current: HashMap<u64, u64, Mixing>,
    previous: HashMap<u64, u64, Mixing>,
}

impl Seen {
    /// Notes an id at `time`. Whether it is fresh.
    pub fn note(&mut self, id: u64, time: u64) -> bool {
        let first = match self.current.get_mut(&id) {
            Some(first) => {
                *first = time.min(*first);
                *first
            }
            None => {
                let first = self.previous.get(&id).map_or(time, |first| time.min(*first));
                if self.current.len() >= HALF {
                    self.previous = std::mem::take(&mut self.current);
                }
                self.current.insert(id, first);
                first
            }
        };
        time - first <= FRESH_NANO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_stays_is_no_link() {
        let mut seen = Seen::default();
        assert!(seen.note(1, 0));
        assert!(seen.note(1, FRESH_NANO));
        assert!(!seen.note(1, FRESH_NANO + 1));
        for id in 10..10 + 3 * HALF as u64 {
            seen.note(id, FRESH_NANO);
        }
        assert!(seen.current.len() + seen.previous.len() <= 2 * HALF);
    }
}
