//! What is made of files, and made anew when they change: certificates, keys, tokens, passwords.
//!
//! What enters: paths, how often to look, and how to make something of their contents. What leaves: the thing that is in
//! force. Promises: at the start a file that cannot be used is an error with its key, its path and what to do; later it
//! leaves what is in force alone and is said once. Contents are compared, not times: a secret that Kubernetes swaps by a
//! symbolic link, or a file written twice within a second, is seen. No content is ever in a message.
//! Absent on purpose: a task that watches. The files are looked at when somebody asks, at most once an interval, so that
//! nothing has to be stopped, and nobody who does not connect costs anything.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Larger files are no certificates.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A file that a setting names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Correct the path, or the permissions.
    #[error("{key}: cannot read {} ({source}): {}", path.display(), advice(source))]
    Unreadable {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Put something else into the file.
    #[error("{key}: {}: {problem}", path.display())]
    Unusable {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Set what is missing.
    #[error("{0}")]
    Missing(String),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "write the path of a file that exists",
        io::ErrorKind::PermissionDenied => "let the user that runs the agent read it",
        io::ErrorKind::FileTooLarge => "name another file",
        _ => "look at the file",
    }
}

/// A file, and the setting that names it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The setting, as `tls.cert_file`.
    pub key: &'static str,
    /// The path.
    pub path: PathBuf,
}

impl Named {
    /// That its content cannot be used.
    pub fn unusable(&self, problem: impl Into<String>) -> FileError {
        FileError::Unusable {
            key: self.key,
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    fn read(&self) -> Result<Vec<u8>, FileError> {
        read(&self.path).map_err(|source| FileError::Unreadable {
            key: self.key,
            path: self.path.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync>;

/// See the module.
pub struct Reloading<T>(Arc<Inner<T>>);

struct Inner<T> {
    files: Vec<Named>,
    interval: Duration,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    in_force: Arc<T>,
    /// Of the contents that it was made of.
    digest: Digest,
    next_look: Option<Instant>,
    /// What was said of files that could not be used.
    complaint: Option<String>,
}

type Digest = Vec<u8>;

impl<T> Clone for Reloading<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Reloading").field(&self.0.files).finish()
    }
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Reads the files, which `make` gets in this order. They are looked at again after `interval`; 0 s never.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(
        files: Vec<Named>,
        interval: Duration,
        make: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let contents = contents(&files)?;
        let state = State {
            in_force: Arc::new(make(&contents)?),
            digest: digest(&contents),
            next_look: next_look(interval, &files),
            complaint: None,
        };
        Ok(Self(Arc::new(Inner {
            files,
            interval,
            make: Box::new(make),
            state: Mutex::new(state),
        })))
    }

    /// What is in force; of files that are due to be looked at, what they hold now, if it can be used.
    pub async fn current(&self) -> Arc<T> {
        {
            let mut state = self.0.lock();
            match state.next_look {
                // Others go on with what is in force meanwhile.
                Some(due) if due <= Instant::now() => state.next_look = next_look(self.0.interval, &self.0.files),
                _ => return state.in_force.clone(),
            }
        }
        let inner = self.0.clone();
        // An error means that the runtime is ending.
        _ = tokio::task::spawn_blocking(move || inner.look()).await;
        self.0.lock().in_force.clone()
    }
}

impl<T> Inner<T> {
    fn look(&self) {
        let made = contents(&self.files).and_then(|contents| {
            let digest = digest(&contents);
            if self.lock().digest == digest {
                return Ok(None);
            }
            (self.make)(&contents).map(|made| Some((made, digest)))
        });
        let mut state = self.lock();
        match made {
            Ok(None) => state.complaint = None,
            Ok(Some((made, digest))) => {
                tracing::info!(files = %self.paths(), "reread: what they hold now is in force for new connections and calls");
                state.in_force = Arc::new(made);
                state.digest = digest;
                state.complaint = None;
            }
            Err(problem) => {
                let problem = problem.to_string();
                if state.complaint.as_ref() != Some(&problem) {
                    tracing::error!("{problem}; what was in force stays in force");
                    state.complaint = Some(problem);
                }
            }
        }
    }

    fn paths(&self) -> String {
        let paths: Vec<_> = self
            .files
            .iter()
            .map(|named| named.path.display().to_string())
            .collect();
        paths.join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next_look(interval: Duration, files: &[Named]) -> Option<Instant> {
    if interval.is_zero() || files.is_empty() {
        return None;
    }
    Instant::now().checked_add(interval)
}

fn contents(files: &[Named]) -> Result<Vec<Vec<u8>>, FileError> {
    files.iter().map(Named::read).collect()
}

fn digest(contents: &[Vec<u8>]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for content in contents {
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn number(path: &Path, interval: Duration) -> Result<Reloading<u32>, FileError> {
        let named = Named {
            key: "number_file",
            path: path.to_owned(),
        };
        let again = named.clone();
        Reloading::load(vec![named], interval, move |contents| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse().map_err(|_| again.unusable("no number: write one"))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_file_leaves_what_is_in_force_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("number");
        let refused = |path: &Path| number(path, INTERVAL).unwrap_err().to_string();
        let missing = refused(&path);
        assert!(missing.starts_with("number_file: cannot read ") && missing.ends_with("a file that exists"));
        std::fs::write(&path, "x").unwrap();
        assert!(refused(&path).ends_with("number: no number: write one"));

        std::fs::write(&path, "1").unwrap();
        let reloading = number(&path, INTERVAL).unwrap();
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*reloading.current().await, 1, "not before the interval is over");
        for (written, in_force) in [("2", 2), ("x", 2), ("3", 3)] {
            std::fs::write(&path, written).unwrap();
            tokio::time::advance(INTERVAL).await;
            assert_eq!(*reloading.current().await, in_force, "{written}");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(INTERVAL).await;
        assert_eq!(*reloading.current().await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_of_0_never_looks_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let reloading = number(&path, Duration::ZERO).unwrap();
        std::fs::write(&path, "2").unwrap();
        tokio::time::advance(Duration::from_secs(1 << 20)).await;
        assert_eq!(*reloading.current().await, 1);
    }
}
