//! The extension `file_storage`: a directory of one agent, with a database file for each queue.
//!
//! In: a directory and names of exporters. Out: open databases. Promises: files are 0600, a directory made here 0700; the
//! directory is locked for as long as one of its queues lives; a file that cannot be used is set aside under another name,
//! with the reason beside it, and never deleted. Absent on purpose: what is in the files.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Database, DatabaseError};

use super::allocated::Allocated;
use crate::edge::transport::private_files::{self, Lock, LockError};

const LOCK: &str = "queues.lock";
/// What is behind an exporter's name in the name of its file.
const SUFFIX: &str = ".queue";
/// Most that the database holds of its file in memory; its own default is a gibibyte.
const CACHE_BYTES: usize = 8 << 20;

/// `extensions.file_storage`
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the files are. One agent each.
    pub directory: PathBuf,
    /// Whether it is made when it is missing.
    pub create_directory: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("./harbinger-queue"),
            create_directory: true,
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.directory.as_os_str().is_empty() {
            return Err("directory: empty; write a path, as `./harbinger-queue`".to_owned());
        }
        Ok(())
    }
}

/// Why the directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another agent has it.
    #[error(
        "{path} is in use by another Harbinger (process {process}): stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, as far as is known.
        process: String,
    },
    /// It is not there, and is not to be made.
    #[error("{path} does not exist: make it, or write `create_directory: true`")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made, opened or read.
    #[error("{path} cannot be used ({source}): make it writable for this user, or name another directory")]
    Unusable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory that this process has for itself.
#[derive(Debug)]
pub struct Storage {
    path: PathBuf,
    /// Held, never read.
    _lock: Lock,
}

impl Storage {
    /// Takes the directory.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open(settings: &Settings) -> Result<Arc<Self>, StorageError> {
        let path = settings.directory.clone();
        let unusable = |source| StorageError::Unusable {
            path: path.clone(),
            source,
        };
        if settings.create_directory {
            private_files::make_directory(&path).map_err(unusable)?;
        } else if !path.is_dir() {
            return Err(StorageError::Missing { path });
        }
        let lock = private_files::lock(&path.join(LOCK)).map_err(|error| match error {
            LockError::InUse { process } => StorageError::InUse {
                path: path.clone(),
                process,
            },
            LockError::Io(source) => unusable(source),
        })?;
        Ok(Arc::new(Self { path, _lock: lock }))
    }

    /// The file of the queue of this exporter.
    pub fn file(self: &Arc<Self>, exporter: &str) -> QueueFile {
        QueueFile {
            storage: Arc::clone(self),
            name: format!("{}{SUFFIX}", escaped(exporter)),
        }
    }

    /// The exporters that have a queue here.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn exporters(&self) -> io::Result<Vec<String>> {
        let mut exporters = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let name = file?.file_name();
            exporters.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(unescaped));
        }
        exporters.sort();
        Ok(exporters)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where a queue's database is: a file, or what a test puts in its place.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Opens the database, and makes an empty one where there is none. `thorough` reads all of it and finds any change since it
    /// was written.
    fn open(&self, thorough: bool) -> Result<Database, DatabaseError>;
    /// Puts what is there out of the way and keeps it. Returns where.
    fn set_aside(&self, reason: &str) -> io::Result<Option<PathBuf>>;
}

/// A file in a [`Storage`].
#[derive(Clone, Debug)]
pub struct QueueFile {
    storage: Arc<Storage>,
    name: String,
}

impl QueueFile {
    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.storage.path.join(&self.name)
    }
}

impl Medium for QueueFile {
    fn open(&self, thorough: bool) -> Result<Database, DatabaseError> {
        let path = self.path();
        let is_new = !path.try_exists()?;
        let file = private_files::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if is_new {
            private_files::sync_directory(&self.storage.path)?;
        }
        builder(thorough).create_with_backend(Allocated::new(file)?)
    }

    fn set_aside(&self, reason: &str) -> io::Result<Option<PathBuf>> {
        private_files::set_aside(&self.storage.path, &self.name, reason)
    }
}

/// How every database of a queue is opened. `thorough` only in doubt: it takes one changed bit of one entry for a corrupt file,
/// and each entry has a checksum of its own. After a crash the database checks itself.
pub fn builder(thorough: bool) -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(thorough);
    builder
}

/// An id as part of a file's name: what is no letter, digit, `_`, `-` or `.` becomes `%` and its hexadecimal code.
fn escaped(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_id_is_a_file_of_its_own() {
        for id in ["otlp_grpc", "otlp/second", "otlp%2fsecond", "otlp/a/b", "otlp/ü .."] {
            assert_eq!(unescaped(&escaped(id)), id);
            assert!(!escaped(id).contains('/'));
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_and_one_agent_has_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: home.path().join("queue"),
            ..Settings::default()
        };
        let storage = Storage::open(&settings).unwrap();
        let file = storage.file("otlp/a");
        drop(file.open(false).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(storage.path()), mode(&file.path())), (0o700, 0o600));
        assert_eq!(storage.exporters().unwrap(), ["otlp/a"]);
        assert!(matches!(Storage::open(&settings), Err(StorageError::InUse { .. })));
        drop((storage, file));
        Storage::open(&settings).unwrap();
        let missing = Settings {
            directory: home.path().join("missing"),
            create_directory: false,
        };
        assert!(matches!(Storage::open(&missing), Err(StorageError::Missing { .. })));
    }
}
