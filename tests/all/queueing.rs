//! What a sending queue keeps, whatever happens: destinations that are down, hang or refuse, restarts, bad files.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use harbinger::{
    edge::{
        BoxFuture, Exporter, Keeper, Metadata, Refusal, Request, Signal,
        halving::Halving,
        queue::{
            DeadLetterSettings, Queue, Settings, Sizer, Storage, StorageSettings,
            dead_letters::{DeadLetters, DeadLettersError},
        },
        rejected_items,
    },
    pipeline::{counted::Counted, fan_out::FanOut},
    telemetry::{Metrics, Traces},
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use tokio::{sync::watch, time::Instant};

use crate::otlp::{logs, request};

/// What a destination does with requests.
#[derive(Clone, Debug, Default)]
enum Does {
    /// Takes all.
    #[default]
    Take,
    /// Never answers.
    Hang,
    /// Takes so many in all, then hangs.
    HangAfter(usize),
    /// Refuses all.
    Refuse(Refusal),
    /// Refuses what contains this.
    RefuseText(&'static str, Refusal),
    /// Refuses what is longer than so many bytes as too large.
    Limit(usize),
}

/// A destination that remembers what it took.
struct Destination {
    does: Mutex<Does>,
    taken: Mutex<Vec<Request>>,
    count: watch::Sender<usize>,
    asked: watch::Sender<usize>,
}

impl Destination {
    fn new(does: Does) -> Arc<Self> {
        Arc::new(Self {
            does: Mutex::new(does),
            taken: Mutex::default(),
            count: watch::Sender::new(0),
            asked: watch::Sender::new(0),
        })
    }

    /// The texts of all records it took, in order.
    fn texts(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().flat_map(|request| texts(&request.body)).collect()
    }

    async fn wait_for(&self, requests: usize) {
        self.count
            .subscribe()
            .wait_for(|count| *count >= requests)
            .await
            .unwrap();
    }

    async fn wait_for_asked(&self, requests: usize) {
        self.asked
            .subscribe()
            .wait_for(|asked| *asked >= requests)
            .await
            .unwrap();
    }

    async fn answer(&self, request: Request) -> Result<Bytes, Refusal> {
        self.asked.send_modify(|asked| *asked += 1);
        let does = self.does.lock().unwrap().clone();
        let has = |text: &str| texts(&request.body).iter().any(|known| known.contains(text));
        match does {
            Does::Hang => std::future::pending().await,
            Does::HangAfter(most) if *self.count.borrow() >= most => std::future::pending().await,
            Does::Refuse(refusal) => Err(refusal),
            Does::RefuseText(text, refusal) if has(text) => Err(refusal),
            Does::Limit(bytes) if request.body.len() > bytes => Err(too_large()),
            _ => {
                self.taken.lock().unwrap().push(request);
                self.count.send_modify(|count| *count += 1);
                Ok(Bytes::new())
            }
        }
    }
}

impl Exporter for Destination {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.answer(request))
    }
}

