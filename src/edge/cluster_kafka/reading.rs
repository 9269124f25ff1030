//! Who reads a cluster's two topics: the memory as it stands, then the log from where the follower says, and the memory beside it.
//!
//! What enters: messages, and the bounds of the log (`asking`). What leaves: calls of a [`Follower`], from one thread. Promises: the memory
//! has been read to its end before the follower is asked where to begin; entries come in the order of the log and none is left out unless
//! [`Follower::missed`] says so, also when what is wanted was deleted or the topic made anew; a follower hears within a second or
//! two that it has caught up, or that no broker answers. Absent on purpose: what entries and records say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, Timestamp, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, base_consumer::PartitionQueue},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::runtime::Handle;

use super::{
    Settings,
    asking::{Asking, Bounds},
    client::{Found, PARTITION},
};
use crate::edge::{
    cluster::{Follower, Logged},
    transport::kafka::{Voice, speaking},
};

/// How long the log is waited for before the memory is looked at, and the end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Records of the memory that are taken before the log is looked at again.
const RECORDS_AT_A_TIME: usize = 256;
/// How long nothing may be heard until that is told: brokers that answer slowly are there.
const ALONE_AFTER: Duration = Duration::from_secs(2);
/// How often it is told.
const ALONE_EVERY: Duration = Duration::from_secs(1);
/// Times in a row that the log may seem to end before what was read: a new leader may know less for a moment.
const MOST_DOUBTS: u32 = 3;

/// What librdkafka tells the consumer: what it says, less what is no problem here.
pub(super) struct Reader {
    voice: Voice,
}

/// Whether it is over.
#[derive(Clone, Default)]
pub(super) struct Ending(Arc<AtomicBool>);

impl Ending {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends the threads when it is dropped; a call under way comes to its end.
pub(super) struct Following {
    ending: Ending,
    asking: Thread,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.ending.0.store(true, Ordering::Relaxed);
        self.asking.unpark();
    }
}

/// Starts the threads.
pub(super) fn follow(
    id: &str,
    settings: &Settings,
    found: &Found,
    follower: Arc<dyn Follower>,
) -> Result<Following, String> {
    let runtime = Handle::try_current().map_err(|problem| problem.to_string())?;
    let context = Reader { voice: speaking(id) };
    let consumer = config(settings).create_with_context(context);
    let consumer: Arc<BaseConsumer<Reader>> = Arc::new(consumer.map_err(|problem: KafkaError| problem.to_string())?);
    let ending = Ending::default();
    let (bounds, told) = channel();
    let asking = Asking {
        id: id.to_owned(),
        settings: settings.clone(),
        found: Arc::clone(found),
        consumer: Arc::downgrade(&consumer),
        bounds,
        ending: ending.clone(),
        runtime,
    };
    let asking = spawn("cluster-asking", move || asking.run())?;
    // Should there be no second thread, dropping this ends the first.
    let following = Following {
        ending: ending.clone(),
        asking: asking.clone(),
    };
    let now = Instant::now();
    let reading = Reading {
        id: id.to_owned(),
        settings: settings.clone(),
        consumer,
        follower,
        told,
        asking,
        ending,
        stage: Stage::Waiting,
        memory: None,
        is_log_assigned: false,
        heard: now,
        alone_told: now,
        is_clock_doubted: false,
    };
    spawn("cluster-reading", move || reading.run())?;
    Ok(following)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Thread, String> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    let thread = thread.map_err(|problem| format!("no thread to read the cluster's topics: {problem}"))?;
    Ok(thread.thread().clone())
}

/// How far reading has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No broker has told of the topics.
    Waiting,
    /// The memory is read to its end.
    Remembering,
    /// Where to go on in the log is found out, by bounds that were asked for since.
    Placing {
        /// The number that is wanted next; `None` is the first there is.
        wanted: Option<u64>,
        since: Instant,
    },
    /// The log is read.
    Following {
        /// The number that is expected next, or a later one.
        next: u64,
        /// Since when it is.
        since: Instant,
        /// Where the log ended when that was asked last, as long as reading has not come so far.
        behind: Option<u64>,
        /// Times in a row that the log seemed to end before `next`.
        doubts: u32,
    },
}

