use freehold_model::{
    ContainerName, HostName, RestartPolicy, Role, RoleHost, ScheduleName, ScheduleState, ScheduledJob,
};

use crate::naming::RELEASE_LABEL;
use crate::observed::ObservedHost;
use crate::plan::{Action, Undo};
use crate::request::ContainerRequest;
use crate::rollout::boot::container;
use crate::rollout::{RolloutError, RolloutRequest, retire::stop_timeout, roles_on};
use crate::schedule::{
    JOB_LABEL, SCHEDULE_LABEL, ScheduleRequest, ensure_agent, schedule_name, switch, switch_off,
};
use crate::stages::Stages;

/// Gives the agent of a host the jobs of the new release. They do not run yet.
pub(super) fn store(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    host: &HostName,
) -> Result<(), RolloutError> {
    let mut has_agent = false;
    for (role, entry) in roles_on(request.project, host) {
        let jobs = request.project.jobs_on(host, &role.name);
        if jobs.is_empty() {
            continue;
        }
        if !has_agent {
            ensure_agent(stages, host);
            has_agent = true;
        }
        let name = schedule_name(request.project, &role.name)?;
        let mut prepared = Vec::new();
        for job in jobs.into_values() {
            let container = job_container(request, (role, entry), &name, &job)?;
            prepared.push((job, container));
        }
        let undo = Undo::ForgetSchedule { name: name.clone(), release: request.id.clone() };
        let set = ScheduleRequest {
            name,
            service: request.project.service.clone(),
            destination: request.project.destination.clone(),
            role: role.name.clone(),
            release: request.id.clone(),
            version: request.version.clone(),
            jobs: prepared,
        };
        stages.step(host, Action::StoreSchedule(Box::new(set)), undo);
    }
    Ok(())
}

/// Switches the jobs together with the traffic.
pub(super) fn commit(
    stages: &mut Stages,
    request: &RolloutRequest<'_>,
    (host, seen): (&HostName, &ObservedHost),
) -> Result<(), RolloutError> {
    let project = request.project;
    for (role, _) in roles_on(project, host) {
        if !project.jobs_on(host, &role.name).is_empty() {
            let name = schedule_name(project, &role.name)?;
            let to = ScheduleState::Active { release: request.id.clone() };
            switch(stages, host, (&name, &role.name), to);
        }
    }
    switch_off(stages, (host, seen), |role| !project.jobs_on(host, role).is_empty());
    Ok(())
}

/// Describes the container of a job: that of its role, with another command and nothing that is for what serves.
fn job_container(
    request: &RolloutRequest<'_>,
    (role, entry): (&Role, &RoleHost),
    schedule: &ScheduleName,
    job: &ScheduledJob,
) -> Result<ContainerRequest, RolloutError> {
    let project = request.project;
    let destination = project.destination.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
    let name = ContainerName::parse(format!("{}-cron-{}{destination}-run", project.service, job.name))?;
    let mut container = container(request, (role, entry), &name);
    container.command = Some(job.command.clone());
    container.hostname = None;
    container.volumes.clone_from(&role.volumes);
    container.stop_timeout = stop_timeout(project, role);
    // Without the service's label it is none of the containers that are counted, pruned and stopped with a role.
    for label in ["service", "role", "destination"] {
        container.labels.remove(label);
    }
    container.labels.insert(RELEASE_LABEL.to_owned(), request.id.to_string());
    container.labels.insert(SCHEDULE_LABEL.to_owned(), schedule.to_string());
    container.labels.insert(JOB_LABEL.to_owned(), job.name.to_string());
    // It runs once, beside the containers that serve, whose ports, names and addresses are taken.
    let options = &mut container.options;
    options.restart = RestartPolicy::No;
    options.publish.clear();
    options.expose.clear();
    options.network_alias.clear();
    options.health_command = None;
    options.health_interval = None;
    options.health_timeout = None;
    options.health_start_period = None;
    options.health_retries = None;
    let rare = &mut options.rare;
    rare.health_start_interval = None;
    rare.no_healthcheck = true;
    rare.publish_all = false;
    rare.hostname = None;
    rare.ip = None;
    rare.ip6 = None;
    rare.link_local_ip.clear();
    rare.mac_address = None;
    Ok(container)
}
