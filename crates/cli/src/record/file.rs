use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_model::Diagnose;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::{About, chain};

/// The file of one command. It is the person's alone: builds and hooks print what they like.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: fs_err::File,
    /// The first line that could not be written; from then on none is.
    failed: Option<io::Error>,
}

impl LogFile {
    /// Makes the file, and its folder where there is none.
    ///
    /// # Errors
    /// The cause; it names the path.
    pub(super) fn create(folder: &Path, about: &About) -> io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let path = folder.join(name(about));
        let mut options = fs_err::OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { path, file, failed: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line at once, so that what was shown is there if the computer dies.
    pub(super) fn line(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(format!("{text}\n").as_bytes()).err();
        }
    }

    /// Writes how the command ended.
    ///
    /// # Errors
    /// The first line that could not be written.
    pub(super) fn end(
        mut self,
        error: Option<&(dyn Diagnose + Send + Sync)>,
        took: Duration,
    ) -> io::Result<()> {
        let seconds = took.as_secs_f64();
        match error {
            None => self.line(&format!("# Completed in {seconds:.1}s")),
            Some(error) => {
                self.line(&format!("# FAILED: {:?}: {} ({seconds:.1}s)", error.kind(), chain(error)));
            }
        }
        self.failed.map_or(Ok(()), Err)
    }
}

/// Returns the file's name: time (UTC), destination, command and sub-command.
fn name(about: &About) -> String {
    let time = about.started.strftime("%Y-%m-%dT%H-%M-%S").to_string();
    let command = about.command.replace(' ', "_");
    let parts = [Some(time), about.destination.clone(), Some(command)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("_") + ".log"
}
