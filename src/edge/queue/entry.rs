//! What is kept of a request, as bytes.
//!
//! In: a request as it was enriched, with the caller's metadata. Out: one value of the database, and back. Promise: a value
//! that has changed by a single bit is told apart (XXH3 over all of it). Absent on purpose: compression (the destination's is
//! done once, at sending) and any look into the records.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::edge::{Metadata, Refusal, Signal};

/// Of the encoding of logs, and of dead letters; as before there were other signals, so that either version of Harbinger goes on
/// with the other's files.
const VERSION: u8 = 1;
/// Of an entry that says its signal. Versions that are not known are refused as damaged.
const VERSION_WITH_SIGNAL: u8 = 2;
/// Version and checksum.
const HEADER: usize = 9;

/// A value is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its checksum is wrong, or another version of Harbinger wrote it")]
pub struct Damaged;

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it tells of.
    pub signal: Signal,
    /// The request's bytes, as they are sent.
    pub body: Bytes,
    /// The caller's headers.
    pub metadata: Metadata,
    /// Number of its items.
    pub records: u64,
    /// When it was taken, by the clock of this machine.
    pub enqueued_unix_nano: u64,
}

impl Entry {
    /// As one value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(self.body.len() + 256);
        let number = number_of(self.signal);
        if let Some(number) = number {
            out.number(number);
        }
        out.number(self.enqueued_unix_nano);
        out.number(self.records);
        out.number(self.metadata.0.len() as u64);
        for (name, value) in self.metadata.0.iter() {
            out.text(name);
            out.text(value);
        }
        let version = number.map_or(VERSION, |_| VERSION_WITH_SIGNAL);
        out.finish(version, &self.body)
    }

    /// Back from a value.
    ///
    /// # Errors
    /// [`Damaged`]: it cannot be delivered.
    pub fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let (version, mut value) = Reader::checked(value)?;
        let signal = match version {
            VERSION => Signal::Logs,
            VERSION_WITH_SIGNAL => signal_of(value.number()?)?,
            _ => return Err(Damaged),
        };
        let (enqueued_unix_nano, records, headers) = (value.number()?, value.number()?, value.number()?);
        let mut metadata = Vec::new();
        for _ in 0..headers {
            metadata.push((value.text()?, value.text()?));
        }
        Ok(Self {
            signal,
            body: Bytes::copy_from_slice(value.0),
            metadata: Metadata(Arc::from(metadata)),
            records,
            enqueued_unix_nano,
        })
    }
}

/// How a signal is written; logs are not.
fn number_of(signal: Signal) -> Option<u64> {
    match signal {
        Signal::Logs => None,
        Signal::Traces => Some(1),
        Signal::Metrics => Some(2),
    }
}

fn signal_of(number: u64) -> Result<Signal, Damaged> {
    let mut signals = Signal::ALL.into_iter();
    signals.find(|signal| number_of(*signal) == Some(number)).ok_or(Damaged)
}

/// A request that its destination refused for good, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// gRPC status code of the destination.
    pub code: i32,
    /// Its message.
    pub message: String,
    /// When it said so, by the clock of this machine.
    pub refused_unix_nano: u64,
    /// The entry's value, as it was kept: an entry that is damaged is here to be looked at.
    pub entry: Bytes,
}

impl DeadLetter {
    /// Of a refusal.
    pub fn of(refusal: &Refusal, entry: Bytes, refused_unix_nano: u64) -> Self {
        let (code, message) = match refusal {
            Refusal::Malformed(message) => (3, message.clone()),
            Refusal::Unavailable { message, .. } => (14, message.clone()),
            Refusal::Permanent { code, message, .. } => (*code, message.clone()),
        };
        Self {
            code,
            message,
            refused_unix_nano,
            entry,
        }
    }

    /// As one value.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(self.entry.len() + 256);
        out.number(self.refused_unix_nano);
        out.number(u64::from(self.code.cast_unsigned()));
        out.text(&self.message);
        out.finish(VERSION, &self.entry)
    }

    /// Back from a value.
    ///
    /// # Errors
    /// [`Damaged`]: it cannot be read.
    pub fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let (_, mut value) =
            Reader::checked(value).and_then(|read| (read.0 == VERSION).then_some(read).ok_or(Damaged))?;
        let refused_unix_nano = value.number()?;
        let code = u32::try_from(value.number()?).map_err(|_| Damaged)?.cast_signed();
        Ok(Self {
            code,
            message: value.text()?,
            refused_unix_nano,
            entry: Bytes::copy_from_slice(value.0),
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&[0; HEADER]);
        Self(out)
    }

    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// With `rest`, whose length is that of the value, and the checksum of everything behind it.
    fn finish(mut self, version: u8, rest: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(rest);
        let checksum = xxh3_64(self.0.get(HEADER..).unwrap_or_default()).to_le_bytes();
        let header = [version].into_iter().chain(checksum);
        for (byte, written) in self.0.iter_mut().zip(header) {
            *byte = written;
        }
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind the checksum, and the version.
    fn checked(value: &'a [u8]) -> Result<(u8, Self), Damaged> {
        let (version, rest) = value.split_first().ok_or(Damaged)?;
        let (checksum, rest) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
        if xxh3_64(rest) != u64::from_le_bytes(*checksum) {
            return Err(Damaged);
        }
        Ok((*version, Self(rest)))
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Result<String, Damaged> {
        let length = usize::try_from(self.number()?).map_err(|_| Damaged)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Damaged)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_is_read_and_a_changed_bit_is_seen(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            headers in proptest::collection::vec(("[a-z-]{1,9}", "[ -~]{0,20}"), 0..3),
            records: u64,
            enqueued_unix_nano: u64,
            signal in proptest::sample::select(&Signal::ALL[..]),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let metadata = Metadata(Arc::from(headers));
            let entry = Entry { signal, body: body.into(), metadata, records, enqueued_unix_nano };
            let mut value = entry.encode();
            prop_assert_eq!(Entry::decode(&value), Ok(entry.clone()));
            let letter = DeadLetter::of(&Refusal::Malformed("no".into()), value.clone().into(), 7);
            prop_assert_eq!(DeadLetter::decode(&letter.encode()), Ok(letter));
            let at = at.index(value.len());
            value[at] ^= 1_u8 << bit;
            prop_assert_eq!(Entry::decode(&value), Err(Damaged));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Entry::decode(&bytes), DeadLetter::decode(&bytes));
        }
    }

    /// What version 0.1.0 wrote, byte for byte, before an entry knew its signal.
    #[test]
    fn an_entry_of_the_version_before_is_one_of_logs_and_logs_are_written_as_it_did() {
        let mut value = vec![1];
        let mut content = Vec::new();
        for number in [7_u64, 2, 1, 1] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        content.extend_from_slice(b"a");
        content.extend_from_slice(&2_u64.to_le_bytes());
        content.extend_from_slice(b"bcbody");
        value.extend_from_slice(&xxh3_64(&content).to_le_bytes());
        value.extend_from_slice(&content);
        let entry = Entry {
            signal: Signal::Logs,
            body: Bytes::from_static(b"body"),
            metadata: Metadata(Arc::from([("a".to_owned(), "bc".to_owned())])),
            records: 2,
            enqueued_unix_nano: 7,
        };
        assert_eq!(Entry::decode(&value), Ok(entry.clone()));
        assert_eq!(entry.encode(), value);
    }
}
