use crate::engine_host::EngineHost;
use crate::host::HostError;

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
        /// The packages that [`EngineHost::install_engine`] would install, if it can.
        packages: Option<&'static str>,
    },
}

/// Says what the host is and whether it has Docker, one `name=value` a line.
const LOOK: &str = r#"
command -v docker >/dev/null 2>&1 && echo docker=yes
command -v dockerd >/dev/null 2>&1 && echo docker=yes
command -v podman >/dev/null 2>&1 && echo docker=yes
(. /etc/os-release 2>/dev/null; printf 'system=%s\nkin=%s %s\n' "${PRETTY_NAME:-unknown}" "$ID" "$ID_LIKE")
if command -v apt-get >/dev/null 2>&1; then echo manager=apt; elif command -v dnf >/dev/null 2>&1; then echo manager=dnf; fi
if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then echo root=yes; fi
:
"#;

/// Installs Docker, starts it, and lets the user in.
///
/// Debian, Ubuntu, Fedora and Amazon Linux have packages of their own. Red Hat's kin have none: there it is Docker's own repository,
/// as <https://docs.docker.com/engine/install/centos/> has it.
const INSTALL: &str = r#"
(. /etc/os-release 2>/dev/null; echo "$ID $ID_LIKE") >"$said"
read -r kin <"$said"
case $manager in
  apt)
    fetch_lists
    # Debian 13 ships the client as a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then fetch docker.io docker-cli; else fetch docker.io; fi ;;
  dnf)
    case $kin in
      fedora*) fetch_lists; fetch moby-engine ;;
      # It has Docker among its own packages.
      amzn*) fetch_lists; fetch docker ;;
      *)
        repository=/etc/yum.repos.d/docker-ce.repo
        # One that is there already may be somebody's mirror.
        if ! [ -e $repository ]; then
          clean() { $root rm -f $repository; }
          $root tee $repository >/dev/null <<'END'
[docker-ce-stable]
name=Docker CE Stable - $basearch
baseurl=https://download.docker.com/linux/centos/$releasever/$basearch/stable
enabled=1
gpgcheck=1
gpgkey=https://download.docker.com/linux/centos/gpg
END
        fi
        fetch_lists; fetch docker-ce docker-ce-cli containerd.io ;;
    esac ;;
  *) echo 'neither apt-get nor dnf is there' >&2; exit 1 ;;
esac
[ -z "$root" ] || $root usermod -aG docker "$(id -un)" || exit 1
if [ -d /run/systemd/system ]; then $root systemctl enable --now docker >/dev/null 2>&1; else $root service docker start >/dev/null 2>&1; fi
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  if $root docker version >/dev/null 2>&1; then exit 0; fi
  sleep 1
done
{ $root journalctl -u docker -n 5 --no-pager -o cat 2>/dev/null; echo 'docker was installed, but does not start'; } >&2
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
        let value =
            |name: &str| seen.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let packages = match (has("root=yes"), value("manager="), value("kin=")) {
            (true, "apt", _) => Some("docker.io"),
            (true, "dnf", kin) if kin.starts_with("fedora") => Some("moby-engine"),
            (true, "dnf", kin) if kin.starts_with("amzn") => Some("docker"),
            (true, "dnf", _) => Some("docker-ce"),
            _ => None,
        };
        Ok(EngineState::Absent { system: value("system=").to_owned(), packages })
    }

    /// Installs Docker, as root or through `sudo -n`, and connects anew so that the user's new group counts. A host that does
    /// not reach its package sources gets them through this computer.
    ///
    /// # Errors
    /// [`HostError`] with the last line of what failed.
    ///
    /// # Cancel safety
    /// The installation may go on.
    pub async fn install_engine(&self) -> Result<(), HostError> {
        let outcome = self.install("install Docker", INSTALL).await;
        if let Ok(link) = self.link().await {
            link.give_up();
        }
        outcome.map(drop)
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
