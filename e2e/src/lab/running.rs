use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::command::{self, Output};
use super::engine::{Engine, repository};
use super::owner::Owner;
use super::state::{HostState, LabState, lab_directories, labs_directory};
use super::sweep::{self, LAB_LABEL, OWNER_LABEL};
use super::{Families, Host, HostSpec, Images, LabError, Position, Suite, Topology, image, keys};

/// The variable by which `freehold-lab with` tells its command the folders of the labs that it started.
pub const LABS_VARIABLE: &str = "FREEHOLD_LABS";

/// The variable by which nextest tells a test its place among those of its group that run at the same time.
const SLOT_VARIABLE: &str = "NEXTEST_TEST_GROUP_SLOT";

/// The option flags without which an engine inside a container does not work; no `--privileged` among them.
const HOST_OPTIONS: [&str; 15] = [
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=systempaths=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=host",
    "--device-cgroup-rule=a *:* rwm",
    // A stale pid file in /run would keep the engine from starting after a reboot.
    "--tmpfs=/run",
    "--tmpfs=/tmp:exec",
    "--tmpfs=/run/lock",
    "--log-driver=none",
    "--restart=no",
    "--stop-timeout=2",
    "--env=container=docker",
    "--pull=never",
];

/// A running lab. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    engine: Engine,
    state: LabState,
    /// The process that removes the lab; `None` where the lab belongs to somebody else.
    watch: Option<Child>,
}

impl Lab {
    /// Boots a topology that lives as long as the value returned, and no longer than this process.
    ///
    /// # Errors
    /// [`LabError`] when the engine, the image or a host does not come up.
    pub async fn start(topology: Topology) -> Result<Self, LabError> {
        let engine = Engine::find().await?;
        let owner = Owner::this_process();
        let state = describe(&engine, topology, &owner)?;
        let watch = Some(watch(&engine, &state)?);
        // Between the first look and the lease that the watching process now holds, the engine may have been stopped.
        let engine = Engine::find().await?;
        let mut lab = Self { engine, state, watch };
        lab.boot().await?;
        Ok(lab)
    }

    /// Boots a topology that outlives this process, until [`super::remove_kept`].
    ///
    /// # Errors
    /// [`LabError`] when the engine, the image or a host does not come up.
    pub async fn start_kept(topology: Topology) -> Result<Self, LabError> {
        let engine = Engine::find().await?;
        let state = describe(&engine, topology, &Owner::Kept)?;
        let mut lab = Self { engine, state, watch: None };
        if let Err(error) = lab.boot().await {
            sweep::remove(&lab.engine, &lab.state.id, &lab.state.directory).await?;
            return Err(error);
        }
        Ok(lab)
    }

