//! What the way to the model costs beside the model, when every template is new.
//!
//! In: distinct lines of the recording, and the number of rounds. Out: templates per CPU second through a bare loop over ONNX
//! Runtime and through the agent's queue, in turns, and the ratio of their medians. Promise: both tokenise the same texts, with
//! the same file and the same settings of the runtime, one thread each, and give the same vectors. The bare loop knows
//! all texts at once, which the queue does not. Absent on purpose: wall time, for others may use the machine.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use harbinger::{
    edge::model::{OnnxEmbedder, Settings as ModelSettings},
    engine::{
        embed::{Embedder, Embedding},
        front::BatchTemplate,
        text::TemplateKey,
    },
    pipeline::embedding::{Embeddings, Settings},
};
use inputs::Recording;
use ort::{
    ep,
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};
use rustix::time::{ClockId, clock_gettime};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines of a round.
const TEXTS: usize = 768;

fn main() -> Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "5".to_owned());
    match argument.as_str() {
        "bare" | "queue" => measure(&argument),
        rounds => compare(rounds.parse().context("usage: cold_templates [ROUNDS]")?),
    }
}

/// Both ways in turns, each in a process of its own: there is one runtime a process.
fn compare(rounds: usize) -> Result<()> {
    let program = std::env::current_exe()?;
    let (mut bare_rates, mut queue_rates, mut vectors) = (Vec::new(), Vec::new(), BTreeSet::new());
    for _ in 0..rounds {
        for (way, rates) in [("bare", &mut bare_rates), ("queue", &mut queue_rates)] {
            let output = Command::new(&program).arg(way).stderr(Stdio::inherit()).output()?;
            ensure!(output.status.success(), "{way}: {}", output.status);
            let said = String::from_utf8(output.stdout)?;
            let (rate, hash) = said.trim().split_once(' ').context("a rate and a hash")?;
            rates.push(rate.parse::<f64>()?);
            vectors.insert(hash.to_owned());
        }
    }
    ensure!(vectors.len() == 1, "the queue gives other vectors than the loop");
    let (bare, queue) = (median(bare_rates)?, median(queue_rates)?);
    println!(
        "{rounds} rounds: {queue:.1} templates per CPU second through the queue, {bare:.1} through a bare loop: {:.1} %",
        100.0 * queue / bare
    );
    Ok(())
}

