//! What was measured, as a table.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};
use std::time::Duration;

use super::cases::Case;
use super::contender::Kind;

/// What was measured, by proxy.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) columns: Vec<Kind>,
    pub(crate) versions: Vec<String>,
    /// Bytes, before the first connection.
    pub(crate) at_rest: Vec<u64>,
    /// Bytes for each idle connection, plain and encrypted.
    pub(crate) idle: BTreeMap<bool, Vec<u64>>,
    /// Processor time for each request, by case and proxy.
    pub(crate) costs: BTreeMap<(&'static str, &'static str), Vec<Duration>>,
    /// Requests in a second when latencies were measured.
    pub(crate) rate: f64,
    /// What 99 of 100 requests took at most.
    pub(crate) latencies: BTreeMap<&'static str, Vec<Duration>>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

/// Returns the least of several, in microseconds: what else the computer does only adds to a time.
fn least(times: &[Duration]) -> Option<f64> {
    times.iter().min().map(|time| time.as_secs_f64() * 1e6)
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        writeln!(formatter, "{}\n", self.versions.join(", "))?;
        write!(formatter, "| CPU µs for each request |")?;
        self.columns.iter().try_for_each(|kind| write!(formatter, " {} |", kind.name()))?;
        write!(formatter, " ours / best of the others |\n| --- |")?;
        self.columns.iter().try_for_each(|_| write!(formatter, " ---: |"))?;
        writeln!(formatter, " ---: |")?;
        for case in Case::ALL {
            let costs =
                |kind: &Kind| self.costs.get(&(case.name(), kind.name())).and_then(|times| least(times));
            self.row(formatter, case.name(), costs)?;
        }
        let late = |kind: &Kind| self.latencies.get(kind.name()).and_then(|times| least(times));
        self.row(formatter, &format!("p99 µs at {:.0} requests/s", self.rate), late)?;
        let number = |values: &[u64], kind: &Kind| {
            let index = self.columns.iter().position(|column| column == kind)?;
            values.get(index).map(|bytes| *bytes as f64 / 1000.0)
        };
        self.row(formatter, "kB at rest", |kind| number(&self.at_rest, kind))?;
        for (encrypted, values) in &self.idle {
            let name = if *encrypted { "kB, idle TLS connection" } else { "kB, idle connection" };
            self.row(formatter, name, |kind| number(values, kind))?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(formatter, "failed: {failure}"))
    }
}

impl Report {
    fn row(&self, formatter: &mut Formatter<'_>, name: &str, value: impl Fn(&Kind) -> Option<f64>) -> Result {
        write!(formatter, "| {name} |")?;
        for kind in &self.columns {
            match value(kind) {
                Some(value) => write!(formatter, " {value:.1} |")?,
                None => write!(formatter, " |")?,
            }
        }
        let others = self.columns.iter().filter(|kind| **kind != Kind::Freehold).filter_map(&value);
        match (value(&Kind::Freehold), others.min_by(f64::total_cmp)) {
            (Some(ours), Some(best)) if best > 0.0 => writeln!(formatter, " {:.2} |", ours / best),
            _ => writeln!(formatter, " |"),
        }
    }
}
