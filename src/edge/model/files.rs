//! The files that a model is made of, found before anything of them is loaded.
//!
//! What enters: settings. What leaves: paths, and the version that the files' bytes make. Promise: the first file that is missing is
//! named, with every place that was looked at. Absent on purpose: whether the files can be used.

use std::{
    env,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use super::{ModelError, Settings};

/// What the environment calls the model's directory.
pub const MODEL_DIRECTORY_VARIABLE: &str = "HARBINGER_MODEL_DIR";

/// What the environment calls the runtime library; ONNX Runtime's own name for it.
pub const RUNTIME_LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

const LIBRARY: &str = "libonnxruntime.so";
const MODEL: &str = "model.onnx";
const TOKENIZER: &str = "tokenizer.json";

/// Where everything is that makes a model, and which it is.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) library: PathBuf,
    pub(super) model: PathBuf,
    pub(super) tokenizer: PathBuf,
    pub(super) version: String,
}

impl Files {
    /// Looks for all of them.
    pub(super) fn find(settings: &Settings) -> Result<Self, ModelError> {
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
        let version = version(&model, &tokenizer).map_err(|problem| ModelError::Model {
            path: model.clone(),
            problem: problem.to_string(),
        })?;
        Ok(Self {
            library,
            model,
            tokenizer,
            version,
        })
    }
}

/// Names model and tokenizer by a hash of their bytes, those of files beside the model that may hold its weights included.
fn version(model: &Path, tokenizer: &Path) -> std::io::Result<String> {
    let mut files = vec![tokenizer.to_owned()];
    for entry in fs::read_dir(model.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("model.") && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    let mut hash = Xxh3::new();
    let mut block = vec![0; 1 << 16];
    for path in files {
        let mut file = File::open(path)?;
        loop {
            let size = file.read(&mut block)?;
            let Some(read @ [_, ..]) = block.get(..size) else { break };
            hash.update(read);
        }
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
