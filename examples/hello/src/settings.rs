use std::time::Duration;

/// What the environment asks of the application.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `PORT`: where it listens; 80 unless given.
    pub(crate) port: u16,
    /// `HELLO_BIND`: the address it listens on; every one unless given.
    pub(crate) bind: String,
    /// The file `/VERSION`, else `KAMAL_VERSION`, else `unknown`.
    pub(crate) version: String,
    /// `HELLO_EXIT_AT_START`: exit with this code instead of serving.
    pub(crate) exit_at_start: Option<u8>,
    /// `HELLO_START_DELAY_MS`: listen only after this time.
    pub(crate) start_delay: Duration,
    /// `HELLO_REQUIRE_ENV` names a variable without which it exits with 1.
    pub(crate) missing_variable: Option<String>,
    /// `HELLO_MEMORY_MB`: take up so much memory at start.
    pub(crate) memory_bytes: usize,
    /// `HELLO_UNHEALTHY`: what `/up` answers instead of 200.
    pub(crate) unhealthy: Option<Unhealthy>,
    /// `HELLO_FAIL`: answer every request but `/up` with this status.
    pub(crate) fail: Option<u16>,
    /// `HELLO_CRASH_AFTER_MS`: exit with 1 so long after the start.
    pub(crate) crash_after: Option<Duration>,
    /// `HELLO_CRASH_AFTER_REQUEST_MS`: exit with 1 so long after the first request that is not `/up`.
    pub(crate) crash_after_request: Option<Duration>,
    /// `HELLO_DRAIN_MS`: how long SIGTERM waits for requests in flight; 10 s unless given.
    pub(crate) drain: Duration,
    /// `HELLO_IGNORE_SIGTERM`: go on as if nothing had been said.
    pub(crate) ignores_sigterm: bool,
}

/// How the health check goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unhealthy {
    /// It answers with this status; 301 redirects elsewhere.
    Status(u16),
    /// It never answers.
    Hang,
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        let file = fs_err::read_to_string("/VERSION").ok();
        let version = file.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            port: number("PORT").unwrap_or(80),
            bind: variable("HELLO_BIND").unwrap_or_else(|| "0.0.0.0".to_owned()),
            version: version.or_else(|| variable("KAMAL_VERSION")).unwrap_or_else(|| "unknown".to_owned()),
            exit_at_start: number("HELLO_EXIT_AT_START"),
            start_delay: milliseconds("HELLO_START_DELAY_MS").unwrap_or_default(),
            missing_variable: variable("HELLO_REQUIRE_ENV").filter(|name| variable(name).is_none()),
            memory_bytes: number::<usize>("HELLO_MEMORY_MB").unwrap_or_default() * 1024 * 1024,
            unhealthy: variable("HELLO_UNHEALTHY")
                .map(|text| text.parse().map_or(Unhealthy::Hang, Unhealthy::Status)),
            fail: number("HELLO_FAIL"),
            crash_after: milliseconds("HELLO_CRASH_AFTER_MS"),
            crash_after_request: milliseconds("HELLO_CRASH_AFTER_REQUEST_MS"),
            drain: milliseconds("HELLO_DRAIN_MS").unwrap_or(Duration::from_secs(10)),
            ignores_sigterm: variable("HELLO_IGNORE_SIGTERM").is_some(),
        }
    }
}

/// Reads a variable; an empty one counts as not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "an application's environment is its configuration")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    variable(name)?.parse().ok()
}

fn milliseconds(name: &str) -> Option<Duration> {
    number(name).map(Duration::from_millis)
}
