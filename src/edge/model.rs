//! all-MiniLM-L6-v2 (or any sentence-transformers export of its shape) through ONNX Runtime.
//!
//! What enters: a directory holding `model.onnx` and `tokenizer.json`, a runtime library, and texts. What leaves: unit
//! vectors: mean of the token vectors over the attention mask, scaled to length one, as the model was trained to be used
//! (Reimers and Gurevych, Sentence-BERT, 2019). Promises: nothing is ever downloaded; what is missing is named together
//! with every place that was looked at and the command that fetches it; texts of like length share a batch, so little is
//! padded. Absent on purpose: deadlines and queues (`pipeline::embedding`), GPUs.

use std::{
    env,
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
use tokenizers::{Encoding, ModelWrapper, Tokenizer, TruncationParams};
use xxhash_rust::xxh3::Xxh3;

use crate::engine::embed::{DIMENSIONS, EmbedError, Embedder, Embedding};

/// What the environment calls the model's directory.
pub const MODEL_DIRECTORY_VARIABLE: &str = "HARBINGER_MODEL_DIR";

/// What the environment calls the runtime library; ONNX Runtime's own name for it.
pub const RUNTIME_LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

const LIBRARY: &str = "libonnxruntime.so";
const MODEL: &str = "model.onnx";
const TOKENIZER: &str = "tokenizer.json";

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
    /// Tokens, padding included, that go through the model at once: bounds its memory.
    pub max_batch_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model_directory: None,
            runtime_library: None,
            max_tokens: 256,
            max_batch_tokens: 2048,
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
                "max_batch_tokens: less than max_tokens ({}); write 2048",
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
    /// ONNX Runtime wants a session for itself while it runs.
    session: Mutex<Session>,
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
        let library = find(
            settings.runtime_library.clone(),
            RUNTIME_LIBRARY_VARIABLE,
            Path::new(LIBRARY),
            ("the ONNX Runtime library", "runtime_library"),
        )?;
        let in_directory = |file: &'static str, what: &'static str| {
            let given = settings.model_directory.as_ref().map(|directory| directory.join(file));
            find(
                given,
                MODEL_DIRECTORY_VARIABLE,
                &Path::new("model").join(file),
                (what, "model_directory"),
            )
        };
        let model = in_directory(MODEL, "the model")?;
        let tokenizer = in_directory(TOKENIZER, "the tokenizer")?;

        let environment = start_runtime(&library)?;
        let unusable = |problem: String| ModelError::Model {
            path: model.clone(),
            problem,
        };
        let session = open(&environment, &model).map_err(|problem| unusable(problem.to_string()))?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let wants_token_types = inputs.contains(&"token_type_ids");
        if !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
            return Err(unusable(format!(
                "its inputs are {inputs:?}, not input_ids and attention_mask"
            )));
        }
        let words = open_tokenizer(&tokenizer, settings.max_tokens)?;
        let embedder = Self {
            version: version(&model, &tokenizer).map_err(|problem| unusable(problem.to_string()))?,
            vocabulary: Vocabulary::of(&words),
            tokenizer: words,
            session: Mutex::new(session),
            wants_token_types,
            max_batch_tokens: settings.max_batch_tokens,
        };
        embedder
            .embed(&["a first sentence"])
            .map_err(|problem| unusable(problem.to_string()))?;
        Ok(embedder)
    }

    /// One run of the model over texts of like length; rows in the order of `batch`.
    fn run(&self, batch: &[&Encoding], tokens: usize) -> Result<Vec<Embedding>, EmbedError> {
        let shape = [batch.len(), tokens];
        let padded = |numbers: &dyn Fn(&Encoding) -> &[u32]| -> Vec<i64> {
            let row = |encoding: &&Encoding| -> Vec<i64> {
                let mut row: Vec<i64> = numbers(encoding).iter().map(|number| i64::from(*number)).collect();
                row.resize(tokens, 0);
                row
            };
            batch.iter().flat_map(row).collect()
        };
        let mask = padded(&|encoding| encoding.get_attention_mask());
        let tensor = |numbers: Vec<i64>| Tensor::from_array((shape, numbers)).map_err(failed);
        let mut inputs = vec![
            ("input_ids", tensor(padded(&|encoding| encoding.get_ids()))?),
            ("attention_mask", tensor(mask.clone())?),
        ];
        if self.wants_token_types {
            inputs.push(("token_type_ids", tensor(padded(&|encoding| encoding.get_type_ids()))?));
        }
        // A panic in a run leaves the session as it was between runs.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(inputs).map_err(failed)?;
        let Some(output) = outputs.values().next() else {
            return Err(EmbedError::Failed("the model has no output".to_owned()));
        };
        let (shape, numbers) = output.try_extract_tensor::<f32>().map_err(failed)?;
        let shape: Vec<usize> = shape.iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
        match shape.as_slice() {
            [texts, DIMENSIONS] if *texts == batch.len() => numbers
                .chunks_exact(DIMENSIONS)
                .map(|row| Ok(Embedding::new(row.to_vec())?))
                .collect(),
            [texts, length, DIMENSIONS] if *texts == batch.len() && *length == tokens => numbers
                .chunks_exact(tokens * DIMENSIONS)
                .zip(mask.chunks_exact(tokens))
                .map(|(vectors, mask)| Ok(Embedding::new(mean(vectors, mask))?))
                .collect(),
            other => Err(EmbedError::Failed(format!(
                "the model's output has the shape {other:?}, not [{}, {tokens}, {DIMENSIONS}]",
                batch.len()
            ))),
        }
    }
}

