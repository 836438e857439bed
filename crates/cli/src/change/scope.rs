use freehold_model::{HostName, Project, SecretName};

use crate::project::Loaded;

/// Returns every secret that a change needs: those of containers and builds, and keys for SSH.
pub(crate) fn needed(project: &Project) -> Vec<SecretName> {
    let mut names = project.secret_names();
    names.extend(project.ssh.key_data.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Returns the secrets that builds and registries need, and keys for SSH.
pub(super) fn needed_by_images(project: &Project) -> Vec<SecretName> {
    let builders =
        std::iter::once(&project.builder).chain(project.images.values().map(|image| &image.builder));
    let mut names: Vec<SecretName> = builders.flat_map(|builder| builder.secrets.iter().cloned()).collect();
    names.extend(project.registry.iter().flat_map(freehold_model::Registry::secret_names));
    names.extend(project.ssh.key_data.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Returns the hosts to work with, first the one that keeps the lock: it is the same whatever the filters are.
pub(super) fn names(loaded: &Loaded) -> Vec<HostName> {
    let mut names: Vec<HostName> = loaded.whole.hosts().into_iter().take(1).collect();
    for host in loaded.chosen.hosts() {
        if !names.contains(&host) {
            names.push(host);
        }
    }
    names
}

/// Names those, and without a filter the hosts of accessories too.
pub(super) fn all_names(loaded: &Loaded) -> Vec<HostName> {
    let mut all = names(loaded);
    for host in loaded.whole.all_hosts().into_iter().filter(|_| !loaded.is_filtered()) {
        if !all.contains(&host) {
            all.push(host);
        }
    }
    all
}
