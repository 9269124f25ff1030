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
    let mut last_dead = None;
    for letter in dead_letters.iter()? {
        let (number, value) = letter?;
        contents.dead_letter_bytes += value.value().len() as u64;
        last_dead = Some(number.value());
    }
    let last = contents.heads.last().map(|(number, _)| *number).max(last_dead);
    contents.next = last.map_or(1, |last| last.saturating_add(1));
    Ok(contents)
}

/// The value of an entry.
pub fn entry(database: &Database, number: u64) -> Result<Option<Vec<u8>>, Fault> {
    let value = database.begin_read()?.open_table(ENTRIES)?.get(number)?;
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