impl Embedder for OnnxEmbedder {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let mut encodings = Vec::with_capacity(texts.len());
        for text in texts {
            encodings.push(self.tokenizer.encode(*text, true).map_err(failed)?);
        }
        let mut by_length: Vec<usize> = (0..encodings.len()).collect();
        by_length.sort_by_key(|index| encodings.get(*index).map_or(0, Encoding::len));
        let mut embeddings: Vec<Option<Embedding>> = vec![None; texts.len()];
        let mut rest = by_length.as_slice();
        while !rest.is_empty() {
            let (bucket, longer) = rest.split_at(self.bucket(rest, &encodings));
            let batch: Vec<&Encoding> = bucket.iter().filter_map(|index| encodings.get(*index)).collect();
            let tokens = batch.last().map_or(1, |longest| longest.len());
            for ((index, embedding), encoding) in bucket.iter().zip(self.run(&batch, tokens)?).zip(&batch) {
                if let (Some(slot), Some(text)) = (embeddings.get_mut(*index), texts.get(*index)) {
                    *slot = Some(embedding.with_unknown_share(self.vocabulary.unknown_share(text, encoding)));
                }
            }
            rest = longer;
        }
        let all: Option<Vec<Embedding>> = embeddings.into_iter().collect();
        all.ok_or_else(|| EmbedError::Failed("the model gave fewer rows than texts".to_owned()))
    }

    fn model_version(&self) -> &str {
        &self.version
    }
}

impl OnnxEmbedder {
    /// How many of the texts, shortest first, go together: not too many tokens, and at most a fifth of padding.
    fn bucket(&self, by_length: &[usize], encodings: &[Encoding]) -> usize {
        let length = |index: &usize| encodings.get(*index).map_or(1, Encoding::len);
        let shortest = by_length.first().map_or(1, length);
        let fits = |(place, index): &(usize, &usize)| {
            let tokens = length(index);
            (place + 1) * tokens <= self.max_batch_tokens && tokens * 4 <= shortest * 5 + 4
        };
        by_length.iter().enumerate().take_while(fits).count().max(1)
    }
}

/// What there is to tell whether a text is in a language that the model has learned.
#[derive(Clone, Copy, Debug)]
struct Vocabulary {
    /// What stands for what the tokenizer does not know.
    unknown: Option<u32>,
    /// Words are put together from the longest pieces there are, so that a strange one falls to pieces.
    is_word_piece: bool,
}

/// Pieces that a word of Latin letters may have, whatever their length: abbreviations (`sshd`, `psql`) and `à` are short.
const ABBREVIATION_PIECES: usize = 3;

/// Letters of Unicode's Latin blocks.
fn is_latin(letter: char) -> bool {
    matches!(letter, '\0'..'\u{250}' | '\u{1e00}'..='\u{1eff}')
}

