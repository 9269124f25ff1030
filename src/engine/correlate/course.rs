//! How many records there were, over time: the line that is drawn of an incident, or of a template in it.
//!
//! In: times of records. Out: counts by spans of equal length. Promises: bounded; the same records give the same course,
//! whatever the order and the parts they come in. Absent on purpose: anything finer than a second.

/// Spans at most. They grow by doubling.
const MAX_SPANS: u64 = 32;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Records by span; no span but an inner one is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// A span is 2^exponent seconds long, and begins at a multiple of that.
    exponent: u32,
    /// Number of the first span since the epoch.
    first: u64,
    records: Vec<u64>,
}

impl Course {
    /// `records` records at one time, Unix nanoseconds.
    pub fn at(time_unix_nano: u64, records: u64) -> Self {
        let mut course = Self::default();
        course.add(time_unix_nano, records);
        course
    }

    /// Counts `records` more, at a time in Unix nanoseconds.
    pub fn add(&mut self, time_unix_nano: u64, records: u64) {
        self.add_second(time_unix_nano / NANOS_PER_SECOND, records);
    }

    /// Counts what another has counted.
    pub fn absorb(&mut self, other: &Self) {
        if self.records.is_empty() {
            self.clone_from(other);
            return;
        }
        while self.exponent < other.exponent {
            self.coarsen();
        }
        for (span, records) in (other.first..).zip(&other.records) {
            self.add_second(span << other.exponent, *records);
        }
    }

    /// When the first span begins, Unix nanoseconds; `None` where nothing was counted.
    pub fn start_unix_nano(&self) -> Option<u64> {
        (!self.records.is_empty()).then(|| (self.first << self.exponent).saturating_mul(NANOS_PER_SECOND))
    }

    /// How long a span is, seconds: a power of two.
    pub fn span_s(&self) -> u64 {
        1 << self.exponent
    }

    /// Records of each span, at most 32.
    pub fn records(&self) -> &[u64] {
        &self.records
    }

    /// The same records by the spans of `whole`, which has counted these too.
    pub fn within(&self, whole: &Self) -> Vec<u64> {
        let mut spans = vec![0_u64; whole.records.len()];
        for (span, records) in (self.first..).zip(&self.records) {
            let place = ((span << self.exponent) >> whole.exponent).saturating_sub(whole.first);
            if let Some(spans) = spans.get_mut(place as usize) {
                *spans = spans.saturating_add(*records);
            }
        }
        spans
    }

    fn add_second(&mut self, second: u64, records: u64) {
        if records == 0 {
            return;
        }
        if self.records.is_empty() {
            self.first = second >> self.exponent;
        }
        let mut span = second >> self.exponent;
        while span.max(self.last()) - span.min(self.first) >= MAX_SPANS {
            self.coarsen();
            span = second >> self.exponent;
        }
        if span < self.first {
            let before = (self.first - span) as usize;
            self.records.splice(..0, std::iter::repeat_n(0, before));
            self.first = span;
        }
        let place = (span - self.first) as usize;
        if place >= self.records.len() {
            self.records.resize(place + 1, 0);
        }
        if let Some(count) = self.records.get_mut(place) {
            *count = count.saturating_add(records);
        }
    }

    fn last(&self) -> u64 {
        self.first + (self.records.len() as u64).saturating_sub(1)
    }

    /// Makes every span twice as long.
    fn coarsen(&mut self) {
        let coarse = self.first / 2;
        let mut records = vec![0_u64; (self.last() / 2 - coarse) as usize + 1];
        for (span, count) in (self.first..).zip(&self.records) {
            if let Some(sum) = records.get_mut((span / 2 - coarse) as usize) {
                *sum = sum.saturating_add(*count);
            }
        }
        (self.exponent, self.first, self.records) = (self.exponent + 1, coarse, records);
    }
}

/// As it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CourseState {
    #[prost(uint32, tag = "1")]
    exponent: u32,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, repeated, tag = "3")]
    records: Vec<u64>,
}

impl From<&Course> for CourseState {
    fn from(course: &Course) -> Self {
        Self {
            exponent: course.exponent,
            first: course.first,
            records: course.records.clone(),
        }
    }
}

impl From<CourseState> for Course {
    /// Whatever was written, what is read is bounded.
    fn from(state: CourseState) -> Self {
        let mut course = Self {
            // Spans of 34 years: longer ones nothing needs.
            exponent: state.exponent.min(30),
            ..Self::default()
        };
        for (span, records) in (state.first.min(1 << 33)..).zip(state.records) {
            course.add_second(span.saturating_mul(course.span_s()), records);
        }
        course
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60 * NANOS_PER_SECOND;

    #[test]
    fn a_course_has_spans_of_a_second_while_they_fit() {
        let mut course = Course::at(MINUTE + 5, 2);
        course.add(MINUTE + 3 * NANOS_PER_SECOND, 1);
        course.add(MINUTE - 1, 4);
        assert_eq!(
            (course.start_unix_nano(), course.span_s()),
            (Some(59 * NANOS_PER_SECOND), 1)
        );
        assert_eq!(course.records(), [4, 2, 0, 0, 1]);
        assert_eq!(Course::default().start_unix_nano(), None);
    }

    #[test]
    fn the_same_records_give_the_same_course_in_any_order_and_in_parts() {
        let times = [7, 9, 1_000, 3, 400_000, 12, 61, 8_192, 399_999];
        let mut forward = Course::default();
        times
            .iter()
            .for_each(|second| forward.add(second * NANOS_PER_SECOND, 1));
        let mut backward = Course::default();
        times
            .iter()
            .rev()
            .for_each(|second| backward.add(second * NANOS_PER_SECOND, 1));
        let parts: Vec<Course> = times
            .chunks(3)
            .map(|part| {
                let mut course = Course::default();
                part.iter().for_each(|second| course.add(second * NANOS_PER_SECOND, 1));
                course
            })
            .collect();
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
            let mut sum = Course::default();
            order
                .iter()
                .filter_map(|part| parts.get(*part))
                .for_each(|part| sum.absorb(part));
            assert_eq!(sum, forward, "{order:?}");
        }
        assert_eq!(forward, backward);
        assert_eq!(forward.records().iter().sum::<u64>(), times.len() as u64);
        assert!(forward.records().len() <= 32 && forward.records().len() > 16);
        assert!(forward.records().first().is_some_and(|count| *count > 0));
    }

    #[test]
    fn a_part_is_told_by_the_spans_of_the_whole() {
        let part = Course::at(100 * NANOS_PER_SECOND, 3);
        let mut whole = part.clone();
        whole.add(0, 1);
        assert_eq!(whole.span_s(), 4);
        let within = part.within(&whole);
        assert_eq!(
            (within.len(), within.iter().sum::<u64>(), within.last()),
            (26, 3, Some(&3))
        );
    }

    #[test]
    fn what_is_written_comes_back_and_nonsense_stays_bounded() {
        let mut course = Course::at(5 * MINUTE, 3);
        course.add(90 * MINUTE, 2);
        assert_eq!(Course::from(CourseState::from(&course)), course);
        let nonsense = CourseState {
            exponent: 99,
            first: u64::MAX - 1,
            records: vec![u64::MAX; 5000],
        };
        assert!(Course::from(nonsense).records().len() <= 32);
    }
}
