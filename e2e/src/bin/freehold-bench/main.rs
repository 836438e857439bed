//! Measures what a deploy costs, how the executable starts, and what the proxy costs beside others.

mod deploy;
mod executable;
mod proxy;
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
