//! In which keys two configurations differ, for an agent that is told to read its own again.
//!
//! What enters: two [`Config`]s. What leaves: keys, in the order of the path. Promises: no value is shown, as it may be a
//! secret; a secret that has changed is told of all the same, by its component. Absent on purpose: which of them can change in
//! a running agent, which `app` knows.

use serde_yaml::Value;

use super::{
    component::{Components, Role},
    read::join,
    settings::Config,
};

/// The keys that are not the same in `old` and `new`; of a section that only one of them has its own.
///
/// # Errors
/// When a value cannot be written as YAML, which is a bug.
pub fn changes(old: &Config, new: &Config) -> Result<Vec<String>, serde_yaml::Error> {
    let mut keys = Vec::new();
    compare("", &serde_yaml::to_value(old)?, &serde_yaml::to_value(new)?, &mut keys);
    hidden(Role::Receiver, &old.receivers, &new.receivers, &mut keys);
    hidden(Role::Processor, &old.processors, &new.processors, &mut keys);
    hidden(Role::Exporter, &old.exporters, &new.exporters, &mut keys);
    hidden(Role::Extension, &old.extensions, &new.extensions, &mut keys);
    Ok(keys)
}

fn compare(key: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    let (Value::Mapping(old), Value::Mapping(new)) = (old, new) else {
        if old != new {
            keys.push(key.to_owned());
        }
        return;
    };
    let below = |name: &Value| join(key, name.as_str().unwrap_or_default());
    for (name, value) in old {
        match new.get(name) {
            Some(other) => compare(&below(name), value, other, keys),
            None => keys.push(below(name)),
        }
    }
    keys.extend(new.keys().filter(|name| !old.contains_key(name)).map(below));
}

/// Components that are others though they are written alike: a secret is not written.
fn hidden<T: PartialEq>(role: Role, old: &Components<T>, new: &Components<T>, keys: &mut Vec<String>) {
    for (id, component) in &new.0 {
        let key = format!("{}.{id}", role.section());
        let is_told = |told: &String| told.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'));
        if old.get(id).is_some_and(|old| old != component) && !keys.iter().any(is_told) {
            keys.push(key);
        }
    }
}
