//! How often clients may ask, in memory that does not grow with their number.
//!
//! The algorithm is GCRA: of each client one number is kept, the time at which it would have come had it come evenly. All
//! threads share the numbers, which are changed without a lock.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_model::Rate;
use serde::{Deserialize, Serialize};

/// A number in steps of 10 µs, from the start of the limiter.
type Ticks = u64;

const TICK: Duration = Duration::from_micros(10);

/// How many clients are known at once, in sets of [`WAYS`]: 128 kB for a service that limits them.
const SLOTS: usize = 16_384;
const WAYS: usize = 4;

/// A slot holds a part of the client's hash in its upper bits, and its time below: five years of ticks.
const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// A rate in ticks.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Ticks,
    /// How much earlier than evenly a request may come.
    tolerance: Ticks,
}

impl Pace {
    fn of(rate: Rate) -> Self {
        let interval = ticks(rate.interval()).max(1);
        Self { interval, tolerance: interval.saturating_mul(u64::from(rate.burst()).saturating_sub(1)) }
    }

    /// Returns the time of the next even request, or how long this one must wait.
    fn step(self, even: Ticks, now: Ticks) -> Result<Ticks, Ticks> {
        let even = even.max(now);
        match (even - now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(even.saturating_add(self.interval)),
            Some(wait) => Err(wait),
        }
    }
}

fn ticks(span: Duration) -> Ticks {
    u64::try_from(span.as_micros() / TICK.as_micros()).unwrap_or(u64::MAX)
}

/// What clients have asked.
#[derive(Debug)]
pub(super) struct Limiter {
    start: Instant,
    /// Secret, so that nobody can choose addresses that fall together.
    keys: [u64; 2],
    rates: (Option<Rate>, Option<Rate>),
    client: Option<(Pace, Box<[AtomicU64]>)>,
    service: Option<(Pace, AtomicU64)>,
}

/// What clients have asked, for a process that takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    rates: (Option<Rate>, Option<Rate>),
    keys: [u64; 2],
    /// How long ago the limiter was made.
    age_us: u64,
    /// The slots that hold something, by place.
    slots: Vec<(usize, u64)>,
    service: u64,
}

impl Limiter {
    /// Makes one for rates; none where there are none.
    pub(super) fn of(client: Option<Rate>, service: Option<Rate>) -> Option<Self> {
        if client.is_none() && service.is_none() {
            return None;
        }
        let slots = || std::iter::repeat_with(|| AtomicU64::new(0)).take(SLOTS).collect();
        let random = |place: u64| RandomState::new().hash_one(place);
        Some(Self {
            start: Instant::now(),
            keys: [random(0), random(1)],
            rates: (client, service),
            client: client.map(|rate| (Pace::of(rate), slots())),
            service: service.map(|rate| (Pace::of(rate), AtomicU64::new(0))),
        })
    }

    /// Says whether it is for these rates.
    pub(super) fn is_for(&self, client: Option<Rate>, service: Option<Rate>) -> bool {
        self.rates == (client, service)
    }

    /// Returns what clients have asked, for a process that takes over.
    pub(super) fn asked(&self) -> Asked {
        let value = |slot: &AtomicU64| slot.load(Ordering::Relaxed);
        let slots = self.client.iter().flat_map(|(_, slots)| slots.iter().map(value).enumerate());
        Asked {
            rates: self.rates,
            keys: self.keys,
            // A tick more, so that nobody waits for what is cut off.
            age_us: u64::try_from((self.start.elapsed() + TICK).as_micros()).unwrap_or(u64::MAX),
            slots: slots.filter(|(_, value)| *value > 0).collect(),
            service: self.service.as_ref().map_or(0, |(_, even)| value(even)),
        }
    }

    /// Goes on with what clients have asked of another process, where the rates are the same.
    pub(super) fn resume(&mut self, asked: &Asked) {
        let Some(start) = Instant::now().checked_sub(Duration::from_micros(asked.age_us)) else { return };
        if self.rates != asked.rates {
            return;
        }
        (self.start, self.keys) = (start, asked.keys);
        if let Some((_, slots)) = &self.client {
            for (place, value) in &asked.slots {
                if let Some(slot) = slots.get(*place) {
                    slot.store(*value, Ordering::Relaxed);
                }
            }
        }
        if let Some((_, even)) = &self.service {
            even.store(asked.service, Ordering::Relaxed);
        }
    }

    /// Hashes by keys that can be handed over, which those of the standard library's usual hasher cannot.
    #[expect(deprecated, reason = "the only SipHash with keys that needs no further crate")]
    fn hash(&self, client: u64) -> u64 {
        let mut hasher = std::hash::SipHasher::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write_u64(client);
        hasher.finish()
    }

