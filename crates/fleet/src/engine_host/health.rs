use std::io;
use std::time::Duration;

use freehold_model::{Accessory, Diagnose, Project, RegistryPlace};
use freehold_plan::doctor::{Check, Engine, Examined, Unseen, Vitals};
use freehold_ssh::{ConnectError, HopFailure, OpenError, quote};

use crate::engine_host::EngineHost;
use crate::engine_host::connection::{Connection, Reach};
use crate::engine_host::link::Link;
use crate::failures::chain;
use crate::host::HostError;

/// What is looked for on a host, beside what every command sees.
#[derive(Debug, Clone, Copy)]
pub struct Examination<'a> {
    /// The project.
    pub project: &'a Project,
    /// Its accessories on the host.
    pub accessories: &'a [&'a Accessory],
    /// Whether the host keeps the deploy lock.
    pub keeps_lock: bool,
}

/// How long the script may take: most of it is the registry's answer.
const VITALS_DEADLINE: Duration = Duration::from_secs(30);

/// Prints what [`Vitals::parse`] reads. `$root` is the engine's folder, `$registry` an address or nothing.
const VITALS: &str = r#"
printf 'user=%s\n' "$(id -un)"
if [ "$(id -u)" = 0 ]; then echo sudo=root; elif sudo -n true 2>/dev/null; then echo sudo=free; else echo sudo=no; fi
printf 'seconds=%s\n' "$(date +%s)"
while read -r name value _; do
  case $name in MemTotal:) echo "memory=$value" ;; MemAvailable:) echo "available=$value" ;; esac
done </proc/meminfo
for folder in "$(pwd -P)" "$root"; do
  if [ -n "$folder" ] && [ -d "$folder" ]; then
    df -Pk "$folder" 2>/dev/null | while read -r _ size _ free _; do
      case $size in *[!0-9]*|'') ;; *) echo "disk=$folder $size $free" ;; esac
    done
    df -Pi "$folder" 2>/dev/null | while read -r _ size _ free _; do
      case $size in *[!0-9]*|'') ;; *) echo "inodes=$folder $size $free" ;; esac
    done
  fi
done
sockets=$(sudo -n ss -Hltnp 2>/dev/null || ss -Hltnp 2>/dev/null)
printf '%s\n' "$sockets" | while read -r _ _ _ local _ process; do
  program=${process#*\"}
  case $process in *\"*) program=${program%%\"*} ;; *) program= ;; esac
  case $local in *:*) echo "listen=${local##*:} $program" ;; esac
done
if [ -n "$registry" ] && command -v curl >/dev/null 2>&1; then
  status=$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$registry" 2>/dev/null)
  echo "registry=$? $status"
fi
if [ -w . ] && (umask 077; : >.freehold-doctor-$$) 2>/dev/null; then echo write=yes; fi
rm -f .freehold-doctor-$$
PATH=$PATH:/usr/sbin:/sbin
if first=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start); then
  # What starts a rootless engine may have been given the right to ports of root's.
  kit=$(command -v rootlesskit) && getcap "$kit" 2>/dev/null | grep -q cap_net_bind_service && first=0
  echo "unprivileged=$first"
fi 2>/dev/null
if [ -e /var/run/reboot-required ]; then echo reboot=yes; fi
:
"#;