/// The thread that reads.
struct Reading {
    id: String,
    settings: Settings,
    consumer: Arc<BaseConsumer<Reader>>,
    follower: Arc<dyn Follower>,
    told: Receiver<Bounds>,
    asking: Thread,
    ending: Ending,
    stage: Stage,
    /// The memory's own queue: an end of it could not be told from the log's in a common one.
    memory: Option<Arc<PartitionQueue<Reader>>>,
    is_log_assigned: bool,
    /// When a broker was heard last.
    heard: Instant,
    alone_told: Instant,
    /// Whether it was said that the log has no clock of its own.
    is_clock_doubted: bool,
}

impl Reading {
    fn run(mut self) {
        while !self.ending.is_over() {
            while let Ok(bounds) = self.told.try_recv() {
                self.learn(bounds);
            }
            let (for_memory, for_log) = match self.stage {
                Stage::Remembering => (LOOK_EVERY, Duration::ZERO),
                _ => (Duration::ZERO, LOOK_EVERY),
            };
            self.read_memory(for_memory);
            self.read_log(for_log);
            if self.heard.elapsed() >= ALONE_AFTER && self.alone_told.elapsed() >= ALONE_EVERY {
                self.alone_told = Instant::now();
                self.follower.alone(self.heard.elapsed());
            }
        }
    }

    /// Goes by what brokers say of the log.
    fn learn(&mut self, bounds: Bounds) {
        self.heard = self.heard.max(bounds.answered);
        match &mut self.stage {
            Stage::Waiting => {
                if self.assign_memory() {
                    self.stage = Stage::Remembering;
                }
            }
            Stage::Placing { wanted, since } if bounds.asked >= *since => {
                let wanted = *wanted;
                self.place(wanted, bounds);
            }
            Stage::Remembering | Stage::Placing { .. } => {}
            Stage::Following {
                next,
                since,
                behind,
                doubts,
            } => {
                *doubts = match bounds.high < *next && bounds.asked > *since {
                    true => *doubts + 1,
                    false => 0,
                };
                if *doubts >= MOST_DOUBTS {
                    let wanted = Some(*next);
                    return self.look_for_place(wanted);
                }
                *behind = Some(bounds.high).filter(|high| high > next);
                if behind.is_none() && *doubts == 0 {
                    self.follower.caught_up();
                }
            }
        }
    }

    /// Begins with the memory, or begins with it again.
    fn assign_memory(&mut self) -> bool {
        let topic = &self.settings.memory_topic;
        if self.memory.take().is_some() {
            let _ = self.consumer.incremental_unassign(&partition(topic, None));
        }
        // Before it is assigned, so that nothing of it comes by the common queue.
        self.memory = self.consumer.split_partition_queue(topic, PARTITION).map(Arc::new);
        self.assign(&partition(topic, Some(Offset::Beginning)))
    }

    fn assign(&self, list: &TopicPartitionList) -> bool {
        let outcome = self.consumer.incremental_assign(list);
        if let Err(problem) = &outcome {
            self.consumer.context().voice.error(problem.clone(), "reading");
        }
        outcome.is_ok()
    }

