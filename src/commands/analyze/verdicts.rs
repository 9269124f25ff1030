//! What was thought of each row, by its place in the input: as many bytes for every row, in a file without a name.
//!
//! What enters: verdicts, in any order of places. What leaves: the verdicts of a stretch of rows. Promises: memory does
//! not grow with the rows. Absent on purpose: what an incident goes by in the end, which is not known yet.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::spool::unnamed;
use crate::engine::text::TemplateKey;

/// Bytes of a verdict.
const BYTES: usize = 32;

const ANOMALOUS: u64 = 1;
const SCORED: u64 = 1 << 1;
const IN_INCIDENT: u64 = 1 << 2;
const OF_TEMPLATE: u64 = 1 << 3;

/// What was thought of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Whether the row is anomalous.
    pub is_anomaly: bool,
    /// Its score, where there is one.
    pub score: Option<f64>,
    /// Number of its incident, where it is in one.
    pub incident: Option<u64>,
    /// Its template; the notebook has none.
    pub template: Option<TemplateKey>,
}

impl Verdict {
    fn write(&self, to: &mut Vec<u8>) {
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let flags = flag(self.is_anomaly, ANOMALOUS)
            | flag(self.score.is_some(), SCORED)
            | flag(self.incident.is_some(), IN_INCIDENT)
            | flag(self.template.is_some(), OF_TEMPLATE);
        let score = self.score.unwrap_or_default().to_bits();
        let template = self.template.map_or(0, |template| template.0);
        for number in [flags, score, self.incident.unwrap_or(0), template] {
            to.extend(number.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Self {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|number| number.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || numbers.next().unwrap_or(0);
        let (flags, score, incident, template) = (next(), next(), next(), next());
        let is_set = |flag: u64| flags & flag != 0;
        Self {
            is_anomaly: is_set(ANOMALOUS),
            score: is_set(SCORED).then_some(f64::from_bits(score)),
            incident: is_set(IN_INCIDENT).then_some(incident),
            template: is_set(OF_TEMPLATE).then_some(TemplateKey(template)),
        }
    }
}

/// The verdicts of all rows.
#[derive(Debug)]
pub struct Verdicts {
    file: File,
    bytes: Vec<u8>,
}

impl Verdicts {
    /// None yet, in this directory.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: unnamed(directory)?,
            bytes: Vec::new(),
        })
    }

    /// Notes the verdicts of rows at these places; what was noted of them before is forgotten.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn note(&mut self, places: &[u64], verdicts: &[Verdict]) -> io::Result<()> {
        let mut verdicts = verdicts.iter();
        for run in places.chunk_by(|one, next| one + 1 == *next) {
            self.bytes.clear();
            verdicts
                .by_ref()
                .take(run.len())
                .for_each(|verdict| verdict.write(&mut self.bytes));
            let first = run.first().copied().unwrap_or(0);
            self.file.write_all_at(&self.bytes, first * BYTES as u64)?;
        }
        Ok(())
    }

    /// The verdicts of so many rows from a place on.
    ///
    /// # Errors
    /// Those of the disk, or not all of them were noted.
    pub fn of(&mut self, first: u64, count: usize) -> io::Result<impl Iterator<Item = Verdict>> {
        self.bytes.resize(count * BYTES, 0);
        self.file.read_exact_at(&mut self.bytes, first * BYTES as u64)?;
        Ok(self.bytes.chunks_exact(BYTES).map(Verdict::read))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn verdicts_come_back_by_place_whatever_order_they_came_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut verdicts = Verdicts::new(folder.path()).unwrap();
        let verdict = |n: u64| Verdict {
            is_anomaly: n.is_multiple_of(2),
            score: (!n.is_multiple_of(3)).then_some(n as f64 - 0.5),
            incident: (!n.is_multiple_of(5)).then_some(n << 40),
            template: (!n.is_multiple_of(7)).then_some(TemplateKey(n)),
        };
        for places in [vec![6, 7, 0, 3, 4, 5], vec![1], vec![2, 0]] {
            let some: Vec<Verdict> = places.iter().map(|place| verdict(*place)).collect();
            verdicts.note(&places, &some).unwrap();
        }
        let all: Vec<Verdict> = verdicts.of(0, 8).unwrap().collect();
        assert_eq!(all, (0..8).map(verdict).collect::<Vec<_>>());
        assert_eq!(verdicts.of(5, 1).unwrap().collect::<Vec<_>>(), [verdict(5)]);
        assert!(verdicts.of(7, 2).is_err());
    }
}
