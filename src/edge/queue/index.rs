//! What memory knows of a queue: which entries there are, how large, and whether there is room for more.
//!
//! In: reservations, entries that are on disk, deliveries. Out: the next entry to deliver, or why there is no room. Promises:
//! entries leave in their order; what is reserved, waiting or under way counts, so that the bounds hold whatever happens at
//! the same time; no body of a request is here. Absent on purpose: the disk, time and tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::{Settings, Sizer, tables::Head};
use crate::edge::transport;

const MIB: u64 = transport::MIB as u64;

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There will be, once something is delivered.
    Full(String),
    /// There never will be for a request of this size.
    TooLarge(String),
    /// Not until somebody does something about it, or the disk works again.
    Closed(String),
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    sizer: Sizer,
    queue_size: u64,
    max_bytes: u64,
    max_dead_letter_bytes: u64,
    /// Every entry that is on disk and not delivered.
    live: BTreeMap<u64, Head>,
    /// Those that nobody is delivering.
    waiting: BTreeSet<u64>,
    /// Of those, the ones that stay until a restart: refused for good, and no room among the dead letters.
    held: BTreeSet<u64>,
    /// What is live and what is reserved: requests, records and bytes.
    used: [u64; 3],
    dead_letters: u64,
    dead_letter_bytes: u64,
    /// Why nothing is taken at the moment.
    pub trouble: Option<String>,
    /// Nothing is taken any more.
    pub is_closed: bool,
}

impl Index {
    /// An empty one.
    pub fn new(settings: &Settings) -> Self {
        Self {
            sizer: settings.sizer,
            queue_size: settings.queue_size,
            max_bytes: settings.max_size_mib.saturating_mul(MIB),
            max_dead_letter_bytes: settings.dead_letter.max_size_mib.saturating_mul(MIB),
            live: BTreeMap::new(),
            waiting: BTreeSet::new(),
            held: BTreeSet::new(),
            used: [0; 3],
            dead_letters: 0,
            dead_letter_bytes: 0,
            trouble: None,
            is_closed: false,
        }
    }

    fn measure(&self, [requests, records, bytes]: [u64; 3]) -> u64 {
        match self.sizer {
            Sizer::Requests => requests,
            Sizer::Items => records,
            Sizer::Bytes => bytes,
        }
    }

