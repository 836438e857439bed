use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Key, PATIENCE};

/// A real `ssh-agent`, ended when it is dropped.
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    child: Child,
}

impl Agent {
    pub(crate) fn start(directory: &Path, name: &str) -> Self {
        let socket = directory.join(name);
        let child = Command::new("ssh-agent")
            .args(["-D", "-a", socket.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`ssh-agent` is needed: install Debian's package openssh-client");
        let end = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "waited too long for the agent");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { socket, child }
    }

    pub(crate) fn add(&self, key: &Key) {
        let output = Command::new("ssh-add")
            .arg("-q")
            .arg(&key.path)
            .env("SSH_AUTH_SOCK", &self.socket)
            .output()
            .expect("`ssh-add` is needed: install Debian's package openssh-client");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
