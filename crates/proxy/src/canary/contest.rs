//! The comparison of targets that are tried with a service's own: what is counted, and what follows from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_wire::{SideReport, Verdict, VerdictRule, VerdictState};

use super::statistics::{Share, chance, part_of_look};

/// The side that a visitor was assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The service's own targets.
    Own,
    /// Those that are tried.
    Tried,
}

/// Classes of durations: four for each doubling, from 0.1 ms to beyond a minute.
const CLASSES: usize = 84;
const FIRST_CLASS_US: f64 = 100.0;

/// Of a hundred verdicts on targets that are as good, one may be wrong: half of it for errors, half for durations.
const ERROR_RISK: f64 = 0.005;
const LATENCY_RISK: f64 = 0.005;

/// With how many requests of each side a first look is taken; the next ones with twice as many each.
const FIRST_LOOK: u64 = 10;

/// One thread's counts of one side.
#[derive(Debug)]
struct Lane {
    requests: AtomicU64,
    errors: AtomicU64,
    classes: [AtomicU64; CLASSES],
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            classes: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// A comparison that goes on.
#[derive(Debug)]
pub(crate) struct Contest {
    rule: VerdictRule,
    begun: Instant,
    lanes: Box<[[Lane; 2]]>,
    /// How many looks were taken.
    looks: AtomicU64,
}

/// What is known of a side.
#[derive(Debug, Clone)]
struct Counts {
    requests: u64,
    errors: u64,
    classes: [u64; CLASSES],
}

impl Contest {
    /// Begins a comparison, for so many threads.
    pub(crate) fn new(rule: VerdictRule, threads: usize) -> Self {
        Self {
            rule,
            begun: Instant::now(),
            lanes: std::iter::repeat_with(Default::default).take(threads).collect(),
            looks: AtomicU64::new(0),
        }
    }

    /// Says whether targets that are as good become the service's own.
    pub(crate) fn promotes(&self) -> bool {
        self.rule.promote
    }

