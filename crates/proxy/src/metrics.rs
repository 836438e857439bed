//! Requests counted by service, method and status, for Prometheus, under kamal-proxy's names.
//!
//! Each thread counts for itself; a scrape adds up. Where no port for metrics is given, nothing is counted.

mod page;
pub(crate) mod serve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_wire::Reason;
use parking_lot::Mutex;

pub(crate) use page::{Extra, write};

use crate::access::Record;

/// Upper bounds of the classes of durations, in seconds; those that Prometheus' libraries use.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same in nanoseconds.
const BOUNDS_NANOS: [u64; 11] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A request's method, as far as it is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
    Other,
}

impl Method {
    /// Reads a method; a client can send any word, and must not make a series of each.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "CONNECT" => Self::Connect,
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
            Self::Other => "OTHER",
        }
    }
}

/// All that is counted. A service that is removed keeps its counts, so that a sum does not fall.
#[derive(Debug)]
pub(crate) struct Metrics {
    lanes: usize,
    services: Mutex<BTreeMap<String, Arc<ServiceCounts>>>,
}

/// The counts of one service.
#[derive(Debug)]
pub(crate) struct ServiceCounts {
    lanes: Box<[Lane]>,
}

/// One thread's share, on cache lines of its own so that threads do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// A handful: those that a service answers with.
    requests: Vec<(Key, Count)>,
    /// Those that the proxy itself ended.
    ended: Vec<(Reason, u64)>,
    request_bytes: u64,
    response_bytes: u64,
}

/// What a service comes to on all threads.
#[derive(Debug, Default)]
struct Total {
    requests: BTreeMap<Key, Count>,
    ended: BTreeMap<Reason, u64>,
    request_bytes: u64,
    response_bytes: u64,
}

type Key = (Method, u16);

/// How many requests there were, and how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Count {
    requests: u64,
    nanos: u64,
    /// By the smallest class that a request fits into; what fits into none is only in `requests`.
    classes: [u64; BOUNDS.len()],
}

impl Count {
    fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.requests += 1;
        self.nanos = self.nanos.saturating_add(nanos);
        let class = BOUNDS_NANOS.iter().position(|bound| nanos <= *bound);
        if let Some(class) = class.and_then(|class| self.classes.get_mut(class)) {
            *class += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.nanos = self.nanos.saturating_add(other.nanos);
        for (class, more) in self.classes.iter_mut().zip(other.classes) {
            *class += more;
        }
    }
}

impl Metrics {
    /// Makes counts for so many threads.
    pub(crate) fn new(lanes: usize) -> Self {
        Self { lanes, services: Mutex::default() }
    }

    /// Returns the counts of a service; those of requests that no service has under an empty name.
    pub(crate) fn service(&self, name: &str) -> Arc<ServiceCounts> {
        let mut services = self.services.lock();
        let counts = services.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(ServiceCounts {
                lanes: std::iter::repeat_with(Lane::default).take(self.lanes).collect(),
            })
        });
        Arc::clone(counts)
    }

    fn totals(&self) -> BTreeMap<String, Total> {
        let services = self.services.lock();
        services.iter().map(|(name, counts)| (name.clone(), counts.total())).collect()
    }
}

impl ServiceCounts {
    /// Counts a request that has ended.
    pub(crate) fn add(&self, lane: usize, record: &Record) {
        let Some(lane) = self.lanes.get(lane) else { return };
        let mut counts = lane.counts.lock();
        if let Some(method) = record.method {
            counts.add((method, record.status), record.elapsed());
        }
        if let Some(reason) = record.reason {
            match counts.ended.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.ended.push((reason, 1)),
            }
        }
        counts.request_bytes = counts.request_bytes.saturating_add(record.request_bytes);
        counts.response_bytes = counts.response_bytes.saturating_add(record.response_bytes);
    }

    fn total(&self) -> Total {
        let mut total = Total::default();
        for lane in &self.lanes {
            let counts = lane.counts.lock();
            for (key, count) in &counts.requests {
                total.requests.entry(*key).or_default().merge(count);
            }
            for (reason, count) in &counts.ended {
                *total.ended.entry(*reason).or_default() += count;
            }
            total.request_bytes = total.request_bytes.saturating_add(counts.request_bytes);
            total.response_bytes = total.response_bytes.saturating_add(counts.response_bytes);
        }
        total
    }
}

impl Counts {
    fn add(&mut self, key: Key, duration: Duration) {
        match self.requests.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => count.add(duration),
            None => {
                let mut count = Count::default();
                count.add(duration);
                self.requests.push((key, count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat case 119.
    #[test]
    fn methods_beyond_the_standard_ones_are_one() {
        for text in ["GET", "POST", "PATCH", "TRACE"] {
            assert_eq!(Method::of(text).as_str(), text);
        }
        for text in ["CUSTOM", "OTHER", "", "get"] {
            assert_eq!(Method::of(text).as_str(), "OTHER");
        }
    }

    #[test]
    fn threads_are_added_up() {
        let metrics = Metrics::new(2);
        let counts = metrics.service("shop-web");
        for (lane, status, duration) in [
            (0, 200, Duration::from_millis(5)),
            (1, 200, Duration::from_millis(6)),
            (1, 200, Duration::from_secs(11)),
            (1, 404, Duration::ZERO),
        ] {
            counts.lanes[lane].counts.lock().add((Method::Get, status), duration);
        }
        let totals = metrics.totals();
        let count = &totals["shop-web"].requests[&(Method::Get, 200)];
        assert_eq!((count.requests, count.nanos), (3, 11_011_000_000));
        assert_eq!(count.classes, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(totals["shop-web"].requests[&(Method::Get, 404)].requests, 1);
        for (bound, nanos) in BOUNDS.iter().zip(BOUNDS_NANOS) {
            assert_eq!(Duration::from_secs_f64(*bound), Duration::from_nanos(nanos));
        }
    }
}
