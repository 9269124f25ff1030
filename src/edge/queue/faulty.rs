//! A disk for tests: it remembers every operation, so that a crash can be had at any byte of any of them, and fails when told.
//!
//! In: what the database writes. Out: what would be on a disk at any moment. Promise: what was synced is never lost; what was
//! not may be there, or not, or in part, in any order. Absent on purpose: a disk that lies about its syncs.

// A bug is one of the faults.
#![allow(clippy::panic)]

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::{Database, DatabaseError, StorageBackend};

use super::storage::{Medium, builder};

/// One operation that changes the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// Nothing happens.
    Without,
    /// It is done all the same.
    Done,
    /// Half of it is done.
    Half,
    /// A panic, for a bug of the database.
    Panic,
}

#[derive(Debug, Default)]
pub struct State {
    pub image: Vec<u8>,
    pub operations: Vec<Operation>,
    /// The operation that fails, counted from the start, how, and how many after it.
    pub fails: Option<(usize, Failure, usize)>,
    /// Larger it does not become.
    pub full_at: Option<usize>,
    pub set_aside: Vec<String>,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(pub Arc<Mutex<State>>);

impl Disk {
    pub fn of(image: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().image = image;
        disk
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn operate(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let number = state.operations.len();
        state.operations.push(operation.clone());
        let fails = state.fails.filter(|(at, _, more)| (*at..=at + more).contains(&number));
        let end = match &operation {
            Operation::Write(offset, data) => offset + data.len(),
            Operation::Length(length) => *length,
            Operation::Sync => 0,
        };
        if state.full_at.is_some_and(|most| end > most && end > state.image.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match (fails, operation) {
            (Some((_, Failure::Panic, _)), _) => {
                drop(state);
                std::panic::panic_any("told to panic");
            }
            (None | Some((_, Failure::Done, _)), operation) => apply(&mut state.image, &operation),
            (Some((_, Failure::Half, _)), Operation::Write(offset, mut data)) => {
                data.truncate(data.len() / 2);
                apply(&mut state.image, &Operation::Write(offset, data));
            }
            _ => {}
        }
        match fails {
            None => Ok(()),
            Some(_) => Err(io::Error::other("told to fail")),
        }
    }
}

/// What an operation makes of a disk.
pub fn apply(image: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write(offset, data) => {
            let end = offset + data.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            if let Some(place) = image.get_mut(*offset..end) {
                place.copy_from_slice(data);
            }
        }
        Operation::Length(length) => image.resize(*length, 0),
        Operation::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = state.image.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(Operation::Length(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(Operation::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.operate(Operation::Write(offset, data.to_vec()))
    }
}

impl Medium for Disk {
    fn open(&self, thorough: bool) -> Result<Database, DatabaseError> {
        builder(thorough).create_with_backend(self.clone())
    }

    fn set_aside(&self, reason: &str) -> io::Result<Option<PathBuf>> {
        let mut state = self.state();
        state.image.clear();
        state.set_aside.push(reason.to_owned());
        Ok(None)
    }
}
