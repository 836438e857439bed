//! What it costs to bring an image to hosts, beside other ways to do it.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use freehold_e2e::lab::{Host, Lab, Relay, Topology};
use freehold_e2e::project::{Project, deploy_file};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Failure, print};

/// The layer that changes from release to release.
const SMALL_BYTES: usize = 20_000;

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    /// Sizes of images.
    pub(crate) megabytes: Vec<usize>,
    /// How many hosts.
    pub(crate) hosts: Vec<usize>,
    /// Whether the link is as fast as it can be, 50 Mbit/s with 40 ms, or each.
    pub(crate) links: Vec<Link>,
    /// Whether other ways are measured, too.
    pub(crate) beside_others: bool,
    /// Where the hosts stand.
    pub(crate) place: Place,
}

/// Where hosts stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Each is reached by itself.
    Open,
    /// All are behind one bastion. What is counted is what goes to it and comes from it.
    Bastion,
}

/// How far away the hosts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Link {
    /// This computer's own network.
    Loopback,
    /// 50 Mbit/s and 40 ms.
    Slow,
}

/// A way to bring an image to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Freehold,
    SaveAndLoad,
    ForwardedRegistry,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Freehold => "freehold",
            Self::SaveAndLoad => "save | ssh load",
            Self::ForwardedRegistry => "ssh -R registry",
        }
    }
}

/// What one delivery cost.
struct Cost {
    elapsed: Duration,
    bytes: u64,
    turns: u64,
    peak_kilobytes: Option<u64>,
}

/// Measures every cell; says whether all could be.
pub(crate) async fn measure(matrix: &Matrix) -> Result<bool, Failure> {
    print(&format!(
        "{:<9} {:>5} {:>6}  {:<16} {:<14} {:>8} {:>12} {:>12} {:>8}\n",
        "link", "hosts", "MB", "way", "case", "seconds", "bytes", "round trips", "peak MB"
    ));
    for &count in &matrix.hosts {
        let bench = Bench::start(count, matrix.place).await?;
        for &megabytes in &matrix.megabytes {
            bench.fill("base", megabytes * 8 / 10)?;
            for &link in &matrix.links {
                bench.set_link(link).await?;
                let ways: &[Way] = if matrix.beside_others {
                    &[Way::Freehold, Way::SaveAndLoad, Way::ForwardedRegistry]
                } else {
                    &[Way::Freehold]
                };
                if count == 1 {
                    row_of(link, count, megabytes)("freehold", "connect, ask", &bench.connect().await?);
                }
                for &way in ways {
                    let row = row_of(link, count, megabytes);
                    bench.cases(way, megabytes, |case, cost| row(way.name(), case, cost)).await?;
                }
            }
        }
    }
    Ok(true)
}

fn row_of(link: Link, count: usize, megabytes: usize) -> impl Fn(&str, &str, &Cost) {
    move |way, case, cost| {
        let peak = cost.peak_kilobytes.map(|peak| format!("{:.1}", kilobytes(peak)));
        print(&format!(
            "{:<9} {count:>5} {megabytes:>6}  {way:<16} {case:<14} {:>8.2} {:>12} {:>12} {:>8}\n",
            format!("{link:?}").to_lowercase(),
            cost.elapsed.as_secs_f64(),
            cost.bytes,
            cost.turns,
            peak.unwrap_or_default(),
        ));
    }
}

/// Cuts one delivery so often at places that nobody knows before; says whether all cuts were made, each byte went at most
/// once, plus a piece for each cut, and the image is what it was.
pub(crate) async fn cut(megabytes: usize, cuts: u64) -> Result<bool, Failure> {
    const PIECE: u64 = 4 * 1024 * 1024;
    const CONNECTION: u64 = 200_000;
    let bench = Bench::start(1, Place::Open).await?;
    bench.fill("base", megabytes)?;
    bench.fill("app", 0)?;
    bench.fill_small()?;
    bench.forget().await?;
    bench.build("cut").await?;
    let relay = bench.relays.first().ok_or("there is no relay")?;
    let made = std::cell::Cell::new(0);
    let share = u64::try_from(megabytes)? * 1_000_000 / (cuts + 1);
    let cutting = async {
        for _ in 0..cuts {
            let mut random = [0; 8];
            getrandom::fill(&mut random)?;
            relay.cut_after(u64::from_le_bytes(random) % share.max(1));
            while relay.will_cut() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            made.set(made.get() + 1);
        }
        Ok::<_, Failure>(())
    };
    let mut pull = std::pin::pin!(bench.project.freehold(&["build", "pull", "--version", "cut"]));
    let begun = Instant::now();
    let run = tokio::select! {
        run = &mut pull => run?,
        cut = cutting => {
            cut?;
            pull.await?
        }
    };
    run.expect_code(0)?;
    let elapsed = begun.elapsed();
    let host = bench.lab.hosts().into_iter().next().ok_or("there is no host")?;
    let size: u64 = host.exec("docker save hello:cut | wc -c").await?.trim().parse()?;
    let (bytes, limit) = (relay.bytes(), size + (cuts + 1) * (PIECE + CONNECTION));
    let made = made.get();
    print(&format!(
        "an image of {size} bytes, {made} of {cuts} cuts: {bytes} bytes in {:.1} s, {limit} are allowed\n",
        elapsed.as_secs_f64()
    ));
    let here = bench.output("docker image inspect --format '{{.Id}}' hello:cut").await?;
    let there = host.exec("docker image inspect --format '{{.Id}}' hello:cut").await?;
    let is_same = here.trim() == there.trim();
    let is_whole = host.exec(EXPORTED_WHOLE).await?.trim() == "whole";
    print(&format!(
        "the host has {}, and exports {}\n",
        if is_same { "the same image" } else { "another image" },
        if is_whole { "every layer with its digest" } else { "other layers" }
    ));
    Ok(made == cuts && bytes <= limit && is_same && is_whole)
}

