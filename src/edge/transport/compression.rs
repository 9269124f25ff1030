//! Compression of messages: its names on the wire and in the configuration, and both directions under a limit.
//!
//! What enters: a payload. What leaves: the payload compressed, or decompressed to at most the limit.
//! Promise: a bomb costs no more memory than the limit; no decoder outlives its message (a reused one once mixed
//! up the data of two requests in another agent); large payloads do not block an async thread.
//! Absent on purpose: deflate and snappy, which no OTLP client sends unless told to.

use std::io::{self, Read, Write};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// What Harbinger accepts, as [`EncodingHeaders::accepted`] says it.
pub const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,zstd,identity");

/// The headers of a protocol that name encodings.
#[derive(Debug)]
pub struct EncodingHeaders {
    /// Names a message's encoding.
    pub encoding: &'static str,
    /// Names the encodings a peer understands.
    pub accepted: &'static str,
}

/// Of gRPC.
pub const GRPC: EncodingHeaders = EncodingHeaders {
    encoding: "grpc-encoding",
    accepted: "grpc-accept-encoding",
};
/// Of HTTP itself.
pub const HTTP: EncodingHeaders = EncodingHeaders {
    encoding: "content-encoding",
    accepted: "accept-encoding",
};

/// From this many bytes on, work on a payload leaves the async thread (about a millisecond of it).
const BLOCKING_FROM_BYTES: usize = 256 * 1024;
/// No payload shrinks by more than this with deflate; a bound for what a gzip trailer may make us allocate.
const DEFLATE_MAX_RATIO: usize = 1032;
/// On 1,000 OpenStack records zlib-rs at 1 is three times as fast as at 6 (2.7 times as at 3), for 24 % (15 %) more
/// bytes. A link too slow for that is better served by zstd.
const GZIP_LEVEL: u32 = 1;
/// On the same records 30 % smaller than gzip at 1 and 2.3 times as fast; 3 saves another 3 % for 1.6 times the time.
const ZSTD_LEVEL: i32 = 1;

/// How the messages of a call are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip, which every OTLP endpoint understands.
    #[default]
    Gzip,
    /// Zstandard: faster and smaller, understood by Harbinger and the Collector.
    Zstd,
    /// None at all.
    None,
}

/// A payload could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressionError {
    /// The sender must make the message smaller.
    #[error("the message is over the limit of {limit} bytes once decompressed")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The sender's compressor is broken, or the bytes were cut.
    #[error("the message is not valid {encoding}: {source}")]
    Corrupt {
        /// Name of the encoding it claims.
        encoding: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
}

