//! How much CPU time embedding may take: a share of the machine's, and a burst.
//!
//! What enters: CPU time as it is spent, and when. What leaves: how long to rest. Promises: over any time `t`, no more than
//! the burst plus `t` times the share is spent, but for the one part that was running; who has rested for long enough has
//! the whole burst again. Absent on purpose: a clock, and the resting.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// CPU time that may be spent at once: 200 to 400 new templates, far more than a quiet system has in a minute.
const BURST: Duration = Duration::from_secs(2);

/// An account of CPU time that all embedding threads draw from.
#[derive(Debug)]
pub(super) struct Allowance {
    /// CPUs that may be busy on average.
    cpus: f64,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    /// Seconds; below zero after a part that took more than there was.
    balance_s: f64,
    at: Instant,
}

impl Allowance {
    /// This share of the CPUs, from now on, with the burst at hand.
    pub(super) fn new(percentage: u8, cpus: usize, now: Instant) -> Self {
        Self {
            cpus: cpus as f64 * f64::from(percentage) / 100.0,
            account: Mutex::new(Account {
                balance_s: BURST.as_secs_f64(),
                at: now,
            }),
        }
    }

    /// Takes note that `spent` was spent, and says how long to rest before more.
    pub(super) fn spend(&self, spent: Duration, now: Instant) -> Duration {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let earned_s = now.saturating_duration_since(account.at).as_secs_f64() * self.cpus;
        account.at = account.at.max(now);
        account.balance_s = (account.balance_s + earned_s).min(BURST.as_secs_f64()) - spent.as_secs_f64();
        Duration::try_from_secs_f64(-account.balance_s / self.cpus).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(100);

    /// Works as an embedding thread does, for so long; the CPU time it has spent.
    fn work(allowance: &Allowance, begin: Instant, lasting: Duration) -> Duration {
        let (mut now, mut spent) = (begin, Duration::ZERO);
        while now < begin + lasting {
            now += PART;
            spent += PART;
            now += allowance.spend(PART, now);
        }
        spent
    }

    #[test]
    fn a_burst_costs_no_rest_and_a_flood_gets_its_share() {
        let begin = Instant::now();
        let allowance = Allowance::new(25, 2, begin);
        for part in 1..=20 {
            assert_eq!(allowance.spend(PART, begin + PART * part), Duration::ZERO);
        }
        let later = begin + PART * 20;
        let spent = work(&allowance, later, Duration::from_secs(100));
        // Half a CPU for 100 s, and what the first 2 s left of the burst.
        assert!((49.0..=51.5).contains(&spent.as_secs_f64()), "{spent:?}");
    }

    #[test]
    fn a_share_of_a_whole_cpu_or_more_never_stops_one_thread() {
        let begin = Instant::now();
        for (percentage, cpus) in [(50, 2), (100, 1), (50, 8)] {
            let allowance = Allowance::new(percentage, cpus, begin);
            let spent = work(&allowance, begin, Duration::from_secs(100));
            assert_eq!(spent, Duration::from_secs(100), "{percentage} % of {cpus}");
        }
    }

    #[test]
    fn rest_gives_the_burst_back_and_no_more() {
        let begin = Instant::now();
        let allowance = Allowance::new(50, 1, begin);
        work(&allowance, begin, Duration::from_secs(20));
        let morning = begin + Duration::from_secs(3600);
        assert_eq!(allowance.spend(BURST, morning), Duration::ZERO);
        assert_eq!(allowance.spend(PART, morning), PART * 2);
    }
}