/// Says `whole` where each layer that an image names is in what the engine exports of it, by the digest of its content.
const EXPORTED_WHOLE: &str = r#"
folder=$(mktemp -d -p /disk 2>/dev/null || mktemp -d)
docker save hello:cut | tar -x -C "$folder"
find "$folder" -type f -exec sha256sum {} + | cut -d ' ' -f 1 | sort -u >"$folder.there"
docker image inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' hello:cut | sed -n 's/^sha256://p' | sort -u >"$folder.named"
if [ -s "$folder.named" ] && [ -z "$(comm -13 "$folder.there" "$folder.named")" ]; then echo whole; fi
rm -rf "$folder" "$folder.there" "$folder.named"
"#;

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn kilobytes(count: u64) -> f64 {
    count as f64 / 1000.0
}

/// Hosts, each behind a relay that counts and delays.
struct Bench {
    lab: Lab,
    project: Project,
    /// Those that are deployed to.
    hosts: Vec<Host>,
    /// Those that relays stand before.
    gates: Vec<Host>,
    relays: Vec<Relay>,
    registry: Registry,
}

impl Bench {
    async fn start(count: usize, place: Place) -> Result<Self, Failure> {
        let lab = match place {
            Place::Open => Lab::start(Topology::hosts(count)).await?,
            Place::Bastion => Lab::start(Topology::behind_bastion(count)).await?,
        };
        let is_gate = |host: &Host| place == Place::Open || host.name() == "bastion";
        let gates: Vec<Host> = lab.hosts().into_iter().filter(is_gate).collect();
        let hosts: Vec<Host> = lab.hosts().into_iter().filter(|host| host.name() != "bastion").collect();
        let names: Vec<&str> = hosts.iter().map(Host::name).collect();
        let project = Project::new(&lab, &names)?;
        let dockerfile = fs_err::read_to_string(project.folder().join("Dockerfile"))?;
        project.write(
            "Dockerfile",
            &format!(
                "FROM scratch\nCOPY base /base\nCOPY app /app\n{}COPY layer /layer\n",
                dockerfile.replace("FROM scratch\n", "")
            ),
        )?;
        project.write(".dockerignore", "")?;
        project.write("config/deploy.yml", &deploy_file(&names, "soak: 0\n"))?;
        let mut relays = Vec::new();
        for host in &gates {
            let relay = Relay::start(SocketAddr::from((host.open_address()?, 22))).await?;
            project.route(host.name(), relay.address())?;
            relays.push(relay);
        }
        let registry = Registry::start()?;
        Ok(Self { lab, project, hosts, gates, relays, registry })
    }

    /// Writes a file that gzip makes about half as large, as programs are.
    fn fill(&self, name: &str, megabytes: usize) -> Result<(), Failure> {
        let mut file = fs_err::File::create(self.project.folder().join(name))?;
        let mut random = vec![0; 450_000];
        for _ in 0..megabytes {
            getrandom::fill(&mut random)?;
            file.write_all(&random)?;
            let line = random.iter().take(50).map(|byte| format!("{byte:02x}")).collect::<String>();
            let text: Vec<u8> = line.bytes().cycle().take(550_000).collect();
            file.write_all(&text)?;
        }
        Ok(())
    }

