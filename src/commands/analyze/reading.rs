//! Reads the inputs once, from end to end, and puts aside what is needed later: rows for annotated.csv, batches for judging.
//!
//! What enters: sources of rows. What leaves: two spools, which others read while they are written, and what was seen of
//! the inputs. A thread reads, some prepare stretches of rows side by side, one writes them in their order. Promises: no
//! row is dropped silently; the same whatever the number of threads; a few stretches are in memory at a time. Absent on
//! purpose: judgement, and order of time, which is only watched.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};
use prost::Message;

use super::{super::bad_rows::BadRows, batches, rows, spool::Spool};
use crate::{
    commands::{
        embeddings::Embeddings,
        offline::{self, CHUNK_ROWS},
    },
    edge::files::{self, Row, Source},
    engine::front::Front,
};

/// Stretches that wait before each thread that prepares them, and behind it.
const WAITING: usize = 2;

/// The inputs, opened.
pub struct Inputs {
    sources: Vec<(PathBuf, Source)>,
    /// Columns of all inputs together, in order of first sight.
    pub columns: Vec<String>,
    /// For each input, where its columns are in `columns`.
    places: Vec<Vec<usize>>,
}

impl Inputs {
    /// Opens the inputs and finds out what they are.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn open(paths: &[PathBuf], settings: &files::Settings) -> Result<Self> {
        let mut inputs = Self {
            sources: Vec::new(),
            columns: Vec::new(),
            places: Vec::new(),
        };
        for (index, path) in paths.iter().enumerate() {
            let source = files::open(path, settings)?.numbered(index);
            let places = source.headers().iter().map(|header| {
                let known = inputs.columns.iter().position(|column| column == header);
                known.unwrap_or_else(|| {
                    inputs.columns.push(header.clone());
                    inputs.columns.len() - 1
                })
            });
            let places = places.collect();
            inputs.places.push(places);
            inputs.sources.push((path.clone(), source));
        }
        Ok(inputs)
    }
}

/// What was seen of the inputs.
#[derive(Default)]
pub struct Seen {
    /// Rows in all.
    pub rows: u64,
    /// What was wrong, for each input.
    pub bad: Vec<(PathBuf, BadRows)>,
    /// Whether a row is older than one before it.
    pub is_disordered: bool,
    /// Rows before the first that has a time, where that was found too late, and that time.
    pub begin_at: Option<(u64, u64)>,
}

impl Seen {
    /// Whether the batches stand in order of time as they were put aside.
    pub fn is_in_order(&self) -> bool {
        !self.is_disordered && self.begin_at.is_none()
    }
}

/// Rows that follow each other.
struct Stretch {
    /// Place of the first one in the input.
    first: u64,
    rows: Vec<Row>,
    /// Times by which they stand in order: a row without one stands where its predecessor does.
    order: Vec<u64>,
}

/// Where rows go.
pub struct PutAside<'a> {
    /// Rows for annotated.csv.
    pub rows: Spool,
    /// Batches, and what makes them; the notebook has none.
    pub batches: Option<(Spool, &'a Front, &'a Embeddings)>,
    /// Set as soon as it is known that the batches are not in order.
    pub is_disordered: &'a AtomicBool,
}

/// Reads everything; `progress` is told how many more rows are put aside.
///
/// # Errors
/// The disk is full, or a bug.
pub fn read(inputs: Inputs, aside: PutAside<'_>, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<Seen> {
    let Inputs {
        sources,
        columns,
        places,
    } = inputs;
    let front = aside.batches.as_ref().map(|(_, front, _)| *front);
    let is_disordered = aside.is_disordered;
    thread::scope(|scope| {
        let (mut to_prepare, mut prepared) = (Vec::new(), Vec::new());
        for _ in 0..threads.max(1) {
            let (give, take) = sync_channel::<Stretch>(WAITING);
            let (give_on, take_on) = sync_channel::<Result<Prepared>>(WAITING);
            to_prepare.push(give);
            prepared.push(take_on);
            let (columns, places) = (columns.len(), &places);
            scope.spawn(move || {
                for stretch in take {
                    if give_on.send(prepare(stretch, columns, places, front)).is_err() {
                        break; // whoever writes has given up
                    }
                }
            });
        }
        let reader = scope.spawn(move || Reader::new(is_disordered, to_prepare).read(sources));
        let written = write(&prepared, aside, progress);
        drop(prepared);
        let seen = reader.join().map_err(|_| anyhow!("the thread that reads has ended"))?;
        written.map(|()| seen)
    })
}

