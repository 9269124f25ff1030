//! Snapshots that are kept beside the current one, so that what was learned can be taken back.
//!
//! In: the moment of a save. Out: `snapshot-20261122T160005Z`, one of each of the last hours and days, and `….replaced`,
//! what a rollback took the place of. Promises: bounded; keeping costs no writing (a second name of the same file) where
//! the file system can do that. Absent on purpose: what is in them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{MAX_SNAPSHOT_BYTES, SNAPSHOT, StateDirectory, read};
use crate::edge::transport::private_files::remove_if_there;

const KEPT: &str = "snapshot-";
const REPLACED: &str = ".replaced";
/// Replaced snapshots that are kept.
const MAX_REPLACED: usize = 5;

/// A snapshot in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name, which says when it was saved.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Kept {
    /// Whether a rollback has taken its place.
    pub fn is_replaced(&self) -> bool {
        parse(&self.name).is_some_and(|name| name.is_replaced)
    }
}

/// A name, taken apart: which hour and which day it is of.
struct Name<'n> {
    hour: &'n str,
    day: &'n str,
    is_replaced: bool,
}

fn parse(name: &str) -> Option<Name<'_>> {
    let rest = name.strip_prefix(KEPT)?;
    let (time, is_replaced) = match rest.strip_suffix(REPLACED) {
        Some(time) => (time, true),
        None => (rest, false),
    };
    let (day, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(day, 8) && digits(clock, 6)).then_some(Name {
        hour: time.get(..11)?,
        day,
        is_replaced,
    })
}

fn name_at(time: SystemTime) -> io::Result<String> {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).map_err(io::Error::other)?;
    let time = jiff::Timestamp::from_second(seconds).map_err(io::Error::other)?;
    Ok(format!("{KEPT}{}", time.strftime("%Y%m%dT%H%M%SZ")))
}

impl StateDirectory {
    /// The snapshots that are kept, the latest first. The current one is not among them.
    ///
    /// # Errors
    /// The file system's.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        Self::kept_in(&self.path)
    }

    /// The same of a directory, whoever has it.
    ///
    /// # Errors
    /// The file system's.
    pub fn kept_in(directory: &Path) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for file in fs::read_dir(directory)? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if parse(&name).is_some() {
                let bytes = file.metadata()?.len();
                kept.push(Kept { name, bytes });
            }
        }
        kept.sort_by(|one, other| other.name.cmp(&one.name));
        Ok(kept)
    }

    /// The bytes of a kept snapshot.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be read.
    pub fn read_kept(&self, name: &str) -> io::Result<Vec<u8>> {
        Self::peek_kept(&self.path, name)
    }

    /// The same in a directory, whoever has it.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be read.
    pub fn peek_kept(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
        read(&kept_path(directory, name)?, MAX_SNAPSHOT_BYTES)
    }

    /// Replaces a kept snapshot by one of these bytes: to take something out of it.
    ///
    /// # Errors
    /// There is none of that name, or the file system's.
    pub fn rewrite_kept(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        kept_path(&self.path, name)?;
        self.replace(name, bytes)
    }

    /// Keeps the current snapshot as one that a rollback replaces, saved at this time: its name then.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep_replaced(&self, saved_at: SystemTime) -> io::Result<String> {
        let name = format!("{}{REPLACED}", name_at(saved_at)?);
        remove_if_there(&self.path.join(&name))?;
        self.link_current(&name)?;
        let replaced = self.kept()?.into_iter().filter(Kept::is_replaced);
        for old in replaced.skip(MAX_REPLACED) {
            remove_if_there(&self.path.join(&old.name))?;
        }
        Ok(name)
    }

    /// Keeps the current snapshot, just saved, if it is the first of its hour; then lets go of what is too old.
    pub(super) fn keep_current(&self, now: SystemTime) -> io::Result<()> {
        if self.keep == 0 {
            return Ok(());
        }
        let name = name_at(now)?;
        let (kept, hour) = (self.kept()?, parse(&name).map(|name| name.hour));
        let mut of_saves: Vec<&str> = kept
            .iter()
            .map(|kept| kept.name.as_str())
            .filter(|kept| parse(kept).is_some_and(|kept| !kept.is_replaced))
            .collect();
        if of_saves.iter().any(|kept| parse(kept).map(|kept| kept.hour) == hour) {
            return Ok(());
        }
        self.link_current(&name)?;
        of_saves.insert(0, &name);
        let staying = staying(&of_saves, self.keep);
        for old in of_saves.iter().filter(|old| !staying.contains(*old)) {
            remove_if_there(&self.path.join(old))?;
        }
        Ok(())
    }

    /// Gives the current snapshot a second name: it outlives the next save, which puts another file in its place.
    fn link_current(&self, name: &str) -> io::Result<()> {
        let (current, kept) = (self.path.join(SNAPSHOT), self.path.join(name));
        if fs::hard_link(&current, &kept).is_err() {
            // Some file systems have no second names.
            self.replace(name, &read(&current, MAX_SNAPSHOT_BYTES)?)?;
        }
        self.sync_directory()
    }
}

