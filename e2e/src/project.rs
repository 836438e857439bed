//! A project as a user has it, and the executable run in it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::executable;
use crate::lab::Lab;

/// How long one call of the executable may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A copy of `examples/hello` with a deploy file for hosts of a lab, and a home folder that reaches them.
#[derive(Debug)]
pub struct Project {
    place: TempDir,
    engine: String,
    executable: PathBuf,
}

/// What a call of the executable did.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl Project {
    /// Lays out a project that deploys to the named hosts of a lab.
    ///
    /// # Errors
    /// When the executables are missing (see [`executable`]) or a file cannot be written.
    pub fn new(lab: &Lab, hosts: &[&str]) -> io::Result<Self> {
        let place = tempfile::Builder::new().prefix("freehold-e2e-").tempdir()?;
        let engine = lab.engine_address().to_owned();
        let project = Self { place, engine, executable: executable::path().map_err(io::Error::other)? };
        let ssh = project.home().join(".ssh");
        fs_err::create_dir_all(&ssh)?;
        for file in ["config", "known_hosts", "id_ed25519"] {
            let text = fs_err::read_to_string(lab.home().join(".ssh").join(file))?;
            let text = text.replace(&*lab.home().to_string_lossy(), &project.home().to_string_lossy());
            fs_err::write(ssh.join(file), text)?;
        }
        // A private key that others may read is refused.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs_err::set_permissions(ssh.join("id_ed25519"), permissions)?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
        fs_err::create_dir_all(project.folder().join("config"))?;
        for file in ["Dockerfile", ".dockerignore"] {
            fs_err::copy(example.join(file), project.folder().join(file))?;
        }
        fs_err::copy(executable::hello().map_err(io::Error::other)?, project.folder().join("hello"))?;
        project.set_version("1")?;
        project.write("config/deploy.yml", &deploy_file(hosts, ""))?;
        Ok(project)
    }

    /// Returns the project's folder, in which the executable runs.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.place.path().join("project")
    }

    /// Returns the home folder that the executable sees.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    /// Writes a file of the project.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.folder().join(path);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(path, text)
    }

    /// Sets what the application says its version is, which makes another image.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_version(&self, version: &str) -> io::Result<()> {
        self.write("VERSION", version)
    }

    /// Sends what goes to a host through another address, for example a [`crate::lab::Relay`]'s.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn route(&self, host: &str, address: SocketAddr) -> io::Result<()> {
        let path = self.home().join(".ssh/config");
        let text = fs_err::read_to_string(&path)?;
        let (ip, port) = (address.ip(), address.port());
        // The first value that `ssh` finds counts.
        fs_err::write(
            path,
            format!("Host {host}\n  HostName {ip}\n  Port {port}\n  HostKeyAlias {host}\n{text}"),
        )
    }

    /// Returns the executable, ready to be started in the project with nothing of this process's environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("DOCKER_HOST", &self.engine)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the executable and leaves it running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> io::Result<Child> {
        self.command(arguments).spawn()
    }

    /// Runs the executable to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end within five minutes and is killed.
    pub async fn freehold(&self, arguments: &[&str]) -> io::Result<Run> {
        let start = Instant::now();
        let child = self.start(arguments)?;
        finish(child, start).await
    }
}

/// Waits for a started executable to end.
///
/// # Errors
/// When it does not end within five minutes and is killed.
pub async fn finish(child: Child, start: Instant) -> io::Result<Run> {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await??;
    Ok(Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        elapsed: start.elapsed(),
    })
}

impl Run {
    /// Checks how it ended; the error has everything that it printed.
    ///
    /// # Errors
    /// When it ended with another code.
    pub fn expect_code(self, code: i32) -> io::Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { code: ended, stdout, stderr, .. } = self;
        Err(io::Error::other(format!(
            "ended with {ended:?}, not {code}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        )))
    }
}

/// Returns the text of a deploy file for hosts, with more root keys behind it.
#[must_use]
pub fn deploy_file(hosts: &[&str], more: &str) -> String {
    let servers: String = hosts.iter().map(|host| format!("  - {host}\n")).collect();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!(
        "service: hello\nimage: hello\nservers:\n{servers}\
         proxy:\n  app_port: 80\n  healthcheck:\n    path: /up\n    interval: 1\n    timeout: 2\n\
         builder:\n  arch: {arch}\n  context: .\n\
         deploy_timeout: 15\ndrain_timeout: 10\n{more}"
    )
}
