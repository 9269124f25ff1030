//! Judges what was put aside, in order of time, and notes what was thought of each row.
//!
//! What enters: batches, and an engine that has seen nothing. What leaves: verdicts by place, and how large each incident
//! is. Promises: what was read before there was a judge is judged as soon as there is one, and last of all what ended
//! before there was one. Memory grows with incidents (some hundred bytes each) and the templates in them, not with rows.
//! Absent on purpose: ids as they go by in the end; merges are known then.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use prost::Message;

use super::{
    batches::PutAside,
    reading::Seen,
    report::templates::Templates,
    sorted::Sorter,
    spool::{Frames, Spool},
    told::Told,
    verdicts::{Verdict, Verdicts},
};
use crate::{
    commands::offline::{CHUNK_ROWS, Offline, Outcome},
    engine::text::TemplateKey,
};

/// What is counted of an incident while rows are judged, for its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Its rows.
    pub rows: usize,
    /// The earliest time that one of them says.
    pub first_unix_nano: Option<u64>,
    /// The first of them in the input.
    pub first_place: u64,
}

impl Tally {
    /// Of one row.
    pub fn of(place: u64, time_unix_nano: Option<u64>) -> Self {
        Self {
            rows: 1,
            first_unix_nano: time_unix_nano,
            first_place: place,
        }
    }

    /// Of the rows of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let times = [self.first_unix_nano, other.first_unix_nano].into_iter().flatten();
        Self {
            rows: self.rows + other.rows,
            first_unix_nano: times.min(),
            first_place: self.first_place.min(other.first_place),
        }
    }
}

/// What came of judging, beside the verdicts.
#[derive(Debug, Default)]
pub struct Judged {
    /// Rows that are anomalous.
    pub anomalous: u64,
    /// Rows that have no score: nothing was there to judge them by.
    pub unscored: u64,
    /// The earliest and the latest time that rows say.
    pub span_unix_nano: Option<(u64, u64)>,
    /// Incidents by number.
    pub incidents: BTreeMap<u64, Tally>,
    /// Texts of the templates in incidents.
    pub texts: HashMap<TemplateKey, Arc<str>>,
}

impl Judged {
    /// Counts a row.
    pub fn count(&mut self, place: u64, time_unix_nano: Option<u64>, verdict: &Verdict) {
        self.anomalous += u64::from(verdict.is_anomaly);
        self.unscored += u64::from(verdict.score.is_none());
        if let Some(time) = time_unix_nano {
            let (first, last) = self.span_unix_nano.unwrap_or((time, time));
            self.span_unix_nano = Some((first.min(time), last.max(time)));
        }
        if let Some(incident) = verdict.incident {
            let tally = Tally::of(place, time_unix_nano);
            let known = self.incidents.entry(incident);
            known.and_modify(|known| *known = known.and(tally)).or_insert(tally);
        }
    }
}

