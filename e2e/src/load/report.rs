use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Kind;
use super::client::RequestError;

/// How many failures of a kind are told in words.
const TOLD_FAILURES: usize = 5;

/// What became of the requests.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How long the load was on.
    pub seconds: f64,
    /// The counts of each kind, by its name.
    pub kinds: BTreeMap<&'static str, KindReport>,
}

/// What became of the requests of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KindReport {
    /// Requests that were begun and have ended.
    pub sent: u64,
    /// Those without their whole, right answer.
    pub failed: u64,
    /// Those sent a second time because a kept connection closed before it answered, as RFC 9112 §9.3.1 allows.
    pub retried: u64,
    /// How many answers came from which version of the application.
    pub versions: BTreeMap<String, u64>,
    /// The first failures: when, in seconds from the start, and what.
    pub failures: Vec<String>,
    /// When the first and the last failure were seen.
    #[serde(skip)]
    failing: Option<(Duration, Duration)>,
    #[serde(skip)]
    times: Vec<Duration>,
}

impl Report {
    pub(super) fn new(kinds: impl Iterator<Item = Kind>) -> Self {
        Self { seconds: 0.0, kinds: kinds.map(|kind| (kind.as_str(), KindReport::default())).collect() }
    }

    pub(super) fn kind(&mut self, kind: Kind) -> &mut KindReport {
        self.kinds.entry(kind.as_str()).or_default()
    }

    /// Returns how many requests were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.kinds.values().map(|kind| kind.sent).sum()
    }

    /// Returns how many did not get their whole, right answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.kinds.values().map(|kind| kind.failed).sum()
    }

    /// Returns the time between the first failure and the last.
    #[must_use]
    pub fn failing_time(&self) -> Duration {
        let spans = || self.kinds.values().filter_map(|kind| kind.failing);
        let first = spans().map(|(first, _)| first).min().unwrap_or_default();
        spans().map(|(_, last)| last).max().unwrap_or_default().saturating_sub(first)
    }

    /// Returns how many were sent a second time.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.kinds.values().map(|kind| kind.retried).sum()
    }

    /// Returns how many answers came from a version of the application.
    #[must_use]
    pub fn answers_of(&self, version: &str) -> u64 {
        self.kinds.values().filter_map(|kind| kind.versions.get(version)).sum()
    }
}

impl KindReport {
    pub(super) fn count(
        &mut self,
        at: Duration,
        time: Duration,
        outcome: Result<Option<String>, RequestError>,
    ) {
        self.sent += 1;
        match outcome {
            Ok(version) => {
                self.times.push(time);
                if let Some(version) = version {
                    *self.versions.entry(version).or_default() += 1;
                }
            }
            Err(error) => {
                self.failed += 1;
                let first = self.failing.map_or(at, |(first, _)| first.min(at));
                self.failing = Some((first, self.failing.map_or(at, |(_, last)| last.max(at))));
                if self.failures.len() < TOLD_FAILURES {
                    self.failures.push(format!("{:.3} s: {error}", at.as_secs_f64()));
                }
            }
        }
    }

    /// Returns the time within which a share of the answered requests was answered; zero without any.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(rank).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["kind", "sent", "failed", "retried", "median ms", "99 % ms", "slowest ms"];
        let [kind, sent, failed, retried, median, high, slowest] = header;
        writeln!(
            formatter,
            "{kind:<15} {sent:>8} {failed:>8} {retried:>8} {median:>10} {high:>10} {slowest:>11}"
        )?;
        for (name, kind) in &self.kinds {
            let [median, high, slowest] = [50, 99, 100]
                .map(|percent| format!("{:.1}", kind.percentile(percent).as_secs_f64() * 1000.0));
            let KindReport { sent, failed, retried, .. } = kind;
            writeln!(
                formatter,
                "{name:<15} {sent:>8} {failed:>8} {retried:>8} {median:>10} {high:>10} {slowest:>11}"
            )?;
        }
        let (sent, failed, retried) = (self.sent(), self.failed(), self.retried());
        writeln!(formatter, "{:<15} {sent:>8} {failed:>8} {retried:>8}   in {:.1} s", "all", self.seconds)?;
        for (name, kind) in &self.kinds {
            for failure in &kind.failures {
                writeln!(formatter, "failed: {name} at {failure}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ranks() {
        let mut report = Report::new([Kind::Slow].into_iter());
        for milliseconds in 1..=100 {
            let time = Duration::from_millis(milliseconds);
            report.kind(Kind::Slow).count(Duration::ZERO, time, Ok(Some("1".to_owned())));
        }
        let slow = report.kind(Kind::Slow);
        assert_eq!(slow.percentile(50), Duration::from_millis(50));
        assert_eq!(slow.percentile(99), Duration::from_millis(99));
        assert_eq!(slow.percentile(100), Duration::from_millis(100));
        slow.count(Duration::from_secs(2), Duration::ZERO, Err(RequestError::Status(502)));
        assert_eq!((report.sent(), report.failed(), report.answers_of("1")), (101, 1, 100));
        assert!(report.to_string().contains("failed: slow at 2.000 s: status 502"), "{report}");
    }
}