impl Compression {
    /// The name on the wire; `None` for no compression.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::None => None,
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "identity" | "" => Some(Self::None),
            _ => None,
        }
    }

    /// The encoding that the message's header names; the name itself when it is unknown.
    pub fn of(headers: &HeaderMap, names: &EncodingHeaders) -> Result<Self, String> {
        let Some(value) = headers.get(names.encoding) else {
            return Ok(Self::None);
        };
        let name = String::from_utf8_lossy(value.as_bytes());
        Self::named(name.trim()).ok_or_else(|| name.chars().take(40).collect())
    }

    /// The first encoding that the caller accepts and we have; [`Compression::None`] without one.
    pub fn accepted_by(headers: &HeaderMap, names: &EncodingHeaders) -> Self {
        headers
            .get(names.accepted)
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.split(',').find_map(accepted))
            .unwrap_or(Self::None)
    }

    /// Compresses `payload`; large ones off the async thread.
    pub async fn compress(self, payload: Bytes) -> io::Result<Bytes> {
        if self == Self::None {
            return Ok(payload);
        }
        if payload.len() < BLOCKING_FROM_BYTES {
            return self.compress_now(&payload);
        }
        spawn_blocking(move || self.compress_now(&payload))
            .await
            .map_err(io::Error::other)?
    }

    fn compress_now(self, payload: &Bytes) -> io::Result<Bytes> {
        let compressed = match self {
            Self::Gzip => {
                let out = Vec::with_capacity(payload.len() / 4 + 64);
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(payload)?;
                encoder.finish()?
            }
            Self::Zstd => zstd::bulk::compress(payload, ZSTD_LEVEL)?,
            Self::None => return Ok(payload.clone()),
        };
        Ok(compressed.into())
    }

    /// Decompresses `payload` to at most `limit` bytes. Large ones leave the async thread and take a place in `lanes`,
    /// so that the number of buffers growing at the same time is bounded too.
    pub async fn decompress(
        self,
        payload: Bytes,
        limit: usize,
        lanes: &Semaphore,
    ) -> Result<Bytes, DecompressionError> {
        // A message of nothing is sent uncompressed by some libraries although they set the flag.
        if self == Self::None || payload.is_empty() {
            return Ok(payload);
        }
        if payload.len() < BLOCKING_FROM_BYTES {
            return self.decompress_now(&payload, limit);
        }
        let _lane = lanes.acquire().await;
        spawn_blocking(move || self.decompress_now(&payload, limit))
            .await
            .unwrap_or_else(|error| Err(self.corrupt(io::Error::other(error))))
    }

    /// As [`Compression::decompress`], on this thread whatever the size.
    pub fn decompress_now(self, payload: &[u8], limit: usize) -> Result<Bytes, DecompressionError> {
        let mut out = Vec::new();
        let over = limit as u64 + 1;
        match self {
            Self::None => return Ok(Bytes::copy_from_slice(payload)),
            Self::Gzip => {
                out.reserve_exact(gzip_size_hint(payload).min(limit));
                // Several members in a row are one message, as Go's reader has it.
                flate2::bufread::MultiGzDecoder::new(payload)
                    .take(over)
                    .read_to_end(&mut out)
            }
            Self::Zstd => {
                let declared = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
                if declared.is_some_and(|size| size > limit as u64) {
                    return Err(DecompressionError::TooLarge { limit });
                }
                // The claim of a frame is not worth more than what gzip could hold.
                let hint = declared.map_or(payload.len() * 4, |size| size as usize);
                out.reserve_exact(hint.min(limit).min(payload.len().saturating_mul(DEFLATE_MAX_RATIO)));
                zstd::stream::read::Decoder::with_buffer(payload).and_then(|mut decoder| {
                    decoder.window_log_max(window_log_max(limit))?;
                    decoder.take(over).read_to_end(&mut out)
                })
            }
        }
        .map_err(|source| self.corrupt(source))?;
        if out.len() > limit {
            return Err(DecompressionError::TooLarge { limit });
        }
        Ok(out.into())
    }

    fn corrupt(self, source: io::Error) -> DecompressionError {
        DecompressionError::Corrupt {
            encoding: self.name().unwrap_or("identity"),
            source,
        }
    }
}

/// One entry of the accepted encodings; none that is unknown, or refused by a weight of 0.
fn accepted(entry: &str) -> Option<Compression> {
    let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
    let weight = parameters
        .trim()
        .strip_prefix("q=")
        .and_then(|weight| weight.parse().ok());
    let refused = weight.is_some_and(|weight: f32| weight <= 0.0);
    Compression::named(name.trim()).filter(|_| !refused)
}

/// The size a gzip member's trailer claims (RFC 1952: ISIZE, modulo 2^32), no more than deflate can reach.
fn gzip_size_hint(payload: &[u8]) -> usize {
    let claimed = payload
        .last_chunk::<4>()
        .map_or(0, |size| u32::from_le_bytes(*size) as usize);
    claimed.min(payload.len().saturating_mul(DEFLATE_MAX_RATIO))
}

