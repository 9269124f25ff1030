//! Writes annotated.csv, incidents.csv and the list as JSON, and the largest incidents for people.
//!
//! What enters: rows as they were put aside, their verdicts, the list of incidents. What leaves: files. Promises: input
//! order in annotated.csv; a stretch of rows, or the records of one incident, are in memory at a time. Absent on purpose:
//! anything decided here.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use prost::Message;
use serde::{Serializer, ser::SerializeSeq};

use super::{
    beside::Beside,
    listing::{Gathered, Listing, Members},
    rows::Rows,
    spool::Frames,
    verdicts::{Verdict, Verdicts},
};
use crate::commands::{
    digest,
    incident_list::{CsvList, Known, Listed},
};

/// Bytes that are given to the disk at once.
const WRITE_BYTES: usize = 1 << 20;

/// Columns behind those of the input.
const ADDED: [&str; 3] = ["is_anomaly", "anomaly_score", "incident_id"];

/// What is to be written, and where.
pub struct Output<'a> {
    /// Folder of annotated.csv and incidents.csv.
    pub directory: &'a Path,
    /// The incidents once more as JSON.
    pub json: Option<&'a Path>,
    /// How many incidents people are shown.
    pub top: usize,
    /// Whether an anomalous record leads an incident before others.
    pub anomalies_lead: bool,
}

/// What was written.
pub struct Written {
    /// The largest incidents, for people.
    pub told: Vec<u8>,
    /// The files.
    pub paths: Vec<PathBuf>,
}

impl Output<'_> {
    /// Writes everything.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(
        &self,
        columns: &[String],
        rows: Frames,
        verdicts: &mut Verdicts,
        listing: &Listing,
        known: Option<Known<'_>>,
        beside: &mut Beside<'_>,
    ) -> Result<Written> {
        let annotated = self.directory.join("annotated.csv");
        let incidents = self.directory.join("incidents.csv");
        let members = self
            .annotate(&annotated, columns, rows, verdicts, listing, beside)
            .with_context(|| format!("cannot write {}", annotated.display()))?;
        let json = match self.json {
            Some(path) => {
                let made = File::create(path);
                Some(made.with_context(|| format!("--incidents-json: cannot write {}", path.display()))?)
            }
            None => None,
        };
        let told = self.list(&incidents, json, members, listing, known, beside)?;
        let paths = [annotated, incidents].into_iter().chain(self.json.map(Path::to_owned));
        Ok(Written {
            told,
            paths: paths.collect(),
        })
    }

    /// Writes annotated.csv, and gathers the rows of incidents.
    fn annotate(
        &self,
        path: &Path,
        columns: &[String],
        mut rows: Frames,
        verdicts: &mut Verdicts,
        listing: &Listing,
        beside: &mut Beside<'_>,
    ) -> Result<Gathered> {
        let mut out = BufWriter::with_capacity(WRITE_BYTES, File::create(path)?);
        let mut header = csv::Writer::from_writer(&mut out);
        header.write_record(columns.iter().map(String::as_str).chain(ADDED))?;
        header.flush()?;
        drop(header);
        let mut members = Members::new(self.directory, self.anomalies_lead);
        let (mut frame, mut place) = (Vec::new(), 0u64);
        while rows.next(&mut frame)? {
            let rows = Rows::decode(frame.as_slice())?;
            let count = rows.iter().count();
            for (row, verdict) in rows.iter().zip(verdicts.of(place, count)?) {
                let incident = verdict.incident.and_then(|number| listing.place(number));
                let entry = incident.and_then(|incident| listing.entries.get(incident));
                let name = entry.map_or("", |entry| entry.name.as_str());
                out.write_all(row.line)?;
                write_verdict(&mut out, &verdict, name)?;
                beside.row(&row, &verdict, name);
                if let Some(incident) = incident {
                    members.push(incident, place, &row, &verdict)?;
                }
                place += 1;
            }
        }
        out.flush()?;
        Ok(members.gathered()?)
    }

    /// Writes the incidents; returns what people are shown of them.
    fn list(
        &self,
        path: &Path,
        json: Option<File>,
        members: Gathered,
        listing: &Listing,
        known: Option<Known<'_>>,
        beside: &mut Beside<'_>,
    ) -> Result<Vec<u8>> {
        let records: Vec<usize> = listing.entries.iter().map(|entry| entry.rows).collect();
        let is_shown = digest::largest(&records, self.top);
        let mut told = Vec::new();
        let cannot_list = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(cannot_list)?;
        let mut csv = CsvList::new(BufWriter::new(file), known.is_some()).with_context(cannot_list)?;
        let mut json = json.map(|file| serde_json::Serializer::pretty(BufWriter::new(file)));
        let mut array = json.as_mut().map(|json| json.serialize_seq(None)).transpose()?;
        members.each(listing, |incident| {
            let listed = Listed::new(incident.digest, known);
            csv.push(&listed).with_context(cannot_list)?;
            if let Some(array) = &mut array {
                array.serialize_element(&listed)?;
            }
            if is_shown.get(incident.place) == Some(&true) {
                digest::print_one(&mut told, incident.digest)?;
            }
            beside.incident(incident)
        })?;
        digest::print_rest(&mut told, &is_shown)?;
        csv.end().with_context(cannot_list)?;
        array.map(SerializeSeq::end).transpose()?;
        if let Some(json) = json {
            let mut out = json.into_inner();
            writeln!(out)?;
            out.flush()?;
        }
        Ok(told)
    }
}

/// The three columns of a row; none of them has ever to be quoted.
fn write_verdict(out: &mut impl Write, verdict: &Verdict, incident: &str) -> io::Result<()> {
    out.write_all(if verdict.is_anomaly { b"true," } else { b"false," })?;
    if let Some(score) = verdict.score {
        write!(out, "{score:.6}")?;
    }
    out.write_all(b",")?;
    out.write_all(incident.as_bytes())?;
    out.write_all(b"\n")
}
