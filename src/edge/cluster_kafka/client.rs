//! The client of a cluster's two topics: it writes, and starts who reads.
//!
//! What enters: entries and records, one call each. What leaves: messages to partition 0 of their topic, and an answer when every replica
//! in step has them. Promises: messages go out in the order of the calls, whoever waits for which answer first; nothing is written
//! before both topics were found to be as they have to be; what waits for brokers is bounded; a producer that has failed for good is
//! replaced by a new one. Absent on purpose: another attempt at what was not taken, which is the caller's.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::FutureRecord,
};

use super::{Settings, reading};
use crate::edge::{
    BoxFuture,
    cluster::{Cluster, Follower, MAX_SHARED_BYTES, NotShared},
    transport::{
        kafka::{Producer, Writer, written},
        warnings::Throttle,
    },
};

/// How long a message may wait for its acknowledgement: longer than a leader takes to be replaced, mostly.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// KiB of messages that wait for brokers; more is not taken.
const MAX_WAITING_KIB: usize = 32 * 1024;
/// The one partition that is used.
pub(super) const PARTITION: i32 = 0;

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
    producer: Producer,
    found: Found,
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
        let producer = Producer::new(component_id, config(settings)).map_err(|problem| problem.to_string())?;
        Ok(Self {
            id: component_id.to_owned(),
            settings: settings.clone(),
            producer,
            found: Arc::new(Mutex::new(Standing::Unknown)),
            warnings: Throttle::default(),
        })
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
        let writer = self.producer.current();
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(PARTITION);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        let sent = writer.send_result(record).map_err(|(problem, _)| problem);
        Box::pin(async move {
            let outcome = written(sent).await;
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
        self.producer.failed(used);
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
}

impl Cluster for ClusterKafka {
    fn append(&self, entry: Bytes) -> BoxFuture<'_, Result<(), NotShared>> {
        self.send(&self.settings.log_topic, None, Some(&entry))
    }

    fn put(&self, key: Bytes, record: Option<Bytes>) -> BoxFuture<'_, Result<(), NotShared>> {
        self.send(&self.settings.memory_topic, Some(&key), record.as_deref())
    }

    fn follow(&self, follower: Arc<dyn Follower>) -> Result<Box<dyn Send + Sync>, String> {
        let following = reading::follow(&self.id, &self.settings, &self.found, follower)?;
        Ok(Box::new(following))
    }
}

fn config(settings: &Settings) -> ClientConfig {
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
    config
}