/// One way, once: prints templates per CPU second and a hash of the vectors.
fn measure(way: &str) -> Result<()> {
    let recording = Recording::read()?;
    let (every, texts) = (recording.len() / TEXTS, recording.texts());
    let mut texts: Vec<Arc<str>> = texts
        .iter()
        .step_by(every.max(1))
        .map(|text| Arc::from(&**text))
        .collect();
    texts.sort_unstable();
    texts.dedup();
    // Back to an order that has nothing to do with length.
    texts.sort_by_key(|text| TemplateKey::of(text).0);
    let assets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let settings = ModelSettings {
        model_directory: Some(assets.join("model")),
        runtime_library: Some(assets.join("libonnxruntime.so")),
        ..ModelSettings::default()
    };
    let (vectors, spent) = if way == "bare" {
        let mut bare = Bare::open(&settings)?;
        bare.embed(texts.get(..1).unwrap_or_default())?;
        let begun = cpu_time();
        (bare.embed(&texts)?, cpu_time() - begun)
    } else {
        let embedder: Arc<dyn Embedder> = Arc::new(OnnxEmbedder::load(&settings)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let begun = cpu_time();
        (
            runtime.block_on(through_the_queue(&texts, &embedder))?,
            cpu_time() - begun,
        )
    };
    let bytes: Vec<u8> = vectors
        .iter()
        .flat_map(|vector| vector.as_slice())
        .flat_map(|number| number.to_le_bytes())
        .collect();
    println!("{} {}", texts.len() as f64 / spent.as_secs_f64(), xxh3_64(&bytes));
    Ok(())
}

/// All at once, as one request with nothing but new templates.
async fn through_the_queue(texts: &[Arc<str>], embedder: &Arc<dyn Embedder>) -> Result<Vec<Embedding>> {
    let settings = Settings {
        deadline: Duration::from_secs(3600),
        cpu_limit_percentage: 100,
        ..Settings::default()
    };
    let embeddings = Embeddings::start(
        &settings,
        Some(Arc::clone(embedder)),
        Arc::default(),
        Arc::new(|_| Ok(())),
        Arc::new(|_, _| {}),
    )?;
    let template = |text: &Arc<str>| BatchTemplate {
        key: TemplateKey::of(text),
        text: Arc::clone(text),
        records: 1,
    };
    let templates: Vec<BatchTemplate> = texts.iter().map(template).collect();
    let latest = tokio::time::Instant::now() + settings.deadline;
    let fetched = embeddings.fetch(&templates, latest).await;
    let all: Option<Vec<Embedding>> = fetched.embeddings.into_iter().collect();
    all.context("a text has no embedding")
}

/// What anyone would write who wants nothing but vectors.
struct Bare {
    session: Session,
    tokenizer: Tokenizer,
    max_batch_tokens: usize,
}

impl Bare {
    fn open(settings: &ModelSettings) -> Result<Self> {
        let directory = settings.model_directory.as_deref().context("no directory")?;
        let problem = |problem: tokenizers::Error| anyhow!("{problem}");
        let mut tokenizer = Tokenizer::from_file(directory.join("tokenizer.json")).map_err(problem)?;
        let truncation = tokenizers::TruncationParams {
            max_length: settings.max_tokens,
            ..Default::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(problem)?;
        tokenizer.with_padding(None);
        let library = settings.runtime_library.as_deref().context("no library")?;
        let environment = ort::init_from(library)?.with_telemetry(false).build()?;
        let session = Session::builder(&environment)
            .and_then(|builder| {
                Ok(builder.with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?)
            })
            .and_then(|builder| Ok(builder.with_memory_pattern(false)?.with_intra_threads(1)?))
            .and_then(|builder| Ok(builder.with_optimization_level(GraphOptimizationLevel::Level3)?))
            .and_then(|mut builder| builder.commit_from_file(directory.join("model.onnx")))?;
        Ok(Self {
            session,
            tokenizer,
            max_batch_tokens: settings.max_batch_tokens,
        })
    }

    fn embed(&mut self, texts: &[Arc<str>]) -> Result<Vec<Embedding>> {
        let mut encodings = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let encoding = self
                .tokenizer
                .encode(&**text, true)
                .map_err(|problem| anyhow!("{problem}"))?;
            encodings.push((place, encoding));
        }
        encodings.sort_by_key(|(_, encoding)| encoding.len());
        let mut vectors = Vec::new();
        for of_a_length in encodings.chunk_by(|(_, left), (_, right)| left.len() == right.len()) {
            let tokens = of_a_length.first().map_or(1, |(_, encoding)| encoding.len());
            for batch in of_a_length.chunks((self.max_batch_tokens / tokens).max(1)) {
                let ids = batch.iter().flat_map(|(_, encoding)| encoding.get_ids());
                let ids: Vec<i64> = ids.map(|id| i64::from(*id)).collect();
                let (shape, mask) = ([batch.len(), tokens], vec![1i64; ids.len()]);
                let inputs = ort::inputs![
                    "input_ids" => Tensor::from_array((shape, ids))?,
                    "attention_mask" => Tensor::from_array((shape, mask))?
                ];
                let outputs = self.session.run(inputs)?;
                let output = outputs.values().next().context("no output")?;
                let (_, numbers) = output.try_extract_tensor::<f32>()?;
                for ((place, _), vectors_of_text) in batch.iter().zip(numbers.chunks_exact(numbers.len() / batch.len()))
                {
                    let mut sum = vec![0f32; harbinger::engine::embed::DIMENSIONS];
                    for vector in vectors_of_text.chunks_exact(sum.len()) {
                        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
                    }
                    vectors.push((*place, Embedding::new(sum)?));
                }
            }
        }
        vectors.sort_by_key(|(place, _)| *place);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }
}

fn median(mut numbers: Vec<f64>) -> Result<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().context("no rounds")
}

/// What this process has had of the CPUs.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