fn texts(body: &Bytes) -> Vec<String> {
    let request = ExportLogsServiceRequest::decode(body.clone()).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|resource| resource.scope_logs);
    scopes
        .flat_map(|scope| scope.log_records)
        .map(|record| match record.body.unwrap().value.unwrap() {
            opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// One request with these records.
fn several(records: impl IntoIterator<Item = String>) -> Bytes {
    let records: Vec<Bytes> = records.into_iter().map(|text| logs(&text)).collect();
    records.concat().into()
}

fn refused_for_good() -> Refusal {
    Refusal::Permanent {
        code: 3,
        message: "entry too old".into(),
        details: Bytes::new(),
    }
}

fn too_large() -> Refusal {
    Refusal::Permanent {
        code: 8,
        message: "larger than max".into(),
        details: Bytes::new(),
    }
}

fn storage(home: &Path) -> Arc<Storage> {
    Storage::open(&StorageSettings {
        directory: home.join("queue"),
        create_directory: true,
    })
    .unwrap()
}

fn open(home: &Path, settings: &Settings, destination: &Arc<Destination>) -> Queue {
    open_as("otlp_grpc", &storage(home), settings, destination)
}

fn open_as(name: &str, storage: &Arc<Storage>, settings: &Settings, destination: &Arc<Destination>) -> Queue {
    Queue::open(name, settings, storage.file(name), Arc::clone(destination) as _).unwrap()
}

/// Stops at once, whatever is under way. Returns what is left.
async fn stop(queue: Queue) -> usize {
    queue.drain(Instant::now()).await
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn known_loss_the_backlog_is_delivered_after_a_restart_in_order() {
    let home = tempfile::tempdir().unwrap();
    let down = Destination::new(Does::Hang);
    let queue = open(home.path(), &Settings::default(), &down);
    let metadata = Metadata(Arc::from([("x-scope-orgid".to_owned(), "tenant-a".to_owned())]));
    for number in numbers(0..20) {
        let request = Request {
            metadata: metadata.clone(),
            ..request(logs(&number))
        };
        assert_eq!(queue.export(request).await, Ok(Bytes::new()));
    }
    assert_eq!((queue.status().requests, queue.status().records), (20, 20));
    assert_eq!(stop(queue).await, 20);
    let up = Destination::new(Does::Take);
    // Smaller bounds now: what is there is delivered all the same.
    let settings = Settings {
        queue_size: 5,
        ..Settings::default()
    };
    let queue = open(home.path(), &settings, &up);
    up.wait_for(20).await;
    assert_eq!(up.texts(), numbers(0..20));
    assert!(
        up.taken
            .lock()
            .unwrap()
            .iter()
            .all(|request| request.metadata == metadata)
    );
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
}

#[tokio::test]
async fn known_loss_a_shutdown_while_the_destination_hangs_keeps_everything_and_repeats_only_what_was_under_way() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::HangAfter(3));
    let queue = open(home.path(), &Settings::default(), &destination);
    for number in numbers(0..6) {
        queue.export(request(logs(&number))).await.unwrap();
    }
    destination.wait_for_asked(4).await;
    assert_eq!(stop(queue).await, 3);
    let again = Destination::new(Does::Take);
    let queue = open(home.path(), &Settings::default(), &again);
    again.wait_for(3).await;
    assert_eq!([destination.texts(), again.texts()].concat(), numbers(0..6));
    assert_eq!(stop(queue).await, 0);
}

#[tokio::test]
async fn known_loss_a_drain_delivers_what_it_can_and_takes_nothing_more() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::Take);
    let queue = Arc::new(open(home.path(), &Settings::default(), &destination));
    for number in numbers(0..6) {
        queue.export(request(logs(&number))).await.unwrap();
    }
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
    assert_eq!(destination.texts(), numbers(0..6));
    let refusal = queue.export(request(logs("late"))).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal}");
}

#[tokio::test]
async fn known_loss_near_a_full_queue_nobody_waits_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::Take);
    let settings = Settings {
        queue_size: 2,
        num_consumers: 3,
        block_on_overflow: true,
        ..Settings::default()
    };
    let queue = Arc::new(open(home.path(), &settings, &destination));
    let mut callers = tokio::task::JoinSet::new();
    for number in numbers(0..60) {
        let queue = Arc::clone(&queue);
        callers.spawn(async move { queue.export(request(logs(&number))).await });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Bytes::new()));
    }
    destination.wait_for(60).await;
    let mut taken = destination.texts();
    taken.sort_by_key(|number| number.parse::<usize>().unwrap());
    assert_eq!(taken, numbers(0..60));
}

#[tokio::test]
async fn item_08_a_full_queue_refuses_with_a_wait_and_waits_when_told_within_the_callers_deadline() {
    for (sizer, queue_size) in [(Sizer::Requests, 1), (Sizer::Items, 1), (Sizer::Bytes, 20)] {
        let home = tempfile::tempdir().unwrap();
        let down = Destination::new(Does::Hang);
        for block_on_overflow in [false, true] {
            let settings = Settings {
                queue_size,
                sizer,
                block_on_overflow,
                ..Settings::default()
            };
            let queue = open(home.path(), &settings, &down);
            // The second time the queue is full of what the first left.
            let first = queue.export(Request {
                deadline: Instant::now(),
                ..request(logs("first"))
            });
            assert_eq!(first.await.is_ok(), !block_on_overflow, "{sizer:?}");
            let refusal = queue
                .export(Request {
                    deadline: Instant::now(),
                    ..request(logs("second"))
                })
                .await
                .unwrap_err();
            assert!(
                matches!(&refusal, Refusal::Unavailable { message, retry_after: Some(_) }
                    if message.contains("queue_size") && message.contains("otlp_grpc")),
                "{refusal}"
            );
            assert!(queue.counters().enqueue_failed_items.get(Signal::Logs) >= 1);
            stop(queue).await;
        }
    }
}

