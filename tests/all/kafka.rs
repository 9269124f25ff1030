//! Guarantees, beside librdkafka's own stand-in for brokers, in process: the receiver commits what was accepted and nothing else, in order,
//! each partition by itself; the exporter acknowledges what brokers have, once, and sends in halves what they find too large. What
//! only real brokers show (rebalances between processes, kills, restarts, TLS, the Collector) is in integration/test_kafka.py.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use harbinger::edge::{
    BoxFuture, Exporter, Intake, Intakes, Metadata, Refusal, Request, Signal, export_kafka, halving::Halving,
    receive_kafka,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value, logs::v1::LogRecord,
};
use prost::Message as _;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    mocking::MockCluster,
    producer::{DefaultProducerContext, FutureProducer, FutureRecord},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::otlp::logs;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "otlp_logs";

type Brokers = MockCluster<'static, DefaultProducerContext>;

fn brokers(partitions: i32) -> Brokers {
    let brokers = MockCluster::new(3).unwrap();
    brokers.create_topic(TOPIC, partitions, 3).unwrap();
    brokers
}

/// A destination that keeps what it takes and refuses requests that say some word.
struct Destination {
    taken: Mutex<Vec<String>>,
    refused: Mutex<Option<(&'static str, Refusal)>>,
    count: watch::Sender<usize>,
}

impl Destination {
    fn open() -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            refused: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    fn refusing(word: &'static str, refusal: Refusal) -> Arc<Self> {
        let destination = Self::open();
        *destination.refused.lock().unwrap() = Some((word, refusal));
        destination
    }

    /// What was taken, in order.
    fn so_far(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    /// The same once there are so many.
    async fn taken(&self, count: usize) -> Vec<String> {
        let mut counts = self.count.subscribe();
        let arrived = timeout(PATIENCE, counts.wait_for(|so_far| *so_far >= count)).await;
        let taken = self.so_far();
        assert!(arrived.is_ok(), "{} of {count} arrived", taken.len());
        taken
    }
}

impl Intake for Destination {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        let answer = match texts(&request.body) {
            Err(problem) => Err(Refusal::Malformed(problem)),
            Ok(texts) => match &*self.refused.lock().unwrap() {
                Some((word, refusal)) if texts.iter().any(|text| text.contains(word)) => Err(refusal.clone()),
                _ => {
                    let mut taken = self.taken.lock().unwrap();
                    taken.extend(texts);
                    self.count.send_replace(taken.len());
                    Ok(Bytes::new())
                }
            },
        };
        Box::pin(async { answer })
    }
}

fn texts(request: &[u8]) -> Result<Vec<String>, String> {
    let request = ExportLogsServiceRequest::decode(request).map_err(|error| error.to_string())?;
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|resource| resource.scope_logs);
    let text = |record: LogRecord| match record.body.and_then(|body| body.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    Ok(scopes.flat_map(|scope| scope.log_records).map(text).collect())
}

fn unavailable() -> Refusal {
    Refusal::Unavailable {
        message: "busy".into(),
        retry_after: None,
    }
}

fn reading(brokers: &Brokers) -> receive_kafka::Settings {
    let mut settings = receive_kafka::Settings {
        brokers: brokers.bootstrap_servers().split(',').map(str::to_owned).collect(),
        initial_offset: receive_kafka::InitialOffset::Earliest,
        ..Default::default()
    };
    settings.error_backoff.initial_interval = Duration::from_millis(20);
    settings.error_backoff.max_interval = Duration::from_millis(100);
    settings
}

fn writing(brokers: &Brokers) -> export_kafka::Settings {
    export_kafka::Settings {
        brokers: brokers.bootstrap_servers().split(',').map(str::to_owned).collect(),
        timeout: Duration::from_secs(20),
        ..Default::default()
    }
}

/// A receiver that serves until it is stopped.
struct Agent {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    counters: Arc<receive_kafka::Counters>,
}

impl Agent {
    fn start(settings: &receive_kafka::Settings, destination: &Arc<Destination>) -> Self {
        let receiver = receive_kafka::Receiver::new("kafka", settings).unwrap();
        let counters = receiver.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let intakes = Intakes::from(Arc::clone(destination) as Arc<dyn Intake>);
        let serving = tokio::spawn(receiver.serve(intakes, async {
            let _ = stopped.await;
        }));
        Self {
            stop,
            serving,
            counters,
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.serving).await.expect("it ends").unwrap();
    }
}

async fn write(brokers: &Brokers, partition: i32, payloads: impl IntoIterator<Item = Bytes>) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers.bootstrap_servers())
        .create()
        .unwrap();
    for payload in payloads {
        let record: FutureRecord<'_, str, [u8]> = FutureRecord::to(TOPIC).partition(partition).payload(&payload);
        producer.send(record, PATIENCE).await.unwrap();
    }
}

