use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use freehold_secrets::{Adapter, FetchError, FetchRequest, Surroundings, fetch};
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// An executable that stands in for a password manager's command line: it notes how it is called and answers by a script.
pub(crate) struct StandIn {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

impl StandIn {
    /// Writes the executable. `script` is what it does after its call was noted: shell code with the arguments in `$*`.
    pub(crate) fn new(program: &str, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(program);
        let calls = folder.path().join("calls").display().to_string();
        let state = folder.path().join("state").display().to_string();
        let text = format!(
            "#!/bin/sh\n\
             {{ printf '%s' {program}; for word; do printf ' [%s]' \"$word\"; done\n\
             [ -z \"$BW_SESSION\" ] || printf ' BW_SESSION=%s' \"$BW_SESSION\"; echo; }} >> '{calls}'\n\
             state='{state}'\n{script}\n\
             echo \"the stand-in does not know: $*\" >&2; exit 9\n"
        );
        fs_err::write(&path, text).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let search = format!("{}:/usr/bin:/bin", folder.path().display());
        Self { folder, environment: BTreeMap::from([("PATH".to_owned(), search)]) }
    }

    /// Sets a variable of its environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Fetches secrets and returns the JSON of what came.
    pub(crate) async fn fetch(&self, request: &FetchRequest) -> Result<String, FetchError> {
        let surroundings = Surroundings {
            project: self.folder.path(),
            environment: &self.environment,
            command_timeout: Duration::from_secs(20),
        };
        Ok(fetch(request, surroundings).await?.to_json().expose_secret().to_owned())
    }

    /// Returns the calls since the last time, one a line, each argument in brackets.
    pub(crate) fn calls(&self) -> String {
        let path = self.folder.path().join("calls");
        let calls = fs_err::read_to_string(&path).unwrap_or_default();
        drop(fs_err::remove_file(path));
        calls
    }
}

/// Makes a request.
pub(crate) fn request(
    adapter: Adapter,
    account: Option<&str>,
    from: Option<&str>,
    names: &[&str],
) -> FetchRequest {
    FetchRequest {
        adapter,
        account: account.map(ToOwned::to_owned),
        from: from.map(ToOwned::to_owned),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}