    /// Counts a request, or says how long its client must wait; one that must wait is not counted.
    pub(super) fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let now = ticks(now.saturating_duration_since(self.start));
        let waited = self.take_of_client(client, now).and_then(|()| self.take_of_service(now));
        waited.map_err(|wait| TICK.saturating_mul(u32::try_from(wait).unwrap_or(u32::MAX)))
    }

    fn take_of_service(&self, now: Ticks) -> Result<(), Ticks> {
        let Some((pace, even)) = &self.service else { return Ok(()) };
        let mut wait = 0;
        let taken = even.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |even| {
            pace.step(even, now).inspect_err(|ticks| wait = *ticks).ok()
        });
        taken.map(drop).map_err(|_| wait)
    }

    fn take_of_client(&self, client: IpAddr, now: Ticks) -> Result<(), Ticks> {
        let Some((pace, slots)) = &self.client else { return Ok(()) };
        let hash = self.hash(key(client));
        let set = usize::try_from(hash & TIME_MASK).unwrap_or_default() % (SLOTS / WAYS) * WAYS;
        let tag = hash & !TIME_MASK;
        let Some(set) = slots.get(set..set + WAYS) else { return Ok(()) };
        loop {
            // Who is not known takes the place of the one that has been quiet for longest.
            let mut oldest = None;
            let mut found = None;
            for slot in set {
                let value = slot.load(Ordering::Relaxed);
                if value & !TIME_MASK == tag {
                    found = Some((slot, value));
                    break;
                }
                if oldest.is_none_or(|(_, other)| value & TIME_MASK < other & TIME_MASK) {
                    oldest = Some((slot, value));
                }
            }
            let is_known = found.is_some();
            let Some((slot, value)) = found.or(oldest) else { return Ok(()) };
            let even = if is_known { value & TIME_MASK } else { 0 };
            let next = tag | pace.step(even, now)?.min(TIME_MASK);
            if slot.compare_exchange(value, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
        }
    }
}

/// What counts as one client: an address of IPv4, or a network `/64` of IPv6, since a client has a whole one of those.
pub(crate) fn key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or_default().rotate_left(32),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(client: Option<&str>, service: Option<&str>) -> Limiter {
        let rate = |text: &str| Rate::parse(text).unwrap();
        Limiter::of(client.map(rate), service.map(rate)).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let limiter = limiter(Some("10/1s:3"), None);
        let take = |client: &str, ms: u64| {
            limiter
                .take(ip(client), limiter.start + Duration::from_millis(ms))
                .map_err(|wait| wait.as_millis())
        };
        assert_eq!([take("1.1.1.1", 0), take("1.1.1.1", 0), take("1.1.1.1", 0)], [Ok(()); 3]);
        assert_eq!(take("1.1.1.1", 0), Err(100));
        assert_eq!(take("1.1.1.1", 40), Err(60), "who must wait is not counted");
        assert_eq!(take("2.2.2.2", 40), Ok(()), "another client has its own rate");
        assert_eq!(take("1.1.1.1", 100), Ok(()));
        assert_eq!(take("1.1.1.1", 100), Err(100));
    }

    #[test]
    fn another_process_goes_on_with_what_was_asked() {
        let first = limiter(Some("1/1h:2"), Some("3/1h:3"));
        assert!(first.take(ip("1.1.1.1"), Instant::now()).is_ok());
        assert!(first.take(ip("1.1.1.1"), Instant::now()).is_ok());
        let asked: Asked = serde_json::from_str(&serde_json::to_string(&first.asked()).unwrap()).unwrap();
        let mut next = limiter(Some("1/1h:2"), Some("3/1h:3"));
        next.resume(&asked);
        assert!(next.take(ip("1.1.1.1"), Instant::now()).is_err(), "of the client");
        assert!(next.take(ip("2.2.2.2"), Instant::now()).is_ok());
        assert!(next.take(ip("3.3.3.3"), Instant::now()).is_err(), "of all together");
        let mut other = limiter(Some("1/1h:3"), None);
        other.resume(&asked);
        assert!(other.take(ip("1.1.1.1"), Instant::now()).is_ok(), "another rate begins anew");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_all_clients_are_one_service() {
        let own = limiter(Some("1/1s"), None);
        let now = own.start;
        assert!(own.take(ip("2001:db8::1"), now).is_ok());
        assert!(own.take(ip("2001:db8::2:0:0:1"), now).is_err());
        assert!(own.take(ip("2001:db8:0:1::1"), now).is_ok());
        let all = limiter(None, Some("2/1s"));
        assert!(all.take(ip("1.1.1.1"), all.start).is_ok() && all.take(ip("2.2.2.2"), all.start).is_ok());
        assert!(all.take(ip("3.3.3.3"), all.start).is_err());
    }

    #[test]
    fn many_clients_do_not_grow_it_and_none_is_limited_for_another() {
        let limiter = limiter(Some("1/1h"), None);
        let refused =
            (0..200_000u32).filter(|n| limiter.take(IpAddr::V4((*n).into()), limiter.start).is_err());
        // The tag has 20 bits: that two clients of one set share it is rare, and not more than that.
        assert!(refused.count() < 20);
    }

    proptest! {
        /// In no span do more pass than its share and the burst.
        #[test]
        fn never_more_than_the_rate_allows(pauses in prop::collection::vec(0u64..400, 1..200), burst in 1u32..10) {
            let limiter = limiter(Some(&format!("10/1s:{burst}")), None);
            let mut now = 0;
            let mut passed = Vec::new();
            for pause in pauses {
                now += pause;
                if limiter.take(ip("1.1.1.1"), limiter.start + Duration::from_millis(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (at, from) in passed.iter().enumerate() {
                for (to_at, to) in passed.iter().enumerate().skip(at) {
                    let count = u64::try_from(to_at - at + 1).unwrap();
                    prop_assert!(count <= u64::from(burst) + (to - from) / 100, "{count} from {from} to {to}");
                }
            }
        }
    }
}
