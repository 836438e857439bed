use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::command::{Output, checked};
use super::engine::Engine;
use super::state::HostState;
use super::{HostSpec, LabError, Position, Suite};

/// How long a host may take until its `sshd` and its engine answer.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long a command inside a host may take.
const EXEC_LIMIT: Duration = Duration::from_secs(120);
/// Takes every firewall off a host but the engine's own rules.
const OPEN_UP: &str = "ufw --force reset >/dev/null 2>&1 || true; rm -f /etc/ufw/*.rules.2*
    systemctl disable --quiet --now freehold-guard.service 2>/dev/null || true
    rm -rf /etc/freehold /etc/systemd/system/freehold-guard.service /etc/systemd/system/nftables.service.d
    rm -rf /run/freehold-guard.*
    systemctl daemon-reload; nft delete table inet freehold 2>/dev/null || true";
/// Where [`Host::fill_disk`] puts what takes the space.
const FILLER: &str = "/var/lib/docker/lab-filler";

/// One host of a running lab, with the means to look inside and to break it.
///
/// Nothing here goes through the host's network or `sshd`, so it works on a broken host too.
#[derive(Debug, Clone)]
pub struct Host {
    engine: Engine,
    state: HostState,
    spec: HostSpec,
}

impl Host {
    pub(super) fn new(engine: Engine, state: HostState, spec: HostSpec) -> Self {
        Self { engine, state, spec }
    }

    /// Returns the host's name, which is also its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Returns how the host was described.
    #[must_use]
    pub fn spec(&self) -> &HostSpec {
        &self.spec
    }

    /// Returns the loopback address at which this computer reaches the host's ports 22, 80 and 443.
    ///
    /// A connection to a port where nothing listens is accepted and closed, because the engine's port forwarder stands
    /// between; [`Host::open_address`] has no such thing in the way.
    ///
    /// # Errors
    /// [`LabError::NotReachable`] for a host on the private network only.
    pub fn address(&self) -> Result<Ipv4Addr, LabError> {
        self.state.published.ok_or_else(|| LabError::NotReachable(self.state.name.clone()))
    }

    /// Returns the address on the network that the hosts share, where every port is reachable.
    ///
    /// # Errors
    /// [`LabError::NotReachable`] for a host on the private network only.
    pub fn open_address(&self) -> Result<Ipv4Addr, LabError> {
        self.state.open.ok_or_else(|| LabError::NotReachable(self.state.name.clone()))
    }

    /// Returns the address on the private network, for the hosts that have one.
    #[must_use]
    pub fn private_address(&self) -> Option<Ipv4Addr> {
        self.state.private
    }

    /// Returns the IPv6 address on the network that the hosts share, for the hosts that have one.
    #[must_use]
    pub fn open_ipv6(&self) -> Option<Ipv6Addr> {
        self.state.open_ipv6
    }

    /// Returns the IPv6 address on the private network, for the hosts that have one.
    #[must_use]
    pub fn private_ipv6(&self) -> Option<Ipv6Addr> {
        self.state.private_ipv6
    }

    /// Returns where the host's `sshd` listens, as seen from this computer.
    ///
    /// # Errors
    /// [`LabError::NotReachable`] for a host on the private network only.
    pub fn ssh_address(&self) -> Result<SocketAddrV4, LabError> {
        Ok(SocketAddrV4::new(self.address()?, 22))
    }

    /// Runs a shell script as root on the host and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Command`] with its stderr when it ends with another code than 0.
    pub async fn exec(&self, script: &str) -> Result<String, LabError> {
        let output = self.attempt(script).await?;
        checked("exec", &[&self.state.name, script], output)
    }

    /// Runs a shell script as root on the host and returns how it ended.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not end.
    pub async fn attempt(&self, script: &str) -> Result<Output, LabError> {
        let arguments = ["exec", &self.state.container, "sh", "-euc", script];
        self.engine.attempt(&arguments, None, EXEC_LIMIT).await
    }

    /// Returns the process on this computer that is the host's first one.
    ///
    /// # Errors
    /// [`LabError::Command`] when the engine does not answer.
    pub async fn process(&self) -> Result<u32, LabError> {
        let arguments = ["inspect", "--format", "{{.State.Pid}}", &self.state.container];
        let text = self.engine.call(&arguments).await?;
        text.trim().parse().map_err(|_| LabError::NotReachable(self.state.name.clone()))
    }