/// One judging, from beginning to end.
pub struct Judging<'a> {
    /// What judges.
    pub engine: &'a mut Offline,
    /// Where verdicts go.
    pub verdicts: &'a mut Verdicts,
    /// Where what is told of incidents goes, where somebody asks for it.
    pub told: Option<&'a mut Told>,
    /// Where what is seen of templates goes, where somebody asks for it.
    pub templates: Option<&'a mut Templates>,
    /// Set when it turns out that the batches are not in order.
    pub is_disordered: &'a AtomicBool,
    /// Is told how many more rows are judged.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl Judging<'_> {
    /// Judges the batches; `None` when they turned out not to be in order.
    ///
    /// # Errors
    /// The model failed on a text, or the disk.
    pub fn run(&mut self, mut batches: Frames) -> Result<Option<Judged>> {
        let mut judged = Judged::default();
        let mut frame = Vec::new();
        // Batches that were read before there was a judge.
        let mut warm_up = 0usize;
        while batches.next(&mut frame)? {
            if self.is_disordered.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let aside = PutAside::decode(frame.as_slice())?;
            if self.engine.is_ready() {
                self.judge(&aside, &mut judged)?;
                self.engine.fit_if_due();
            } else {
                self.engine.judge(&aside.batch(), &mut [])?;
                warm_up += 1;
                self.engine.fit_if_due();
                if self.engine.is_ready() {
                    self.judge_again(&mut batches, warm_up, &mut judged)?;
                }
            }
            (self.progress)(aside.places.len() as u64);
        }
        if warm_up > 0 && !self.engine.is_ready() {
            self.engine.end_warm_up();
            self.judge_again(&mut batches, warm_up, &mut judged)?;
        }
        Ok(Some(judged))
    }

    /// Judges what was read in warm-up from its beginning, by the judge that came of it.
    fn judge_again(&mut self, batches: &mut Frames, warm_up: usize, judged: &mut Judged) -> Result<()> {
        self.engine.rewind();
        batches.rewind();
        let mut frame = Vec::new();
        for _ in 0..warm_up {
            batches.next(&mut frame)?;
            self.judge(&PutAside::decode(frame.as_slice())?, judged)?;
        }
        Ok(())
    }

    fn judge(&mut self, aside: &PutAside, judged: &mut Judged) -> Result<()> {
        let batch = aside.batch();
        let mut outcomes = vec![Outcome::default(); aside.places.len()];
        self.engine.judge(&batch, &mut outcomes)?;
        if let Some(told) = &mut self.told {
            told.note(self.engine.heard())
                .context("cannot put aside what is told of incidents")?;
        }
        if let Some(templates) = &mut self.templates {
            templates.note(&batch, &outcomes);
        }
        let verdicts: Vec<Verdict> = outcomes
            .iter()
            .map(|outcome| Verdict {
                is_anomaly: outcome.is_anomaly,
                score: outcome.score,
                incident: outcome.forwarded.map(|incident| incident.to_raw()),
                template: Some(outcome.template).filter(|template| template.0 != 0),
            })
            .collect();
        let rows = aside.places.iter().zip(&aside.order).zip(&verdicts);
        for (index, ((place, time), verdict)) in (0..).zip(rows) {
            let is_timeless = aside.timeless.binary_search(&index).is_ok();
            judged.count(*place, Some(*time).filter(|_| !is_timeless), verdict);
        }
        let in_incidents = batch.records.iter().zip(&verdicts);
        for (record, _) in in_incidents.filter(|(_, verdict)| verdict.incident.is_some()) {
            if let Some(template) = record.template().and_then(|template| batch.templates.get(template)) {
                let text = judged.texts.entry(template.key);
                text.or_insert_with(|| Arc::clone(&template.text));
            }
        }
        self.verdicts
            .note(&aside.places, &verdicts)
            .context("cannot put verdicts aside")
    }
}

/// The same batches as if the rows had been read in order of time; of equal times in order of the input.
///
/// # Errors
/// Those of the disk.
pub fn in_order(mut batches: Frames, seen: &Seen, directory: &Path) -> Result<Frames> {
    let mut sorter = Sorter::new(directory);
    let mut frame = Vec::new();
    while batches.next(&mut frame)? {
        let mut aside = PutAside::decode(frame.as_slice())?;
        if let Some((time_unix_nano, places)) = seen.begin_at {
            aside.begin_at(time_unix_nano, places);
        }
        for row in aside.rows() {
            let of = |column: &[u64]| column.first().copied().unwrap_or(0);
            sorter.push([0, of(&row.order), of(&row.places)], row.encode_to_vec())?;
        }
    }
    let mut sorted = sorter.sorted()?;
    let mut spool = Spool::new(directory)?;
    let mut rows = Vec::with_capacity(CHUNK_ROWS);
    while let Some((_, row)) = sorted.next()? {
        rows.push(PutAside::decode(row.as_slice())?);
        if rows.len() == CHUNK_ROWS {
            spool.append(&PutAside::gathered(rows.drain(..)).encode_to_vec())?;
        }
    }
    if !rows.is_empty() {
        spool.append(&PutAside::gathered(rows.drain(..)).encode_to_vec())?;
    }
    Ok(spool.frames())
}
