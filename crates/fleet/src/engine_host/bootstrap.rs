use std::time::Duration;

use crate::engine_host::{EngineHost, shell::ShellOutput};
use crate::host::HostError;

/// How long installing the engine's packages may take on a slow machine.
const INSTALL_DEADLINE: Duration = Duration::from_secs(900);

/// Whether a host has a container engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// It answers.
    Ready {
        /// Its version.
        version: String,
    },
    /// There is none.
    Absent {
        /// The system, as it names itself: `Debian GNU/Linux 13 (trixie)`.
        system: String,
        /// Whether [`EngineHost::install_engine`] can install it.
        can_install: bool,
    },
}

/// Says what the host is and whether it has Docker, one `name=value` a line.
const LOOK: &str = r#"
command -v docker >/dev/null 2>&1 && echo docker=yes
command -v dockerd >/dev/null 2>&1 && echo docker=yes
command -v podman >/dev/null 2>&1 && echo docker=yes
(. /etc/os-release 2>/dev/null; printf 'system=%s\n' "${PRETTY_NAME:-unknown}")
if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then echo install=yes; fi
fi
:
"#;

/// Installs the system's Docker, starts it, and lets the user in. Prints the end of apt's output when it fails.
const INSTALL: &str = r#"
root=; [ "$(id -u)" = 0 ] || root="sudo -n"
log=$(mktemp) || exit 1
export DEBIAN_FRONTEND=noninteractive
if ! { $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq docker.io; } >"$log" 2>&1 </dev/null; then
  tail -n 5 "$log" >&2; rm -f "$log"; exit 1
fi
rm -f "$log"
[ -z "$root" ] || $root usermod -aG docker "$(id -un)" || exit 1
if [ -d /run/systemd/system ]; then $root systemctl enable --now docker >/dev/null 2>&1; else $root service docker start >/dev/null 2>&1; fi
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  if [ -S /var/run/docker.sock ]; then exit 0; fi
  sleep 1
done
echo 'docker was installed, but its socket did not appear within 30 s' >&2
exit 1
"#;

/// Reads the key of fingerprints, making it first if there is none. Only its owner can read it.
const FINGERPRINT_KEY: &str = r#"
umask 077
key=.kamal/freehold/fingerprint-key
if ! [ -s "$key" ]; then
  mkdir -p .kamal/freehold || exit 1
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$key.$$" || exit 1
  ln "$key.$$" "$key" 2>/dev/null; rm -f "$key.$$"
fi
cat "$key"
"#;

/// Making a host ready for its first deploy.
impl EngineHost {
    /// Says whether the host has an engine that answers.
    ///
    /// # Errors
    /// [`HostError`] when the host cannot be reached, or has an engine that does not answer.
    pub async fn engine_state(&self) -> Result<EngineState, HostError> {
        let link = self.link().await?;
        let error = match link.engine.info().await {
            Ok(info) => return Ok(EngineState::Ready { version: info.version }),
            Err(error) => error,
        };
        let seen = self.plain_script("look for a container engine", LOOK).await?;
        let has = |line: &str| seen.stdout.lines().any(|seen| seen == line);
        if has("docker=yes") {
            return Err(self.engine_error("ask the engine", error));
        }
        let system = seen.stdout.lines().find_map(|line| line.strip_prefix("system=")).unwrap_or("unknown");
        Ok(EngineState::Absent { system: system.to_owned(), can_install: has("install=yes") })
    }

    /// Installs Docker from the system's own packages, as root or through `sudo -n`, and connects anew so that the
    /// user's new group counts.
    ///
    /// # Errors
    /// [`HostError`] with the last line of what failed.
    ///
    /// # Cancel safety
    /// The installation may go on.
    pub async fn install_engine(&self) -> Result<(), HostError> {
        let link = self.link().await?;
        let operation = "install Docker";
        let output: ShellOutput = link.shell.run(INSTALL, INSTALL_DEADLINE).await.map_err(|error| {
            link.give_up();
            HostError::Lost {
                host: self.name.clone(),
                operation: operation.to_owned(),
                source: Some(std::sync::Arc::new(error)),
            }
        })?;
        link.give_up();
        if output.code == 0 { Ok(()) } else { Err(self.refused(operation, &output)) }
    }

    /// Returns the key under which fingerprints of secrets are made. It is made at the first time and stays on the host.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    pub async fn fingerprint_key(&self) -> Result<Vec<u8>, HostError> {
        let output = self.plain_script("read the key of fingerprints", FINGERPRINT_KEY).await?;
        Ok(output.stdout.trim().as_bytes().to_vec())
    }
}
