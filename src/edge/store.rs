//! The state directory: where the snapshot and the journals survive a crash.
//!
//! In: bytes to keep. Out: the same bytes after a restart, or an error that says what to do. Files: `snapshot` (replaced
//! atomically), `snapshot-<time>` (kept for a return to it), `journal-<epoch>` (appended to), `snapshot.corrupt-<n>` (set
//! aside, at most five, each with a `.why`), `feedback.yaml` (opinions, for people to edit), `lock`. Files are 0600, a directory made here 0700.
//!
//! Promises: after a crash at any moment the directory holds the last snapshot that was saved, whole, and every journal
//! entry that was synced; a failed append leaves no torn entry for later ones to hide behind. Two agents never share a
//! directory. A full or read-only disk is an error, never a panic. Absent on purpose: what the bytes mean, and retries.

mod kept;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{
    Store,
    transport::private_files::{self, Lock, LockError, remove_if_there},
};
pub use kept::Kept;

/// Larger than any snapshot whose caches are bounded as they are.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;
/// A journal is started anew with each snapshot; one that grows to this is not being replaced.
const MAX_JOURNAL_BYTES: u64 = 256 << 20;

/// Larger than any file of opinions that Harbinger writes.
const MAX_FEEDBACK_BYTES: u64 = 64 << 20;

const SNAPSHOT: &str = "snapshot";
const FEEDBACK: &str = "feedback.yaml";
const TEMPORARY: &str = ".tmp";
const JOURNAL: &str = "journal-";
const LOCK: &str = "lock";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent has it.
    #[error(
        "state directory {path} is in use by another Harbinger (process {process}): stop that one or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it, as far as is known.
        process: String,
    },
    /// It cannot be made, opened or read.
    #[error(
        "state directory {path} cannot be used ({source}): make it writable for this user or configure another one"
    )]
    Unusable {
        /// The directory or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What the directory held at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The snapshot's bytes, if there is one.
    pub snapshot: Option<Vec<u8>>,
    /// Journals with their epochs, in order. Those before the snapshot's epoch are left over and to be skipped.
    pub journals: Vec<(u64, Vec<u8>)>,
}

impl Loaded {
    /// The epoch to begin next: after every journal that is there.
    pub fn next_epoch(&self) -> u64 {
        self.journals
            .iter()
            .map(|(epoch, _)| epoch.saturating_add(1))
            .max()
            .unwrap_or(1)
    }
}

/// See the module. Closing it gives the directory free.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Held, never read.
    _lock: Lock,
    journal: Mutex<Option<Journal>>,
    /// One save at a time; appends do not wait for it.
    saving: Mutex<()>,
    /// Snapshots kept: of so many hours, and of so many days.
    keep: usize,
}

/// The journal being appended to.
#[derive(Debug)]
struct Journal {
    file: File,
    /// Bytes of whole entries.
    length: u64,
    /// True when an entry may be torn and could not be cut off.
    broken: bool,
}

