//! What survives a restart: the services, their targets and the fencing numbers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use freehold_model::ProxyServiceName;
use freehold_wire::ServiceSnapshot;
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "freehold-proxy.state";
const FORMAT: u32 = 1;

/// The state as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    format: u32,
    /// The number of the last change.
    pub(crate) generation: u64,
    /// The greatest fencing number seen, by service; kept when a service is removed.
    pub(crate) fences: BTreeMap<ProxyServiceName, u64>,
    /// The services.
    pub(crate) services: Vec<ServiceSnapshot>,
}

impl State {
    /// Makes a state.
    pub(crate) fn new(
        generation: u64,
        fences: BTreeMap<ProxyServiceName, u64>,
        services: Vec<ServiceSnapshot>,
    ) -> Self {
        Self { format: FORMAT, generation, fences, services }
    }
}

/// The state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the folder cannot be made")]
    Folder { source: io::Error },
    #[error("cannot read the state file")]
    Read { source: io::Error },
    #[error("the state file `{path}` is damaged and was set aside as `{aside}`", path = path.display(), aside = aside.display())]
    Damaged { path: PathBuf, aside: PathBuf, source: serde_json::Error },
    #[error("the state file `{path}` has format {format}, which this version does not know; it was set aside as `{aside}`", path = path.display(), aside = aside.display())]
    Format { path: PathBuf, aside: PathBuf, format: u32 },
    #[error("cannot write the state file")]
    Write { source: io::Error },
}

/// The file that holds the state.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Names the file in a folder, which is made where there is none.
    ///
    /// # Errors
    /// [`StateError::Folder`] where the folder cannot be made.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, StateError> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| StateError::Folder { source })?;
        Ok(Self { path: folder.join(FILE_NAME) })
    }

    /// Reads the state; none where there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be understood is moved aside, so that nothing overwrites it, and the error says where to.
    pub(crate) fn load(&self) -> Result<Option<State>, StateError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = match fs_err::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { source }),
        };
        let path = self.path.clone();
        match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format: FORMAT }) => {}
            Ok(Format { format }) => {
                return Err(StateError::Format { path, aside: self.set_aside()?, format });
            }
            Err(source) => return Err(StateError::Damaged { path, aside: self.set_aside()?, source }),
        }
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(Some(state)),
            Err(source) => Err(StateError::Damaged { path, aside: self.set_aside()?, source }),
        }
    }

    fn set_aside(&self) -> Result<PathBuf, StateError> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let aside = self.path.with_extension(format!("damaged-{stamp}"));
        fs_err::rename(&self.path, &aside).map_err(|source| StateError::Write { source })?;
        Ok(aside)
    }

    /// Replaces the file: after a crash there is the old state or the new one, never a part.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file stays.
    pub(crate) fn save(&self, state: &State) -> Result<(), StateError> {
        self.replace(state).map_err(|source| StateError::Write { source })
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(state)?;
        let fresh = self.path.with_extension("state.new");
        let mut file =
            fs_err::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs_err::rename(&fresh, &self.path)?;
        match self.path.parent() {
            Some(folder) => fs_err::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let text = r#"{"name":"shop-web","targets":["web:3000"],"settings":{"hosts":["shop.example.com"]},"generation":3}"#;
        let name = ProxyServiceName::parse("shop-web").unwrap();
        State::new(3, BTreeMap::from([(name, 7)]), vec![serde_json::from_str(text).unwrap()])
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.save(&state()).unwrap();
        assert_eq!(file.load().unwrap(), Some(state()));
        file.save(&State::new(4, BTreeMap::new(), Vec::new())).unwrap();
        assert_eq!(file.load().unwrap().unwrap().generation, 4);
    }

    #[test]
    fn a_file_that_is_not_understood_is_kept_aside() {
        let whole = serde_json::to_vec(&state()).unwrap();
        let newer = String::from_utf8(whole.clone()).unwrap().replace("\"format\":1", "\"format\":9");
        for text in [&b""[..], b"{", &whole[..whole.len() / 2], b"[]", br#"{"format":1}"#, newer.as_bytes()] {
            let folder = tempfile::tempdir().unwrap();
            let file = StateFile::in_folder(folder.path()).unwrap();
            fs_err::write(&file.path, text).unwrap();
            let error = file.load().unwrap_err();
            let (StateError::Damaged { aside, .. } | StateError::Format { aside, .. }) = &error else {
                panic!("{error:?}")
            };
            assert_eq!(fs_err::read(aside).unwrap(), text, "{error}");
            assert_eq!(file.load().unwrap(), None);
        }
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::in_folder(folder.path()).unwrap();
        file.save(&state()).unwrap();
        fs_err::create_dir(file.path.with_extension("state.new")).unwrap();
        assert!(file.save(&State::new(9, BTreeMap::new(), Vec::new())).is_err());
        assert_eq!(file.load().unwrap(), Some(state()));
    }
}
