//! Recorded logs on their way out: the recording of real servers through the readers, the text room, and over gRPC.

use std::{collections::BTreeSet, path::Path};

use clap::Parser;
use harbinger::{
    commands::replay,
    edge::{
        files::{self, Row, to_requests},
        receive_grpc::Settings,
    },
    engine::{
        Settings as Engine,
        text::{Reader, Settings as Text, ids_of_text, shared_ids},
        view::View,
    },
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

use crate::otlp::{Recorder, Serving};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/recording/recording.jsonl.gz");

fn rows() -> Vec<Row> {
    let source = files::open(Path::new(RECORDING), &files::Settings::default()).unwrap();
    source.map(Result::unwrap).collect()
}

/// All of the recording is read, without a complaint, and its times ascend but for what servers log late.
#[test]
fn the_recording_is_read_whole() {
    let rows = rows();
    assert_eq!(rows.len(), 31_086);
    assert!(
        rows.iter()
            .all(|row| row.problem.is_none() && row.time_unix_nano.is_some())
    );
    let services: BTreeSet<&str> = rows.iter().filter_map(|row| row.service.as_deref()).collect();
    assert_eq!(
        services.into_iter().collect::<Vec<_>>(),
        ["nginx", "postgresql", "redis", "shop"]
    );
}

/// Masking finds the statements behind the lines: a few hundred, not tens of thousands, and refusals stay apart.
#[test]
fn the_recording_has_few_templates() {
    let settings = Text::default();
    let mut reader = Reader::new(&settings);
    let mut templates = BTreeSet::new();
    let mut texts = BTreeSet::new();
    for request in to_requests(rows(), 1000) {
        let bytes = request.encode_to_vec();
        for record in View::parse(&bytes).unwrap().records() {
            let text = reader.read(&record);
            texts.insert(text.canonical.to_owned());
            templates.insert(text.template.to_owned());
        }
    }
    assert!(texts.len() > 15_000, "{} texts", texts.len());
    assert!((200..400).contains(&templates.len()), "{} templates", templates.len());
    assert!(templates.iter().any(|template| template.contains("HTTP/<n> 502 ")));
}

/// The short ways change nothing: what a request of many records comes to, read by a front that has heard all of it before, is what
/// each record comes to by itself, read by one that has never heard anything.
#[test]
fn the_recording_reads_the_same_with_and_without_a_memory() {
    let front = Engine::default().front();
    let text = Text::default();
    let mut alone = Reader::new(&text);
    let requests: Vec<Vec<u8>> = to_requests(rows(), 1000)
        .map(|request| request.encode_to_vec())
        .collect();
    for _ in 0..2 {
        for request in &requests {
            front.prepare(&View::parse(request).unwrap(), 1);
        }
    }
    for request in &requests {
        let view = View::parse(request).unwrap();
        let batch = front.prepare(&view, 1);
        assert_eq!(batch.records.len(), view.len());
        for (observed, record) in batch.records.iter().zip(view.records()) {
            let said = alone.read(&record);
            let template = &batch.templates[observed.template().unwrap()];
            assert_eq!(
                (template.key, &*template.text),
                (said.key, said.template),
                "{}",
                said.canonical
            );
            let (mut of_text, mut ids) = (Vec::new(), Vec::new());
            ids_of_text(said.canonical, &mut of_text);
            shared_ids(&record, &of_text, &mut ids);
            assert_eq!(batch.ids_of(observed), ids, "{}", said.canonical);
        }
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    replay: replay::Args,
}

/// What the Collector wrote to the file arrives over gRPC as it was: every record, in order, resource and scope included.
#[tokio::test(flavor = "multi_thread")]
async fn replay_delivers_every_record() {
    let recorder = std::sync::Arc::new(Recorder::default());
    let serving = Serving::start(Settings::default(), recorder.clone()).await;
    let to = format!("http://{}", serving.address);
    let line = Line::parse_from(["replay", RECORDING, "--to", &to]);
    tokio::task::spawn_blocking(|| replay::run(line.replay))
        .await
        .unwrap()
        .unwrap();
    let flat = |requests: Vec<ExportLogsServiceRequest>| -> Vec<_> {
        let resources = requests.into_iter().flat_map(|request| request.resource_logs);
        resources
            .flat_map(|logs| {
                let resource = logs.resource.unwrap_or_default().encode_to_vec();
                let scopes = logs.scope_logs.into_iter();
                scopes.flat_map(move |scope| {
                    let from = (
                        resource.clone(),
                        scope.scope.clone().unwrap_or_default().encode_to_vec(),
                    );
                    scope
                        .log_records
                        .into_iter()
                        .map(move |record| (from.clone(), record.encode_to_vec()))
                })
            })
            .collect()
    };
    let arrived = recorder
        .bodies()
        .into_iter()
        .map(|body| ExportLogsServiceRequest::decode(body).unwrap())
        .collect();
    let expected = to_requests(rows(), usize::MAX).collect();
    assert!(flat(arrived) == flat(expected));
}
