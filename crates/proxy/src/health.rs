//! Asking a target whether it is healthy, and saying precisely what came of it.

mod http2;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold_wire::{
    HealthCheck, HealthState, ProbeOutcome, ProbeReport, ProbeRequest, TargetAddress, TargetProtocol,
    TargetTls,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::control::chain;
use crate::generation::{Generation, Target};
use crate::http1::body::Body;
use crate::http1::header::Kind;
use crate::http1::response::{Asked, parse};
use crate::http1::{Framing, slots};
use crate::inlet::send;
use crate::link::TargetSocket;
use crate::log::{Level, Log};
use crate::resolve::Resolver;
use crate::target_tls::Trust;

/// The pauses between the first checks: a deploy waits for a container that needs some time to start, or none.
const FIRST_PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

const MAX_REDIRECTS: usize = 10;
const MAX_EXCERPT_BYTES: usize = 200;
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const ANY: Asked = Asked { head: false, get: true, websocket: false };

/// Checks a target until it is healthy or the deadline has passed.
///
/// # Cancel safety
/// It may be dropped at any time; nothing is left of it.
pub(crate) async fn probe(resolver: &Resolver, request: &ProbeRequest) -> ProbeReport {
    let started = Instant::now();
    let deadline = Duration::from_millis(request.deadline_ms);
    let mut pauses = pauses(&request.health_check);
    let mut attempts = 0;
    let mut seen = None;
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        let outcome = check(resolver, &request.target, &request.health_check, left).await;
        attempts += 1;
        let healthy = outcome.is_healthy();
        let was_cut_short = left < Duration::from_millis(request.health_check.timeout_ms)
            && matches!(outcome, ProbeOutcome::Timeout { .. });
        // What an earlier check saw says more than that the probe's own deadline ended this one.
        let last = if was_cut_short { seen.take().unwrap_or(outcome) } else { outcome };
        let pause = pauses.next().unwrap_or_default();
        if healthy || started.elapsed() + pause >= deadline {
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            return ProbeReport { target: request.target.clone(), healthy, attempts, elapsed_ms, last };
        }
        seen = Some(last);
        sleep(pause).await;
    }
}

/// Keeps a target's health up to date. With `Until::Healthy` it ends at the first success.
pub(crate) async fn follow(generation: Arc<Generation>, target: Arc<Target>, follow: Follow) {
    let Follow { check: health_check, until, resolver, log } = follow;
    let interval = Duration::from_millis(health_check.interval_ms);
    let mut first_pauses = pauses(&health_check);
    loop {
        let outcome = check(&resolver, &target.address, &health_check, Duration::MAX).await;
        let text = outcome.to_string();
        let (before, after) = target.checked(outcome);
        generation.health_changed.notify_waiters();
        if after != HealthState::Healthy {
            log.line(Level::Debug, "Healthcheck failed", &[("target", &target.address), ("error", &text)]);
        }
        if before != after {
            let (state, was) = (word(after), word(before));
            log.info(
                "Target health updated",
                &[("target", &target.address), ("state", &state), ("was", &was)],
            );
        }
        if until == Until::Healthy && after == HealthState::Healthy {
            return;
        }
        let pause = if after == HealthState::Adding { first_pauses.next() } else { None };
        sleep(pause.unwrap_or(interval)).await;
    }
}

/// How a target is followed.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    pub(crate) check: HealthCheck,
    pub(crate) until: Until,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) log: Log,
}

/// How long a target is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Healthy,
    Forever,
}

fn word(health: HealthState) -> &'static str {
    match health {
        HealthState::Adding => "adding",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
    }
}

fn pauses(check: &HealthCheck) -> impl Iterator<Item = Duration> + use<> {
    let interval = Duration::from_millis(check.interval_ms);
    FIRST_PAUSES.into_iter().map(move |pause| pause.min(interval)).chain(std::iter::repeat(interval))
}

/// Checks a target once, within the check's own time limit and what is left of a longer one.
pub(crate) async fn check(
    resolver: &Resolver,
    target: &TargetAddress,
    check: &HealthCheck,
    left: Duration,
) -> ProbeOutcome {
    let limit = Duration::from_millis(check.timeout_ms).min(left);
    let connected = AtomicBool::new(false);
    match timeout(limit, ask(resolver, target, check, &connected)).await {
        Ok(outcome) => outcome,
        Err(_) => ProbeOutcome::Timeout { connected: connected.load(Ordering::Relaxed) },
    }
}

