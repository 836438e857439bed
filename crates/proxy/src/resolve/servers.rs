//! Where names are looked up: the system's files, and the servers that they name.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::message::{Answer, Record, question, read};

/// How long one server is waited for.
const TRY: Duration = Duration::from_secs(1);

/// How long all servers are waited for, about one question.
const ALL_TRIES: Duration = Duration::from_millis(2500);

const TURNS: usize = 2;
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const PORT: u16 = 53;

/// The files that say where names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFiles {
    /// Addresses and their names, one per line.
    pub hosts: PathBuf,
    /// The name servers, in the form of `resolv.conf(5)`; a server may be given with a port, `127.0.0.1:5353`.
    pub servers: PathBuf,
    /// The name of this host or container, which Docker's name server always knows.
    pub host_name: PathBuf,
}

impl Default for NameFiles {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            servers: "/etc/resolv.conf".into(),
            host_name: "/etc/hostname".into(),
        }
    }
}

/// What a name was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has these addresses.
    Addresses(Vec<IpAddr>),
    /// It does not exist.
    Gone,
    /// There is nobody who could tell.
    Unanswered,
}

/// Looks a name up: in the file of hosts, then at the servers.
pub(super) async fn look_up(files: &NameFiles, name: &str) -> Verdict {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Verdict::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let (wanted, files) = (name.clone(), files.clone());
    // Reading files blocks, be it ever so briefly; one that is missing says nothing.
    let read = tokio::task::spawn_blocking(move || {
        let text = |path| fs_err::read_to_string(path).unwrap_or_default();
        let listed = in_hosts(&text(&files.hosts), &wanted);
        (listed, Servers::parse(&text(&files.servers)), text(&files.host_name).trim().to_ascii_lowercase())
    });
    let Ok((listed, servers, own_name)) = read.await else { return Verdict::Unanswered };
    if !listed.is_empty() {
        return Verdict::Addresses(listed);
    }
    let verdict = servers.find(&name).await;
    // Docker's server asks others for a name that is none of its containers, and may get no answer from them. That it
    // knows this container shows that it is there, and so that the name is no container's any more.
    if verdict == Verdict::Unanswered
        && !own_name.is_empty()
        && own_name != name
        && matches!(servers.ask(&own_name, Record::A).await, Answer::Addresses(_) | Answer::Nothing)
    {
        return Verdict::Gone;
    }
    verdict
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let addresses = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    });
    addresses.collect()
}

/// What a file of servers says.
#[derive(Debug, PartialEq, Eq)]
struct Servers {
    addresses: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with at least so many dots is first looked for as it is.
    dots: usize,
}

impl Servers {
    fn parse(text: &str) -> Self {
        let mut servers = Self { addresses: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => servers.addresses.extend(words.next().and_then(|word| {
                    let ip = word.parse().map(|ip| SocketAddr::new(ip, PORT));
                    ip.or_else(|_| word.parse()).ok()
                })),
                Some("search" | "domain") => servers.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut dots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    servers.dots = dots.next_back().unwrap_or(servers.dots);
                }
                _ => {}
            }
        }
        servers.addresses.truncate(MAX_SERVERS);
        servers.search.truncate(MAX_SEARCH);
        servers
    }

    fn candidates(&self, name: &str) -> Vec<String> {
        let domains = self.search.iter().map(|domain| domain.trim_matches('.'));
        let mut candidates: Vec<String> =
            domains.filter(|domain| !domain.is_empty()).map(|domain| format!("{name}.{domain}")).collect();
        let at = if name.matches('.').count() >= self.dots { 0 } else { candidates.len() };
        candidates.insert(at, name.to_owned());
        candidates
    }

    async fn find(&self, name: &str) -> Verdict {
        let mut verdict = Verdict::Gone;
        for candidate in self.candidates(name) {
            let answer = match self.ask(&candidate, Record::A).await {
                Answer::Nothing => self.ask(&candidate, Record::Aaaa).await,
                answer => answer,
            };
            match answer {
                Answer::Addresses(addresses) => return Verdict::Addresses(addresses),
                Answer::Nothing => {}
                Answer::Unable => verdict = Verdict::Unanswered,
            }
        }
        verdict
    }

    /// Asks one server after the other, and all of them once more.
    async fn ask(&self, name: &str, record: Record) -> Answer {
        let deadline = Instant::now() + ALL_TRIES;
        for _ in 0..TURNS {
            for server in &self.addresses {
                let asked = timeout_at(deadline, timeout(TRY, ask(*server, name, record))).await;
                match asked {
                    Ok(Ok(Ok(answer @ (Answer::Addresses(_) | Answer::Nothing)))) => return answer,
                    Ok(Ok(Ok(Answer::Unable) | Err(_)) | Err(_)) => {}
                    Err(_) => return Answer::Unable,
                }
            }
        }
        Answer::Unable
    }
}

async fn ask(server: SocketAddr, name: &str, record: Record) -> io::Result<Answer> {
    let id = u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or_default();
    let Some(question) = question(id, name, record) else { return Ok(Answer::Nothing) };
    let any = match server.ip() {
        IpAddr::V4(_) => SocketAddr::from(([0u8; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    // A connected socket takes nothing from others, and is told where nobody listens.
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut message = [0; 1500];
    loop {
        let length = socket.recv(&mut message).await?;
        let message = message.get(..length).unwrap_or_default();
        if let Some(answer) = read(message, &question, record) {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_as_the_system_reads_them() {
        let text = "# made by Docker\nnameserver 127.0.0.11\nnameserver 127.0.0.1:5353 # test\nnameserver ::1\n\
                    nameserver 10.0.0.9\nsearch corp.lan. lan\noptions edns0 ndots:0\nnameserver nonsense\n";
        let servers = Servers::parse(text);
        let addresses: Vec<String> = servers.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.11:53", "127.0.0.1:5353", "[::1]:53"]);
        assert_eq!(servers.candidates("web"), ["web", "web.corp.lan", "web.lan"]);
        let usual = Servers::parse("nameserver 10.0.0.1\nsearch lan\n");
        assert_eq!(usual.candidates("web"), ["web.lan", "web"]);
        assert_eq!(usual.candidates("web.example"), ["web.example", "web.example.lan"]);
        let hosts = "127.0.0.1 localhost\n10.0.0.7\tWeb web-1 # a comment web-2\nfe80::1%eth0 web\n::5 web\n";
        assert_eq!(in_hosts(hosts, "web"), ["10.0.0.7".parse::<IpAddr>().unwrap(), "::5".parse().unwrap()]);
        assert!(in_hosts(hosts, "web-2").is_empty());
    }
}
