//! A file whose length is room on the disk.
//!
//! In: what the database writes. Out: the same in a file. Promise: only growing can find the disk full, never a write inside of
//! the file, so that a queue that has filled the disk can still be read, noted in and emptied. A file that merely had its
//! length set has holes, and a database in it could not even be opened again. Absent on purpose: everything else, which is
//! redb's own backend.

use std::{fs::File, io, ops::Bound};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// Bytes written at a time to take room.
const CHUNK: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct Allocated {
    inner: FileBackend,
    file: File,
}

impl Allocated {
    /// In this file.
    pub fn new(file: File) -> Result<Self, redb::DatabaseError> {
        Ok(Self {
            inner: FileBackend::new(file.try_clone()?)?,
            file,
        })
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; CHUNK];
        let mut at = from;
        while at < to {
            let bytes = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            self.inner.write(at, zeros.get(..bytes).unwrap_or_default())?;
            at += bytes as u64;
        }
        Ok(())
    }
}

impl StorageBackend for Allocated {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        if len <= before {
            return self.inner.set_len(len);
        }
        self.grow(before, len).inspect_err(|_| {
            // What was taken of the room goes back: others may need it.
            let _ = self.file.set_len(before);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn known_loss_what_a_file_has_grown_to_is_room_on_the_disk() {
        let file = tempfile::tempfile().unwrap();
        let grown = Allocated::new(file.try_clone().unwrap()).unwrap();
        grown.set_len(3_000_000).unwrap();
        let metadata = file.metadata().unwrap();
        assert!(metadata.len() == 3_000_000 && metadata.blocks() * 512 >= 3_000_000);
        grown.set_len(1000).unwrap();
        assert_eq!(grown.len().unwrap(), 1000);
    }
}