/// The largest window (as a power of two) a zstd frame may ask for: it is memory beside the output, so it is bound to
/// the limit as well, but never below the 8 MiB that every decoder must support (RFC 8878).
fn window_log_max(limit: usize) -> u32 {
    limit
        .checked_next_power_of_two()
        .map_or(27, usize::trailing_zeros)
        .clamp(23, 27)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    #[tokio::test]
    async fn what_is_compressed_comes_back() {
        let lanes = Semaphore::new(1);
        for length in [0, 1, 1000, BLOCKING_FROM_BYTES * 3] {
            let payload: Bytes = (0..length).map(|i| (i * i / 7) as u8).collect();
            for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
                let compressed = compression.compress(payload.clone()).await.unwrap();
                let back = compression.decompress(compressed, length, &lanes).await.unwrap();
                assert_eq!(back, payload, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn one_byte_over_the_limit_is_too_large() {
        for compression in BOTH {
            let compressed = compression.compress_now(&Bytes::from(vec![0; 1001])).unwrap();
            assert!(compression.decompress_now(&compressed, 1001).is_ok());
            let error = compression.decompress_now(&compressed, 1000).unwrap_err();
            assert!(matches!(error, DecompressionError::TooLarge { limit: 1000 }), "{error}");
        }
    }

    #[test]
    fn cut_or_foreign_bytes_are_corrupt() {
        for compression in BOTH {
            let compressed = compression.compress_now(&Bytes::from(vec![5; 4000])).unwrap();
            for bytes in [&compressed[..compressed.len() - 1], &compressed[..3], b"not compressed"] {
                let error = compression.decompress_now(bytes, 9000).unwrap_err();
                assert!(
                    matches!(error, DecompressionError::Corrupt { .. }),
                    "{compression:?}: {error}"
                );
            }
        }
    }

    #[test]
    fn known_loss_no_decoder_outlives_its_message() {
        for compression in BOTH {
            let messages: Vec<Bytes> = (0..40_u8).map(|n| vec![n; 100 + usize::from(n) * 50].into()).collect();
            let compressed: Vec<Bytes> = messages
                .iter()
                .map(|it| compression.compress_now(it).unwrap())
                .collect();
            for (message, compressed) in messages.iter().zip(&compressed) {
                // One that is cut in between leaves nothing behind for the next.
                assert!(
                    compression
                        .decompress_now(&compressed[..compressed.len() - 2], 9000)
                        .is_err()
                );
                assert_eq!(compression.decompress_now(compressed, 9000).unwrap(), message);
            }
        }
    }

    #[test]
    fn members_in_a_row_are_one_message() {
        for compression in BOTH {
            let mut two = compression.compress_now(&Bytes::from_static(b"one")).unwrap().to_vec();
            two.extend(compression.compress_now(&Bytes::from_static(b"two")).unwrap());
            assert_eq!(compression.decompress_now(&two, 100).unwrap(), &b"onetwo"[..]);
        }
    }

    #[test]
    fn a_lying_size_is_not_believed() {
        let mut gzip = Compression::Gzip
            .compress_now(&Bytes::from_static(b"short"))
            .unwrap()
            .to_vec();
        let length = gzip.len();
        gzip[length - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(gzip_size_hint(&gzip) <= length * DEFLATE_MAX_RATIO);
        assert!(Compression::Gzip.decompress_now(&gzip, 1 << 30).is_err());
    }

    #[test]
    fn a_zstd_window_over_the_limit_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(b"small").unwrap();
        encoder.flush().unwrap();
        let frame = encoder.finish().unwrap();
        assert!(Compression::Zstd.decompress_now(&frame, 64 << 20).is_err());
        assert!(Compression::Zstd.decompress_now(&frame, 128 << 20).is_ok());
    }

    #[test]
    fn the_callers_first_known_encoding_is_taken() {
        let accepted = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HTTP.accepted, HeaderValue::from_static(value));
            Compression::accepted_by(&headers, &HTTP)
        };
        assert_eq!(accepted("br, GZIP;q=0.5"), Compression::Gzip);
        assert_eq!(accepted("gzip;q=0, zstd; q=1"), Compression::Zstd);
        assert_eq!(accepted("snappy, zstd,gzip"), Compression::Zstd);
        assert_eq!(accepted("identity,gzip"), Compression::None);
        assert_eq!(accepted("snappy"), Compression::None);
        assert_eq!(Compression::accepted_by(&HeaderMap::new(), &GRPC), Compression::None);
    }
}