#[tokio::test]
async fn what_is_larger_than_the_queue_is_refused_for_good() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings {
        queue_size: 10,
        sizer: Sizer::Bytes,
        ..Settings::default()
    };
    let queue = open(home.path(), &settings, &Destination::new(Does::Take));
    let refusal = queue.export(request(logs("longer than ten bytes"))).await.unwrap_err();
    assert!(refusal.is_too_large(), "{refusal}");
}

/// The record that is too large by itself, and the others around it.
fn one_too_large() -> Vec<String> {
    let mut texts = numbers(0..9);
    texts.insert(4, "x".repeat(500));
    texts
}

#[tokio::test]
async fn known_loss_one_record_that_is_too_large_goes_to_the_dead_letters_and_the_rest_is_delivered() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::Limit(100));
    let queue = open(home.path(), &Settings::default(), &destination);
    queue.export(request(several(one_too_large()))).await.unwrap();
    queue.export(request(logs("behind"))).await.unwrap();
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
    let others = [numbers(0..9), vec!["behind".to_owned()]].concat();
    assert_eq!(destination.texts(), others);
    drop(queue);

    let letters = DeadLetters::open(&storage(home.path()), "otlp_grpc").unwrap();
    let mut found = Vec::new();
    letters
        .each(|letter| {
            found.push(letter);
            true
        })
        .unwrap();
    let [letter] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((letter.code, letter.message.as_str()), (8, "larger than max"));
    assert_eq!(texts(&letter.refused.as_ref().unwrap().body), ["x".repeat(500)]);
    letters.requeue(letter.number).unwrap();
    assert!(matches!(
        letters.discard(letter.number),
        Err(DeadLettersError::Missing { .. })
    ));
    assert_eq!(letters.waiting().unwrap(), 1);
    drop(letters);

    let destination = Destination::new(Does::Take);
    let queue = open(home.path(), &Settings::default(), &destination);
    destination.wait_for(1).await;
    assert_eq!(
        (destination.texts(), queue.status().dead_letters),
        (vec!["x".repeat(500)], 0)
    );
}

#[tokio::test]
async fn known_loss_what_is_left_of_a_halved_request_is_kept_without_what_was_delivered() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::Limit(100));
    let queue = open(home.path(), &Settings::default(), &destination);
    let texts: Vec<String> = (0..16).map(|number| format!("{number:>20}")).collect();
    *destination.does.lock().unwrap() = Does::HangAfter(1);
    // The first is taken whole; then everything is too large, twice, before it hangs.
    queue.export(request(logs("before"))).await.unwrap();
    destination.wait_for(1).await;
    *destination.does.lock().unwrap() = Does::Limit(300);
    queue.export(request(several(texts.clone()))).await.unwrap();
    destination.wait_for(2).await;
    *destination.does.lock().unwrap() = Does::Hang;
    let delivered = {
        stop(queue).await;
        destination.texts().len() - 1
    };
    let again = Destination::new(Does::Take);
    let queue = open(home.path(), &Settings::default(), &again);
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
    assert!(delivered > 0);
    assert_eq!(again.texts(), texts[delivered..]);
}

#[tokio::test]
async fn known_loss_without_a_queue_one_record_that_is_too_large_is_reported_and_the_rest_is_delivered() {
    let destination = Destination::new(Does::Limit(100));
    let metrics = Metrics::default();
    let halving = Counted::new(
        Arc::new(Halving::around(Arc::clone(&destination) as _)),
        "otlp_grpc",
        &[Signal::Logs],
        &metrics,
        Traces::default(),
    );
    let response = halving.export(request(several(one_too_large()))).await.unwrap();
    assert_eq!(rejected_items(&response), 1);
    assert!(String::from_utf8_lossy(&response).contains("larger than max"));
    assert_eq!(destination.texts(), numbers(0..9));
    let counts = (
        metrics.exporter_sent_log_records.of(["otlp_grpc"]).get(),
        metrics.exporter_rejected_log_records.of(["otlp_grpc"]).get(),
    );
    assert_eq!(counts, (9, 1));
    // Alone it is the whole request: the destination's own words go back.
    assert_eq!(halving.export(request(logs(&"x".repeat(500)))).await, Err(too_large()));
}

