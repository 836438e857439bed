//! From a target's name to its addresses, also while the name server is away.
//!
//! A container's name is looked up for each new connection, because it may come back with another address; answers are
//! reused for half a second only. While Docker's daemon restarts, containers go on but nobody answers for their names.
//! Then the address last known is used. This is safe as long as the engine is away, because only the engine could give the
//! address to another container; so it is never done where a server says that the name does not exist, nor where the
//! server answers for this container's own name while it cannot for the target's.
//!
//! Last addresses are not stored: only the engine starts the proxy's container again, so its name server is back by then,
//! while an address from a file could be another container's.

mod message;
mod servers;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use freehold_wire::TargetAddress;
use parking_lot::Mutex;

use crate::log::{Level, Log};
use servers::{Verdict, look_up};

pub use servers::NameFiles;

/// How long an answer is used again without asking.
const REUSE: Duration = Duration::from_millis(500);

/// The name of a target has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name has no address")]
pub(crate) struct Unresolvable;

/// Where a target was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether the servers were not asked just now, so that asking may give another answer.
    pub(crate) is_reused: bool,
}

/// Looks names up, shared by all threads.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: NameFiles,
    known: Mutex<BTreeMap<String, Known>>,
    log: Log,
}

/// What was last heard of a name.
#[derive(Debug, Clone)]
struct Known {
    /// None where the name was said not to exist.
    addresses: Vec<IpAddr>,
    /// When the question was put that was answered so.
    asked: Instant,
    /// When that was last looked at, answered or not.
    looked: Instant,
    /// Whether the last look went unanswered.
    is_kept: bool,
}

impl Resolver {
    /// Makes a resolver that knows nothing yet.
    pub(crate) fn new(files: NameFiles, log: Log) -> Self {
        Self { files, known: Mutex::default(), log }
    }

    /// Finds a target, by an answer that is half a second old at most.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(crate) async fn find(&self, address: &TargetAddress) -> Result<Found, Unresolvable> {
        let host = address.host();
        let recent = self.known.lock().get(host).filter(|known| known.looked.elapsed() < REUSE).cloned();
        match recent {
            Some(known) if known.addresses.is_empty() => Err(Unresolvable),
            Some(known) => Ok(found(address, &known.addresses, true)),
            None => self.find_anew(address).await,
        }
    }

    /// Finds a target by asking.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub(crate) async fn find_anew(&self, address: &TargetAddress) -> Result<Found, Unresolvable> {
        let host = address.host();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(found(address, &[ip], false));
        }
        let asked = Instant::now();
        let verdict = look_up(&self.files, host).await;
        match self.learn(host, asked, verdict) {
            addresses if addresses.is_empty() => Err(Unresolvable),
            addresses => Ok(found(address, &addresses, false)),
        }
    }

    /// Takes note of a verdict; returns the addresses to use.
    fn learn(&self, host: &str, asked: Instant, verdict: Verdict) -> Vec<IpAddr> {
        let mut all = self.known.lock();
        let before = all.get(host);
        let was_kept = before.is_some_and(|known| known.is_kept);
        let looked = Instant::now();
        let known = match verdict {
            Verdict::Unanswered => match before {
                Some(known) => Known { looked, is_kept: !known.addresses.is_empty(), ..known.clone() },
                None => return Vec::new(),
            },
            // An answer may be overtaken by that to a later question.
            _ if before.is_some_and(|known| known.asked > asked) => {
                return before.map(|known| known.addresses.clone()).unwrap_or_default();
            }
            Verdict::Addresses(addresses) => Known { addresses, asked, looked, is_kept: false },
            Verdict::Gone => Known { addresses: Vec::new(), asked, looked, is_kept: false },
        };
        let addresses = known.addresses.clone();
        let is_kept = known.is_kept;
        all.insert(host.to_owned(), known);
        drop(all);
        if is_kept != was_kept {
            let text = match is_kept {
                true => "Name server away, going on with the last address",
                false => "Name server back",
            };
            self.log.line(Level::Warn, text, &[("host", &host)]);
        }
        addresses
    }

    /// Forgets all names but some.
    pub(crate) fn keep_only(&self, is_used: impl Fn(&str) -> bool) {
        self.known.lock().retain(|host, _| is_used(host));
    }
}

fn found(address: &TargetAddress, addresses: &[IpAddr], is_reused: bool) -> Found {
    let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect();
    Found { addresses, is_reused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let (log, _writer) = Log::start(Box::new(std::io::sink()), false).unwrap();
        let resolver = Resolver::new(NameFiles::default(), log);
        let ip = IpAddr::from([10, 0, 0, 7]);
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_millis(1));
        assert!(resolver.learn("web", second, Verdict::Gone).is_empty());
        assert!(resolver.learn("web", first, Verdict::Addresses(vec![ip])).is_empty());
        assert!(resolver.learn("web", first, Verdict::Unanswered).is_empty(), "gone stays gone");
        let third = second + Duration::from_millis(1);
        assert_eq!(resolver.learn("web", third, Verdict::Addresses(vec![ip])), [ip]);
        assert_eq!(resolver.learn("web", third, Verdict::Unanswered), [ip]);
        assert!(resolver.learn("other", third, Verdict::Unanswered).is_empty());
    }
}