    /// Calls the `docker` command line on the host and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Command`] with its stderr when it ends with another code than 0.
    pub async fn docker(&self, arguments: &[&str]) -> Result<String, LabError> {
        let all = [&["exec", &self.state.container, "docker"], arguments].concat();
        self.engine.call(&all).await
    }

    /// Writes a file on the host, as root with mode 644.
    ///
    /// # Errors
    /// [`LabError::Command`] when it cannot be written.
    pub async fn write(&self, path: &str, content: &[u8]) -> Result<(), LabError> {
        let arguments = ["exec", "--interactive", &self.state.container, "sh", "-euc", "cat >\"$0\"", path];
        let output = self.engine.attempt(&arguments, Some(content), EXEC_LIMIT).await?;
        checked("write", &[&self.state.name, path], output).map(drop)
    }

    /// Returns the names of the containers on the host, running or not, in order.
    ///
    /// # Errors
    /// [`LabError::Command`] when the host's engine does not answer.
    pub async fn containers(&self) -> Result<Vec<String>, LabError> {
        let names = self.docker(&["ps", "--all", "--format", "{{.Names}}"]).await?;
        let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Stops every process of the host where it is; connections stay open and silent.
    ///
    /// # Errors
    /// [`LabError::Command`] when it is paused already.
    pub async fn pause(&self) -> Result<(), LabError> {
        self.engine.call(&["pause", &self.state.container]).await.map(drop)
    }

    /// Lets a paused host go on.
    ///
    /// # Errors
    /// [`LabError::Command`] when it is not paused.
    pub async fn unpause(&self) -> Result<(), LabError> {
        self.engine.call(&["unpause", &self.state.container]).await.map(drop)
    }

    /// Takes the host's power away: every process ends at once.
    ///
    /// # Errors
    /// [`LabError::Command`] when it is off already.
    pub async fn power_off(&self) -> Result<(), LabError> {
        self.engine.call(&["kill", &self.state.container]).await.map(drop)
    }

    /// Starts a host that is off and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not come up.
    pub async fn power_on(&self) -> Result<(), LabError> {
        self.engine.call(&["start", &self.state.container]).await?;
        self.wait_until_ready().await
    }

    /// Reboots the host, with two seconds for its processes to end, and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not come up again.
    pub async fn reboot(&self) -> Result<(), LabError> {
        self.engine.call(&["restart", "--time", "2", &self.state.container]).await?;
        self.wait_until_ready().await
    }

    /// Ends the host's engine and keeps it off until [`Host::start_engine`].
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not end.
    pub async fn stop_engine(&self) -> Result<(), LabError> {
        if self.has_systemd() {
            return self.exec("systemctl stop docker.socket docker.service").await.map(drop);
        }
        let script = "touch /run/lab/engine-off; pid=$(cat /run/lab/engine.pid); kill -TERM \"$pid\" 2>/dev/null || true
            while [ -d /proc/$pid ]; do sleep 0.05; done";
        self.exec(script).await.map(drop)
    }

    /// Starts the host's engine again and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not.
    pub async fn start_engine(&self) -> Result<(), LabError> {
        let script = if self.has_systemd() { "systemctl start docker" } else { "rm -f /run/lab/engine-off" };
        self.exec(script).await?;
        self.wait_until_ready().await
    }

    /// Ends the host's engine, has it started again and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when it does not.
    pub async fn restart_engine(&self) -> Result<(), LabError> {
        self.stop_engine().await?;
        self.start_engine().await
    }

    /// Drops every packet from and to the host, silently, as a pulled cable does.
    ///
    /// # Errors
    /// [`LabError::Command`] when the rules cannot be set.
    pub async fn cut_network(&self) -> Result<(), LabError> {
        self.exec("iptables -t raw -I PREROUTING -i eth+ -j DROP; iptables -t raw -I OUTPUT -o eth+ -j DROP")
            .await
            .map(drop)
    }

    /// Undoes [`Host::cut_network`].
    ///
    /// # Errors
    /// [`LabError::Command`] when the rules cannot be removed.
    pub async fn mend_network(&self) -> Result<(), LabError> {
        self.exec("iptables -t raw -F PREROUTING; iptables -t raw -F OUTPUT").await.map(drop)
    }

    /// Ends every SSH connection to the host from the host's side; `sshd` goes on taking new ones.
    ///
    /// # Errors
    /// [`LabError::Command`] when the host does not run.
    pub async fn close_ssh_connections(&self) -> Result<(), LabError> {
        let script = "for pid in $(pgrep -x sshd); do
            if [ \"$(cut -d ' ' -f 4 /proc/$pid/stat 2>/dev/null)\" != \"$(pgrep -o -x lab-host)\" ]; then
                case $(tr '\\0' ' ' </proc/$pid/cmdline) in *listener*) ;; *) kill -KILL $pid 2>/dev/null || true ;; esac
            fi
        done";
        self.exec(script).await.map(drop)
    }

