use std::io::{self, Write};
use std::sync::Arc;

use freehold_cli::Logs;
use freehold_model::SshLogLevel;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sends what all libraries log to standard error: a person asked for everything.
pub(crate) fn show_all() {
    let ours = ["freehold", "freehold_cli", "freehold_fleet", "freehold_ssh", "freehold_docker"];
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(ours.map(|target| (target, LevelFilter::DEBUG)));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Patient).with_ansi(false);
    // It fails only if there is a subscriber already, which then does the same.
    drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
}

/// What libraries log in this process.
#[derive(Debug)]
pub(crate) struct LibraryLogs;

impl Logs for LibraryLogs {
    fn show_ssh(&self, level: SshLogLevel, show: Box<dyn Fn(&str) + Send + Sync>) {
        let level = match level {
            SshLogLevel::Debug => LevelFilter::DEBUG,
            SshLogLevel::Info => LevelFilter::INFO,
            SshLogLevel::Warn => LevelFilter::WARN,
            SshLogLevel::Error => LevelFilter::ERROR,
            // What ends a connection is the error of the command, which is shown anyway.
            SshLogLevel::Fatal => return,
        };
        let show: Arc<dyn Fn(&str) + Send + Sync> = Arc::from(show);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || Lines { show: Arc::clone(&show), text: Vec::new() })
            .with_ansi(false)
            .with_timer(NoTime)
            .with_filter(Targets::new().with_target("freehold_ssh", level));
        // It fails if everything is shown already.
        drop(tracing_subscriber::registry().with(lines).try_init());
    }
}

/// Whoever shows the lines tells the time.
struct NoTime;

impl FormatTime for NoTime {
    fn format_time(&self, _writer: &mut Writer<'_>) -> std::fmt::Result {
        Ok(())
    }
}

/// Gathers what is written for one event, and gives its lines away when it is complete.
struct Lines {
    show: Arc<dyn Fn(&str) + Send + Sync>,
    text: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for line in String::from_utf8_lossy(&self.text).lines().map(str::trim).filter(|line| !line.is_empty())
        {
            (self.show)(line);
        }
    }
}

/// Standard error, whose reader may go away (`freehold deploy -v 2>&1 | head`): a deploy goes on without being read, and
/// the subscriber must not panic because it cannot say that it cannot write.
struct Patient;

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes).or(Ok(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
