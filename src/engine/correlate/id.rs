//! The name of an incident: sayable, sortable by time, never given twice.
//!
//! In: the leading edge of an incident at the moment it opens. Out: `20241118-100000-k7f3qa`, the UTC second of that
//! record and 30 bits of a hash of it in Crockford's base32 (no `i l o u`), 22 ASCII characters, always.
//!
//! Promises: the same opening gives the same id; an id remembered by [`UsedIds`] is never given again (a clash is
//! salted, deterministically). Absent on purpose: randomness and the clock of the machine.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

use xxhash_rust::xxh3::Xxh3;

use crate::engine::text::TemplateKey;

/// How many given ids are remembered, so that none is given twice. Older ones are forgotten first.
const REMEMBERED_IDS: usize = 65_536;
const HASH_BITS: u32 = 30;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;
/// 34 bits of seconds: up to the year 2514; later times are shown as that.
const LATEST_SECOND: u64 = (1 << (64 - HASH_BITS)) - 1;
/// Crockford's base32, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a written id.
const WRITTEN: usize = 22;

/// The id of an incident. Orders by the second of its leading edge, then by hash; written as `20241118-100000-k7f3qa`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(u64);

/// The text is no incident id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not an incident id: write it as 20241118-100000-k7f3qa (UTC date, UTC time, six letters or digits)"
)]
pub struct NotAnId(String);

impl IncidentId {
    /// The id of an incident led by the record of `service` at `time_unix_nano` with this template; `salt` is 0 unless ids
    /// have clashed. The template's key stands for its text, which need not be known. Tenants differ by `seed`: their ids
    /// in one second are as likely to clash as any two hashes of 30 bits.
    pub(super) fn of(seed: u64, time_unix_nano: u64, service: &str, template: TemplateKey, salt: u32) -> Self {
        let mut hash = Xxh3::with_seed(seed);
        hash.update(&time_unix_nano.to_le_bytes());
        hash.update(&salt.to_le_bytes());
        hash.update(&(service.len() as u64).to_le_bytes());
        hash.update(service.as_bytes());
        hash.update(&template.0.to_le_bytes());
        let second = (time_unix_nano / 1_000_000_000).min(LATEST_SECOND);
        Self(second << HASH_BITS | hash.digest() >> (64 - HASH_BITS))
    }

    /// The id as one number, for messages and snapshots. Every number is an id.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// The id that [`IncidentId::to_raw`] gave.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The written form, without allocation.
    pub fn to_ascii(self) -> [u8; WRITTEN] {
        let second = self.0 >> HASH_BITS;
        let (year, month, day) = civil_from_days(second / 86_400);
        let (hour, minute, sec) = (second / 3600 % 24, second / 60 % 60, second % 60);
        let mut out = [b'-'; WRITTEN];
        let numbers = [
            (0, 4, year),
            (4, 2, month),
            (6, 2, day),
            (9, 2, hour),
            (11, 2, minute),
            (13, 2, sec),
        ];
        for (at, digits, mut number) in numbers {
            for slot in out.iter_mut().skip(at).take(digits).rev() {
                *slot = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        let mut hash = self.0 & HASH_MASK;
        for slot in out.iter_mut().skip(16).rev() {
            *slot = ALPHABET.get((hash & 31) as usize).copied().unwrap_or(b'0');
            hash >>= 5;
        }
        out
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_ascii()).unwrap_or_default())
    }
}

impl fmt::Debug for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IncidentId {
    type Err = NotAnId;

    /// Reads the written form as people type it: letters in any case, `o` for 0, `i` and `l` for 1.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        read(text.trim().as_bytes()).ok_or_else(|| NotAnId(text.chars().take(64).collect()))
    }
}

