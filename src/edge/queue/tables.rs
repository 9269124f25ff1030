//! The tables of a queue's database, and the one transaction that changes them.
//!
//! In: changes. Out: what is kept. Promises: changes are made together, durably, or not at all; which error means that the
//! file is corrupt, and which that the disk does not work at the moment, is decided here. Absent on purpose: threads, files
//! and what the values mean.

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

/// Records and bytes of each entry: what memory holds of the backlog, so that a start need not read the bodies.
const HEADS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("heads");
/// The entries themselves.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// What was refused for good.
const DEAD_LETTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("dead_letters");

/// Why the database did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Trying again is useless: set the file aside.
    #[error("{0}")]
    Corrupt(String),
    /// The disk does not work at the moment: open the file again, later.
    #[error("{0}")]
    Unavailable(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        use std::io::ErrorKind;
        let error = error.into();
        let corrupt = match &error {
            redb::Error::Io(io) => matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_) => true,
            _ => false,
        };
        if corrupt {
            Self::Corrupt(error.to_string())
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

/// How large an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its records.
    pub records: u64,
    /// Bytes of its request.
    pub bytes: u64,
}

/// One change.
#[derive(Debug)]
pub enum Change<'a> {
    /// A new entry.
    Add(u64, Head, &'a [u8]),
    /// Part of the entry is delivered; this is left. Nothing happens when the entry is not there.
    Shorten(u64, Head, &'a [u8]),
    /// The entry is delivered, or is a dead letter now.
    Remove(u64),
    /// A dead letter.
    Bury(u64, &'a [u8]),
    /// A dead letter that somebody has looked at.
    Discard(u64),
}

/// What a database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Entries in their order.
    pub heads: Vec<(u64, Head)>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letter_bytes: u64,
    /// The number after every one that is in use.
    pub next: u64,
}

/// Makes the changes; they are on the disk when this returns.
pub fn apply<'a>(database: &Database, changes: impl IntoIterator<Item = Change<'a>>) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut heads = transaction.open_table(HEADS)?;
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut dead_letters = transaction.open_table(DEAD_LETTERS)?;
        for change in changes {
            match change {
                Change::Add(number, head, value) => {
                    heads.insert(number, (head.records, head.bytes))?;
                    entries.insert(number, value)?;
                }
                Change::Shorten(number, head, value) => {
                    if heads.get(number)?.is_some() {
                        heads.insert(number, (head.records, head.bytes))?;
                        entries.insert(number, value)?;
                    }
                }
                Change::Remove(number) => {
                    heads.remove(number)?;
                    entries.remove(number)?;
                }
                Change::Bury(number, value) => drop(dead_letters.insert(number, value)?),
                Change::Discard(number) => drop(dead_letters.remove(number)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// What is in the database; the tables are made where they are missing.
pub fn load(database: &Database) -> Result<Contents, Fault> {
    if let Err(error) = database.begin_read()?.open_table(HEADS) {
        match error {
            redb::TableError::TableDoesNotExist(_) => apply(database, [])?,
            other => return Err(other.into()),
        }
    }
    let transaction = database.begin_read()?;
    let mut contents = Contents::default();
    for head in transaction.open_table(HEADS)?.iter()? {
        let (number, head) = head?;
        let (records, bytes) = head.value();
        contents.heads.push((number.value(), Head { records, bytes }));
    }
    let dead_letters = transaction.open_table(DEAD_LETTERS)?;
    contents.dead_letters = dead_letters.len()?;
    for letter in dead_letters.iter()? {
        let (_, value) = letter?;
        contents.dead_letter_bytes += value.value().len() as u64;
    }
    contents.next = next(database)?;
    Ok(contents)
}

/// The first number that is free behind all entries and dead letters.
pub fn next(database: &Database) -> Result<u64, Fault> {
    let transaction = database.begin_read()?;
    let entry = transaction.open_table(HEADS)?.last()?.map(|(number, _)| number.value());
    let letter = transaction
        .open_table(DEAD_LETTERS)?
        .last()?
        .map(|(number, _)| number.value());
    Ok(entry.max(letter).map_or(1, |last| last.saturating_add(1)))
}

/// The value of an entry.
pub fn entry(database: &Database, number: u64) -> Result<Option<Vec<u8>>, Fault> {
    let value = database.begin_read()?.open_table(ENTRIES)?.get(number)?;
    Ok(value.map(|value| value.value().to_vec()))
}

/// The value of a dead letter.
pub fn dead_letter(database: &Database, number: u64) -> Result<Option<Vec<u8>>, Fault> {
    let value = database.begin_read()?.open_table(DEAD_LETTERS)?.get(number)?;
    Ok(value.map(|value| value.value().to_vec()))
}

/// The values of the dead letters, one after the other, until `each` says no.
pub fn dead_letters(database: &Database, mut each: impl FnMut(u64, &[u8]) -> bool) -> Result<(), Fault> {
    for letter in database.begin_read()?.open_table(DEAD_LETTERS)?.iter()? {
        let (number, value) = letter?;
        if !each(number.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use super::{
        super::{
            faulty::{Disk, Operation, apply as write_to},
            storage::Medium,
        },
        *,
    };

    /// Entries and dead letters as they should be.
    type Kept = [BTreeMap<u64, Vec<u8>>; 2];

    fn head(value: &[u8]) -> Head {
        Head {
            records: 1,
            bytes: value.len() as u64,
        }
    }

    /// Mostly zeros: a cut that changes nothing need not be tried, and the database's own bytes are what matters.
    fn value(number: u64, bytes: usize) -> Vec<u8> {
        let byte = |at: usize| (at as u64 * 31 + number) as u8 | 1;
        (0..bytes).map(|at| if at % 61 == 0 { byte(at) } else { 0 }).collect()
    }

    /// What is in a database, through the same calls that the queue reads it by.
    fn kept(disk: &Disk) -> Result<Kept, Fault> {
        let database = disk.open(false)?;
        let mut kept = Kept::default();
        for (number, head) in load(&database)?.heads {
            let value = entry(&database, number)?.expect("an entry without a value");
            assert_eq!(head.bytes, value.len() as u64);
            kept[0].insert(number, value);
        }
        dead_letters(&database, |number, value| {
            kept[1].insert(number, value.to_vec()).is_none()
        })?;
        Ok(kept)
    }

    /// A day in the life of a queue: what is kept after each transaction, and how many operations that took.
    fn life(disk: &Disk) -> Vec<(usize, Kept)> {
        let database = disk.open(false).unwrap();
        load(&database).unwrap();
        let mut kept = Kept::default();
        let mut told = vec![(disk.state().operations.len(), kept.clone())];
        let small = value(1, 40);
        let large = value(2, 9000);
        let rest = value(3, 5000);
        let transactions: [Vec<Change<'_>>; 8] = [
            vec![Change::Add(1, head(&small), &small)],
            vec![
                Change::Add(2, head(&large), &large),
                Change::Add(3, head(&small), &small),
            ],
            vec![Change::Remove(1), Change::Add(4, head(&small), &small)],
            vec![Change::Shorten(2, head(&rest), &rest)],
            vec![Change::Remove(3), Change::Bury(5, &small)],
            vec![Change::Remove(2), Change::Add(6, head(&large), &large)],
            vec![Change::Discard(5), Change::Shorten(99, head(&rest), &rest)],
            vec![Change::Remove(6), Change::Remove(4)],
        ];
        for transaction in transactions {
            for change in &transaction {
                match *change {
                    Change::Add(number, _, value) => _ = kept[0].insert(number, value.to_vec()),
                    Change::Shorten(number, _, value) => _ = kept[0].get_mut(&number).map(|old| *old = value.to_vec()),
                    Change::Remove(number) => _ = kept[0].remove(&number),
                    Change::Bury(number, value) => _ = kept[1].insert(number, value.to_vec()),
                    Change::Discard(number) => _ = kept[1].remove(&number),
                }
            }
            apply(&database, transaction).unwrap();
            told.push((disk.state().operations.len(), kept.clone()));
        }
        told
    }

    /// What may be kept when the crash comes at this operation: what was confirmed before it, or the transaction under way.
    fn expected(told: &[(usize, Kept)], operation: usize) -> &[(usize, Kept)] {
        let confirmed = told.iter().rposition(|(until, _)| *until <= operation);
        let confirmed = confirmed.expect("nothing was confirmed");
        &told[confirmed..told.len().min(confirmed + 2)]
    }

    #[track_caller]
    fn check(image: &[u8], told: &[(usize, Kept)], operation: usize, what: &str) {
        let kept = kept(&Disk::of(image.to_vec())).unwrap_or_else(|fault| panic!("{what} {operation}: {fault}"));
        let expected = expected(told, operation);
        assert!(
            expected.iter().any(|(_, expected)| *expected == kept),
            "{what} {operation}: {:?}",
            kept.map(|table| table.into_keys().collect::<Vec<_>>())
        );
    }

    /// The power goes at every byte of every write, and at every sync: what was confirmed is there, unchanged and in order,
    /// and nothing else but what was being written.
    #[test]
    fn known_loss_a_crash_at_any_byte_loses_nothing_that_was_confirmed() {
        let disk = Disk::default();
        let told = life(&disk);
        let operations = disk.state().operations.clone();
        let (begun, mut image, mut cuts) = (told[0].0, Vec::new(), 0);
        // All of them take a minute; a prime meets every place in a page.
        let every = if std::env::var_os("HARBINGER_EVERY_CUT").is_some() {
            1
        } else {
            13
        };
        for (number, operation) in operations.iter().enumerate() {
            if number >= begun {
                check(&image, &told, number, "before operation");
                if let Operation::Write(offset, data) = operation {
                    let mut torn = image.clone();
                    torn.resize(torn.len().max(offset + data.len()), 0);
                    for at in 0..data.len() {
                        // A cut that changes nothing is the cut before.
                        if std::mem::replace(&mut torn[offset + at], data[at]) != data[at] {
                            if cuts % every == 0 {
                                check(&torn, &told, number, "torn in operation");
                            }
                            cuts += 1;
                        }
                    }
                }
            }
            write_to(&mut image, operation);
        }
        assert!(cuts > 300, "{cuts}");
    }

    /// What was not synced may be on the disk in any order and in part.
    #[test]
    fn known_loss_writes_in_any_order_lose_nothing_that_was_confirmed() {
        let disk = Disk::default();
        let told = life(&disk);
        let operations = disk.state().operations.clone();
        let mut random = fastrand::Rng::with_seed(7);
        for crash in told[0].0..=operations.len() {
            let synced = operations[..crash]
                .iter()
                .rposition(|operation| *operation == Operation::Sync);
            let synced = synced.expect("nothing was synced");
            let mut image = Vec::new();
            for operation in &operations[..synced] {
                write_to(&mut image, operation);
            }
            for _ in 0..8 {
                let mut image = image.clone();
                for operation in &operations[synced..crash] {
                    let mut operation = operation.clone();
                    if let Operation::Write(offset, data) = &mut operation {
                        // Sectors of 512 bytes arrive or not.
                        let before = image.clone();
                        for (index, sector) in data.chunks_mut(512).enumerate() {
                            let start = *offset + index * 512;
                            let old = before
                                .get(start..start + sector.len())
                                .map_or(vec![0; sector.len()], <[u8]>::to_vec);
                            if random.bool() {
                                sector.copy_from_slice(&old);
                            }
                        }
                    }
                    write_to(&mut image, &operation);
                }
                check(&image, &told, crash, "reordered before operation");
            }
        }
    }
}
