//! What analysis puts aside on disk, so that it need not be held in memory: frames of bytes behind each other, in a file
//! that has no name.
//!
//! What enters: frames, by one writer. What leaves: the same frames in order, to any number of readers, which wait for
//! what is not written yet. So a spool is also a queue without a bound. Promises: the file is gone when the process is,
//! however it ends; only its owner could read it. Absent on purpose: what the bytes mean.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes of a frame's length.
const HEAD_BYTES: u64 = 8;

/// A file without a name in this directory.
///
/// # Errors
/// The directory cannot be written to.
pub fn unnamed(directory: &Path) -> io::Result<File> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".harbinger-{}-{number}.tmp", process::id()));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[derive(Debug)]
struct Shared {
    file: File,
    /// Where what is written ends, and whether more will come.
    extent: Mutex<(u64, bool)>,
    grown: Condvar,
}

/// The writer of a file of frames; the file has ended when it is dropped.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

impl Spool {
    /// An empty file in this directory.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                file: unnamed(directory)?,
                extent: Mutex::new((0, false)),
                grown: Condvar::new(),
            }),
        })
    }

    /// Puts a frame behind the others; returns where it ends.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn append(&mut self, frame: &[u8]) -> io::Result<u64> {
        let (start, _) = *self.shared.extent.lock().unwrap_or_else(PoisonError::into_inner);
        let length = frame.len() as u64;
        self.shared.file.write_all_at(&length.to_le_bytes(), start)?;
        self.shared.file.write_all_at(frame, start + HEAD_BYTES)?;
        let end = start + HEAD_BYTES + length;
        self.shared.extent.lock().unwrap_or_else(PoisonError::into_inner).0 = end;
        self.shared.grown.notify_all();
        Ok(end)
    }

    /// A reader that begins at the first frame.
    pub fn frames(&self) -> Frames {
        self.frames_in(0, None)
    }

    /// A reader of the frames between two places where one ended; without the second one of all that come.
    pub fn frames_in(&self, start: u64, end: Option<u64>) -> Frames {
        Frames {
            shared: Arc::clone(&self.shared),
            at: start,
            end,
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.extent.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.shared.grown.notify_all();
    }
}

/// A reader of frames, in order.
#[derive(Debug)]
pub struct Frames {
    shared: Arc<Shared>,
    at: u64,
    end: Option<u64>,
}

impl Frames {
    /// The next frame, waited for if need be, in place of what is in `frame`; `false` when there are no more.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn next(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        if !self.wait() {
            return Ok(false);
        }
        let mut head = [0; HEAD_BYTES as usize];
        self.shared.file.read_exact_at(&mut head, self.at)?;
        let length = u64::from_le_bytes(head);
        frame.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        self.shared.file.read_exact_at(frame, self.at + HEAD_BYTES)?;
        self.at += HEAD_BYTES + length;
        Ok(true)
    }

    fn wait(&self) -> bool {
        if let Some(end) = self.end {
            return self.at < end;
        }
        let mut extent = self.shared.extent.lock().unwrap_or_else(PoisonError::into_inner);
        while self.at >= extent.0 && !extent.1 {
            extent = self.shared.grown.wait(extent).unwrap_or_else(PoisonError::into_inner);
        }
        self.at < extent.0
    }

    /// Begins anew with the first frame of the file.
    pub fn rewind(&mut self) {
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_reader_waits_for_what_is_written_later_and_ends_with_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the file has a name"
        );
        let mut frames = spool.frames();
        let reader = std::thread::spawn(move || {
            let (mut all, mut frame) = (Vec::new(), Vec::new());
            while frames.next(&mut frame).unwrap() {
                all.push(frame.clone());
            }
            frames.rewind();
            assert!(frames.next(&mut frame).unwrap() && frame == all[0]);
            all
        });
        let written: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; usize::from(n) * 100]).collect();
        let mut ends = vec![0];
        for frame in &written {
            ends.push(spool.append(frame).unwrap());
        }
        let (mut part, mut frame) = (spool.frames_in(ends[3], Some(ends[4])), Vec::new());
        assert!(part.next(&mut frame).unwrap() && frame == written[3] && !part.next(&mut frame).unwrap());
        drop(spool);
        assert_eq!(reader.join().unwrap(), written);
    }
}
