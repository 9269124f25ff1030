//! Agents that share a log: one fault is one incident whoever saw it, nobody waits longer than was said, and what was given alone
//! becomes an alias. The log is one in this process, which can be away.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use harbinger::{
    edge::{
        BoxFuture, Desk,
        cluster::{Cluster, Follower, Logged, NotShared},
    },
    engine::{
        correlate::IncidentId,
        feedback::{Feedback, Opinion, Subject},
        tenant::Tenant,
    },
    pipeline::{Mode, Pipeline, cluster::Membership},
    telemetry::Metrics,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::end_to_end::{Model, Sink, attribute, parts, request, send, warm_up};

const DEADLINE: Duration = Duration::from_secs(60);

/// What all agents share.
#[derive(Default)]
struct Shared {
    entries: Vec<Logged>,
    memory: BTreeMap<Bytes, Bytes>,
    changes: Vec<(Bytes, Option<Bytes>)>,
    is_away: bool,
}

#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Shared>, Condvar)>);

impl Log {
    fn set_away(&self, is_away: bool) {
        self.0.0.lock().unwrap().is_away = is_away;
        self.0.1.notify_all();
    }
}

impl Cluster for Log {
    fn append(&self, entry: Bytes) -> BoxFuture<'_, Result<(), NotShared>> {
        Box::pin(async move {
            let mut shared = self.0.0.lock().unwrap();
            if shared.is_away {
                return Err(NotShared::Away("away".to_owned()));
            }
            let offset = shared.entries.len() as u64;
            shared.entries.push(Logged {
                offset,
                time_unix_nano: 1_000_000 * offset,
                body: entry,
            });
            self.0.1.notify_all();
            Ok(())
        })
    }

    fn put(&self, key: Bytes, record: Option<Bytes>) -> BoxFuture<'_, Result<(), NotShared>> {
        Box::pin(async move {
            let mut shared = self.0.0.lock().unwrap();
            if shared.is_away {
                return Err(NotShared::Away("away".to_owned()));
            }
            match &record {
                Some(record) => shared.memory.insert(key.clone(), record.clone()),
                None => shared.memory.remove(&key),
            };
            shared.changes.push((key, record));
            self.0.1.notify_all();
            Ok(())
        })
    }

    fn follow(&self, follower: Arc<dyn Follower>) -> Result<Box<dyn Send + Sync>, String> {
        let (log, ended) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let end = Arc::clone(&ended);
        thread::spawn(move || {
            let (memory, mut changed) = {
                let shared = log.0.0.lock().unwrap();
                (shared.memory.clone(), shared.changes.len())
            };
            memory
                .iter()
                .for_each(|(key, record)| follower.remember(key, Some(record)));
            let mut next = follower.begin().map_or(0, |latest| latest + 1) as usize;
            while !end.load(Ordering::Relaxed) {
                let mut shared = log.0.0.lock().unwrap();
                if !shared.is_away && shared.entries.len() <= next && shared.changes.len() <= changed {
                    drop(shared);
                    follower.caught_up();
                    shared = log.0.0.lock().unwrap();
                }
                if shared.is_away || shared.entries.len() <= next && shared.changes.len() <= changed {
                    drop(log.0.1.wait_timeout(shared, Duration::from_millis(20)).unwrap());
                    continue;
                }
                let entries = shared.entries.get(next..).unwrap_or_default().to_vec();
                let changes = shared.changes.split_at(changed).1.to_vec();
                drop(shared);
                next += entries.len();
                changed += changes.len();
                for (key, record) in changes {
                    follower.remember(&key, record.as_deref());
                }
                entries.into_iter().for_each(|entry| follower.take(entry));
            }
        });
        Ok(Box::new(Ending(ended)))
    }
}

struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Agent {
    pipeline: Arc<Pipeline>,
    sink: Arc<Sink>,
    metrics: Arc<Metrics>,
}

impl Agent {
    fn named(name: &str, log: &Log, deadline: Duration) -> Self {
        let (mut parts, sink) = parts(Some(Model { fails: false }), Mode::Mark);
        parts.cluster = Some(Membership {
            cluster: Arc::new(log.clone()),
            agent_id: name.to_owned(),
            deadline,
        });
        let metrics = Arc::clone(&parts.metrics);
        let pipeline = Arc::new(Pipeline::start(parts).unwrap());
        Self {
            pipeline,
            sink,
            metrics,
        }
    }

