//! A consumer: takes one entry after the other from the disk and does not let go before its destination has it.
//!
//! In: entries in their order. Out: requests to the destination, and what became of them to the writer. Promises: an entry
//! leaves the queue only when the destination has taken it or refused it for good; what is refused for good, or given up by
//! `max_elapsed_time`, becomes a dead letter and keeps nobody waiting; a request that is too large goes in parts, and what is
//! left of it is on disk after each; a panic in the exporter costs a second. Absent on purpose: retries (the exporter's own,
//! under a deadline far away).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{
    Shared,
    entry::{DeadLetter, Entry},
    tables::{self, Fault, Head},
    writer::{Order, Settled},
};
use crate::{
    edge::{
        Exporter, Refusal, Request, Signal, now_unix_nano,
        transport::{parts::Parts, warnings::Throttle},
    },
    engine::view,
};

/// A deadline that never comes: the retries' own limits hold.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Wait before an entry is tried again that something of ours kept from being tried.
const PAUSE: Duration = Duration::from_secs(1);
/// A request that is not taken for so long is told of, and again after as long.
const OUTAGE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone)]
pub struct Consumer {
    pub shared: Arc<Shared>,
    pub destination: Arc<dyn Exporter>,
    pub warnings: Arc<Warnings>,
}

/// What the consumers of one queue warn of.
#[derive(Debug, Default)]
pub struct Warnings {
    buried: Throttle,
    held: Throttle,
    unread: Throttle,
    outage: Throttle,
}

impl Consumer {
    /// Delivers for ever; to be ended by dropping it, at any moment.
    pub async fn run(self) {
        loop {
            let number = self.shared.next().await;
            // In a task of its own, which ends with this one: a panic is its alone.
            let mut task = JoinSet::new();
            let consumer = self.clone();
            task.spawn(async move { consumer.deliver(number).await });
            if let Some(Err(problem)) = task.join_next().await {
                tracing::error!(
                    exporter = self.shared.name,
                    "a delivery ended by a bug and is tried again: {problem}"
                );
                sleep(PAUSE).await;
                self.shared.index().put_back(number);
                self.shared.entered.notify_one();
            }
        }
    }

    async fn deliver(&self, number: u64) {
        let Some((value, entry)) = self.read(number).await else {
            return;
        };
        let mut parts = Parts::of(entry.signal, entry.body.clone());
        while let Some(part) = parts.next() {
            let request = Request {
                signal: entry.signal,
                body: part.clone(),
                metadata: entry.metadata.clone(),
                deadline: Instant::now() + FAR,
            };
            let refusal = match self.send(request).await {
                Ok(_) => None,
                Err(refusal) if refusal.is_too_large() && parts.halve(&part) => continue,
                Err(refusal) => Some(refusal),
            };
            let dead_letter = match refusal {
                None => None,
                Some(refusal) => {
                    let (records, refused) = if parts.is_whole() {
                        (entry.records, value.clone())
                    } else {
                        let part = with_body(&entry, part.clone());
                        (part.records, part.encode().into())
                    };
                    let Some(letter) = self.bury(number, (entry.signal, records), &refusal, refused) else {
                        return;
                    };
                    Some(letter)
                }
            };
            let rest = parts.rest().map(|body| with_body(&entry, body));
            self.settle(number, rest.as_ref(), dead_letter);
        }
    }

    /// The destination's answer, however long it takes; an outage is told of meanwhile.
    async fn send(&self, request: Request) -> Result<Bytes, Refusal> {
        let begun = Instant::now();
        let sending = self.destination.export(request);
        tokio::pin!(sending);
        loop {
            if let Ok(answer) = timeout(OUTAGE, &mut sending).await {
                return answer;
            }
            let waiting = self.shared.index().left();
            if let Some(left_out) = self.warnings.outage.admit() {
                tracing::warn!(
                    exporter = self.shared.name,
                    for_seconds = begun.elapsed().as_secs(),
                    requests = waiting,
                    left_out,
                    "the destination has not taken the next request yet; it is tried again, and all is kept on disk"
                );
            }
        }
    }

