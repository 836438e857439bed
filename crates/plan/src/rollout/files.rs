use freehold_model::{ContainerName, HostName, Project, ProxySettings, Role, Tls};

use crate::Observed;
use crate::images::image_of;
use crate::naming::{
    APPS_CONFIG, APPS_CONFIG_IN_PROXY, assets_directory, container_version, error_pages_directory,
    tls_directory, users_directory,
};
use crate::plan::{Action, Undo};
use crate::request::{AssetBridge, ProxyFiles, Subject};
use crate::rollout::{RolloutError, RolloutRequest, first_name, roles_on, seen};
use crate::stages::Stages;

/// Writes what belongs to a version, beside what other versions have: assets and error pages.
pub(super) fn write(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    host: &HostName,
) -> Result<(), RolloutError> {
    let project = request.project;
    let takes_requests = roles_on(project, host).any(|(role, _)| role.proxy.is_some());
    if takes_requests && !request.error_pages.is_empty() {
        let directory = error_pages_directory(project, request.version.as_str());
        let serves = seen(observed, host)?.releases.iter().any(|release| release.version == request.version);
        let undo = if serves {
            Undo::Nothing
        } else {
            Undo::RemoveDirectories { directories: vec![directory.clone()] }
        };
        let action = Action::WriteErrorPages { directory, pages: request.error_pages.clone() };
        stages.step(host, action, undo);
    }
    for (role, _) in roles_on(project, host) {
        assets(stages, request, observed, (host, role))?;
    }
    Ok(())
}

/// Writes what the proxy alone reads, in place of what it has: certificates and those who may come.
pub(super) fn write_for_proxy(stages: &mut Stages, project: &Project, host: &HostName) {
    for (role, _) in roles_on(project, host) {
        if let Some(proxy) = &role.proxy {
            let directory = tls_directory(project, &role.name);
            write_certificate(stages, host, &proxy.tls, ((&role.name).into(), directory));
            let directory = users_directory(project, &role.name);
            write_users(stages, host, proxy, ((&role.name).into(), directory));
        }
    }
}

fn assets(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    observed: &Observed,
    (host, role): (&HostName, &Role),
) -> Result<(), RolloutError> {
    let project = request.project;
    let (Some(assets), Some(_)) = (&role.asset_path, &role.proxy) else { return Ok(()) };
    let seen = seen(observed, host)?;
    let name = first_name(request, role)?;
    let is_known = seen.containers.iter().any(|container| container.name == name);
    let new = format!("{}-{}", role.name, request.version);
    let old = seen
        .current(project, &role.name)
        .and_then(|container| container_version(project, &role.name, &container.name))
        .map(|version| format!("{}-{version}", role.name))
        .filter(|old| *old != new);
    let directory = assets_directory(project);
    // A container of the version may have the folder mounted: then it is no new one.
    let undo = if is_known {
        Undo::Nothing
    } else {
        // The first is a copy that was not finished.
        let made = [format!("extracted/.{new}.new"), format!("extracted/{new}"), format!("volumes/{new}")];
        Undo::RemoveDirectories { directories: made.map(|made| format!("{directory}/{made}")).to_vec() }
    };
    let bridge = AssetBridge {
        role: role.name.clone(),
        image: image_of(project, role, &request.version),
        path: assets.path.clone(),
        directory,
        container: ContainerName::parse(format!("{}-assets", project.role_prefix(&role.name)))?,
        new,
        old,
    };
    stages.step(host, Action::BridgeAssets(bridge), undo);
    Ok(())
}

/// Writes a certificate of one's own into a folder of its own.
pub(crate) fn write_certificate(
    stages: &mut Stages,
    host: &HostName,
    tls: &Tls,
    (subject, directory): (Subject, String),
) {
    let Tls::Custom { certificate, private_key } = tls else { return };
    let action = Action::WriteCertificate {
        subject,
        directory: directory.clone(),
        certificate: certificate.clone(),
        private_key: private_key.clone(),
    };
    stages.step(host, action, Undo::RestoreCertificate { directory });
}

/// Writes the file with those who may come into a folder of its own.
pub(crate) fn write_users(
    stages: &mut Stages,
    host: &HostName,
    proxy: &ProxySettings,
    (subject, directory): (Subject, String),
) {
    let Some(users) = proxy.basic_auth.clone() else { return };
    let action = Action::WriteUsers { subject, directory: directory.clone(), users };
    stages.step(host, action, Undo::RestoreUsers { directory });
}

/// Returns which of two folders, of a certificate and of those who may come, hold something for the way back.
pub(crate) fn kept_folders(proxy: &ProxySettings, [tls, users]: [String; 2]) -> Vec<String> {
    let tls = Some(tls).filter(|_| matches!(proxy.tls, Tls::Custom { .. }));
    tls.into_iter().chain(Some(users).filter(|_| proxy.basic_auth.is_some())).collect()
}

/// Returns the files that the proxy reads for a role of a version, as paths in its container.
pub(crate) fn proxy_files(project: &Project, role: &Role, error_pages: Option<&str>) -> ProxyFiles {
    ProxyFiles {
        error_pages: error_pages.map(|version| inside_proxy(&error_pages_directory(project, version))),
        certificate: role
            .proxy
            .as_ref()
            .and_then(|proxy| certificate_inside_proxy(&proxy.tls, &tls_directory(project, &role.name))),
        users: role
            .proxy
            .as_ref()
            .and_then(|proxy| users_inside_proxy(proxy, &users_directory(project, &role.name))),
    }
}

/// Returns the folder of a certificate of one's own as the proxy sees it.
pub(crate) fn certificate_inside_proxy(tls: &Tls, directory: &str) -> Option<String> {
    matches!(tls, Tls::Custom { .. }).then(|| inside_proxy(directory))
}

/// Returns the folder of the file with those who may come as the proxy sees it.
pub(crate) fn users_inside_proxy(proxy: &ProxySettings, directory: &str) -> Option<String> {
    proxy.basic_auth.as_ref().map(|_| inside_proxy(directory))
}

fn inside_proxy(path: &str) -> String {
    path.replacen(APPS_CONFIG, APPS_CONFIG_IN_PROXY, 1)
}

/// Returns the volume of the assets that a role's release shares with others.
pub(super) fn assets_volume(request: &RolloutRequest<'_>, role: &Role) -> Option<String> {
    let (Some(assets), Some(_)) = (&role.asset_path, &role.proxy) else { return None };
    let directory = assets_directory(request.project);
    let options = assets.options.as_ref().map(|options| format!(":{options}")).unwrap_or_default();
    Some(format!("$PWD/{directory}/volumes/{}-{}:{}{options}", role.name, request.version, assets.path))
}
