//! A model that is found at once and loaded when it is first asked for anything, so that nothing at the start waits for it.
//!
//! What enters: settings. What leaves: the model's version at once (what was learned with it can be read), and embeddings as
//! soon as it is loaded: whoever asks first loads it, and whoever asks meanwhile waits. Promises: a file that is missing is
//! told at once; one that is unusable fails each call with the reason. Absent on purpose: another attempt; whoever mends the
//! file starts anew.

use std::sync::OnceLock;

use super::{Files, ModelError, OnnxEmbedder, Settings};
use crate::engine::embed::{EmbedError, Embedder, Embedding, Landed};

/// See the module.
#[derive(Debug)]
pub struct LaterModel {
    settings: Settings,
    files: Files,
    loaded: OnceLock<Result<OnnxEmbedder, String>>,
}

impl LaterModel {
    /// Looks where the model is.
    ///
    /// # Errors
    /// A file is missing or cannot be read, see [`ModelError`].
    pub fn find(settings: &Settings) -> Result<Self, ModelError> {
        Ok(Self {
            settings: settings.clone(),
            files: Files::find(settings)?,
            loaded: OnceLock::new(),
        })
    }

    fn loaded(&self) -> Result<&OnnxEmbedder, EmbedError> {
        let load = || OnnxEmbedder::open(&self.settings, &self.files).map_err(|problem| problem.to_string());
        let loaded = self.loaded.get_or_init(load).as_ref();
        loaded.map_err(|problem| EmbedError::Failed(problem.clone()))
    }
}

impl Embedder for LaterModel {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        self.loaded()?.embed(texts)
    }

    fn embed_in_parts(&self, texts: &[&str], landed: &mut Landed<'_>) -> Result<(), EmbedError> {
        self.loaded()?.embed_in_parts(texts, landed)
    }

    fn model_version(&self) -> &str {
        &self.files.version
    }
}
