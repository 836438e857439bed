use std::num::NonZeroU32;
use std::time::Duration;

use freehold_model::{
    Architecture, BootLimit, CertificateAuthority, Compression, Diagnose, ErrorKind, ProxyRun,
    ProxyServiceName, TargetProtocol, Tls,
};
use freehold_plan::{
    Action, Holder, ImageSource, Namesakes, ObservedProxy, ProxyMaker, Readiness, RolloutError,
};

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

/// A host that serves `production` of the application, seen by a project of another destination or role.
fn renamed(mut script: Script, holder: &str) -> Script {
    let serving = Script::new(&["one", "two"]).role("jobs", &["two"], false).deploy("v1");
    script.observed = serving.observed;
    let service =
        script.project.roles.values().find(|role| role.proxy.is_some()).unwrap().proxy_service.clone();
    for name in ["one", "two"] {
        let seen = script.seen(name);
        let ObservedProxy::Running { routes, .. } = &mut seen.proxy else { panic!("no proxy") };
        // The observation knows the routes of the project's own services only.
        let route = std::mem::take(routes).into_values().next().unwrap().route;
        let holder = Holder { service: ProxyServiceName::parse(holder).unwrap(), route };
        seen.holders.insert(service.clone(), holder);
    }
    script
}

/// kamal-compat §17 row 11
#[test]
fn a_change_of_destination_is_refused_until_the_former_one_is_to_give_way() {
    let script = || Script::new(&["one", "two"]).role("jobs", &["two"], false).destination("production");
    let mut script = renamed(script(), "app-web");
    let error = script.plan("v2").unwrap_err();
    assert!(matches!(error, RolloutError::Namesake { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.help()[0].contains("--take-over"), "{:?}", error.help());
    script.namesakes = Namesakes::GiveWay;
    insta::assert_snapshot!(render(&script.plan("v2").unwrap()));
    let stays = script.deploy("v2");
    let text = render(&stays.plan("v3").unwrap());
    assert!(!text.contains("in place of") && !text.contains(" app-web-v1"), "{text}");
}

/// kamal-compat §17 row 11
#[test]
fn a_role_that_is_called_otherwise_takes_the_place_of_the_former_one() {
    let mut script = Script::new(&[]).role("app", &["one", "two"], true);
    script.project.roles.retain(|name, _| name.as_str() == "app");
    let mut script = renamed(script, "app-web");
    script.namesakes = Namesakes::GiveWay;
    let text = render(&script.plan("v2").unwrap());
    assert!(text.contains("send requests of app-app to app-app-v2 in place of app-web"), "{text}");
    assert!(text.contains("drain and stop app-web-v1") && !text.contains("app-jobs-v1"), "{text}");
}

#[test]
fn another_application_and_a_kamal_proxy_never_give_way() {
    let mut script = renamed(Script::new(&["one", "two"]).destination("production"), "shop-web");
    script.namesakes = Namesakes::GiveWay;
    let error = script.plan("v2").unwrap_err();
    assert!(matches!(error, RolloutError::Taken { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let mut script = renamed(Script::new(&["one", "two"]).destination("production"), "app-web");
    script.namesakes = Namesakes::GiveWay;
    let ObservedProxy::Running { maker, .. } = &mut script.seen("one").proxy else { panic!("no proxy") };
    *maker = ProxyMaker::Kamal;
    let error = script.plan("v2").unwrap_err();
    assert!(matches!(error, RolloutError::KamalCannot { .. }), "{error}");
    assert!(error.help()[0].contains("freehold adopt"), "{:?}", error.help());
}

#[test]
fn a_kamal_proxy_is_not_asked_for_what_it_cannot_do() {
    let limited = |project: &mut freehold_model::Project| {
        for role in project.roles.values_mut() {
            let blocked = vec![freehold_model::Network::parse("192.0.2.7").unwrap()];
            let traffic = freehold_model::Traffic { block: blocked, ..freehold_model::Traffic::default() };
            role.proxy.as_mut().unwrap().traffic = traffic.if_any();
        }
    };
    let mut script = Script::new(&["one"]).deploy("v1").with(limited);
    script.plan("v2").unwrap();
    let ObservedProxy::Running { maker, .. } = &mut script.seen("one").proxy else { panic!("no proxy") };
    *maker = ProxyMaker::Kamal;
    let error = script.plan("v2").unwrap_err();
    assert!(matches!(error, RolloutError::OwnProxyOnly { .. }), "{error}");
    assert!(error.help()[0].contains("freehold adopt"), "{:?}", error.help());
}

#[test]
fn https_needs_a_port_of_the_host_unless_none_is_wanted() {
    let encrypted = |project: &mut freehold_model::Project| {
        for role in project.roles.values_mut() {
            role.proxy.as_mut().unwrap().tls = Tls::Automatic(CertificateAuthority::default());
        }
    };
    let with_ports = |ports: Option<&[u16]>, change: fn(&mut ProxyRun)| {
        let mut script = Script::new(&["one"]).with(encrypted);
        let mut run = ProxyRun::default();
        change(&mut run);
        let seen = script.seen("one");
        seen.proxy_ports = ports.map(|ports| ports.iter().copied().collect());
        seen.proxy_boot = Some(run);
        script.plan("v1")
    };
    let error = with_ports(Some(&[80]), |_| {}).unwrap_err();
    assert!(matches!(error, RolloutError::Closed { .. }), "{error}");
    assert!(error.help()[0].contains("freehold proxy reboot -h one"), "{:?}", error.help());
    let by_option = |run: &mut ProxyRun| {
        run.publish = false;
        run.options.publish = vec!["80".to_owned(), "127.0.0.1:8443:443/tcp".to_owned()];
    };
    assert!(with_ports(Some(&[80]), by_option).is_err());
    with_ports(Some(&[80, 443]), |_| {}).unwrap();
    with_ports(None, |_| {}).unwrap();
    with_ports(Some(&[]), |run| run.publish = false).unwrap();
}

/// kamal-compat §13.11 row 1
#[test]
fn images_without_a_name_go_once_no_container_is_made_of_them() {
    let mut script = Script::new(&["one"]).deploy("v1").deploy("v2");
    assert!(!render(&script.plan("v3").unwrap()).contains("that have no name"));
    let used = script.seen("one").containers[0].image_id.clone();
    script.seen("one").unnamed_images = vec![used];
    assert!(!render(&script.plan("v3").unwrap()).contains("that have no name"));
    script.seen("one").unnamed_images.push("sha256:older".to_owned());
    assert!(render(&script.plan("v3").unwrap()).contains("remove the images of app that have no name"));
}

#[test]
fn a_kamal_proxy_is_not_asked_for_what_only_freeholds_has() {
    type Change = fn(&mut freehold_model::ProxySettings);
    let changes: [(&str, Change); 2] = [
        ("target_protocol", |proxy| proxy.target_protocol = TargetProtocol::H2c),
        ("compress", |proxy| proxy.compression = vec![Compression::Gzip]),
    ];
    for (key, change) in changes {
        let mut script = Script::new(&["one"]).with(|project| {
            project.roles.values_mut().for_each(|role| change(role.proxy.as_mut().unwrap()));
        });
        script = script.deploy("v1");
        script.plan("v2").unwrap();
        let ObservedProxy::Running { maker, .. } = &mut script.seen("one").proxy else { panic!("no proxy") };
        *maker = ProxyMaker::Kamal;
        let error = script.plan("v2").unwrap_err();
        assert!(error.to_string().contains(key) && error.help()[0].contains("freehold adopt"), "{error}");
    }
}
