//! Event time: how far the stream has come, and what may still arrive.
//!
//! In: the time of each record, in the order they arrive. Out: whether it came in time, late, or far ahead of the others.
//!
//! The watermark is the latest time less the allowed lateness; what it has passed may be forgotten. Two guards keep one
//! odd time from spoiling its neighbours. A record that leaps further ahead than anything forgotten could matter to
//! moves the clock only once [`LEAP_AFTER`] records in a row agree: until then more is retained, never less, so results
//! stay exact. And after [`RETURN_AFTER`] late records in a row the clock goes back to them: a file replayed a second
//! time, or a host that comes back with a backlog, is a stream to correlate and not all refuse.
//! Absent on purpose: the clock of the machine.

/// Records in a row that must be far ahead before the clock believes them.
const LEAP_AFTER: u32 = 8;
/// Late records in a row after which the clock goes back.
const RETURN_AFTER: u32 = 64;

/// How a record's time lies to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// At or after the watermark.
    InTime,
    /// Before the watermark: what it belonged to may be forgotten.
    Late,
    /// Further ahead than the clock believes yet.
    Ahead,
}

/// See the module. Times are Unix nanoseconds, spans nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    /// The latest believed time; `None` before the first record.
    pub now: Option<u64>,
    /// Earliest of the records ahead, in a row, and their number.
    pub ahead: (u64, u32),
    /// Latest of the late records in a row, and their number.
    pub late: (u64, u32),
    lateness: u64,
    leap: u64,
}

impl Clock {
    pub fn new(window: u64, lateness: u64) -> Self {
        let leap = window.saturating_add(lateness);
        Self {
            now: None,
            ahead: (u64::MAX, 0),
            late: (0, 0),
            lateness,
            leap,
        }
    }

    /// Takes the next record's time.
    pub fn observe(&mut self, time: u64) -> Arrival {
        let Some(now) = self.now else {
            self.now = Some(time);
            return Arrival::InTime;
        };
        if time > now.saturating_add(self.leap) {
            self.late = (0, 0);
            self.ahead = (self.ahead.0.min(time), self.ahead.1 + 1);
            if self.ahead.1 < LEAP_AFTER {
                return Arrival::Ahead;
            }
            self.now = Some(self.ahead.0);
        } else if time < now.saturating_sub(self.lateness) {
            self.ahead = (u64::MAX, 0);
            self.late = (self.late.0.max(time), self.late.1 + 1);
            if self.late.1 < RETURN_AFTER {
                return Arrival::Late;
            }
            self.now = Some(self.late.0);
        } else {
            self.now = Some(now.max(time));
        }
        self.ahead = (u64::MAX, 0);
        self.late = (0, 0);
        if self.is_ahead(time) {
            Arrival::Ahead
        } else {
            Arrival::InTime
        }
    }

    /// It is at least `time`, says one who knows: no guard.
    pub fn advance(&mut self, time: u64) {
        self.now = Some(self.now.map_or(time, |now| now.max(time)));
    }

    /// How far apart two records can be and still matter to each other, lateness included.
    pub fn reach(&self) -> u64 {
        self.leap
    }

    /// It has heard nothing yet.
    pub fn begin_anew(&mut self) {
        (self.now, self.ahead, self.late) = (None, (u64::MAX, 0), (0, 0));
    }

    /// Whether `time` lies further ahead than the clock believes yet.
    pub fn is_ahead(&self, time: u64) -> bool {
        self.now.is_some_and(|now| time > now.saturating_add(self.leap))
    }

    /// Nothing before this is expected any more.
    pub fn watermark(&self) -> u64 {
        self.now.unwrap_or(0).saturating_sub(self.lateness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[u64]) -> Clock {
        let mut clock = Clock::new(100, 50);
        for time in times {
            clock.observe(*time);
        }
        clock
    }

    #[test]
    fn follows_the_latest_record_and_lags_by_the_lateness() {
        let mut clock = at(&[1000, 1100, 1050]);
        assert_eq!(clock.watermark(), 1050);
        assert_eq!(clock.observe(1050), Arrival::InTime);
        assert_eq!(clock.observe(1049), Arrival::Late);
    }

    /// One absurd time costs its neighbours nothing.
    #[test]
    fn one_record_from_the_future_moves_nothing() {
        let mut clock = at(&[1000]);
        assert_eq!(clock.observe(u64::MAX), Arrival::Ahead);
        assert_eq!(clock.observe(1010), Arrival::InTime);
        assert_eq!(clock.watermark(), 960);
    }

    #[test]
    fn a_leap_that_the_stream_follows_is_believed() {
        let mut clock = at(&[1000]);
        for step in 0..7 {
            assert_eq!(clock.observe(9000 + step), Arrival::Ahead);
        }
        assert_eq!(clock.observe(9007), Arrival::InTime);
        assert_eq!(clock.now, Some(9000));
    }

    #[test]
    fn a_stream_that_starts_again_is_followed_back() {
        let mut clock = at(&[90_000]);
        for step in 0..63 {
            assert_eq!(clock.observe(1000 + step), Arrival::Late);
        }
        assert_eq!(clock.observe(1063), Arrival::InTime);
        assert_eq!(clock.observe(1064), Arrival::InTime);
        assert_eq!(clock.now, Some(1064));
    }

    #[test]
    fn survives_the_ends_of_time() {
        let mut clock = Clock::new(u64::MAX, u64::MAX);
        for time in [0, u64::MAX, 0, u64::MAX] {
            assert_eq!(clock.observe(time), Arrival::InTime);
        }
        assert_eq!(clock.watermark(), 0);
    }
}
