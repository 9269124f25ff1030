//! Metrics as text: for Prometheus, and as the table for people.
//!
//! What enters: [`Reading`]s and [`Declaration`]s. What leaves: the Prometheus text format 0.0.4, and Markdown. Promises:
//! any value of a label is escaped; the names are those that Prometheus gives to the pushed metrics, by OpenTelemetry's rule:
//! the unit, then `_total`. Absent on purpose: OpenMetrics, exemplars and timestamps.

use std::fmt::{self, Write};

use super::{Declaration, Kind, PREFIX, Reading, Series, Value};

impl Declaration {
    /// Its name in Prometheus.
    pub fn prometheus_name(&self) -> String {
        let unit = match self.unit {
            "By" => "_bytes",
            "s" => "_seconds",
            _ => "",
        };
        let name = self.name.strip_suffix(unit).unwrap_or(self.name);
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}{name}{unit}{total}")
    }
}

/// `readings` in the Prometheus text format.
pub(super) fn prometheus(readings: &[Reading]) -> String {
    let mut text = String::new();
    for Reading { declared, series } in readings.iter().filter(|reading| !reading.series.is_empty()) {
        let name = declared.prometheus_name();
        let _ = writeln!(
            text,
            "# HELP {name} {}",
            declared.description.replace('\\', r"\\").replace('\n', r"\n")
        );
        let _ = writeln!(text, "# TYPE {name} {}", declared.kind);
        for Series { labels, value } in series {
            let labels = declared.labels.iter().zip(labels);
            let labels: Vec<String> = labels
                .map(|(label, value)| format!("{label}=\"{}\"", Escaped(value)))
                .collect();
            match value {
                Value::Whole(value) => _ = writeln!(text, "{name}{} {value}", Labels(&labels, None)),
                Value::Seconds(value) => _ = writeln!(text, "{name}{} {value}", Labels(&labels, None)),
                Value::Distribution { bounds, counts, sum } => {
                    let mut below = 0;
                    let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                    for (bound, count) in bounds.zip(counts) {
                        below += count;
                        let _ = writeln!(text, "{name}_bucket{} {below}", Labels(&labels, Some(&bound)));
                    }
                    let _ = writeln!(text, "{name}_sum{} {sum}", Labels(&labels, None));
                    let _ = writeln!(text, "{name}_count{} {below}", Labels(&labels, None));
                }
            }
        }
    }
    text
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// `{a="b",le="1"}`, or nothing.
struct Labels<'l>(&'l [String], Option<&'l str>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.1.map(|bound| format!("le=\"{bound}\""));
        let all: Vec<&str> = self.0.iter().chain(&bound).map(String::as_str).collect();
        if all.is_empty() {
            return Ok(());
        }
        write!(out, "{{{}}}", all.join(","))
    }
}

/// The value of a label, in quotes.
struct Escaped<'v>(&'v str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => out.write_str(r"\\")?,
                '"' => out.write_str("\\\"")?,
                '\n' => out.write_str(r"\n")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The page `config-examples/guide/metrics.md`.
pub(super) fn page(declarations: &[Declaration]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         What the agent says of itself, at `http://localhost:8888/metrics` (Prometheus) or pushed by OTLP\n\
         (`service.telemetry.metrics.readers`, see [telemetry.yaml](../telemetry.yaml)). Pushed, a name has neither `_total` nor\n\
         its unit at the end; Prometheus puts both there again. Counters begin at 0 with each start.\n\n\
         This table is written from `src/telemetry.rs`; a test tells when it is not.\n\n\
         | metric | type | labels | unit | is |\n| --- | --- | --- | --- | --- |\n",
    );
    for declared in declarations {
        let labels: Vec<String> = declared.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match declared.unit {
            "" => String::new(),
            unit => format!("`{unit}`"),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {unit} | {} |",
            declared.prometheus_name(),
            declared.kind,
            labels.join(", "),
            declared.description.replace('|', r"\|"),
        );
    }
    page.push_str(
        "\n`receiver` and `exporter` are ids of components, `transport` is `grpc` or `http`. `service_name` is the resource \
         attribute\n`service.name`, cut at 256 bytes; from the 201st service on it is `_other`. `verdict` is one of\n\n\
         | verdict | records |\n| --- | --- |\n\
         | `normal` | judged, and not marked; `text.ignore` among them |\n\
         | `anomalous` | marked |\n\
         | `warming_up` | passed before their tenant's model was trained |\n\
         | `degraded` | had no embedding in time |\n\
         | `bypassed` | left as they came: `detection.mode` is `off` or `shadow`, `text.exclude`, Harbinger's own events, or \
         the engine failed on the request |\n",
    );
    page
}
