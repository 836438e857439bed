use std::path::{Path, PathBuf};
use std::process::Command;

/// A key pair in files.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) path: PathBuf,
}

impl Key {
    pub(crate) fn new(directory: &Path, name: &str, kind: &str) -> Self {
        Self::encrypted(directory, name, kind, "")
    }

    pub(crate) fn encrypted(directory: &Path, name: &str, kind: &str, passphrase: &str) -> Self {
        let path = directory.join(name);
        let file = path.to_str().unwrap();
        let mut arguments = vec!["-q", "-t", kind, "-N", passphrase, "-C", name, "-f", file];
        if kind == "rsa" {
            arguments.extend(["-b", "2048"]);
        }
        keygen(&arguments);
        Self { path }
    }

    /// Returns the line of the public key, without the comment.
    pub(crate) fn public(&self) -> String {
        let text = fs_err::read_to_string(self.path.with_file_name(format!("{}.pub", self.name()))).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Returns the SHA-256 fingerprint, as `ssh-keygen` prints it.
    pub(crate) fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(&self.path).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        listed.split(' ').nth(1).unwrap().to_owned()
    }

    pub(crate) fn private(&self) -> String {
        fs_err::read_to_string(&self.path).unwrap()
    }

    pub(crate) fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path.with_file_name(format!("{}-cert.pub", self.name()))
    }
}

/// Lets an authority sign a key; the options say for whom, and whether as a host.
pub(crate) fn authority_signs(authority: &Key, key: &Key, options: &[&str]) {
    let public = format!("{}.pub", key.path.display());
    let mut arguments = vec!["-q", "-s", authority.path.to_str().unwrap(), "-I", "test"];
    arguments.extend(options);
    arguments.push(&public);
    keygen(&arguments);
}

pub(crate) fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .output()
        .expect("`ssh-keygen` is needed: install Debian's package openssh-client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