#[tokio::test]
async fn known_loss_a_corrupt_file_is_set_aside_and_a_new_one_begun() {
    for garbage in [&b"no database"[..], &[0; 100_000], b""] {
        let home = tempfile::tempdir().unwrap();
        let storage = storage(home.path());
        let path = storage.file("otlp_grpc").path();
        fs::write(&path, garbage).unwrap();
        let destination = Destination::new(Does::Take);
        let queue = open_as("otlp_grpc", &storage, &Settings::default(), &destination);
        queue.export(request(logs("x"))).await.unwrap();
        destination.wait_for(1).await;
        let aside = path.with_file_name("otlp_grpc.queue.corrupt-1");
        if !garbage.is_empty() {
            assert_eq!(fs::read(&aside).unwrap(), garbage);
            assert!(
                !fs::read(path.with_file_name("otlp_grpc.queue.corrupt-1.why"))
                    .unwrap()
                    .is_empty()
            );
        }
    }
}

#[tokio::test]
async fn known_loss_an_entry_that_was_damaged_is_set_aside_alone() {
    let home = tempfile::tempdir().unwrap();
    let queue = open(home.path(), &Settings::default(), &Destination::new(Does::Hang));
    let text = |number: usize| format!("{number}{}", "y".repeat(10_000));
    for number in 0..3 {
        queue.export(request(logs(&text(number)))).await.unwrap();
    }
    assert_eq!(stop(queue).await, 3);
    let path = home.path().join("queue/otlp_grpc.queue");
    let mut bytes = fs::read(&path).unwrap();
    // Copies of an entry may be anywhere in the file.
    let damaged = text(1).into_bytes();
    let places: Vec<usize> = (0..bytes.len() - 100)
        .filter(|at| bytes[*at..*at + 100] == damaged[..100])
        .collect();
    for at in &places {
        bytes[at + 50] = b'z';
    }
    assert!(!places.is_empty());
    fs::write(&path, bytes).unwrap();
    let destination = Destination::new(Does::Take);
    let queue = open(home.path(), &Settings::default(), &destination);
    destination.wait_for(2).await;
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
    assert_eq!(destination.texts(), [text(0), text(2)]);
    let set_aside = queue
        .counters()
        .set_aside_entries
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((set_aside, queue.status().dead_letters), (1, 1));
}

#[tokio::test]
async fn item_18_what_is_refused_for_good_keeps_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    for refusal in [
        refused_for_good(),
        Refusal::Malformed("not OTLP".into()),
        // The exporter's own retries have run out.
        Refusal::Unavailable {
            message: "down".into(),
            retry_after: None,
        },
    ] {
        let destination = Destination::new(Does::RefuseText("bad", refusal));
        let queue = open(home.path(), &Settings::default(), &destination);
        for text in ["1", "bad", "2"] {
            queue.export(request(logs(text))).await.unwrap();
        }
        assert_eq!(
            queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
            0
        );
        assert_eq!(destination.texts(), ["1", "2"]);
    }
    let letters = DeadLetters::open(&storage(home.path()), "otlp_grpc").unwrap();
    let mut codes = Vec::new();
    letters
        .each(|letter| {
            codes.push(letter.code);
            true
        })
        .unwrap();
    assert_eq!(codes, [3, 3, 14]);
}

#[tokio::test]
async fn a_full_dead_letter_store_stops_the_intake_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings {
        dead_letter: DeadLetterSettings { max_size_mib: 1 },
        ..Settings::default()
    };
    let queue = open(home.path(), &settings, &Destination::new(Does::Hang));
    let large = "x".repeat(1 << 20);
    queue.export(request(logs(&large))).await.unwrap();
    queue.export(request(logs("held"))).await.unwrap();
    assert_eq!(stop(queue).await, 2);
    let destination = Destination::new(Does::Refuse(refused_for_good()));
    let queue = open(home.path(), &settings, &destination);
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        1
    );
    assert_eq!(queue.status().dead_letters, 1);
    drop(queue);
    // Delivered after a restart, if it can be; but nothing new is taken until somebody has looked.
    let destination = Destination::new(Does::Take);
    let queue = open(home.path(), &settings, &destination);
    destination.wait_for(1).await;
    let refusal = queue.export(request(logs("new"))).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unavailable { message, .. } if message.contains("harbinger dead-letters list")),
        "{refusal}"
    );
    assert_eq!(destination.texts(), ["held"]);
    stop(queue).await;
    let letters = DeadLetters::open(&storage(home.path()), "otlp_grpc").unwrap();
    letters.discard(1).unwrap_err();
    let mut numbers = Vec::new();
    letters
        .each(|letter| {
            numbers.push(letter.number);
            true
        })
        .unwrap();
    letters.discard(numbers[0]).unwrap();
    drop(letters);
    let queue = open(home.path(), &settings, &destination);
    queue.export(request(logs("new"))).await.unwrap();
}

