//! What is measured on: real records, and the engine that has learned them.
//!
//! In: the recording of `integration/recording`, and the model of the tests, which is a hash of words and so the same on every
//! machine. Out: requests as bytes, an [`Agent`] that has judged them before. Promise: equal on every run.
//! Absent on purpose: the sentence model, whose cost is `harbinger`'s only for templates that were never seen.

mod agent;
mod recording;
#[path = "../../tests/all/words.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod words;

pub use agent::{Agent, Verdict};
pub use recording::{ATTRIBUTES, Recording};
pub use words::{Words, embedding};
