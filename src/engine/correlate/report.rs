//! What an agent of a cluster reports of its anomalous records, so that all agents fold the same incidents.
//!
//! In: records of one agent. Out: protobuf messages: runs (one template in one service, records at most a second apart, within a minute),
//! how far its stream has come, and what else changes incidents. Promises: what was reported can be folded without anything the
//! reader has not read before; bounded in size. Field numbers are never reused; ids are raw numbers, times Unix nanoseconds. Absent on
//! purpose: normal records, who reports, and in which order reports are read.

use prost::Message;

use super::event::Merged;
use crate::engine::embed::Embedding;

/// Records of a template in a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// Key of the template.
    #[prost(fixed64, tag = "1")]
    pub template: u64,
    /// The service.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Text of the template; empty where it is not kept, or was reported before.
    #[prost(string, tag = "3")]
    pub text: String,
    /// Embedding of the template; none where it is not known yet, or was reported before.
    #[prost(message, optional, tag = "4")]
    pub embedding: Option<Direction>,
    /// Time of its first record.
    #[prost(fixed64, tag = "5")]
    pub first_time_unix_nano: u64,
    /// Time of its last record.
    #[prost(fixed64, tag = "6")]
    pub last_time_unix_nano: u64,
    /// How many they are.
    #[prost(uint64, tag = "7")]
    pub records: u64,
    /// The highest severity number of them.
    #[prost(int32, tag = "8")]
    pub severity_number: i32,
    /// Time of the first record of that severity.
    #[prost(fixed64, tag = "9")]
    pub grave_time_unix_nano: u64,
    /// Fresh ids of the first record, as hashes, sorted; at most 8.
    #[prost(fixed64, repeated, tag = "10")]
    pub ids: Vec<u64>,
    /// Why the first record is anomalous; empty when unknown, or reported before.
    #[prost(string, tag = "11")]
    pub reason: String,
}

/// An embedding in a quarter of its bytes: numbers of one byte each. The cosine of two differs from the exact one by less than 0.01.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Direction {
    /// Each number as a signed byte; the vector's length is restored by the reader.
    #[prost(bytes = "vec", tag = "1")]
    pub bytes: Vec<u8>,
}

impl From<&Embedding> for Direction {
    fn from(embedding: &Embedding) -> Self {
        let values = embedding.as_slice();
        let most = values
            .iter()
            .fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let byte = |value: &f32| (value / most * 127.0).round() as i8 as u8;
        Self {
            bytes: values.iter().map(byte).collect(),
        }
    }
}

impl Direction {
    /// The embedding; `None` for bytes that are none.
    pub fn embedding(&self) -> Option<Embedding> {
        Embedding::new(self.bytes.iter().map(|byte| f32::from(*byte as i8)).collect()).ok()
    }
}

/// The embedding of a template that was reported without.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Learned {
    /// Key of the template.
    #[prost(fixed64, tag = "1")]
    pub template: u64,
    /// What it is.
    #[prost(message, optional, tag = "2")]
    pub embedding: Option<Direction>,
}

/// What an agent tells of a tenant at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Anomalous records, by first time.
    #[prost(message, repeated, tag = "1")]
    pub runs: Vec<Run>,
    /// Nothing earlier is expected of this agent's part of the stream.
    #[prost(fixed64, optional, tag = "2")]
    pub watermark_unix_nano: Option<u64>,
    /// Embeddings that came late.
    #[prost(message, repeated, tag = "3")]
    pub learned: Vec<Learned>,
    /// Ids that were given while the cluster did not answer, and what they turned out to be.
    #[prost(message, repeated, tag = "4")]
    pub aliases: Vec<Merged>,
    /// Incidents that somebody said are none.
    #[prost(fixed64, repeated, tag = "5")]
    pub dismissed: Vec<u64>,
}

impl Report {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes the first of these runs, of so many bytes or one.
pub fn first(runs: &mut Vec<Run>, max_bytes: usize) -> Vec<Run> {
    let mut bytes = 0;
    let fits = runs.iter().take_while(|run| {
        bytes += run.encoded_len();
        bytes <= max_bytes
    });
    let count = fits.count().max(1).min(runs.len());
    runs.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::embed::DIMENSIONS;

    #[test]
    fn a_quarter_of_the_bytes_keeps_the_direction() {
        let of = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            Embedding::new((0..DIMENSIONS).map(|_| random.f32() - 0.5).collect()).unwrap()
        };
        for seed in 0..50 {
            let (one, other) = (of(seed), of(seed + 100));
            let short = |embedding: &Embedding| Direction::from(embedding).embedding().unwrap();
            assert!(one.cosine(&short(&one)) > 0.9999);
            assert!((one.cosine(&other) - short(&one).cosine(&short(&other))).abs() < 0.01);
        }
        assert_eq!(
            Direction {
                bytes: vec![0; DIMENSIONS]
            }
            .embedding(),
            None
        );
        assert_eq!(Direction { bytes: vec![1; 3] }.embedding(), None);
    }
}
