//! Membership in a consumer group: which partitions are ours, from when until when.
//!
//! What enters: the settings, and an intake for each signal. What leaves: a lane for each partition that is ours, in a task. Promises: a
//! partition that is taken away is given up when the attempts under way have ended, or after some seconds, and what was
//! accepted of it is committed before another member begins; the thread that speaks to the group waits for nothing else, so
//! that a destination that is away for hours costs no membership. Absent on purpose: what is done with messages (`lane`).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    InitialOffset, Settings,
    decoding::Decoding,
    lane::{Lane, Way},
};
use crate::edge::{
    Intakes, Signal,
    transport::{
        kafka::{Voice, speaking},
        warnings::Throttle,
    },
};

/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long attempts under way may take when their partition is taken away, or at the end: nobody waits for their answer.
const GIVING_UP: Duration = Duration::from_secs(5);
/// What an answer of a broker has beside messages, at most.
const ROOM_FOR_ANSWER_BYTES: usize = 1024 * 1024;

/// What became of messages since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that were read, again after a rebalance.
    pub messages: AtomicU64,
    /// Messages that nobody can read or take: passed over, or in the way.
    pub unread_messages: AtomicU64,
    /// Attempts beyond the first.
    pub retries: AtomicU64,
    /// Partitions that are ours at the moment.
    pub partitions: AtomicU64,
    /// Times that partitions came or went.
    pub rebalances: AtomicU64,
}

/// A receiver that has its client and is no member yet.
pub struct Receiver {
    settings: Arc<Settings>,
    consumer: Arc<BaseConsumer<Group>>,
}

/// The partitions that are ours.
pub(super) struct Group {
    voice: Voice,
    counters: Arc<Counters>,
    serving: OnceLock<Serving>,
    lanes: Mutex<HashMap<(String, i32), Running>>,
    skipped: Arc<Throttle>,
}

/// What lanes are made of.
struct Serving {
    settings: Arc<Settings>,
    intakes: Intakes,
    runtime: Handle,
    consumer: Weak<BaseConsumer<Group>>,
}

/// A lane in its task.
struct Running {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Prepares a client for the component of this id; joins nothing yet.
    ///
    /// # Errors
    /// What librdkafka does not take, as a certificate that cannot be read.
    pub fn new(id: &str, settings: &Settings) -> Result<Self, String> {
        settings.validate()?;
        let group = Group {
            voice: speaking(id),
            counters: Arc::default(),
            serving: OnceLock::new(),
            lanes: Mutex::default(),
            skipped: Arc::default(),
        };
        let consumer = config(settings).create_with_context(group);
        Ok(Self {
            settings: Arc::new(settings.clone()),
            consumer: Arc::new(consumer.map_err(|problem: KafkaError| problem.to_string())?),
        })
    }

    /// The counters, also while serving.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.consumer.context().counters)
    }

    /// Reads the topics of the signals that `intakes` has until `shutdown`; returns when what was under way has its answer and
    /// is committed.
    pub async fn serve(self, intakes: Intakes, shutdown: impl Future<Output = ()>) {
        let Self { settings, consumer } = self;
        let topics: Vec<String> = intakes.signals().flat_map(|signal| settings.topics(signal)).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let serving = Serving {
            settings: Arc::clone(&settings),
            intakes,
            runtime: Handle::current(),
            consumer: Arc::downgrade(&consumer),
        };
        if consumer.context().serving.set(serving).is_err() {
            return;
        }
        if let Err(problem) = consumer.subscribe(&topics) {
            tracing::error!(?topics, "cannot subscribe: {problem}");
            return;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (left, has_left) = oneshot::channel();
        let told = Arc::clone(&is_over);
        let member = thread::Builder::new().name("kafka-group".into()).spawn(move || {
            take_part(consumer, &told);
            let _ = left.send(());
        });
        if let Err(problem) = member {
            tracing::error!("no thread for the consumer group: {problem}");
            return;
        }
        shutdown.await;
        is_over.store(true, Ordering::Relaxed);
        let _ = has_left.await;
    }
}

/// Speaks to the group until it is over, then leaves it.
fn take_part(consumer: Arc<BaseConsumer<Group>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        match consumer.poll(LOOK_EVERY) {
            None => {}
            Some(Err(problem)) => consumer.context().voice.error(problem, "reading"),
            // Each partition has a queue of its own before its first message comes; one that came here would be lost to its lane.
            Some(Ok(message)) => {
                use rdkafka::Message as _;
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                tracing::error!(
                    topic,
                    partition,
                    offset,
                    "a message came outside its partition's queue; it is read again"
                );
                if let Err(problem) = consumer.seek(topic, partition, rdkafka::Offset::Offset(offset), GIVING_UP) {
                    tracing::error!(topic, partition, offset, "{problem}");
                }
            }
        }
    }
    let group = Arc::clone(consumer.context());
    group.end(group.all());
    // Closing commits what is stored and tells the group that we leave.
    drop(consumer);
}

