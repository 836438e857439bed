use freehold_model::{RestartPolicy, RoleName, ScheduleState};
use freehold_plan::{
    Action, ObservedAgent, Plan, Prune, RollbackError, RollbackTarget, prune, remove, start, stop,
};

use crate::fixture::{Script, host, id, render};

fn script() -> Script {
    Script::new(&["one", "two"]).role("jobs", &["two"], false).job("nightly", "web").job("tidy", "jobs")
}

/// The steps that have to do with jobs, each with its stage, host and undo.
fn about_jobs(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in &plan.stages {
        for step in stage.lanes.iter().flat_map(|lane| &lane.steps) {
            let text = step.action.to_string();
            if text.contains("jobs of") || text.contains("the agent") {
                lines.push(format!("{:?} {}: {text} [{}]", stage.kind, step.host, step.undo));
            }
        }
    }
    lines
}

fn state(script: &Script, name: &str, role: &str) -> ScheduleState {
    let schedules = script.observed.hosts[&host(name)].agent.schedules();
    let found = schedules.iter().find(|schedule| schedule.role.as_str() == role);
    found.map(|schedule| schedule.state.clone()).unwrap_or_default()
}

fn active(number: u8) -> ScheduleState {
    ScheduleState::Active { release: id(number) }
}

#[test]
fn jobs_are_stored_first_and_switched_with_the_traffic() {
    let script = script();
    assert_eq!(
        about_jobs(&script.plan("v1").expect("a plan")),
        [
            "Prepare one: make sure that the agent runs [remove the agent if it is unused]",
            "Prepare one: store the jobs of web: nightly [forget the new jobs of app-web]",
            "Prepare two: make sure that the agent runs [remove the agent if it is unused]",
            "Prepare two: store the jobs of jobs: tidy [forget the new jobs of app-jobs]",
            "Commit one: run the jobs of web when they are due [run the earlier jobs of app-web again]",
            "Commit two: run the jobs of jobs when they are due [run the earlier jobs of app-jobs again]",
        ]
    );
    let script = script.deploy("v1");
    assert_eq!((state(&script, "one", "web"), state(&script, "two", "web")), (active(1), ScheduleState::Off));
    assert_eq!(state(&script.deploy("v2"), "two", "jobs"), active(2));
}

#[test]
fn the_container_of_a_job_is_that_of_its_role_but_stands_beside_what_serves() {
    let mut script = script();
    let web = script.project.roles.get_mut(&RoleName::web()).expect("the role");
    web.options.publish = vec!["80:80".to_owned()];
    web.options.network_alias = vec!["web".to_owned()];
    web.options.health_command = Some("true".to_owned());
    web.options.memory_bytes = Some(7);
    web.volumes = vec!["data:/data".to_owned()];
    web.labels.insert("team".to_owned(), "a".to_owned());
    let plan = script.plan("v1").expect("a plan");
    let stored = plan.steps().find_map(|step| match &step.action {
        Action::StoreSchedule(request) => Some(request.clone()),
        _ => None,
    });
    let (_, container) = stored.expect("a step").jobs[0].clone();
    assert_eq!(container.name.as_str(), "app-cron-nightly-run");
    assert_eq!(container.command, Some(vec!["tidy".to_owned()]));
    assert_eq!((container.volumes, container.options.memory_bytes), (vec!["data:/data".to_owned()], Some(7)));
    assert_eq!(container.environment.secret.len(), 1);
    assert_eq!(container.options.restart, RestartPolicy::No);
    assert!(container.options.publish.is_empty() && container.options.network_alias.is_empty());
    assert!(container.options.health_command.is_none() && container.options.rare.no_healthcheck);
    let labels: Vec<String> =
        container.labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        labels,
        [
            "freehold.job=nightly".to_owned(),
            format!("freehold.release={}", id(1)),
            "freehold.schedule=app-web".to_owned(),
            "team=a".to_owned()
        ]
    );
}

#[test]
fn jobs_leave_a_host_that_is_no_longer_the_first_and_go_when_there_are_none() {
    let mut script = script().deploy("v1");
    script.project.roles.get_mut(&RoleName::web()).expect("the role").hosts.reverse();
    let script = script.job("nightly", "web");
    let lines = about_jobs(&script.plan("v2").expect("a plan"));
    assert!(
        lines.contains(
            &"Commit one: end the jobs of web on this host [run the earlier jobs of app-web again]"
                .to_owned()
        ),
        "{lines:?}"
    );
    let mut script = script.deploy("v2");
    assert_eq!((state(&script, "one", "web"), state(&script, "two", "web")), (ScheduleState::Off, active(2)));
    script.project.jobs.clear();
    let script = script.deploy("v3");
    assert_eq!(state(&script, "two", "web"), ScheduleState::Off);
    assert_eq!(state(&script, "two", "jobs"), ScheduleState::Off);
    assert_eq!(about_jobs(&script.plan("v4").expect("a plan")), [""; 0]);
}

