//! What destinations refused for good, looked at while the agent is stopped.
//!
//! In: a directory of queues that this process has locked. Out: dead letters; or the same directory with some of them back in
//! their queue, or gone. Promises: a requeue moves a letter in one transaction; what cannot be read is told, not removed.
//! Absent on purpose: any of this beside a running agent, which owns its files.

use std::sync::Arc;

use redb::Database;

use super::{
    delivery::head,
    entry::{DeadLetter, Entry},
    storage::{Medium, Storage},
    tables::{self, Change, Fault},
};
use crate::edge::{
    Metadata, Signal, now_unix_nano,
    transport::otlp_json::{self, UnwritableError},
};

/// Why they cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DeadLettersError {
    /// The file cannot be used.
    #[error(
        "the queue of {exporter} cannot be used: {problem}. The next start of the agent sets it aside if it is corrupt"
    )]
    Unusable {
        /// The exporter.
        exporter: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such letter.
    #[error("the queue of {exporter} has no dead letter {number}: `harbinger dead-letters list` shows what there is")]
    Missing {
        /// The exporter.
        exporter: String,
        /// The number that was asked for.
        number: u64,
    },
    /// The letter's bytes are not what was written.
    #[error("dead letter {number} of {exporter} is damaged: discard it, or keep it to look at the bytes")]
    Damaged {
        /// The exporter.
        exporter: String,
        /// Its number.
        number: u64,
    },
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its number in its queue.
    pub number: u64,
    /// gRPC status code of the destination.
    pub code: i32,
    /// What the destination said.
    pub message: String,
    /// When.
    pub refused_unix_nano: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// What was refused; `None` when it is damaged.
    pub refused: Option<Refused>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it tells of.
    pub signal: Signal,
    /// Its bytes.
    pub body: bytes::Bytes,
    /// The caller's headers.
    pub metadata: Metadata,
    /// Number of its items.
    pub records: u64,
    /// When it was taken.
    pub enqueued_unix_nano: u64,
}

impl Refused {
    /// The request as OTLP JSON.
    ///
    /// # Errors
    /// It is no OTLP request.
    pub fn to_json(&self) -> Result<Vec<u8>, UnwritableError> {
        otlp_json::to_json(otlp_json::request(self.signal), &self.body)
    }
}

/// The dead letters of one exporter.
pub struct DeadLetters {
    database: Database,
    exporter: String,
    /// Held, never used: the directory's lock ends with it.
    _storage: Arc<Storage>,
}

impl DeadLetters {
    /// Opens the queue of an exporter.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open(storage: &Arc<Storage>, exporter: &str) -> Result<Self, DeadLettersError> {
        let opened = storage.file(exporter).open(false).map_err(Fault::from);
        let opened = opened.and_then(|database| tables::load(&database).map(|_| database));
        Ok(Self {
            database: opened.map_err(|fault| unusable(exporter, &fault))?,
            exporter: exporter.to_owned(),
            _storage: Arc::clone(storage),
        })
    }

    /// The exporter.
    pub fn exporter(&self) -> &str {
        &self.exporter
    }

    /// Entries that wait for a start of the agent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn waiting(&self) -> Result<usize, DeadLettersError> {
        let contents = tables::load(&self.database).map_err(|fault| unusable(&self.exporter, &fault))?;
        Ok(contents.heads.len())
    }

    /// Each letter in its turn, the oldest first, for as long as `each` wants more: they need not fit into memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each(&self, mut each: impl FnMut(Letter) -> bool) -> Result<(), DeadLettersError> {
        let read = tables::dead_letters(&self.database, |number, value| each(letter(number, value)));
        read.map_err(|fault| unusable(&self.exporter, &fault))
    }

    /// The letter of this number.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub fn get(&self, number: u64) -> Result<Letter, DeadLettersError> {
        let value = tables::dead_letter(&self.database, number).map_err(|fault| unusable(&self.exporter, &fault))?;
        value
            .map(|value| letter(number, &value))
            .ok_or_else(|| DeadLettersError::Missing {
                exporter: self.exporter.clone(),
                number,
            })
    }

    /// Puts a letter behind what waits in the queue: the next start of the agent sends it again.
    ///
    /// # Errors
    /// There is no such letter, it is damaged, or the file cannot be written.
    pub fn requeue(&self, number: u64) -> Result<(), DeadLettersError> {
        let refused = self.get(number)?.refused.ok_or_else(|| DeadLettersError::Damaged {
            exporter: self.exporter.clone(),
            number,
        })?;
        let entry = Entry {
            signal: refused.signal,
            body: refused.body,
            metadata: refused.metadata,
            records: refused.records,
            enqueued_unix_nano: now_unix_nano(),
        };
        let next = tables::next(&self.database).map_err(|fault| unusable(&self.exporter, &fault))?;
        let value = entry.encode();
        self.apply([Change::Add(next, head(&entry), &value), Change::Discard(number)])
    }

    /// Removes a letter for good.
    ///
    /// # Errors
    /// There is no such letter, or the file cannot be written.
    pub fn discard(&self, number: u64) -> Result<(), DeadLettersError> {
        self.get(number)?;
        self.apply([Change::Discard(number)])
    }

    fn apply<'a>(&self, changes: impl IntoIterator<Item = Change<'a>>) -> Result<(), DeadLettersError> {
        tables::apply(&self.database, changes).map_err(|fault| unusable(&self.exporter, &fault))
    }
}

fn letter(number: u64, value: &[u8]) -> Letter {
    let bytes = value.len() as u64;
    let Ok(letter) = DeadLetter::decode(value) else {
        return Letter {
            number,
            code: tonic::Code::DataLoss as i32,
            message: "this letter itself is damaged".to_owned(),
            refused_unix_nano: 0,
            bytes,
            refused: None,
        };
    };
    let refused = Entry::decode(&letter.entry).ok().map(|entry| Refused {
        signal: entry.signal,
        body: entry.body,
        metadata: entry.metadata,
        records: entry.records,
        enqueued_unix_nano: entry.enqueued_unix_nano,
    });
    Letter {
        number,
        code: letter.code,
        message: letter.message,
        refused_unix_nano: letter.refused_unix_nano,
        bytes,
        refused,
    }
}

fn unusable(exporter: &str, fault: &Fault) -> DeadLettersError {
    DeadLettersError::Unusable {
        exporter: exporter.to_owned(),
        problem: fault.to_string(),
    }
}
