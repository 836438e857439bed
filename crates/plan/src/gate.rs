use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName, Project, ReleaseId, RoleName};
use serde::{Deserialize, Serialize};

use crate::observed::Observed;
use crate::plan::{Action, OnFailure, Plan, PlanKind, StageKind, Undo};
use crate::rollout::roles_on;
use crate::stages::Stages;

/// Whether the requests of a service go to its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Gate {
    /// They do.
    #[default]
    Open,
    /// They wait.
    Paused {
        /// How long each waits.
        limit: Duration,
    },
    /// They are answered 503.
    Stopped {
        /// What the page says; the proxy's own text where it is empty.
        message: String,
    },
}

impl Gate {
    /// Says whether requests go to the containers.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// Why a service's gate could not be planned to move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// No role takes requests.
    #[error("no role of `{service}` is behind the proxy")]
    NoProxy {
        /// The service.
        service: String,
    },
    /// The proxy of a host does not serve a role.
    #[error("the proxy on host `{host}` does not serve role `{role}`")]
    NotServed {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
    },
}

impl Diagnose for GateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoProxy { .. } => ErrorKind::Configuration,
            Self::NotServed { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoProxy { .. } => vec!["give a role `proxy: true`".to_owned()],
            Self::NotServed { .. } => {
                vec!["start it: `freehold app start`, or deploy: `freehold deploy`".to_owned()]
            }
        }
    }
}

/// Plans opening or closing the way to the containers of every role behind the proxy, on all hosts at once. What one
/// host does not do is taken back on the others.
///
/// # Errors
/// [`GateError`] when a proxy does not serve a role; nothing has been changed then.
pub fn set_gate(
    project: &Project,
    id: ReleaseId,
    observed: &Observed,
    (gate, drain): (&Gate, Duration),
) -> Result<Plan, GateError> {
    if project.roles.values().all(|role| role.proxy.is_none()) {
        return Err(GateError::NoProxy { service: project.stem() });
    }
    let mut stages = Stages::default();
    stages.begin(StageKind::Commit, OnFailure::PutBack);
    for host in project.hosts() {
        let Some(seen) = observed.hosts.get(&host) else { continue };
        for (role, _) in roles_on(project, &host).filter(|(role, _)| role.proxy.is_some()) {
            let service = role.proxy_service.clone();
            let previous = seen.gate(&service).cloned();
            let previous = previous
                .ok_or_else(|| GateError::NotServed { host: host.clone(), role: role.name.clone() })?;
            if previous != *gate {
                let (service_name, proxy) = (service.clone(), seen.proxy.maker());
                let action = Action::SetGate { service: service_name, gate: gate.clone(), drain, proxy };
                stages.step(&host, action, Undo::RestoreGate { service, previous });
            }
        }
    }
    Ok(Plan {
        format: Plan::FORMAT,
        id,
        kind: if gate.is_open() { PlanKind::Live } else { PlanKind::Maintenance },
        service: project.service.clone(),
        destination: project.destination.clone(),
        version: None,
        hosts: project.hosts(),
        stages: stages.finish(),
    })
}
