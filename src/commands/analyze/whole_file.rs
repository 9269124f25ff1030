//! A file that is there when it is whole, and not before.
//!
//! What enters: bytes. What leaves: the file under its name, replaced at once. Promises: what was there before stays until
//! then, also if the process ends; that the place can be written to shows at the beginning. Absent on purpose: syncing.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
};

/// Bytes that are given to the disk at once.
const WRITE_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    /// Where it is until it is whole; beside its place, so that it only has to be renamed.
    unfinished: PathBuf,
    out: BufWriter<File>,
}

impl WholeFile {
    /// Begins a file.
    ///
    /// # Errors
    /// Its folder is missing or cannot be written to, or a folder has its name.
    pub fn begin(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(".{}.tmp", process::id()));
        let unfinished = path.with_file_name(name);
        Ok(Self {
            out: BufWriter::with_capacity(WRITE_BYTES, File::create(&unfinished)?),
            path: path.to_owned(),
            unfinished,
        })
    }

    /// It is whole.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(mut self) -> io::Result<()> {
        self.out.flush()?;
        fs::rename(&self.unfinished, &self.path)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // Renamed by now, unless it never became whole.
        let _ = fs::remove_file(&self.unfinished);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_that_does_not_become_whole_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.gexf");
        fs::write(&path, "old").unwrap();
        let mut file = WholeFile::begin(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let mut file = WholeFile::begin(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.end().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "something is left over"
        );
        assert!(WholeFile::begin(folder.path()).is_err() && WholeFile::begin(&folder.path().join("no/where")).is_err());
    }
}