    /// Returns the lab of this topology's name that `freehold-lab with` started around this process, or one that this
    /// process then shares among its tests and that ends with it.
    ///
    /// # Errors
    /// [`LabError`] when it has to be started and does not come up.
    pub async fn shared(topology: Topology) -> Result<Arc<Self>, LabError> {
        static SHARED: tokio::sync::Mutex<BTreeMap<String, Arc<Lab>>> =
            tokio::sync::Mutex::const_new(BTreeMap::new());
        let mut shared = SHARED.lock().await;
        if let Some(lab) = shared.get(&topology.name) {
            return Ok(Arc::clone(lab));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no main that reads the environment for them"
        )]
        let (folders, slot) = (std::env::var_os(LABS_VARIABLE), std::env::var(SLOT_VARIABLE));
        let mut labs = Vec::new();
        for folder in std::env::split_paths(&folders.unwrap_or_default()).filter(|folder| folder.is_dir()) {
            let state = LabState::read(&folder)?;
            if state.topology == topology {
                labs.push(Self { engine: Engine::at(state.engine.clone()), state, watch: None });
            }
        }
        // As many tests run at a time as there are labs, each in a slot of its own.
        let slot = slot.ok().and_then(|slot| slot.parse::<usize>().ok()).unwrap_or_default();
        let count = labs.len().max(1);
        let found = labs.into_iter().nth(slot % count);
        let lab = match found {
            Some(lab) => lab,
            None => Self::start(topology.clone()).await?,
        };
        let lab = Arc::new(lab);
        shared.insert(topology.name, Arc::clone(&lab));
        Ok(lab)
    }

    /// Returns every lab that runs on this computer, whoever started it.
    ///
    /// # Errors
    /// [`LabError::Description`] when one was started by another version of this code.
    pub fn running() -> Result<Vec<Self>, LabError> {
        let folders = lab_directories().into_iter().filter(|folder| folder.join("lab.json").exists());
        let states = folders.map(|folder| LabState::read(&folder));
        states
            .map(|state| {
                state.map(|state| Self { engine: Engine::at(state.engine.clone()), state, watch: None })
            })
            .collect()
    }

    /// Returns the lab's id, which its containers and networks carry in the label `freehold.lab`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Returns the topology that was booted.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.state.topology
    }

    /// Whether the process that started the lab still lives; a lab that a person keeps is always owned.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        Owner::parse(&self.state.owner).is_some_and(|owner| owner.is_alive())
    }

    /// Returns the lab's own folder, with keys and client files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.state.directory
    }

    /// Returns a home folder whose `.ssh` reaches every host by name, with the system's client as with ours.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.state.directory.join("home")
    }

    /// Returns the private key that opens `root` and `deploy` on every host.
    #[must_use]
    pub fn private_key(&self) -> PathBuf {
        self.home().join(".ssh/id_ed25519")
    }

    /// Returns the file with the hosts' keys, by name and by every address.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.home().join(".ssh/known_hosts")
    }

    /// Returns the client configuration by which `ssh` reaches the hosts by name, through the bastion where needed.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.home().join(".ssh/config")
    }

    /// Returns the address of the engine that runs the hosts, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn engine_address(&self) -> &str {
        self.engine.address()
    }

    /// Returns the host of a name.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`] when the topology has none of that name.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        let hosts = self.hosts();
        hosts
            .into_iter()
            .find(|host| host.name() == name)
            .ok_or_else(|| LabError::NoSuchHost(name.to_owned()))
    }

    /// Returns all hosts, in the order of the topology.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let pairs = self.state.hosts.iter().zip(&self.state.topology.hosts);
        pairs.map(|(state, spec)| Host::new(self.engine.clone(), state.clone(), spec.clone())).collect()
    }

    /// Runs a command on a host over SSH with the system's client, as `root`.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not end in time; how it ended is in the value.
    pub async fn ssh(&self, host: &str, remote: &str) -> Result<Output, LabError> {
        let config = self.ssh_config();
        let arguments = ["-F", &*config.to_string_lossy(), host, remote];
        command::attempt("ssh", &arguments, None, Duration::from_secs(60)).await
    }

    /// Brings every host back to what it was after its first start: call it first in a test that shares a lab.
    ///
    /// # Errors
    /// [`LabError`] when a host cannot be brought back.
    pub async fn reset(&self, images: Images) -> Result<(), LabError> {
        let mut resets = JoinSet::new();
        for host in self.hosts() {
            resets.spawn(async move { host.reset(images).await });
        }
        resets.join_all().await.into_iter().collect()
    }

    async fn boot(&mut self) -> Result<(), LabError> {
        sweep::sweep_with(&self.engine).await?;
        let suites: BTreeMap<_, _> = self.state.topology.hosts.iter().map(|host| (host.suite, ())).collect();
        let mut images = BTreeMap::new();
        for suite in suites.into_keys() {
            images.insert(suite, image::ensure(&self.engine, suite).await?);
        }
        let number = self.claim_network().await?;
        fs_err::create_dir_all(keys::client_folder(&self.state.directory))?;
        keys::make(&self.private_key()).await?;
        self.state.hosts = self.place_hosts(number);
        let mut starts = JoinSet::new();
        for host in self.hosts() {
            let image = images.get(&host.spec().suite).cloned().unwrap_or_default();
            starts.spawn(start_host(self.engine.clone(), self.state.clone(), host, image));
        }
        starts.join_all().await.into_iter().collect::<Result<Vec<()>, _>>()?;
        keys::write_client_files(&self.state)?;
        self.state.write()
    }

    /// Makes the lab's networks and returns the number that its addresses share. The engine refuses overlapping
    /// networks, which makes the claim atomic.
    async fn claim_network(&mut self) -> Result<u8, LabError> {
        let first = std::process::id() % 200;
        let has_private = self.state.topology.hosts.iter().any(|host| host.position != Position::Open);
        for number in (0..200_u32).filter_map(|offset| u8::try_from((first + offset) % 200).ok()) {
            let subnet = format!("172.30.{number}.0/24");
            let network = self.state.network.clone();
            let options = self.network_options(&subnet, OPEN, number);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            if self.make_network(&network, &options).await?.code != Some(0) {
                continue;
            }
            if has_private {
                let name = format!("{network}-private");
                let subnet = format!("172.31.{number}.0/24");
                let options = self.network_options(&subnet, PRIVATE, number);
                let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
                options.push("--internal");
                let output = self.make_network(&name, &options).await?;
                command::checked("docker", &["network", "create", &name], output)?;
                self.state.private_network = Some(name);
            }
            return Ok(number);
        }
        Err(LabError::NoNetwork)
    }

    fn network_options(&self, subnet: &str, place: u16, number: u8) -> Vec<String> {
        let mut options = vec!["--subnet".to_owned(), subnet.to_owned()];
        if self.state.topology.families == Families::Both {
            let subnet = format!("{}/64", ipv6(place, number, 0));
            options.extend(["--ipv6".to_owned(), "--subnet".to_owned(), subnet]);
        }
        options
    }

    async fn make_network(&self, name: &str, options: &[&str]) -> Result<Output, LabError> {
        let (lab, owner) = labels(&self.state);
        let arguments =
            [&["network", "create", "--label", &lab, "--label", &owner], options, &[name]].concat();
        self.engine.attempt(&arguments, None, Duration::from_secs(60)).await
    }

    fn place_hosts(&self, number: u8) -> Vec<HostState> {
        let hosts = &self.state.topology.hosts;
        let bastion =
            hosts.iter().find(|host| host.position == Position::Bastion).map(|host| host.name.clone());
        let has_ipv6 = self.state.topology.families == Families::Both;
        let mut placed = Vec::new();
        for (last, spec) in (11..=254_u8).zip(hosts) {
            let is_open = spec.position != Position::Private;
            let is_private = spec.position != Position::Open;
            placed.push(HostState {
                name: spec.name.clone(),
                container: format!("freehold-lab-{}-{}", self.state.id, spec.name),
                published: is_open.then_some(Ipv4Addr::new(127, 30, number, last)),
                open: is_open.then_some(Ipv4Addr::new(172, 30, number, last)),
                private: is_private.then_some(Ipv4Addr::new(172, 31, number, last)),
                open_ipv6: (is_open && has_ipv6).then(|| ipv6(OPEN, number, last)),
                private_ipv6: (is_private && has_ipv6).then(|| ipv6(PRIVATE, number, last)),
                jump: if is_open { None } else { bastion.clone() },
            });
        }
        placed
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // Closing its stdin is the sign; a lab is gone only when the watching process is.
            drop(watch.stdin.take());
            watch.wait().ok();
        }
    }
}

