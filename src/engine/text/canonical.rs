//! What a record says, as one text: from a string, map, array or byte body, JSON or logfmt within a string, and its exception.
//!
//! Enters: a [`Record`] and the settings. Leaves: the text in the caller's buffer, and what was odd.
//!
//! The rule, in this order: a string or byte body is the text, without terminal escapes and without the prefix of a log
//! framework; if it is a JSON object or logfmt, it is read like a map; of a map the first configured field that is not
//! empty, by the same rule, and its `error` field behind it; otherwise the body as JSON with sorted keys;
//! `exception.type` and `exception.message` behind it unless it says them already; the event's name if there is nothing
//! else. Then stack traces keep their messages and nearest frames, and the text is cut at `max_text_bytes`.
//!
//! Promises: total, bounded in depth, length and entries read; the order of a map's keys does not matter. With masking
//! off, prefixes and logfmt stay as they stand.
//! Absent on purpose: other attributes (they vary per request and would split templates) and stack-trace attributes.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr;
use serde_json::{Map, Value as Json};

use super::escapes::{ESCAPE, without_escapes};
use super::fields::{ERROR_FIELDS, ERROR_PARTS, is_logger, lookup, wanted};
use super::{Oddities, Settings, logfmt, prefix, trace};
use crate::engine::view::{KeyValueList, Record, Value};

/// Values nested deeper than this are left out of the text.
const MAX_NESTING: usize = 16;
/// JSON within JSON strings within JSON: a log driver wraps once, a forwarder twice.
const MAX_UNWRAPPING: usize = 4;
/// Elements of one map or array that are read.
const MAX_ENTRIES: usize = 256;
/// Longest string that is tried as JSON.
const MAX_JSON_BYTES: usize = 65_536;
/// Longest string that is kept before shortening, as a multiple of `max_text_bytes`: room for a stack trace's frames.
const SLACK: usize = 8;

/// What was thrown, and what it said.
const EXCEPTION: [&str; 2] = ["exception.type", "exception.message"];

/// Whether the record tells of an exception beside its body.
pub(super) fn has_exception(record: &Record<'_>) -> bool {
    EXCEPTION.iter().any(|key| record.last_text(key).is_some())
}

/// Writes the canonical text of `record` to `out`, which is cleared first.
pub(super) fn write(record: &Record<'_>, settings: &Settings, out: &mut String) -> Oddities {
    out.clear();
    let room = settings.max_text_bytes.saturating_mul(SLACK);
    let mut writer = Writer {
        settings,
        out,
        room,
        odd: Oddities::default(),
    };
    writer.body(record.body, 0);
    writer.tidy();
    writer.exception(record);
    if writer.out.is_empty() {
        writer.text(record.event_name);
        writer.odd.empty = writer.out.is_empty();
    }
    writer.room = settings.max_text_bytes;
    writer.cut();
    writer.odd
}

struct Writer<'s, 'o> {
    settings: &'s Settings,
    out: &'o mut String,
    /// Longest `out` may become.
    room: usize,
    odd: Oddities,
}

impl Writer<'_, '_> {
    /// A body, or the field of one that holds the message.
    fn body(&mut self, value: Value<'_>, unwrapped: usize) {
        match value {
            Value::Empty => {}
            Value::String(bytes) => self.string(bytes, unwrapped),
            Value::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => self.string(bytes, unwrapped),
            Value::Map(entries) => self.map_body(entries, unwrapped),
            other => self.value(other, 0, false),
        }
    }

    fn map_body(&mut self, entries: KeyValueList<'_>, unwrapped: usize) {
        if unwrapped < MAX_UNWRAPPING {
            let settings = self.settings;
            for field in &settings.body_fields {
                let Some(value) = entry(entries, field) else { continue };
                self.body(value, unwrapped + 1);
                if !self.out.is_empty() {
                    return self.map_error(entries);
                }
            }
        }
        self.value(Value::Map(entries), 0, false);
    }

