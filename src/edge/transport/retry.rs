//! Retries: which failure is tried again, when, and when to stop.
//!
//! What enters: an attempt that can be repeated, and a deadline. What leaves: the answer, or a refusal that tells the
//! caller what to do.
//! Promise: the OTLP specification's rules (CONFORMANCE 16–18); never past the deadline nor `max_elapsed_time`; a wait
//! that would end past them is not begun, so that the caller learns at once how long to wait itself.
//! Absent on purpose: a queue. Without one the caller keeps the records until the next hop has them.
//! Back-off is the Collector's (cenkalti/backoff): interval × (1 ± randomization_factor), growing by `multiplier`.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;

use super::status;
use crate::edge::Refusal;

/// The section `retry_on_failure`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `false`: one attempt, then the caller decides.
    pub enabled: bool,
    /// Wait before the first retry.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub initial_interval: Duration,
    /// Longest wait, before jitter.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_interval: Duration,
    /// No attempt begins later than this after the first; 0 s means for ever (the caller's deadline still holds).
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_elapsed_time: Duration,
    /// Growth of the wait from one retry to the next; at least 1.
    pub multiplier: f64,
    /// Jitter: each wait is multiplied by 1 ± this; 0 to 1.
    pub randomization_factor: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
            multiplier: 1.5,
            randomization_factor: 0.5,
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.initial_interval.is_zero() {
            return Err("`initial_interval` must be more than 0s, for example 5s".into());
        }
        if self.max_interval < self.initial_interval {
            return Err("`max_interval` must not be less than `initial_interval`".into());
        }
        if !(1.0..=1e6).contains(&self.multiplier) {
            return Err("`multiplier` must be at least 1, for example 1.5".into());
        }
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            return Err("`randomization_factor` must lie between 0 and 1, for example 0.5".into());
        }
        Ok(())
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection was lost before the request was sent: tried again at once, the first time.
    Unsent(String),
    /// Nobody answered, or somebody said to try again.
    Passing {
        /// What happened.
        message: String,
        /// The wait the next hop asks for.
        retry_after: Option<Duration>,
    },
    /// The next hop will never take these bytes.
    Final {
        /// Its code.
        code: Code,
        /// Its message.
        message: String,
        /// Its encoded `google.rpc.Status`.
        details: Bytes,
    },
}

impl Failure {
    /// Nobody answered in time.
    pub fn late() -> Self {
        Self::Passing {
            message: "no answer in time".into(),
            retry_after: None,
        }
    }
}

impl From<status::Answer> for Failure {
    fn from(answer: status::Answer) -> Self {
        let is_too_large = answer.is_too_large();
        let status::Answer {
            code,
            message,
            details,
            retry_after,
        } = answer;
        if is_too_large {
            let code = Code::ResourceExhausted;
            return Self::Final { code, message, details };
        }
        if status::retried(code, retry_after.is_some()) {
            return Self::Passing {
                message: format!("{}: {message}", status::name(code)),
                retry_after,
            };
        }
        Self::Final { code, message, details }
    }
}

/// Attempts until one succeeds, fails for good, or no time is left. `seed` drives the jitter, `called` is told of each
/// retry. `timeout` bounds one attempt.
pub async fn deliver<F>(
    settings: &Settings,
    seed: u64,
    deadline: Instant,
    timeout: Duration,
    mut attempt: impl FnMut(Instant) -> F,
    mut retried: impl FnMut(),
) -> Result<Bytes, Refusal>
where
    F: Future<Output = Result<Bytes, Failure>>,
{
    let mut backoff = Backoff {
        settings,
        interval: settings.initial_interval,
        random: fastrand::Rng::with_seed(seed),
    };
    let mut transparent = settings.enabled;
    let mut attempts = 0_u32;
    let limit = limit(settings, Instant::now(), deadline);
    loop {
        attempts += 1;
        let now = Instant::now();
        let until = now.checked_add(timeout).map_or(deadline, |end| end.min(deadline));
        let failure = if now >= deadline {
            Failure::late() // nothing is sent that nobody waits for
        } else {
            match timeout_at(until, attempt(until)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::late(),
            }
        };
        let (message, retry_after) = match failure {
            Failure::Final { code, message, details } => {
                return Err(Refusal::Permanent {
                    code: code as i32,
                    message,
                    details,
                });
            }
            Failure::Unsent(_) if transparent && Instant::now() < limit => {
                transparent = false;
                retried();
                continue;
            }
            Failure::Unsent(message) => (message, None),
            Failure::Passing { message, retry_after } => (message, retry_after),
        };
        if !settings.enabled {
            return Err(Refusal::Unavailable { message, retry_after });
        }
        let wait = backoff.next().max(retry_after.unwrap_or_default());
        let next = Instant::now().checked_add(wait).filter(|next| *next < limit);
        let Some(next) = next else {
            let times = if attempts == 1 {
                String::new()
            } else {
                format!(" ({attempts} attempts)")
            };
            return Err(Refusal::Unavailable {
                message: message + &times,
                retry_after: Some(wait),
            });
        };
        sleep_until(next).await;
        retried();
    }
}