#[tokio::test]
async fn a_request_goes_to_all_destinations_or_as_few_as_can_be() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    let (roomy, tight) = (
        Settings::default(),
        Settings {
            queue_size: 1,
            ..Settings::default()
        },
    );
    let (direct, first, second) = (
        Destination::new(Does::Take),
        Destination::new(Does::Take),
        Destination::new(Does::Take),
    );
    let queues = [("otlp/1", &roomy, &first), ("otlp/2", &tight, &second)]
        .map(|(name, settings, to)| Arc::new(open_as(name, &storage, settings, to)));
    let keepers = queues
        .iter()
        .map(|queue| Arc::clone(queue) as Arc<dyn Keeper>)
        .collect();
    let all = FanOut::new(vec![Arc::clone(&direct) as _], keepers);

    // The one without a queue refuses: nobody has it.
    *direct.does.lock().unwrap() = Does::Refuse(refused_for_good());
    assert_eq!(all.export(request(logs("refused"))).await, Err(refused_for_good()));
    assert_eq!((queues[0].status().size, queues[1].status().size), (0, 0));

    // A queue is full: the one without is not even asked.
    *direct.does.lock().unwrap() = Does::Take;
    *second.does.lock().unwrap() = Does::Hang;
    all.export(request(logs("taken"))).await.unwrap();
    first.wait_for(1).await;
    let refusal = all.export(request(logs("full"))).await.unwrap_err();
    assert!(refusal.to_string().contains("otlp/2"), "{refusal}");
    assert_eq!(
        (direct.texts(), first.texts()),
        (vec!["taken".to_owned()], vec!["taken".to_owned()])
    );
    for queue in queues {
        queue.drain(Instant::now()).await;
    }
    let up = Destination::new(Does::Take);
    let _queue = open_as("otlp/2", &storage, &tight, &up);
    up.wait_for(1).await;
    assert_eq!(up.texts(), ["taken"]);
}

#[tokio::test]
async fn dead_letters_are_looked_at_sent_again_and_discarded_by_command() {
    let home = tempfile::tempdir().unwrap();
    let destination = Destination::new(Does::Refuse(refused_for_good()));
    let queue = open(home.path(), &Settings::default(), &destination);
    for text in ["one", "two"] {
        queue.export(request(logs(text))).await.unwrap();
    }
    let directory = home.path().join("queue");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_harbinger"))
            .arg("dead-letters")
            .args(arguments)
            .arg("--directory")
            .arg(&directory)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (done, _, error) = run(&["list"]);
    assert!(!done && error.contains("stop it, look, start it"), "{error}");
    assert_eq!(
        queue.drain(Instant::now() + std::time::Duration::from_secs(60)).await,
        0
    );
    drop(queue);

    let (done, list, error) = run(&["list"]);
    assert!(done && list.matches("entry too old").count() == 2, "{list}{error}");
    let (done, listed, error) = run(&["list", "--json"]);
    assert!(done, "{error}");
    let listed: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = listed
        .iter()
        .map(|letter| (&letter["signal"], &letter["items"]))
        .collect();
    assert_eq!(told, [(&"logs".into(), &1.into()); 2], "{listed:?}");
    let (done, shown, error) = run(&["show", "--all"]);
    assert!(done, "{error}");
    let lines: Vec<ExportLogsServiceRequest> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bodies: Vec<String> = lines
        .iter()
        .flat_map(|line| texts(&line.encode_to_vec().into()))
        .collect();
    assert_eq!(bodies, ["one", "two"]);
    let second = list.lines().nth(2).unwrap().split_whitespace().nth(1).unwrap();
    let (done, said, error) = run(&["requeue", second, "--exporter", "otlp_grpc"]);
    assert!(done && said.starts_with("1 requeued"), "{said}{error}");
    let (done, said, error) = run(&["discard", "--all"]);
    assert!(done && said.starts_with("1 discarded"), "{said}{error}");
    assert!(!run(&["discard", "7"]).0 && !run(&["show"]).0);
    assert!(run(&["list"]).1.contains("otlp_grpc: 1 requests wait"));

    let destination = Destination::new(Does::Take);
    let _queue = open(home.path(), &Settings::default(), &destination);
    destination.wait_for(1).await;
    assert_eq!(destination.texts(), ["two"]);
}
