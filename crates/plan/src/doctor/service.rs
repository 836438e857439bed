use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{AccessoryName, HostName, Project, Role};

use super::{Check, Engine, Examined, Findings, Unseen};
use crate::accessory::{ObservedAccessory, accessory_configuration};
use crate::observed::{CertificateState, ContainerState, ObservedHost, ObservedProxy};

pub(super) fn examine(findings: &mut Findings, project: &Project, host: &HostName, seen: &Examined) {
    if let Some(holder) = &seen.lock {
        findings.warning(Check::Lock, format!("the deploy lock is held: {holder}")).fix([
            "see whether that deploy still runs: `freehold lock status`".to_owned(),
            "if nobody deploys: `freehold lock release`".to_owned(),
        ]);
    }
    if seen.has_unfinished_rollout {
        findings
            .fault(Check::Rollout, "a rollout did not come to its end")
            .because("its client died, or lost its connection")
            .fix(["finish it: `freehold resume`".to_owned(), "or undo it: `freehold abort`".to_owned()]);
    }
    if let Some(observed) = &seen.observed {
        service(findings, project, host, (seen, observed));
    }
    if let Some(accessories) = &seen.accessories {
        self::accessories(findings, project, host, accessories);
    }
}

fn service(
    findings: &mut Findings,
    project: &Project,
    host: &HostName,
    (seen, observed): (&Examined, &ObservedHost),
) {
    let roles: Vec<&Role> =
        project.roles.values().filter(|role| role.hosts.iter().any(|entry| entry.name == *host)).collect();
    ports(findings, project, host, (seen, observed));
    proxy(findings, project, host, observed);
    for role in roles {
        self::role(findings, project, host, (role, observed));
    }
    certificates(findings, observed);
}

/// Says whether anything on the host is behind the proxy.
fn is_proxied(project: &Project, host: &HostName) -> bool {
    let roles = project.roles.values().filter(|role| role.proxy.is_some());
    let of_roles = roles.flat_map(|role| &role.hosts).any(|entry| entry.name == *host);
    let accessories = project.accessories.values().filter(|accessory| accessory.proxy.is_some());
    of_roles || accessories.into_iter().any(|accessory| accessory.hosts.contains(host))
}

/// The ports of the proxy have to be free where it does not run.
fn ports(
    findings: &mut Findings,
    project: &Project,
    host: &HostName,
    (seen, observed): (&Examined, &ObservedHost),
) {
    let run = observed.proxy_run(project, host);
    if !is_proxied(project, host) || !run.publish || matches!(observed.proxy, ObservedProxy::Running { .. }) {
        return;
    }
    let ports = [run.http_port, run.https_port];
    privileged(findings, host, seen, &ports);
    let listening = seen.vitals.as_ref().map(|vitals| vitals.listening.as_slice()).unwrap_or_default();
    for port in ports {
        let Some(taken) = listening.iter().find(|listening| listening.port == port) else {
            continue;
        };
        let who =
            taken.program.as_ref().map_or_else(|| "another program".to_owned(), |name| format!("`{name}`"));
        findings.fault(Check::Ports, format!("port {port}, which the proxy needs, is taken by {who}")).fix([
            format!(
                "see which one it is: `ssh {host} 'sudo ss -ltnp sport = :{port}; docker ps'`, and stop it"
            ),
            "or give the proxy other ports: `proxy: {run: {http_port: …, https_port: …}}`".to_owned(),
        ]);
    }
}

/// An engine without root's rights publishes no port of root's, unless the system lets it.
fn privileged(findings: &mut Findings, host: &HostName, seen: &Examined, ports: &[u16]) {
    let first_free = seen.vitals.as_ref().and_then(|vitals| vitals.unprivileged_from);
    let (Engine::Answers { is_rootless: true, .. }, Some(first_free)) = (&seen.engine, first_free) else {
        return;
    };
    let Some(port) = ports.iter().find(|port| **port < first_free) else { return };
    findings
        .fault(Check::Ports, format!("the proxy needs port {port}, and a rootless engine may publish no port below {first_free}"))
        .because("such ports are root's: `net.ipv4.ip_unprivileged_port_start`")
        .fix([
            "give the proxy other ports: `proxy: {run: {http_port: 8080, https_port: 8443}}`".to_owned(),
            format!("or let everybody have them: `ssh {host} 'echo net.ipv4.ip_unprivileged_port_start={port} | sudo tee /etc/sysctl.d/60-ports.conf && sudo sysctl --system'`"),
        ]);
}

fn proxy(findings: &mut Findings, project: &Project, host: &HostName, observed: &ObservedHost) {
    if !is_proxied(project, host) {
        return;
    }
    match &observed.proxy {
        ObservedProxy::Running { is_outdated: true, .. } => findings
            .warning(Check::Proxy, "the proxy is of an earlier Freehold")
            .fix(["bring it up to date, without a request lost: `freehold proxy upgrade`".to_owned()]),
        ObservedProxy::Running { image, .. } => {
            findings.good(Check::Proxy, format!("the proxy runs ({image})"))
        }
        ObservedProxy::Stopped { .. } => {
            findings.fault(Check::Proxy, "the proxy is stopped: nothing is served").fix([
                format!("`freehold proxy start -h {host}`"),
                format!("`freehold proxy logs -h {host}` says why"),
            ])
        }
        ObservedProxy::Absent if !observed.releases.is_empty() => findings
            .fault(Check::Proxy, "there is no proxy: nothing is served")
            .fix([format!("`freehold proxy boot -h {host}`, then `freehold deploy`")]),
        ObservedProxy::Absent => {}
    }
}

