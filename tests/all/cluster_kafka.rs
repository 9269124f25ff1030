//! Guarantees of what agents share through Kafka, beside librdkafka's own stand-in for brokers, in process: every follower reads the same
//! entries with the same numbers and times, first the memory, then the log from where it says; an answer means that it is there; brokers
//! that are away are told of, and afterwards all goes on; what was deleted is told of. The stand-in makes no topics and compacts nothing:
//! real brokers do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harbinger::edge::{
    cluster::{Cluster, Follower, Logged, MAX_SHARED_BYTES, NotShared},
    cluster_kafka::{ClusterKafka, Settings},
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{sync::watch, time::timeout};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOG: &str = "harbinger_incidents";
const MEMORY: &str = "harbinger_memory";

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers() -> Brokers {
    let brokers = MockCluster::new(3).unwrap();
    brokers.create_topic(LOG, 1, 3).unwrap();
    brokers.create_topic(MEMORY, 1, 3).unwrap();
    brokers
}

fn cluster(brokers: &Brokers) -> ClusterKafka {
    let settings = Settings {
        brokers: brokers.bootstrap_servers().split(',').map(str::to_owned).collect(),
        ..Settings::default()
    };
    ClusterKafka::new("cluster", &settings).unwrap()
}

/// What a follower was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Remember(Bytes, Option<Bytes>),
    Begin,
    Take(Logged),
    Missed(u64),
    CaughtUp,
    Alone,
}

/// A follower that keeps what it is told.
struct Agent {
    known: Option<u64>,
    calls: Mutex<Vec<Call>>,
    count: watch::Sender<usize>,
    /// Held by who wants it to stand still at an entry.
    gate: Mutex<()>,
}

impl Agent {
    fn knowing(known: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            known,
            calls: Mutex::default(),
            count: watch::Sender::new(0),
            gate: Mutex::default(),
        })
    }

    fn call(&self, call: Call) {
        let count = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call);
            calls.len()
        };
        // Who waits for the count looks at the calls.
        self.count.send_replace(count);
    }

    fn so_far(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until what was told is enough.
    async fn until(&self, enough: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let mut counts = self.count.subscribe();
        let told = timeout(PATIENCE, counts.wait_for(|_| enough(&self.calls.lock().unwrap()))).await;
        let calls = self.so_far();
        assert!(told.is_ok(), "only {:?}", brief(&calls));
        calls
    }

    async fn taken(&self, count: usize) -> Vec<Logged> {
        entries(&self.until(|calls| entries(calls).len() >= count).await)
    }

    /// Waits for another call of this kind.
    async fn again(&self, call: &Call) {
        let before = self.so_far().len();
        self.until(|calls| calls[before.min(calls.len())..].contains(call))
            .await;
    }
}

fn brief(calls: &[Call]) -> Vec<String> {
    let texts = calls.iter().map(|call| format!("{call:?}"));
    texts.map(|text| text.chars().take(80).collect()).collect()
}

fn entries(calls: &[Call]) -> Vec<Logged> {
    let entries = calls.iter().filter_map(|call| match call {
        Call::Take(entry) => Some(entry.clone()),
        _ => None,
    });
    entries.collect()
}

/// The memory as it is remembered by these calls.
fn memory(calls: &[Call]) -> BTreeMap<Bytes, Bytes> {
    let mut memory = BTreeMap::new();
    for call in calls {
        match call {
            Call::Remember(key, Some(record)) => _ = memory.insert(key.clone(), record.clone()),
            Call::Remember(key, None) => _ = memory.remove(key),
            _ => {}
        }
    }
    memory
}

impl Follower for Agent {
    fn remember(&self, key: &[u8], record: Option<&[u8]>) {
        let record = record.map(Bytes::copy_from_slice);
        self.call(Call::Remember(Bytes::copy_from_slice(key), record));
    }

    fn begin(&self) -> Option<u64> {
        self.call(Call::Begin);
        self.known
    }

    fn take(&self, entry: Logged) {
        let _open = self.gate.lock().unwrap();
        self.call(Call::Take(entry));
    }

    fn missed(&self, before: u64) {
        self.call(Call::Missed(before));
    }

    fn caught_up(&self) {
        self.call(Call::CaughtUp);
    }

    fn alone(&self, since: Duration) {
        assert!(since >= Duration::from_secs(1), "{since:?}");
        self.call(Call::Alone);
    }
}

fn bodies(entries: &[Logged]) -> Vec<Bytes> {
    entries.iter().map(|entry| entry.body.clone()).collect()
}

