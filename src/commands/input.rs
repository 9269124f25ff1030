//! What a user may say about log files, the same for every command that reads them.
//!
//! What enters: options of the command line. What leaves: the readers' settings. Absent on purpose: reading itself.

use crate::edge::files::{Format, Row, Settings};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// Options about log files; what is not said is found out.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Reading")]
pub struct InputArgs {
    /// Format of the inputs, instead of looking
    #[arg(long, value_name = "csv|json|text|otlp")]
    format: Option<Format>,
    /// Column or JSON field (`a.b` for nested ones) that holds the message
    #[arg(long, value_name = "NAME")]
    message_column: Option<String>,
    /// Column or JSON field that holds the time
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// How times are written, as strftime says it: "%d/%b/%Y:%H:%M:%S %z"
    #[arg(long, value_name = "FORMAT")]
    time_format: Option<String>,
    /// Column or JSON field that names the service
    #[arg(long, value_name = "NAME")]
    service_column: Option<String>,
    /// Column or JSON field that holds the severity
    #[arg(long, value_name = "NAME")]
    severity_column: Option<String>,
    /// Time zone of times that name none: Europe/Berlin; UTC unless given
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
}

impl InputArgs {
    /// The readers' settings.
    pub fn settings(&self) -> Settings {
        let Self {
            format,
            message_column,
            time_column,
            time_format,
            service_column,
            severity_column,
            timezone,
        } = self.clone();
        Settings {
            format,
            message_column,
            time_column,
            time_format,
            service_column,
            severity_column,
            timezone,
        }
    }
}

/// What a row says, in one text: its body, or what stands for it.
pub fn message(row: &Row) -> &str {
    match row.record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => row.cells.last().map_or("", String::as_str),
    }
}
