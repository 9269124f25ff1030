//! Sorts more than memory holds: what does not fit is sorted in parts, put aside on disk, and merged.
//!
//! What enters: keys, each with bytes. What leaves: both in order of the keys. Promises: keys in order cost no more than
//! a copy to disk, and nothing while they fit; memory holds [`HELD_BYTES`] and a block of [`BLOCK_BYTES`] for each run,
//! which is a stretch of input at least as long as what is held. Absent on purpose: an order among equal keys.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    path::{Path, PathBuf},
};

use super::spool::{Frames, Spool};

/// What things are sorted by: the first number first.
pub type Key = [u64; 3];

/// Bytes that are sorted in memory.
const HELD_BYTES: usize = 32 << 20;

/// Bytes that are read of a run at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Collects what is to be sorted.
#[derive(Debug)]
pub struct Sorter {
    directory: PathBuf,
    held: Vec<(Key, Vec<u8>)>,
    held_bytes: usize,
    most_held_bytes: usize,
    spool: Option<Spool>,
    /// Where each run begins and ends in the spool, and its last key.
    runs: Vec<(u64, u64, Key)>,
}

impl Sorter {
    /// Nothing yet; what does not fit goes to this directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            held: Vec::new(),
            held_bytes: 0,
            most_held_bytes: HELD_BYTES,
            spool: None,
            runs: Vec::new(),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn push(&mut self, key: Key, value: Vec<u8>) -> io::Result<()> {
        self.held_bytes += value.len() + size_of::<(Key, Vec<u8>)>();
        self.held.push((key, value));
        if self.held_bytes >= self.most_held_bytes {
            self.put_aside()?;
        }
        Ok(())
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.held.sort_unstable_by_key(|(key, _)| *key);
        let (Some((first, _)), Some((last, _))) = (self.held.first(), self.held.last()) else {
            return Ok(());
        };
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(Spool::new(&self.directory)?),
        };
        let start = match self.runs.last() {
            Some((_, end, _)) => *end,
            None => 0,
        };
        match self.runs.last_mut().filter(|(_, _, latest)| latest <= first) {
            Some((_, _, latest)) => *latest = *last,
            None => self.runs.push((start, start, *last)),
        }
        let mut block = Vec::new();
        let mut end = start;
        for (key, value) in self.held.drain(..) {
            key.iter().for_each(|part| block.extend(part.to_le_bytes()));
            block.extend((value.len() as u64).to_le_bytes());
            block.extend(value);
            if block.len() >= BLOCK_BYTES {
                end = spool.append(&block)?;
                block.clear();
            }
        }
        if !block.is_empty() {
            end = spool.append(&block)?;
        }
        if let Some(run) = self.runs.last_mut() {
            run.1 = end;
        }
        self.held_bytes = 0;
        Ok(())
    }

    /// That was all: in order from here on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        if !self.runs.is_empty() {
            self.put_aside()?;
        }
        self.held.sort_unstable_by_key(|(key, _)| Reverse(*key));
        let mut sorted = Sorted {
            held: self.held,
            runs: Vec::new(),
            next: BinaryHeap::new(),
        };
        if let Some(spool) = self.spool {
            for (start, end, _) in self.runs {
                sorted.runs.push(Run {
                    frames: spool.frames_in(start, Some(end)),
                    block: Vec::new(),
                    at: 0,
                });
                sorted.look_at(sorted.runs.len() - 1)?;
            }
        }
        Ok(sorted)
    }
}

#[derive(Debug)]
struct Run {
    frames: Frames,
    block: Vec<u8>,
    at: usize,
}

impl Run {
    fn number(&mut self) -> Option<u64> {
        let bytes = self.block.get(self.at..self.at + 8)?;
        self.at += 8;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn key(&mut self) -> io::Result<Option<Key>> {
        if self.at >= self.block.len() {
            self.at = 0;
            if !self.frames.next(&mut self.block)? {
                return Ok(None);
            }
        }
        Ok(self
            .number()
            .zip(self.number())
            .zip(self.number())
            .map(|((a, b), c)| [a, b, c]))
    }

    fn value(&mut self) -> Vec<u8> {
        let length = self.number().unwrap_or(0) as usize;
        let value = self.block.get(self.at..self.at + length).unwrap_or_default().to_vec();
        self.at += length;
        value
    }
}

/// What was collected, in order.
#[derive(Debug)]
pub struct Sorted {
    /// Where all of it fits into memory: the last one first.
    held: Vec<(Key, Vec<u8>)>,
    runs: Vec<Run>,
    /// The next key of each run.
    next: BinaryHeap<Reverse<(Key, usize)>>,
}

impl Sorted {
    fn look_at(&mut self, run: usize) -> io::Result<()> {
        if let Some(key) = self.runs.get_mut(run).map(Run::key).transpose()?.flatten() {
            self.next.push(Reverse((key, run)));
        }
        Ok(())
    }

    /// The one with the next larger key.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn next(&mut self) -> io::Result<Option<(Key, Vec<u8>)>> {
        if let Some(held) = self.held.pop() {
            return Ok(Some(held));
        }
        let Some(Reverse((key, run))) = self.next.pop() else {
            return Ok(None);
        };
        let value = self.runs.get_mut(run).map(Run::value).unwrap_or_default();
        self.look_at(run)?;
        Ok(Some((key, value)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Sorts keys that stand for themselves; returns how many runs that took.
    fn sort(keys: &[Key], most_held_bytes: usize) -> (Vec<Key>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path());
        sorter.most_held_bytes = most_held_bytes;
        for key in keys {
            sorter.push(*key, key[0].to_string().into_bytes()).unwrap();
        }
        let mut sorted = sorter.sorted().unwrap();
        let runs = sorted.runs.len();
        let mut all = Vec::new();
        while let Some((key, value)) = sorted.next().unwrap() {
            assert_eq!(value, key[0].to_string().into_bytes());
            all.push(key);
        }
        (all, runs)
    }

    #[test]
    fn what_does_not_fit_into_memory_comes_back_in_order_all_the_same() {
        let mut rng = fastrand::Rng::with_seed(3);
        let keys: Vec<Key> = (0..5000).map(|n| [rng.u64(..50), rng.u64(..50), n]).collect();
        let mut expected = keys.clone();
        expected.sort_unstable();
        assert_eq!(sort(&keys, usize::MAX), (expected.clone(), 0));
        let (sorted, runs) = sort(&keys, 8 << 10);
        assert!(sorted == expected && runs > 10, "{runs} runs");
        assert_eq!(sort(&expected, 8 << 10), (expected, 1), "what is in order is one run");
        assert_eq!(sort(&[], 8 << 10), (Vec::new(), 0));
    }
}