/// Which of a lab's networks an IPv6 address is of.
const OPEN: u16 = 0x30;
const PRIVATE: u16 = 0x31;

/// Returns a unique local address (RFC 4193) of a lab's network.
fn ipv6(place: u16, number: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd7a, 0xfee0, place, u16::from(number), 0, 0, 0, u16::from(last))
}

/// Makes the lab's folder and a description without hosts.
fn describe(engine: &Engine, topology: Topology, owner: &Owner) -> Result<LabState, LabError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let id = format!("{:08x}", u32::from_be_bytes(random));
    let labs = labs_directory();
    let directory = labs.join(&id);
    // A folder without an owner would be swept, so it gets its name last.
    let unnamed = labs.with_file_name(format!("new-{id}"));
    fs_err::create_dir_all(&unnamed)?;
    fs_err::create_dir_all(&labs)?;
    fs_err::write(unnamed.join("owner"), owner.to_string())?;
    fs_err::rename(&unnamed, &directory)?;
    Ok(LabState {
        network: format!("freehold-lab-{id}"),
        id,
        owner: owner.to_string(),
        engine: engine.address().to_owned(),
        directory,
        private_network: None,
        topology,
        hosts: Vec::new(),
    })
}

/// Starts the process that removes the lab when this one ends, and waits until it watches.
fn watch(engine: &Engine, state: &LabState) -> Result<Child, LabError> {
    let mut child = std::process::Command::new("setsid")
        .arg(repository().join("e2e/lab/watch"))
        .arg(&state.id)
        .arg(&state.directory)
        .env("DOCKER_HOST", engine.address())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| LabError::Spawn { program: "e2e/lab/watch".to_owned(), source })?;
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut String::new())?;
    }
    Ok(child)
}

