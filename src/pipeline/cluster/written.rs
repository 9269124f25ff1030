//! How the incidents of a cluster stand, as records of its memory: in pieces, because one can be larger than a record may be.
//!
//! What enters: bytes and up to which entry they say it; or records. What leaves: records; or the bytes of the latest of which all pieces are
//! there. Promises: a set of pieces that is being written takes nothing from the one before; damaged and missing pieces are no set.
//! Absent on purpose: what the bytes say.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// What the keys of these records begin with.
pub(super) const PREFIX: &[u8] = b"incidents/";
/// Bytes of a piece, at most.
const PIECE_BYTES: usize = 500_000;
/// No cluster's incidents take more, once they are out of their compression; bytes.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Fast, and half the size.
const LEVEL: i32 = 1;

/// A record.
#[derive(Clone, PartialEq, Message)]
struct Piece {
    /// The latest entry in what it is a piece of.
    #[prost(uint64, tag = "1")]
    folded: u64,
    #[prost(uint32, tag = "2")]
    place: u32,
    #[prost(uint32, tag = "3")]
    count: u32,
    /// Of all pieces together: zstd.
    #[prost(bytes = "vec", tag = "4")]
    bytes: Vec<u8>,
}

/// The records that say it; every other time in other places.
pub(super) fn pieces(folded: u64, written: &[u8], slot: bool) -> Vec<(Bytes, Bytes)> {
    let Ok(compressed) = zstd::bulk::compress(written, LEVEL) else {
        return Vec::new(); // memory is short; the next time is soon
    };
    let chunks = compressed.chunks(PIECE_BYTES);
    let count = chunks.len() as u32;
    let pieces = (0..).zip(chunks).map(|(place, chunk)| {
        let piece = Piece {
            folded,
            place,
            count,
            bytes: chunk.to_vec(),
        };
        let key = format!("incidents/{}/{place}", u8::from(slot));
        (Bytes::from(key), Bytes::from(piece.encode_to_vec()))
    });
    pieces.collect()
}

/// Records as they are read.
#[derive(Debug, Default)]
pub(super) struct Pieces(BTreeMap<Vec<u8>, Piece>);

impl Pieces {
    /// The record of a key.
    pub(super) fn remember(&mut self, key: &[u8], record: Option<&[u8]>) {
        match record.and_then(|record| Piece::decode(record).ok()) {
            Some(piece) => self.0.insert(key.to_vec(), piece),
            None => self.0.remove(key),
        };
    }

    /// What was written last, of all that is there as a whole.
    pub(super) fn latest(self) -> Option<Vec<u8>> {
        let mut sets: BTreeMap<u64, BTreeMap<u32, Piece>> = BTreeMap::new();
        for piece in self.0.into_values() {
            sets.entry(piece.folded).or_default().insert(piece.place, piece);
        }
        sets.into_values().rev().find_map(|set| {
            let is_whole = set.values().all(|piece| piece.count as usize == set.len());
            let compressed: Vec<u8> = set.into_values().flat_map(|piece| piece.bytes).collect();
            let written = is_whole
                .then(|| zstd::stream::decode_all(compressed.as_slice()).ok())
                .flatten();
            written.filter(|written| written.len() <= MAX_BYTES)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..bytes).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn what_was_written_last_as_a_whole_is_read() {
        let (first, second) = (noise(1_200_000, 1), noise(1_700_000, 2));
        let mut pieces_read = Pieces::default();
        for (key, piece) in pieces(7, &first, false) {
            pieces_read.remember(&key, Some(&piece));
        }
        let mut half = pieces(9, &second, true);
        half.pop();
        for (key, piece) in half {
            pieces_read.remember(&key, Some(&piece));
        }
        assert_eq!(pieces_read.latest().unwrap(), first, "the second is not whole");
        let mut all = Pieces::default();
        for (key, piece) in pieces(7, &first, false).into_iter().chain(pieces(9, &second, true)) {
            all.remember(&key, Some(&piece));
        }
        all.remember(b"incidents/0/0", Some(b"\xff\xff\xff"));
        assert_eq!(all.latest().unwrap(), second);
        assert_eq!(Pieces::default().latest(), None);
    }
}
