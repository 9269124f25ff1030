//! Findings on their way through serde, in the words of who writes YAML.
//!
//! What enters: what serde says (`invalid type: string "x", expected usize`). What leaves: what a user understands and
//! can act on. Promise: every message says what to write. Absent on purpose: places, which the reader adds.

use std::fmt;

use serde::de;

use super::{advice, finding::Finding};

/// A finding on its way up; the place is filled in by the first reader that sees it.
#[derive(Debug)]
pub struct ReadError {
    /// What is wrong.
    pub finding: Finding,
    /// Whether its place is known.
    pub placed: bool,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.finding.fmt(f)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            finding: Finding::new(None, "", message.to_string()),
            placed: false,
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!(
            "expected {}, found {}",
            wanted(&expected.to_string()),
            found_one(&found)
        ))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(advice::unknown_value(variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!(
            "the key `{field}` is missing here and has no default; write `{field}: …`"
        ))
    }
}

/// What serde expects, in the words of who writes YAML.
pub fn wanted(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u8" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number, 1 or more".to_owned()
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a section (lines of `key: value`)".to_owned(),
        "a sequence" => "a list, as `[a, b]`".to_owned(),
        "path string" => "a path".to_owned(),
        _ if expected.contains("duration string") => DURATION.to_owned(),
        _ if expected.starts_with("struct ") => "a section (lines of `key: value`)".to_owned(),
        _ if expected.starts_with("enum ") || expected == "variant identifier" => "a word".to_owned(),
        _ => expected.to_owned(),
    }
}

/// What is expected where a duration is.
pub const DURATION: &str = "a duration: a number with its unit, as `250ms`, `30s`, `5m` or `1h30m`";

fn found_one(found: &de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(value) => format!("`{value}`"),
        de::Unexpected::Unsigned(value) => format!("the number {value}"),
        de::Unexpected::Signed(value) => format!("the number {value}"),
        de::Unexpected::Float(value) => format!("the number {value}"),
        de::Unexpected::Str("") => "an empty string".to_owned(),
        de::Unexpected::Str(text) => format!("the string `{text}`"),
        de::Unexpected::Unit => "nothing".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}
