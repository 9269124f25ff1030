//! The sending queue: what is acknowledged is on disk until its destination has it.
//!
//! What enters: [`Request`]s, as they were enriched. What leaves: the same bytes and metadata to the exporter inside, in the
//! order they came; what it refuses for good, as dead letters.
//! Promises: `Ok` means that the request is on disk (after the sync). It leaves the disk when the destination has taken it, or
//! among the dead letters; nothing else removes it, neither a restart nor a full or failing disk, nor a destination that is
//! down or hangs. Twice is delivered at most what was under way when the process died, with what was delivered while the last
//! transaction was being written. Memory holds sizes, not the backlog. All is bounded: full means refused (or waiting, with
//! `block_on_overflow`).
//! Absent on purpose: a format of our own (redb keeps the file), batches (requests stay as they are, each with its own
//! caller's metadata), retries (the exporter's).
//!
//! `settings` is what users write, `storage` the directory, `tables` the transaction, `entry` one value, `index` what memory knows, `writer` the thread
//! that owns the database, `delivery` its consumers, `dead_letters` the offline look.

mod allocated;
pub mod dead_letters;
mod delivery;
mod entry;
#[cfg(test)]
mod faulty;
mod index;
mod settings;
mod storage;
mod tables;
mod writer;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use redb::Database;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use self::{
    delivery::{Consumer, Warnings},
    entry::Entry,
    index::{Index, NoRoom},
    storage::Medium,
    tables::Head,
    writer::{Kept, Order, Writer},
};
use super::{BoxFuture, Exporter, Keeper, Refusal, Request, Reserved, Signal, now_unix_nano};
use crate::engine::view;

pub use self::{
    settings::{DeadLetterSettings, Settings, Sizer},
    storage::{QueueFile, Settings as StorageSettings, Storage, StorageError},
};

/// The wait asked of callers for whom there is no room.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What the writer gets at the end for what it has to note, beyond the deadline.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// A count of items for each signal.
#[derive(Debug, Default)]
pub struct ItemCounter([AtomicU64; Signal::ALL.len()]);

