//! What a deploy costs, beside what it cannot cost less than.

use std::net::SocketAddr;
use std::time::Duration;

use freehold_e2e::lab::{Lab, Relay, Topology};
use freehold_e2e::project::{Project, deploy_file};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::times::Times;
use crate::{Failure, print};

/// The layer that changes from deploy to deploy.
const LAYER_BYTES: usize = 20 * 1024;

/// Deploys to so many hosts each, so often, from so far away.
pub(crate) async fn measure(counts: &[usize], runs: usize, round_trip: Duration) -> Result<bool, Failure> {
    let mut table = format!(
        "{:>5}  {:<22} {:>26} {:>11} {:>12} {:>10}\n",
        "hosts", "what", "seconds (range)", "above floor", "round trips", "bytes"
    );
    for &count in counts {
        let bench = Bench::start(count).await?;
        bench.relays.iter().for_each(|relay| relay.delay(round_trip / 2));
        let floor = bench.floor(runs).await?;
        table.push_str(&row(count, "by hand", &floor, None, None));
        for (what, change) in [
            ("image is there, -P", Change::Nothing),
            ("nothing changed, built", Change::Version),
            ("20 KB layer changed", Change::Layer),
        ] {
            let (times, cost) = bench.deploys(runs, change).await?;
            let above = times.median().saturating_sub(floor.median());
            table.push_str(&row(count, what, &times, Some(above), Some(cost)));
        }
    }
    print(&table);
    Ok(true)
}

fn row(count: usize, what: &str, times: &Times, above: Option<Duration>, cost: Option<Cost>) -> String {
    let above = above.map(|above| format!("{} ms", above.as_millis())).unwrap_or_default();
    let (turns, bytes) =
        cost.map(|cost| (cost.turns.to_string(), cost.bytes.to_string())).unwrap_or_default();
    format!("{count:>5}  {what:<22} {:>26} {above:>11} {turns:>12} {bytes:>10}\n", times.to_string())
}

/// What a deploy changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The image is on every host already and is not built.
    Nothing,
    /// The image is built again, from what did not change; the version is new.
    Version,
    /// The last layer of the image has new content.
    Layer,
}

/// What went over the network for one deploy, all hosts together.
#[derive(Clone, Copy)]
struct Cost {
    turns: u64,
    bytes: u64,
}

/// Hosts with a first release, each behind a relay that counts.
struct Bench {
    lab: Lab,
    project: Project,
    relays: Vec<Relay>,
}

impl Bench {
    async fn start(count: usize) -> Result<Self, Failure> {
        let lab = Lab::start(Topology::hosts(count)).await?;
        let hosts = lab.hosts();
        let names: Vec<&str> = hosts.iter().map(|host| host.name()).collect();
        let project = Project::new(&lab, &names)?;
        let dockerfile = fs_err::read_to_string(project.folder().join("Dockerfile"))?;
        project.write("Dockerfile", &format!("{dockerfile}COPY layer /layer\n"))?;
        project.write(".dockerignore", "")?;
        // The soak is a fixed wait that a deploy file chooses; without it the rest shows.
        project.write("config/deploy.yml", &deploy_file(&names, "soak: 0\n"))?;
        let mut relays = Vec::new();
        for host in &hosts {
            let relay = Relay::start(SocketAddr::from((host.open_address()?, 22))).await?;
            project.route(host.name(), relay.address())?;
            relays.push(relay);
        }
        let bench = Self { lab, project, relays };
        bench.change_layer()?;
        bench.project.freehold(&["setup", "--version", "first"]).await?.expect_code(0)?;
        Ok(bench)
    }

    fn change_layer(&self) -> Result<(), Failure> {
        let mut bytes = [0; LAYER_BYTES / 2];
        getrandom::fill(&mut bytes)?;
        // As text, because a file of the project is text; random, so that nothing compresses it to nothing.
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.project.write("layer", &text)?)
    }

    async fn deploys(&self, runs: usize, change: Change) -> Result<(Times, Cost), Failure> {
        let mut times = Vec::new();
        let mut costs = Vec::new();
        // One more than is counted: the first may find things cold.
        for number in 0..=runs {
            if change == Change::Layer {
                self.change_layer()?;
            }
            let version = match change {
                Change::Nothing => "first".to_owned(),
                Change::Version => format!("same{number}"),
                Change::Layer => format!("layer{number}"),
            };
            let arguments: &[&str] = match change {
                Change::Nothing => &["deploy", "--skip-push", "--version", &version],
                Change::Version | Change::Layer => &["deploy", "--version", &version],
            };
            let before = self.cost();
            let run = self.project.freehold(arguments).await?.expect_code(0)?;
            let after = self.cost();
            if number > 0 {
                times.push(run.elapsed);
                costs.push(Cost { turns: after.turns - before.turns, bytes: after.bytes - before.bytes });
            }
        }
        costs.sort_by_key(|cost| cost.bytes);
        let cost = costs.get(costs.len() / 2).copied().unwrap_or(Cost { turns: 0, bytes: 0 });
        Ok((Times::new(times), cost))
    }

    fn cost(&self) -> Cost {
        Cost {
            turns: self.relays.iter().map(Relay::turns).sum(),
            bytes: self.relays.iter().map(Relay::bytes).sum(),
        }
    }

    /// What nobody can do without: one SSH session for each host, all at once, that runs a container of the image and
    /// waits for its first healthy answer.
    async fn floor(&self, runs: usize) -> Result<Times, Failure> {
        let script = "docker rm --force floor >/dev/null 2>&1
            image=$(docker ps --filter label=service=hello --format '{{.Image}}' | head -n 1)
            docker run --detach --name floor \"$image\" >/dev/null
            ip=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' floor)
            until curl --silent --fail --output /dev/null http://$ip/up; do :; done";
        let mut times = Vec::new();
        for number in 0..=runs {
            let begun = Instant::now();
            let mut sessions = JoinSet::new();
            for host in self.lab.hosts() {
                let config = self.project.home().join(".ssh/config");
                sessions
                    .spawn(Command::new("ssh").arg("-F").arg(config).args([host.name(), script]).status());
            }
            for status in sessions.join_all().await {
                if !status?.success() {
                    return Err("the floor by hand did not succeed".into());
                }
            }
            if number > 0 {
                times.push(begun.elapsed());
            }
        }
        for host in self.lab.hosts() {
            host.docker(&["rm", "--force", "floor"]).await?;
        }
        Ok(Times::new(times))
    }
}
