//! The section `sending_queue` of an exporter.
//!
//! In: what users write. Out: the same, checked. Promise: names are the Collector's where it has them; a queue in memory, which
//! would lose what was acknowledged, is refused. Absent on purpose: whether the extension that is named is there (`config`).

/// The section `sending_queue` of an exporter.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether there is a queue; a section that does not say has one.
    pub enabled: bool,
    /// Requests that are sent at the same time. With one, the order is kept.
    pub num_consumers: usize,
    /// Bound of the queue, in units of `sizer`.
    pub queue_size: u64,
    /// What `queue_size` counts.
    pub sizer: Sizer,
    /// A caller waits for room, until its own deadline, instead of being refused.
    pub block_on_overflow: bool,
    /// The id of the extension that has the disk.
    pub storage: Option<String>,
    /// Bound of the queue in MiB of requests, whatever `sizer` counts.
    pub max_size_mib: u64,
    /// What the destination refuses for good.
    pub dead_letter: DeadLetterSettings,
}

/// The section `sending_queue.dead_letter`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterSettings {
    /// Bound in MiB; beyond it nothing more is taken, until somebody has looked.
    pub max_size_mib: u64,
}

/// What the size of a queue is measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    /// Requests.
    #[default]
    Requests,
    /// Records.
    Items,
    /// Bytes of requests.
    Bytes,
}

impl Sizer {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Items => "items",
            Self::Bytes => "bytes",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 1,
            queue_size: 1000,
            sizer: Sizer::default(),
            block_on_overflow: false,
            storage: None,
            max_size_mib: 1024,
            dead_letter: DeadLetterSettings::default(),
        }
    }
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { max_size_mib: 100 }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !self.enabled {
            return Ok(());
        }
        if self.storage.is_none() {
            return Err(
                "without `storage` the queue would be in memory, and a restart would lose what was acknowledged; write \
                 `storage: file_storage`, `extensions: {file_storage: {}}` and `service: {extensions: [file_storage]}`, or \
                 remove the section: then callers are answered when the next hop has the records"
                    .to_owned(),
            );
        }
        if !(1..=256).contains(&self.num_consumers) {
            return Err("num_consumers: must lie between 1 and 256; write 1 to keep the order".to_owned());
        }
        if self.queue_size == 0 {
            return Err("queue_size: 0 has no room for anything; write 1000".to_owned());
        }
        if self.max_size_mib == 0 {
            return Err("max_size_mib: 0 has no room for anything; write 1024".to_owned());
        }
        if self.dead_letter.max_size_mib == 0 {
            return Err("dead_letter: `max_size_mib: 0` has no room for anything; write 100".to_owned());
        }
        Ok(())
    }
}
