//! The processor `memory_limiter`: no more is taken in while the process is near its limit, before the system kills it.
//!
//! What enters: how much memory the process has, looked up at an interval. What leaves: whether receivers may take requests.
//! Promises: names and meaning are the Collector's (soft limit = limit less spike); what is refused is refused before its
//! body is read, and can be sent again; what was taken already goes on, so that memory comes free. Absent on purpose: the
//! hard limit's forced collection: there is no garbage here, and the allocator gives back what is free.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{BoxFuture, Intake, Refusal, Request, transport::MIB};

/// Where Linux says how much memory this process has resident, and how much there is.
const OWN_STATUS: &str = "/proc/self/status";
const MACHINE: &str = "/proc/meminfo";
/// Which control group this process is in (version 2), and where those lie.
const OWN_GROUP: &str = "/proc/self/cgroup";
const GROUPS: &str = "/sys/fs/cgroup";
/// The limit of the container in version 1.
const CONTAINER_V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
/// Share of the limit that is kept for bursts, unless the user says.
const SPIKE_PERCENT: u64 = 20;

/// A processor of type `memory_limiter`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How often memory is looked up.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub check_interval: Duration,
    /// Most that the process may have, in MiB; 0: see `limit_percentage`.
    pub limit_mib: u64,
    /// What is kept of the limit for what is under way, in MiB; 0: a fifth of the limit.
    pub spike_limit_mib: u64,
    /// The limit as a share of what the container (or the machine) has; used when `limit_mib` is 0.
    pub limit_percentage: u64,
    /// The spike as a share of the same; 0: a fifth of the limit.
    pub spike_limit_percentage: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(1),
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 0,
            spike_limit_percentage: 0,
        }
    }
}

impl Settings {
    /// The keys that [`MemoryLimiter::adjust`] takes over.
    pub const ADJUSTABLE: [&'static str; 4] = [
        "limit_mib",
        "spike_limit_mib",
        "limit_percentage",
        "spike_limit_percentage",
    ];

    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.check_interval.is_zero() {
            return Err("check_interval: must be more than 0s, for example 1s".into());
        }
        if self.limit_mib == 0 && self.limit_percentage == 0 {
            return Err("no limit is set: write `limit_mib: 1024`, or `limit_percentage: 80`".into());
        }
        if self.limit_percentage > 100 || self.spike_limit_percentage > 100 {
            return Err("`limit_percentage` and `spike_limit_percentage` lie between 0 and 100".into());
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            return Err("spike_limit_mib: must be less than `limit_mib`; leave it out for a fifth".into());
        }
        if self.limit_percentage > 0 && self.spike_limit_percentage >= self.limit_percentage {
            return Err(
                "spike_limit_percentage: must be less than `limit_percentage`; leave it out for a fifth".into(),
            );
        }
        Ok(())
    }

    /// From how many bytes on requests are refused; `None` when a share is asked for of nobody knows what.
    fn soft_limit_bytes(&self, total_bytes: Option<u64>) -> Option<u64> {
        let mib = |count: u64| count.saturating_mul(MIB as u64);
        let (limit, spike) = if self.limit_mib > 0 {
            (mib(self.limit_mib), mib(self.spike_limit_mib))
        } else {
            let share = |percent: u64| (total_bytes? / 100).checked_mul(percent);
            (share(self.limit_percentage)?, share(self.spike_limit_percentage)?)
        };
        let spike = if spike == 0 { limit / 100 * SPIKE_PERCENT } else { spike };
        Some(limit.saturating_sub(spike))
    }
}

/// Memory cannot be limited here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownMemory {
    /// Write `limit_mib` instead.
    #[error("it is not known how much memory this machine has, so a share of it means nothing: write `limit_mib`")]
    Total,
    /// Remove the processor: this system does not say what a process has.
    #[error(
        "this system does not say how much memory a process has (there is no {OWN_STATUS}): remove `memory_limiter`"
    )]
    Own,
}

/// Watches the memory of this process.
#[derive(Debug)]
pub struct MemoryLimiter {
    check_interval: Duration,
    soft_limit_bytes: AtomicU64,
    refusing: AtomicBool,
}

