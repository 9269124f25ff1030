//! The producer: messages to brokers, and what became of each.
//!
//! What enters: requests. What leaves: an acknowledgement when all messages of a request have theirs. Promises: what waits for brokers is
//! bounded in bytes; of a request that is tried again only those messages are written that no broker has acknowledged; a
//! producer that has failed for good is replaced by a new one. Absent on purpose: what a message is (`messages`).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::FutureRecord,
};
use tokio::sync::Semaphore;
use tonic::Code;

use super::{
    RequiredAcks, Settings,
    messages::{self, Message},
};
use crate::edge::{
    BoxFuture, Exporter, Metadata, Refusal, Request,
    transport::{
        MIB,
        compression::Compression,
        delivery::{Counters, Delivery, Parcel},
        kafka::{Producer, Writer, written},
        retry::Failure,
    },
};

/// What librdkafka has to say that a message's time is over: an attempt that is not waited for to its end writes twice what was written.
const SAYING_SO: Duration = Duration::from_secs(1);
/// What the brokers add to a message, at most.
const OVERHEAD_BYTES: usize = 512;
/// Bytes that one permit stands for.
const PERMIT_BYTES: usize = 1024;

/// See the module.
pub struct KafkaExporter {
    settings: Settings,
    delivery: Delivery,
    producer: Producer,
    room: Semaphore,
    permits: usize,
}

impl fmt::Debug for KafkaExporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KafkaExporter")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The messages of a request that no broker has acknowledged yet; none before the first attempt.
type Open = Mutex<Option<Vec<Message>>>;

impl KafkaExporter {
    /// Prepares a producer for the component of this id, which connects by itself. `seed` drives the jitter of retries. Needs a tokio
    /// runtime around it.
    ///
    /// # Errors
    /// What librdkafka does not take, as a certificate that cannot be read.
    pub fn new(id: &str, settings: &Settings, seed: u64) -> Result<Self, String> {
        settings.validate()?;
        let producer = Producer::new(id, config(settings)).map_err(|problem| problem.to_string())?;
        let permits = settings.producer.max_buffered_mib * MIB / PERMIT_BYTES;
        Ok(Self {
            delivery: Delivery::new(
                settings.brokers.join(","),
                // Messages are compressed by the producer, many at a time.
                Compression::None,
                settings.timeout + SAYING_SO,
                settings.retry_on_failure.clone(),
                seed,
            ),
            producer,
            room: Semaphore::new(permits),
            permits,
            settings: settings.clone(),
        })
    }

    /// The counters, kept up to date.
    pub fn counters(&self) -> Arc<Counters> {
        self.delivery.counters()
    }

    /// Writes what is open of a request; what was acknowledged is open no more.
    async fn attempt(&self, open: &Open, parcel: Parcel) -> Result<Bytes, Failure> {
        let messages = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let messages = match messages {
            Some(messages) => messages,
            None => self.messages(&parcel)?,
        };
        // Should this attempt be dropped in the middle, all of it is open again.
        *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(messages.clone());
        let headers = self.headers(&parcel.metadata);
        let writer = self.producer.current();
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        let permits = (bytes / PERMIT_BYTES + 1).min(self.permits) as u32;
        let room = self.room.acquire_many(permits).await.map_err(|_| Failure::late())?;
        let mut sent = Vec::with_capacity(messages.len());
        for message in &messages {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&message.topic).payload(&message.payload);
            if let Some(key) = &message.key {
                record = record.key(key);
            }
            if let Some(headers) = &headers {
                record = record.headers(headers.clone());
            }
            sent.push(writer.send_result(record).map_err(|(problem, _)| problem));
        }
        let (mut left, mut failure) = (Vec::new(), None);
        for (message, outcome) in messages.into_iter().zip(sent) {
            if let Err(problem) = written(outcome).await {
                left.push(message);
                failure.get_or_insert(problem);
            }
        }
        drop(room);
        *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        match failure {
            None => Ok(Bytes::new()),
            Some(problem) => Err(self.failed(&writer, &problem)),
        }
    }

    /// The messages of a request, none larger than brokers take.
    fn messages(&self, parcel: &Parcel) -> Result<Vec<Message>, Failure> {
        let never = |code, message| Failure::Final {
            code,
            message,
            details: Bytes::new(),
        };
        let messages = messages::of(&self.settings, parcel.signal, &parcel.payload, &parcel.metadata)
            .map_err(|problem| never(Code::InvalidArgument, problem))?;
        let most = self.settings.producer.max_message_bytes - OVERHEAD_BYTES;
        match messages.iter().map(|message| message.payload.len()).max() {
            Some(bytes) if bytes > most => {
                let message = format!("a message of {bytes} bytes, and `producer.max_message_bytes` lets {most} pass");
                Err(never(Code::ResourceExhausted, message))
            }
            _ => Ok(messages),
        }
    }

    fn headers(&self, metadata: &Metadata) -> Option<OwnedHeaders> {
        let fixed = self.settings.record_headers.iter();
        let fixed = fixed.map(|(name, value)| (name.as_str(), value.as_str()));
        let keys = self.settings.include_metadata_keys.iter();
        let theirs = keys.flat_map(|key| metadata.values(key).map(move |value| (key.as_str(), value)));
        let mut headers = None;
        for (key, value) in fixed.chain(theirs) {
            let before = headers.take().unwrap_or_else(OwnedHeaders::new);
            headers = Some(before.insert(Header {
                key,
                value: Some(value),
            }));
        }
        headers
    }

    /// What a caller is to do about it.
    fn failed(&self, used: &Arc<Writer>, problem: &KafkaError) -> Failure {
        self.producer.failed(used);
        match problem.rdkafka_error_code() {
            // The brokers' own limit is lower than ours, or a topic's.
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Failure::Final {
                code: Code::ResourceExhausted,
                message: format!("{problem}: lower `producer.max_message_bytes` to the brokers' `message.max.bytes`"),
                details: Bytes::new(),
            },
            // All else can be mended without other records: a topic made, a right given, a broker started.
            _ => Failure::Passing {
                message: problem.to_string(),
                retry_after: None,
            },
        }
    }
}

impl Exporter for KafkaExporter {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            let open = Open::default();
            let delivered = self.delivery.deliver(request, |parcel, _| self.attempt(&open, parcel));
            delivered.await
        })
    }
}

fn config(settings: &Settings) -> ClientConfig {
    let producer = &settings.producer;
    let RequiredAcks::All = producer.required_acks;
    let (compression, _) = producer.compression.name_and_levels();
    let mut config: ClientConfig = settings.client().config();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set(
            "message.timeout.ms",
            settings.timeout.as_millis().min(i32::MAX as u128).to_string(),
        )
        .set("message.max.bytes", producer.max_message_bytes.to_string())
        .set("batch.size", producer.max_message_bytes.to_string())
        .set("batch.num.messages", producer.flush_max_messages.to_string())
        .set("linger.ms", producer.linger.as_millis().to_string())
        .set("compression.type", compression)
        .set("compression.level", producer.compression_params.level.to_string())
        .set(
            "allow.auto.create.topics",
            producer.allow_auto_topic_creation.to_string(),
        )
        // Our own bound is the one that holds.
        .set(
            "queue.buffering.max.kbytes",
            ((producer.max_buffered_mib + 1) * 1024 * 2).to_string(),
        )
        .set("queue.buffering.max.messages", "0")
        // A topic that is not there yet is waited for as long as anything else.
        .set(
            "topic.metadata.propagation.max.ms",
            settings.timeout.as_millis().to_string(),
        );
    config
}