fn kept_path(directory: &Path, name: &str) -> io::Result<PathBuf> {
    if parse(name).is_none() {
        let what = format!("\"{name}\" is no kept snapshot: `harbinger snapshot list` shows their names");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(directory.join(name))
}

/// Of these names, the latest first: the first ones of the last `keep` hours, and the first one of each of the last `keep` days.
fn staying<'n>(names: &[&'n str], keep: usize) -> BTreeSet<&'n str> {
    let mut staying: BTreeSet<&str> = names.iter().take(keep).copied().collect();
    let mut first_of_day: Vec<&str> = Vec::new();
    // Oldest first, so that the first of a day is met first.
    for name in names.iter().rev() {
        let day = |name: &str| parse(name).map(|name| name.day.to_owned());
        if first_of_day.last().is_none_or(|last| day(last) != day(name)) {
            first_of_day.push(name);
        }
    }
    staying.extend(first_of_day.iter().rev().take(keep));
    staying
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::edge::Store;

    fn names(store: &StateDirectory) -> Vec<String> {
        store.kept().unwrap().into_iter().map(|kept| kept.name).collect()
    }

    /// Three days, saved every half an hour: three hours and three days are left, and the bytes of each.
    #[test]
    fn keeps_the_last_hours_and_days() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap();
        store.save_snapshot(b"not kept").unwrap();
        let store = {
            drop(store);
            StateDirectory::open(home.path()).unwrap().keeping(3)
        };
        assert!(names(&store).is_empty());
        let midnight = UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
        for half in 0..150u64 {
            store.replace(SNAPSHOT, half.to_string().as_bytes()).unwrap();
            store.keep_current(midnight + Duration::from_secs(half * 1800)).unwrap();
        }
        assert_eq!(
            names(&store),
            [
                "snapshot-20241007T020000Z",
                "snapshot-20241007T010000Z",
                "snapshot-20241007T000000Z",
                "snapshot-20241006T000000Z",
                "snapshot-20241005T000000Z",
            ]
        );
        assert_eq!(store.read_kept("snapshot-20241006T000000Z").unwrap(), b"96");
        assert_eq!(store.load().unwrap().snapshot.unwrap(), b"149");
    }

    #[test]
    fn what_a_rollback_replaces_is_not_thinned_and_names_lead_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let store = StateDirectory::open(home.path()).unwrap().keeping(1);
        for second in 0..8u64 {
            store.replace(SNAPSHOT, &[second as u8]).unwrap();
            let name = store.keep_replaced(UNIX_EPOCH + Duration::from_secs(second)).unwrap();
            assert_eq!(name, format!("snapshot-19700101T00000{second}Z.replaced"));
        }
        assert_eq!(names(&store).len(), MAX_REPLACED);
        store
            .rewrite_kept("snapshot-19700101T000007Z.replaced", b"new")
            .unwrap();
        assert_eq!(store.read_kept("snapshot-19700101T000007Z.replaced").unwrap(), b"new");
        for wrong in [
            "snapshot",
            "../snapshot-19700101T000007Z",
            "snapshot-19700101T000007",
            "",
        ] {
            let error = store.read_kept(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