    /// Reserves room for an entry.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve(&mut self, head: Head) -> Result<(), NoRoom> {
        if self.is_closed {
            return Err(NoRoom::Closed("the agent is shutting down".to_owned()));
        }
        if let Some(trouble) = &self.trouble {
            return Err(NoRoom::Closed(trouble.clone()));
        }
        if self.dead_letter_bytes >= self.max_dead_letter_bytes || !self.held.is_empty() {
            return Err(NoRoom::Closed(
                "the dead-letter store is full (`dead_letter.max_size_mib`): stop the agent and look with `harbinger \
                 dead-letters list`"
                    .to_owned(),
            ));
        }
        let added = of(head);
        if self.measure(added) > self.queue_size || head.bytes > self.max_bytes {
            return Err(NoRoom::TooLarge(format!(
                "a request of {} records and {} bytes is larger than the whole queue (`queue_size`, `max_size_mib`)",
                head.records, head.bytes
            )));
        }
        let after = sum(self.used, added);
        let [_, _, bytes] = after;
        if self.measure(after) > self.queue_size {
            let unit = self.sizer.name();
            return Err(NoRoom::Full(format!(
                "the sending queue is full (`queue_size: {}` {unit})",
                self.queue_size
            )));
        }
        if bytes > self.max_bytes {
            let mib = self.max_bytes / MIB;
            return Err(NoRoom::Full(format!(
                "the sending queue is full (`max_size_mib: {mib}`)"
            )));
        }
        self.used = after;
        Ok(())
    }

    /// Gives reserved room free.
    pub fn release(&mut self, head: Head) {
        self.used = difference(self.used, of(head));
    }

    /// An entry for which room was reserved is on disk now.
    pub fn enter(&mut self, number: u64, head: Head) {
        self.live.insert(number, head);
        self.waiting.insert(number);
    }

    /// An entry that a former process left. The bounds may be other ones now: it is there all the same.
    pub fn restore(&mut self, number: u64, head: Head) {
        self.used = sum(self.used, of(head));
        self.enter(number, head);
    }

    /// Takes out the first entry that waits; whoever does so delivers it, or puts it back.
    pub fn next(&mut self) -> Option<u64> {
        let first = self
            .waiting
            .iter()
            .find(|number| !self.held.contains(number))
            .copied()?;
        self.waiting.remove(&first);
        Some(first)
    }

    /// It could not be delivered: its turn is next again.
    pub fn put_back(&mut self, number: u64) {
        if self.live.contains_key(&number) {
            self.waiting.insert(number);
        }
    }

    /// Part of it is delivered.
    pub fn shorten(&mut self, number: u64, head: Head) {
        if let Some(known) = self.live.get_mut(&number) {
            self.used = sum(difference(self.used, of(*known)), of(head));
            *known = head;
        }
    }

    /// It is delivered, or gone for another reason.
    pub fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.held.remove(&number);
        if let Some(head) = self.live.remove(&number) {
            self.used = difference(self.used, of(head));
        }
    }

    /// Takes a dead letter of so many bytes into account; `false` when there is no room for it.
    pub fn bury(&mut self, bytes: u64) -> bool {
        let has_room = self.dead_letter_bytes < self.max_dead_letter_bytes;
        if has_room {
            self.restore_dead_letters(1, bytes);
        }
        has_room
    }

    /// Dead letters that a former process left.
    pub fn restore_dead_letters(&mut self, letters: u64, bytes: u64) {
        self.dead_letters += letters;
        self.dead_letter_bytes = self.dead_letter_bytes.saturating_add(bytes);
    }

    /// It stays where it is until a restart, and nothing more is taken.
    pub fn hold(&mut self, number: u64) {
        self.put_back(number);
        self.held.insert(number);
    }

    /// The file is gone, with everything in it. Returns how many entries that were.
    pub fn forget_all(&mut self) -> usize {
        let gone = self.live.len();
        let all: Vec<u64> = self.live.keys().copied().collect();
        for number in all {
            self.remove(number);
        }
        (self.dead_letters, self.dead_letter_bytes) = (0, 0);
        gone
    }

    /// Whether an entry is on disk and not delivered.
    pub fn knows(&self, number: u64) -> bool {
        self.live.contains_key(&number)
    }

    /// Entries that are not delivered.
    pub fn left(&self) -> usize {
        self.live.len()
    }

    /// Entries that are not delivered and could be.
    pub fn deliverable(&self) -> usize {
        self.live.len() - self.held.len()
    }

    /// Records and bytes of what is not delivered, and what is reserved.
    pub fn used(&self) -> Head {
        let [_, records, bytes] = self.used;
        Head { records, bytes }
    }

    /// In units of the sizer: what is used, and the bound.
    pub fn size_and_capacity(&self) -> (u64, u64) {
        (self.measure(self.used), self.queue_size)
    }

    /// Dead letters there are.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }
}

fn of(head: Head) -> [u64; 3] {
    [1, head.records, head.bytes]
}

fn sum([a, b, c]: [u64; 3], [x, y, z]: [u64; 3]) -> [u64; 3] {
    [a.saturating_add(x), b.saturating_add(y), c.saturating_add(z)]
}

