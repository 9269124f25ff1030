//! A request that may have to be sent in parts, because the destination finds it too large.
//!
//! What enters: a request's bytes, and each refusal for size. What leaves: parts in order, until what is left is one item
//! that is too large by itself. Promise: parts are the whole, in order; what is left at any moment is one request again.
//! Absent on purpose: sending.

use bytes::Bytes;

use crate::engine::view::{self, Signal};

/// What is still to be sent of a request.
#[derive(Debug)]
pub struct Parts {
    signal: Signal,
    /// The next one last.
    left: Vec<Bytes>,
    is_whole: bool,
}

impl Parts {
    /// The whole, as one part.
    pub fn of(signal: Signal, body: Bytes) -> Self {
        Self {
            signal,
            left: vec![body],
            is_whole: true,
        }
    }

    /// The next part.
    pub fn next(&mut self) -> Option<Bytes> {
        self.left.pop()
    }

    /// Puts the halves of a part that was found too large in its place; `false` when it cannot be halved.
    pub fn halve(&mut self, part: &[u8]) -> bool {
        let Some([first, second]) = view::halve(self.signal, part) else {
            return false;
        };
        self.left.extend([second.into(), first.into()]);
        self.is_whole = false;
        true
    }

    /// Whether nothing was halved.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Everything that was not taken out yet, as one request; `None` when that is nothing.
    pub fn rest(&self) -> Option<Bytes> {
        match self.left.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => {
                let mut rest = Vec::with_capacity(several.iter().map(Bytes::len).sum());
                for part in several.iter().rev() {
                    rest.extend_from_slice(part);
                }
                Some(rest.into())
            }
        }
    }
}