async fn ask(
    resolver: &Resolver,
    target: &TargetAddress,
    check: &HealthCheck,
    connected: &AtomicBool,
) -> ProbeOutcome {
    let (own, mut path) = place(target, check);
    let port = check.port.unwrap_or(target.port());
    let host = check.host.as_deref().unwrap_or(&own);
    let address = match TargetAddress::parse(&format!("{}:{port}", target.host())) {
        Ok(address) => address,
        Err(error) => return ProbeOutcome::Unreachable { message: error.to_string() },
    };
    for _ in 0..MAX_REDIRECTS {
        connected.store(false, Ordering::Relaxed);
        let outcome = match connect(resolver, &address).await {
            Ok(stream) => {
                connected.store(true, Ordering::Relaxed);
                match encrypt(check, &address, stream).await {
                    Ok(stream) if check.protocol == TargetProtocol::H2c || stream.is_agreed_on_http2() => {
                        http2::ask(stream, &path, host).await
                    }
                    Ok(stream) => get(stream, &path, host).await,
                    Err(outcome) => outcome,
                }
            }
            Err(outcome) => outcome,
        };
        match next_path(&outcome, scheme_of(check), &[host, &own, address.as_str()]) {
            Some(next) => path = next,
            None => return outcome,
        }
    }
    get_too_many(&path)
}

/// Agrees with a target on an encrypted connection, where that is wanted. Its authorities are read each time, as their file
/// may have changed.
async fn encrypt(
    check: &HealthCheck,
    target: &TargetAddress,
    stream: TcpStream,
) -> Result<TargetSocket, ProbeOutcome> {
    if !check.protocol.is_encrypted() {
        return Ok(TargetSocket::Plain(stream));
    }
    let refuse = |message: String| ProbeOutcome::NotTrusted { message: excerpt(message.as_bytes()) };
    let trust = match &check.tls {
        Some(wanted) => Trust::load(wanted),
        None => Trust::load(&TargetTls::default()),
    };
    let trust = trust.map_err(|error| refuse(chain(&error)))?;
    trust.agree(check.protocol, target, stream).await.map_err(|error| refuse(chain(&error)))
}

fn scheme_of(check: &HealthCheck) -> &'static str {
    if check.protocol.is_encrypted() { "https" } else { "http" }
}

/// Returns where a check goes: the authority, without the scheme's own port, and the path.
fn place(target: &TargetAddress, check: &HealthCheck) -> (String, String) {
    let mut path = check.path.replace('?', "%3F");
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let port = check.port.unwrap_or(target.port());
    let usual = if check.protocol.is_encrypted() { 443 } else { 80 };
    let own = if port == usual { target.host().to_owned() } else { format!("{}:{port}", target.host()) };
    (own, path)
}

fn get_too_many(path: &str) -> ProbeOutcome {
    ProbeOutcome::Status { code: 302, location: Some(path.to_owned()), body: "too many redirects".to_owned() }
}

/// Returns where to go on after a redirect to the target itself; elsewhere nothing would be learned about it.
fn next_path(outcome: &ProbeOutcome, scheme: &str, own_names: &[&str]) -> Option<String> {
    let ProbeOutcome::Status { code: 301 | 302 | 303 | 307 | 308, location: Some(location), .. } = outcome
    else {
        return None;
    };
    let location = location.split('#').next().unwrap_or(location);
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location.to_owned());
    }
    let rest = location.strip_prefix(scheme)?.strip_prefix("://")?;
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let is_own = own_names.iter().any(|name| name.eq_ignore_ascii_case(authority));
    is_own.then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

async fn connect(resolver: &Resolver, address: &TargetAddress) -> Result<TcpStream, ProbeOutcome> {
    let mut failure = ProbeOutcome::Unresolvable;
    // Not an answer given again: what is known of health must not lag behind.
    for address in resolver.find_anew(address).await.map_err(|_| ProbeOutcome::Unresolvable)?.addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => failure = ProbeOutcome::Refused,
            Err(error) => failure = ProbeOutcome::Unreachable { message: error.to_string() },
        }
    }
    Err(failure)
}

async fn get(mut stream: TargetSocket, path: &str, host: &str) -> ProbeOutcome {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kamal-proxy\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    // A target that refuses to read may still have answered.
    let sent = send(&mut stream, request.as_bytes()).await;
    let mut received = Vec::new();
    loop {
        match read_head(&received) {
            Ok(Some((length, None))) => drop(received.drain(..length)),
            Ok(Some((length, Some(answer)))) => {
                received.drain(..length);
                return judge(answer, &mut stream, received).await;
            }
            Ok(None) => match stream.read_buf(&mut received).await {
                Ok(length) if length > 0 && received.len() <= MAX_ANSWER_BYTES => {}
                Ok(_) | Err(_) if sent.is_err() || !received.starts_with(b"HTTP/1.") => {
                    return unreadable(&received);
                }
                Ok(_) | Err(_) => return ProbeOutcome::ClosedEarly,
            },
            Err(()) => return unreadable(&received),
        }
    }
}

