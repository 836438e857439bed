//! A small web application to deploy: a page with its version, and the faults that tests ask it for.
//!
//! It answers `/` (a page), `/up` (health), `/version`, `/env?name=N`, `/slow?ms=N`, `/upload` (counts the bytes),
//! `/ws` (echoes WebSocket messages), `/status?code=N` and `/crash?after_ms=N`. `settings.rs` lists its environment
//! variables. On SIGTERM it takes no new connections, finishes the requests in flight and exits with 0.

mod http;
mod page;
mod server;
mod settings;
mod websocket;

use std::process::ExitCode;
use std::sync::Arc;

use crate::settings::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = Arc::new(Settings::from_environment());
    if let Some(code) = settings.exit_at_start {
        log(&format!("hello: told to exit with {code} at start"));
        return ExitCode::from(code);
    }
    if let Some(name) = &settings.missing_variable {
        log(&format!("hello: environment variable {name} is not set"));
        return ExitCode::FAILURE;
    }
    let ballast = vec![1_u8; settings.memory_bytes];
    tokio::time::sleep(settings.start_delay).await;
    let code = match server::run(Arc::clone(&settings)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("hello: cannot listen on {}:{}: {error}", settings.bind, settings.port));
            ExitCode::FAILURE
        }
    };
    drop(ballast);
    code
}

/// Writes a line to the container's log; without a reader there is nobody to tell.
fn log(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").ok();
}
