//! Many hosts behind one bastion that lets few begin at a time.

use std::fmt::Write as _;

use crate::lab::{Host, Lab, LabError};
use crate::project::Project;

/// sshd as Debian has it: from ten unfinished logins on, it drops some.
const SSHD: &str = "/usr/sbin/sshd -o MaxStartups=10:30:60 -o MaxSessions=10";

/// The first port of the hosts' servers.
const FIRST_PORT: u16 = 2201;

/// As many `sshd`s on one private host of a lab, which stand for hosts, and one more on its bastion, which is the only way
/// to them.
#[derive(Debug)]
pub struct Crowd {
    bastion: Host,
    count: u16,
}

impl Crowd {
    /// The host that takes connections and says nothing. It has 4 s to do so.
    pub const SILENT: &'static str = "silent";

    /// Starts the servers, and tells the project's OpenSSH of them.
    ///
    /// # Errors
    /// When a server does not start, or the configuration cannot be written.
    pub async fn start(
        lab: &Lab,
        project: &Project,
        count: u16,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (bastion, app) = (lab.host("bastion")?, lab.host("app")?);
        let address = app.private_address().ok_or("the host has no private address")?;
        let log = "-E /var/log/jump.log -o LogLevel=VERBOSE -o PidFile=none";
        bastion.exec(&format!("{SSHD} -p 2222 {log}")).await?;
        let last = FIRST_PORT + count - 1;
        let start = format!(
            "for port in $(seq {FIRST_PORT} {last}); do {SSHD} -p $port -o PidFile=none; done
            # One that takes connections and says nothing.
            {SSHD} -p 2299 -o PidFile=/run/silent.pid
            until [ -s /run/silent.pid ]; do sleep 0.05; done
            kill -STOP $(cat /run/silent.pid)"
        );
        app.exec(&start).await?;
        let crowd = Self { bastion, count };
        let open = crowd.bastion.open_address()?;
        let mut text = format!("Host jump\n  HostName {open}\n  Port 2222\n  HostKeyAlias bastion\n");
        let silent = (2299, Self::SILENT.to_owned());
        for (port, name) in (FIRST_PORT..).zip(crowd.names()).chain([silent]) {
            writeln!(
                text,
                "Host {name}\n  HostName {address}\n  Port {port}\n  HostKeyAlias app\n  ProxyJump jump"
            )?;
        }
        writeln!(text, "Host {}\n  ConnectTimeout 4", Self::SILENT)?;
        let config = project.home().join(".ssh/config");
        // The first value that `ssh` finds counts.
        text.push_str(&fs_err::read_to_string(&config)?);
        fs_err::write(&config, text)?;
        Ok(crowd)
    }

    /// Returns the names of the hosts, without that of the silent one.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        (1..=self.count).map(|number| format!("n{number:02}")).collect()
    }

    /// Returns how many logins the bastion has seen.
    ///
    /// # Errors
    /// [`LabError`] when its log cannot be read.
    pub async fn logins(&self) -> Result<usize, LabError> {
        let count = self.bastion.exec("grep -c 'Accepted publickey' /var/log/jump.log || true").await?;
        Ok(count.trim().parse().unwrap_or_default())
    }
}