impl StateDirectory {
    /// Opens the directory for this process alone; makes it if it is not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let unusable = |source| StoreError::Unusable {
            path: path.clone(),
            source,
        };
        private_files::make_directory(&path).map_err(unusable)?;
        let lock = private_files::lock(&path.join(LOCK)).map_err(|error| match error {
            LockError::InUse { process } => StoreError::InUse {
                path: path.clone(),
                process,
            },
            LockError::Io(source) => unusable(source),
        })?;
        Ok(Self {
            path,
            _lock: lock,
            journal: Mutex::new(None),
            saving: Mutex::new(()),
            keep: 0,
        })
    }

    /// Keeps a snapshot of each of the last so many hours, and of each of the last so many days, beside the current one.
    pub fn keeping(mut self, snapshots: usize) -> Self {
        self.keep = snapshots;
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what a former process left.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when a file is there but cannot be read, or is larger than any Harbinger writes.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        if self
            .path
            .join(SNAPSHOT)
            .try_exists()
            .map_err(|source| self.unusable(SNAPSHOT, source))?
        {
            loaded.snapshot = Some(self.read(SNAPSHOT, MAX_SNAPSHOT_BYTES)?);
        }
        for epoch in self.epochs().map_err(|source| self.unusable("", source))? {
            loaded
                .journals
                .push((epoch, self.read(&journal_name(epoch), MAX_JOURNAL_BYTES)?));
        }
        Ok(loaded)
    }

    /// The last snapshot that was saved in a directory, whoever has it: it is replaced at once or not at all, so it can be
    /// read beside a running agent. `None` when there is none.
    ///
    /// # Errors
    /// There is no such directory, or the file cannot be read.
    pub fn peek(path: &Path) -> io::Result<Option<Vec<u8>>> {
        fs::read_dir(path)?;
        match read(&path.join(SNAPSHOT), MAX_SNAPSHOT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn read(&self, name: &str, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        read(&self.path.join(name), max_bytes).map_err(|source| self.unusable(name, source))
    }

    fn unusable(&self, name: &str, source: io::Error) -> StoreError {
        StoreError::Unusable {
            path: self.path.join(name),
            source,
        }
    }

    /// Puts a snapshot that cannot be used out of the way and keeps it, with the reason beside it, so that the agent can
    /// start clean and nothing is lost. Returns where; `None` when there is no snapshot. The oldest of more than five go.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside(&self, reason: &str) -> io::Result<Option<PathBuf>> {
        private_files::set_aside(&self.path, SNAPSHOT, reason)
    }

    /// How many snapshots lie aside.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside_snapshots(&self) -> io::Result<usize> {
        let prefix = format!("{SNAPSHOT}{}", private_files::CORRUPT);
        Ok(private_files::numbered(&self.path, &prefix)?.len())
    }

    /// Epochs of the journals there are, ascending.
    fn epochs(&self) -> io::Result<Vec<u64>> {
        private_files::numbered(&self.path, JOURNAL)
    }

    fn sync_directory(&self) -> io::Result<()> {
        private_files::sync_directory(&self.path)
    }

    fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a file by one of these bytes, at once or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!("{name}{TEMPORARY}"));
        let write = || {
            remove_if_there(&temporary)?; // left by a crash
            let mut file = private_files::options().write(true).create_new(true).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&temporary, self.path.join(name))?;
            self.sync_directory()
        };
        write().inspect_err(|_| {
            let _ = remove_if_there(&temporary); // give the space back
        })
    }
}

impl Store for StateDirectory {
    fn save_snapshot(&self, bytes: &[u8]) -> io::Result<()> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(SNAPSHOT, bytes).map_err(|error| {
            let path = self.path.join(SNAPSHOT);
            told(&path, "the snapshot saved before stays in force", &error)
        })?;
        if let Err(problem) = self.keep_current(SystemTime::now()) {
            tracing::warn!(%problem, "the snapshot is saved, but none is kept for `harbinger snapshot rollback`");
        }
        Ok(())
    }

    fn append_journal(&self, entry: &[u8], sync: bool) -> io::Result<()> {
        match self.journal().as_mut() {
            Some(journal) => journal.append(entry, sync).map_err(|error| {
                told(
                    &self.path.join(JOURNAL),
                    "save a snapshot and begin a new epoch",
                    &error,
                )
            }),
            None => Err(io::Error::other("no journal is open: begin an epoch first")),
        }
    }

    /// An epoch that has entries already is refused: a torn end would hide what is appended. Begin a later one.
    fn begin_epoch(&self, epoch: u64) -> io::Result<()> {
        let mut current = self.journal();
        let path = self.path.join(journal_name(epoch));
        let begin = || {
            let file = private_files::options().append(true).create(true).open(&path)?;
            if file.metadata()?.len() > 0 {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            self.sync_directory()?;
            Ok(Journal {
                file,
                length: 0,
                broken: false,
            })
        };
        *current = Some(begin().map_err(|error| told(&path, "begin an epoch after every one there is", &error))?);
        Ok(())
    }

    fn sync_journal(&self) -> io::Result<()> {
        // The lock is not held while the disk works: appends go on.
        let file = match self.journal().as_ref() {
            Some(journal) => journal.file.try_clone()?,
            None => return Ok(()),
        };
        let synced = file.sync_data();
        if synced.is_err()
            && let Some(journal) = self.journal().as_mut()
        {
            // What a failed sync has lost, a later one that succeeds does not bring back.
            journal.broken = true;
        }
        synced
    }

    fn prune_journal(&self, epoch: u64) -> io::Result<()> {
        for old in self.epochs()?.into_iter().filter(|old| *old < epoch) {
            remove_if_there(&self.path.join(journal_name(old)))?;
        }
        Ok(())
    }

    fn load_feedback(&self) -> io::Result<Option<String>> {
        read_feedback(&self.path)
    }

    fn save_feedback(&self, yaml: &str) -> io::Result<()> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |error| told(&self.path.join(FEEDBACK), "what was kept before stays in force", &error);
        self.replace(FEEDBACK, yaml.as_bytes()).map_err(stays)
    }
}