    /// Takes up the host's disk until less than `left_bytes` remain; only for hosts whose disk has a size.
    ///
    /// # Errors
    /// [`LabError::Command`] when the disk cannot be filled so far.
    pub async fn fill_disk(&self, left_bytes: u64) -> Result<(), LabError> {
        if self.spec.disk_bytes.is_none() {
            return Err(LabError::NoSizedDisk(self.state.name.clone()));
        }
        let script = format!(
            "free=$(df --output=avail --block-size=1 /disk | tail -n 1); take=$((free - {left_bytes}))
            if [ $take -gt 0 ]; then fallocate --length $take {FILLER}; fi"
        );
        self.exec(&script).await.map(drop)
    }

    /// Gives back what [`Host::fill_disk`] took.
    ///
    /// # Errors
    /// [`LabError::Command`] when the host does not run.
    pub async fn free_disk(&self) -> Result<(), LabError> {
        self.exec(&format!("rm -f {FILLER}")).await.map(drop)
    }

    /// Waits until `sshd` greets and the engine answers.
    ///
    /// # Errors
    /// [`LabError::TooSlow`] when they do not in a minute.
    pub async fn wait_until_ready(&self) -> Result<(), LabError> {
        let limit = BOOT_LIMIT.as_secs();
        let script =
            format!("exec timeout {limit} sh -c 'until docker version >/dev/null 2>&1; do sleep 0.05; done'");
        self.exec(&script).await?;
        let Ok(address) = self.ssh_address() else { return Ok(()) };
        let start = Instant::now();
        while !greets(address).await {
            if start.elapsed() > BOOT_LIMIT {
                return Err(LabError::TooSlow {
                    what: format!("sshd of {}", self.state.name),
                    limit: BOOT_LIMIT,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Brings the host back to what it was after its first start, whatever a test did to it.
    pub(super) async fn reset(&self, images: super::Images) -> Result<(), LabError> {
        let format = "{{.State.Paused}} {{.State.Running}}";
        let state = self.engine.call(&["inspect", "--format", format, &self.state.container]).await?;
        match state.trim() {
            "true true" => self.unpause().await?,
            "false false" => self.power_on().await?,
            _ => {}
        }
        self.mend_network().await?;
        if self.spec.disk_bytes.is_some() {
            self.free_disk().await?;
        }
        self.start_engine().await?;
        let remove_images = match images {
            super::Images::Keep => "",
            super::Images::Remove => {
                "docker image prune --all --force >/dev/null
                docker builder prune --all --force >/dev/null 2>&1 || true;"
            }
        };
        let script = format!(
            "docker ps --all --quiet | xargs -r docker rm --force --volumes >/dev/null
            docker network ls --quiet --filter type=custom | xargs -r docker network rm >/dev/null
            docker volume ls --quiet | xargs -r docker volume rm --force >/dev/null
            {remove_images}
            rm -rf /root/.kamal /home/deploy/.kamal"
        );
        self.exec(&script).await?;
        if self.has_systemd() { self.exec(OPEN_UP).await.map(drop) } else { Ok(()) }
    }

    fn has_systemd(&self) -> bool {
        self.spec.suite == Suite::Systemd
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.spec.position != Position::Private
    }
}

/// Whether an SSH server answers. A connection alone says nothing: a port forwarder accepts for a dead service.
async fn greets(address: SocketAddrV4) -> bool {
    let mut greeting = [0; 4];
    let read = async { TcpStream::connect(address).await?.read_exact(&mut greeting).await };
    let read = tokio::time::timeout(Duration::from_secs(2), read).await;
    matches!(read, Ok(Ok(_))) && &greeting == b"SSH-"
}