    /// Counts a request that has ended.
    pub(crate) fn note(&self, lane: usize, side: Side, is_error: bool, duration: Duration) {
        let Some([own, tried]) = self.lanes.get(lane) else { return };
        let lane = if side == Side::Own { own } else { tried };
        lane.requests.fetch_add(1, Ordering::Relaxed);
        if is_error {
            lane.errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(class) = lane.classes.get(class_of(duration)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self, side: Side) -> Counts {
        let mut counts = Counts { requests: 0, errors: 0, classes: [0; CLASSES] };
        for [own, tried] in &self.lanes {
            let lane = if side == Side::Own { own } else { tried };
            counts.requests += lane.requests.load(Ordering::Relaxed);
            counts.errors += lane.errors.load(Ordering::Relaxed);
            for (sum, class) in counts.classes.iter_mut().zip(&lane.classes) {
                *sum += class.load(Ordering::Relaxed);
            }
        }
        counts
    }

    /// Says how it stands, without a decision.
    pub(crate) fn status(&self) -> Verdict {
        let (own, tried) = (self.counts(Side::Own), self.counts(Side::Tried));
        let left = Duration::from_millis(self.rule.window_ms).saturating_sub(self.begun.elapsed());
        let why = format!("{} s of the window are left", left.as_secs());
        verdict(VerdictState::Watching, why, (&own, &tried))
    }

    /// Looks at what there is and decides, if it is time to. One thread only may ask.
    pub(crate) fn decide(&self) -> Option<Verdict> {
        self.decide_after(self.begun.elapsed())
    }

    fn decide_after(&self, elapsed: Duration) -> Option<Verdict> {
        let (own, tried) = (self.counts(Side::Own), self.counts(Side::Tried));
        let fewest = own.requests.min(tried.requests);
        let is_over = elapsed >= Duration::from_millis(self.rule.window_ms);
        let looks = self.looks.load(Ordering::Relaxed);
        let due = FIRST_LOOK
            .saturating_mul(1u64.checked_shl(u32::try_from(looks).unwrap_or(64)).unwrap_or(u64::MAX));
        if fewest < due && !is_over {
            return None;
        }
        self.looks.store(looks + 1, Ordering::Relaxed);
        let look = u32::try_from(looks + 1).unwrap_or(u32::MAX);
        let worse = self.more_errors((&own, &tried), look).or_else(|| self.slower((&own, &tried), look));
        if let Some(why) = worse {
            return Some(verdict(VerdictState::Aborted, why, (&own, &tried)));
        }
        if !is_over {
            return None;
        }
        if fewest < self.rule.min_requests {
            let why = format!(
                "too few requests to tell: {} at the service's own targets and {} at those tried, and {} are needed of each",
                own.requests, tried.requests, self.rule.min_requests
            );
            return Some(verdict(VerdictState::Aborted, why, (&own, &tried)));
        }
        let state = if self.rule.promote { VerdictState::Promoted } else { VerdictState::Passed };
        let why = "neither more errors nor slower than the service's own targets".to_owned();
        Some(verdict(state, why, (&own, &tried)))
    }

    /// Says why the tried side has more errors, if it has: more than is tolerated, and more than chance explains.
    fn more_errors(&self, (own, tried): (&Counts, &Counts), look: u32) -> Option<String> {
        let share = |counts: &Counts| Share { bad: counts.errors, all: counts.requests };
        let (own, tried) = (share(own), share(tried));
        let tolerance = f64::from(self.rule.error_tolerance_permille) / 1000.0;
        if tried.rate() <= own.rate() + tolerance {
            return None;
        }
        let chance = chance(tried, own);
        (chance < part_of_look(ERROR_RISK, look)).then(|| {
            format!(
                "more errors: {:.2} % of {} requests against {:.2} % of {}; by chance in {:.4} % of all cases",
                tried.rate() * 100.0,
                tried.all,
                own.rate() * 100.0,
                own.all,
                chance * 100.0
            )
        })
    }

    /// Says why the tried side is slower, if it is: by more than is tolerated, and more of its requests are among the slowest
    /// of both sides together than chance explains.
    fn slower(&self, (own, tried): (&Counts, &Counts), look: u32) -> Option<String> {
        let (own_p95, tried_p95) = (own.p95_us(), tried.p95_us());
        let tolerated = own_p95.saturating_mul(100 + u64::from(self.rule.latency_tolerance_percent)) / 100;
        if own.requests == 0 || tried_p95 <= tolerated {
            return None;
        }
        // The bound depends on both sides alike, so that which side a slow request is of is chance, if they are as fast.
        let mut both = own.clone();
        for (sum, class) in both.classes.iter_mut().zip(&tried.classes) {
            *sum += class;
        }
        let bound = both.p95_class();
        let share = |counts: &Counts| Share { bad: counts.not_below(bound), all: counts.sum() };
        let chance = chance(share(tried), share(own));
        (chance < part_of_look(LATENCY_RISK, look)).then(|| {
            format!(
                "slower: 95 of 100 requests are answered within {:.1} ms against {:.1} ms; by chance in {:.4} % of all cases",
                milliseconds(tried_p95),
                milliseconds(own_p95),
                chance * 100.0
            )
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans stay far below 2^53 microseconds")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

fn verdict(state: VerdictState, why: String, (own, tried): (&Counts, &Counts)) -> Verdict {
    let report = |counts: &Counts| SideReport {
        requests: counts.requests,
        errors: counts.errors,
        p95_us: counts.p95_us(),
    };
    Verdict { state, why, own: report(own), tried: report(tried) }
}

impl Counts {
    fn sum(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Returns how many are of a class or of a slower one.
    fn not_below(&self, class: usize) -> u64 {
        self.classes.iter().skip(class).sum()
    }

    /// Returns the class of the request that 95 of 100 are not slower than.
    fn p95_class(&self) -> usize {
        let wanted = (self.sum() * 95).div_ceil(100);
        let mut seen = 0;
        let found = self.classes.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.unwrap_or(0)
    }

    fn p95_us(&self) -> u64 {
        if self.sum() == 0 { 0 } else { upper_us(self.p95_class()) }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm is bounded on both sides"
)]
fn class_of(duration: Duration) -> usize {
    let ratio = duration.as_secs_f64() * 1_000_000.0 / FIRST_CLASS_US;
    if ratio <= 1.0 {
        return 0;
    }
    ((ratio.log2() * 4.0).ceil() as usize).min(CLASSES - 1)
}

/// Returns the upper bound of a class, in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "there are 84 classes, and the last is of minutes"
)]
fn upper_us(class: usize) -> u64 {
    (FIRST_CLASS_US * (class as f64 / 4.0).exp2()).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> VerdictRule {
        VerdictRule { window_ms: 60_000, ..VerdictRule::default() }
    }

    const DURING: Duration = Duration::from_secs(1);
    const AFTER: Duration = Duration::from_secs(60);

    /// Numbers that look random and are the same each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn note(contest: &Contest, side: Side, count: u64, errors: u64, ms: u64) {
        for number in 0..count {
            contest.note(usize::from(number % 2 == 0), side, number < errors, Duration::from_millis(ms));
        }
    }

    #[test]
    fn targets_that_are_as_good_pass_at_the_end_of_the_window() {
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 900, 9, 10);
        note(&contest, Side::Tried, 100, 1, 10);
        assert_eq!(contest.decide_after(DURING), None);
        let verdict = contest.decide_after(AFTER).unwrap();
        assert_eq!(verdict.state, VerdictState::Promoted);
        assert_eq!((verdict.own.requests, verdict.tried.errors), (900, 1));
        assert!((10_000..=12_000).contains(&verdict.tried.p95_us), "{verdict:?}");
    }

    #[test]
    fn targets_that_fail_are_given_up_at_the_first_look() {
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 90, 1, 10);
        note(&contest, Side::Tried, 9, 9, 10);
        assert_eq!(contest.decide_after(DURING), None, "nine are below the first look");
        note(&contest, Side::Tried, 1, 1, 10);
        let verdict = contest.decide_after(DURING).unwrap();
        assert_eq!(verdict.state, VerdictState::Aborted);
        assert!(
            verdict.why.starts_with("more errors: 100.00 % of 10 requests against 1.11 % of 90"),
            "{verdict:?}"
        );
    }

    #[test]
    fn targets_that_are_slow_are_given_up() {
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 400, 0, 10);
        note(&contest, Side::Tried, 40, 0, 30);
        let verdict = contest.decide_after(DURING).unwrap();
        assert_eq!(verdict.state, VerdictState::Aborted);
        assert!(verdict.why.starts_with("slower: "), "{verdict:?}");
        // A little slower is tolerated, however many requests show it.
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 40_000, 0, 10);
        note(&contest, Side::Tried, 40_000, 0, 13);
        assert_eq!(contest.decide_after(AFTER).unwrap().state, VerdictState::Promoted);
    }

