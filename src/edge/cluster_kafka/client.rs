//! The client of a cluster's two topics: it writes, and starts who reads.
//!
//! What enters: entries and records, one call each. What leaves: messages to partition 0 of their topic, and an answer when every replica
//! in step has them. Promises: messages go out in the order of the calls, whoever waits for which answer first; nothing is written
//! before both topics were found to be as they have to be; what waits for brokers is bounded; a producer that has failed for good is
//! replaced by a new one. Absent on purpose: another attempt at what was not taken, which is the caller's.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord, Producer as _},
};

use super::{Settings, reading};
use crate::edge::{
    BoxFuture,
    cluster::{Cluster, Follower, MAX_SHARED_BYTES, NotShared},
    transport::{
        kafka::{Voice, speaking},
        warnings::Throttle,
    },
};

/// How long a message may wait for its acknowledgement: longer than a leader takes to be replaced, mostly.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// KiB of messages that wait for brokers; more is not taken.
const MAX_WAITING_KIB: usize = 32 * 1024;
/// The one partition that is used.
pub(super) const PARTITION: i32 = 0;

type Writer = FutureProducer<Voice>;

/// What was written since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries of the log that brokers have.
    pub entries_appended: AtomicU64,
    /// Their bytes, before compression.
    pub bytes_appended: AtomicU64,
    /// Entries that were not taken, or not in time.
    pub append_failures: AtomicU64,
    /// Records of the memory that brokers have, removals among them.
    pub records_put: AtomicU64,
}

/// Whether the topics may be written to.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// They were not looked up yet.
    Unknown,
    /// They are there, and as they have to be.
    Ready,
    /// They must not be written to.
    Unfit(String),
}

/// What whoever asks the brokers has found out, for whoever writes.
pub(super) type Found = Arc<Mutex<Standing>>;

/// See the module.
pub struct ClusterKafka {
    id: String,
    settings: Settings,
    /// Replaced when it has failed for good.
    writer: RwLock<Arc<Writer>>,
    found: Found,
    counters: Arc<Counters>,
    warnings: Throttle,
}

impl fmt::Debug for ClusterKafka {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClusterKafka")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ClusterKafka {
    /// Prepares a producer for the component of this id, which connects by itself. Nothing is taken before somebody follows: who reads finds
    /// out whether the topics can be written to. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// What is wrong with the settings, or what librdkafka does not take, as a certificate that cannot be read.
    pub fn new(component_id: &str, settings: &Settings) -> Result<Self, String> {
        settings.validate()?;
        let writer = writer(component_id, settings).map_err(|problem| problem.to_string())?;
        Ok(Self {
            id: component_id.to_owned(),
            settings: settings.clone(),
            writer: RwLock::new(Arc::new(writer)),
            found: Arc::new(Mutex::new(Standing::Unknown)),
            counters: Arc::default(),
            warnings: Throttle::default(),
        })
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Puts a message on its way before this returns, so that messages have the order of the calls; what is returned waits for its answer.
    fn send(&self, topic: &str, key: Option<&[u8]>, payload: Option<&[u8]>) -> BoxFuture<'_, Result<(), NotShared>> {
        let bytes = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
        if bytes > MAX_SHARED_BYTES {
            return Box::pin(async move { Err(NotShared::TooLarge { bytes }) });
        }
        if let Err(refusal) = self.may_write() {
            return Box::pin(async { Err(refusal) });
        }
        let writer = Arc::clone(&self.writer.read().unwrap_or_else(PoisonError::into_inner));
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(PARTITION);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        let sent = writer.send_result(record).map_err(|(problem, _)| problem);
        Box::pin(async move {
            let outcome = match sent {
                Ok(delivery) => match delivery.await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((problem, _))) => Err(problem),
                    Err(_) => Err(KafkaError::Canceled),
                },
                Err(problem) => Err(problem),
            };
            outcome.map_err(|problem| self.failed(&writer, &problem, bytes))
        })
    }

    fn may_write(&self) -> Result<(), NotShared> {
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Standing::Ready => Ok(()),
            Standing::Unknown => Err(NotShared::Away("no broker has told of the topics yet".to_owned())),
            Standing::Unfit(why) => Err(NotShared::Away(why.clone())),
        }
    }

    /// What a caller is to do about it.
    fn failed(&self, used: &Arc<Writer>, problem: &KafkaError, bytes: usize) -> NotShared {
        if let Some((code, reason)) = used.client().fatal_error() {
            self.replace(used, &format!("{code}: {reason}"));
        }
        match problem.rdkafka_error_code() {
            // The brokers' own limit is lower than ours, or a topic's.
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                if let Some(left_out) = self.warnings.admit() {
                    tracing::warn!(
                        component = self.id,
                        left_out,
                        "brokers refuse {bytes} bytes; set `max.message.bytes` of the topics {:?} to 1048588, Kafka's default",
                        self.settings.topics()
                    );
                }
                NotShared::TooLarge { bytes }
            }
            // All else can be mended without another entry: a topic made, a right given, a broker started.
            _ => NotShared::Away(problem.to_string()),
        }
    }

    /// Another producer instead of one that has failed for good.
    fn replace(&self, failed: &Arc<Writer>, reason: &str) {
        let mut writer_now = self.writer.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&writer_now, failed) {
            return;
        }
        match writer(&self.id, &self.settings) {
            Ok(new) => {
                tracing::warn!(component = self.id, "the producer is replaced: {reason}");
                *writer_now = Arc::new(new);
            }
            Err(problem) => tracing::error!(
                component = self.id,
                "the producer failed ({reason}), and no other can be made: {problem}"
            ),
        }
    }
}

impl Cluster for ClusterKafka {
    fn append(&self, entry: Bytes) -> BoxFuture<'_, Result<(), NotShared>> {
        let sent = self.send(&self.settings.log_topic, None, Some(&entry));
        Box::pin(async move {
            let outcome = sent.await;
            let counters = &self.counters;
            match &outcome {
                Ok(()) => {
                    counters.entries_appended.fetch_add(1, Ordering::Relaxed);
                    counters.bytes_appended.fetch_add(entry.len() as u64, Ordering::Relaxed);
                }
                Err(_) => _ = counters.append_failures.fetch_add(1, Ordering::Relaxed),
            }
            outcome
        })
    }

    fn put(&self, key: Bytes, record: Option<Bytes>) -> BoxFuture<'_, Result<(), NotShared>> {
        let sent = self.send(&self.settings.memory_topic, Some(&key), record.as_deref());
        Box::pin(async move {
            sent.await?;
            self.counters.records_put.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn follow(&self, follower: Arc<dyn Follower>) -> Result<Box<dyn Send + Sync>, String> {
        let following = reading::follow(&self.id, &self.settings, &self.found, follower)?;
        Ok(Box::new(following))
    }
}

fn writer(id: &str, settings: &Settings) -> Result<Writer, KafkaError> {
    let mut config: ClientConfig = settings.client().config();
    let timeout = MESSAGE_TIMEOUT.as_millis().to_string();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", &timeout)
        // Entries are waited for: they go with what came in the same moment, and no longer.
        .set("linger.ms", "5")
        .set("compression.type", "zstd")
        .set("socket.nagle.disable", "true")
        .set("queue.buffering.max.kbytes", MAX_WAITING_KIB.to_string())
        // Who reads makes the topics, as they have to be.
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.propagation.max.ms", &timeout);
    config.create_with_context(speaking(id))
}