    /// Sends one record; the incident that it got.
    async fn say(&self, second: u64, text: &str) -> Option<IncidentId> {
        let before = self.sink.records().len();
        send(&self.pipeline, request(second, &[text.to_owned()])).await.unwrap();
        match attribute(&self.sink.records()[before], "incident_id") {
            Some(Value::StringValue(id)) => Some(id.parse().unwrap()),
            _ => None,
        }
    }

    /// The incident that goes on under this id.
    fn resolved(&self, id: IncidentId) -> Option<IncidentId> {
        Some(self.pipeline.incident(id)?.told.incident.id)
    }

    async fn is_with_the_others(&self) {
        until(|| self.metrics.cluster_alone.get() == 0 && self.metrics.cluster_members.get() > 1).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), met)
        .await
        .expect("never so");
}

/// Two agents that judge, each by its own.
async fn two(log: &Log, deadline: Duration) -> (Agent, Agent) {
    let (one, other) = (Agent::named("one", log, deadline), Agent::named("other", log, deadline));
    tokio::join!(warm_up(&one.pipeline), warm_up(&other.pipeline));
    one.is_with_the_others().await;
    other.is_with_the_others().await;
    (one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_is_one_incident_whoever_saw_it() {
    let log = Log::default();
    let (one, other) = two(&log, DEADLINE).await;
    let first = one
        .say(10_000, "Segmentation fault, core dumped. volume 1")
        .await
        .unwrap();
    for second in 10_001..10_004 {
        let text = format!("Segmentation fault, core dumped. volume {second}");
        assert_eq!(other.say(second, &text).await, Some(first));
        assert_eq!(one.say(second, &text).await, Some(first));
    }
    assert_eq!(
        one.metrics.cluster_alone_log_records.get() + other.metrics.cluster_alone_log_records.get(),
        0
    );
    let known = |agent: &Agent| {
        agent
            .pipeline
            .incident(first)
            .map(|found| found.told.incident.anomalous_records)
    };
    until(|| known(&one) == Some(7) && known(&other) == Some(7)).await;
    assert!(
        one.pipeline.speaks() && !other.pipeline.speaks(),
        "one tells people for all"
    );

    let late = Agent::named("third", &log, DEADLINE);
    late.is_with_the_others().await;
    assert_eq!(late.resolved(first), Some(first), "who comes later knows what was");

    let none = Feedback {
        subject: Subject::Incident(first),
        service: None,
        opinion: Opinion::Normal,
        comment: String::new(),
        author: String::new(),
    };
    other.pipeline.give_feedback(&Tenant::default(), none).unwrap();
    let is_over = |agent: &Agent| {
        agent
            .pipeline
            .open_incidents()
            .iter()
            .all(|(_, incident)| incident.id != first)
    };
    until(|| is_over(&one) && is_over(&other)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_log_is_away_ids_are_an_agents_own_and_become_aliases() {
    let log = Log::default();
    let (one, other) = two(&log, Duration::from_millis(50)).await;
    log.set_away(true);
    let fault = |second: u64| format!("Segmentation fault, core dumped. volume {second}");
    let own = one.say(10_000, &fault(0)).await.unwrap();
    let others = other.say(10_001, &fault(1)).await.unwrap();
    assert_ne!(own, others, "nobody can know");
    assert_eq!(
        one.say(10_002, &fault(2)).await,
        Some(own),
        "but each agrees with itself"
    );
    assert!(one.metrics.cluster_alone_log_records.get() == 2 && one.pipeline.speaks());
    log.set_away(false);
    until(|| one.metrics.cluster_alone.get() + other.metrics.cluster_alone.get() == 0).await;
    let survivor = one.resolved(own).unwrap();
    assert!([own, others].contains(&survivor));
    for agent in [&one, &other] {
        assert_eq!(
            (agent.resolved(own), agent.resolved(others)),
            (Some(survivor), Some(survivor))
        );
        assert_eq!(agent.say(10_003, &fault(3)).await, Some(survivor));
    }
}

/// The first by name trains for all, also where no record comes to it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_records_trains_for_those_that_have_them() {
    let log = Log::default();
    let idle = Agent::named("idle", &log, DEADLINE);
    let other = Agent::named("other", &log, DEADLINE);
    idle.is_with_the_others().await;
    other.is_with_the_others().await;
    warm_up(&other.pipeline).await;
    assert_eq!((idle.metrics.fits.get(), other.metrics.fits.get()), (1, 0));
    assert!(idle.sink.records().is_empty());
}