fn difference([a, b, c]: [u64; 3], [x, y, z]: [u64; 3]) -> [u64; 3] {
    [a.saturating_sub(x), b.saturating_sub(y), c.saturating_sub(z)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn head(bytes: u64) -> Head {
        Head { records: 2, bytes }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(u64),
        Release,
        Enter,
        Next,
        PutBack,
        Shorten,
        Remove,
    }

    fn sizers() -> impl Strategy<Value = Sizer> {
        prop_oneof![Just(Sizer::Requests), Just(Sizer::Items), Just(Sizer::Bytes)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..9u64).prop_map(Step::Reserve),
            Just(Step::Release),
            Just(Step::Enter),
            Just(Step::Next),
            Just(Step::PutBack),
            Just(Step::Shorten),
            Just(Step::Remove),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: each entry is delivered once, in order, and the sums are what they should be.
        #[test]
        fn known_loss_the_index_agrees_with_a_list(steps in proptest::collection::vec(step(), 0..120), sizer in sizers()) {
            let mut index = Index::new(&Settings { queue_size: 20, sizer, ..Settings::default() });
            let (mut reserved, mut waiting, mut under_way, mut number) = (Vec::new(), Vec::new(), Vec::<(u64, Head)>::new(), 0);
            for step in steps {
                match step {
                    Step::Reserve(bytes) => {
                        let took = index.reserve(head(bytes)).is_ok();
                        if took { reserved.push(head(bytes)); }
                    }
                    Step::Release => if let Some(head) = reserved.pop() { index.release(head); },
                    Step::Enter => if let Some(head) = reserved.pop() {
                        number += 1;
                        index.enter(number, head);
                        waiting.push((number, head));
                    },
                    Step::Next => {
                        waiting.sort_unstable_by_key(|(number, _)| *number);
                        let expected = (!waiting.is_empty()).then(|| waiting.remove(0));
                        prop_assert_eq!(index.next(), expected.map(|(number, _)| number));
                        under_way.extend(expected);
                    }
                    Step::PutBack => if let Some((number, head)) = under_way.pop() {
                        index.put_back(number);
                        waiting.push((number, head));
                    },
                    Step::Shorten => if let Some((number, head)) = under_way.last_mut() {
                        head.bytes = head.bytes.div_ceil(2);
                        index.shorten(*number, *head);
                    },
                    Step::Remove => if let Some((number, _)) = under_way.pop() { index.remove(number); },
                }
                let live: Vec<Head> = reserved.iter().copied().chain(waiting.iter().chain(&under_way).map(|(_, head)| *head)).collect();
                prop_assert_eq!(index.used().bytes, live.iter().map(|head| head.bytes).sum::<u64>());
                prop_assert_eq!(index.left(), waiting.len() + under_way.len());
                prop_assert!(index.size_and_capacity().0 <= 20);
            }
        }
    }

    #[test]
    fn what_never_fits_is_told_apart_from_what_does_not_fit_now() {
        let mut index = Index::new(&Settings {
            queue_size: 10,
            sizer: Sizer::Bytes,
            ..Settings::default()
        });
        assert!(matches!(index.reserve(head(11)), Err(NoRoom::TooLarge(_))));
        index.reserve(head(6)).unwrap();
        assert!(matches!(index.reserve(head(6)), Err(NoRoom::Full(message)) if message.contains("bytes")));
        index.release(head(6));
        index.reserve(head(10)).unwrap();
    }

    #[test]
    fn a_backlog_beyond_smaller_bounds_is_kept() {
        let mut index = Index::new(&Settings {
            queue_size: 1,
            ..Settings::default()
        });
        index.restore(7, head(1));
        index.restore(9, head(1));
        assert!(matches!(index.reserve(head(1)), Err(NoRoom::Full(_))));
        assert_eq!((index.next(), index.next(), index.next()), (Some(7), Some(9), None));
    }

    #[test]
    fn what_is_held_lets_others_pass_and_takes_nothing_new() {
        let mut index = Index::new(&Settings::default());
        for number in 1..3 {
            index.restore(number, head(1));
        }
        assert_eq!(index.next(), Some(1));
        index.hold(1);
        assert_eq!((index.next(), index.next()), (Some(2), None));
        assert_eq!((index.left(), index.deliverable()), (2, 1));
        assert!(matches!(index.reserve(head(1)), Err(NoRoom::Closed(_))));
    }
}
