//! Every service, from every place, by both families, whatever happens to the host: with real packets, and as `verify` tells it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use freehold_e2e::lab::Host;
use freehold_e2e::project::Run;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::{ECHO, EVERYWHERE, Guarded, HOST_NETWORK, LOOPBACK, PRIVATE, dropped};
use crate::scene::eventually;
use Protocol::{Tcp, Udp};

/// Makes a small image of the host's own busybox, since nothing can be pulled, and one of its Perl, which answers datagrams.
const IMPORT: &str = "docker image inspect busybox >/dev/null 2>&1 && exit 0; mkdir -p /tmp/image && \
    cp /bin/busybox /tmp/image/ && tar --create --directory /tmp/image . | \
    docker import --change 'ENTRYPOINT [\"/busybox\"]' - busybox >/dev/null
    perl=$(readlink -f \"$(command -v perl)\"); libraries=$(ldd \"$perl\" | grep -o '/[^ ]*')
    tar --create --dereference --transform 's,^/,,' --absolute-names \"$perl\" $libraries | \
    docker import --change \"ENTRYPOINT [\\\"$perl\\\"]\" - echo >/dev/null";

/// Answers each datagram with itself.
const ECHO_PROGRAM: &str = "socket(S, 2, 2, 17) or die; bind(S, pack(\"S n a4 x8\", 2, 5005, \"\")) or die; \
    while (defined(my $from = recv(S, my $text, 512, 0))) { send(S, $text, 0, $from) }";

/// A port that is let in, and nobody listens.
const NOBODY: u16 = 5006;

/// How long silence is listened to.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

const SERVICES: [(Protocol, u16); 7] = [
    (Tcp, EVERYWHERE),
    (Tcp, PRIVATE),
    (Tcp, LOOPBACK),
    (Tcp, HOST_NETWORK),
    (Tcp, NOBODY),
    (Udp, ECHO),
    (Udp, NOBODY),
];

/// From where, whether by IPv4, and to which service.
type Cell = (String, bool, Protocol, u16);

/// What became of each cell: `open`, `refused` or `filtered`.
type Cells = BTreeMap<Cell, String>;

/// Tries from a host what stands in its arguments as `PROTOCOL ADDRESS PORT`, all at once, and prints each with the outcome.
const TRY: &str = r#"
import socket, sys, threading
def once(protocol, address, port):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == 'udp' else socket.SOCK_STREAM
    with socket.socket(family, kind) as own:
        own.settimeout(WAIT)
        try:
            own.connect((address, int(port)))
            if protocol == 'udp':
                own.send(b'x')
                own.recv(16)
            return 'open'
        except ConnectionRefusedError:
            return 'refused'
        except (socket.timeout, TimeoutError):
            return 'filtered'
        except OSError as error:
            return 'other:' + str(error.errno)
def tell(line):
    outcome = once(*line.split())
    print(line, outcome, flush=True)
threads = [threading.Thread(target=tell, args=(line,)) for line in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
"#;

type Place = (Protocol, IpAddr, u16);

/// Tries places from a host.
async fn outcomes(host: &Host, places: &[Place]) -> BTreeMap<Place, String> {
    let program = TRY.replace("WAIT", &WAIT.as_secs().to_string());
    let arguments: Vec<String> = places
        .iter()
        .map(|(protocol, address, port)| format!("'{} {address} {port}'", protocol.word()))
        .collect();
    let script = format!("python3 - {} <<'END'\n{program}END\n", arguments.join(" "));
    let told = host.exec(&script).await.unwrap();
    let place = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let protocol = if words[0] == "udp" { Udp } else { Tcp };
        ((protocol, words[1].parse().unwrap(), words[2].parse().unwrap()), words[3].to_owned())
    };
    told.lines().map(place).collect()
}

/// Tries one place from a host.
async fn outcome(host: &Host, place: Place) -> String {
    outcomes(host, &[place]).await.remove(&place).unwrap()
}

/// Tries one place from this computer.
async fn outcome_here((protocol, address, port): Place) -> String {
    let address = SocketAddr::new(address, port);
    let exchange = async {
        match protocol {
            Tcp => TcpStream::connect(address).await.map(drop),
            Udp => {
                let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(address).await?;
                socket.send(b"x").await?;
                socket.recv(&mut [0; 16]).await.map(drop)
            }
        }
    };
    match tokio::time::timeout(WAIT, exchange).await {
        Ok(Ok(())) => "open".to_owned(),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        Ok(Err(error)) => format!("other: {error}"),
        Err(_) => "filtered".to_owned(),
    }
}

impl Guarded {
    /// The addresses at which the database host is tried: of the public interface from this computer, else of the private.
    fn addresses(&self, from: &str) -> [IpAddr; 2] {
        let host = self.host("database");
        match from {
            "this computer" => [host.open_address().unwrap().into(), host.open_ipv6().unwrap().into()],
            _ => [host.private_address().unwrap().into(), host.private_ipv6().unwrap().into()],
        }
    }

    /// Starts the services on the database host.
    async fn start_services(&self) {
        let host = self.host("database");
        host.exec(IMPORT).await.unwrap();
        let private = self.private("database");
        let httpd = |port: u16| format!("busybox httpd -f -p {port}");
        for (port, publish, command) in [
            (EVERYWHERE, format!("--publish {EVERYWHERE}:{EVERYWHERE}"), httpd(EVERYWHERE)),
            (PRIVATE, format!("--publish {private}:{PRIVATE}:{PRIVATE}"), httpd(PRIVATE)),
            (LOOPBACK, format!("--publish 127.0.0.1:{LOOPBACK}:{LOOPBACK}"), httpd(LOOPBACK)),
            (HOST_NETWORK, "--network host".to_owned(), httpd(HOST_NETWORK)),
            (ECHO, format!("--publish {ECHO}:{ECHO}/udp"), format!("echo -e '{ECHO_PROGRAM}'")),
        ] {
            let run = format!(
                "docker run --detach --restart unless-stopped --stop-timeout 1 --name service-{port} {publish} {command} \
                 >/dev/null"
            );
            host.exec(&run).await.unwrap();
        }
    }

    /// Puts ufw to work: closed to all but the application host, or with two services denied to that, too.
    fn ufw_script(&self, state: &str) -> String {
        let application = self.host("application");
        let allow: Vec<String> = [
            IpAddr::from(application.private_address().unwrap()),
            application.open_address().unwrap().into(),
            application.private_ipv6().unwrap().into(),
            application.open_ipv6().unwrap().into(),
        ]
        .map(|address| format!("ufw allow from {address};"))
        .to_vec();
        match state {
            "off" => "true".to_owned(),
            "on" => {
                format!("ufw default deny incoming; ufw allow 22/tcp; {} ufw --force enable", allow.join(" "))
            }
            _ => format!("ufw prepend deny {HOST_NETWORK}/tcp && ufw prepend deny {EVERYWHERE}/tcp"),
        }
    }

    /// Waits until the services run and both of Docker's ways to them are there.
    async fn wait_for_services(&self) {
        let host = self.host("database");
        let own: IpAddr = Ipv4Addr::LOCALHOST.into();
        let places = [
            (Tcp, own, EVERYWHERE),
            (Tcp, self.private("database").into(), PRIVATE),
            (Tcp, own, LOOPBACK),
            (Tcp, own, HOST_NETWORK),
            (Tcp, "::1".parse().unwrap(), EVERYWHERE),
            (Udp, own, ECHO),
        ];
        eventually("the services", async || {
            outcomes(&host, &places).await.values().all(|outcome| outcome == "open")
        })
        .await;
    }

    /// Tries each service from each place, without the executable.
    async fn seen(&self) -> Cells {
        let mut tries = JoinSet::new();
        for from in ["this computer", "application", "other"] {
            let host = (from != "this computer").then(|| self.host(from));
            let addresses = self.addresses(from);
            tries.spawn(async move {
                let place = |address: IpAddr| SERVICES.map(|(protocol, port)| (protocol, address, port));
                let places: Vec<Place> = addresses.into_iter().flat_map(place).collect();
                let outcomes = match &host {
                    Some(host) => outcomes(host, &places).await,
                    None => {
                        let mut here = JoinSet::new();
                        for place in places {
                            here.spawn(async move { (place, outcome_here(place).await) });
                        }
                        here.join_all().await.into_iter().collect()
                    }
                };
                let cell = |((protocol, address, port), outcome): (Place, String)| {
                    ((from.to_owned(), address.is_ipv4(), protocol, port), outcome)
                };
                outcomes.into_iter().map(cell).collect::<Vec<_>>()
            });
        }
        tries.join_all().await.into_iter().flatten().collect()
    }

    /// What `firewall verify --json` says of the cells.
    fn told(&self, run: &Run) -> Cells {
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let mut cells = Cells::new();
        for check in json["result"]["hosts"][0]["checks"].as_array().unwrap() {
            let from = check["from"].as_str().unwrap();
            let port = u16::try_from(check["port"].as_u64().unwrap()).unwrap();
            let protocol = if check["protocol"] == "udp" { Udp } else { Tcp };
            let address: IpAddr = check["address"].as_str().unwrap().parse().unwrap();
            if self.addresses(from).contains(&address) && SERVICES.contains(&(protocol, port)) {
                let seen = check["seen"].as_str().unwrap().to_owned();
                cells.insert((from.to_owned(), address.is_ipv4(), protocol, port), seen);
            }
        }
        cells
    }
}

/// What the deploy file says: the application host reaches what is published to it, and nobody else anything. What ufw drops for
/// the host's own network, and for Docker's forwarder, which serves IPv6, stays closed.
fn expected(ufw: &str) -> Cells {
    let mut cells = Cells::new();
    for from in ["this computer", "application", "other"] {
        for is_ipv4 in [true, false] {
            for (protocol, port) in SERVICES {
                let is_denied = ufw == "deny" && (port == HOST_NETWORK || (port == EVERYWHERE && !is_ipv4));
                let outcome = match (from, port) {
                    ("application", _) if is_denied => "filtered",
                    ("application", EVERYWHERE | HOST_NETWORK | ECHO) => "open",
                    ("application", PRIVATE) if is_ipv4 => "open",
                    // It is let in, and nobody is there.
                    ("application", PRIVATE | NOBODY) => "refused",
                    // It is nobody's business, and nobody is there.
                    ("application", _) => "refused",
                    ("other", LOOPBACK) if ufw == "off" => "refused",
                    _ => "filtered",
                };
                cells.insert((from.to_owned(), is_ipv4, protocol, port), outcome.to_owned());
            }
        }
    }
    cells
}

/// What differs, for a message that can be read.
fn difference(seen: &Cells, wanted: &Cells) -> Vec<String> {
    let differs = |(cell, outcome): (&Cell, &String)| {
        let other = wanted.get(cell);
        (other != Some(outcome)).then(|| format!("{cell:?}: {outcome}, not {other:?}"))
    };
    seen.iter().filter_map(differs).collect()
}

/// Issue 6, must show 3.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_holds_whatever_docker_ufw_and_reboots_do() {
    let guarded = Guarded::new().await;
    let allow = format!(
        "    allow:\n      - {{port: {HOST_NETWORK}, from: web, on: database}}\n      \
         - {{port: {NOBODY}, from: web, on: database}}\n      - {{port: {NOBODY}/udp, from: web, on: database}}\n"
    );
    guarded.write("", &allow);
    guarded.start_services().await;
    guarded.wait_for_services().await;
    let database = guarded.host("database");
    let verify = ["firewall", "verify", "-h", "database", "--from", "other", "--timeout", "1", "--json"];

    // Without the guard the world differs from the file, and that is said.
    let seen = guarded.seen().await;
    let open = |from: &str, is_ipv4: bool, protocol: Protocol, port: u16| {
        seen[&(from.to_owned(), is_ipv4, protocol, port)] == "open"
    };
    for is_ipv4 in [true, false] {
        assert!(open("this computer", is_ipv4, Tcp, EVERYWHERE), "{seen:?}");
        assert!(open("this computer", is_ipv4, Udp, ECHO) && open("other", is_ipv4, Udp, ECHO), "{seen:?}");
    }
    assert!(open("other", true, Tcp, PRIVATE), "{seen:?}");
    let run =
        guarded.run(&["firewall", "verify", "-h", "database", "--from", "other", "--timeout", "1"]).await;
    let run = run.expect_code(1).unwrap();
    assert!(run.stderr.contains("should be closed") && run.stderr.contains("service-5001"), "{}", run.stderr);
    assert!(run.stdout.contains("container service-5001 (5001)"), "{}", run.stdout);
    let is_echo = |line: &str| line.contains("]:5005/udp") && line.contains("container service-5005 (5005)");
    assert!(run.stdout.lines().any(is_echo), "{}", run.stdout);

    let plan = guarded.run(&["firewall", "plan", "--exit-code"]).await.expect_code(10).unwrap();
    assert!(plan.stdout.contains("+ closed on eth0: everything else"), "{}", plan.stdout);
    let run = guarded.run(&["firewall", "apply"]).await.expect_code(0).unwrap();
    assert!(run.stderr.contains("tried from this computer"), "{}", run.stderr);
    let again = guarded.run(&["firewall", "apply"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("every host is in step"), "{}", again.stdout);
    guarded.run(&["firewall", "plan", "--exit-code"]).await.expect_code(0).unwrap();

    let mut cells = 0;
    for ufw in ["off", "on", "deny"] {
        let script = guarded.ufw_script(ufw);
        database.exec(&format!("{{ {script}; }} >/dev/null 2>&1")).await.unwrap();
        for event in ["nothing", "restart of dockerd", "reload of ufw", "reboot"] {
            match event {
                "nothing" => {}
                "restart of dockerd" => database.restart_engine().await.unwrap(),
                "reload of ufw" => drop(database.exec("ufw reload").await.unwrap()),
                _ => database.reboot().await.unwrap(),
            }
            guarded.wait_for_services().await;
            let seen = guarded.seen().await;
            let differs = difference(&seen, &expected(ufw));
            assert!(differs.is_empty(), "ufw {ufw}, after {event}: {differs:#?}");
            let run = guarded.run(&verify).await;
            let differs = difference(&seen, &guarded.told(&run));
            assert!(differs.is_empty(), "ufw {ufw}, after {event}: seen is not told: {differs:#?}");
            let code = if ufw == "deny" { 1 } else { 0 };
            let run = run.expect_code(code).unwrap();
            let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
            assert_eq!(json["result"]["hosts"][0]["proven"], true, "{}", run.stdout);
            cells += seen.len();
        }
    }
    println!("{cells} cells are as the deploy file says, and `firewall verify` says the same");
    let run = guarded
        .run(&["firewall", "verify", "-h", "database", "--timeout", "1"])
        .await
        .expect_code(1)
        .unwrap();
    assert!(run.stderr.contains("ufw on host `database` may drop it"), "{}", run.stderr);
    neighbours_cannot_go_round(&guarded).await;
}

/// A neighbour that sends packets for private and for container addresses to the host's interfaces gets nothing.
async fn neighbours_cannot_go_round(guarded: &Guarded) {
    let (other, database) = (guarded.host("other"), guarded.host("database"));
    let inspect = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let container: Ipv4Addr = database
        .docker(&["inspect", "--format", inspect, "service-5001"])
        .await
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let (private, public) = (guarded.private("database"), database.open_address().unwrap());
    let go_round = async |target: Ipv4Addr, port: u16| {
        // The other host has a Docker network of the same addresses: only this one goes away.
        other.exec(&format!("ip route replace {target}/32 via {public}")).await.unwrap();
        assert!(
            outcome(&other, (Tcp, target.into(), port)).await != "open",
            "{target}:{port} by way of {public}"
        );
        other.exec(&format!("ip route del {target}/32 via {public}")).await.unwrap();
    };
    go_round(private, PRIVATE).await;
    go_round(container, EVERYWHERE).await;
    assert!(dropped(guarded, "stray").await >= 2);
    // On an interface that is not closed, the container itself cannot be asked either.
    guarded.write("", "    interfaces: {database: [eth1]}\n");
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    go_round(container, EVERYWHERE).await;
    assert!(dropped(guarded, "direct").await > 0);
}
