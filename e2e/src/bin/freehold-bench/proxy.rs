//! What a request costs in our proxy and in others, side by side in one run.

mod cases;
mod contender;
mod load;
mod report;
mod settings;
mod target;
mod usage;

use crate::{Failure, print};

use cases::Bench;
use contender::{Contender, Ground, Kind};
use load::{Aim, keep_alive};
use settings::{Certificate, HOST};

/// How many user instructions a small request over a kept connection may take. It is what is measured on the released
/// executable, and a few in a hundred for what differs between two builds.
const INSTRUCTION_LIMIT: u64 = 32_000;

/// Measures everything beside the others, in so many rounds; says whether every one could
/// be measured.
pub(crate) async fn measure(rounds: usize, only: &[String]) -> Result<bool, Failure> {
    let bench = Bench::start(only).await?;
    let report = bench.run(rounds).await?;
    print(&report.to_string());
    Ok(report.failures.is_empty())
}

/// Counts the user instructions of one request; says whether those of ours are below their limit.
pub(crate) async fn count(beside_others: bool) -> Result<bool, Failure> {
    let target = target::start()?;
    let certificate = Certificate::make()?;
    let kinds: &[Kind] =
        if beside_others { &[Kind::Freehold, Kind::Nginx, Kind::Haproxy] } else { &[Kind::Freehold] };
    let mut ours = 0;
    for &kind in kinds {
        let mut counts = [0, 0];
        let sizes = [200, 1200];
        for (count, requests) in counts.iter_mut().zip(sizes) {
            let contender = Contender::start(kind, Ground::Callgrind, target, &certificate).await?;
            let aim = Aim { address: contender.http(), host: HOST.to_owned(), path: "/1k", tls: None };
            keep_alive(&aim, 1, requests).await?;
            *count = contender.instructions().await?;
        }
        let [few, many] = counts;
        let each = many.saturating_sub(few) / 1000;
        if kind == Kind::Freehold {
            ours = each;
        }
        print(&format!("{:<10} {each:>8} user instructions for each request\n", kind.name()));
    }
    print(&format!("limit      {INSTRUCTION_LIMIT:>8}\n"));
    Ok(ours > 0 && ours < INSTRUCTION_LIMIT)
}
