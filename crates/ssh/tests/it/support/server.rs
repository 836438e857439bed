use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Key, PATIENCE};

/// A real sshd on a free port of loopback, with host keys and authorized keys of its own; ended when dropped.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    child: Child,
}

pub(crate) struct SshdBuilder {
    directory: TempDir,
    host_keys: Vec<PathBuf>,
    lines: Vec<String>,
    authorized: String,
}

impl Sshd {
    /// Starts one with an ed25519 host key that lets a key in.
    pub(crate) fn start(key: &Key) -> Self {
        Self::builder().authorize(&key.public()).start()
    }

    pub(crate) fn builder() -> SshdBuilder {
        let directory = tempfile::tempdir().unwrap();
        SshdBuilder { directory, host_keys: Vec::new(), lines: Vec::new(), authorized: String::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the line of the first host key's public part.
    pub(crate) fn host_key(&self) -> String {
        let file = self.path().join("host_ed25519");
        Key { path: file }.public()
    }

    /// Returns what a known hosts file says of the server under a name.
    pub(crate) fn known_as(&self, name: &str) -> String {
        format!("{name} {}\n", self.host_key())
    }

    pub(crate) fn log(&self) -> String {
        fs_err::read_to_string(self.path().join("log")).unwrap()
    }

    /// Returns the processes that serve connections: the children of the listener, and theirs.
    pub(crate) fn session_processes(&self) -> Vec<i32> {
        let mut found = vec![i32::try_from(self.child.id()).unwrap()];
        let mut index = 0;
        while let Some(parent) = found.get(index).copied() {
            let children = fs_err::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
            found.extend(
                children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse::<i32>().ok()),
            );
            index += 1;
        }
        found.remove(0);
        found
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- sshd on port {} ---\n{}", self.port, self.log());
        }
    }
}

impl SshdBuilder {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds lines to the configuration.
    pub(crate) fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    pub(crate) fn authorize(mut self, line: &str) -> Self {
        self.authorized.push_str(line);
        self.authorized.push('\n');
        self
    }

    pub(crate) fn host_key(mut self, key: &Key) -> Self {
        self.host_keys.push(key.path.clone());
        self
    }

    pub(crate) fn start(mut self) -> Sshd {
        let directory = self.directory.path().to_owned();
        if self.host_keys.is_empty() {
            self.host_keys.push(Key::new(&directory, "host_ed25519", "ed25519").path);
        }
        fs_err::write(directory.join("authorized_keys"), &self.authorized).unwrap();
        // sshd refuses to start without this folder, which Debian's service makes.
        drop(fs_err::create_dir_all("/run/sshd"));
        for _ in 0..5 {
            let port = free_port();
            fs_err::write(directory.join("sshd_config"), self.text(port)).unwrap();
            let mut child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(directory.join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs_err::File::create(directory.join("log")).unwrap().into_parts().0)
                .spawn()
                .expect("`/usr/sbin/sshd` is needed: install Debian's package openssh-server");
            if answers(port, &mut child) {
                return Sshd { port, directory: self.directory, child };
            }
        }
        panic!("sshd does not start:\n{}", fs_err::read_to_string(directory.join("log")).unwrap());
    }

    fn text(&self, port: u16) -> String {
        let directory = self.directory.path().display();
        let mut text = self.lines.join("\n");
        text.push_str(&format!(
            "\nListenAddress 127.0.0.1\nPort {port}\nPidFile none\nStrictModes no\nUsePAM no\nLogLevel VERBOSE\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             AuthorizedKeysFile {directory}/authorized_keys\nSubsystem sftp internal-sftp\n"
        ));
        // Of this option sshd takes the last one, not the first.
        if !text.contains("MaxStartups") {
            text.push_str("MaxStartups 100:30:200\n");
        }
        for key in &self.host_keys {
            text.push_str(&format!("HostKey {}\n", key.display()));
        }
        text
    }
}

/// Waits until the server has said its first line; false if it has ended instead.
fn answers(port: u16, child: &mut Child) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut line = String::new();
            if BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("SSH-2.0-") {
                return true;
            }
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition while the runtime goes on, and fails when it does not come true.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