/// Finding out what is wrong with a host.
impl EngineHost {
    /// Looks at everything that a deploy needs of the host, and at the way to it. Whatever does not answer is part of the
    /// result.
    ///
    /// # Errors
    /// What failed on the way.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn examine(&self, what: Examination<'_>) -> Result<Box<Examined>, Unseen> {
        let connection = match &self.reach {
            Reach::Local { home, socket } => Connection::Local { home: home.clone(), socket: socket.clone() },
            Reach::Ssh(ssh) => {
                let opened = ssh.connector.connect(&self.name, &ssh.settings, &ssh.key_data).await;
                Connection::Ssh(opened.map_err(|error| unreached(&error))?)
            }
        };
        let mut seen = Examined { authentication: connection.authentication(), ..Examined::default() };
        if let Connection::Ssh(session) = &connection {
            let hops = session.route().hops().split_last().map(|(_, jumps)| jumps).unwrap_or_default();
            seen.jumps = hops.iter().map(|hop| format!("`{}`", hop.name)).collect();
        }
        let link = self.link_over(connection.clone()).await.map_err(|error| {
            if connection.is_open() { self.no_shell(&error) } else { part(&connection, Check::Shell, &error) }
        })?;
        let root = self.examine_engine(&link, what, &mut seen).await;
        self.examine_system(&link, (what.project, &root), &mut seen).await;
        self.examine_state(&link, what, &mut seen).await;
        Ok(Box::new(seen))
    }

    /// Looks at the engine and at what runs in it. Returns the engine's folder, or nothing.
    async fn examine_engine(&self, link: &Link, what: Examination<'_>, seen: &mut Examined) -> String {
        let info = match link.engine.info().await {
            Ok(info) => info,
            Err(error) if link.connection.is_open() => {
                let fix = innermost_help(&error).unwrap_or_else(|| error.help());
                seen.engine = Engine::Silent { cause: chain(&error), fix };
                return String::new();
            }
            Err(error) => {
                let error = self.engine_error("ask the engine", error);
                seen.engine = Engine::NotAsked;
                seen.unseen.push(part(&link.connection, Check::Engine, &error));
                return String::new();
            }
        };
        seen.engine =
            Engine::Answers { version: info.version, is_podman: info.podman, is_rootless: info.rootless };
        // A part that does not answer, such as an old proxy, is not known; the engine itself does answer.
        match self.look(what.project).await {
            Ok(observed) => seen.observed = Some(observed),
            Err(error) => seen.unseen.push(part(&link.connection, Check::Service, &error)),
        }
        match self.look_at_accessories(what.accessories).await {
            Ok(accessories) => seen.accessories = Some(accessories),
            Err(error) => seen.unseen.push(part(&link.connection, Check::Accessory, &error)),
        }
        info.data_root.display().to_string()
    }

    /// Looks at the disks, the memory, the clock and all that the host says of itself.
    async fn examine_system(&self, link: &Link, (project, root): (&Project, &str), seen: &mut Examined) {
        let registry = registry(project).unwrap_or_default();
        let script = format!("root={}\nregistry={}\n{VITALS}", quote(root), quote(&registry));
        match self.long_script("look at the host", &script, VITALS_DEADLINE).await {
            Ok(output) => seen.vitals = Some(Vitals::parse(&output.stdout)),
            Err(error) => seen.unseen.push(part(&link.connection, Check::System, &error)),
        }
    }

    /// Looks at what commands of ours left behind.
    async fn examine_state(&self, link: &Link, what: Examination<'_>, seen: &mut Examined) {
        let stem = what.project.stem();
        if what.keeps_lock {
            match self.lock_status(&stem).await {
                Ok(held) => {
                    seen.lock = held.map(|held| held.details.lines().collect::<Vec<_>>().join(", "));
                }
                // Whether the journal is of a rollout that goes on is not known either.
                Err(error) => return seen.unseen.push(part(&link.connection, Check::Lock, &error)),
            }
        }
        match self.stored_journal(&stem).await {
            // While somebody holds the lock, the journal is that of a rollout that goes on.
            Ok(journal) => seen.has_unfinished_rollout = seen.lock.is_none() && journal.is_some(),
            Err(error) => seen.unseen.push(part(&link.connection, Check::Rollout, &error)),
        }
    }

    fn no_shell(&self, error: &HostError) -> Unseen {
        Unseen {
            check: Check::Shell,
            finding: error.to_string(),
            cause: std::error::Error::source(error).map(chain),
            fix: vec![
                format!(
                    "the login shell has to run commands and to print nothing by itself: `ssh {} true`",
                    self.name
                ),
                "no `ForceCommand`, and a shell that is not `nologin`".to_owned(),
            ],
        }
    }
}

/// Says that a part of a host could not be looked at. Where the connection itself broke, that is it.
fn part(connection: &Connection, check: Check, error: &HostError) -> Unseen {
    Unseen {
        check: if connection.is_open() { check } else { Check::Route },
        finding: error.to_string(),
        cause: std::error::Error::source(error).map(chain),
        fix: error.help(),
    }
}

/// Returns the address at which a registry says that it is one.
fn registry(project: &Project) -> Option<String> {
    match &project.registry.as_ref()?.place {
        RegistryPlace::DockerHub => Some("https://registry-1.docker.io/v2/".to_owned()),
        RegistryPlace::Server(server) => {
            let server = server.to_string();
            // As the engine does: registries on the loopback address need no TLS.
            let is_local = server.starts_with("localhost") || server.starts_with("127.");
            Some(format!("{}://{server}/v2/", if is_local { "http" } else { "https" }))
        }
        // It is on this machine, and reached through a port that is forwarded only while it is needed.
        RegistryPlace::Local { .. } => None,
    }
}

/// Says which step of the way failed.
fn unreached(error: &ConnectError) -> Unseen {
    let check = match error.failure() {
        None | Some(HopFailure::KnownHosts(_)) => Check::Configuration,
        Some(
            HopFailure::Lookup { .. } | HopFailure::LookupTimedOut { .. } | HopFailure::NoAddress { .. },
        ) => Check::Name,
        Some(HopFailure::Tcp { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
            Check::Port
        }
        Some(HopFailure::Tcp { .. } | HopFailure::TimedOut { .. }) => Check::Route,
        Some(HopFailure::ProxyCommand { .. } | HopFailure::Jump { .. }) => Check::Jump,
        Some(HopFailure::Handshake { .. } | HopFailure::HandshakeTimedOut { .. }) => Check::Handshake,
        Some(HopFailure::HostKey(_)) => Check::HostKey,
        Some(HopFailure::Authentication(_) | HopFailure::AuthenticationTimedOut { .. }) => {
            Check::Authentication
        }
    };
    Unseen {
        check,
        finding: error.to_string(),
        cause: std::error::Error::source(error).map(chain),
        fix: error.help(),
    }
}

/// Looks for what SSH knows of a socket that did not open: it knows more than the engine's client.
fn innermost_help(error: &(dyn std::error::Error + 'static)) -> Option<Vec<String>> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(open) = inner.and_then(|inner| inner.downcast_ref::<OpenError>()) {
            return Some(open.help()).filter(|help| !help.is_empty());
        }
        next = error.source();
    }
    None
}