impl Vocabulary {
    fn of(tokenizer: &Tokenizer) -> Self {
        let unknown = ["[UNK]", "<unk>"].iter().find_map(|name| tokenizer.token_to_id(name));
        Self {
            unknown,
            is_word_piece: matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)),
        }
    }

    /// Share of a text's tokens, of those that belong to words, whose word the model does not know. Masks like `<n>`,
    /// numbers and punctuation say nothing of the language; a text of nothing else is taken as known.
    ///
    /// The tokenizer of an English model knows nearly every letter of every script, so the unknown token alone tells
    /// little: what tells a foreign script is that its words fall to single letters. The number of pieces would not do:
    /// `NullPointerException` has five, but they mean something, and so do the pieces of a German word.
    fn unknown_share(&self, text: &str, encoding: &Encoding) -> f32 {
        let tokens: Vec<_> = (encoding.get_word_ids().iter())
            .zip(encoding.get_ids())
            .zip(encoding.get_offsets())
            .collect();
        let (mut all, mut unknown) = (0usize, 0usize);
        for pieces in tokens.chunk_by(|((left, _), _), ((right, _), _)| left == right) {
            let (Some(((Some(_), _), (start, _))), Some((_, (_, end)))) = (pieces.first(), pieces.last()) else {
                continue;
            };
            let word = text.get(*start..*end).unwrap_or_default();
            if !word.contains(char::is_alphabetic) {
                continue;
            }
            let in_letters = word.chars().count() < 2 * pieces.len();
            let abbreviation = word.chars().all(is_latin) && pieces.len() <= ABBREVIATION_PIECES;
            let no_word = pieces.iter().any(|((_, id), _)| self.unknown == Some(**id));
            all += pieces.len();
            if no_word || self.is_word_piece && in_letters && !abbreviation {
                unknown += pieces.len();
            }
        }
        unknown as f32 / all.max(1) as f32
    }
}

/// Mean of the vectors whose token is not padding.
fn mean(vectors: &[f32], mask: &[i64]) -> Vec<f32> {
    let mut sum = vec![0f32; DIMENSIONS];
    for (vector, _) in vectors
        .chunks_exact(DIMENSIONS)
        .zip(mask)
        .filter(|(_, mask)| **mask != 0)
    {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    // Dividing by the count is left to the scaling to length one.
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
    // The file asks for 128 tokens whatever the text; we pad a batch to its longest.
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// Names model and tokenizer by a hash of their bytes.
fn version(model: &Path, tokenizer: &Path) -> std::io::Result<String> {
    let mut hash = Xxh3::new();
    for path in [model, tokenizer] {
        hash.update(&std::fs::read(path)?);
    }
    Ok(format!("minilm-{:08x}", hash.digest() >> 32))
}

/// The first of: what the configuration says, what the environment says, `assets/` near by, the usual data directories.
fn find(
    given: Option<PathBuf>,
    variable: &'static str,
    below_assets: &Path,
    (what, key): (&'static str, &'static str),
) -> Result<PathBuf, ModelError> {
    // A path that somebody named is meant: nothing else is tried.
    let named = given.or_else(|| {
        let value = PathBuf::from(env::var_os(variable)?);
        Some(if value.is_dir() {
            value.join(below_assets.file_name()?)
        } else {
            value
        })
    });
    let tried = match named {
        Some(path) => vec![path],
        None => nearby()
            .into_iter()
            .map(|directory| directory.join(below_assets))
            .collect(),
    };
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(ModelError::Missing {
            what,
            tried,
            key,
            variable,
        }),
    }
}

/// Directories that may hold the assets: beside us, beside the program and above it, and where packages put data.
fn nearby() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("assets")];
    if let Ok(program) = env::current_exe() {
        directories.extend(
            program
                .ancestors()
                .skip(1)
                .take(4)
                .map(|directory| directory.join("assets")),
        );
    }
    if let Some(home) = env::var_os("XDG_DATA_HOME") {
        directories.push(Path::new(&home).join("harbinger"));
    } else if let Some(home) = env::var_os("HOME") {
        directories.push(Path::new(&home).join(".local/share/harbinger"));
    }
    directories.push(PathBuf::from("/usr/share/harbinger"));
    directories
}