    /// The entry's value, and what it holds; nothing when there is no such entry any more.
    async fn read(&self, number: u64) -> Option<(Bytes, Entry)> {
        loop {
            let shared = Arc::clone(&self.shared);
            let reading = spawn_blocking(move || {
                let database = shared.database();
                let closed = || Fault::Unavailable("the queue's file is closed".to_owned());
                tables::entry(database.as_ref().ok_or_else(closed)?, number)
            });
            let problem = match reading.await {
                Ok(Ok(Some(value))) => match Entry::decode(&value) {
                    Ok(entry) => return Some((value.into(), entry)),
                    Err(damaged) => {
                        self.shared.counters.set_aside_entries.fetch_add(1, Ordering::Relaxed);
                        let refusal = Refusal::Permanent {
                            code: tonic::Code::DataLoss as i32,
                            message: format!("the entry was set aside: {damaged}"),
                            details: Bytes::new(),
                        };
                        let letter = self.bury(number, (Signal::Logs, 0), &refusal, value.into())?;
                        self.settle(number, None, Some(letter));
                        return None;
                    }
                },
                Ok(Ok(None)) => {
                    // It was set aside with its file, or the disk has lost what it had confirmed.
                    if self.shared.index().knows(number) {
                        self.shared.counters.set_aside_entries.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(
                            exporter = self.shared.name,
                            number,
                            "an entry is not on the disk any more"
                        );
                        self.shared.index().remove(number);
                        self.shared.room.notify_waiters();
                    }
                    return None;
                }
                Ok(Err(Fault::Unavailable(why))) => why,
                Ok(Err(Fault::Corrupt(why))) => {
                    self.shared.send(Order::Doubt(why.clone()));
                    why
                }
                Err(panic) => {
                    let why = format!("the database panicked: {panic}");
                    self.shared.send(Order::Doubt(why.clone()));
                    why
                }
            };
            if let Some(left_out) = self.warnings.unread.admit() {
                tracing::warn!(
                    exporter = self.shared.name,
                    left_out,
                    "an entry cannot be read at the moment: {problem}"
                );
            }
            sleep(PAUSE).await;
            if !self.shared.index().knows(number) {
                return None;
            }
        }
    }

    /// A dead letter, if there is room for it; otherwise the entry stays where it is, and nothing more is taken.
    fn bury(&self, number: u64, (signal, items): (Signal, u64), refusal: &Refusal, value: Bytes) -> Option<Vec<u8>> {
        let letter = DeadLetter::of(refusal, value, now_unix_nano()).encode();
        let mut index = self.shared.index();
        if !index.bury(letter.len() as u64) {
            index.hold(number);
            drop(index);
            self.shared.room.notify_waiters();
            if let Some(left_out) = self.warnings.held.admit() {
                tracing::error!(
                    exporter = self.shared.name,
                    left_out,
                    "the dead-letter store is full (`dead_letter.max_size_mib`), so nothing more is taken: stop the agent and \
                     look with `harbinger dead-letters list`"
                );
            }
            return None;
        }
        drop(index);
        self.shared.counters.dead_letter_items.add(signal, items);
        if let Some(left_out) = self.warnings.buried.admit() {
            tracing::error!(
                exporter = self.shared.name,
                %signal,
                items,
                left_out,
                "{refusal}; kept as a dead letter, see `harbinger dead-letters`"
            );
        }
        Some(letter)
    }

    fn settle(&self, number: u64, rest: Option<&Entry>, dead_letter: Option<Vec<u8>>) {
        let rest = rest.map(|rest| (head(rest), rest.encode()));
        match &rest {
            Some((head, _)) => self.shared.index().shorten(number, *head),
            None => self.shared.index().remove(number),
        }
        self.shared.room.notify_waiters();
        self.shared.send(Order::Settle(Settled {
            number,
            rest,
            dead_letter,
        }));
    }
}

/// How large an entry is.
pub fn head(entry: &Entry) -> Head {
    Head {
        records: entry.records,
        bytes: entry.body.len() as u64,
    }
}

fn with_body(entry: &Entry, body: Bytes) -> Entry {
    Entry {
        records: view::item_count(entry.signal, &body).unwrap_or_default() as u64,
        body,
        ..entry.clone()
    }
}
