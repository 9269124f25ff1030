//! The contract between agents that share incidents and what they learn, and whatever carries it between them: an ordered log and a memory.
//!
//! What enters: entries for the log, records for the memory. What leaves, at every agent: all entries in one order, with the same number and
//! time everywhere; the latest record of each key, in any order. Promises: an entry whose append was answered is in the log for
//! good; the calls of a [`Follower`] come one after the other. Absent on purpose: what entries and records say (the engine's), and Kafka.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::BoxFuture;

/// Largest entry or record, bytes: what brokers take unless they are told otherwise, less what they add.
pub const MAX_SHARED_BYTES: usize = 900_000;

/// An entry of the log, as every agent reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its number: grows by entry; numbers may be left out.
    pub offset: u64,
    /// When the log took it, by the log's own clock, Unix nanoseconds: the same for every reader.
    pub time_unix_nano: u64,
    /// What was appended.
    pub body: Bytes,
}

/// Why nothing could be shared. What was appended may be in the log all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// It is larger than [`MAX_SHARED_BYTES`]: share less at a time.
    #[error("{bytes} bytes, and {MAX_SHARED_BYTES} can be shared at a time")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Brokers are away or do not take it: share it again later.
    #[error("{0}")]
    Away(String),
}

/// What all agents of a cluster share. Needs a tokio runtime around it.
pub trait Cluster: Send + Sync + 'static {
    /// Appends to the log; answers when every replica in step has it. Entries of one agent have the order of these calls.
    fn append(&self, entry: Bytes) -> BoxFuture<'_, Result<(), NotShared>>;

    /// Sets the record of a key in the memory, or (`None`) removes it; answers when every replica in step has it.
    fn put(&self, key: Bytes, record: Option<Bytes>) -> BoxFuture<'_, Result<(), NotShared>>;

    /// Reads on a thread of its own, from now until the value is dropped: first the memory as it stands, then the log from where the
    /// follower says, and the memory's changes in between.
    ///
    /// # Errors
    /// When the system refuses a thread, or the client's settings are not taken.
    fn follow(&self, follower: Arc<dyn Follower>) -> Result<Box<dyn Send + Sync>, String>;
}

/// Who reads the log and the memory. Calls come from one thread, one after the other, and may block briefly.
pub trait Follower: Send + Sync + 'static {
    /// The record of a key in the memory is now this, or (`None`) was removed.
    fn remember(&self, key: &[u8], record: Option<&[u8]>);

    /// The memory is remembered as it stood when reading began. Answers the number of the last entry that is known by it: those
    /// after it are wanted; `None` wants all.
    fn begin(&self) -> Option<u64>;

    /// The next entry of the log.
    fn take(&self, entry: Logged);

    /// The log does not have what is wanted (numbers up to `before` were deleted): what comes next is not the next entry.
    fn missed(&self, before: u64);

    /// Every entry that was in the log when this was found out has been taken; told again and again, at least once a second while
    /// brokers can be reached.
    fn caught_up(&self);

    /// No broker has answered for so long.
    fn alone(&self, since: Duration);
}