async fn start_host(engine: Engine, lab: LabState, host: Host, image: String) -> Result<(), LabError> {
    let files = lab.directory.join("hosts").join(host.name());
    let client_key = keys::client_folder(&lab.directory).join("id_ed25519");
    keys::lay_out(&files, &client_key, &host.spec().sshd_options).await?;
    let Some(state) = lab.hosts.iter().find(|state| state.name == host.name()) else { return Ok(()) };
    let arguments = create_arguments(&lab, state, host.spec(), &image);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    engine.call(&arguments).await?;
    let container = state.container.as_str();
    engine.call(&["cp", &format!("{}/.", files.display()), &format!("{container}:/")]).await?;
    if let (true, Some(network), Some(address)) = (host.is_reachable(), &lab.private_network, state.private) {
        let (address, ipv6) = (address.to_string(), state.private_ipv6.map(|address| address.to_string()));
        let ipv6: Vec<&str> = ipv6.iter().flat_map(|address| ["--ip6", address.as_str()]).collect();
        let connect = [&["network", "connect", "--ip", &address], &ipv6[..], &[network, container]].concat();
        engine.call(&connect).await?;
    }
    engine.call(&["start", container]).await?;
    host.wait_until_ready().await
}

fn create_arguments(lab: &LabState, host: &HostState, spec: &HostSpec, image: &str) -> Vec<String> {
    let (lab_label, owner_label) = labels(lab);
    let mut arguments: Vec<String> = vec!["create".to_owned()];
    arguments.extend(HOST_OPTIONS.map(str::to_owned));
    arguments.extend(cgroup_options(spec.suite));
    // An init system of its own has to be the first process.
    if spec.suite != Suite::Systemd {
        arguments.push("--init".to_owned());
    }
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--label", lab_label);
    option("--label", owner_label);
    option("--name", host.container.clone());
    option("--hostname", host.name.clone());
    option("--env", format!("LAB_CGROUP=/freehold-lab/{}/{}", lab.id, host.name));
    option("--env", format!("LAB_DOCKERD={}", spec.dockerd_options.join(" ")));
    match (host.open, &lab.private_network, host.private) {
        (None, Some(network), Some(address)) => {
            option("--network", network.clone());
            option("--ip", address.to_string());
            if let Some(address) = host.private_ipv6 {
                option("--ip6", address.to_string());
            }
        }
        (open, _, _) => {
            option("--network", lab.network.clone());
            if let Some(address) = open {
                option("--ip", address.to_string());
            }
            if let Some(address) = host.open_ipv6 {
                option("--ip6", address.to_string());
            }
        }
    }
    if let Some(address) = host.published {
        for port in [22, 80, 443] {
            option("--publish", format!("{address}:{port}:{port}"));
        }
    }
    if let Some(bytes) = spec.disk_bytes {
        let volume = format!(
            "type=volume,dst=/disk,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size={bytes}"
        );
        option("--mount", volume);
    }
    arguments.push(image.to_owned());
    arguments
}

/// Gives a host this computer's cgroups.
///
/// Where each controller has a hierarchy of its own (version 1), systemd makes folders beside them for those that are not
/// there and then makes the whole place read-only. It gets a place of its own for that: engines on this computer take such a
/// folder for a controller, and miss when a container runs out of memory.
fn cgroup_options(suite: Suite) -> Vec<String> {
    const PLACE: &str = "/sys/fs/cgroup";
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place =
            words.next().filter(|place| place.strip_prefix(PLACE).is_some_and(|rest| !rest.is_empty()));
        place.filter(|_| words.next().is_some_and(|kind| kind.starts_with("cgroup")))
    });
    let hierarchies: Vec<String> = hierarchies.map(|place| format!("--volume={place}:{place}:rw")).collect();
    if suite == Suite::Systemd && !hierarchies.is_empty() {
        return [vec![format!("--tmpfs={PLACE}")], hierarchies].concat();
    }
    vec![format!("--volume={PLACE}:{PLACE}:rw")]
}

fn labels(lab: &LabState) -> (String, String) {
    (format!("{LAB_LABEL}={}", lab.id), format!("{OWNER_LABEL}={}", lab.owner))
}
