//! gRPC framing: a message is one byte (compressed or not), four bytes of length and the payload.
//!
//! What enters: data frames of an HTTP/2 body. What leaves: one payload, or a body ready to send.
//! Promise: a payload that arrives in one data frame is not copied, any other is copied once; nothing is allocated
//! ahead of the bytes that justify it; an outgoing payload is shared, never copied, however often it is sent.
//! Absent on purpose: streams of messages. Both calls Harbinger knows are unary.
//! The layout is that of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::compression::Compression;

/// Length of what stands before each payload.
const PREFIX_BYTES: usize = 5;
/// Below this a payload is copied behind its prefix, so that it travels in one data frame.
const JOIN_BELOW_BYTES: usize = 1024;

/// The frames of a call do not hold exactly one acceptable message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The sender must make the message smaller.
    #[error("a message of {announced} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// Length in the message's prefix.
        announced: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The sender's gRPC library is broken.
    #[error("the byte before a gRPC message must be 0 or 1, not {0}")]
    BadFlag(u8),
    /// The sender stopped in the middle of a message, or sent none.
    #[error("the call ended after {received} bytes of its message")]
    Truncated {
        /// Bytes received, prefix included.
        received: usize,
    },
    /// The sender sent more than one message in a unary call.
    #[error("a second message in a unary call")]
    Trailing,
}

/// A payload as it came, still compressed if `compressed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Whether the message said so; the encoding itself is in the headers.
    pub compressed: bool,
    /// The bytes behind the prefix.
    pub bytes: Bytes,
}

/// Puts the data frames of one unary call together.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_filled: usize,
    announced: usize,
    whole: Bytes,
    parts: BytesMut,
}

impl Assembler {
    /// Accepts a payload of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX_BYTES],
            prefix_filled: 0,
            announced: 0,
            whole: Bytes::new(),
            parts: BytesMut::new(),
        }
    }

    /// Takes the next data frame.
    pub fn push(&mut self, mut data: Bytes) -> Result<(), FramingError> {
        if self.prefix_filled < PREFIX_BYTES {
            self.take_prefix(&mut data)?;
        }
        if data.is_empty() {
            return Ok(());
        }
        let held = self.whole.len() + self.parts.len();
        if held + data.len() > self.announced {
            return Err(FramingError::Trailing);
        }
        if held == 0 && data.len() == self.announced {
            self.whole = data;
            return Ok(());
        }
        // Grow with what has come, not with what was announced: an announcement costs its sender nothing.
        let wanted = (self.announced - held).min(held.max(64 * 1024)).max(data.len());
        self.parts.reserve(wanted);
        self.parts.extend_from_slice(&data);
        Ok(())
    }

    fn take_prefix(&mut self, data: &mut Bytes) -> Result<(), FramingError> {
        while self.prefix_filled < PREFIX_BYTES && data.has_remaining() {
            if let Some(slot) = self.prefix.get_mut(self.prefix_filled) {
                *slot = data.get_u8();
            }
            self.prefix_filled += 1;
        }
        if self.prefix_filled == PREFIX_BYTES {
            let [flag, length @ ..] = self.prefix;
            if flag > 1 {
                return Err(FramingError::BadFlag(flag));
            }
            self.announced = u32::from_be_bytes(length) as usize;
            if self.announced > self.limit {
                return Err(FramingError::TooLarge {
                    announced: self.announced,
                    limit: self.limit,
                });
            }
        }
        Ok(())
    }

    /// The payload, once the body has ended.
    pub fn finish(self) -> Result<Payload, FramingError> {
        let held = self.whole.len() + self.parts.len();
        if self.prefix_filled < PREFIX_BYTES || held < self.announced {
            return Err(FramingError::Truncated {
                received: self.prefix_filled + held,
            });
        }
        let bytes = if self.parts.is_empty() {
            self.whole
        } else {
            self.parts.freeze()
        };
        Ok(Payload {
            compressed: self.prefix[0] == 1,
            bytes,
        })
    }
}

/// The next frame of `body`; `None` at its end.
pub async fn next_frame<B>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>>
where
    B: Body + Unpin,
{
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// A body of at most one message, and trailers. Cloning it is cheap and shares the payload.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    head: Bytes,
    payload: Bytes,
    trailers: Option<HeaderMap>,
}