fn bodies_of(range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(|number| format!("entry {number}").into()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_follower_reads_the_same_entries_with_the_same_numbers_and_times() {
    let brokers = brokers();
    let (ours, theirs) = (cluster(&brokers), cluster(&brokers));
    let (one, other) = (Agent::knowing(None), Agent::knowing(None));
    let _one = ours.follow(Arc::clone(&one) as Arc<dyn Follower>).unwrap();
    let _other = theirs.follow(Arc::clone(&other) as Arc<dyn Follower>).unwrap();
    one.again(&Call::CaughtUp).await;
    other.again(&Call::CaughtUp).await;
    // All under way at once, the answers asked for in another order: the order is that of the calls.
    let bodies_written = bodies_of(0..50);
    let sent: Vec<_> = bodies_written.iter().map(|body| ours.append(body.clone())).collect();
    for answer in sent.into_iter().rev() {
        assert_eq!(answer.await, Ok(()));
    }
    let (read, read_there) = (one.taken(50).await, other.taken(50).await);
    assert_eq!(bodies(&read), bodies_written);
    assert_eq!(read, read_there);
    assert!(read.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert!(
        read.iter()
            .all(|entry| entry.time_unix_nano > 1_600_000_000_000_000_000)
    );
    assert_eq!(theirs.append("theirs".into()).await, Ok(()));
    assert_eq!(one.taken(51).await, other.taken(51).await);

    // Who knows part of it reads the rest.
    let late = Agent::knowing(Some(read[40].offset));
    let _late = theirs.follow(Arc::clone(&late) as Arc<dyn Follower>).unwrap();
    assert_eq!(late.taken(10).await, one.so_far_from(41));
    // And who knows all of it nothing, until there is more.
    let ready = Agent::knowing(Some(one.taken(51).await[50].offset));
    let following = theirs.follow(Arc::clone(&ready) as Arc<dyn Follower>).unwrap();
    ready.again(&Call::CaughtUp).await;
    assert_eq!(entries(&ready.so_far()), []);
    assert_eq!(ours.append("more".into()).await, Ok(()));
    assert_eq!(bodies(&ready.taken(1).await), ["more"]);
    // Nothing is told to who follows no longer.
    drop(following);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = ready.so_far().len();
    assert_eq!(ours.append("unheard".into()).await, Ok(()));
    one.taken(53).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(ready.so_far().len(), told);
}

impl Agent {
    fn so_far_from(&self, first: usize) -> Vec<Logged> {
        entries(&self.so_far())[first..].to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_remembered_before_the_log_begins_and_its_changes_after() {
    let brokers = brokers();
    let cluster = cluster(&brokers);
    let first = Agent::knowing(None);
    let _first = cluster.follow(Arc::clone(&first) as Arc<dyn Follower>).unwrap();
    first.again(&Call::CaughtUp).await;
    assert_eq!(cluster.append("entry 0".into()).await, Ok(()));
    for (key, record) in [
        ("a", Some("1")),
        ("b", Some("1")),
        ("a", None),
        ("b", Some("2")),
        ("c", Some("")),
    ] {
        assert_eq!(cluster.put(key.into(), record.map(Bytes::from)).await, Ok(()));
    }
    let expected: BTreeMap<Bytes, Bytes> = [("b".into(), "2".into()), ("c".into(), "".into())].into();
    first.until(|calls| memory(calls) == expected).await;

    let second = Agent::knowing(None);
    let _second = cluster.follow(Arc::clone(&second) as Arc<dyn Follower>).unwrap();
    second.taken(1).await;
    let calls = second.so_far();
    let begun = calls.iter().position(|call| *call == Call::Begin).unwrap();
    assert_eq!(memory(&calls[..begun]), expected);
    assert_eq!(entries(&calls[..begun]), []);
    assert_eq!(calls.iter().filter(|call| **call == Call::Begin).count(), 1);
    assert_eq!(cluster.put("b".into(), None).await, Ok(()));
    for agent in [&first, &second] {
        agent.until(|calls| memory(calls).keys().eq(["c"])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_what_is_not_passes() {
    let brokers = brokers();
    let cluster = cluster(&brokers);
    // Before anybody has looked the topics up, nothing is written.
    assert!(matches!(cluster.append("early".into()).await, Err(NotShared::Away(_))));
    let agent = Agent::knowing(None);
    let _following = cluster.follow(Arc::clone(&agent) as Arc<dyn Follower>).unwrap();
    agent.again(&Call::CaughtUp).await;
    let bytes = MAX_SHARED_BYTES + 1;
    let too_large = Bytes::from(vec![7; bytes]);
    assert_eq!(
        cluster.append(too_large.clone()).await,
        Err(NotShared::TooLarge { bytes })
    );
    assert_eq!(
        cluster.put("key".into(), Some(too_large.clone())).await,
        Err(NotShared::TooLarge { bytes: bytes + 3 })
    );
    let largest = noise(MAX_SHARED_BYTES);
    assert_eq!(cluster.append(largest.clone()).await, Ok(()));
    assert_eq!(bodies(&agent.taken(1).await), [largest]);
}

/// Bytes that no compression makes fewer.
fn noise(bytes: usize) -> Bytes {
    let mut state = bytes as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_brokers_are_away_that_is_told_and_afterwards_all_goes_on() {
    let brokers = brokers();
    let cluster = cluster(&brokers);
    let early = Agent::knowing(None);
    let _early = cluster.follow(Arc::clone(&early) as Arc<dyn Follower>).unwrap();
    early.again(&Call::CaughtUp).await;
    assert_eq!(cluster.append("before".into()).await, Ok(()));
    early.taken(1).await;
    for broker in 1..=3 {
        brokers.broker_down(broker).unwrap();
    }
    // One begins while they are away.
    let late = Agent::knowing(None);
    let _late = cluster.follow(Arc::clone(&late) as Arc<dyn Follower>).unwrap();
    let answer = cluster.append("meanwhile".into()).await;
    assert!(matches!(answer, Err(NotShared::Away(_))), "{answer:?}");
    for agent in [&early, &late] {
        agent.again(&Call::Alone).await;
        agent.again(&Call::Alone).await;
    }
    assert!(late.so_far().iter().all(|call| *call == Call::Alone));
    for broker in 1..=3 {
        brokers.broker_up(broker).unwrap();
    }
    for agent in [&early, &late] {
        agent.again(&Call::CaughtUp).await;
    }
    while cluster.append("after".into()).await.is_err() {}
    let until = |calls: &[Call]| bodies(&entries(calls)).contains(&"after".into());
    let (early, late) = (early.until(until).await, late.until(until).await);
    assert_eq!(entries(&early), entries(&late));
    assert_eq!(entries(&early)[0].body, "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_brokers_cost_no_entry_no_order_and_no_copy() {
    let brokers = brokers();
    let cluster = cluster(&brokers);
    let agent = Agent::knowing(None);
    let _following = cluster.follow(Arc::clone(&agent) as Arc<dyn Follower>).unwrap();
    agent.again(&Call::CaughtUp).await;
    let written = bodies_of(0..20);
    for body in &written {
        brokers.request_errors(
            RDKafkaApiKey::Produce,
            &[
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ],
        );
        assert_eq!(cluster.append(body.clone()).await, Ok(()));
    }
    assert_eq!(bodies(&agent.taken(20).await), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_several_partitions_is_not_written_to() {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic(LOG, 2, 1).unwrap();
    brokers.create_topic(MEMORY, 1, 1).unwrap();
    let cluster = cluster(&brokers);
    let agent = Agent::knowing(None);
    let _following = cluster.follow(Arc::clone(&agent) as Arc<dyn Follower>).unwrap();
    agent.again(&Call::Alone).await;
    let Err(NotShared::Away(why)) = cluster.append("nowhere".into()).await else {
        panic!()
    };
    assert!(why.contains("`harbinger_incidents` has 2 partitions"), "{why}");
    assert!(agent.so_far().iter().all(|call| *call == Call::Alone));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_come_later_are_waited_for() {
    let brokers = MockCluster::new(1).unwrap();
    let cluster = cluster(&brokers);
    let agent = Agent::knowing(None);
    let _following = cluster.follow(Arc::clone(&agent) as Arc<dyn Follower>).unwrap();
    agent.again(&Call::Alone).await;
    brokers.create_topic(LOG, 1, 1).unwrap();
    brokers.create_topic(MEMORY, 1, 1).unwrap();
    agent.again(&Call::CaughtUp).await;
    assert_eq!(cluster.append("entry 0".into()).await, Ok(()));
    agent.taken(1).await;
}

/// The stand-in keeps 5 MiB of a partition.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_no_more_is_told_of_at_the_start_and_while_reading() {
    let brokers = brokers();
    let cluster = cluster(&brokers);
    let slow = Agent::knowing(None);
    let _slow = cluster.follow(Arc::clone(&slow) as Arc<dyn Follower>).unwrap();
    slow.again(&Call::CaughtUp).await;
    let entry = noise(800_000);
    tokio::task::block_in_place(|| {
        let _closed = slow.gate.lock().unwrap();
        for _ in 0..40 {
            let answer = tokio::runtime::Handle::current().block_on(cluster.append(entry.clone()));
            assert_eq!(answer, Ok(()));
        }
    });
    let is_last = |calls: &[Call]| entries(calls).last().is_some_and(|entry| entry.offset == 39);
    let calls = slow.until(is_last).await;
    let mut expected = 0;
    let mut missed = 0;
    for call in calls {
        match call {
            Call::Take(entry) => {
                assert_eq!(entry.offset, expected);
                expected += 1;
            }
            Call::Missed(before) => {
                assert!(before > expected, "{before} after {expected}");
                expected = before;
                missed += 1;
            }
            _ => {}
        }
    }
    assert!(missed > 0, "it was not slow enough");

    for (known, is_missed) in [(Some(3), true), (None, false), (Some(39), false), (Some(100), true)] {
        let late = Agent::knowing(known);
        let _late = cluster.follow(Arc::clone(&late) as Arc<dyn Follower>).unwrap();
        late.again(&Call::CaughtUp).await;
        let calls = late.so_far();
        let told: Vec<&Call> = calls.iter().filter(|call| matches!(call, Call::Missed(_))).collect();
        assert_eq!(told.len(), usize::from(is_missed), "{known:?}");
        let entries = entries(&calls);
        match entries.first() {
            None => assert_eq!(known, Some(39)),
            Some(first) => {
                assert!(first.offset > 30);
                assert!(told.iter().all(|call| **call == Call::Missed(first.offset)));
            }
        }
    }
}
