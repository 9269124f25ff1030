//! Directories and files that belong to one agent: made for their owner only, locked, and set aside when they are bad.
//!
//! What enters: paths. What leaves: files that nobody else can read (0600; a directory made here 0700), a lock, and what could not be used under a name of its own, with the reason beside it.
//! Promise: what is set aside is kept, a bounded number of times; two processes never hold one lock.
//! Absent on purpose: what the bytes mean.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

/// What is behind the name of a file that was set aside, before its number.
pub const CORRUPT: &str = ".corrupt-";
/// Files of one name that are kept aside; the oldest go.
const MAX_SET_ASIDE: usize = 5;

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it: stop that one first.
    #[error("in use by process {process}")]
    InUse {
        /// The process, as far as is known.
        process: String,
    },
    /// The lock's file cannot be made or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes a directory, and those above it, where it is missing.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path)
}

/// Options for files that only their owner reads.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// A lock that this process has until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting has it too, until it is another program.
        let _ = self.0.unlock();
    }
}

/// Takes the lock of this path.
pub fn lock(path: &Path) -> Result<Lock, LockError> {
    let mut lock = options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = (&lock).take(20).read_to_string(&mut process);
            let process = match process.trim() {
                "" => "unknown",
                process => process,
            };
            return Err(LockError::InUse {
                process: process.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(source.into()),
    }
    // Who has it is for people only; but that it can be written shows now, not later.
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(Lock(lock))
}

/// Renames a file that cannot be used to `NAME.corrupt-N`, with the reason in `NAME.corrupt-N.why`. Returns where it is now;
/// `None` when there is no such file. The oldest of more than five go.
pub fn set_aside(directory: &Path, name: &str, reason: &str) -> io::Result<Option<PathBuf>> {
    let prefix = format!("{name}{CORRUPT}");
    let mut kept = numbered(directory, &prefix)?;
    let next = kept.last().map_or(1, |last| last.saturating_add(1));
    let aside = directory.join(format!("{prefix}{next}"));
    match fs::rename(directory.join(name), &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed?,
    }
    kept.push(next);
    for old in kept.iter().take(kept.len().saturating_sub(MAX_SET_ASIDE)) {
        remove_if_there(&directory.join(format!("{prefix}{old}.why")))?;
        remove_if_there(&directory.join(format!("{prefix}{old}")))?;
    }
    let mut why = options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(with_suffix(&aside, ".why"))?;
    writeln!(why, "{reason}")?;
    sync_directory(directory)?;
    Ok(Some(aside))
}

/// The numbers of the files named `prefix` and a number, ascending.
pub fn numbered(directory: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(directory)? {
        let name = file?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|rest| rest.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns once the names in a directory are on the disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    Ok(())
}

/// The path with something behind its last name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file; that there is none is no error.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
