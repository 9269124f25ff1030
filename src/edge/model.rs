//! all-MiniLM-L6-v2 (or any sentence-transformers export of its shape) through ONNX Runtime.
//!
//! What enters: a directory holding `model.onnx` and `tokenizer.json`, a runtime library, and texts. What leaves: unit
//! vectors: mean of the token vectors, scaled to length one, as the model was trained to be used (Reimers and Gurevych,
//! Sentence-BERT, 2019). Promises: nothing is ever downloaded; what is missing is named together with every place that was
//! looked at and the command that fetches it; only texts of the same length share a batch, so that nothing is padded and no
//! number depends on padding; as many threads as like embed at once, each further one with a session of its own (45 MiB).
//! Absent on purpose: deadlines, queues and limits of CPU (`pipeline::embedding`), GPUs.

mod files;
mod later;
mod vocabulary;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    ep,
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};
use serde::{Deserialize, Serialize};
use tokenizers::{Encoding, Tokenizer, TruncationParams};
use vocabulary::Vocabulary;

use crate::engine::embed::{DIMENSIONS, EmbedError, Embedder, Embedding, Landed};
use files::Files;
pub use files::{MODEL_DIRECTORY_VARIABLE, RUNTIME_LIBRARY_VARIABLE};
pub use later::LaterModel;

/// Where the model and its runtime are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory with `model.onnx` and `tokenizer.json`; without it `$HARBINGER_MODEL_DIR`, else `assets/model` nearby.
    pub model_directory: Option<PathBuf>,
    /// The ONNX Runtime library; without it `$ORT_DYLIB_PATH`, else `assets/libonnxruntime.so` nearby.
    pub runtime_library: Option<PathBuf>,
    /// Tokens of a text that are read; the rest is cut.
    pub max_tokens: usize,
    /// Tokens that go through the model at once: bounds its memory, and the time until the first of them has its vector.
    pub max_batch_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model_directory: None,
            runtime_library: None,
            max_tokens: 256,
            max_batch_tokens: 512,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !(8..=512).contains(&self.max_tokens) {
            return Err(format!(
                "max_tokens: {} is not between 8 and 512; write 256",
                self.max_tokens
            ));
        }
        if self.max_batch_tokens < self.max_tokens {
            return Err(format!(
                "max_batch_tokens: less than max_tokens ({}); write 512",
                self.max_tokens
            ));
        }
        Ok(())
    }
}