impl ItemCounter {
    fn add(&self, signal: Signal, items: u64) {
        if let Some(count) = self.0.get(signal as usize) {
            count.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// The sum so far.
    pub fn get(&self, signal: Signal) -> u64 {
        let count = self.0.get(signal as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Items for which there was no room, or that could not be written.
    pub enqueue_failed_items: ItemCounter,
    /// Items that became dead letters.
    pub dead_letter_items: ItemCounter,
    /// Entries whose bytes were not what had been written.
    pub set_aside_entries: AtomicU64,
    /// Files that were corrupt.
    pub set_aside_files: AtomicU64,
}

/// How a queue stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What is in it, in units of its sizer.
    pub size: u64,
    /// Its bound in the same units.
    pub capacity: u64,
    /// Requests that are not delivered.
    pub requests: usize,
    /// Their items, with those that are just coming in.
    pub records: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Why nothing can be written at the moment.
    pub trouble: Option<String>,
}

/// One queue in front of one destination.
pub struct Queue {
    shared: Arc<Shared>,
    block_on_overflow: bool,
    consumers: Mutex<JoinSet<()>>,
    /// Told when the writer's thread has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What writer and consumers share.
struct Shared {
    name: String,
    index: Mutex<Index>,
    /// Open unless the disk fails; owned by the writer, lent to readers.
    database: RwLock<Option<Database>>,
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    counters: Counters,
    /// There may be something to deliver.
    entered: Notify,
    /// There may be room.
    room: Notify,
}

impl Shared {
    fn new(name: &str, settings: &Settings, orders: mpsc::Sender<Order>) -> Self {
        Self {
            name: name.to_owned(),
            index: Mutex::new(Index::new(settings)),
            database: RwLock::default(),
            orders: Mutex::new(Some(orders)),
            counters: Counters::default(),
            entered: Notify::new(),
            room: Notify::new(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For as long as it is read or written in; meanwhile it stays open.
    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To open or to close it, once nobody reads in it: a file that is open twice is lost.
    fn place_of_database(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// To the writer, unless it has ended.
    fn send(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref() {
            // Without a writer what is in the order is dropped, which its answer tells.
            let _ = orders.send(order);
        }
    }

    /// The number of the next entry to deliver.
    async fn next(&self) -> u64 {
        loop {
            if let Some(number) = self.index().next() {
                // Whoever waits as well may find the one after it.
                self.entered.notify_one();
                return number;
            }
            self.entered.notified().await;
        }
    }
}

/// Room for one entry, given free when it is dropped unused.
struct Room {
    shared: Arc<Shared>,
    head: Head,
    is_used: bool,
}

impl Room {
    /// The entry is on disk.
    fn enter(mut self, number: u64) {
        self.is_used = true;
        self.shared.index().enter(number, self.head);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.is_used {
            self.shared.index().release(self.head);
            self.shared.room.notify_waiters();
        }
    }
}

impl Queue {
    /// Opens the queue of the exporter `name` with everything a former process left in it, and begins to deliver. Blocks on
    /// the disk; needs a tokio runtime around it.
    ///
    /// # Errors
    /// The file cannot be used, and no waiting would help.
    pub fn open(
        name: &str,
        settings: &Settings,
        file: QueueFile,
        destination: Arc<dyn Exporter>,
    ) -> Result<Self, StorageError> {
        let path = file.path();
        Self::on(name, settings, Box::new(file), destination).map_err(|source| StorageError::Unusable { path, source })
    }

    fn on(
        name: &str,
        settings: &Settings,
        medium: Box<dyn Medium>,
        destination: Arc<dyn Exporter>,
    ) -> std::io::Result<Self> {
        let (orders, to_do) = mpsc::channel();
        let shared = Arc::new(Shared::new(name, settings, orders));
        let (end, ended) = oneshot::channel();
        let (opened, open) = mpsc::channel();
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new().name("queue".to_owned()).spawn(move || {
            // Dropped with the thread, however it ends.
            let _end: oneshot::Sender<()> = end;
            match Writer::open(for_writer, medium) {
                Ok(writer) => {
                    let _ = opened.send(Ok(()));
                    writer.run(&to_do);
                }
                Err(problem) => _ = opened.send(Err(problem)),
            }
        })?;
        let opened = open.recv().unwrap_or_else(|gone| Err(gone.to_string()));
        opened.map_err(std::io::Error::other)?;
        let (left, records) = {
            let index = shared.index();
            (index.left(), index.used().records)
        };
        if left > 0 {
            tracing::info!(
                exporter = name,
                requests = left,
                records,
                "going on with what was left in the queue"
            );
        }
        let consumer = Consumer {
            shared: Arc::clone(&shared),
            destination,
            warnings: Arc::new(Warnings::default()),
        };
        let mut consumers = JoinSet::new();
        for _ in 0..settings.num_consumers {
            consumers.spawn(consumer.clone().run());
        }
        Ok(Self {
            shared,
            block_on_overflow: settings.block_on_overflow,
            consumers: Mutex::new(consumers),
            ended: Mutex::new(Some(ended)),
        })
    }

    /// The exporter it is of.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let index = self.shared.index();
        let (size, capacity) = index.size_and_capacity();
        Status {
            size,
            capacity,
            requests: index.left(),
            records: index.used().records,
            dead_letters: index.dead_letters(),
            trouble: index.trouble.clone(),
        }
    }

    /// Takes nothing more, delivers until `deadline`, and keeps the rest on disk. Returns how many requests are left.
    pub async fn drain(&self, deadline: Instant) -> usize {
        self.shared.index().is_closed = true;
        self.shared.room.notify_waiters();
        let delivered = async {
            loop {
                let changed = self.shared.room.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.shared.index().deliverable() == 0 {
                    break;
                }
                changed.await;
            }
        };
        let _ = timeout_at(deadline, delivered).await;
        let mut consumers = std::mem::take(&mut *self.consumers.lock().unwrap_or_else(PoisonError::into_inner));
        consumers.shutdown().await;
        drop(self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let until = deadline.max(Instant::now() + LAST_WRITE);
            if timeout_at(until, ended).await.is_err() {
                tracing::warn!(
                    exporter = self.shared.name,
                    "the disk did not answer in time: some deliveries may not be noted, and are made again"
                );
            }
        }
        self.shared.index().left()
    }

    async fn room(&self, head: Head, deadline: Instant) -> Result<Room, Refusal> {
        loop {
            let changed = self.shared.room.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let reserved = self.shared.index().reserve(head);
            match reserved {
                Ok(()) => {
                    return Ok(Room {
                        shared: Arc::clone(&self.shared),
                        head,
                        is_used: false,
                    });
                }
                Err(NoRoom::Full(message)) if self.block_on_overflow => {
                    let waited = timeout_at(deadline, changed).await;
                    waited.map_err(|_| self.shared.unavailable(&message))?;
                }
                Err(NoRoom::Full(message) | NoRoom::Closed(message)) => return Err(self.shared.unavailable(&message)),
                Err(NoRoom::TooLarge(message)) => {
                    return Err(Refusal::Permanent {
                        code: tonic::Code::ResourceExhausted as i32,
                        message: format!("exporter {}: {message}", self.shared.name),
                        details: Bytes::new(),
                    });
                }
            }
        }
    }

    async fn place(&self, request: &Request) -> Result<Place, Refusal> {
        let records = view::item_count(request.signal, &request.body).unwrap_or_default() as u64;
        let head = Head {
            records,
            bytes: request.body.len() as u64,
        };
        match self.room(head, request.deadline).await {
            Ok(room) => Ok(Place { room }),
            Err(refusal) => {
                self.shared.count_failed(request.signal, records);
                Err(refusal)
            }
        }
    }
}

impl Shared {
    fn unavailable(&self, message: &str) -> Refusal {
        Refusal::Unavailable {
            message: format!("exporter {}: {message}", self.name),
            retry_after: Some(RETRY_AFTER),
        }
    }

    fn count_failed(&self, signal: Signal, records: u64) {
        self.counters.enqueue_failed_items.add(signal, records);
    }
}

/// Room, on its way to become an entry.
struct Place {
    room: Room,
}

impl Place {
    async fn put(self, request: Request) -> Result<(), Refusal> {
        if request.body.is_empty() {
            return Ok(()); // an empty request succeeds, and nothing of it is sent on
        }
        let Self { room } = self;
        let shared = Arc::clone(&room.shared);
        let (signal, records) = (request.signal, room.head.records);
        let entry = Entry {
            signal,
            body: request.body,
            metadata: request.metadata,
            records,
            enqueued_unix_nano: now_unix_nano(),
        };
        let (answer, answered) = oneshot::channel();
        let value = entry.encode();
        shared.send(Order::Keep(Kept { room, value, answer }));
        let outcome = answered
            .await
            .unwrap_or_else(|_| Err("the agent is shutting down".to_owned()));
        outcome.map_err(|problem| {
            shared.count_failed(signal, records);
            shared.unavailable(&problem)
        })
    }
}

impl Reserved for Place {
    fn keep(self: Box<Self>, request: Request) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(self.put(request))
    }
}

impl Keeper for Queue {
    fn reserve(&self, request: &Request) -> BoxFuture<'_, Result<Box<dyn Reserved>, Refusal>> {
        let request = request.clone();
        Box::pin(async move {
            let place: Box<dyn Reserved> = Box::new(self.place(&request).await?);
            Ok(place)
        })
    }
}

impl Exporter for Queue {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            self.place(&request).await?.put(request).await?;
            Ok(Bytes::new())
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // The writer ends, once it has done what it was asked; the consumers end with their set.
        drop(self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