/// Gives out stretches of rows in turns.
struct Reader<'a> {
    is_disordered: &'a AtomicBool,
    to: Vec<SyncSender<Stretch>>,
    given: usize,
    seen: Seen,
    latest: Option<u64>,
    stretch: Stretch,
}

impl<'a> Reader<'a> {
    fn new(is_disordered: &'a AtomicBool, to: Vec<SyncSender<Stretch>>) -> Self {
        Self {
            is_disordered,
            to,
            given: 0,
            seen: Seen::default(),
            latest: None,
            stretch: Stretch::beginning(0),
        }
    }

    fn read(mut self, sources: Vec<(PathBuf, Source)>) -> Seen {
        for (path, source) in sources {
            let mut bad = BadRows::default();
            for row in source {
                match row {
                    Ok(row) => {
                        bad.note_problem(&row);
                        self.take(row);
                        if self.stretch.rows.len() == CHUNK_ROWS && self.give().is_err() {
                            return self.seen; // whoever writes has given up and says why
                        }
                    }
                    Err(problem) => bad.note(&problem),
                }
            }
            self.seen.bad.push((path, bad));
        }
        let _ = self.give();
        self.seen
    }

    fn take(&mut self, row: Row) {
        let place = self.seen.rows;
        self.seen.rows += 1;
        if let Some(time) = row.time_unix_nano {
            match self.latest {
                None if self.stretch.first == 0 => self.stretch.order.fill(time),
                None => {
                    self.seen.begin_at = Some((time, place));
                    self.is_disordered.store(true, Ordering::Relaxed);
                }
                Some(latest) if time < latest => {
                    self.seen.is_disordered = true;
                    self.is_disordered.store(true, Ordering::Relaxed);
                }
                Some(_) => {}
            }
            self.latest = Some(time);
        }
        self.stretch.order.push(self.latest.unwrap_or(1));
        self.stretch.rows.push(row);
    }

    /// Gives what was taken to whose turn it is.
    fn give(&mut self) -> Result<(), ()> {
        let stretch = std::mem::replace(&mut self.stretch, Stretch::beginning(self.seen.rows));
        if stretch.rows.is_empty() {
            return Ok(());
        }
        let turn = self.given % self.to.len().max(1);
        self.given += 1;
        let to = self.to.get(turn).ok_or(())?;
        to.send(stretch).map_err(drop)
    }
}

impl Stretch {
    fn beginning(first: u64) -> Self {
        Self {
            first,
            rows: Vec::with_capacity(CHUNK_ROWS),
            order: Vec::with_capacity(CHUNK_ROWS),
        }
    }
}

/// A stretch of rows, ready to be put aside.
struct Prepared {
    count: u64,
    rows: Vec<u8>,
    batch: Option<(Vec<u8>, Vec<crate::engine::front::BatchTemplate>)>,
}

fn prepare(stretch: Stretch, columns: usize, places: &[Vec<usize>], front: Option<&Front>) -> Result<Prepared> {
    let Stretch { first, mut rows, order } = stretch;
    let count = rows.len() as u64;
    let kept = rows::Rows::of(&rows, columns, places)?.encode_to_vec();
    let batch = front.map(|front| {
        let timeless = (0..).zip(&rows).filter(|(_, row)| row.time_unix_nano.is_none());
        let timeless = timeless.map(|(index, _)| index).collect();
        for (row, time) in rows.iter_mut().zip(&order) {
            row.record.time_unix_nano = *time;
        }
        let batch = offline::read(front, rows)?;
        let aside = batches::PutAside::of(&batch, (first..first + count).collect(), order, timeless);
        anyhow::Ok((aside.encode_to_vec(), batch.templates))
    });
    Ok(Prepared {
        count,
        rows: kept,
        batch: batch.transpose()?,
    })
}

/// Writes what is prepared, in turns, until a turn brings nothing.
fn write(prepared: &[Receiver<Result<Prepared>>], mut aside: PutAside<'_>, progress: &dyn Fn(u64)) -> Result<()> {
    let full =
        "cannot put rows aside in the folder of --out, which needs as much room again as annotated.csv meanwhile";
    for turn in prepared.iter().cycle() {
        let Ok(stretch) = turn.recv() else { break };
        let stretch = stretch?;
        aside.rows.append(&stretch.rows).context(full)?;
        if let (Some((spool, _, embeddings)), Some((batch, templates))) = (&mut aside.batches, stretch.batch) {
            embeddings.expect(&templates);
            spool.append(&batch).context(full)?;
        }
        progress(stretch.count);
    }
    Ok(())
}