fn role(
    findings: &mut Findings,
    project: &Project,
    host: &HostName,
    (role, observed): (&Role, &ObservedHost),
) {
    let name = &role.name;
    let restarting =
        observed.containers_of(project, name).find(|container| container.state == ContainerState::Restarting);
    if let Some(container) = restarting {
        findings
            .fault(Check::Service, format!("`{}` of role `{name}` ends again and again", container.name))
            .fix([
                format!("`freehold app logs -h {host} --roles {name}` says why"),
                "`freehold rollback`".to_owned(),
            ]);
        return;
    }
    let Some(current) = observed.current(project, name) else {
        if observed.releases.is_empty() && observed.containers.is_empty() {
            findings
                .warning(Check::Service, format!("role `{name}` was never deployed there"))
                .fix(["`freehold deploy`".to_owned()]);
        } else {
            findings.fault(Check::Service, format!("no container of role `{name}` runs")).fix([
                "`freehold app start`, or `freehold deploy`".to_owned(),
                format!("`freehold app containers -h {host}` shows what is there"),
            ]);
        }
        return;
    };
    if current.state == ContainerState::Paused {
        findings
            .fault(Check::Service, format!("`{}` is frozen", current.name))
            .fix([format!("`ssh {host} docker unpause {}`", current.name)]);
    }
    let gate = observed.gate(&role.proxy_service);
    let has_proxy = matches!(observed.proxy, ObservedProxy::Running { .. });
    match (&role.proxy, gate) {
        (Some(_), None) if has_proxy => findings
            .fault(Check::Proxy, format!("the proxy sends no requests to role `{name}`"))
            .because("it has no route for it, such as after its state was removed")
            .fix(["`freehold deploy` sets it again".to_owned()]),
        (Some(_), Some(gate)) if !gate.is_open() => findings
            .warning(Check::Proxy, format!("role `{name}` is in maintenance: no requests go to it"))
            .fix(["`freehold app live` ends that".to_owned()]),
        _ => findings.good(Check::Service, format!("`{}` runs", current.name)),
    }
}

fn certificates(findings: &mut Findings, observed: &ObservedHost) {
    let ObservedProxy::Running { routes, .. } = &observed.proxy else { return };
    for certificate in routes.values().flat_map(|route| &route.certificates) {
        let name = &certificate.name;
        match certificate.state {
            CertificateState::Valid => findings.good(Check::Certificate, format!("`{name}` has its certificate")),
            // Nothing is wrong with an order in progress, and nothing is there yet.
            CertificateState::Ordering => {}
            CertificateState::Failed => findings
                .fault(Check::Certificate, format!("there is no certificate for `{name}`"))
                .because(certificate.error.as_deref().unwrap_or("the authority did not say why"))
                .fix([
                    format!("the authority has to reach port 80 of the hosts of the proxy by that name: `curl -v http://{name}/`"),
                    "then order it at once: `freehold deploy`".to_owned(),
                ]),
        }
    }
}

fn accessories(
    findings: &mut Findings,
    project: &Project,
    host: &HostName,
    seen: &BTreeMap<AccessoryName, ObservedAccessory>,
) {
    for accessory in project.accessories.values().filter(|accessory| accessory.hosts.contains(host)) {
        let name = &accessory.name;
        let Some(found) = seen.get(name) else {
            findings
                .fault(Check::Accessory, format!("accessory `{name}` has no container"))
                .fix([format!("`freehold accessory boot {name}`")]);
            continue;
        };
        let differs =
            found.configuration.as_ref().is_some_and(|made| *made != accessory_configuration(accessory));
        match found.state {
            ContainerState::Restarting => findings
                .fault(Check::Accessory, format!("accessory `{name}` ends again and again"))
                .fix([format!("`freehold accessory logs {name} -h {host}` says why")]),
            state if !state.is_running() => {
                findings.fault(Check::Accessory, format!("accessory `{name}` does not run")).fix([
                    format!("`freehold accessory start {name}`"),
                    format!("`freehold accessory logs {name} -h {host}` says why it ended"),
                ])
            }
            _ if differs => findings
                .warning(
                    Check::Accessory,
                    format!("accessory `{name}` runs with another configuration than the file's"),
                )
                .fix([format!("`freehold accessory reboot {name}`, which stops it for a moment")]),
            _ => findings.good(Check::Accessory, format!("accessory `{name}` runs")),
        }
    }
}

/// Hosts of a role run the same release, unless a rollout is not over.
pub(super) fn compare(
    findings: &mut Findings,
    project: &Project,
    seen: &BTreeMap<HostName, Result<Box<Examined>, Unseen>>,
) {
    for role in project.roles.values() {
        let mut images: BTreeMap<&str, BTreeSet<&HostName>> = BTreeMap::new();
        for entry in &role.hosts {
            let Some(Ok(examined)) = seen.get(&entry.name) else { continue };
            let observed = examined.observed.as_ref();
            if let Some(container) = observed.and_then(|observed| observed.current(project, &role.name)) {
                images.entry(&container.image).or_default().insert(&entry.name);
            }
        }
        if images.len() > 1 {
            let each = images.iter().map(|(image, hosts)| {
                let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
                format!("{image} on {}", hosts.join(", "))
            });
            findings
                .fault(Check::Service, format!("the hosts of role `{}` run different releases", role.name))
                .because(&each.collect::<Vec<_>>().join("; "))
                .fix(["bring all to one: `freehold deploy`, or `freehold rollback`".to_owned()]);
        }
    }
}