impl MemoryLimiter {
    /// A limiter that has looked once.
    ///
    /// # Errors
    /// What there is to be limited is not known.
    pub fn new(settings: &Settings) -> Result<Arc<Self>, UnknownMemory> {
        let soft_limit_bytes = settings.soft_limit_bytes(total_bytes()).ok_or(UnknownMemory::Total)?;
        let resident = resident_bytes().ok_or(UnknownMemory::Own)?;
        let limiter = Self {
            check_interval: settings.check_interval,
            soft_limit_bytes: AtomicU64::new(soft_limit_bytes),
            refusing: AtomicBool::new(false),
        };
        limiter.see(resident);
        Ok(Arc::new(limiter))
    }

    /// From how many bytes on requests are refused.
    pub fn soft_limit_bytes(&self) -> u64 {
        self.soft_limit_bytes.load(Ordering::Relaxed)
    }

    /// Limits by these settings from the next look on; how often it looks stays.
    ///
    /// # Errors
    /// What there is to be limited is not known; nothing changes.
    pub fn adjust(&self, settings: &Settings) -> Result<(), UnknownMemory> {
        let soft_limit_bytes = settings.soft_limit_bytes(total_bytes()).ok_or(UnknownMemory::Total)?;
        self.soft_limit_bytes.store(soft_limit_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Whether requests are refused now.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Looks again and again, for ever; `each` is called after every look.
    pub async fn watch(self: Arc<Self>, each: impl Fn(&Self)) {
        let mut ticks = tokio::time::interval(self.check_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(resident) = resident_bytes() {
                self.see(resident);
            }
            each(&self);
        }
    }

    fn see(&self, resident_bytes: u64) {
        let soft_limit_bytes = self.soft_limit_bytes();
        let over = resident_bytes > soft_limit_bytes;
        if self.refusing.swap(over, Ordering::Relaxed) == over {
            return;
        }
        let (resident_mib, soft_limit_mib) = (resident_bytes / MIB as u64, soft_limit_bytes / MIB as u64);
        if over {
            tracing::warn!(
                resident_mib,
                soft_limit_mib,
                "near the memory limit: callers are told to send again"
            );
        } else {
            tracing::info!(
                resident_mib,
                soft_limit_mib,
                "memory is below its limit again: requests are taken"
            );
        }
    }

    /// Puts the limiter in front of `intake`.
    pub fn before(self: &Arc<Self>, intake: Arc<dyn Intake>) -> Arc<dyn Intake> {
        let limiter = Arc::clone(self);
        Arc::new(Limited { limiter, intake })
    }
}

struct Limited {
    limiter: Arc<MemoryLimiter>,
    intake: Arc<dyn Intake>,
}

impl Intake for Limited {
    fn ready(&self) -> Result<(), Refusal> {
        if self.limiter.is_refusing() {
            return Err(Refusal::Unavailable {
                message: "near the memory limit (`memory_limiter`)".into(),
                retry_after: Some(self.limiter.check_interval),
            });
        }
        self.intake.ready()
    }

    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        self.intake.accept(request)
    }
}

/// What this process has resident, in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    kib(&fs::read_to_string(OWN_STATUS).ok()?, "VmRSS:")
}

/// What this process could have at most: the container's limit, else the machine's memory.
fn total_bytes() -> Option<u64> {
    let machine = fs::read_to_string(MACHINE)
        .ok()
        .and_then(|text| kib(&text, "MemTotal:"));
    let own_group = fs::read_to_string(OWN_GROUP).unwrap_or_default();
    let files = limit_files(&own_group).into_iter().chain([CONTAINER_V1.into()]);
    let limits = files.filter_map(|path| fs::read_to_string(path).ok());
    // `max`, or in version 1 a number beyond all memory, means that there is none.
    let limits = limits.filter_map(|limit| limit.trim().parse().ok());
    limits.chain(machine).min()
}