fn unreadable(received: &[u8]) -> ProbeOutcome {
    if received.is_empty() {
        return ProbeOutcome::ClosedEarly;
    }
    ProbeOutcome::NotHttp { received: excerpt(received) }
}

struct Answer {
    status: u16,
    location: Option<String>,
    framing: Framing,
}

/// Reads a head at the front of what was received: its length, and the answer unless it is an interim one.
fn read_head(received: &[u8]) -> Result<Option<(usize, Option<Answer>)>, ()> {
    if received.is_empty() {
        return Ok(None);
    }
    let mut slots = slots();
    let Some(response) = parse(received, &mut slots, ANY).map_err(|_| ())? else { return Ok(None) };
    if response.status < 200 {
        return Ok(Some((response.head_len, None)));
    }
    let answer = Answer {
        status: response.status,
        location: response.first(Kind::Location).map(excerpt),
        framing: response.framing,
    };
    Ok(Some((response.head_len, Some(answer))))
}

async fn judge(answer: Answer, stream: &mut TargetSocket, received: Vec<u8>) -> ProbeOutcome {
    let Answer { status, location, framing } = answer;
    let body = read_body(framing, stream, received).await;
    if (200..300).contains(&status) {
        return ProbeOutcome::Healthy { status };
    }
    ProbeOutcome::Status { code: status, location, body: excerpt(&body) }
}

/// Reads a body so far as it comes; an answer whose head is good is good.
async fn read_body(framing: Framing, stream: &mut TargetSocket, mut received: Vec<u8>) -> Vec<u8> {
    let mut body = Body::new(framing);
    let mut payload = Vec::new();
    let all = async {
        while !body.is_done() && payload.len() < MAX_ANSWER_BYTES {
            let Ok(step) = body.step(&received) else { return };
            payload.extend_from_slice(received.get(step.data).unwrap_or_default());
            received.drain(..step.consumed);
            if received.is_empty()
                && !body.is_done()
                && !matches!(stream.read_buf(&mut received).await, Ok(1..))
            {
                return;
            }
        }
    };
    // A body that goes on for ever, as an event stream's, must not make the target look dead.
    timeout(Duration::from_millis(250), all).await.ok();
    payload
}

/// Returns the first bytes of a text from outside, fit for a terminal.
fn excerpt(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_EXCERPT_BYTES).unwrap_or(bytes);
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // proxy-compat cases 31-34.
    #[test]
    fn a_check_goes_to_the_targets_host_and_the_checks_port() {
        for (target, path, port, wanted) in [
            ("localhost:3000", "/up", None, "localhost:3000/up"),
            ("localhost:3000", "/health", Some(8080), "localhost:8080/health"),
            ("localhost", "/status", Some(9090), "localhost:9090/status"),
            ("localhost", "/up", None, "localhost/up"),
            ("localhost", "up?x", None, "localhost/up%3Fx"),
        ] {
            let check = HealthCheck { path: path.to_owned(), port, ..HealthCheck::default() };
            let (authority, path) = place(&TargetAddress::parse(target).unwrap(), &check);
            assert_eq!(authority + &path, wanted);
        }
    }

    #[test]
    fn redirects_are_followed_only_to_the_target_itself() {
        let to = |location: &str| {
            let outcome =
                ProbeOutcome::Status { code: 301, location: Some(location.to_owned()), body: String::new() };
            next_path(&outcome, "http", &["shop.example.com", "web:3000"])
        };
        assert_eq!(to("/up/"), Some("/up/".to_owned()));
        assert_eq!(to("http://WEB:3000/up#top"), Some("/up".to_owned()));
        assert_eq!(to("http://shop.example.com"), Some("/".to_owned()));
        assert_eq!(to("https://shop.example.com/up"), None);
        assert_eq!(to("//other/up"), None);
        assert_eq!(to("http://other/up"), None);
    }

    #[test]
    fn excerpts_hold_no_control_characters() {
        assert_eq!(excerpt(b"a\n\x1b[31mb\xff"), "a\\n\\u{1b}[31mb\u{fffd}");
    }

    #[test]
    fn pauses_grow_to_the_interval() {
        let check = HealthCheck { interval_ms: 150, ..HealthCheck::default() };
        let pauses: Vec<u128> = pauses(&check).take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [20, 50, 100, 150, 150, 150, 150]);
    }
}
