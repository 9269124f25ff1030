//! What brokers are asked: whether the topics are there, which are made where they are not, and how far the log goes.
//!
//! What enters: the consumer of whoever reads. What leaves: the bounds of the log, about twice a second while a broker answers, and
//! whether the topics may be written to. Promises: a thread of its own waits for answers, so that nobody who reads does; brokers that do
//! not answer are asked again and again; topics that are there are left as they are. Absent on purpose: what follows from the bounds
//! (`reading`).

use std::{
    sync::{PoisonError, Weak, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::runtime::Handle;

use super::{
    Settings,
    client::{Found, PARTITION, Standing},
    reading::{Ending, Reader},
};
use crate::edge::transport::{
    kafka::{Voice, speaking},
    warnings::Throttle,
};

/// How often the log's bounds are asked for.
const EVERY: Duration = Duration::from_millis(500);
/// How long what only people can mend is left alone.
const LATER: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long brokers may take to make a topic.
const PATIENCE_FOR_TOPICS: Duration = Duration::from_secs(5);

/// How far the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The question left then: the log had at least this.
    pub(super) asked: Instant,
    /// The answer came then.
    pub(super) answered: Instant,
    /// The first entry that it has, or will have.
    pub(super) low: u64,
    /// One more than the last entry that every replica in step has.
    pub(super) high: u64,
}

/// Who asks.
pub(super) struct Asking {
    pub(super) id: String,
    pub(super) settings: Settings,
    pub(super) found: Found,
    pub(super) consumer: Weak<BaseConsumer<Reader>>,
    pub(super) bounds: Sender<Bounds>,
    pub(super) ending: Ending,
    pub(super) runtime: Handle,
}

/// Why there are no bounds.
enum Problem {
    /// Worth a warning now and then: nothing mends it by itself.
    Told(String),
    /// What librdkafka has told of already.
    Quiet(String),
}

impl From<KafkaError> for Problem {
    fn from(problem: KafkaError) -> Self {
        match problem.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Self::Told(format!(
                "{problem}: give us the right to read, write and describe both topics of the cluster"
            )),
            _ => Self::Quiet(problem.to_string()),
        }
    }
}

impl Asking {
    /// Asks until it is over.
    pub(super) fn run(self) {
        let warnings = Throttle::default();
        let mut are_topics_known = false;
        while !self.ending.is_over() {
            let Some(consumer) = self.consumer.upgrade() else {
                return;
            };
            let outcome = self.ask(&consumer, &mut are_topics_known);
            drop(consumer);
            let pause = match outcome {
                Ok(bounds) => {
                    if self.bounds.send(bounds).is_err() {
                        return;
                    }
                    EVERY
                }
                Err(problem) => {
                    // Whatever it was, the topics may not be what they were.
                    are_topics_known = false;
                    match problem {
                        Problem::Quiet(problem) => {
                            tracing::debug!(component = self.id, "{problem}");
                            EVERY
                        }
                        Problem::Told(problem) => {
                            if let Some(left_out) = warnings.admit() {
                                tracing::error!(component = self.id, left_out, "{problem}");
                            }
                            LATER
                        }
                    }
                }
            };
            thread::park_timeout(pause);
        }
    }

    fn ask(&self, consumer: &BaseConsumer<Reader>, are_topics_known: &mut bool) -> Result<Bounds, Problem> {
        if !*are_topics_known {
            self.look_up(consumer)?;
            *are_topics_known = true;
        }
        let asked = Instant::now();
        let (low, high) = consumer.fetch_watermarks(&self.settings.log_topic, PARTITION, PATIENCE)?;
        let number = |offset: i64| u64::try_from(offset).unwrap_or_default();
        Ok(Bounds {
            asked,
            answered: Instant::now(),
            low: number(low),
            high: number(high),
        })
    }

    /// Finds both topics as they have to be, or makes them.
    fn look_up(&self, consumer: &BaseConsumer<Reader>) -> Result<(), Problem> {
        let log_topic = &self.settings.log_topic;
        let mut missing = Vec::new();
        for topic in self.settings.topics() {
            match partitions(consumer, topic)? {
                0 => missing.push(topic),
                1 => {}
                count if topic == log_topic => {
                    let why = format!(
                        "the topic `{topic}` has {count} partitions, so it has no one order, and nothing is shared: make it anew with one, \
                         or write another `log_topic`"
                    );
                    self.tell(Standing::Unfit(why.clone()));
                    return Err(Problem::Told(why));
                }
                // Only the first partition is written and read.
                _ => {}
            }
        }
        if missing.is_empty() {
            self.tell(Standing::Ready);
            return Ok(());
        }
        self.make(&missing)?;
        // They are looked up before they are used: another agent may have made them, or brokers by themselves.
        Err(Problem::Quiet(format!("made {missing:?}")))
    }

    /// Makes topics; those that are there by now are none of our business.
    fn make(&self, missing: &[&str]) -> Result<(), Problem> {
        let settings = &self.settings;
        let admin: AdminClient<Voice> = settings.client().config().create_with_context(speaking(&self.id))?;
        let replicas = i32::from(settings.replication_factor);
        let topics = missing.iter().map(|topic| {
            let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas))
                .set("message.timestamp.type", "LogAppendTime")
                // Brokers delete and compact what is in segments that have ended.
                .set("segment.ms", "3600000");
            match *topic == settings.log_topic {
                true => new.set("cleanup.policy", "delete").set("retention.ms", "86400000"),
                false => new
                    .set("cleanup.policy", "compact")
                    .set("min.cleanable.dirty.ratio", "0.1")
                    .set("delete.retention.ms", "86400000"),
            }
        });
        let topics: Vec<NewTopic<'_>> = topics.collect();
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE_FOR_TOPICS))
            .operation_timeout(Some(PATIENCE_FOR_TOPICS));
        let refused = |topic: &str, problem: &str| {
            Problem::Told(format!(
                "the topic `{topic}` is not there and cannot be made ({problem}): give us the right to, or make it, with one partition"
            ))
        };
        let all = missing.join("`, `");
        let made = self.runtime.block_on(admin.create_topics(&topics, &options));
        for outcome in made.map_err(|problem| refused(&all, &problem.to_string()))? {
            match outcome {
                Ok(topic) => tracing::info!(component = self.id, topic, "topic made"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, problem)) => return Err(refused(&topic, &problem.to_string())),
            }
        }
        Ok(())
    }

    fn tell(&self, standing: Standing) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

/// How many partitions a topic has; none where it is not there.
fn partitions(consumer: &BaseConsumer<Reader>, topic: &str) -> Result<usize, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(0);
    };
    match found.error() {
        None => Ok(found.partitions().len()),
        Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        ) => Ok(0),
        Some(problem) => Err(KafkaError::MetadataFetch(problem.into())),
    }
}
