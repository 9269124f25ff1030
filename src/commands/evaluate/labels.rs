//! Labelled logs: what the engine may see of a file, and apart from it what is true.
//!
//! What enters: a file, and which of its columns hold the truth. What leaves: its rows in order of time, and for each
//! whether it is anomalous and to which fault it belongs. Promises: labels never reach a record, neither as text nor as
//! attribute; a row without a time stands where its predecessor in the file does. Absent on purpose: labels in JSON and
//! plain text, whose readers keep only what a log line has; such files count as unlabelled, and that is said.

use std::{collections::HashMap, io::Write, path::Path};

use anyhow::{Result, bail};
use clap::ValueEnum;
use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    logs::v1::{LogRecord, SeverityNumber},
};

use crate::{
    commands::{bad_rows::BadRows, input::InputArgs},
    edge::files::{self, Format, Row},
};

/// Where the truth is, and what else the engine is not to see.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Labels")]
pub struct LabelArgs {
    /// CSV column or OTLP attribute that says whether a line is anomalous: 1, true, any word but normal [default: label]
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// CSV column or OTLP attribute that names the fault a line belongs to [default: fault]
    #[arg(long, value_name = "NAME")]
    pub fault_column: Option<String>,
    /// Judge as if the logs did not have this
    #[arg(long, value_enum, value_name = "WHAT")]
    pub hide: Vec<Hidden>,
}

/// What can be kept from the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// The severity: where it is nearly the label, it hides what the rest can do
    Severity,
}

/// What is true of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// It is anomalous.
    pub positive: bool,
    /// Index of its fault in [`Labelled::faults`].
    pub fault: Option<usize>,
    /// Its severity is ERROR or above, also where the engine is not to see it.
    pub is_error: bool,
}

/// A file, read.
#[derive(Debug, Default)]
pub struct Labelled {
    /// Rows in order of time, each record with a time.
    pub rows: Vec<Row>,
    /// The truth of each row.
    pub truths: Vec<Truth>,
    /// Names of the faults, in order of time.
    pub faults: Vec<String>,
    /// Some line has a label; without any, all count as healthy.
    pub has_labels: bool,
    /// Some row has a time of its own.
    pub has_times: bool,
}

/// A label, as files spell it: what is not explicitly normal is anomalous.
fn is_positive(label: &str) -> bool {
    let label = label.trim();
    !["", "0", "0.0", "-", "false", "no", "none", "normal"]
        .iter()
        .any(|normal| label.eq_ignore_ascii_case(normal))
}

/// Reads a file; tells `stderr` of rows that are not as they should be.
///
/// # Errors
/// The file cannot be read, has no rows, or not the column that was named.
pub fn read(path: &Path, args: &LabelArgs, reading: &InputArgs, stderr: &mut impl Write) -> Result<Labelled> {
    let source = files::open(path, &reading.settings())?;
    let label = Column::find(path, &source, args.label_column.as_deref(), "label", "label-column")?;
    let fault = Column::find(path, &source, args.fault_column.as_deref(), "fault", "fault-column")?;
    if matches!(source.format(), Format::Json | Format::Text) {
        writeln!(
            stderr,
            "{}: labels are read from CSV columns and OTLP attributes; all lines count as healthy",
            path.display()
        )?;
    }
    let mut bad = BadRows::default();
    let mut rows = Vec::new();
    for row in source {
        match row {
            Ok(mut row) => {
                bad.note_problem(&row);
                let seen = Seen {
                    label: label.take(&mut row),
                    fault: fault.take(&mut row),
                    is_error: row.record.severity_number >= SeverityNumber::Error as i32,
                };
                if args.hide.contains(&Hidden::Severity) {
                    row.record.severity_number = 0;
                    row.record.severity_text.clear();
                }
                row.cells = Vec::new();
                rows.push((row, seen));
            }
            Err(problem) => bad.note(&problem),
        }
    }
    bad.report(path, stderr)?;
    if rows.is_empty() {
        bail!("no log rows in {}", path.display());
    }
    Ok(in_order(rows))
}

/// What a line of the file says of itself.
struct Seen {
    label: String,
    fault: String,
    is_error: bool,
}

/// Puts rows with their labels and faults into order of time.
fn in_order(mut rows: Vec<(Row, Seen)>) -> Labelled {
    let first = rows.iter().find_map(|(row, ..)| row.time_unix_nano);
    let mut latest = first.unwrap_or(1);
    for (row, ..) in &mut rows {
        latest = row.time_unix_nano.unwrap_or(latest);
        row.record.time_unix_nano = latest;
    }
    // Stable: lines of one instant keep the order of the file.
    rows.sort_by_key(|(row, ..)| row.record.time_unix_nano);
    let mut labelled = Labelled {
        has_times: first.is_some(),
        has_labels: rows.iter().any(|(_, seen)| !seen.label.is_empty()),
        ..Labelled::default()
    };
    let mut index: HashMap<String, usize> = HashMap::new();
    for (row, seen) in rows {
        let Seen { label, fault, is_error } = seen;
        let fault = (!fault.is_empty()).then(|| {
            *index.entry(fault).or_insert_with_key(|fault| {
                labelled.faults.push(fault.clone());
                labelled.faults.len() - 1
            })
        });
        labelled.rows.push(row);
        labelled.truths.push(Truth {
            positive: is_positive(&label),
            fault,
            is_error,
        });
    }
    labelled
}