    /// What went wrong, by a map's fields for that.
    fn map_error(&mut self, entries: KeyValueList<'_>) {
        for field in ERROR_FIELDS {
            match entry(entries, field) {
                Some(Value::String(text)) => {
                    let text = self.decode(text);
                    self.add(&text, ": ");
                }
                Some(Value::Map(parts)) => {
                    for part in ERROR_PARTS {
                        if let Some(Value::String(text)) = entry(parts, part) {
                            let text = self.decode(text);
                            self.add(&text, ": ");
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A string body: what it says, or what the JSON object or the pairs in it say.
    fn string(&mut self, bytes: &[u8], unwrapped: usize) {
        let mut text = self.decode(bytes);
        if memchr(ESCAPE, text.as_bytes()).is_some() {
            text = Cow::Owned(without_escapes(&text));
        }
        let said = text.trim();
        if unwrapped >= MAX_UNWRAPPING || said.len() > MAX_JSON_BYTES {
            return self.push(&text);
        }
        let json = said.starts_with('{') && said.ends_with('}');
        if json && self.json_body(said, unwrapped) || self.settings.masking && self.framed(said, unwrapped) {
            return;
        }
        self.push(&text);
    }

    /// A text in a frame that says less than what is in it: a prefix of a log framework, or logfmt. False when there is none.
    fn framed(&mut self, text: &str, unwrapped: usize) -> bool {
        if let Some(split) = prefix::split(text) {
            self.push(split.lead);
            self.push(split.joint);
            // The message is read as if it stood alone, and then joined to what leads to it.
            let lead = std::mem::take(self.out);
            self.string(split.message.as_bytes(), unwrapped + 1);
            self.out.insert_str(0, &lead);
            return true;
        }
        logfmt::pairs(text).is_some_and(|pairs| self.pairs(&pairs, unwrapped))
    }

    /// What logfmt says: its message, or all of it as the JSON that it means.
    fn pairs(&mut self, pairs: &[(&str, Cow<'_, str>)], unwrapped: usize) -> bool {
        let named = |name: &str| {
            let mut pairs = pairs.iter();
            pairs
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| &**value)
        };
        let settings = self.settings;
        for message in settings.body_fields.iter().filter_map(|field| named(field)) {
            self.string(message.as_bytes(), unwrapped + 1);
            if !self.out.is_empty() {
                ERROR_FIELDS
                    .into_iter()
                    .filter_map(named)
                    .for_each(|text| self.add(text, ": "));
                return true;
            }
        }
        if !is_logger(pairs.iter().map(|(key, _)| *key)) {
            return false;
        }
        let value = |text: &str| match serde_json::from_str(text) {
            Ok(value @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => value,
            _ => Json::String(text.to_owned()),
        };
        let object = pairs
            .iter()
            .map(|(key, text)| ((*key).to_owned(), value(text)))
            .collect();
        self.json(&Json::Object(object), 0);
        true
    }

    /// False when `object` is no JSON after all.
    fn json_body(&mut self, object: &str, unwrapped: usize) -> bool {
        let Ok(fields) = wanted(object, &self.settings.body_fields) else {
            return false;
        };
        if self.json_message(&fields, unwrapped) {
            return true;
        }
        match serde_json::from_str::<Json>(object) {
            Ok(value) => self.json(&value, 0),
            Err(_) => return false,
        }
        true
    }

    /// The message of an object and what went wrong; false when it has none.
    fn json_message(&mut self, object: &Map<String, Json>, unwrapped: usize) -> bool {
        let settings = self.settings;
        for value in settings.body_fields.iter().filter_map(|field| lookup(object, field)) {
            match value {
                Json::Null => {}
                Json::String(text) => self.string(text.as_bytes(), unwrapped + 1),
                Json::Object(inner) if unwrapped < MAX_UNWRAPPING && self.json_message(inner, unwrapped + 1) => {}
                other => self.json(other, 0),
            }
            if !self.out.is_empty() {
                for error in ERROR_FIELDS.into_iter().filter_map(|field| lookup(object, field)) {
                    match error {
                        Json::String(text) => self.add(text, ": "),
                        Json::Object(parts) => ERROR_PARTS
                            .into_iter()
                            .filter_map(|part| lookup(parts, part)?.as_str())
                            .for_each(|text| self.add(text, ": ")),
                        _ => {}
                    }
                }
                return true;
            }
        }
        false
    }

    /// `exception.type: exception.message`, as far as the text does not say it already.
    fn exception(&mut self, record: &Record<'_>) {
        if !has_exception(record) {
            return;
        }
        let (kind, message) = EXCEPTION.map(|key| record.last_text(key).unwrap_or_default()).into();
        for (part, separator) in [(kind, " "), (message, if kind.is_empty() { " " } else { ": " })] {
            let part = self.decode(part);
            self.add(&part, separator);
        }
    }

    /// Appends what is not said already.
    fn add(&mut self, part: &str, separator: &str) {
        let part = part.trim();
        if !part.is_empty() && !self.out.contains(part) {
            if !self.out.is_empty() {
                self.push(separator);
            }
            self.push(part);
        }
    }

    /// A string as it stands, without a look at what is in it.
    fn text(&mut self, bytes: &[u8]) {
        let text = self.decode(bytes);
        self.push(&text);
    }

    /// The bytes as text, at most as many as there is room for.
    fn decode<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, str> {
        let limit = self.room.max(MAX_JSON_BYTES);
        self.odd.truncated |= bytes.len() > limit;
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        // Nearly all is UTF-8, and to see that is quicker than to mend it.
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Cow::Borrowed(text);
        }
        let text = String::from_utf8_lossy(bytes);
        // A character that the limit cut in two is not the sender's fault.
        self.odd.invalid_utf8 |=
            matches!(text, Cow::Owned(_)) && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some());
        text
    }

    /// Appends, as far as there is room.
    fn push(&mut self, text: &str) {
        let left = self.room.saturating_sub(self.out.len());
        if text.len() <= left {
            self.out.push_str(text);
        } else {
            self.odd.truncated = true;
            self.out
                .push_str(text.get(..text.floor_char_boundary(left)).unwrap_or_default());
        }
    }

    /// A value of OTLP as JSON; a string as it stands unless `quoted`.
    fn value(&mut self, value: Value<'_>, depth: usize, quoted: bool) {
        if self.out.len() >= self.room {
            return;
        }
        match value {
            Value::Empty => self.push("null"),
            Value::String(bytes) => {
                let text = self.decode(bytes);
                if quoted { self.quoted(&text) } else { self.push(&text) }
            }
            Value::Bool(flag) => self.push(if flag { "true" } else { "false" }),
            Value::Int(number) => self.number(format_args!("{number}")),
            Value::Double(number) => self.number(format_args!("{number}")),
            Value::Bytes(bytes) => {
                self.push("0x");
                for byte in bytes.iter().take(32) {
                    self.number(format_args!("{byte:02x}"));
                }
            }
            Value::Array(_) | Value::Map(_) if depth >= MAX_NESTING => {
                self.odd.too_deep = true;
                self.push("…");
            }
            Value::Malformed => {
                self.odd.too_deep = true;
                self.push("…");
            }
            Value::Array(elements) => {
                self.push("[");
                for (index, element) in elements.iter().take(MAX_ENTRIES).enumerate() {
                    self.push(if index > 0 { "," } else { "" });
                    self.value(element, depth + 1, true);
                }
                self.push("]");
            }
            Value::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().take(MAX_ENTRIES).collect();
                sorted.sort_by_key(|(key, _)| *key);
                self.push("{");
                for (index, (key, value)) in sorted.into_iter().enumerate() {
                    self.push(if index > 0 { "," } else { "" });
                    let key = self.decode(key);
                    self.quoted(&key);
                    self.push(":");
                    self.value(value, depth + 1, true);
                }
                self.push("}");
            }
        }
    }

    /// A value of JSON as JSON; serde_json has bounded its depth to 128 already.
    fn json(&mut self, value: &Json, depth: usize) {
        if self.out.len() >= self.room {
            return;
        }
        match value {
            Json::Null => self.push("null"),
            Json::Bool(flag) => self.push(if *flag { "true" } else { "false" }),
            Json::Number(number) => self.number(format_args!("{number}")),
            Json::String(text) => self.quoted(text),
            Json::Array(_) | Json::Object(_) if depth >= MAX_NESTING => {
                self.odd.too_deep = true;
                self.push("…");
            }
            Json::Array(elements) => {
                self.push("[");
                for (index, element) in elements.iter().take(MAX_ENTRIES).enumerate() {
                    self.push(if index > 0 { "," } else { "" });
                    self.json(element, depth + 1);
                }
                self.push("]");
            }
            Json::Object(entries) => {
                let mut sorted: Vec<_> = entries.iter().take(MAX_ENTRIES).collect();
                sorted.sort_by_key(|(key, _)| *key);
                self.push("{");
                for (index, (key, value)) in sorted.into_iter().enumerate() {
                    self.push(if index > 0 { "," } else { "" });
                    self.quoted(key);
                    self.push(":");
                    self.json(value, depth + 1);
                }
                self.push("}");
            }
        }
    }

    fn number(&mut self, number: std::fmt::Arguments<'_>) {
        if self.out.len() < self.room {
            // Writing to a String cannot fail.
            let _ = self.out.write_fmt(number);
        }
    }

    /// A JSON string; control characters become spaces, which is all they are to a template.
    fn quoted(&mut self, text: &str) {
        self.push("\"");
        let mut rest = text;
        while let Some(index) = rest.find(|c: char| c == '"' || c == '\\' || c.is_control()) {
            let (plain, tail) = rest.split_at(index);
            self.push(plain);
            let mut tail = tail.chars();
            match tail.next() {
                Some('"') => self.push("\\\""),
                Some('\\') => self.push("\\\\"),
                _ => self.push(" "),
            }
            rest = tail.as_str();
        }
        self.push(rest);
        self.push("\"");
    }

    /// Strips terminal escapes and surrounding space, and shortens stack traces.
    fn tidy(&mut self) {
        if memchr(ESCAPE, self.out.as_bytes()).is_some() {
            *self.out = without_escapes(self.out);
        }
        let kept = self.out.trim_end().len();
        self.out.truncate(kept);
        let leading = self.out.len() - self.out.trim_start().len();
        self.out.drain(..leading);
        if memchr(b'\n', self.out.as_bytes()).is_some() {
            trace::shorten(self.out);
        }
    }

    /// Cuts the text to its room, at a character.
    fn cut(&mut self) {
        if self.out.len() > self.room {
            self.odd.truncated = true;
            self.out.truncate(self.out.floor_char_boundary(self.room));
        }
    }
}

/// The entry of a map by its key, case ignored; for `a.b` also the entry `b` of its entry `a`.
fn entry<'a>(entries: KeyValueList<'a>, name: &str) -> Option<Value<'a>> {
    let named = |name: &str| {
        let mut entries = entries.iter().take(MAX_ENTRIES);
        let found = entries.find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value)
    };
    named(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        match named(outer)? {
            Value::Map(entries) => entry(entries, inner),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any,
    };
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use prost::Message;

    use super::super::{Oddities, Reader, Settings, TemplateKey};
    use crate::engine::view::View;

    fn entry(key: &str, value: Any) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    fn string(text: &str) -> Any {
        Any::StringValue(text.to_owned())
    }

    fn map(entries: Vec<KeyValue>) -> Any {
        Any::KvlistValue(KeyValueList { values: entries })
    }

    fn with_body(body: Any) -> LogRecord {
        LogRecord {
            body: Some(AnyValue { value: Some(body) }),
            ..LogRecord::default()
        }
    }

    fn encode(record: LogRecord) -> Vec<u8> {
        let scope_logs = vec![ScopeLogs {
            log_records: vec![record],
            ..ScopeLogs::default()
        }];
        let resource_logs = vec![ResourceLogs {
            scope_logs,
            ..ResourceLogs::default()
        }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    /// Canonical text, template and oddities of a request's first record.
    fn read_bytes(bytes: &[u8], settings: &Settings) -> (String, String, Oddities) {
        let view = View::parse(bytes).unwrap();
        let record = view.records().next().unwrap();
        let mut reader = Reader::new(settings);
        let text = reader.read(&record);
        assert_eq!(text.key, TemplateKey::of(text.template));
        (text.canonical.to_owned(), text.template.to_owned(), text.odd)
    }

    fn canonical(record: LogRecord) -> String {
        read_bytes(&encode(record), &Settings::default()).0
    }

    fn of(body: Any) -> String {
        canonical(with_body(body))
    }

    #[test]
    fn a_string_body_is_the_text() {
        assert_eq!(of(string("  plain text\n")), "plain text");
    }

    /// The first configured field that says something wins, whatever its place, however its key is written.
    #[test]
    fn a_map_body_says_its_message() {
        let fields = vec![
            entry("Msg", string("second")),
            entry("level", string("info")),
            entry("message", string("first")),
        ];
        assert_eq!(of(map(fields)), "first");
        let fields = vec![entry("message", string("")), entry("msg", string("second"))];
        assert_eq!(of(map(fields)), "second");
        let fields = vec![entry("event", map(vec![entry("body", Any::IntValue(7))]))];
        assert_eq!(of(map(fields)), "7");
    }

    /// Without a message the whole body is the text, and the order of its keys is no part of it.
    #[test]
    fn a_map_body_without_message_is_sorted_json() {
        let list = Any::ArrayValue(ArrayValue {
            values: vec![
                AnyValue {
                    value: Some(Any::BoolValue(true)),
                },
                AnyValue { value: None },
            ],
        });
        let one = map(vec![
            entry("b", Any::DoubleValue(1.5)),
            entry("a", string("x \"y\"\n")),
            entry("c", list.clone()),
        ]);
        let other = map(vec![
            entry("c", list),
            entry("a", string("x \"y\"\n")),
            entry("b", Any::DoubleValue(1.5)),
        ]);
        assert_eq!(of(one.clone()), r#"{"a":"x \"y\" ","b":1.5,"c":[true,null]}"#);
        assert_eq!(of(one), of(other));
    }

    /// JSON in a string is read like a map: one wrapping or several, with and without a message; broken JSON is text.
    #[test]
    fn json_in_a_string_is_read_like_a_map() {
        assert_eq!(of(string(r#"{"level":"info","msg":"started","n":1}"#)), "started");
        assert_eq!(
            of(string(r#"{"log":"{\"message\":\"inner\"}\n","stream":"stdout"}"#)),
            "inner"
        );
        assert_eq!(
            of(string(r#" {"b":[1,{"y":2,"x":3}],"a":null} "#)),
            r#"{"a":null,"b":[1,{"x":3,"y":2}]}"#
        );
        assert_eq!(of(string(r#"{"message":{"b":1,"msg":"deep"}}"#)), "deep");
        assert_eq!(of(string(r#"{"message":"cut of"#)), r#"{"message":"cut of"#);
        assert_eq!(of(string("{not json}")), "{not json}");
        assert_eq!(of(string(r#"{"a":1} {"b":2}"#)), r#"{"a":1} {"b":2}"#);
    }

    /// The shapes that loggers and collectors write, each by its message and what went wrong.
    #[test]
    fn conventions_are_known() {
        for (body, expected) in [
            // pino, bunyan, zerolog, logrus, zap
            (
                r#"{"level":50,"time":1,"msg":"failed","err":{"type":"Error","message":"late","stack":"x"}}"#,
                "failed: Error: late",
            ),
            (
                r#"{"name":"shop","hostname":"a","pid":1,"level":30,"msg":"up","v":0}"#,
                "up",
            ),
            (r#"{"level":"error","error":"late","message":"failed"}"#, "failed: late"),
            (
                r#"{"level":"error","error":"it failed late","msg":"it failed late"}"#,
                "it failed late",
            ),
            // ECS, GELF, Serilog, Google Cloud, container runtimes
            (r#"{"@timestamp":"x","log":{"level":"info","message":"up"}}"#, "up"),
            (r#"{"message":"failed","error.message":"late"}"#, "failed: late"),
            (
                r#"{"version":"1.1","host":"a","short_message":"up","full_message":"all"}"#,
                "up",
            ),
            (r#"{"@t":"x","@mt":"took {Ms}","Ms":5}"#, "took {Ms}"),
            (r#"{"jsonPayload":{"message":"up"},"insertId":"x"}"#, "up"),
            (
                r#"{"log":"2026-11-22T10:00:00Z stderr F {\"msg\":\"up\"}\n","stream":"stderr"}"#,
                "up",
            ),
            // logfmt, with and without a message
            (
                r#"time="x" level=error msg="it \"failed\"" err=late"#,
                "it \"failed\": late",
            ),
            (
                r#"at=info path="/a" status=200 took=5ms ok=true"#,
                r#"{"at":"info","ok":true,"path":"/a","status":200,"took":"5ms"}"#,
            ),
            ("r1=5 r2=6 r3=7", "r1=5 r2=6 r3=7"),
            // prefixes, alone and around something
            ("<34>1 2026-11-22T10:00:00Z web app 1 - - {\"msg\":\"up\"}", "app: up"),
            (
                "\x1b[32m2026-11-22 10:00:00,123\x1b[0m [main] INFO a.B - up",
                "INFO a.B - up",
            ),
            (r#"{"log":"Nov 22 10:00:00 web app[1]: level=info msg=up"}"#, "app: up"),
        ] {
            assert_eq!(of(string(body)), expected, "from {body}");
        }
        let nested = vec![
            entry("message", string("failed")),
            entry("err", map(vec![entry("message", string("late"))])),
        ];
        assert_eq!(of(map(nested)), "failed: late");
    }

    /// What users name and type, in whatever notation, does not make a template of every record.
    #[test]
    fn bodies_of_many_values_have_few_templates() {
        let word = |n: usize| -> String { format!("{n:b}").replace('0', "a").replace('1', "z") };
        let shapes: [&dyn Fn(usize) -> String; 5] = [
            &|n| {
                format!(
                    r#"{{"user":"{0}","path":"/{0}/x","n":{n},"tags":["{0}","b"],"items":[{1}{{"id":1}}]}}"#,
                    word(n),
                    r#"{"id":2,"x":null},"#.repeat(n % 7)
                )
            },
            &|n| format!("level=info user={0} path=/{0} took={n}ms", word(n)),
            &|n| {
                format!(
                    "SELECT a FROM t WHERE b IN ({}'x')",
                    format!("'{}', ", word(n)).repeat(n % 9)
                )
            },
            &|n| {
                format!(
                    "INSERT INTO t VALUES {}(1, 'x')",
                    format!("({n}, '{}'), ", word(n)).repeat(n % 200)
                )
            },
            &|n| format!("password={0} for {n}", word(n)),
        ];
        for shape in shapes {
            let templates: std::collections::BTreeSet<String> = (1..1000)
                .map(|n| read_bytes(&encode(with_body(string(&shape(n)))), &Settings::default()).1)
                .collect();
            // The first element of an array says what the rest is like.
            assert!(templates.len() <= 2, "{templates:?}");
        }
    }

    /// The user's rules come before the built-in masking, which leaves their placeholders alone; with it off they still run.
    #[test]
    fn rules_come_first() {
        let yaml = "masking_rules: [{pattern: 'order-[a-z]+-\\d+', replacement: <order_id>}]";
        let mut settings: Settings = serde_yaml::from_str(yaml).unwrap();
        let bytes = encode(with_body(string("order-ab-12 order-cd-7, 5 left")));
        assert_eq!(read_bytes(&bytes, &settings).1, "<order_id> <order_id>, <n> left");
        settings.masking = false;
        assert_eq!(read_bytes(&bytes, &settings).1, "<order_id> <order_id>, 5 left");
    }

    #[test]
    fn other_bodies_are_written_out() {
        assert_eq!(of(Any::IntValue(-3)), "-3");
        assert_eq!(of(Any::DoubleValue(f64::NAN)), "NaN");
        assert_eq!(of(Any::BoolValue(false)), "false");
        assert_eq!(of(Any::BytesValue(b"text as bytes".to_vec())), "text as bytes");
        assert_eq!(of(Any::BytesValue(vec![0xff, 0x00, 0x10])), "0xff0010");
        let list = vec![
            AnyValue {
                value: Some(string("a")),
            },
            AnyValue {
                value: Some(Any::IntValue(1)),
            },
        ];
        assert_eq!(of(Any::ArrayValue(ArrayValue { values: list })), r#"["a",1]"#);
    }

    #[test]
    fn an_exception_is_told_once() {
        let attributes = vec![
            entry("exception.message", string("no route")),
            entry("exception.type", string("IOError")),
        ];
        let mut record = with_body(string("request failed"));
        record.attributes = attributes.clone();
        assert_eq!(canonical(record.clone()), "request failed IOError: no route");
        record.body = Some(AnyValue {
            value: Some(string("IOError while sending: no route")),
        });
        assert_eq!(canonical(record.clone()), "IOError while sending: no route");
        record.body = None;
        assert_eq!(canonical(record), "IOError: no route");
    }

    /// A record that says nothing has a template like any other; an event at least has its name.
    #[test]
    fn an_empty_record_is_empty() {
        let (text, template, odd) = read_bytes(&encode(LogRecord::default()), &Settings::default());
        assert_eq!((text.as_str(), template.as_str(), odd.empty), ("", "", true));
        let record = LogRecord {
            event_name: "user.login".to_owned(),
            ..with_body(string(""))
        };
        let (text, _, odd) = read_bytes(&encode(record), &Settings::default());
        assert_eq!((text.as_str(), odd.empty), ("user.login", false));
    }

    /// Of a stack trace all messages and the frames nearest to the fault stay.
    #[test]
    fn stack_traces_are_shortened() {
        let java: String = (0..40)
            .map(|n| format!("\n\tat org.example.C{n}.run(C{n}.java:{n})"))
            .collect();
        let text = of(string(&format!(
            "java.io.IOException: broken{java}\nCaused by: java.net.X: reset{java}\n\t... 12 more"
        )));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 5 + 1 + 2);
        assert_eq!(
            (lines[0], lines[6]),
            ("java.io.IOException: broken", "Caused by: java.net.X: reset")
        );
        assert_eq!(lines[1], "\tat org.example.C0.run(C0.java:0)");

        let frames: String = (0..40)
            .map(|n| format!("  File \"f{n}.py\", line {n}, in run\n    call({n})\n"))
            .collect();
        let text = of(string(&format!(
            "boom\nTraceback (most recent call last):\n{frames}ValueError: bad"
        )));
        assert!(
            text.starts_with("boom\nTraceback") && text.ends_with("call(39)\nValueError: bad"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2 + 2 * 5 + 1);
    }

    /// Whatever the sender does, the text is bounded, and what was cut or misread is told.
    #[test]
    fn odd_bodies_are_bounded_and_told() {
        let (text, template, odd) = read_bytes(&encode(with_body(string(&"é".repeat(40_000)))), &Settings::default());
        assert_eq!((text.len(), odd.truncated), (2048, true));
        assert!(template.len() <= super::super::MAX_TEMPLATE_BYTES);

        let mut deep = string("x");
        for _ in 0..60 {
            deep = map(vec![entry("k", deep)]);
        }
        let (text, _, odd) = read_bytes(&encode(with_body(deep)), &Settings::default());
        assert!(odd.too_deep && text.contains('…'), "{text}");

        let json = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        let (text, _, odd) = read_bytes(&encode(with_body(string(&json))), &Settings::default());
        assert!(odd.truncated && text.starts_with(r#"{"a":{"a":"#));

        let mut bytes = encode(with_body(string("bad \u{1}\u{1} bytes")));
        let at = bytes.windows(2).position(|pair| pair == [1, 1]).unwrap();
        bytes[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
        let (text, _, odd) = read_bytes(&bytes, &Settings::default());
        assert_eq!((text.as_str(), odd.invalid_utf8), ("bad \u{fffd}\u{fffd} bytes", true));
    }

    /// Colours are not part of what is said; with masking off the template is the text, digits and all.
    #[test]
    fn colours_go_and_masking_can_be_turned_off() {
        let settings = Settings {
            masking: false,
            ..Settings::default()
        };
        let (text, template, _) = read_bytes(
            &encode(with_body(string("\x1b[1;31mfailed\x1b[0m  7 times"))),
            &settings,
        );
        assert_eq!(
            (text.as_str(), template.as_str()),
            ("failed  7 times", "failed  7 times")
        );
        let (_, template, _) = read_bytes(&encode(with_body(string("failed  7 times"))), &Settings::default());
        assert_eq!(template, "failed <n> times");
    }
}
