//! Requests that two programs may read differently: what we forward of each, beside what nginx and HAProxy forward of it,
//! with http-desync-guardian as a judge of the request and of what we make of it.

mod others;
mod recorder;
mod table;

use std::time::Duration;

use http_desync_guardian::RequestSafetyTier;
use http_desync_guardian::request_analyzer::HttpRequestData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::soon;
use crate::rig::{Rig, address, name, settings};
use others::{Haproxy, Nginx};
use recorder::{Recorder, Seen};
use table::Case;

/// How long nothing comes before nothing more is expected.
const QUIET: Duration = Duration::from_millis(800);
const AT_ONCE: usize = 16;

/// What a proxy made of one connection's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    /// What the target got.
    seen: Vec<Seen>,
    /// The status of the answer with which the proxy itself ended the connection.
    refusal: Option<u16>,
}

impl Reading {
    fn requests(&self) -> Vec<String> {
        self.seen.iter().map(Seen::summary).collect()
    }
}

#[tokio::test]
async fn nothing_is_read_otherwise_than_by_nginx_and_haproxy() {
    let cases = table::cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    let (ours, nginx, haproxy) = (Recorder::start().await, Recorder::start().await, Recorder::start().await);
    let rig = Rig::start();
    let mut request =
        freehold_wire::DeployRequest::new(vec![address(&ours.address())], settings("shop.example.com"));
    request.settings.hosts = vec![];
    rig.client().await.deploy(&name("any"), &request, crate::client::LIMIT).await.unwrap();
    let (nginx_process, haproxy_process) = (Nginx::start(&nginx).await, Haproxy::start(&haproxy).await);
    let ours = readings(rig.port(), &ours, &cases).await;
    let nginx = readings(nginx_process.port, &nginx, &cases).await;
    let haproxy = readings(haproxy_process.port, &haproxy, &cases).await;
    let mut complaints = Vec::new();
    let mut refused = 0;
    for (index, case) in cases.iter().enumerate() {
        let ours = &ours[index];
        refused += usize::from(ours.seen.is_empty());
        let mut differences = Vec::new();
        for (who, theirs) in [("nginx", &nginx[index]), ("haproxy", &haproxy[index])] {
            if let Some(difference) = difference(ours, theirs) {
                differences.push(format!("{who}: {difference}"));
            }
        }
        differences.extend(judged(case, ours));
        let explained = table::explained(&case.name);
        match (differences.is_empty(), explained) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(why)) => {
                complaints.push(format!("{:?}: no difference to explain by `{why}`", case.name))
            }
            (false, None) => complaints.push(format!(
                "{:?}: {}\n    {:?}",
                case.name,
                differences.join("\n  "),
                String::from_utf8_lossy(&case.bytes)
            )),
        }
    }
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), cases.len(), complaints.join("\n"));
    // A proxy that refuses everything would pass.
    assert!(refused > 100 && refused < cases.len() - 40, "{refused} of {} are refused", cases.len());
}

/// Says how two readings differ, unless ours is the other one or a refusal of a part of it.
fn difference(ours: &Reading, theirs: &Reading) -> Option<String> {
    let (mine, other) = (ours.requests(), theirs.requests());
    let is_refusal = ours.refusal.is_some_and(|status| status >= 400) && other.starts_with(&mine);
    // Who sees the first bad byte only after a good request may have forwarded that one or not.
    let differ = mine != other && !is_refusal;
    differ
        .then(|| format!("we read {mine:?} ({:?}), it reads {other:?} ({:?})", ours.refusal, theirs.refusal))
}

/// Says what the judge has against what we forward.
fn judged(case: &Case, ours: &Reading) -> Vec<String> {
    let tier = |bytes: &[u8]| {
        let result = HttpRequestData::analyze_raw_request(bytes);
        (result.tier, format!("{:?}, {:?}", result.reason, result.message))
    };
    let mut complaints = Vec::new();
    for seen in &ours.seen {
        let (tier, why) = tier(&seen.head);
        if tier != RequestSafetyTier::Compliant {
            complaints.push(format!("what we forward is {tier:?} ({why}): {}", seen.summary()));
        }
    }
    let (tier, why) = tier(case.head());
    if matches!(tier, RequestSafetyTier::Severe | RequestSafetyTier::Ambiguous) && !ours.seen.is_empty() {
        complaints.push(format!("forwarded, though the request is {tier:?} ({why})"));
    }
    complaints
}

/// Sends every case on a connection of its own, and returns what became of each, in order.
async fn readings(port: u16, recorder: &Recorder, cases: &[Case]) -> Vec<Reading> {
    let mut readings: Vec<Option<Reading>> = vec![None; cases.len()];
    let mut running = JoinSet::new();
    for (index, case) in cases.iter().enumerate() {
        if running.len() >= AT_ONCE {
            let (index, reading): (usize, Reading) = running.join_next().await.unwrap().unwrap();
            readings[index] = Some(reading);
        }
        let (bytes, seen) = (case.bytes.clone(), recorder.handle());
        running.spawn(async move {
            let answers = converse(port, &bytes, || seen.has_the_last(index)).await;
            let seen = seen.of(index);
            let refusal = answers.get(seen.len()).copied();
            (index, Reading { seen, refusal })
        });
    }
    for (index, reading) in running.join_all().await {
        readings[index] = Some(reading);
    }
    readings.into_iter().map(Option::unwrap).collect()
}

/// Sends bytes and returns the statuses of the answers.
async fn converse(port: u16, bytes: &[u8], is_complete: impl Fn() -> bool) -> Vec<u16> {
    let mut stream = soon(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    // A proxy may refuse before it has taken all.
    stream.write_all(bytes).await.ok();
    let mut answers = Vec::new();
    let mut buffer = vec![0; 4096];
    let tick = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while waited < QUIET {
        match timeout(tick, stream.read(&mut buffer)).await {
            Ok(Ok(length)) if length > 0 => {
                answers.extend_from_slice(&buffer[..length]);
                waited = Duration::ZERO;
            }
            Ok(_) => break,
            Err(_) if is_complete() && waited > tick * 4 => break,
            Err(_) => waited += tick,
        }
    }
    let text = String::from_utf8_lossy(&answers);
    text.match_indices("HTTP/1.")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
        .filter(|status| *status != 100)
        .collect()
}
