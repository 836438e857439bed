//! The cases, each measured at one proxy after the other and again, so that what else the computer does hits all alike.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::contender::{Contender, Ground, Kind};
use super::load::{self, Aim};
use super::report::Report;
use super::settings::{BUFFERED_HOST, Certificate, HOST};
use super::target;
use crate::Failure;

/// How many connections are kept busy.
const CONNECTIONS: usize = 64;
/// How many connections lie idle when their memory is measured.
const IDLE: usize = 1000;
/// How long requests come at a fixed rate, each time.
const RATE_SPAN: Duration = Duration::from_secs(3);

/// What is asked for, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Small,
    Large,
    Huge,
    Tls,
    TlsLarge,
    TlsNew,
    Http2,
    Buffered,
}

impl Case {
    pub(crate) const ALL: [Self; 8] = [
        Self::Small,
        Self::Large,
        Self::Huge,
        Self::Tls,
        Self::TlsLarge,
        Self::TlsNew,
        Self::Http2,
        Self::Buffered,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "1 KB, kept connections",
            Self::Large => "100 KB",
            Self::Huge => "10 MB",
            Self::Tls => "TLS, 1 KB, kept",
            Self::TlsLarge => "TLS, 100 KB",
            Self::TlsNew => "TLS, new connection",
            Self::Http2 => "HTTP/2, 1 KB",
            Self::Buffered => "100 KB, buffered",
        }
    }

    /// How many requests one measurement takes.
    fn requests(self) -> usize {
        match self {
            Self::Small => 20_000,
            Self::Large | Self::Buffered => 4_000,
            Self::Huge => 60,
            Self::Tls | Self::Http2 => 16_000,
            Self::TlsLarge => 3_000,
            Self::TlsNew => 1_200,
        }
    }

    /// Only ours is asked to hold bodies back, to be compared with itself.
    fn is_for(self, kind: Kind) -> bool {
        self != Self::Buffered || kind == Kind::Freehold
    }
}

/// All proxies, started.
pub(crate) struct Bench {
    contenders: Vec<Contender>,
    tls: TlsConnector,
}

impl Bench {
    /// Starts those proxies that are named, or all.
    pub(crate) async fn start(only: &[String]) -> Result<Self, Failure> {
        let target: SocketAddr = target::start()?;
        let certificate = Certificate::make()?;
        let tls = load::connector(certificate.der.clone())?;
        let mut contenders = Vec::new();
        for kind in Kind::ALL {
            if only.is_empty() || only.iter().any(|name| name == kind.name()) {
                contenders.push(Contender::start(kind, Ground::Core, target, &certificate).await?);
            }
        }
        Ok(Self { contenders, tls })
    }

    /// Measures the cases whose names contain one of these texts, or everything.
    pub(crate) async fn run(&self, rounds: usize, cases: &[String]) -> Result<Report, Failure> {
        let mut report = Report::default();
        for contender in &self.contenders {
            report.columns.push(contender.kind);
            report.versions.push(contender.kind.version().await?);
            report.at_rest.push(contender.resident()?);
        }
        if cases.is_empty() {
            self.memory(&mut report).await?;
        }
        let is_wanted =
            |case: &Case| cases.is_empty() || cases.iter().any(|text| case.name().contains(text.as_str()));
        for case in Case::ALL.into_iter().filter(is_wanted) {
            // The first one finds things cold and is not counted.
            for round in 0..=rounds {
                for contender in self.contenders.iter().filter(|contender| case.is_for(contender.kind)) {
                    match self.cost(contender, case).await {
                        Ok(each) if round > 0 => {
                            report.costs.entry((case.name(), contender.kind.name())).or_default().push(each);
                        }
                        Ok(_) => {}
                        Err(error) => {
                            report.failures.push(format!(
                                "{}, {}: {error}",
                                contender.kind.name(),
                                case.name()
                            ));
                        }
                    }
                }
            }
        }
        if cases.is_empty() {
            self.latency(rounds, &mut report).await?;
        }
        Ok(report)
    }

