//! The proxies that are measured: each is started as its users would run it, with one thread for one core.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use freehold_e2e::executable;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::load::{Aim, keep_alive};
use super::settings::{self, Settings};
use super::usage;
use crate::Failure;

/// The core that proxies run on; what measures them runs on another one.
const PROXY_CORE: &str = "0";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A proxy that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Freehold,
    Nginx,
    Haproxy,
    Caddy,
    Traefik,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Freehold, Self::Nginx, Self::Haproxy, Self::Caddy, Self::Traefik];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Freehold => "freehold",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
        }
    }

    /// The program, and how it tells its version.
    pub(crate) fn program(self) -> Result<(PathBuf, &'static str), Failure> {
        Ok(match self {
            Self::Freehold => (executable::path()?, "version"),
            Self::Nginx => ("/usr/sbin/nginx".into(), "-v"),
            Self::Haproxy => ("/usr/sbin/haproxy".into(), "-v"),
            Self::Caddy => ("/usr/bin/caddy".into(), "version"),
            Self::Traefik => (traefik()?, "version"),
        })
    }

    /// Returns what it says of its version, in one line.
    pub(crate) async fn version(self) -> Result<String, Failure> {
        let (program, argument) = self.program()?;
        let output = Command::new(program).arg(argument).output().await?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let words = text.lines().next().unwrap_or_default();
        let number = words
            .split([' ', '/'])
            .find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
        let number = number.map(str::to_owned).or_else(|| {
            text.split_whitespace()
                .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
                .map(str::to_owned)
        });
        Ok(format!("{} {}", self.name(), number.unwrap_or_default().trim_start_matches('v')))
    }
}

fn traefik() -> Result<PathBuf, Failure> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the bench has no other way to be told where a package lies"
    )]
    let path = std::env::var_os("FREEHOLD_TRAEFIK").map(PathBuf::from);
    path.ok_or_else(|| "FREEHOLD_TRAEFIK is not set: run `script/bench proxy`".into())
}

/// How a proxy is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// On a core of its own.
    Core,
    /// By callgrind, which counts its instructions.
    Callgrind,
}

/// A proxy that runs; it is ended when dropped.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    child: Child,
    folder: TempDir,
    http: SocketAddr,
    https: SocketAddr,
}

impl Contender {
    /// Starts one before a target, and waits until it forwards.
    pub(crate) async fn start(
        kind: Kind,
        ground: Ground,
        target: SocketAddr,
        certificate: &settings::Certificate,
    ) -> Result<Self, Failure> {
        let folder = TempDir::with_prefix("freehold-bench-")?;
        let (http, https) = (free_port()?, free_port()?);
        certificate.write(folder.path())?;
        let settings = Settings { folder: folder.path(), http, https, target };
        let arguments = settings.write(kind)?;
        let program = kind.program()?.0;
        let mut command = match ground {
            Ground::Core => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", PROXY_CORE]);
                command
            }
            Ground::Callgrind => {
                let mut command = Command::new("valgrind");
                command.args(["--tool=callgrind", "--trace-children=yes", "--quiet"]);
                command.arg(format!("--callgrind-out-file={}", folder.path().join("count.%p").display()));
                command
            }
        };
        let output = fs_err::File::create(folder.path().join("output"))?.into_file();
        command.arg(program).args(arguments).env("HOME", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output).kill_on_drop(true);
        let child = command.spawn()?;
        let mut contender = Self { kind, child, folder, http, https };
        let ready = contender.wait(target).await;
        match ready {
            Ok(()) => Ok(contender),
            Err(error) => {
                let said = fs_err::read_to_string(contender.folder.path().join("output")).unwrap_or_default();
                Err(format!("{} did not start: {error}\n{said}", kind.name()).into())
            }
        }
    }

    async fn wait(&mut self, target: SocketAddr) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut installed = self.kind != Kind::Freehold;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended with {status}").into());
            }
            if !installed {
                installed = self.install(target).await?;
            }
            let aim = Aim { address: self.http, host: settings::HOST.to_owned(), path: "/up", tls: None };
            if installed {
                match keep_alive(&aim, 1, 1).await {
                    Ok(()) => return Ok(()),
                    Err(error) if begun.elapsed() > START_LIMIT => return Err(error),
                    Err(_) => {}
                }
            } else if begun.elapsed() > START_LIMIT {
                return Err("its services could not be installed".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells Freehold about its services; says whether it has taken them.
    async fn install(&self, target: SocketAddr) -> Result<bool, Failure> {
        for arguments in settings::services(self.folder.path(), target) {
            let output = Command::new(executable::path()?).args(arguments).output().await?;
            if !output.status.success() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.https
    }

    /// Returns the processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(usage::cpu(self.id()?)?)
    }

    /// Returns how much memory it has, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        Ok(usage::resident(self.id()?)?)
    }

    fn id(&self) -> Result<u32, Failure> {
        self.child.id().ok_or_else(|| format!("{} has ended", self.kind.name()).into())
    }

    /// Ends it and returns how many instructions callgrind has counted.
    pub(crate) async fn instructions(mut self) -> Result<u64, Failure> {
        let id = self.id()?.to_string();
        // nginx and HAProxy end their children only on this one in good order.
        let signal = if self.kind == Kind::Nginx { "QUIT" } else { "TERM" };
        Command::new("kill").args(["-s", signal, &id]).status().await?;
        tokio::time::timeout(STOP_LIMIT, self.child.wait()).await??;
        counted(self.folder.path())
    }
}

/// Sums what callgrind has written for each process.
fn counted(folder: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("count.")) {
            continue;
        }
        let text = fs_err::read_to_string(&path)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        sum += total.and_then(|total| total.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    if sum == 0 { Err("callgrind has counted nothing".into()) } else { Ok(sum) }
}

fn free_port() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
