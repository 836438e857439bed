use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A project of its own with an empty environment and a home of its own.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    /// Makes an empty project in a folder named `shop`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("shop")).unwrap();
        fs_err::create_dir_all(folder.path().join("home")).unwrap();
        Self { folder }
    }

    /// Makes a project with a deploy file.
    pub(crate) fn with_deploy_file(text: &str) -> Self {
        Self::new().file("config/deploy.yml", text)
    }

    /// Returns the project's folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    /// Writes a file of the project.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
        self
    }

    /// Writes an executable file of the project.
    pub(crate) fn executable(self, path: &str, text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let sandbox = self.file(path, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        fs_err::set_permissions(sandbox.path().join(path), mode).unwrap();
        sandbox
    }

    /// Returns its home, which stands for the login directory of `localhost`.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Makes the command that runs the executable.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the executable and returns all that is seen of it, paths replaced.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        self.run_with(words, &[])
    }

    /// The same with variables.
    pub(crate) fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.command(words).envs(variables.iter().copied()).output().unwrap();
        let stream = |name: &str, bytes: &[u8]| match String::from_utf8_lossy(bytes).into_owned() {
            empty if empty.is_empty() => String::new(),
            text => format!("--- {name}\n{}\n", text.trim_end()),
        };
        let shown = format!(
            "$ freehold {}\n{}{}--- exit code {}",
            words.join(" "),
            stream("stdout", &output.stdout),
            stream("stderr", &output.stderr),
            output.status.code().unwrap()
        );
        let shown = shown.replace(&self.folder.path().display().to_string(), "[FOLDER]");
        shown.lines().map(|line| timeless(line) + "\n").collect::<String>().trim_end().to_owned()
    }
}

/// Replaces the time since the start at the beginning of a line of progress.
fn timeless(line: &str) -> String {
    let is_time = |word: &&str| {
        word.strip_suffix('s').is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok())
    };
    match line.split_whitespace().next().filter(is_time) {
        Some(time) if line.starts_with("  ") => line.replacen(time, "0.0s", 1),
        _ => line.to_owned(),
    }
}

/// Makes the name of a snapshot's file.
pub(crate) fn snapshot_name(kind: &str, name: &str) -> String {
    format!("{kind}_{}", name.replace(' ', "_"))
}
