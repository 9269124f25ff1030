//! What to write instead: the nearest known word, the section a key belongs to, or what a later version brings.
//!
//! What enters: a word that is not known where it stands. What leaves: the sentence that goes with the finding.
//! Promise: every sentence ends in something the user can write or do. Absent on purpose: places, see
//! [`super::finding`].

use super::{
    component::{Role, TYPES},
    engine,
};

/// About a key that the section at `section` does not know.
pub fn unknown_key(section: &str, key: &str, known: &[&str]) -> String {
    if let Some(message) = later(section, key) {
        return message;
    }
    let list = known.join(", ");
    if let Some(near) = nearest(key, known) {
        return format!("unknown key; did you mean `{near}`? known keys here: {list}");
    }
    let elsewhere: Vec<String> = engine::sections()
        .into_iter()
        .filter(|(_, keys)| keys.contains(&key))
        .map(|(section, _)| format!("`{section}.{key}`"))
        .collect();
    if elsewhere.is_empty() || elsewhere.len() > 3 {
        return format!("unknown key; remove it. known keys here: {list}");
    }
    format!(
        "unknown key here; it is {}. known keys here: {list}",
        elsewhere.join(" or ")
    )
}

/// About what the Collector's Kafka components know and ours do otherwise.
fn of_kafka(section: &str, key: &str) -> Option<&'static str> {
    let (role, below) = section.split_once('.')?;
    if below.split(['/', '.']).next() != Some("kafka") {
        return None;
    }
    Some(match (role, key) {
        (_, "protocol_version") => "it is agreed upon with the brokers; remove it",
        (_, "resolve_canonical_bootstrap_servers_only" | "use_leader_epoch") => {
            "brokers are asked by the names they give; remove it"
        }
        ("receivers", "topic") => "topics belong to a signal; write `logs: {topics: [NAME]}`",
        ("exporters", "topic") => "a topic belongs to a signal; write `logs: {topic: NAME}`",
        (_, "encoding") if !section.ends_with(".logs") => {
            "an encoding belongs to a signal; write `logs: {encoding: otlp_proto}`"
        }
        ("receivers", "group_rebalance_strategy") => "write `group_rebalance_strategies: [cooperative-sticky]`",
        ("receivers", "after" | "on_error") => "a message is marked once the next hop has it, never before; remove it",
        ("receivers", "enable") if section.ends_with(".autocommit") => {
            "what was handed on is always committed; remove it"
        }
        ("receivers", "enabled") if section.ends_with(".error_backoff") => {
            "what is refused for now is always tried again; remove it"
        }
        ("receivers", "multiplier" | "randomization_factor" | "max_elapsed_time")
            if section.ends_with(".error_backoff") =>
        {
            "the wait doubles each time, and there is no end to it: the message is safe where it is; remove it"
        }
        ("receivers", "partition_processing") => "each partition is always read by itself; remove it",
        ("receivers" | "exporters", "plain_text") => {
            "write `sasl: {username: NAME, password: \"${env:KAFKA_PASSWORD}\", mechanism: PLAIN}`"
        }
        (_, "kerberos" | "aws_msk" | "oauthbearer_token_source") => {
            "only SASL's PLAIN and SCRAM are there; keep a Collector before it if you need it"
        }
        ("exporters", "partition_logs_by_trace_id" | "partition_traces_by_id" | "record_partitioner") => {
            "not in this version; remove it, or write `partition_logs_by_resource_attributes: true`"
        }
        ("exporters", "max_broker_write_bytes") => "write `producer.max_message_bytes`, which bounds a batch too",
        _ => return None,
    })
}

/// About a word that is not one of `known`.
pub fn unknown_value(value: &str, known: &[&str]) -> String {
    // Spellings in capitals are accepted, not advertised.
    let spelt: Vec<&str> = known
        .iter()
        .filter(|word| !word.contains(char::is_uppercase))
        .copied()
        .collect();
    let known = if spelt.is_empty() { known } else { &spelt };
    let list = known
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest(value, known) {
        Some(near) => format!("unknown value `{value}`; did you mean `{near}`? known values: {list}"),
        None => format!("unknown value `{value}`; known values: {list}"),
    }
}

/// About a component type that Harbinger does not have.
pub fn unknown_type(role: Role, kind: &str) -> String {
    let known: Vec<&str> = TYPES
        .iter()
        .filter(|known| known.role == role)
        .map(|known| known.name)
        .collect();
    let list = known.join(", ");
    match (role, kind) {
        (Role::Processor, "batch") => {
            "Harbinger passes requests on as they come and has no `batch`; remove it here and batch in the Collector \
             before or behind"
                .to_owned()
        }
        _ => match nearest(kind, &known) {
            Some(near) => format!(
                "unknown {role} type `{kind}`; did you mean `{near}`? there are: {list} (`harbinger components` describes them)"
            ),
            None if matches!(role, Role::Receiver | Role::Exporter) => format!(
                "unknown {role} type `{kind}`; there are: {list} (`harbinger components` describes them). Let a \
                 Collector run `{kind}` and connect it by OTLP"
            ),
            None => format!("unknown {role} type `{kind}`; there are: {list} (`harbinger components` describes them)"),
        },
    }
}

/// About a pipeline id that is of no signal.
pub fn other_pipeline(id: &str) -> String {
    let kind = id.split('/').next().unwrap_or(id);
    match kind {
        "profiles" => {
            "profiles are not supported; remove this pipeline and send them from the Collector straight to their \
                       destination"
                .to_owned()
        }
        _ => match nearest(kind, &["logs", "traces", "metrics"]) {
            Some(near) => format!("unknown pipeline; did you mean `{near}`?"),
            None => "unknown pipeline; there are `logs`, and `traces` and `metrics`, which pass unjudged".to_owned(),
        },
    }
}

