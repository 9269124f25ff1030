//! The machine that the agent runs on.
//!
//! What leaves: its name. Promise: the name that the kernel has, as `hostname` prints it; nobody is asked over the network. Absent on
//! purpose: domains and addresses.

use std::fs;

/// Where Linux says it.
const NAME: &str = "/proc/sys/kernel/hostname";

/// The host name; in a container the container's. `None` where the system does not say it.
pub fn name() -> Option<String> {
    let name = fs::read_to_string(NAME).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
