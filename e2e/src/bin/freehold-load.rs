//! The load generator as a command: sends requests until told to stop, then prints a table.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use freehold_e2e::load::{Kind, Load, LoadOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Sends requests of several kinds until the time is over or Ctrl-C, and counts those that fail.
#[derive(Parser)]
struct Arguments {
    /// Where to send to: HOST:PORT; repeat for several.
    #[arg(required = true)]
    targets: Vec<String>,
    /// The host name that the requests are for.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// keep-alive, new-connection, slow, upload, websocket; repeat for several, all without.
    #[arg(long)]
    kind: Vec<String>,
    /// How many requests of each kind are under way at once.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The pause between two requests of one worker, in milliseconds.
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// End after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the counts as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(message) => {
            writeln!(std::io::stderr(), "error: {message}").ok();
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<u64, String> {
    let targets = arguments.targets.iter().map(|target| resolve(target)).collect::<Result<Vec<_>, _>>()?;
    let mut options = LoadOptions::new(targets);
    options.host = arguments.host;
    options.workers = arguments.workers;
    options.pause = Duration::from_millis(arguments.pause_ms);
    if !arguments.kind.is_empty() {
        let parse =
            |name: &String| Kind::parse(name).ok_or_else(|| format!("`{name}` is not a kind of request"));
        options.kinds = arguments.kind.iter().map(parse).collect::<Result<_, _>>()?;
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let time_is_over = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let load = Load::start(options);
    tokio::select! {
        () = time_is_over => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let report = load.stop().await;
    write!(std::io::stdout(), "{report}").ok();
    if let Some(path) = arguments.json {
        let summary = serde_json::json!({
            "sent": report.sent(), "failed": report.failed(), "retried": report.retried(), "report": report,
        });
        fs_err::write(path, format!("{summary:#}\n")).map_err(|error| error.to_string())?;
    }
    Ok(report.failed())
}

fn resolve(target: &str) -> Result<SocketAddr, String> {
    let mut addresses = target.to_socket_addrs().map_err(|error| format!("`{target}`: {error}"))?;
    addresses.next().ok_or_else(|| format!("`{target}` has no address"))
}