/// What is known in the Collector and comes to Harbinger later.
fn later(section: &str, key: &str) -> Option<String> {
    if let Some(message) = of_kafka(section, key) {
        return Some(message.to_owned());
    }
    let role = section.split('.').next().unwrap_or_default();
    let message = match (role, key) {
        (_, "ca_pem" | "cert_pem" | "key_pem") if section.ends_with(".tls") => {
            "certificates and keys are read from files, which can be renewed without a restart; write `ca_file`, `cert_file` \
             or `key_file`"
        }
        (_, "cipher_suites" | "curve_preferences" | "tpm") if section.ends_with(".tls") => {
            "there are none but good ones, and nothing to choose; remove it"
        }
        (_, "client_ca_file_reload" | "reload_client_ca_file") if section.ends_with(".tls") => {
            "`client_ca_file` is always read again when it changes (`reload_interval`); remove it"
        }
        (_, "request_params") if section.ends_with(".auth") => {
            "credentials are read from the headers of a call alone; remove it"
        }
        ("", "connectors") => "Harbinger has no connectors; remove them here and keep them in the Collector",
        ("receivers", "profiles_url_path") => "profiles are not supported; remove it, and send them elsewhere",
        ("receivers", "max_recv_msg_size_mib") if section.ends_with(".http") => {
            "that is gRPC's; by HTTP the limit is in bytes: write `max_request_body_size: 67108864`"
        }
        ("receivers", "max_request_body_size") if section.ends_with(".grpc") => {
            "that is HTTP's; by gRPC the limit is in MiB: write `max_recv_msg_size_mib: 64`"
        }
        ("receivers", "cors" | "response_headers") => {
            "Harbinger is no server for browsers; remove it, and keep a Collector or proxy before it if you need it"
        }
        (
            "receivers",
            "keepalive"
            | "keep_alives_enabled"
            | "max_concurrent_streams"
            | "read_buffer_size"
            | "write_buffer_size"
            | "read_timeout"
            | "write_timeout"
            | "compression_algorithms"
            | "transport",
        ) => "not adjustable in this version; remove it",
        ("exporters", "sending_queue") => "this exporter writes at once and has no queue; remove it",
        ("exporters", "batch") if section.ends_with(".sending_queue") => {
            "requests are passed on as they come; remove it here and batch in the Collector before or behind"
        }
        ("exporters", "wait_for_result") if section.ends_with(".sending_queue") => {
            "a queue on disk answers when it is written; remove it (without `sending_queue` the answer is the next hop's)"
        }
        ("exporters", "blocking") if section.ends_with(".sending_queue") => {
            "the name is `block_on_overflow` now; write that"
        }
        ("extensions", "timeout" | "fsync" | "compaction" | "directory_permissions" | "recreate") => {
            "not adjustable: queues are always synced, readable by their owner only, and set aside when they are corrupt; \
             remove it"
        }
        (
            "exporters",
            "keepalive"
            | "balancer_name"
            | "read_buffer_size"
            | "write_buffer_size"
            | "wait_for_ready"
            | "authority"
            | "max_idle_conns"
            | "max_idle_conns_per_host"
            | "max_conns_per_host"
            | "idle_conn_timeout"
            | "disable_keep_alives"
            | "http2_read_idle_timeout"
            | "http2_ping_timeout"
            | "proxy_url",
        ) => "not adjustable in this version; remove it",
        ("exporters", "profiles_endpoint") => "profiles are not supported; remove it",
        ("service", "traces") => {
            "the agent's own traces are `service.telemetry.traces`, those of others `service.pipelines.traces`"
        }
        _ => return None,
    };
    Some(message.to_owned())
}

/// Whether what stands at `key` must not be shown: header values, tokens and the like.
pub fn is_secret(key: &str) -> bool {
    // `headers: {X-Scope-OrgID: {from_context: NAME}}` names a header, it does not hold one.
    if key.ends_with(".from_context") {
        return false;
    }
    // Names of headers, and whether they are wanted.
    if key.contains(".header_extraction.") {
        return false;
    }
    // Users that were written where their section belongs.
    if key.ends_with(".htpasswd") || key.ends_with(".client_auth") {
        return true;
    }
    let mut steps = key.split('.').map(|step| step.split('[').next().unwrap_or(step));
    steps.any(|step| {
        let step = step.to_ascii_lowercase();
        if matches!(step.as_str(), "tokens" | "inline" | "key_pem") {
            return true;
        }
        [
            "headers",
            "token",
            "password",
            "secret",
            "api_key",
            "authorization",
            "credential",
        ]
        .iter()
        .any(|word| step == *word || step.ends_with(&format!("_{word}")))
    })
}

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_keys() {
        for key in [
            "exporters.otlp_grpc.headers.X-Scope-OrgID",
            "a.bearer_token",
            "a.headers[0].value",
            "x.password",
            "extensions.bearertokenauth.tokens[1]",
            "extensions.basicauth/a.htpasswd.inline",
            "extensions.basicauth.client_auth.password",
            "exporters.otlp_grpc.tls.key_pem",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "exporters.otlp_grpc.endpoint",
            "processors.harbinger.text.max_text_bytes",
            "embedding.tokenizer",
            "embedding.max_tokens",
            "extensions.basicauth.htpasswd.file",
            "receivers.otlp.protocols.grpc.tls.key_file",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("detecton", &["text", "detection"]), Some("detection"));
        assert_eq!(
            nearest("snapshot-interval", &["snapshot_interval"]),
            Some("snapshot_interval")
        );
        assert_eq!(nearest("window", &["mode", "seed"]), None);
    }
}