/// Where one kind of truth is.
enum Column {
    Cell(usize),
    Attribute(String),
    Nowhere,
}

impl Column {
    /// The column that was named, or the usual one if it is there.
    fn find(path: &Path, source: &files::Source, named: Option<&str>, usual: &str, option: &str) -> Result<Self> {
        let name = named.unwrap_or(usual);
        let column = match source.format() {
            Format::Csv => {
                let mut headers = source.headers().iter();
                headers
                    .position(|header| header.eq_ignore_ascii_case(name))
                    .map_or(Self::Nowhere, Self::Cell)
            }
            Format::Otlp => Self::Attribute(name.to_owned()),
            Format::Json | Format::Text => Self::Nowhere,
        };
        match column {
            Self::Nowhere if named.is_some() => bail!(
                "{} has no column {name}; its columns are {}: name one of them with --{option}, or leave the option out",
                path.display(),
                source.headers().join(", "),
            ),
            Self::Cell(index) if source.reads(index) => bail!(
                "--{option}: the engine reads column {name} of {}, so it cannot hold the truth; copy it to a column of \
                 another name, or read that part of the line from another column (--message-column and its like)",
                path.display(),
            ),
            column => Ok(column),
        }
    }

    /// What it says of the row, taken out of the record.
    fn take(&self, row: &mut Row) -> String {
        let text = match self {
            Self::Nowhere => String::new(),
            Self::Cell(index) => row.cells.get_mut(*index).map(std::mem::take).unwrap_or_default(),
            Self::Attribute(key) => take_attribute(&mut row.record, key),
        };
        text.trim().to_owned()
    }
}

fn take_attribute(record: &mut LogRecord, key: &str) -> String {
    let Some(at) = record.attributes.iter().position(|attribute| attribute.key == key) else {
        return String::new();
    };
    match record.attributes.remove(at).value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;

    use super::*;

    fn read_text(name: &str, text: &str, args: &LabelArgs) -> Result<Labelled> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path, args, &InputArgs::default(), &mut Vec::new())
    }

    #[test]
    fn what_is_not_called_normal_is_anomalous() {
        for normal in ["", "0", " 0 ", "-", "False", "normal", "0.0", "none"] {
            assert!(!is_positive(normal), "{normal}");
        }
        for anomalous in ["1", "true", "anomaly", "KERNDTLB", "2"] {
            assert!(is_positive(anomalous), "{anomalous}");
        }
    }

    #[test]
    fn rows_come_in_order_of_time_without_their_labels() {
        let text = "timestamp,message,label,fault,severity\n20,late,1,disk,ERROR\n10,early,0,,INFO\n,second,,,\n";
        let labelled = read_text("a.csv", text, &LabelArgs::default()).unwrap();
        let bodies: Vec<String> = labelled.rows.iter().map(|row| format!("{:?}", row.record)).collect();
        assert!(bodies[0].contains("early") && bodies[1].contains("second") && bodies[2].contains("late"));
        assert!(labelled.rows.iter().all(|row| row.record.attributes.is_empty()));
        assert!(!bodies[2].contains("disk"), "{}", bodies[2]);
        assert_eq!(
            labelled.truths[2],
            Truth {
                positive: true,
                fault: Some(0),
                is_error: true
            }
        );
        assert_eq!(labelled.truths[0], Truth::default());
        assert!(labelled.has_labels && labelled.has_times);
    }

    #[test]
    fn a_hidden_severity_is_not_in_the_record() {
        let hide = LabelArgs {
            hide: vec![Hidden::Severity],
            ..LabelArgs::default()
        };
        let labelled = read_text("a.csv", "time,level,message\n1,ERROR,boom\n", &hide).unwrap();
        let record = &labelled.rows[0].record;
        assert_eq!((record.severity_number, record.severity_text.as_str()), (0, ""));
        // The truth does not change with what is hidden.
        assert!(labelled.truths[0].is_error);
        assert!(!labelled.has_labels);
    }

    #[test]
    fn labels_of_otlp_are_attributes_that_are_taken_away() {
        let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","body":{"stringValue":"boom"},"attributes":[{"key":"label","value":{"intValue":"1"}},{"key":"fault","value":{"stringValue":"disk"}},{"key":"kept","value":{"stringValue":"x"}}]}]}]}]}"#;
        let labelled = read_text("a.jsonl", text, &LabelArgs::default()).unwrap();
        assert_eq!(
            labelled.truths[0],
            Truth {
                positive: true,
                fault: Some(0),
                is_error: false
            }
        );
        let keys: Vec<&str> = labelled.rows[0]
            .record
            .attributes
            .iter()
            .map(|a| a.key.as_str())
            .collect();
        assert_eq!(keys, ["kept"]);
    }

    #[test]
    fn a_column_that_is_not_there_or_that_the_engine_reads_is_refused() {
        let text = "time,level,message\n1,ERROR,boom\n";
        let named = |name: &str| LabelArgs {
            label_column: Some(name.to_owned()),
            ..LabelArgs::default()
        };
        let missing = read_text("a.csv", text, &named("truth")).unwrap_err().to_string();
        assert!(
            missing.contains("no column truth; its columns are time, level, message"),
            "{missing}"
        );
        let read = read_text("a.csv", text, &named("level")).unwrap_err().to_string();
        assert!(read.contains("the engine reads column level"), "{read}");
    }
}
