//! Finds a message, and what went wrong, among named fields: of a JSON object, of logfmt.
//!
//! Enters: the text of an object or the fields of one, and the names that hold messages. Leaves: the fields that are asked for.
//! Promises: fields nobody asks for are checked and dropped, not kept. Absent on purpose: what is done with a message.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

/// Fields that say what went wrong, beside a message that often says only what was tried.
pub(super) const ERROR_FIELDS: [&str; 4] = ["error", "err", "exception", "error.message"];
/// Fields of such a field that say it, the kind before the message.
pub(super) const ERROR_PARTS: [&str; 2] = ["type", "message"];
/// A text of pairs is logfmt, even without a message, when one of its keys is one of these.
const LOGFMT_MARKS: [&str; 8] = ["level", "lvl", "ts", "time", "at", "caller", "logger", "severity"];

/// The fields of the JSON object `object` that [`lookup`] may be asked for by `names` or for [`ERROR_FIELDS`].
///
/// # Errors
/// `object` is no JSON object.
pub(super) fn wanted(object: &str, names: &[String]) -> serde_json::Result<Map<String, Json>> {
    let mut parser = serde_json::Deserializer::from_str(object);
    let found = parser.deserialize_map(Wanted(names))?;
    parser.end()?;
    Ok(found)
}

/// The field `name` of the object, or, for `a.b`, the field `b` of its field `a`; case is ignored.
pub(super) fn lookup<'o>(object: &'o Map<String, Json>, name: &str) -> Option<&'o Json> {
    let mut fields = object.iter();
    if let Some((_, value)) = fields.find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    match lookup(object, outer)? {
        Json::Object(object) => lookup(object, inner),
        _ => None,
    }
}

/// Is it by its keys a line of a logger?
pub(super) fn is_logger<'k>(mut keys: impl Iterator<Item = &'k str>) -> bool {
    keys.any(|key| LOGFMT_MARKS.iter().any(|mark| mark.eq_ignore_ascii_case(key)))
}

/// Is the key asked for by this name, or the first step to what is?
fn leads_to(key: &str, name: &str) -> bool {
    let step = name
        .get(..key.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(key));
    step && matches!(name.as_bytes().get(key.len()), None | Some(b'.'))
}

struct Wanted<'n>(&'n [String]);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Map<String, Json>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(key) = map.next_key_seed(WantedKey(self.0))? {
            match key {
                Some(key) => {
                    let value = map.next_value()?;
                    // Of a repeated key the first counts, as in a map of OTLP.
                    found.entry(key).or_insert(value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

struct WantedKey<'n>(&'n [String]);

impl<'de> DeserializeSeed<'de> for WantedKey<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for WantedKey<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Option<String>, E> {
        let mut names = self.0.iter().map(String::as_str).chain(ERROR_FIELDS);
        Ok(names.any(|name| leads_to(key, name)).then(|| key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// A name finds a flat key, a nested one, and nothing that only begins like it.
    #[test]
    fn names_find_flat_and_nested_fields() {
        let names = ["log.message".to_owned()];
        let find = |object: &str| {
            let found = wanted(object, &names).unwrap();
            lookup(&found, &names[0]).map(ToString::to_string)
        };
        assert_eq!(find(r#"{"x":1,"log.message":"a"}"#).unwrap(), "\"a\"");
        assert_eq!(find(r#"{"Log":{"Message":"a"}}"#).unwrap(), "\"a\"");
        assert_eq!(find(r#"{"log":"a","lo":1,"logs":{"message":"b"}}"#), None);
        assert!(wanted("[1]", &names).is_err() && wanted("{} {}", &names).is_err());
    }
}
