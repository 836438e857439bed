//! A small web application to deploy: a page with its version, and the faults that tests ask it for.
//!
//! It answers `/` (a page), `/up` (health), `/version`, `/env?name=N`, `/slow?ms=N`, `/upload` (counts the bytes),
//! `/ws` (echoes WebSocket messages), `/log` (writes a line), `/status?code=N` and `/crash?after_ms=N`. `settings.rs`
//! lists its environment variables. On SIGTERM it takes no new connections, finishes the requests in flight and exits with 0.
//!
//! Called with other words than `serve` it does that instead: `env` prints its environment, `echo` what it reads, `exit N`
//! ends with N, `sleep N` ends after N seconds. An image without a shell has nothing else for `app exec`.

mod http;
mod http2;
mod page;
mod server;
mod settings;
mod websocket;

use std::process::ExitCode;
use std::sync::Arc;

use crate::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["serve"] => {}
        ["sleep", seconds] => return sleep(seconds).await,
        words => return command(words),
    }
    let settings = Arc::new(Settings::from_environment());
    if let Some(code) = settings.exit_at_start {
        log(&format!("hello: told to exit with {code} at start"));
        return ExitCode::from(code);
    }
    if let Some(name) = &settings.missing_variable {
        log(&format!("hello: environment variable {name} is not set"));
        return ExitCode::FAILURE;
    }
    let http2 = match http2::Http2::from_environment() {
        Ok(http2) => http2,
        Err(error) => {
            log(&format!("hello: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ballast = vec![1_u8; settings.memory_bytes];
    tokio::time::sleep(settings.start_delay).await;
    let code = match server::run(Arc::clone(&settings), http2).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("hello: cannot listen on {}:{}: {error}", settings.bind, settings.port));
            ExitCode::FAILURE
        }
    };
    drop(ballast);
    code
}

/// Does what words ask for.
#[expect(clippy::disallowed_methods, reason = "this is main, and the environment is what is asked for")]
fn command(words: &[&str]) -> ExitCode {
    let done = match words {
        ["env"] => {
            let mut variables: Vec<(String, String)> = std::env::vars().collect();
            variables.sort();
            variables.iter().for_each(|(name, value)| log(&format!("{name}={value}")));
            true
        }
        ["echo"] => std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).is_ok(),
        ["exit", code] => return code.parse::<u8>().map_or(ExitCode::FAILURE, ExitCode::from),
        _ => {
            log(&format!("hello: unknown command: {}", words.join(" ")));
            false
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sleeps and says so before and after; SIGTERM ends it with 143.
async fn sleep(seconds: &str) -> ExitCode {
    let (Ok(seconds), Ok(mut terminate)) =
        (seconds.parse(), tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()))
    else {
        return ExitCode::FAILURE;
    };
    log(&format!("sleeping for {seconds} s"));
    tokio::select! {
        () = tokio::time::sleep(std::time::Duration::from_secs(seconds)) => {
            log("awake");
            ExitCode::SUCCESS
        }
        _ = terminate.recv() => ExitCode::from(143),
    }
}

/// Writes a line to the container's log; without a reader there is nobody to tell.
fn log(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").ok();
}