    fn fill_small(&self) -> Result<(), Failure> {
        let mut bytes = [0; SMALL_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(fs_err::write(self.project.folder().join("layer"), bytes)?)
    }

    async fn build(&self, version: &str) -> Result<(), Failure> {
        self.project.freehold(&["build", "push", "--version", version]).await?.expect_code(0)?;
        Ok(())
    }

    /// Takes all images from the hosts.
    async fn forget(&self) -> Result<(), Failure> {
        for host in &self.hosts {
            host.exec("docker image prune --all --force >/dev/null; docker images -q | xargs -r docker rmi -f >/dev/null").await?;
        }
        Ok(())
    }

    /// Limits what goes to every host; the kernel here delays nothing, so the relay does.
    async fn set_link(&self, link: Link) -> Result<(), Failure> {
        for (host, relay) in self.gates.iter().zip(&self.relays) {
            relay.delay(if link == Link::Slow { Duration::from_millis(20) } else { Duration::ZERO });
            let index = host.exec("cat /sys/class/net/eth0/iflink").await?;
            let script = match link {
                Link::Slow => "tc qdisc replace dev $dev root tbf rate 50mbit burst 128kb latency 200ms",
                Link::Loopback => "tc qdisc del dev $dev root 2>/dev/null || true",
            };
            let find =
                format!("dev=$(ip -o link | sed -n 's/^{}: \\([^@:]*\\).*/\\1/p'); {script}", index.trim());
            if !Command::new("sh").args(["-ec", &find]).status().await?.success() {
                return Err("the link could not be limited".into());
            }
        }
        Ok(())
    }

    /// Runs a command that connects and asks the first host one question: what every command costs before it does anything.
    async fn connect(&self) -> Result<Cost, Failure> {
        let before = self.totals();
        let begun = Instant::now();
        let peak_kilobytes = watch(self.project.start(&["lock", "status"])?).await.map(Some)?;
        let elapsed = begun.elapsed();
        let after = self.totals();
        Ok(Cost { elapsed, bytes: after.0 - before.0, turns: after.1 - before.1, peak_kilobytes })
    }

    /// Delivers to hosts that have nothing, then after changes.
    async fn cases(
        &self,
        way: Way,
        megabytes: usize,
        mut row: impl FnMut(&str, &Cost),
    ) -> Result<(), Failure> {
        self.forget().await?;
        for (case, version) in
            [("(a) nothing", "a"), ("(b) base", "b"), ("(c) 20 KB", "c"), ("(d) same", "c")]
        {
            if case.starts_with("(a)") || case.starts_with("(b)") {
                self.fill("app", megabytes * 2 / 10)?;
            }
            if !case.starts_with("(d)") {
                self.fill_small()?;
                self.build(version).await?;
            }
            let before = self.totals();
            let begun = Instant::now();
            let peak_kilobytes = self.deliver(way, version).await?;
            let elapsed = begun.elapsed();
            let after = self.totals();
            let (bytes, turns) = (after.0 - before.0, after.1 - before.1);
            row(case, &Cost { elapsed, bytes, turns, peak_kilobytes });
        }
        Ok(())
    }

    fn totals(&self) -> (u64, u64) {
        (self.relays.iter().map(Relay::bytes).sum(), self.relays.iter().map(Relay::turns).sum())
    }

    async fn deliver(&self, way: Way, version: &str) -> Result<Option<u64>, Failure> {
        match way {
            Way::Freehold => {
                let child = self.project.start(&["build", "pull", "--version", version])?;
                watch(child).await.map(Some)
            }
            Way::SaveAndLoad => {
                let script =
                    |ssh: &str| format!("docker save hello:{version} | {ssh} docker load --quiet >/dev/null");
                self.on_each(&script).await.map(|()| None)
            }
            Way::ForwardedRegistry => {
                let port = self.registry.port;
                let name = format!("127.0.0.1:{port}/hello:{version}");
                let push =
                    format!("docker tag hello:{version} {name} && docker push --quiet {name} >/dev/null");
                self.shell(&push).await?;
                let forward = format!("-R {port}:127.0.0.1:{port}");
                let script = |ssh: &str| {
                    format!(
                        "{} docker pull --quiet {name} >/dev/null",
                        ssh.replacen("ssh ", &format!("ssh {forward} "), 1)
                    )
                };
                self.on_each(&script).await.map(|()| None)
            }
        }
    }

    async fn on_each(&self, script: &dyn Fn(&str) -> String) -> Result<(), Failure> {
        let config = self.project.home().join(".ssh/config");
        let mut running = JoinSet::new();
        for host in &self.hosts {
            let ssh = format!("ssh -F {} {}", config.display(), host.name());
            running.spawn(self.command(&script(&ssh)).status());
        }
        for status in running.join_all().await {
            if !status?.success() {
                return Err("another way did not succeed".into());
            }
        }
        Ok(())
    }

    async fn shell(&self, script: &str) -> Result<(), Failure> {
        let status = self.command(script).status().await?;
        if status.success() { Ok(()) } else { Err(format!("`{script}` did not succeed").into()) }
    }

    async fn output(&self, script: &str) -> Result<String, Failure> {
        let output = self.command(script).stdout(Stdio::piped()).output().await?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).env("DOCKER_HOST", self.lab.engine_address()).stdin(Stdio::null());
        command
    }
}

/// Waits for the client and returns the peak of its memory in kilobytes.
async fn watch(mut child: Child) -> Result<u64, Failure> {
    let path = PathBuf::from(format!("/proc/{}/status", child.id().ok_or("the client has ended")?));
    let mut peak = 0;
    loop {
        if let Ok(status) = fs_err::read_to_string(&path)
            && let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            peak = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak);
        }
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(20), child.wait()).await {
            let is_good = status?.success();
            return if is_good { Ok(peak) } else { Err("`freehold build pull` did not succeed".into()) };
        }
    }
}

/// A registry on this computer, which ends with the bench.
struct Registry {
    port: u16,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        // The port is free for the moment it takes to begin.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            folder.path().display()
        );
        let path = folder.path().join("config.yml");
        fs_err::write(&path, config)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { port, _process: process, _folder: folder })
    }
}
