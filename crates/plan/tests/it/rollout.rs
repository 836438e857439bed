use std::num::NonZeroU32;
use std::time::Duration;

use freehold_model::{Architecture, BootLimit, Diagnose, ErrorKind};
use freehold_plan::{Action, ImageSource, ObservedProxy, ProxyMaker, Readiness, RolloutError};

use crate::fixture::{Script, host, render};

#[test]
fn first_deploy() {
    insta::assert_snapshot!(render(&Script::new(&["one"]).plan("v1").expect("a plan")));
}

#[test]
fn second_deploy() {
    insta::assert_snapshot!(render(&Script::new(&["one"]).deploy("v1").plan("v2").expect("a plan")));
}

#[test]
fn the_same_version_again() {
    insta::assert_snapshot!(render(&Script::new(&["one"]).deploy("v1").plan("v1").expect("a plan")));
}

#[test]
fn two_roles_on_shared_hosts_boot_the_primary_one_first() {
    let script = Script::new(&["one", "two"]).role("jobs", &["two", "three"], false);
    insta::assert_snapshot!(render(&script.deploy("v1").plan("v2").expect("a plan")));
}

#[test]
fn three_hosts() {
    let script = Script::new(&["one", "two", "three"]);
    insta::assert_snapshot!(render(&script.deploy("v1").plan("v2").expect("a plan")));
}

/// kamal-compat §18 row 8; kamal-compat §9 boot rows 1, 2
#[test]
fn batches_with_a_pause() {
    let script = Script::new(&["one", "two", "three"]).with(|project| {
        project.boot.limit = NonZeroU32::new(2).map(BootLimit::Hosts);
        project.boot.wait = Duration::from_secs(10);
    });
    insta::assert_snapshot!(render(&script.deploy("v1").plan("v2").expect("a plan")));
}

/// kamal-compat §18 row 8
#[test]
fn a_share_of_the_hosts_is_at_least_one() {
    let script = Script::new(&["one", "two", "three"])
        .with(|project| project.boot.limit = Some(BootLimit::Percent(10)));
    let plan = script.plan("v1").expect("a plan");
    let commits = plan.stages.iter().filter(|stage| stage.kind == freehold_plan::StageKind::Commit);
    assert_eq!(commits.map(|stage| stage.lanes.len()).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_destination_is_in_every_name() {
    let script = Script::new(&["one"]).destination("staging");
    insta::assert_snapshot!(render(&script.deploy("v1").plan("v2").expect("a plan")));
}

/// kamal-compat §18 row 7
#[test]
fn another_destination_on_the_same_host_is_left_alone() {
    let production = Script::new(&["one"]).deploy("v1").deploy("v2");
    let mut staging = Script::new(&["one"]).destination("staging");
    staging.observed = production.observed;
    let plan = staging.plan("v9").expect("a plan");
    let text = render(&plan);
    assert!(!text.contains("app-web-v1") && !text.contains("app-web-v2"), "{text}");
}

/// kamal-compat §18 row 14
#[test]
fn an_image_that_every_host_has_is_neither_built_nor_sent() {
    let mut script = Script::new(&["one"]).deploy("v1").deploy("v2");
    script.image = ImageSource::OnHosts;
    let text = render(&script.plan("v1").expect("a plan"));
    assert!(!text.contains("build") && !text.contains("deliver"), "{text}");
    let error = script.plan("v7").expect_err("no host has it");
    assert!(matches!(error, RolloutError::NoImage { .. }));
}

#[test]
fn a_host_of_another_architecture_is_refused() {
    let script =
        Script::new(&["one"]).with(|project| project.builder.architectures = vec![Architecture::Arm64]);
    let error = script.plan("v1").expect_err("another architecture");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    insta::assert_snapshot!(format!("{error}\n{}", error.help().join("\n")), @r"
    host `one` is amd64, but the image is built for arm64
    set `builder: arch: amd64` in the deploy file, or remove `arch` to follow the hosts
    ");
}

fn kamal_proxy(version: &str) -> ObservedProxy {
    ObservedProxy::Running {
        image: format!("basecamp/kamal-proxy:{version}"),
        maker: ProxyMaker::Kamal,
        is_outdated: false,
        routes: std::collections::BTreeMap::new(),
    }
}

/// kamal-compat §17 row 3: a kamal-proxy that runs stays and is spoken to as Kamal does; the plan says so.
#[test]
fn a_running_kamal_proxy_is_deployed_through() {
    let mut script = Script::new(&["one", "two"]);
    script.seen("two").proxy = kamal_proxy("v0.9.2");
    let plan = script.plan("v1").expect("a plan");
    let makers: Vec<(String, ProxyMaker)> = plan
        .steps()
        .filter_map(|step| match &step.action {
            Action::SwitchTarget { proxy, .. } => Some((step.host.to_string(), *proxy)),
            _ => None,
        })
        .collect();
    assert_eq!(makers, [("one".to_owned(), ProxyMaker::Freehold), ("two".to_owned(), ProxyMaker::Kamal)]);
    for step in plan.steps().filter(|step| step.host == host("two")) {
        match &step.action {
            Action::AwaitHealthy { readiness: Readiness::Answers { proxy, .. }, .. } => {
                assert_eq!(*proxy, ProxyMaker::Kamal);
            }
            Action::Soak { containers, .. } => {
                assert!(containers.iter().all(|(_, service)| service.is_none()))
            }
            Action::StopContainer { drain, .. } => assert_eq!(*drain, None),
            Action::SwitchTarget { health_limit, .. } => {
                assert_eq!(*health_limit, script.project.timeouts.deploy);
            }
            _ => {}
        }
    }
}

/// kamal-compat §7.1 row 11
#[test]
fn a_kamal_proxy_that_is_too_old_is_refused_where_one_is_needed() {
    let mut script = Script::new(&["one"]).role("jobs", &["two"], false);
    script.seen("two").proxy = kamal_proxy("v0.8.7");
    script.plan("v1").expect("host two needs no proxy");
    script.seen("one").proxy = kamal_proxy("v0.9.1");
    let error = script.plan("v1").expect_err("host one does");
    assert!(matches!(&error, RolloutError::OldProxy { host: at, .. } if *at == host("one")), "{error}");
}

#[test]
fn secrets_are_named_and_never_shown() {
    let plan = Script::new(&["one"]).plan("v1").expect("a plan");
    let request = plan
        .steps()
        .find_map(|step| match &step.action {
            Action::StartContainer(request) => Some(request.clone()),
            _ => None,
        })
        .expect("a container");
    let variables: Vec<&str> = request.environment.clear.keys().map(|name| name.as_str()).collect();
    assert_eq!(variables, ["KAMAL_CONTAINER_NAME", "KAMAL_HOST", "KAMAL_VERSION"]);
    assert_eq!(request.environment.secret.len(), 1);
    assert_eq!(request.labels["service"], "app");
    assert_eq!(request.labels["destination"], "");
}
