use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state::{HostState, LabState};
use super::{LabError, command};

const LIMIT: Duration = Duration::from_secs(20);

/// Makes a key pair without a passphrase; the public half gets the suffix `.pub`.
pub(super) async fn make(path: &Path) -> Result<(), LabError> {
    let path = path.to_string_lossy();
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "freehold-lab", "-f", &*path];
    command::run("ssh-keygen", &arguments, LIMIT).await.map(drop)
}

/// Lays out what a host gets before it starts: its host key, and who may log in.
pub(super) async fn lay_out(
    folder: &Path,
    client_key: &Path,
    sshd_options: &[String],
) -> Result<(), LabError> {
    let public = fs_err::read_to_string(client_key.with_extension("pub"))?;
    for place in ["root/.ssh", "home/deploy/.ssh", "etc/ssh/lab.d"] {
        fs_err::create_dir_all(folder.join(place))?;
    }
    for home in ["root", "home/deploy"] {
        let file = folder.join(home).join(".ssh/authorized_keys");
        fs_err::write(&file, &public)?;
    }
    let mut lines = sshd_options.join("\n");
    lines.push('\n');
    fs_err::write(folder.join("etc/ssh/lab.d/host.conf"), lines)?;
    make(&folder.join("etc/ssh/ssh_host_ed25519_key")).await
}

/// Writes the `known_hosts` and the client configuration with which every host of the lab can be reached into a home
/// folder's `.ssh`, where the private key is already.
pub(super) fn write_client_files(state: &LabState) -> Result<(), LabError> {
    let folder = client_folder(&state.directory);
    let mut known_hosts = String::new();
    let mut config = String::new();
    for host in &state.hosts {
        let key = fs_err::read_to_string(host_key(&state.directory, &host.name))?;
        let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        for name in names(host) {
            known_hosts.push_str(&format!("{name} {key}\n"));
        }
        let address = host.published.or(host.private).or(host.open);
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        config.push_str(&format!("Host {}\n  HostName {address}\n", host.name));
        if let Some(jump) = &host.jump {
            config.push_str(&format!("  ProxyJump {jump}\n"));
        }
    }
    let place = folder.display();
    config.push_str(&format!(
        "Host *\n  User root\n  IdentityFile {place}/id_ed25519\n  IdentitiesOnly yes\n  \
         UserKnownHostsFile {place}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  \
         ConnectTimeout 10\n  LogLevel ERROR\n"
    ));
    fs_err::write(folder.join("known_hosts"), known_hosts)?;
    fs_err::write(folder.join("config"), config)?;
    Ok(())
}

/// Returns the folder with what an SSH client needs, inside a home folder of the lab's own.
pub(super) fn client_folder(lab: &Path) -> PathBuf {
    lab.join("home/.ssh")
}

fn host_key(directory: &Path, name: &str) -> PathBuf {
    directory.join("hosts").join(name).join("etc/ssh/ssh_host_ed25519_key.pub")
}

fn names(host: &HostState) -> Vec<String> {
    let addresses = [host.published, host.open, host.private];
    let mut names = vec![host.name.clone()];
    names.extend(addresses.into_iter().flatten().map(|address| address.to_string()));
    names
}