/// The file of opinions in a directory, whoever has it; `None` when there is none.
///
/// # Errors
/// The file cannot be read, or is no text.
pub fn read_feedback(directory: &Path) -> io::Result<Option<String>> {
    let path = directory.join(FEEDBACK);
    let bytes = match read(&path, MAX_FEEDBACK_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| told(&path, "make it readable for this user", &error))?,
    };
    let no_text = |_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: save it as UTF-8", path.display()),
        )
    };
    String::from_utf8(bytes).map(Some).map_err(no_text)
}

impl Journal {
    fn append(&mut self, entry: &[u8], sync: bool) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier append failed and could not be undone"));
        }
        if self.length.saturating_add(entry.len() as u64) > MAX_JOURNAL_BYTES {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        if let Err(error) = self.file.write_all(entry) {
            // Half an entry would make every later one unreadable: cut it off, or take no more.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += entry.len() as u64;
        if sync && let Err(error) = self.file.sync_data() {
            // What a failed sync has lost, a later one that succeeds does not bring back.
            self.broken = true;
            return Err(error);
        }
        Ok(())
    }
}

fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let what = format!("larger than {max_bytes} bytes, which Harbinger never writes: move it away");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

fn journal_name(epoch: u64) -> String {
    format!("{JOURNAL}{epoch:020}")
}

