//! What a request costs in our proxy and in others, side by side in one run.

mod cases;
mod contender;
mod load;
mod report;
mod settings;
mod target;
mod usage;

use std::net::SocketAddr;

use crate::{Failure, print};

use cases::{Bench, http2};
use contender::{Contender, Ground, Kind};
use load::{Aim, keep_alive};
use settings::{Certificate, HOST};

/// How many user instructions a small request over a kept connection may take, by HTTP/1 and by HTTP/2 over TLS. It is what is
/// measured on the released executable, and a few in a hundred for what differs between two builds.
const INSTRUCTION_LIMITS: [(Protocol, u64); 2] = [(Protocol::Http1, 32_000), (Protocol::Http2, 45_000)];

/// What is spoken where instructions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Measures everything beside the others, or only some cases, in so many rounds; says whether every one could
/// be measured.
pub(crate) async fn measure(rounds: usize, only: &[String], cases: &[String]) -> Result<bool, Failure> {
    let bench = Bench::start(only).await?;
    let report = bench.run(rounds, cases).await?;
    print(&report.to_string());
    Ok(report.failures.is_empty())
}

/// Counts the user instructions of one request by each protocol; says whether those of ours are below their limits.
pub(crate) async fn count(beside_others: bool) -> Result<bool, Failure> {
    let ground = (target::start()?, Certificate::make()?);
    let kinds: &[Kind] =
        if beside_others { &[Kind::Freehold, Kind::Nginx, Kind::Haproxy] } else { &[Kind::Freehold] };
    let mut is_good = true;
    for (protocol, limit) in INSTRUCTION_LIMITS {
        for &kind in kinds {
            let each = instructions(kind, protocol, &ground).await?;
            if kind == Kind::Freehold {
                is_good &= each > 0 && each < limit;
            }
            let name = protocol.name();
            print(&format!("{name} {:<10} {each:>8} user instructions for each request\n", kind.name()));
        }
        print(&format!("{} limit      {limit:>8}\n", protocol.name()));
    }
    Ok(is_good)
}

/// Counts what a thousand requests take, and so what one does.
async fn instructions(
    kind: Kind,
    protocol: Protocol,
    (target, certificate): &(SocketAddr, Certificate),
) -> Result<u64, Failure> {
    let mut counts = [0, 0];
    for (count, requests) in counts.iter_mut().zip([200, 1200]) {
        let contender = Contender::start(kind, Ground::Callgrind, *target, certificate).await?;
        let aim = |address| Aim { address, host: HOST.to_owned(), path: "/1k", tls: None };
        match protocol {
            Protocol::Http1 => keep_alive(&aim(contender.http()), 1, requests).await?,
            Protocol::Http2 => http2(&aim(contender.https()), (requests, 1)).await?,
        }
        *count = contender.instructions().await?;
    }
    let [few, many] = counts;
    Ok(many.saturating_sub(few) / 1000)
}
