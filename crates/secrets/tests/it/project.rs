use std::path::Path;

use freehold_model::Diagnose;
use tempfile::TempDir;

/// A project with its secrets files.
pub(crate) struct Project(TempDir);

impl Project {
    /// Makes a project with files in `.kamal`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join(".kamal")).unwrap();
        for (name, text) in files {
            fs_err::write(folder.path().join(".kamal").join(name), text).unwrap();
        }
        Self(folder)
    }

    /// Returns its folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Writes an error as the executable shows it, and its class.
pub(crate) fn report(error: &dyn Diagnose) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.to_string() != last {
            text.push_str(&format!("caused by: {cause}\n"));
        }
        last = cause.to_string();
        source = cause.source();
    }
    error.help().iter().for_each(|line| text.push_str(&format!("help: {line}\n")));
    text.push_str(&format!("kind: {:?}\n", error.kind()));
    text
}
