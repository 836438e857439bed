use freehold_fleet::StepError;
use freehold_plan::{Step, Undo};

use crate::machine::Machine;

impl Machine {
    /// Undoes a step unless the client is outdated, and looks at the traffic afterwards.
    pub(crate) fn undo(&self, step: &Step, fence: u64) -> Result<(), StepError> {
        let mut state = self.state.lock();
        self.check_fence(&state, fence)?;
        match &step.undo {
            Undo::Nothing => {}
            Undo::Impossible => return Err(self.refused(&step.undo, "it cannot be undone").into()),
            Undo::RemoveContainer { container } => {
                state.containers.retain(|present| present.name != *container);
            }
            Undo::StopContainer { container } => {
                if let Some(container) = state.container(container) {
                    container.is_running = false;
                    container.is_healthy = false;
                }
            }
            Undo::StartContainer { container } => match state.container(container) {
                Some(container) => {
                    container.is_running = true;
                    container.is_healthy = true;
                }
                None => return Err(self.refused(&step.undo, "no such container").into()),
            },
            Undo::RenameContainer { from, to } => {
                if state.container(to).is_none()
                    && let Some(container) = state.container(from)
                {
                    container.name = to.clone();
                }
            }
            Undo::RemoveDirectories { directories } => {
                state.directories.retain(|directory| !directories.contains(directory));
            }
            Undo::RestoreCertificate { .. } | Undo::RestoreUsers { .. } => {}
            Undo::ForgetSchedule { name, release } => {
                state.forget_schedules(name, std::slice::from_ref(release))
            }
            Undo::RevertSchedule { name, from } => state.revert_schedule(name, from),
            Undo::RemoveAgentIfUnused => drop(state.remove_unused_agent()),
            Undo::EndCanary { service, .. } => drop(state.tried.remove(service)),
            Undo::ForgetCanary => state.canary = None,
            Undo::RemoveStandIn => state.stands_in = false,
            Undo::ReleasePorts => state.is_diverted = false,
            Undo::DivertPorts { .. } => state.is_diverted = true,
            Undo::RemoveProxy => state.proxy_maker = None,
            Undo::BringProxyBack { name } => drop(state.bring_proxy_back(name)),
            Undo::SetProxyAside { name } => drop(state.set_proxy_aside(name)),
            Undo::RestoreGate { service, previous } => {
                state.gates.insert(service.clone(), previous.clone());
            }
            Undo::ReturnRoute { service, to, previous } => {
                if let Some(routes) = &mut state.proxy {
                    routes.remove(service);
                    routes.insert(to.clone(), (**previous).clone());
                }
            }
            Undo::RestoreRoute { service, previous } => {
                if let Some(routes) = &mut state.proxy {
                    match previous {
                        Some(route) => routes.insert(service.clone(), (**route).clone()),
                        None => routes.remove(service),
                    };
                }
            }
        }
        state.effects.push((fence, format!("undo: {}", step.undo)));
        state.look_at_traffic(&format!("undo: {}", step.undo));
        Ok(())
    }
}