/// What librdkafka is told.
fn config(settings: &Settings) -> ClientConfig {
    let mut config = settings.client().config();
    let millis = |duration: Duration| duration.as_millis().min(i32::MAX as u128).to_string();
    let strategies: Vec<&str> = settings
        .group_rebalance_strategies
        .iter()
        .map(|one| one.name())
        .collect();
    let fetch = settings.max_fetch_size.max(settings.max_partition_fetch_size);
    config
        .set("group.id", &settings.group_id)
        .set("partition.assignment.strategy", strategies.join(","))
        .set("session.timeout.ms", millis(settings.session_timeout))
        .set("heartbeat.interval.ms", millis(settings.heartbeat_interval))
        .set(
            "auto.offset.reset",
            match settings.initial_offset {
                InitialOffset::Latest => "latest",
                InitialOffset::Earliest => "earliest",
            },
        )
        // An offset is stored by a lane, when the next hop has accepted; what is stored is committed by itself.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", millis(settings.autocommit.interval))
        .set("fetch.min.bytes", settings.min_fetch_size.to_string())
        .set("fetch.wait.max.ms", millis(settings.max_fetch_wait))
        .set(
            "max.partition.fetch.bytes",
            settings.max_partition_fetch_size.to_string(),
        )
        .set("fetch.max.bytes", fetch.to_string())
        .set("message.max.bytes", fetch.clamp(1000, 1_000_000_000).to_string())
        .set("receive.message.max.bytes", (fetch + ROOM_FOR_ANSWER_BYTES).to_string())
        // A partition whose queue was full is fetched again as soon as there is room, not a second later.
        .set("fetch.queue.backoff.ms", "10")
        // Of each partition, for each has a queue of its own.
        .set(
            "queued.max.messages.kbytes",
            (2 * settings.max_partition_fetch_size / 1024).max(1).to_string(),
        )
        .set("allow.auto.create.topics", "true");
    let excluded = Signal::ALL.map(|signal| settings.of(signal).exclude_topics.join(","));
    let excluded: Vec<&str> = excluded
        .iter()
        .map(String::as_str)
        .filter(|one| !one.is_empty())
        .collect();
    if !excluded.is_empty() {
        config.set("topic.blacklist", excluded.join(","));
    }
    if !settings.group_instance_id.is_empty() {
        config.set("group.instance.id", &settings.group_instance_id);
    }
    if !settings.rack_id.is_empty() {
        config.set("client.rack", &settings.rack_id);
    }
    config
}

impl Group {
    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i32), Running>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(String, i32)> {
        self.lanes().keys().cloned().collect()
    }

    /// Gives a partition its lane, before its first message is asked for.
    fn begin(&self, serving: &Serving, topic: &str, partition: i32) {
        let consumer = serving.consumer.upgrade();
        let queue = consumer.and_then(|consumer| consumer.split_partition_queue(topic, partition));
        let (Some(queue), Some((signal, intake))) = (queue, serving.way(topic)) else {
            return tracing::error!(topic, partition, "not read: no signal's `topics` name this topic");
        };
        let way = Way {
            topic: topic.to_owned(),
            partition,
            settings: Arc::clone(&serving.settings),
            decoding: Decoding {
                signal,
                encoding: serving.settings.of(signal).encoding,
            },
            intake,
            counters: Arc::clone(&self.counters),
            skipped: Arc::clone(&self.skipped),
        };
        let (end, ended) = watch::channel(false);
        let lane = Lane::new(way, serving.consumer.clone(), queue);
        let task = serving.runtime.spawn(lane.run(ended));
        self.lanes()
            .insert((topic.to_owned(), partition), Running { end, task });
        self.counters.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends lanes: each ends its attempts under way, if they end in time. Not to be called from an async thread.
    fn end(&self, partitions: Vec<(String, i32)>) {
        let Some(serving) = self.serving.get() else { return };
        let mut ending = Vec::new();
        for partition in partitions {
            let Some(running) = self.lanes().remove(&partition) else {
                continue;
            };
            let _ = running.end.send(true);
            ending.push((partition, running.task));
            self.counters.partitions.fetch_sub(1, Ordering::Relaxed);
        }
        serving.runtime.block_on(async {
            let over = async {
                for (_, task) in &mut ending {
                    let _ = task.await;
                }
            };
            if timeout(GIVING_UP, over).await.is_ok() {
                return;
            }
            for ((topic, partition), task) in ending.iter_mut().filter(|(_, task)| !task.is_finished()) {
                tracing::warn!(topic, partition, "given up with requests under way: they come again");
                task.abort();
                let _ = task.await;
            }
        });
    }
}

impl Serving {
    /// What a topic tells of, and who takes it.
    fn way(&self, topic: &str) -> Option<(Signal, Arc<dyn crate::edge::Intake>)> {
        let signal = self
            .intakes
            .signals()
            .find(|signal| self.settings.reads(*signal, topic))?;
        Some((signal, Arc::clone(self.intakes.of(signal)?)))
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<(String, i32)> {
    let elements = list.elements();
    elements
        .iter()
        .map(|one| (one.topic().to_owned(), one.partition()))
        .collect()
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Some(serving) = self.serving.get() else { return };
        self.counters.rebalances.fetch_add(1, Ordering::Relaxed);
        match rebalance {
            Rebalance::Assign(list) => {
                let ours = partitions(list);
                for (topic, partition) in &ours {
                    self.begin(serving, topic, *partition);
                }
                tracing::info!(partitions = ?ours, "partitions are ours");
            }
            Rebalance::Revoke(list) => {
                let theirs = partitions(list);
                tracing::info!(partitions = ?theirs, is_lost = consumer.assignment_lost(), "partitions go to others");
                // What is stored by then is committed when they are unassigned, which comes next.
                self.end(theirs);
            }
            Rebalance::Error(problem) => tracing::warn!("rebalancing: {problem}"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(problem) = result {
            self.voice.error(problem, "committing offsets");
        }
    }
}