/// Why there is no model. Each names what to put where.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Fetch the files, or say where they are.
    #[error(
        "{what} is missing; looked for {}\nFetch it with `make assets`, or name it by `embedding.{key}` or ${variable}",
        listed(.tried)
    )]
    Missing {
        /// The file.
        what: &'static str,
        /// Every path that was tried.
        tried: Vec<PathBuf>,
        /// The key that names it.
        key: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
    },
    /// The library is of another kind or version: fetch the right one.
    #[error(
        "{path} is not an ONNX Runtime library that works here: {problem}\nFetch one with `make assets` (1.24 or newer)"
    )]
    Library {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        problem: String,
    },
    /// The model cannot be used: fetch it again, or use another export.
    #[error(
        "{path} is not a usable sentence model: {problem}\nFetch one with `make assets`, or export one with {DIMENSIONS} dimensions"
    )]
    Model {
        /// The model's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer cannot be used: fetch it again.
    #[error("{path} is not a usable tokenizer: {problem}\nFetch it with `make assets`")]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// A loaded model.
#[derive(Debug)]
pub struct OnnxEmbedder {
    /// Those that nobody uses: a session runs for one thread at a time.
    sessions: Mutex<Vec<Session>>,
    environment: Environment,
    model: PathBuf,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    wants_token_types: bool,
    max_batch_tokens: usize,
    version: String,
}

impl OnnxEmbedder {
    /// Loads runtime, model and tokenizer, and tries them on a sentence.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(settings: &Settings) -> Result<Self, ModelError> {
        Self::open(settings, &Files::find(settings)?)
    }

    fn open(settings: &Settings, files: &Files) -> Result<Self, ModelError> {
        let Files {
            library,
            model,
            tokenizer,
            version,
        } = files;
        let environment = start_runtime(library)?;
        let unusable = |problem: String| ModelError::Model {
            path: model.clone(),
            problem,
        };
        let session = open(&environment, model).map_err(|problem| unusable(problem.to_string()))?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let wants_token_types = inputs.contains(&"token_type_ids");
        if !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
            return Err(unusable(format!(
                "its inputs are {inputs:?}, not input_ids and attention_mask"
            )));
        }
        let words = open_tokenizer(tokenizer, settings.max_tokens)?;
        let embedder = Self {
            version: version.clone(),
            vocabulary: Vocabulary::of(&words),
            tokenizer: words,
            sessions: Mutex::new(vec![session]),
            environment,
            model: model.clone(),
            wants_token_types,
            max_batch_tokens: settings.max_batch_tokens,
        };
        embedder
            .embed(&["a first sentence"])
            .map_err(|problem| unusable(problem.to_string()))?;
        Ok(embedder)
    }

    /// A session that nobody uses, or another one.
    fn session(&self) -> Result<Session, EmbedError> {
        let spare = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match spare {
            Some(session) => Ok(session),
            None => open(&self.environment, &self.model).map_err(failed),
        }
    }

    /// One run of the model over texts of the same length; rows in their order.
    fn run(&self, batch: &[&Encoding], tokens: usize) -> Result<Vec<Embedding>, EmbedError> {
        let shape = [batch.len(), tokens];
        let tensor = |numbers: &dyn Fn(&Encoding) -> &[u32]| {
            let all = batch.iter().flat_map(|encoding| numbers(encoding));
            Tensor::from_array((shape, all.map(|number| i64::from(*number)).collect::<Vec<_>>())).map_err(failed)
        };
        let mut inputs = vec![
            ("input_ids", tensor(&|encoding| encoding.get_ids())?),
            ("attention_mask", tensor(&|encoding| encoding.get_attention_mask())?),
        ];
        if self.wants_token_types {
            inputs.push(("token_type_ids", tensor(&|encoding| encoding.get_type_ids())?));
        }
        let mut session = self.session()?;
        let rows = rows(&mut session, inputs, batch.len(), tokens);
        // After a panic it is not put back, and the next one who needs a session opens another.
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        rows
    }

    /// Places of texts that go together: of one length, not too many tokens, the earliest first.
    fn batches(&self, encodings: &[Encoding]) -> Vec<Vec<usize>> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, encoding) in encodings.iter().enumerate() {
            by_length.entry(encoding.len().max(1)).or_default().push(place);
        }
        let mut batches: Vec<Vec<usize>> = (by_length.into_iter())
            .flat_map(|(tokens, places)| {
                let most = (self.max_batch_tokens / tokens).max(1);
                places.chunks(most).map(<[usize]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        batches.sort_unstable();
        batches
    }
}

/// What the model makes of its inputs: a vector for each text.
fn rows(
    session: &mut Session,
    inputs: Vec<(&str, Tensor<i64>)>,
    texts: usize,
    tokens: usize,
) -> Result<Vec<Embedding>, EmbedError> {
    let outputs = session.run(inputs).map_err(failed)?;
    let Some(output) = outputs.values().next() else {
        return Err(EmbedError::Failed("the model has no output".to_owned()));
    };
    let (shape, numbers) = output.try_extract_tensor::<f32>().map_err(failed)?;
    let shape: Vec<usize> = shape.iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
    match shape.as_slice() {
        [rows, DIMENSIONS] if *rows == texts => numbers
            .chunks_exact(DIMENSIONS)
            .map(|row| Ok(Embedding::new(row.to_vec())?))
            .collect(),
        [rows, length, DIMENSIONS] if *rows == texts && *length == tokens => numbers
            .chunks_exact(tokens * DIMENSIONS)
            .map(|vectors| Ok(Embedding::new(sum(vectors))?))
            .collect(),
        other => Err(EmbedError::Failed(format!(
            "the model's output has the shape {other:?}, not [{texts}, {tokens}, {DIMENSIONS}]"
        ))),
    }
}

impl Embedder for OnnxEmbedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let mut embeddings: Vec<Option<Embedding>> = vec![None; texts.len()];
        self.embed_in_parts(texts, &mut |part| {
            for (place, embedding) in part {
                if let Some(slot) = embeddings.get_mut(place) {
                    *slot = Some(embedding);
                }
            }
            ControlFlow::Continue(())
        })?;
        let all: Option<Vec<Embedding>> = embeddings.into_iter().collect();
        all.ok_or_else(|| EmbedError::Failed("the model gave fewer rows than texts".to_owned()))
    }

    fn embed_in_parts(&self, texts: &[&str], landed: &mut Landed<'_>) -> Result<(), EmbedError> {
        let mut encodings = Vec::with_capacity(texts.len());
        for text in texts {
            encodings.push(self.tokenizer.encode(*text, true).map_err(failed)?);
        }
        for places in self.batches(&encodings) {
            let batch: Vec<&Encoding> = places.iter().filter_map(|place| encodings.get(*place)).collect();
            let tokens = batch.first().map_or(1, |encoding| encoding.len());
            let rows = self.run(&batch, tokens)?;
            let part = (places.into_iter().zip(rows).zip(batch))
                .map(|((place, row), encoding)| {
                    let text = texts.get(place).copied().unwrap_or_default();
                    (
                        place,
                        row.with_unknown_share(self.vocabulary.unknown_share(text, encoding)),
                    )
                })
                .collect();
            if landed(part).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn model_version(&self) -> &str {
        &self.version
    }
}

/// Sum of a text's token vectors; dividing it by their count is left to the scaling to length one.
fn sum(vectors: &[f32]) -> Vec<f32> {
    let mut sum = vec![0f32; DIMENSIONS];
    for vector in vectors.chunks_exact(DIMENSIONS) {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    sum
}

fn failed(problem: impl std::fmt::Display) -> EmbedError {
    EmbedError::Failed(problem.to_string())
}

/// Loads the library by its path: left to itself, the runtime would panic on the first use when it is missing. There is
/// one runtime a process; once one works, later calls get the same.
fn start_runtime(path: &Path) -> Result<Environment, ModelError> {
    static RUNTIME: Mutex<Option<Environment>> = Mutex::new(None);
    let refused = |problem: &dyn std::fmt::Display| ModelError::Library {
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = runtime.as_ref() {
        return Ok(environment.clone());
    }
    let environment = ort::init_from(path).map_err(|problem| refused(&problem))?;
    let environment = environment
        .with_name("harbinger")
        .with_telemetry(false)
        .build()
        .map_err(|problem| refused(&problem))?;
    *runtime = Some(environment.clone());
    Ok(environment)
}

/// One thread a session, and no arena: memory goes back after a burst of new templates.
fn open(environment: &Environment, model: &Path) -> Result<Session, Box<dyn std::error::Error>> {
    Ok(Session::builder(environment)?
        .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?
        .with_memory_pattern(false)?
        .with_intra_threads(1)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .commit_from_file(model)?)
}

fn open_tokenizer(path: &Path, max_tokens: usize) -> Result<Tokenizer, ModelError> {
    let unusable = |problem: tokenizers::Error| ModelError::Tokenizer {
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let mut tokenizer = Tokenizer::from_file(path).map_err(unusable)?;
    let truncation = TruncationParams {
        max_length: max_tokens,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).map_err(unusable)?;
    // The file asks for 128 tokens whatever the text; here nothing is padded.
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Gives the system back what is free in the C library's heap, where the runtime computes: what it took to build a session is as
/// much again as the session keeps, and a batch of long texts leaves tens of MiB. Takes milliseconds.
#[allow(unsafe_code)] // that heap has no other handle
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}
