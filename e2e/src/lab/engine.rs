use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{self, Output};
use super::{LabError, command::checked};

/// Long enough for a container to be made on a busy computer.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// The engine that runs the hosts: the computer's own, or one that `script/engine` starts.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    address: String,
}

impl Engine {
    /// Finds an engine that answers, or starts one.
    pub(super) async fn find() -> Result<Self, LabError> {
        let script = repository().join("script/engine");
        let address = command::run(&script.to_string_lossy(), &["up"], Duration::from_secs(600)).await?;
        Ok(Self { address: address.trim().to_owned() })
    }

    /// Uses the engine at an address.
    pub(super) fn at(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }

    /// Returns the address as `DOCKER_HOST` has it.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Calls the engine's command line and returns what it printed.
    pub(super) async fn call(&self, arguments: &[&str]) -> Result<String, LabError> {
        let output = self.attempt(arguments, None, CALL_LIMIT).await?;
        checked("docker", arguments, output)
    }

    /// Calls the engine's command line and returns what it did, also a failure.
    pub(super) async fn attempt(
        &self,
        arguments: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Output, LabError> {
        let mut all = vec!["--host", &self.address];
        all.extend_from_slice(arguments);
        command::attempt("docker", &all, input, limit).await
    }
}

/// Returns the top folder of this repository.
pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
