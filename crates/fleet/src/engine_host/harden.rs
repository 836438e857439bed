mod scripts;

use std::time::Duration;

use freehold_plan::{HardeningAction, ServerFacts};
use freehold_ssh::Authentication;

use crate::engine_host::EngineHost;
use crate::engine_host::connection::Connection;
use crate::host::HostError;

/// How long to wait before each further try to connect after sshd was changed.
const RECONNECT_PAUSES: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

/// Making a host harder to break into.
impl EngineHost {
    /// Looks at what hardening depends on, as root or through `sudo -n`.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer, does not let us be root, or says what cannot be understood.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn server_facts(&self) -> Result<ServerFacts, HostError> {
        let operation = "look at its settings";
        let seen = self.plain_script(operation, &scripts::facts()).await?;
        let facts = ServerFacts::parse(&seen.stdout).map_err(|error| HostError::Refused {
            host: self.name.clone(),
            operation: operation.to_owned(),
            message: error.to_string(),
        })?;
        let let_in_by_key = match &self.link().await?.connection {
            // One that asked for nothing, as Tailscale's, may not be the server that is about to be changed.
            Connection::Ssh(session) => matches!(session.authentication(), Authentication::PublicKey { .. }),
            // Nobody could be let in anew to see whether it still works.
            Connection::Local { .. } => false,
        };
        Ok(ServerFacts { let_in_by_key, ..facts })
    }

    /// Makes one change, and makes sure that it counts.
    ///
    /// A change of the SSH server is taken back if no new connection succeeds afterwards.
    ///
    /// # Errors
    /// [`HostError`] with the last line of what failed.
    ///
    /// # Cancel safety
    /// The change is made as a whole or not at all, except that an installation may go on.
    pub async fn harden(&self, action: &HardeningAction) -> Result<(), HostError> {
        match action {
            HardeningAction::InstallUpgrades { .. } => {
                self.install("install automatic upgrades", &scripts::upgrades()).await.map(drop)
            }
            HardeningAction::TimeSync { .. } => {
                self.install("install what sets the clock", scripts::TIME).await.map(drop)
            }
            HardeningAction::Sysctl { settings } => {
                self.plain_script("set the kernel's settings", &scripts::sysctl(settings)).await.map(drop)
            }
            HardeningAction::DockerConfiguration { before, after } => {
                let script = scripts::docker(before, after);
                self.plain_script("configure Docker", &script).await.map(drop)
            }
            HardeningAction::Swap { size_mib } => {
                let operation = "make a swap file";
                let script = scripts::swap(*size_mib);
                let output = self.long_script(operation, &script, scripts::SWAP_DEADLINE).await?;
                if output.code == 0 { Ok(()) } else { Err(self.refused(operation, &output)) }
            }
            HardeningAction::SshKeysOnly => self.keys_only().await,
        }
    }

    async fn keys_only(&self) -> Result<(), HostError> {
        let operation = "have sshd take keys only";
        let Err(error) = self.try_keys_only(operation).await else { return Ok(()) };
        self.plain_script("give sshd its settings back", &scripts::ssh_as_before()).await?;
        Err(error)
    }

    async fn try_keys_only(&self, operation: &str) -> Result<(), HostError> {
        self.plain_script(operation, &scripts::ssh_keys_only()).await?;
        let link = self.link().await?;
        let mut pauses = RECONNECT_PAUSES.into_iter();
        loop {
            let Err(source) = link.connection.dedicated().await else { return Ok(()) };
            match pauses.next() {
                // An sshd that reads its settings does not listen for a moment.
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(HostError::Connect { host: self.name.clone(), source }),
            }
        }
    }
}