fn read(text: &[u8]) -> Option<IncidentId> {
    if text.len() != WRITTEN || text.get(8) != Some(&b'-') || text.get(15) != Some(&b'-') {
        return None;
    }
    let number = |from: usize, to: usize| {
        text.get(from..to)?
            .iter()
            .try_fold(0u64, |n, c| c.is_ascii_digit().then(|| n * 10 + u64::from(c - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let days = days_from_civil(year, month, day)?;
    // Out-of-range fields would name another day or time than what is written: only what we could have written passes.
    if civil_from_days(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    let mut hash = 0u64;
    for c in text.get(16..)? {
        let c = match c.to_ascii_lowercase() {
            b'o' => b'0',
            b'i' | b'l' => b'1',
            c => c,
        };
        hash = hash << 5 | ALPHABET.iter().position(|known| *known == c)? as u64;
    }
    (seconds <= LATEST_SECOND).then_some(IncidentId(seconds << HASH_BITS | hash))
}

/// Year, month, day of a day since 1970-01-01, proleptic Gregorian (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse, `days_from_civil` of the same source; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let year_of_era = year % 400;
    let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * 146_097 + day_of_era).checked_sub(719_468)
}

/// The ids given so far, oldest first, so that none is given twice; bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct UsedIds {
    known: HashSet<IncidentId, Mixing>,
    order: VecDeque<IncidentId>,
}

impl UsedIds {
    pub fn contains(&self, id: IncidentId) -> bool {
        self.known.contains(&id)
    }

    pub fn remember(&mut self, id: IncidentId) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = IncidentId> {
        self.order.iter().copied()
    }
}

/// Hashing of keys that are numbers of high entropy already: one multiplication instead of SipHash.
pub(super) type Mixing = BuildHasherDefault<Mix>;

/// See [`Mixing`].
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn is_written_as_second_and_crockford_hash() {
        let id = IncidentId::of(0, 1_731_924_000_123_456_789, "api", TemplateKey(7), 0);
        let written = id.to_string();
        assert_eq!(written.len(), 22);
        assert!(written.starts_with("20241118-100000-"), "{written}");
        assert!(written.bytes().skip(16).all(|c| ALPHABET.contains(&c)), "{written}");
        assert_eq!(written.parse(), Ok(id));
        assert_eq!(written.to_uppercase().parse(), Ok(id));
        for (seed, salt) in [(0, 1), (1, 0)] {
            assert_ne!(
                id,
                IncidentId::of(seed, 1_731_924_000_123_456_789, "api", TemplateKey(7), salt)
            );
        }
    }

    /// Every day until the last is written as another calendar writes it, and read back.
    #[test]
    fn agrees_with_another_calendar_over_all_years() {
        for day in (0..LATEST_SECOND / 86_400).step_by(13) {
            let second = day * 86_400 + day % 86_400;
            let id = IncidentId(second << HASH_BITS | day & HASH_MASK);
            let expected = jiff::Timestamp::from_second(second as i64)
                .unwrap()
                .strftime("%Y%m%d-%H%M%S-")
                .to_string();
            assert_eq!(&id.to_string()[..16], expected);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!(IncidentId(u64::MAX).to_string().starts_with("2514"));
    }

    #[test]
    fn orders_by_time() {
        let early = IncidentId::of(0, 1_000_000_000, "z", TemplateKey(9), 0);
        let late = IncidentId::of(0, 2_000_000_000, "a", TemplateKey(1), 0);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn refuses_what_is_no_id_and_says_what_one_looks_like() {
        for bad in [
            "",
            "x",
            "20241318-100000-k7f3qa",
            "20241131-100000-k7f3qa",
            "20241118-240000-k7f3qa",
            "20241118-100000-u7f3qa",
            "19691231-235959-000000",
            "20241118-100000-k7f3q\u{e9}",
        ] {
            let error = bad.parse::<IncidentId>().unwrap_err();
            assert!(error.to_string().contains("20241118-100000-k7f3qa"));
        }
        assert_eq!(
            "20241118-100000-OIL000".parse(),
            "20241118-100000-011000".parse::<IncidentId>()
        );
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut used = UsedIds::default();
        for raw in 0..REMEMBERED_IDS as u64 + 10 {
            used.remember(IncidentId(raw));
            used.remember(IncidentId(raw));
        }
        assert_eq!(used.iter().count(), REMEMBERED_IDS);
        assert!(!used.contains(IncidentId(9)));
        assert!(used.contains(IncidentId(10)));
    }
}
