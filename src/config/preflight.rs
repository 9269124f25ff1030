//! What `harbinger validate` can see of the disk without starting.
//!
//! What enters: what runs. What leaves: errors about paths that a start would fail on. Promise: nothing is created or
//! changed; certificates and keys are read and held against each other. Absent on purpose: permissions (whoever validates need
//! not be who runs), ports and the model.

use std::path::Path;

use super::{
    component::NO_KAFKA,
    finding::{ConfigError, Finding},
    settings::{Exporter, Extension, Receiver, Settings},
};

/// Checks the paths in `settings`.
///
/// # Errors
/// Every path that cannot work.
pub fn preflight(settings: &Settings) -> Result<(), ConfigError> {
    let mut findings = Vec::new();
    let mut tell = |key: String, message: String| findings.push(Finding::new(None, key, message));
    let without_kafka = |tell: &mut dyn FnMut(String, String), key: String| {
        if !cfg!(feature = "kafka") {
            tell(key, NO_KAFKA.to_owned());
        }
    };
    for (id, receiver) in &settings.receivers {
        if let Receiver::Kafka(kafka) = receiver {
            without_kafka(&mut tell, format!("receivers.{id}"));
            if let Some(Err(problem)) = kafka.tls.as_ref().map(|tls| tls.check_files()) {
                tell(format!("receivers.{id}"), problem);
            }
        }
        for protocol in receiver.protocols() {
            if let Some(Err(problem)) = protocol.tls.map(|tls| tls.check_files()) {
                tell(format!("receivers.{id}.protocols.{}", protocol.name), problem);
            }
        }
    }
    let processor = &settings.processor;
    let notifiers = &settings.harbinger.notifiers;
    for (name, endpoint, tls) in [
        (
            "alertmanager",
            &notifiers.alertmanager.endpoint,
            &notifiers.alertmanager.tls,
        ),
        ("webhook", &notifiers.webhook.endpoint, &notifiers.webhook.tls),
    ] {
        if endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.starts_with("https://"))
            && let Err(problem) = tls.check_files()
        {
            tell(format!("processors.{processor}.notifiers.{name}"), problem);
        }
    }
    if let Some(cluster) = settings.harbinger.shared_by() {
        let key = format!("processors.{processor}.cluster");
        without_kafka(&mut tell, key.clone());
        if let Some(Err(problem)) = cluster.kafka.tls.as_ref().map(|tls| tls.check_files()) {
            tell(key, problem);
        }
    }
    for (id, exporter) in &settings.exporters {
        let destinations = exporter.destinations();
        if let Some(destination) = destinations.iter().find(|destination| destination.is_encrypted)
            && let Some(Err(problem)) = destination.tls.map(|tls| tls.check_files())
        {
            tell(format!("exporters.{id}"), problem);
        }
        if matches!(exporter, Exporter::Kafka(_)) {
            without_kafka(&mut tell, format!("exporters.{id}"));
        }
        let Exporter::File(file) = exporter else {
            continue;
        };
        let key = format!("exporters.{id}.path");
        let directory = file.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if file.path.is_dir() {
            tell(
                key,
                format!("{} is a directory; write the path of a file in it", file.path.display()),
            );
        } else if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            let directory = directory.display();
            tell(
                key,
                format!("the directory {directory} does not exist; make it (`mkdir -p {directory}`)"),
            );
        }
    }
    for (id, extension) in &settings.extensions {
        let Extension::FileStorage(storage) = extension else {
            continue;
        };
        let key = format!("extensions.{id}.directory");
        let directory = storage.directory.display();
        if let Some(file) = existing(&storage.directory).filter(|existing| !existing.is_dir()) {
            let file = file.display();
            tell(
                key,
                format!("{file} is no directory; write the path of one, which is made if missing"),
            );
        } else if !storage.create_directory && !storage.directory.is_dir() {
            tell(
                key,
                format!("the directory {directory} does not exist; make it, or write `create_directory: true`"),
            );
        }
    }
    let telemetry = &settings.telemetry;
    let pushed = telemetry
        .metrics
        .readers
        .iter()
        .filter_map(|reader| reader.periodic.as_ref());
    let pushed = pushed.map(|periodic| ("metrics.readers", &periodic.exporter.otlp));
    let traced = telemetry.traces.running().iter();
    let traced = traced.map(|processor| ("traces.processors", &processor.batch.exporter.otlp));
    for (key, otlp) in pushed.chain(traced) {
        if let Err(problem) = otlp.check_files() {
            tell(format!("service.telemetry.{key}"), problem);
        }
    }
    let state = &settings.harbinger.state;
    if state.enabled
        && let Some(file) = existing(&state.directory).filter(|existing| !existing.is_dir())
    {
        let message = format!(
            "{} is no directory; write the path of one, which is made if missing",
            file.display()
        );
        tell(format!("processors.{}.state.directory", settings.processor), message);
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(ConfigError(findings))
    }
}

/// The deepest part of `path` that exists.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|ancestor| ancestor.exists())
}