    fn aim(&self, contender: &Contender, case: Case) -> Aim {
        let (address, tls) = match case {
            Case::Tls | Case::TlsLarge | Case::TlsNew | Case::Http2 => {
                (contender.https(), Some(self.tls.clone()))
            }
            Case::Small | Case::Large | Case::Huge | Case::Buffered => (contender.http(), None),
        };
        let host = if case == Case::Buffered { BUFFERED_HOST } else { HOST }.to_owned();
        let path = match case {
            Case::Small | Case::Tls | Case::TlsNew | Case::Http2 => "/1k",
            Case::Large | Case::TlsLarge | Case::Buffered => "/100k",
            Case::Huge => "/10m",
        };
        Aim { address, host, path, tls }
    }

    /// Returns the processor time that one request takes.
    async fn cost(&self, contender: &Contender, case: Case) -> Result<Duration, Failure> {
        let aim = self.aim(contender, case);
        let requests = case.requests();
        let before = contender.cpu()?;
        match case {
            Case::TlsNew => load::new_connections(&aim, 8, requests).await?,
            Case::Http2 => http2(&aim, (requests, 16)).await?,
            Case::Huge => load::keep_alive(&aim, 4, requests).await?,
            _ => load::keep_alive(&aim, CONNECTIONS, requests).await?,
        }
        let used = contender.cpu()?.saturating_sub(before);
        Ok(used / u32::try_from(requests)?)
    }

    /// Measures what an idle connection holds.
    async fn memory(&self, report: &mut Report) -> Result<(), Failure> {
        for case in [Case::Small, Case::Tls] {
            for contender in &self.contenders {
                let aim = self.aim(contender, case);
                let before = contender.resident()?;
                let clients = load::open(&aim, IDLE).await?;
                let each = contender.resident()?.saturating_sub(before) / IDLE as u64;
                drop(clients);
                report.idle.entry(case == Case::Tls).or_default().push(each);
            }
        }
        Ok(())
    }

    /// Measures how long requests take at half the rate at which the first of the others is saturated.
    async fn latency(&self, rounds: usize, report: &mut Report) -> Result<(), Failure> {
        let Some(measure) = self.contenders.iter().find(|contender| contender.kind == Kind::Nginx) else {
            return Ok(());
        };
        let aim = self.aim(measure, Case::Small);
        let begun = Instant::now();
        load::keep_alive(&aim, CONNECTIONS, Case::Small.requests()).await?;
        let rate = Case::Small.requests() as f64 / begun.elapsed().as_secs_f64() / 2.0;
        report.rate = rate;
        for _ in 0..rounds {
            for contender in &self.contenders {
                let aim = self.aim(contender, Case::Small);
                let times = load::at_rate(&aim, CONNECTIONS, rate, RATE_SPAN).await?;
                let late = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
                report.latencies.entry(contender.kind.name()).or_default().push(late);
            }
        }
        Ok(())
    }
}

/// Lets nghttp2's load generator ask over HTTP/2, by so many connections, and reads what became of it.
pub(super) async fn http2(aim: &Aim, (requests, clients): (usize, usize)) -> Result<(), Failure> {
    let mut command = Command::new("h2load");
    let (count, clients) = (requests.to_string(), clients.to_string());
    command.args(["--requests", &count, "--clients", &clients, "--max-concurrent-streams", "4"]);
    command.arg(format!("--connect-to={}", aim.address));
    command.arg(format!("https://{}:{}{}", aim.host, aim.address.port(), aim.path));
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let (protocol, codes) = (line("Application protocol:"), line("status codes:"));
    if !protocol.ends_with(" h2") || !codes.starts_with(&format!("status codes: {requests} 2xx")) {
        return Err(format!("not {requests} good answers over HTTP/2, but `{protocol}`, `{codes}`").into());
    }
    Ok(())
}
