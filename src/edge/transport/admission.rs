//! Admission: how many requests, and how many of their bytes, a receiver holds at the same time.
//!
//! What enters: the wish to hold more. What leaves: a place, or no.
//! Promise: never a wait (a caller that is told "unavailable" at once can go elsewhere), and a place is given back
//! whatever becomes of its request. Absent on purpose: fairness between callers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What a receiver may hold.
#[derive(Debug)]
pub struct Admission {
    max_requests: usize,
    max_bytes: usize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// The place of one request; gives everything back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Bounds for all requests together.
    pub fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self {
            max_requests,
            max_bytes,
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// A place for one more request.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        reserve(&self.requests, 1, self.max_requests).then(|| Place {
            admission: self.clone(),
            bytes: 0,
        })
    }

    /// Requests held now.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of them held now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Place {
    /// Holds `more` bytes too; `false` if there is no room.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let fits = reserve(&self.admission.bytes, more, self.admission.max_bytes);
        if fits {
            self.bytes += more;
        }
        fits
    }

    /// Gives the bytes back, but not the place.
    pub fn empty(&mut self) {
        self.admission
            .bytes
            .fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.empty();
        self.admission.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

fn reserve(held: &AtomicUsize, more: usize, max: usize) -> bool {
    let add = |held: usize| held.checked_add(more).filter(|sum| *sum <= max);
    held.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn neither_bound_is_passed_and_everything_comes_back() {
        let admission = Arc::new(Admission::new(2, 10));
        let mut first = admission.enter().unwrap();
        let mut second = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        assert!(first.grow(6) && !second.grow(5) && second.grow(4));
        first.empty();
        assert!(second.grow(6));
        drop((first, second));
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }
}