fn limit(settings: &Settings, started: Instant, deadline: Instant) -> Instant {
    if settings.max_elapsed_time.is_zero() {
        return deadline;
    }
    started
        .checked_add(settings.max_elapsed_time)
        .map_or(deadline, |elapsed| elapsed.min(deadline))
}

struct Backoff<'a> {
    settings: &'a Settings,
    interval: Duration,
    random: fastrand::Rng,
}

impl Backoff<'_> {
    fn next(&mut self) -> Duration {
        let jitter = 1.0 + self.settings.randomization_factor * (2.0 * self.random.f64() - 1.0);
        let wait = Duration::try_from_secs_f64(self.interval.as_secs_f64() * jitter).unwrap_or(self.interval);
        let grown = Duration::try_from_secs_f64(self.interval.as_secs_f64() * self.settings.multiplier);
        self.interval = grown.unwrap_or(Duration::MAX).min(self.settings.max_interval);
        wait
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::cell::RefCell;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn seconds(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    fn steady() -> Settings {
        Settings {
            randomization_factor: 0.0,
            ..Settings::default()
        }
    }

    fn passing(retry_after: Option<Duration>) -> Failure {
        Failure::Passing {
            message: "UNAVAILABLE: busy".into(),
            retry_after,
        }
    }

    /// Answers with `failures` in turn, then `Ok`; gives the result and when each attempt began.
    async fn run(
        settings: Settings,
        deadline: Duration,
        failures: Vec<Failure>,
    ) -> (Result<Bytes, Refusal>, Vec<Duration>) {
        let started = Instant::now();
        let times = RefCell::new(Vec::new());
        let failures = RefCell::new(failures.into_iter());
        let attempt = |_| {
            times.borrow_mut().push(started.elapsed());
            let failure = failures.borrow_mut().next();
            async move { failure.map_or(Ok(Bytes::from_static(b"taken")), Err) }
        };
        let result = deliver(&settings, 7, started + deadline, TIMEOUT, attempt, || ()).await;
        (result, times.take())
    }

    #[tokio::test(start_paused = true)]
    async fn item_17_waits_grow_by_the_multiplier_up_to_max_interval() {
        let settings = Settings {
            multiplier: 2.0,
            ..steady()
        };
        let (result, times) = run(settings, seconds(1000), vec![passing(None); 5]).await;
        assert!(result.is_ok());
        assert_eq!(times, [0, 5, 15, 35, 65, 95].map(seconds));
    }

    #[tokio::test(start_paused = true)]
    async fn item_17_jitter_stays_in_its_band_and_follows_the_seed() {
        let (_, times) = run(Settings::default(), seconds(1000), vec![passing(None); 3]).await;
        let (_, again) = run(Settings::default(), seconds(1000), vec![passing(None); 3]).await;
        assert_eq!(times, again);
        for (pair, interval) in times.windows(2).zip([5.0, 7.5, 11.25]) {
            let wait = (pair[1] - pair[0]).as_secs_f64();
            assert!(
                (interval * 0.5..=interval * 1.5 + 0.002).contains(&wait),
                "{wait} for {interval}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn item_17_retry_info_is_honoured_when_it_is_longer() {
        let failures = vec![passing(Some(seconds(40))), passing(Some(seconds(1)))];
        let (_, times) = run(steady(), seconds(1000), failures).await;
        assert_eq!(times, [seconds(0), seconds(40), Duration::from_millis(47_500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_past_the_deadline_is_not_begun() {
        let (result, times) = run(steady(), seconds(4), vec![passing(None)]).await;
        assert_eq!(times.len(), 1);
        let retry_after = Some(seconds(5));
        assert_eq!(
            result,
            Err(Refusal::Unavailable {
                message: "UNAVAILABLE: busy".into(),
                retry_after
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn max_elapsed_time_ends_the_retries_and_zero_means_for_ever() {
        let settings = Settings {
            max_elapsed_time: seconds(12),
            ..steady()
        };
        let (result, times) = run(settings.clone(), seconds(10_000), vec![passing(None); 9]).await;
        assert_eq!(times.len(), 2);
        assert!(matches!(result, Err(Refusal::Unavailable { message, .. }) if message.contains("2 attempts")));
        let settings = Settings {
            max_elapsed_time: Duration::ZERO,
            ..settings
        };
        assert!(run(settings, seconds(10_000), vec![passing(None); 100]).await.0.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn item_18_what_is_final_is_not_retried() {
        let details = Bytes::from_static(b"why");
        let failure = Failure::Final {
            code: Code::InvalidArgument,
            message: "bad".into(),
            details: details.clone(),
        };
        let (result, times) = run(steady(), seconds(100), vec![failure]).await;
        assert_eq!(
            (result, times.len()),
            (
                Err(Refusal::Permanent {
                    code: 3,
                    message: "bad".into(),
                    details
                }),
                1
            )
        );
    }

    #[tokio::test(start_paused = true)]
    async fn item_17_what_was_never_sent_is_sent_again_at_once_but_only_once() {
        let unsent = Failure::Unsent("connection closed".into());
        let (_, times) = run(steady(), seconds(100), vec![unsent.clone(), unsent]).await;
        assert_eq!(times, [0, 0, 5].map(seconds));
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_means_one_attempt_and_the_next_hops_own_delay() {
        let settings = Settings {
            enabled: false,
            ..steady()
        };
        let (result, times) = run(settings, seconds(100), vec![passing(Some(seconds(3)))]).await;
        assert_eq!(times.len(), 1);
        assert!(matches!(result, Err(Refusal::Unavailable { retry_after: Some(wait), .. }) if wait == seconds(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn item_21_each_attempt_is_bounded_by_the_timeout_and_all_by_the_deadline() {
        let started = Instant::now();
        let silent = |_| std::future::pending::<Result<Bytes, Failure>>();
        let mut retries = 0;
        let result = deliver(&steady(), 7, started + seconds(20), TIMEOUT, silent, || retries += 1).await;
        // 10 s of silence, 5 s of waiting, and 5 s until the deadline.
        assert_eq!((started.elapsed(), retries), (seconds(20), 1));
        assert!(matches!(result, Err(Refusal::Unavailable { message, .. }) if message.contains("no answer in time")));
    }

    /// tonic says so with a code that is retried otherwise.
    #[test]
    fn known_loss_a_request_that_is_too_large_is_not_sent_again_for_ever() {
        let failure = |code, message: &str| {
            let answer = status::Answer {
                code,
                message: message.into(),
                details: Bytes::new(),
                retry_after: None,
            };
            Failure::from(answer)
        };
        let tonic = "Error, decoded message length too large: found 5000 bytes, the limit is: 4096 bytes";
        for failure in [
            failure(Code::OutOfRange, tonic),
            failure(Code::ResourceExhausted, "quota"),
        ] {
            assert!(
                matches!(
                    failure,
                    Failure::Final {
                        code: Code::ResourceExhausted,
                        ..
                    }
                ),
                "{failure:?}"
            );
        }
        assert!(matches!(failure(Code::OutOfRange, "later"), Failure::Passing { .. }));
    }

    #[test]
    fn senseless_settings_are_named() {
        let wrong = [
            (
                Settings {
                    initial_interval: Duration::ZERO,
                    ..steady()
                },
                "initial_interval",
            ),
            (
                Settings {
                    max_interval: seconds(1),
                    ..steady()
                },
                "max_interval",
            ),
            (
                Settings {
                    multiplier: f64::NAN,
                    ..steady()
                },
                "multiplier",
            ),
            (
                Settings {
                    randomization_factor: 1.5,
                    ..steady()
                },
                "randomization_factor",
            ),
        ];
        for (settings, name) in wrong {
            assert!(settings.validate().unwrap_err().contains(name));
        }
        assert_eq!(Settings::default().validate(), Ok(()));
    }
}
