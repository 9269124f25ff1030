//! The bytes of an input: opened, decompressed, without byte order mark, a line at a time.
//!
//! Enters: a path or standard input. Leaves: lines with their numbers. Promises: gzip is known by its first bytes, not by
//! a name; a line is at most [`MAX_LINE_BYTES`] long in memory, however long it is; invalid UTF-8 is read as Latin-1.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{BadRow, FileError};

/// Longest line that is read; the Collector's file exporter writes whole requests, tens of megabytes at worst.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;
/// How much of the input is looked at to find out what it is.
const HEAD_BYTES: usize = 64 << 10;

type Bytes = Box<dyn Read + Send>;

/// An opened input.
pub(super) struct Input {
    head: Vec<u8>,
    rest: Bytes,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Input, FileError> {
        let failed = |source| FileError::Open {
            path: path.to_owned(),
            source,
        };
        let bytes: Bytes = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(failed)?)
        };
        Input::of(path, bytes)
    }

    /// Looks at the first bytes, through gzip if need be.
    pub(super) fn of(path: &Path, mut bytes: Bytes) -> Result<Input, FileError> {
        let failed = |source| FileError::Open {
            path: path.to_owned(),
            source,
        };
        let path_of = || path.to_owned();
        let mut head = first_bytes(&mut bytes, 4).map_err(failed)?;
        if head.starts_with(&[0x1f, 0x8b]) {
            bytes = Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                1 << 16,
                Cursor::new(head).chain(bytes),
            )));
            head = Vec::new();
        }
        head.extend(first_bytes(&mut bytes, HEAD_BYTES).map_err(failed)?);
        let kind = match head.as_slice() {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
            [0xfd, b'7', b'z', b'X', ..] => Some("xz"),
            [b'B', b'Z', b'h', ..] => Some("bzip2"),
            [b'P', b'K', 3, 4, ..] => Some("zip"),
            [0x1f, 0x8b, ..] => Some("gzip twice"),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(FileError::Compressed { path: path_of(), kind });
        }
        match head.as_slice() {
            [] => return Err(FileError::Empty { path: path_of() }),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(FileError::Encoding { path: path_of() }),
            [0xef, 0xbb, 0xbf, ..] => drop(head.drain(..3)),
            _ => {}
        }
        Ok(Input { head, rest: bytes })
    }

    /// The first bytes: at least one line, unless that is longer than any line has reason to be.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// All bytes.
    pub(super) fn into_reader(self) -> BufReader<impl Read + Send> {
        BufReader::with_capacity(1 << 16, Cursor::new(self.head).chain(self.rest))
    }

    /// All lines.
    pub(super) fn into_lines(self) -> Lines {
        Lines {
            reader: Box::new(self.into_reader()),
            line: 0,
            failed: false,
        }
    }
}

/// Reads until there is a whole line, or `most` bytes: a pipe that is still written to gives its first line at once.
fn first_bytes(bytes: &mut Bytes, most: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; most];
    let mut filled = 0;
    while let Some(room) = head.get_mut(filled..).filter(|room| !room.is_empty()) {
        let count = match bytes.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        filled += count;
        let line = most > 4 && head.get(..filled).is_some_and(|read| read.contains(&b'\n'));
        if count == 0 || line {
            break;
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// Lines with their numbers, from 1, without their ends.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: u64,
    failed: bool,
}

impl Iterator for Lines {
    type Item = Result<(u64, String), BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.line += 1;
        let mut bytes = Vec::new();
        let bad = |reason: String, fatal| {
            Some(Err(BadRow {
                line: self.line,
                reason,
                fatal,
            }))
        };
        match (&mut self.reader)
            .take(MAX_LINE_BYTES as u64)
            .read_until(b'\n', &mut bytes)
        {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => {
                self.failed = true;
                return bad(format!("cannot be read: {error}"), true);
            }
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        } else if bytes.len() >= MAX_LINE_BYTES {
            if let Err(error) = self.reader.skip_until(b'\n') {
                self.failed = true;
                return bad(format!("cannot be read: {error}"), true);
            }
            return bad(
                format!("is longer than {} MiB and was left out", MAX_LINE_BYTES >> 20),
                false,
            );
        }
        Some(Ok((self.line, text_of(bytes))))
    }
}

/// The bytes as text. What is no UTF-8 is taken for Latin-1: every byte is a character, and none is lost.
pub(super) fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect())
}