#[test]
fn a_part_of_the_hosts_or_roles_leaves_the_jobs_of_the_others() {
    let script = script().deploy("v1");
    let mut part = script.clone();
    part.project.roles.get_mut(&RoleName::web()).expect("the role").hosts.remove(0);
    part.project.roles.remove(&RoleName::parse("jobs").expect("a role"));
    assert_eq!(about_jobs(&part.plan("v2").expect("a plan")), [""; 0]);
}

#[test]
fn a_rollback_brings_the_jobs_of_its_release_back() {
    let mut script = script().deploy("v1");
    script.project.jobs.clear();
    let mut script = script.job("other", "jobs").deploy("v2");
    assert_eq!(
        (state(&script, "one", "web"), state(&script, "two", "jobs")),
        (ScheduleState::Off, active(2))
    );
    let plan = script.back(RollbackTarget::Previous).expect("a plan");
    script.happen(&plan);
    assert_eq!((state(&script, "one", "web"), state(&script, "two", "jobs")), (active(1), active(1)));

    script.seen("one").agent = ObservedAgent::Running { schedules: Vec::new() };
    let lost = script.back(RollbackTarget::Named("v1".to_owned()));
    assert!(
        matches!(lost, Err(RollbackError::AlreadyLive { .. } | RollbackError::NoJobs { .. })),
        "{lost:?}"
    );
    let mut other = crate::schedules::script().deploy("v1").deploy("v2");
    other.seen("one").agent = ObservedAgent::Absent;
    let lost = other.back(RollbackTarget::Previous).expect_err("the jobs are lost");
    assert_eq!(
        lost.to_string(),
        format!("the agent on host `one` no longer has the jobs of role `web` of release `{}`", id(1))
    );
}

#[test]
fn old_jobs_are_forgotten_with_their_releases_and_never_their_images_before() {
    let mut script = script();
    for version in 1..=9 {
        script = script.deploy(&format!("v{version}"));
    }
    let seen = script.observed.hosts[&host("one")].clone();
    let stored: Vec<_> = seen.agent.schedules()[0].releases.keys().cloned().collect();
    let mut releases: Vec<_> = seen.releases.iter().map(|release| release.id.clone()).collect();
    releases.reverse();
    assert_eq!(stored, releases);
    for image in seen.agent.schedules()[0].releases.values() {
        assert!(seen.images.iter().any(|present| present.reference.to_string() == *image), "{image}");
    }
    // Without any container the image of the jobs that run stays.
    script.seen("one").containers.clear();
    let what = Prune { containers: std::num::NonZeroU32::new(1), images: true };
    let text = render(&prune(&script.project, id(99), &script.observed, what));
    assert!(text.contains("remove image acme/app:v8"), "{text}");
    assert!(!text.contains("remove image acme/app:v9"), "{text}");
}

#[test]
fn jobs_pause_with_the_application_and_are_removed_with_it() {
    let mut script = script().deploy("v1");
    let plan = stop(&script.project, id(2), &script.observed);
    script.happen(&plan);
    assert_eq!(state(&script, "one", "web"), ScheduleState::Paused { release: id(1) });
    assert!(stop(&script.project, id(3), &script.observed).is_empty());
    let plan = start(&script.project, id(4), &script.observed).expect("a plan");
    script.happen(&plan);
    assert_eq!((state(&script, "one", "web"), state(&script, "two", "jobs")), (active(1), active(1)));
    let plan = remove(&script.project, id(5), &script.observed);
    assert_eq!(
        about_jobs(&plan),
        [
            "Retire one: remove the jobs of app-web [cannot be undone]",
            "Retire one: remove the agent if it is unused [cannot be undone]",
            "Retire two: remove the jobs of app-jobs [cannot be undone]",
            "Retire two: remove the agent if it is unused [cannot be undone]",
        ]
    );
    script.happen(&plan);
    assert!(script.observed.hosts.values().all(|seen| seen.agent.is_absent()));

    let mut stopped = crate::schedules::script().deploy("v1");
    stopped.seen("one").agent = ObservedAgent::Stopped;
    let lines = about_jobs(&remove(&stopped.project, id(6), &stopped.observed));
    assert!(lines.iter().any(|line| line.contains("one: remove the jobs of app-web")), "{lines:?}");
}
