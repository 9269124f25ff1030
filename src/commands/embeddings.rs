//! Embeddings of templates for whoever reads files: made ahead on threads of their own, or when they are asked for.
//!
//! What enters: templates in order of first sight. What leaves: their embeddings. Promises: a template is embedded once, as
//! long as there are no more than [`MEMO_TEMPLATES`]; beyond that the earliest are forgotten and embedded anew; an
//! embedding is the same whoever made it. Absent on purpose: deadlines; a file can wait.

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZero,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::engine::{
    embed::{EmbedError, Embedder, Embedding, Memo},
    front::BatchTemplate,
    text::TemplateKey,
};

/// Templates whose embeddings are at hand: as many as a state remembers by default, 30 MiB.
const MEMO_TEMPLATES: usize = 20_000;

/// Texts that are embedded at once: with more the model takes more memory, and no less time.
const EMBED_TEXTS: usize = 32;

/// Texts below which it is not worth to share them among threads.
const SHARED_TEXTS: usize = 8;

/// See the module.
pub struct Embeddings {
    embedder: Arc<dyn Embedder>,
    memo: Memo,
    ahead: Mutex<Ahead>,
    changed: Condvar,
}

/// What is embedded ahead.
#[derive(Default)]
struct Ahead {
    waiting: VecDeque<BatchTemplate>,
    /// Templates that wait or are being embedded.
    expected: BTreeSet<TemplateKey>,
    /// Templates that were asked for so far: no more than are remembered.
    asked: usize,
    has_ended: bool,
}

impl Embeddings {
    /// None yet.
    pub fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self {
            embedder,
            memo: Memo::new(MEMO_TEMPLATES),
            ahead: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The model.
    pub fn embedder(&self) -> &dyn Embedder {
        &*self.embedder
    }

    fn lock(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These will be needed.
    pub fn expect(&self, templates: &[BatchTemplate]) {
        let mut ahead = self.lock();
        for template in templates {
            let is_new = ahead.asked < MEMO_TEMPLATES
                && self.memo.get(template.key).is_none()
                && ahead.expected.insert(template.key);
            if is_new {
                ahead.asked += 1;
                ahead.waiting.push_back(template.clone());
            }
        }
        drop(ahead);
        self.changed.notify_all();
    }

    /// Nothing more will be expected once this is dropped.
    pub fn expecting(&self) -> Expecting<'_> {
        Expecting(self)
    }

    /// Embeds what is expected until nothing is any more. What the model fails on is left to whoever needs it.
    pub fn embed_ahead(&self) {
        let _left = Left(self);
        loop {
            let mut ahead = self.lock();
            while ahead.waiting.is_empty() && !ahead.has_ended {
                ahead = self.changed.wait(ahead).unwrap_or_else(PoisonError::into_inner);
            }
            let count = ahead.waiting.len().min(EMBED_TEXTS);
            let some: Vec<BatchTemplate> = ahead.waiting.drain(..count).collect();
            drop(ahead);
            if some.is_empty() {
                return;
            }
            // Failure is told by `of`, which tries again.
            let _ = self.embed(&some);
            let mut ahead = self.lock();
            some.iter().for_each(|template| {
                ahead.expected.remove(&template.key);
            });
            drop(ahead);
            self.changed.notify_all();
        }
    }

    fn embed(&self, templates: &[BatchTemplate]) -> Result<Vec<Embedding>, EmbedError> {
        let texts: Vec<&str> = templates.iter().map(|template| &*template.text).collect();
        let mut embedded = Vec::with_capacity(texts.len());
        for (texts, templates) in texts.chunks(EMBED_TEXTS).zip(templates.chunks(EMBED_TEXTS)) {
            let some = self.embedder.embed(texts)?;
            for (template, embedding) in templates.iter().zip(&some) {
                self.memo.insert(template.key, embedding.clone());
            }
            embedded.extend(some);
        }
        Ok(embedded)
    }

    /// The embeddings of these templates, in order.
    ///
    /// # Errors
    /// The model failed on a text.
    pub fn of(&self, templates: &[BatchTemplate]) -> Result<Vec<Option<Embedding>>, EmbedError> {
        let mut ahead = self.lock();
        while !ahead.expected.is_empty() && templates.iter().any(|template| ahead.expected.contains(&template.key)) {
            ahead = self.changed.wait(ahead).unwrap_or_else(PoisonError::into_inner);
        }
        drop(ahead);
        let mut all: Vec<Option<Embedding>> = templates.iter().map(|template| self.memo.get(template.key)).collect();
        let missing = || templates.iter().zip(&all).filter(|(_, embedding)| embedding.is_none());
        let missing: Vec<BatchTemplate> = missing().map(|(template, _)| template.clone()).collect();
        let mut embedded = self.embed(&missing)?.into_iter();
        for embedding in all.iter_mut().filter(|embedding| embedding.is_none()) {
            *embedding = embedded.next();
        }
        Ok(all)
    }
}

/// Somebody may still expect something.
pub struct Expecting<'e>(&'e Embeddings);

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.lock().has_ended = true;
        self.0.changed.notify_all();
    }
}

