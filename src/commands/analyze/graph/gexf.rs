//! The graph as a file: GEXF 1.3, which Gephi and networkx read.
//!
//! What enters: the graphs of incidents, one after the other. What leaves: one file with all of them. Promises: an incident
//! is in memory at a time; nodes and edges have times, so that Gephi's timeline works; what a log says cannot break the
//! XML. Times are
//! milliseconds since the Unix epoch: a number, because networkx reads no other times, and what Gephi takes for a date where it is told
//! to show dates; RFC 3339 stands beside it.
//! Absent on purpose: places and colours, which whoever looks chooses.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::Path,
};

use super::{
    super::{spool::unnamed, whole_file::WholeFile},
    Graph,
};
use crate::{
    commands::terminal::one_line,
    engine::view::{rfc3339, severity_name},
};

/// Characters of a label.
const LABEL_CHARS: usize = 60;

/// What is said of a node: names and types as GEXF has them.
const NODE_ATTRIBUTES: [(&str, &str); 11] = [
    ("incident_id", "string"),
    ("service", "string"),
    ("template", "string"),
    ("template_key", "string"),
    ("records", "long"),
    ("anomalous_records", "long"),
    ("is_anomaly", "boolean"),
    ("first_time", "string"),
    ("last_time", "string"),
    ("worst_severity", "string"),
    ("worst_severity_number", "integer"),
];

/// What is said of an edge.
const EDGE_ATTRIBUTES: [(&str, &str); 2] = [("kind", "string"), ("log_odds", "double")];

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<gexf xmlns="http://gexf.net/1.3" version="1.3">
"#;

/// A graph that is being written.
#[derive(Debug)]
pub struct Gexf {
    out: WholeFile,
    /// Edges come after all nodes: until then they are here.
    edges: BufWriter<File>,
    edge_count: u64,
}

