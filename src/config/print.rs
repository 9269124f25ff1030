//! A configuration as YAML, for `harbinger print-config`.
//!
//! What enters: a [`Config`]. What leaves: YAML that, but for secrets, configures the same agent. Promises: every
//! default is shown; values of headers, tokens and the like are not. Absent on purpose: comments, see
//! `config-examples/reference.yaml`.

use serde_yaml::Value;

use super::{advice, read::join, settings::Config};

/// What stands for a secret, as in the Collector.
pub const REDACTED: &str = "[REDACTED]";

/// `config` as YAML without secrets.
///
/// # Errors
/// When a value cannot be written as YAML, which is a bug.
pub fn print(config: &Config) -> Result<String, serde_yaml::Error> {
    let mut value = serde_yaml::to_value(config)?;
    clean(&mut value, "");
    serde_yaml::to_string(&value)
}

/// Takes secrets out, and the digits that an `f32` gets by becoming an `f64`.
fn clean(value: &mut Value, key: &str) {
    match value {
        Value::Mapping(mapping) => {
            for (name, value) in mapping.iter_mut() {
                clean(value, &join(key, name.as_str().unwrap_or_default()));
            }
        }
        Value::Sequence(values) => values.iter_mut().for_each(|value| clean(value, key)),
        Value::Null => {}
        _ if advice::is_secret(key) => *value = Value::from(REDACTED),
        Value::Number(number) if number.is_f64() => {
            let wide = number.as_f64().unwrap_or_default();
            let narrow = wide as f32;
            if f64::from(narrow) == wide
                && let Ok(shortest) = narrow.to_string().parse::<f64>()
            {
                *value = Value::from(shortest);
            }
        }
        _ => {}
    }
}
