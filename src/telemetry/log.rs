//! The agent's own log, on standard error: for people, or as JSON for collectors.
//!
//! What enters: events of `tracing`. What leaves: a line each. Promises: JSON lines have the Collector's keys (`level`, `ts`,
//! `msg`, then the fields beside them), and are valid whatever an event holds; a line that cannot be written is lost and
//! nothing else. Absent on purpose: sampling, as whatever can repeat is throttled where it is said; log records by OTLP.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Has the agent's own log begin at another level.
pub type SetLevel = Box<dyn Fn(tracing::Level) + Send + Sync>;

/// Starts the agent's own log on standard error; a second call changes nothing.
pub fn start_log(level: tracing::Level, json: bool) -> SetLevel {
    // Our own words at `level`; what libraries say only from warnings on, or HTTP/2 frames would fill the log at debug.
    let filter = |level| EnvFilter::new(format!("warn,harbinger={level}"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
    // A line that cannot be written (disk full, pipe closed) is lost; complaining of that on standard error would panic.
    let log = log.log_internal_errors(false);
    // The two are of two types.
    macro_rules! started {
        ($log:expr) => {{
            let log = $log.with_filter_reloading();
            let handle = log.reload_handle();
            // Only fails when there is a log already, as in tests.
            let _ = log.try_init();
            Box::new(move |level| {
                let _ = handle.reload(filter(level));
            })
        }};
    }
    if json {
        started!(log.event_format(JsonLines))
    } else {
        started!(log)
    }
}

/// One JSON object a line.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut line = Map::new();
        line.insert("level".to_owned(), level.into());
        line.insert("ts".to_owned(), time.into());
        line.insert("msg".to_owned(), fields.message.into());
        for (name, value) in fields.others {
            line.entry(name).or_insert(value);
        }
        writeln!(out, "{}", Value::Object(line))
    }
}

/// What an event says, and what it says beside.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => _ = self.others.insert(name.to_owned(), value),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every line is one object with the Collector's keys, whatever is said, and no field can take their place.
    #[test]
    fn json_lines_are_valid_and_have_the_collectors_keys() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::warn!(
                left_out = 3,
                share = 0.5,
                exporter = "otlp",
                queued = true,
                ts = "not the time",
                "a \"quoted\"\nline"
            );
            let problem = "\u{1b}[31m{\"";
            tracing::error!(%problem, mode = ?Some(1));
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = lines.as_slice() else {
            unreachable!("{text}")
        };
        assert_eq!((&first["level"], &second["level"]), (&"warn".into(), &"error".into()));
        assert_eq!(
            (&first["msg"], &second["msg"]),
            (&"a \"quoted\"\nline".into(), &"".into())
        );
        assert_eq!((&first["left_out"], &first["share"]), (&3.into(), &0.5.into()));
        assert_eq!((&first["exporter"], &first["queued"]), (&"otlp".into(), &true.into()));
        assert_eq!(
            (&second["problem"], &second["mode"]),
            (&"\u{1b}[31m{\"".into(), &"Some(1)".into())
        );
        let time: jiff::Timestamp = first["ts"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 0);
    }
}