impl Gexf {
    /// Begins a file; `directory` has room for what has to wait, `date` is today's.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(path: &Path, directory: &Path, date: &str) -> io::Result<Self> {
        let mut out = WholeFile::begin(path)?;
        out.write_all(HEAD.as_bytes())?;
        writeln!(out, r#"  <meta lastmodifieddate="{date}">"#)?;
        writeln!(out, "    <creator>harbinger {}</creator>", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            out,
            "    <description>Incidents: template episodes, and the evidence that ties them together</description>\n  </meta>"
        )?;
        writeln!(
            out,
            r#"  <graph defaultedgetype="undirected" idtype="string" mode="dynamic" timeformat="double" timerepresentation="interval">"#
        )?;
        for (class, attributes) in [("node", &NODE_ATTRIBUTES[..]), ("edge", &EDGE_ATTRIBUTES[..])] {
            writeln!(out, r#"    <attributes class="{class}" mode="static">"#)?;
            for (title, kind) in attributes {
                writeln!(out, r#"      <attribute id="{title}" title="{title}" type="{kind}"/>"#)?;
            }
            writeln!(out, "    </attributes>")?;
        }
        writeln!(out, "    <nodes>")?;
        Ok(Self {
            out,
            edges: BufWriter::new(unnamed(directory)?),
            edge_count: 0,
        })
    }

    /// Writes an incident.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn push(&mut self, incident: &str, graph: &Graph<'_>) -> io::Result<()> {
        let out = &mut self.out;
        for (place, node) in graph.nodes.iter().enumerate() {
            let label = one_line(&format!("{}: {}", node.service, node.text), LABEL_CHARS);
            write!(
                out,
                r#"      <node id="{}/{place}" label="{}""#,
                escaped(incident),
                escaped(&label)
            )?;
            write_times(out, node.span_unix_nano)?;
            writeln!(out, ">\n        <attvalues>")?;
            let time = |time: Option<u64>| time.map(rfc3339).unwrap_or_default();
            let values: [Cow<'_, str>; NODE_ATTRIBUTES.len()] = [
                incident.into(),
                node.service.into(),
                node.text.into(),
                node.template.to_string().into(),
                node.records.to_string().into(),
                node.anomalous_records.to_string().into(),
                (node.anomalous_records > 0).to_string().into(),
                time(node.span_unix_nano.map(|(first, _)| first)).into(),
                time(node.span_unix_nano.map(|(_, last)| last)).into(),
                severity_name(node.severity_number).unwrap_or_default().into(),
                node.severity_number.to_string().into(),
            ];
            for ((title, _), value) in NODE_ATTRIBUTES.iter().zip(values) {
                writeln!(
                    out,
                    r#"          <attvalue for="{title}" value="{}"/>"#,
                    escaped(&value)
                )?;
            }
            writeln!(out, "        </attvalues>\n      </node>")?;
        }
        for edge in &graph.edges {
            self.edge_count += 1;
            let (id, incident) = (self.edge_count, escaped(incident));
            let span = |place: usize| graph.nodes.get(place).and_then(|node| node.span_unix_nano);
            // An edge is there from when the later one begins until both are over.
            let both = span(edge.from).zip(span(edge.to));
            let span = both.map(|((one, end), (other, other_end))| (one.max(other), end.max(other_end)));
            let (from, to, weight) = (edge.from, edge.to, edge.weight());
            let out = &mut self.edges;
            write!(
                out,
                r#"      <edge id="{id}" source="{incident}/{from}" target="{incident}/{to}" weight="{weight:.6}""#
            )?;
            write_times(out, span)?;
            writeln!(out, ">\n        <attvalues>")?;
            writeln!(out, r#"          <attvalue for="kind" value="{}"/>"#, edge.kind.word())?;
            if let Some(log_odds) = edge.log_odds {
                writeln!(out, r#"          <attvalue for="log_odds" value="{log_odds:.6}"/>"#)?;
            }
            writeln!(out, "        </attvalues>\n      </edge>")?;
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(mut self) -> io::Result<()> {
        writeln!(self.out, "    </nodes>\n    <edges>")?;
        let mut edges = self.edges.into_inner()?;
        edges.rewind()?;
        io::copy(&mut edges, &mut self.out)?;
        self.out.write_all(b"    </edges>\n  </graph>\n</gexf>\n")?;
        self.out.end()
    }
}

fn write_times(out: &mut impl Write, span_unix_nano: Option<(u64, u64)>) -> io::Result<()> {
    let Some((first, last)) = span_unix_nano else {
        return Ok(());
    };
    write!(out, r#" start="{}" end="{}""#, milliseconds(first), milliseconds(last))
}

/// Milliseconds since the Unix epoch, to the nanosecond.
fn milliseconds(time_unix_nano: u64) -> String {
    let (millis, nanos) = (time_unix_nano / 1_000_000, time_unix_nano % 1_000_000);
    let all = format!("{millis}.{nanos:06}");
    all.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A text as an attribute's value; what XML cannot say at all is replaced.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c >= ' ' && !matches!(c, '"' | '&' | '<' | '>' | '\u{fffe}' | '\u{ffff}');
    if text.chars().all(is_plain) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("&quot;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            c if is_plain(c) => escaped.push(c),
            _ => escaped.push(char::REPLACEMENT_CHARACTER),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{
        super::{Edge, Kind, Node},
        *,
    };
    use crate::engine::text::TemplateKey;

    #[test]
    fn nothing_that_a_log_says_breaks_the_xml() {
        assert_eq!(escaped("plain späť"), "plain späť");
        assert_eq!(
            escaped("a<b> & \"c\"\n\t\r\u{1b}[31m\0\u{ffff}"),
            "a&lt;b&gt; &amp; &quot;c&quot;&#10;&#9;&#13;\u{fffd}[31m\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn times_are_milliseconds_to_the_nanosecond() {
        let times = [0, 1_000_000, 1_731_924_000_000_500_000, 1_731_924_000_000_000_001];
        assert_eq!(
            times.map(milliseconds),
            ["0", "1", "1731924000000.5", "1731924000000.000001"]
        );
    }

    #[test]
    fn nodes_come_before_edges_and_each_belongs_to_its_incident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.gexf");
        let mut gexf = Gexf::begin(&path, folder.path(), "2024-11-18").unwrap();
        let node = |key: u64, records| Node {
            template: TemplateKey(key),
            service: "shop",
            text: "<boom>",
            records,
            anomalous_records: records,
            span_unix_nano: Some((key * 1_000_000_000, 9_000_000_000)),
            severity_number: 17,
        };
        let edge = Edge {
            from: 1,
            to: 0,
            kind: Kind::Merged,
            log_odds: Some(0.0),
        };
        let graph = Graph {
            nodes: vec![node(1, 2), node(2, 1)],
            edges: vec![edge],
        };
        for incident in ["a", "b"] {
            gexf.push(incident, &graph).unwrap();
        }
        assert!(!path.exists(), "there before it is whole");
        gexf.end().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.contains(" id="))
            .collect();
        let (nodes, edges): (Vec<&str>, Vec<&str>) =
            lines.into_iter().skip(13).partition(|line| line.starts_with("<node"));
        assert_eq!(
            nodes.first(),
            Some(&r#"<node id="a/0" label="shop: &lt;boom&gt;" start="1000" end="9000">"#)
        );
        assert_eq!(
            edges,
            [
                r#"<edge id="1" source="a/1" target="a/0" weight="0.693147" start="2000" end="9000">"#,
                r#"<edge id="2" source="b/1" target="b/0" weight="0.693147" start="2000" end="9000">"#
            ]
        );
        assert!(text.find("<edges>") > text.rfind("<node id"));
    }
}