    fn read_memory(&mut self, patience: Duration) {
        let Some(memory) = self.memory.clone() else { return };
        let mut patience = patience;
        for _ in 0..RECORDS_AT_A_TIME {
            match memory.poll(std::mem::take(&mut patience)) {
                None => return,
                Some(Ok(message)) => {
                    self.heard = Instant::now();
                    if let Some(key) = message.key() {
                        self.follower.remember(key, message.payload());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.heard = Instant::now();
                    if matches!(self.stage, Stage::Remembering) {
                        let known = self.follower.begin();
                        self.look_for_place(known.map(|known| known.saturating_add(1)));
                    }
                }
                Some(Err(problem)) if is_lost(&problem) => {
                    tracing::warn!(
                        component = self.id,
                        "the memory was made anew, or cut: it is read from its beginning"
                    );
                    self.assign_memory();
                    return;
                }
                // Which librdkafka tells of, and tries again.
                Some(Err(_)) => return,
            }
            if self.ending.is_over() {
                return;
            }
        }
    }

    fn read_log(&mut self, patience: Duration) {
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(patience) {
            None => {}
            Some(Ok(message)) if message.topic() == self.settings.log_topic => self.take(&message),
            Some(Err(KafkaError::PartitionEOF(_))) => self.heard = Instant::now(),
            Some(Err(problem)) if is_lost(&problem) => {
                if let Stage::Following { next, .. } = self.stage {
                    self.look_for_place(Some(next));
                }
            }
            // What librdkafka tells of, and tries again.
            Some(_) => {}
        }
    }

    /// Asks for the log's bounds, to go on from a number that is wanted.
    fn look_for_place(&mut self, wanted: Option<u64>) {
        self.stage = Stage::Placing {
            wanted,
            since: Instant::now(),
        };
        self.asking.unpark();
    }

    /// Goes on with the log from what is wanted, or from what it has.
    fn place(&mut self, wanted: Option<u64>, bounds: Bounds) {
        let is_there = |wanted: &u64| (bounds.low..=bounds.high).contains(wanted);
        let next = wanted.filter(is_there).unwrap_or(bounds.low);
        let topic = &self.settings.log_topic;
        if self.is_log_assigned {
            let _ = self.consumer.incremental_unassign(&partition(topic, None));
            self.is_log_assigned = false;
        }
        let offset = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
        if !self.assign(&partition(topic, Some(offset))) {
            return;
        }
        self.is_log_assigned = true;
        self.stage = Stage::Following {
            next,
            since: Instant::now(),
            behind: Some(bounds.high).filter(|high| *high > next),
            doubts: 0,
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != next) {
            let (low, high) = (bounds.low, bounds.high);
            tracing::warn!(
                component = self.id,
                topic,
                wanted,
                low,
                high,
                "the log does not have what is wanted: it goes on with what is there"
            );
            self.follower.missed(next);
        }
        if bounds.high <= next {
            self.follower.caught_up();
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        self.heard = Instant::now();
        let Stage::Following {
            next, since, behind, ..
        } = &mut self.stage
        else {
            return;
        };
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        if offset < *next {
            return;
        }
        *next = offset.saturating_add(1);
        *since = self.heard;
        let is_caught_up = behind.take_if(|end| *end <= offset.saturating_add(1)).is_some();
        if matches!(message.timestamp(), Timestamp::CreateTime(_)) && !self.is_clock_doubted {
            self.is_clock_doubted = true;
            tracing::warn!(
                component = self.id,
                "entries of the topic `{}` have their writers' times: set its `message.timestamp.type` to LogAppendTime",
                self.settings.log_topic
            );
        }
        let millis = message.timestamp().to_millis().unwrap_or_default();
        self.follower.take(Logged {
            offset,
            time_unix_nano: u64::try_from(millis).unwrap_or_default().saturating_mul(1_000_000),
            body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        });
        if is_caught_up {
            self.follower.caught_up();
        }
    }
}

/// Partition 0 of a topic, from some offset where that matters.
fn partition(topic: &str, from: Option<Offset>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let mut added = list.add_partition(topic, PARTITION);
    if let Some(offset) = from {
        // Every offset that we have can be said.
        let _ = added.set_offset(offset);
    }
    list
}

/// Whether what is wanted next is not there.
fn is_lost(problem: &KafkaError) -> bool {
    problem.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset)
}

fn config(settings: &Settings) -> ClientConfig {
    let mut config = settings.client().config();
    config
        // librdkafka reads partitions for groups only. This one has no members and commits nothing.
        .set("group.id", &settings.log_topic)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Where to go on is ours to say.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("socket.nagle.disable", "true")
        // Entries are waited for.
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "50")
        .set("fetch.queue.backoff.ms", "10")
        // Of each topic; one fetch may be as large again.
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.max.bytes", "8388608");
    config
}

impl ClientContext for Reader {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // An end is no problem, and what is not there is told of by who goes on elsewhere.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) && !is_lost(&error) {
            self.voice.error(error, reason);
        }
    }
}

impl ConsumerContext for Reader {}