/// The system's error with the file and what to do; its kind stays.
fn told(path: &Path, advice: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}; {advice}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::fs::OpenOptions;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn gives_back_snapshot_and_journals_in_order() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        let store = StateDirectory::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), Loaded::default());
        assert_eq!(store.load().unwrap().next_epoch(), 1);
        for epoch in [9, 10, 100] {
            store.begin_epoch(epoch).unwrap();
            store.append_journal(&[1, 2], false).unwrap();
            store.append_journal(&[epoch as u8], true).unwrap();
        }
        store.save_snapshot(b"old").unwrap();
        store.save_snapshot(b"new").unwrap();
        store.prune_journal(10).unwrap();
        drop(store);
        let loaded = StateDirectory::open(&path).unwrap().load().unwrap();
        assert_eq!(loaded.snapshot.as_deref(), Some(b"new".as_slice()));
        assert_eq!(loaded.journals, [(10, vec![1, 2, 10]), (100, vec![1, 2, 100])]);
        assert_eq!(loaded.next_epoch(), 101);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path().join("state")).unwrap();
        store.save_snapshot(b"x").unwrap();
        store.begin_epoch(1).unwrap();
        store.set_aside("for the test").unwrap();
        store.save_snapshot(b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.path()), 0o700);
        for name in names(store.path()) {
            assert_eq!(mode(&store.path().join(&name)), 0o600, "{name}");
        }
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let home = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(home.path()).unwrap();
        let error = StateDirectory::open(home.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }));
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        StateDirectory::open(home.path()).unwrap();
    }

    #[test]
    fn a_snapshot_can_be_read_beside_the_agent_that_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(directory.path()).unwrap();
        assert_eq!(StateDirectory::peek(directory.path()).unwrap(), None);
        store.save_snapshot(b"learned").unwrap();
        assert_eq!(
            StateDirectory::peek(directory.path()).unwrap().as_deref(),
            Some(b"learned".as_slice())
        );
        assert!(StateDirectory::peek(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn a_bad_snapshot_is_set_aside_and_a_bounded_number_kept() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap();
        assert_eq!(store.set_aside("nothing there").unwrap(), None);
        for n in 1..=8u8 {
            store.save_snapshot(&[n]).unwrap();
            let aside = store.set_aside("its checksum does not fit").unwrap().unwrap();
            assert_eq!(fs::read(&aside).unwrap(), [n]);
            assert_eq!(
                fs::read_to_string(private_files::with_suffix(&aside, ".why")).unwrap(),
                "its checksum does not fit\n"
            );
            assert_eq!(store.load().unwrap().snapshot, None);
        }
        let expected: Vec<String> = ["lock".to_owned()]
            .into_iter()
            .chain((4..=8).flat_map(|n| [format!("snapshot.corrupt-{n}"), format!("snapshot.corrupt-{n}.why")]))
            .collect();
        assert_eq!(names(home.path()), expected);
    }

    /// A crash between the temporary file and the rename leaves the old snapshot in force and no litter.
    #[test]
    fn a_crash_in_the_middle_of_a_save_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap();
        store.save_snapshot(b"old").unwrap();
        fs::write(home.path().join("snapshot.tmp"), b"ne").unwrap();
        assert_eq!(store.load().unwrap().snapshot.as_deref(), Some(b"old".as_slice()));
        store.save_snapshot(b"new").unwrap();
        assert_eq!(names(home.path()), ["lock", "snapshot"]);
    }

    #[test]
    fn a_save_that_fails_keeps_the_old_snapshot() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap();
        fs::create_dir(home.path().join(SNAPSHOT)).unwrap(); // nothing can be renamed onto it
        fs::write(home.path().join(SNAPSHOT).join("x"), b"").unwrap();
        let error = store.save_snapshot(b"new").unwrap_err();
        assert!(error.to_string().contains("stays in force"), "{error}");
        assert_eq!(names(home.path()), ["lock", "snapshot"]);
        assert!(matches!(store.load(), Err(StoreError::Unusable { .. })));
    }

    #[test]
    fn a_place_that_cannot_be_a_directory_is_a_clear_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDirectory::open(file.path().join("state")).unwrap_err();
        assert!(error.to_string().contains("make it writable"), "{error}");
    }

    #[test]
    fn journals_need_an_epoch_and_never_continue_an_old_one() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap();
        assert!(
            store
                .append_journal(b"x", true)
                .unwrap_err()
                .to_string()
                .contains("begin an epoch")
        );
        store.begin_epoch(1).unwrap();
        store.begin_epoch(1).unwrap(); // nothing in it yet
        store.append_journal(b"x", true).unwrap();
        assert_eq!(store.begin_epoch(1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        store.append_journal(b"y", true).unwrap(); // the open one is still open
        assert_eq!(store.load().unwrap().journals, [(1, b"xy".to_vec())]);
    }

    /// A full disk is an error at each append; what cannot be cut back to whole entries takes no more.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut journal = Journal {
            file,
            length: 0,
            broken: false,
        };
        assert_eq!(
            journal.append(b"entry", false).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert!(journal.broken, "a device cannot be cut");
        assert!(journal.append(b"entry", false).is_err());
    }

    #[test]
    fn a_journal_that_is_never_replaced_stops_growing() {
        let file = tempfile::tempfile().unwrap();
        let mut journal = Journal {
            file,
            length: MAX_JOURNAL_BYTES - 1,
            broken: false,
        };
        assert_eq!(
            journal.append(b"entry", false).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert!(!journal.broken);
    }
}
