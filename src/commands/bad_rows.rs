//! Rows that could not be read as they should: counted, and told once a file with their first line numbers.
//!
//! What enters: bad rows, and rows with a problem. What leaves: a few lines for standard error.
//! Absent on purpose: any decision; a command says itself whether it goes on.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::edge::files::{BadRow, Row};

/// How many lines are told; the rest is counted.
const TOLD: usize = 5;

/// The bad rows of one file.
#[derive(Debug, Default)]
pub struct BadRows {
    count: u64,
    lost: u64,
    first: Vec<String>,
}

impl BadRows {
    /// A line that gave no row.
    pub fn note(&mut self, bad: &BadRow) {
        self.lost += 1;
        self.add(bad.to_string());
    }

    /// A row that is used although something is wrong with it.
    pub fn note_problem(&mut self, row: &Row) {
        if let Some(problem) = &row.problem {
            self.add(format!("line {}: {problem}", row.line));
        }
    }

    /// Lines that gave no row.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn add(&mut self, told: String) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(told);
        }
    }

    /// Tells, if there is something to tell.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn report(&self, path: &Path, stderr: &mut impl Write) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        writeln!(
            stderr,
            "{}: {} rows are not as they should be",
            path.display(),
            self.count
        )?;
        for problem in &self.first {
            writeln!(stderr, "  {problem}")?;
        }
        if self.count > self.first.len() as u64 {
            writeln!(stderr, "  … and {} more", self.count - self.first.len() as u64)?;
        }
        Ok(())
    }
}
