//! Measures what a deploy and a delivery cost, how the executable starts, and what the proxy costs beside others.

mod deploy;
mod executable;
mod images;
mod proxy;
mod reach;
mod times;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures deploys and the executable.
#[derive(Parser)]
#[command(name = "script/bench", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Deploys to lab hosts without a soak: time, round trips and bytes, and the same by hand.
    Deploy {
        /// How many hosts; repeat for several.
        #[arg(long, default_values_t = [1, 3, 8])]
        hosts: Vec<usize>,
        /// How often each is measured.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// How far away the hosts are: milliseconds of each round trip, added to what this computer takes.
        #[arg(long, default_value_t = 0)]
        latency: u64,
    },
    /// What a request costs in the proxy: processor time, memory and latency, beside nginx, HAProxy, Caddy and Traefik.
    Proxy {
        /// How often each case is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Only this proxy; repeat for several.
        #[arg(long)]
        only: Vec<String>,
        /// Only cases whose names contain this text, such as `HTTP/2`; repeat for several.
        #[arg(long)]
        case: Vec<String>,
    },
    /// How many user instructions a request costs in the proxy, counted by callgrind; fails past the limit.
    Instructions {
        /// Count those of nginx and HAProxy, too.
        #[arg(long)]
        beside_others: bool,
    },
    /// Brings images to lab hosts: bytes, round trips, time and peak memory, beside other ways to do it.
    Images {
        /// Sizes of the image in MB; repeat for several.
        #[arg(long, default_values_t = [100, 1000])]
        megabytes: Vec<usize>,
        /// How many hosts; repeat for several.
        #[arg(long, default_values_t = [1, 4])]
        hosts: Vec<usize>,
        /// Which link; repeat for several.
        #[arg(long, default_values = ["loopback", "slow"])]
        link: Vec<images::Link>,
        /// Only 100 MB to one host.
        #[arg(long)]
        quick: bool,
        /// Measure no other way.
        #[arg(long)]
        alone: bool,
        /// Put the hosts behind one bastion, and count what goes through it.
        #[arg(long)]
        bastion: bool,
        /// Cut one delivery of the first size so often instead; fails where a byte went twice without need.
        #[arg(long, value_name = "COUNT")]
        cuts: Option<u64>,
    },
    /// Looks at many hosts behind one bastion with `MaxStartups 10:30:60`, and at one of them; fails past three times as long.
    Reach {
        /// How many hosts.
        #[arg(long, default_value_t = 30)]
        hosts: u16,
        /// How often each is measured.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Start-up time and size of the executable; fails past the size limit.
    Executable,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Deploy { hosts, runs, latency } => {
            deploy::measure(&hosts, runs, Duration::from_millis(latency)).await
        }
        Verb::Proxy { rounds, only, case } => proxy::measure(rounds, &only, &case).await,
        Verb::Instructions { beside_others } => proxy::count(beside_others).await,
        Verb::Images { megabytes, cuts: Some(cuts), .. } => {
            images::cut(megabytes.first().copied().unwrap_or(1000), cuts).await
        }
        Verb::Images { megabytes, hosts, link, quick, alone, bastion, cuts: None } => {
            let (megabytes, hosts) = if quick { (vec![100], vec![1]) } else { (megabytes, hosts) };
            let place = if bastion { images::Place::Bastion } else { images::Place::Open };
            let matrix = images::Matrix { megabytes, hosts, links: link, beside_others: !alone, place };
            images::measure(&matrix).await
        }
        Verb::Reach { hosts, runs } => reach::measure(hosts, runs).await,
        Verb::Executable => executable::measure().await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}