    #[test]
    fn few_errors_more_are_tolerated_and_one_bad_request_proves_nothing() {
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 100_000, 100, 10);
        note(&contest, Side::Tried, 100_000, 500, 10);
        assert_eq!(contest.decide_after(AFTER).unwrap().state, VerdictState::Promoted);
        let contest = Contest::new(rule(), 2);
        note(&contest, Side::Own, 100, 0, 10);
        note(&contest, Side::Tried, 60, 1, 10);
        assert_eq!(contest.decide_after(AFTER).unwrap().state, VerdictState::Promoted);
    }

    #[test]
    fn too_few_requests_show_nothing() {
        let contest = Contest::new(VerdictRule { promote: false, ..rule() }, 2);
        note(&contest, Side::Own, 1000, 0, 10);
        note(&contest, Side::Tried, 49, 0, 10);
        let verdict = contest.decide_after(AFTER).unwrap();
        assert_eq!(verdict.state, VerdictState::Aborted);
        assert!(verdict.why.starts_with("too few requests to tell: 1000 "), "{verdict:?}");
        note(&contest, Side::Tried, 1, 0, 10);
        assert_eq!(contest.decide_after(AFTER).unwrap().state, VerdictState::Passed);
    }

    /// Runs a comparison to its end, with a look after each request.
    fn run(dice: &mut Dice, share: f64, errors: [f64; 2], slowness: f64) -> VerdictState {
        let contest = Contest::new(rule(), 1);
        for _ in 0..2000 {
            let is_tried = dice.roll() < share;
            let (side, rate) = if is_tried { (Side::Tried, errors[1]) } else { (Side::Own, errors[0]) };
            let factor = if is_tried { slowness } else { 1.0 };
            let duration = Duration::from_secs_f64(0.001 * (1.0 - dice.roll()).ln().abs() * factor);
            contest.note(0, side, dice.roll() < rate, duration);
            if let Some(verdict) = contest.decide_after(DURING) {
                return verdict.state;
            }
        }
        contest.decide_after(AFTER).unwrap().state
    }

    #[test]
    fn equal_targets_are_hardly_ever_given_up_and_bad_ones_nearly_always() {
        let mut dice = Dice(7);
        for share in [0.05, 0.5] {
            for rate in [0.0, 0.02, 0.3] {
                let wrong =
                    (0..400).filter(|_| run(&mut dice, share, [rate; 2], 1.0) != VerdictState::Promoted);
                // One of a hundred is promised; ten of four hundred would be a very unlikely accident.
                let wrong = wrong.count();
                assert!(wrong < 10, "{wrong} at {share} {rate}");
            }
            let right = (0..100).filter(|_| run(&mut dice, share, [0.01, 0.3], 1.0) == VerdictState::Aborted);
            assert!(right.count() > 95, "{share}");
            let right =
                (0..100).filter(|_| run(&mut dice, share, [0.01, 0.01], 4.0) == VerdictState::Aborted);
            assert!(right.count() > 90, "{share}");
        }
    }

    #[test]
    fn classes_are_four_for_each_doubling() {
        for us in [1u64, 100, 101, 119, 120, 1000, 54_321, 60_000_000, 600_000_000] {
            let class = class_of(Duration::from_micros(us));
            let upper = upper_us(class);
            let is_last = class == CLASSES - 1;
            assert!(is_last || us <= upper, "{us} {upper}");
            assert!(is_last || upper <= us.max(100) * 6 / 5, "{us} {upper}");
        }
    }
}