/// When nobody embeds ahead any more, however that ended, nobody may wait for it.
struct Left<'e>(&'e Embeddings);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut ahead = self.0.lock();
        ahead.waiting.clear();
        ahead.expected.clear();
        ahead.asked = MEMO_TEMPLATES;
        drop(ahead);
        self.0.changed.notify_all();
    }
}

/// What the model takes to run on more threads than this is not worth its memory.
const MAX_MODEL_THREADS: usize = 4;

/// How many threads there is a core for.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// A model on several threads, which share what it is given.
pub struct Shared<E> {
    embedder: E,
    threads: usize,
}

impl<E> Shared<E> {
    /// This model on so many threads: at least one, at most [`MAX_MODEL_THREADS`].
    pub fn new(embedder: E, threads: usize) -> Self {
        Self {
            embedder,
            threads: threads.clamp(1, MAX_MODEL_THREADS),
        }
    }
}

impl<E: Embedder> Embedder for Shared<E> {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        if self.threads == 1 || texts.len() < SHARED_TEXTS {
            return self.embedder.embed(texts);
        }
        // By length, and dealt like cards: each thread gets as much to do.
        let mut by_length: Vec<usize> = (0..texts.len()).collect();
        by_length.sort_by_key(|index| texts.get(*index).map_or(0, |text| text.len()));
        let hand = |thread: usize| by_length.iter().copied().skip(thread).step_by(self.threads);
        let play = &|thread: usize| {
            let texts: Vec<&str> = hand(thread).filter_map(|index| texts.get(index).copied()).collect();
            self.embedder.embed(&texts)
        };
        let played: Vec<Result<Vec<Embedding>, EmbedError>> = thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads)
                .map(|thread| scope.spawn(move || play(thread)))
                .collect();
            let first = play(0);
            let others = others.into_iter().map(|other| {
                let panicked = |_| Err(EmbedError::Failed("a thread of the model has ended".to_owned()));
                other.join().unwrap_or_else(panicked)
            });
            std::iter::once(first).chain(others).collect()
        });
        let mut all: Vec<Option<Embedding>> = vec![None; texts.len()];
        for (thread, embedded) in played.into_iter().enumerate() {
            for (index, embedding) in hand(thread).zip(embedded?) {
                if let Some(slot) = all.get_mut(index) {
                    *slot = Some(embedding);
                }
            }
        }
        let all: Option<Vec<Embedding>> = all.into_iter().collect();
        all.ok_or_else(|| EmbedError::Failed("the model gave fewer rows than texts".to_owned()))
    }

    fn model_version(&self) -> &str {
        self.embedder.model_version()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::engine::embed::DIMENSIONS;

    /// Says of a text how long it is, and counts what it was asked.
    #[derive(Default)]
    struct Lengths {
        texts: AtomicUsize,
    }

    fn embedding(text: &str) -> Embedding {
        let mut values = vec![1.0; DIMENSIONS];
        values[0] = text.len() as f32;
        Embedding::new(values).unwrap()
    }

    impl Embedder for Lengths {
        fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
            self.texts.fetch_add(texts.len(), Ordering::Relaxed);
            Ok(texts.iter().map(|text| embedding(text)).collect())
        }

        fn model_version(&self) -> &str {
            "lengths"
        }
    }

    fn templates(count: usize) -> Vec<BatchTemplate> {
        let template = |n: usize| BatchTemplate {
            key: TemplateKey(n as u64),
            text: Arc::from("x".repeat(1 + n * 7 % 50)),
            records: 1,
        };
        (0..count).map(template).collect()
    }

    #[test]
    fn a_model_on_several_threads_gives_what_it_gives_on_one_in_order() {
        for threads in [1, 2, 3] {
            let shared = Shared::new(Lengths::default(), threads);
            for count in [0, 1, 7, 8, 65] {
                let templates = templates(count);
                let texts: Vec<&str> = templates.iter().map(|template| &*template.text).collect();
                let expected: Vec<Embedding> = texts.iter().map(|text| embedding(text)).collect();
                assert_eq!(
                    shared.embed(&texts).unwrap(),
                    expected,
                    "{threads} threads, {count} texts"
                );
            }
        }
    }

    #[test]
    fn a_template_is_embedded_once_whether_ahead_or_when_it_is_needed() {
        let lengths = Arc::new(Lengths::default());
        let embeddings = Embeddings::new(Arc::clone(&lengths) as Arc<dyn Embedder>);
        let all = templates(200);
        thread::scope(|scope| {
            scope.spawn(|| embeddings.embed_ahead());
            let _expecting = embeddings.expecting();
            for some in all.chunks(30) {
                embeddings.expect(some);
                embeddings.expect(some);
            }
            let expected: Vec<_> = all.iter().map(|template| Some(embedding(&template.text))).collect();
            assert_eq!(embeddings.of(&all).unwrap(), expected);
        });
        assert_eq!(lengths.texts.load(Ordering::Relaxed), all.len());
        let late = templates(201);
        assert_eq!(embeddings.of(&late).unwrap().len(), late.len());
        assert_eq!(lengths.texts.load(Ordering::Relaxed), late.len());
    }
}