/// Where the limits of a control group and of all it is in stand: a container's own, or a service's of systemd.
fn limit_files(own_group: &str) -> Vec<PathBuf> {
    let path = own_group.lines().find_map(|line| line.strip_prefix("0::/"));
    let groups = Path::new(path.unwrap_or_default()).ancestors();
    groups
        .map(|group| Path::new(GROUPS).join(group).join("memory.max"))
        .collect()
}

/// The value of `NAME:  123 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn limiter(soft_limit_mib: u64) -> Arc<MemoryLimiter> {
        Arc::new(MemoryLimiter {
            check_interval: Duration::from_secs(1),
            soft_limit_bytes: AtomicU64::new(soft_limit_mib * MIB as u64),
            refusing: AtomicBool::new(false),
        })
    }

    /// A service of systemd's has its limit on its own group or on one around it, a container's is at the root it sees.
    #[test]
    fn the_limits_of_all_groups_around_count() {
        let files = limit_files("0::/system.slice/harbinger.service\n");
        let expected = ["system.slice/harbinger.service/", "system.slice/", ""];
        let expected = expected.map(|group| PathBuf::from(format!("/sys/fs/cgroup/{group}memory.max")));
        assert_eq!(files, expected);
        assert_eq!(limit_files("0::/\n"), expected[2..]);
        assert_eq!(limit_files("4:memory:/docker/x\n"), expected[2..]);
    }

    struct Open;

    impl Intake for Open {
        fn accept(&self, _: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
            Box::pin(std::future::ready(Ok(Bytes::new())))
        }
    }

    #[test]
    fn item_08_near_the_limit_requests_are_refused_for_now_and_below_it_taken_again() {
        let limiter = limiter(100);
        let intake = limiter.before(Arc::new(Open));
        assert_eq!(intake.ready(), Ok(()));
        limiter.see(101 * MIB as u64);
        let refusal = intake.ready().unwrap_err();
        assert!(
            matches!(refusal, Refusal::Unavailable { retry_after: Some(_), message } if message.contains("memory"))
        );
        limiter.see(99 * MIB as u64);
        assert_eq!(intake.ready(), Ok(()));
    }

    #[test]
    fn the_soft_limit_is_the_limit_less_the_spike() {
        let mib = MIB as u64;
        let settings = |limit_mib, spike_limit_mib, limit_percentage, spike_limit_percentage| Settings {
            limit_mib,
            spike_limit_mib,
            limit_percentage,
            spike_limit_percentage,
            ..Settings::default()
        };
        let soft = |settings: Settings| settings.soft_limit_bytes(Some(1000 * mib)).map(|bytes| bytes / mib);
        assert_eq!(soft(settings(500, 100, 0, 0)), Some(400));
        assert_eq!(soft(settings(500, 0, 0, 0)), Some(400));
        assert_eq!(soft(settings(0, 0, 50, 10)), Some(400));
        assert_eq!(soft(settings(0, 0, 50, 0)), Some(400));
        // As in the Collector, MiB go before shares.
        assert_eq!(soft(settings(500, 0, 10, 0)), Some(400));
        assert_eq!(settings(0, 0, 50, 0).soft_limit_bytes(None), None);
    }

    #[test]
    fn this_system_says_what_a_process_has() {
        let resident = resident_bytes().unwrap();
        assert!(resident > MIB as u64 && resident < total_bytes().unwrap());
        assert_eq!(kib("VmPeak:\t  9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kib("VmRSS:\t  x kB\n", "VmRSS:"), None);
    }

    #[test]
    fn senseless_settings_are_named() {
        let wrong = [
            (Settings::default(), "limit_mib"),
            (
                Settings {
                    limit_mib: 10,
                    spike_limit_mib: 10,
                    ..Settings::default()
                },
                "spike_limit_mib",
            ),
            (
                Settings {
                    limit_percentage: 101,
                    ..Settings::default()
                },
                "limit_percentage",
            ),
            (
                Settings {
                    limit_mib: 10,
                    check_interval: Duration::ZERO,
                    ..Settings::default()
                },
                "check_interval",
            ),
        ];
        for (settings, name) in wrong {
            assert!(settings.validate().unwrap_err().contains(name), "{name}");
        }
    }
}