fn lines(partition: i32, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("p{partition} {number:03}")).collect()
}

async fn write_lines(brokers: &Brokers, partition: i32, lines: &[String]) {
    write(brokers, partition, lines.iter().map(|line| logs(line))).await;
}

/// What the group has committed, by partition; nothing where it has not.
async fn committed(brokers: &Brokers, partitions: i32) -> BTreeMap<i32, i64> {
    let servers = brokers.bootstrap_servers();
    let asked = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "otel-collector")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(TOPIC, 0, partitions - 1);
        consumer.committed_offsets(list, PATIENCE).unwrap()
    };
    let found = tokio::task::spawn_blocking(asked).await.unwrap();
    let offsets = found.elements().into_iter();
    offsets
        .filter_map(|one| Some((one.partition(), one.offset().to_raw().filter(|offset| *offset >= 0)?)))
        .collect()
}

/// Looks again and again, for nobody tells.
async fn until(condition: impl Fn() -> bool) {
    let mut looking = tokio::time::interval(Duration::from_millis(10));
    let looked = timeout(PATIENCE, async {
        while !condition() {
            looking.tick().await;
        }
    });
    looked.await.expect("it comes to that");
}

fn of(partition: i32, taken: &[String]) -> Vec<String> {
    let prefix = format!("p{partition} ");
    taken.iter().filter(|text| text.starts_with(&prefix)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_comes_in_order_and_after_an_orderly_stop_nothing_comes_twice() {
    let brokers = brokers(2);
    for partition in 0..2 {
        write_lines(&brokers, partition, &lines(partition, 0..50)).await;
    }
    let destination = Destination::open();
    let agent = Agent::start(&reading(&brokers), &destination);
    destination.taken(100).await;
    agent.stop().await;
    assert_eq!(committed(&brokers, 2).await, [(0, 50), (1, 50)].into());

    for partition in 0..2 {
        write_lines(&brokers, partition, &lines(partition, 50..60)).await;
    }
    let agent = Agent::start(&reading(&brokers), &destination);
    let taken = destination.taken(120).await;
    agent.stop().await;
    for partition in 0..2 {
        assert_eq!(of(partition, &taken), lines(partition, 0..60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_refused_for_now_stops_no_other_and_is_committed_no_further() {
    let brokers = brokers(2);
    // One that is taken, then one that is not.
    write_lines(&brokers, 0, &lines(0, 0..1)).await;
    let destination = Destination::refusing("stuck", unavailable());
    let agent = Agent::start(&reading(&brokers), &destination);
    destination.taken(1).await;
    write(&brokers, 0, [logs("p0 stuck")]).await;
    write_lines(&brokers, 0, &lines(0, 2..9)).await;
    write_lines(&brokers, 1, &lines(1, 0..30)).await;
    until(|| of(1, &destination.so_far()) == lines(1, 0..30)).await;
    agent.stop().await;
    assert_eq!(committed(&brokers, 2).await, [(0, 1), (1, 30)].into());

    *destination.refused.lock().unwrap() = None;
    let agent = Agent::start(&reading(&brokers), &destination);
    // What was sent beside the one that was refused may have been taken before it, and comes again.
    let rest = [&["p0 stuck".to_owned()][..], &lines(0, 2..9)].concat();
    until(|| of(0, &destination.so_far()).ends_with(&rest)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_passed_over_alone_or_holds_up_its_partition() {
    for passed_over in [true, false] {
        let brokers = brokers(1);
        write(
            &brokers,
            0,
            [logs("one"), Bytes::from_static(b"\x0a\xffno"), logs("two")],
        )
        .await;
        let mut settings = reading(&brokers);
        settings.message_marking.on_permanent_error = passed_over;
        let destination = Destination::open();
        let agent = Agent::start(&settings, &destination);
        let counters = Arc::clone(&agent.counters);
        // What is read beside the one that stands may go before it, and comes again.
        let expected = if passed_over { 2 } else { 1 };
        assert_eq!(
            destination.taken(expected).await[..expected],
            ["one", "two"][..expected]
        );
        until(|| counters.unread_messages.load(Ordering::Relaxed) == 1).await;
        agent.stop().await;
        let up_to = if passed_over { 3 } else { 1 };
        assert_eq!(committed(&brokers, 1).await, [(0, up_to)].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_destination_refuses_for_good_is_found_among_its_neighbours() {
    let brokers = brokers(1);
    let refusal = Refusal::Permanent {
        code: 3,
        message: "not this one".into(),
        details: Bytes::new(),
    };
    let mut written = lines(0, 0..40);
    written.insert(23, "p0 poison".into());
    write_lines(&brokers, 0, &written).await;
    let destination = Destination::refusing("poison", refusal);
    let agent = Agent::start(&reading(&brokers), &destination);
    assert_eq!(destination.taken(40).await, lines(0, 0..40));
    agent.stop().await;
    assert_eq!(committed(&brokers, 1).await, [(0, 41)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_partitions_and_the_last_has_all() {
    let brokers = brokers(4);
    let destination = Destination::open();
    let one = Agent::start(&reading(&brokers), &destination);
    let other = Agent::start(&reading(&brokers), &destination);
    let partitions = |agent: &Agent| agent.counters.partitions.load(Ordering::Relaxed);
    until(|| partitions(&one) == 2 && partitions(&other) == 2).await;
    for partition in 0..4 {
        write_lines(&brokers, partition, &lines(partition, 0..20)).await;
    }
    destination.taken(80).await;
    one.stop().await;
    for partition in 0..4 {
        write_lines(&brokers, partition, &lines(partition, 20..40)).await;
    }
    let taken = destination.taken(160).await;
    other.stop().await;
    for partition in 0..4 {
        assert_eq!(
            of(partition, &taken),
            lines(partition, 0..40),
            "nothing twice, all in order"
        );
    }
}

fn request(body: Bytes) -> Request {
    Request {
        signal: Signal::Logs,
        body,
        metadata: Metadata::default(),
        deadline: Instant::now() + PATIENCE,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_written_once_through_errors_of_brokers() {
    let brokers = brokers(1);
    let exporter = export_kafka::KafkaExporter::new("kafka", &writing(&brokers), 7).unwrap();
    let written = lines(0, 0..20);
    for line in &written {
        brokers.request_errors(
            RDKafkaApiKey::Produce,
            &[
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ],
        );
        assert_eq!(exporter.export(request(logs(line))).await, Ok(Bytes::new()));
    }
    let destination = Destination::open();
    let agent = Agent::start(&reading(&brokers), &destination);
    assert_eq!(destination.taken(20).await, written);
    agent.stop().await;
    assert_eq!(destination.taken(20).await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_broker_takes_in_time_is_the_callers_to_send_again() {
    let brokers = brokers(1);
    for broker in 1..=3 {
        brokers.broker_down(broker).unwrap();
    }
    let mut settings = writing(&brokers);
    settings.timeout = Duration::from_millis(500);
    settings.retry_on_failure.enabled = false;
    let exporter = export_kafka::KafkaExporter::new("kafka", &settings, 7).unwrap();
    let answer = exporter.export(request(logs("nowhere"))).await;
    assert!(matches!(answer, Err(Refusal::Unavailable { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_message_goes_in_halves() {
    let brokers = brokers(1);
    let mut settings = writing(&brokers);
    settings.producer.max_message_bytes = 4000;
    let exporter = export_kafka::KafkaExporter::new("kafka", &settings, 7).unwrap();
    let texts: Vec<String> = (0..40)
        .map(|number| format!("p0 {number} {}", "x".repeat(200)))
        .collect();
    let body: Vec<u8> = texts.iter().flat_map(|text| logs(text)).collect();
    assert!(
        exporter
            .export(request(body.clone().into()))
            .await
            .is_err_and(|refusal| refusal.is_too_large())
    );
    let halving = Halving::around(Arc::new(exporter));
    halving.export(request(body.into())).await.unwrap();
    let destination = Destination::open();
    let agent = Agent::start(&reading(&brokers), &destination);
    assert_eq!(destination.taken(40).await, texts);
    agent.stop().await;
}