impl Outgoing {
    /// Frames `payload`, which is compressed by `compression` already.
    pub fn new(payload: Bytes, compression: Compression) -> Self {
        let flag = u8::from(compression != Compression::None);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut head = BytesMut::with_capacity(PREFIX_BYTES + JOIN_BELOW_BYTES.min(payload.len()));
        head.extend_from_slice(&[flag]);
        head.extend_from_slice(&length);
        if payload.len() < JOIN_BELOW_BYTES {
            head.extend_from_slice(&payload);
            return Self {
                head: head.freeze(),
                payload: Bytes::new(),
                trailers: None,
            };
        }
        Self {
            head: head.freeze(),
            payload,
            trailers: None,
        }
    }

    /// The same body, followed by `trailers`.
    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self {
            trailers: Some(trailers),
            ..self
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let data = if this.head.is_empty() {
            &mut this.payload
        } else {
            &mut this.head
        };
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.payload.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.head.len() + self.payload.len()) as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn any_cut_into_frames_gives_the_same_payload() {
        let wire = framed(b"payload");
        for first in 0..=wire.len() {
            for second in first..=wire.len() {
                let mut assembler = Assembler::new(100);
                for part in [&wire[..first], &wire[first..second], &wire[second..]] {
                    assembler.push(Bytes::copy_from_slice(part)).unwrap();
                }
                assert_eq!(assembler.finish().unwrap().bytes, &b"payload"[..]);
            }
        }
    }

    #[test]
    fn a_payload_in_one_data_frame_is_not_copied() {
        let wire = Bytes::from(framed(&[7; 5000]));
        let mut assembler = Assembler::new(10_000);
        assembler.push(wire.clone()).unwrap();
        assert_eq!(assembler.finish().unwrap().bytes.as_ptr(), wire[5..].as_ptr());
    }

    #[test]
    fn an_announcement_over_the_limit_is_refused_before_its_bytes() {
        let mut assembler = Assembler::new(10);
        let error = assembler.push(Bytes::from(framed(&[0; 11])).slice(..5)).unwrap_err();
        assert_eq!(
            error,
            FramingError::TooLarge {
                announced: 11,
                limit: 10
            }
        );
    }

    #[test]
    fn an_announcement_alone_allocates_little() {
        let mut assembler = Assembler::new(usize::MAX);
        assembler
            .push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]))
            .unwrap();
        assert!(assembler.parts.capacity() <= 128 * 1024);
    }

    #[test]
    fn broken_frames_are_told_apart() {
        assert_eq!(
            Assembler::new(9).push(Bytes::from_static(&[2, 0, 0, 0, 0])),
            Err(FramingError::BadFlag(2))
        );
        assert_eq!(Assembler::new(9).finish(), Err(FramingError::Truncated { received: 0 }));
        let mut short = Assembler::new(9);
        short.push(Bytes::from_static(&[0, 0, 0, 0, 3, 1])).unwrap();
        assert_eq!(short.finish(), Err(FramingError::Truncated { received: 6 }));
        let mut long = Assembler::new(9);
        assert_eq!(
            long.push(Bytes::from_static(&[0, 0, 0, 0, 1, 1, 1])),
            Err(FramingError::Trailing)
        );
    }

    #[tokio::test]
    async fn an_outgoing_payload_is_shared_and_framed() {
        for length in [0, 3, JOIN_BELOW_BYTES, 9000] {
            let payload = Bytes::from(vec![3; length]);
            let mut body = Outgoing::new(payload.clone(), Compression::None);
            assert_eq!(body.size_hint().exact(), Some(length as u64 + 5));
            let mut assembler = Assembler::new(9000);
            while let Some(Ok(frame)) = next_frame(&mut body).await {
                assembler.push(frame.into_data().unwrap()).unwrap();
            }
            assert!(body.is_end_stream());
            let received = assembler.finish().unwrap();
            assert_eq!(received.bytes, payload);
            let shared = received.bytes.as_ptr() == payload.as_ptr();
            assert!(shared == (length >= JOIN_BELOW_BYTES) || length == 0);
        }
    }
}
