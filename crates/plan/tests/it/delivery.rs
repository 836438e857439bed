use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use freehold_model::{
    AssetPath, Builder, Credential, ImageDigest, ImageKey, PlainSecret, ProjectImage, Registry,
    RegistryCredentials, RegistryPlace, RegistryServer, RemoteImage, Repository, Role, RoleImage, RoleName,
    RoleOrder, Scan, SecretName, Severity, Tls, Verification,
};
use freehold_plan::{
    Action, BuildPlaceName, ImageOrigin, ImagePlace, ImageSource, Plan, RollbackTarget, StageKind, Step, Undo,
};

use crate::fixture::Script;

fn with_registry(place: RegistryPlace) -> Script {
    Script::new(&["h1", "h2"]).with(|project| {
        let prefix = place.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        project.image = Repository::parse(format!("{prefix}acme/app")).expect("a repository");
        let secret = |text: &str| Credential::Plain(PlainSecret::new(text));
        let credentials =
            RegistryCredentials { username: secret("ann"), password: secret("marked-password") };
        project.registry = Some(Registry { place, credentials: Some(credentials), uses_docker_login: false });
    })
}

fn server() -> RegistryPlace {
    RegistryPlace::Server(RegistryServer::parse("registry.example.com").expect("a server"))
}

fn role<'a>(project: &'a mut freehold_model::Project, name: &str) -> &'a mut Role {
    project.roles.get_mut(&RoleName::parse(name).expect("a role")).expect("the role")
}

fn with_assets(script: Script, role_name: &str) -> Script {
    script.with(|project| {
        let assets = AssetPath { path: "/assets".to_owned(), options: Some("ro".to_owned()) };
        role(project, role_name).asset_path = Some(assets);
    })
}

fn titles(plan: &Plan, kind: StageKind) -> Vec<String> {
    let stages = plan.stages.iter().filter(|stage| stage.kind == kind);
    stages
        .flat_map(|stage| &stage.lanes)
        .flat_map(|lane| &lane.steps)
        .map(|step| format!("{}: {}", step.host, step.action))
        .collect()
}

fn bridges(plan: &Plan) -> Vec<&Step> {
    plan.steps().filter(|step| matches!(step.action, Action::BridgeAssets(_))).collect()
}

fn removed(plan: &Plan) -> Vec<String> {
    plan.steps()
        .filter_map(|step| match &step.action {
            Action::RemoveDirectories { directories } => Some(directories.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

#[test]
fn with_a_registry_every_host_pulls_what_was_pushed() {
    let script = with_registry(server());
    let plan = script.plan("1").expect("a plan");
    let image = "registry.example.com/acme/app:1";
    let build = titles(&plan, StageKind::Build);
    assert_eq!(
        build,
        [
            "h1: log in to registry.example.com".to_owned(),
            format!("h1: build {image}"),
            format!("h1: push {image}")
        ]
    );
    let origins: Vec<(&ImageOrigin, bool)> = plan
        .steps()
        .filter_map(|step| match &step.action {
            Action::PullImage { origin, service, .. } => Some((origin, service.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(origins, [(&ImageOrigin::Pushed(BuildPlaceName::Local), true); 2]);
    assert!(!plan.steps().any(|step| matches!(step.action, Action::DeliverImage { .. })));
    let latest = plan.steps().find_map(|step| match &step.action {
        Action::PushImage { latest, .. } => Some(latest.to_string()),
        _ => None,
    });
    assert_eq!(latest.as_deref(), Some("registry.example.com/acme/app:latest"));
    let json = serde_json::to_string(&plan).expect("JSON");
    assert!(!json.contains("marked-password"), "a plan never holds a password");
    assert_eq!(serde_json::from_str::<Plan>(&json).expect("a plan"), plan);
}

#[test]
fn images_are_checked_before_any_host_gets_them() {
    let trusting = |script: Script| {
        script.with(|project| {
            project.verification = Some(Verification {
                keys: vec![PathBuf::from("cosign.pub")],
                keyless: None,
                signatures: None,
            });
            project.scan = Some(Scan {
                command: "trivy".to_owned(),
                fail_on: Some(Severity::High),
                timeout: Scan::TIMEOUT,
            });
        })
    };
    let mut script = trusting(with_registry(server()));
    let plan = script.plan("1").expect("a plan");
    let image = "registry.example.com/acme/app:1";
    assert_eq!(
        titles(&plan, StageKind::Check),
        [format!("h1: verify the signature of {image}"), format!("h1: scan {image}")]
    );
    let place = |kind: StageKind| plan.stages.iter().position(|stage| stage.kind == kind);
    assert!(
        place(StageKind::Build) < place(StageKind::Check)
            && place(StageKind::Check) < place(StageKind::Prepare)
    );
    assert!(
        plan.steps()
            .filter(|step| matches!(step.action, Action::VerifyImage { .. }))
            .all(|step| step.undo == Undo::Nothing)
    );
    script.image = ImageSource::Built;
    let plan = script.plan("1").expect("a plan");
    let at = plan.steps().find_map(|step| match &step.action {
        Action::VerifyImage { at, .. } => Some(at.clone()),
        _ => None,
    });
    assert_eq!(at, Some(ImagePlace::Registry(ImageOrigin::Tag)));
    script = script.deploy("1");
    script.image = ImageSource::OnHosts;
    assert_eq!(titles(&script.plan("1").expect("a plan"), StageKind::Check), [""; 0]);
    let plan = trusting(Script::new(&["h1"])).plan("1").expect("a plan");
    let at = plan.steps().find_map(|step| match &step.action {
        Action::ScanImage { at, scan, .. } => Some((at.clone(), scan.fail_on.clone())),
        _ => None,
    });
    assert_eq!(at, Some((ImagePlace::Engine(BuildPlaceName::Local), Some("high".to_owned()))));
}

#[test]
fn the_latest_tag_that_is_pushed_has_the_destination_in_it() {
    let plan = with_registry(server()).destination("stg").plan("1").expect("a plan");
    let pushed = plan.steps().find_map(|step| match &step.action {
        Action::PushImage { latest, .. } => Some(latest.tag.to_string()),
        _ => None,
    });
    assert_eq!(pushed.as_deref(), Some("latest-stg"));
}

#[test]
fn without_a_build_the_tag_in_the_registry_is_pulled() {
    let mut script = with_registry(RegistryPlace::DockerHub);
    script.image = ImageSource::Built;
    let plan = script.plan("1").expect("a plan");
    assert_eq!(titles(&plan, StageKind::Build), [""; 0]);
    let origin = plan.steps().find_map(|step| match &step.action {
        Action::PullImage { origin, .. } => Some(origin),
        _ => None,
    });
    assert_eq!(origin, Some(&ImageOrigin::Tag));
}

#[test]
fn a_registry_on_the_build_machine_is_not_needed() {
    let plan = with_registry(RegistryPlace::Local { port: 5555 }).plan("1").expect("a plan");
    assert_eq!(titles(&plan, StageKind::Build), ["h1: build localhost:5555/acme/app:1"]);
    let prepare = titles(&plan, StageKind::Prepare);
    assert!(prepare.contains(&"h2: deliver localhost:5555/acme/app:1".to_owned()), "{prepare:?}");
}

#[test]
fn an_image_by_digest_is_pulled_and_not_built() {
    let digest = ImageDigest::parse(format!("sha256:{}", "a1".repeat(32))).expect("a digest");
    let script = Script::new(&["h1"]).with(|project| project.digest = Some(digest.clone()));
    let plan = script.plan("7").expect("a plan");
    assert_eq!(titles(&plan, StageKind::Build), [""; 0]);
    let pulled = plan.steps().find_map(|step| match &step.action {
        Action::PullImage { image, origin: ImageOrigin::Pinned(pinned), service } => {
            Some((image.to_string(), pinned.to_string(), service.clone()))
        }
        _ => None,
    });
    // Others made it: it has no label of the service.
    assert_eq!(pulled, Some(("acme/app:7".to_owned(), format!("acme/app@{digest}"), None)));
}

#[test]
fn several_images_are_built_side_by_side_and_each_goes_where_it_is_needed() {
    let pinned = RemoteImage::parse(&format!("redis@sha256:{}", "b2".repeat(32))).expect("an image");
    let script =
        Script::new(&["h1"]).role("jobs", &["h2"], false).role("cache", &["h3"], false).with(|project| {
            let key = ImageKey::parse("worker").expect("a key");
            let repository = Repository::parse("acme/worker").expect("a repository");
            project.images.insert(key.clone(), ProjectImage { repository, builder: Builder::default() });
            role(project, "jobs").image = Some(RoleImage::Built(key));
            role(project, "cache").image = Some(RoleImage::Pinned(pinned));
        });
    let script = script.deploy("1");
    let plan = script.plan("2").expect("a plan");
    let build = plan.stages.iter().find(|stage| stage.kind == StageKind::Build).expect("a stage");
    assert_eq!(build.lanes.len(), 2, "two builds at a time");
    let prepare = titles(&plan, StageKind::Prepare);
    let of = |host: &str| -> Vec<&str> {
        let prefix = format!("{host}: ");
        let steps = prepare.iter().filter_map(|title| title.strip_prefix(prefix.as_str()));
        steps.filter(|title| title.contains(":2")).collect()
    };
    assert_eq!(of("h1"), ["deliver acme/app:2"]);
    assert_eq!(of("h2"), ["deliver acme/worker:2"]);
    assert_eq!(of("h3"), ["pull redis:2"]);
    let started: BTreeMap<String, String> = plan
        .steps()
        .filter_map(|step| match &step.action {
            Action::StartContainer(request) => Some((request.name.to_string(), request.image.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(started["app-jobs-2"], "acme/worker:2");
    assert_eq!(started["app-cache-2"], "redis:2");
}

#[test]
fn assets_are_shared_with_the_release_that_serves_and_removed_when_the_deploy_fails() {
    let script = with_assets(Script::new(&["h1"]), "web");
    let first = script.plan("1").expect("a plan");
    let step = bridges(&first)[0];
    let Action::BridgeAssets(bridge) = &step.action else { panic!("{step:?}") };
    assert_eq!((bridge.new.as_str(), bridge.old.as_deref()), ("web-1", None));
    assert_eq!(bridge.directory, ".kamal/apps/app/assets");
    let made = ["extracted/.web-1.new", "extracted/web-1", "volumes/web-1"];
    let directories = made.map(|made| format!(".kamal/apps/app/assets/{made}"));
    assert_eq!(step.undo, Undo::RemoveDirectories { directories: directories.to_vec() });
    let volumes = first.steps().find_map(|step| match &step.action {
        Action::StartContainer(request) => Some(request.volumes.clone()),
        _ => None,
    });
    assert_eq!(volumes.expect("a container"), ["$PWD/.kamal/apps/app/assets/volumes/web-1:/assets:ro"]);

    let script = script.deploy("1");
    let second = script.plan("2").expect("a plan");
    let Action::BridgeAssets(bridge) = &bridges(&second)[0].action else { panic!() };
    assert_eq!(bridge.old.as_deref(), Some("web-1"));
    let again = script.plan("1").expect("a plan");
    let step = bridges(&again)[0];
    assert_eq!(step.undo, Undo::Nothing, "the container that serves has the folder mounted");
}

#[test]
fn assets_of_old_versions_go_with_their_containers_and_no_others() {
    let script = with_assets(Script::new(&["h1"]).role("web-x", &["h1"], true), "web");
    let script = with_assets(script, "web-x").with(|project| project.retain_containers = NonZeroU32::MIN);
    let script = script.deploy("1").deploy("2");
    let plan = script.plan("3").expect("a plan");
    let mut gone = removed(&plan);
    gone.sort();
    assert_eq!(
        gone,
        [
            ".kamal/apps/app/assets/extracted/web-1",
            ".kamal/apps/app/assets/extracted/web-x-1",
            ".kamal/apps/app/assets/volumes/web-1",
            ".kamal/apps/app/assets/volumes/web-x-1",
        ]
    );
}

#[test]
fn a_rollback_shares_the_assets_again() {
    let script = with_assets(Script::new(&["h1"]), "web").deploy("1").deploy("2");
    let plan = script.back(RollbackTarget::Previous).expect("a plan");
    let Action::BridgeAssets(bridge) = &bridges(&plan)[0].action else { panic!() };
    assert_eq!((bridge.new.as_str(), bridge.old.as_deref()), ("web-1", Some("web-2")));
    assert_eq!(bridge.image.to_string(), "acme/app:1");
}

#[test]
fn error_pages_stay_as_long_as_their_release() {
    let mut script = Script::new(&["h1"])
        .with(|project| project.error_pages = Some(PathBuf::from("public")))
        .with(|project| project.retain_containers = NonZeroU32::MIN);
    script.error_pages = BTreeMap::from([("502.html".to_owned(), "<p>down</p>".to_owned())]);
    let first = script.plan("1").expect("a plan");
    let written = first.steps().find(|step| matches!(step.action, Action::WriteErrorPages { .. }));
    let directory = ".kamal/proxy/apps-config/app/error_pages/1".to_owned();
    assert_eq!(
        written.expect("a step").undo,
        Undo::RemoveDirectories { directories: vec![directory.clone()] }
    );
    let files = |plan: &Plan| {
        plan.steps().find_map(|step| match &step.action {
            Action::SwitchTarget { files, .. } => Some(files.error_pages.clone()),
            _ => None,
        })
    };
    let inside = "/home/kamal-proxy/.apps-config/app/error_pages/";
    assert_eq!(files(&first), Some(Some(format!("{inside}1"))));
    let script = script.deploy("1").deploy("2");
    let back = script.back(RollbackTarget::Previous).expect("a plan");
    assert_eq!(files(&back), Some(Some(format!("{inside}1"))), "the earlier release brings its own");
    assert_eq!(removed(&script.plan("3").expect("a plan")), [directory]);
}

#[test]
fn a_certificate_is_named_by_its_secrets_and_put_back() {
    let name = |text: &str| SecretName::parse(text).expect("a secret");
    let script = Script::new(&["h1"]).with(|project| {
        let proxy = role(project, "web").proxy.as_mut().expect("a proxy");
        proxy.tls = Tls::Custom { certificate: name("CERT"), private_key: name("KEY") };
    });
    let plan = script.plan("1").expect("a plan");
    let directory = ".kamal/proxy/apps-config/app/tls/web".to_owned();
    let step =
        plan.steps().find(|step| matches!(step.action, Action::WriteCertificate { .. })).expect("a step");
    assert_eq!(step.undo, Undo::RestoreCertificate { directory: directory.clone() });
    assert_eq!(removed(&plan), [format!("{directory}/before")], "what was kept for the way back goes");
    let files = plan.steps().find_map(|step| match &step.action {
        Action::SwitchTarget { files, .. } => files.certificate.clone(),
        _ => None,
    });
    assert_eq!(files.as_deref(), Some("/home/kamal-proxy/.apps-config/app/tls/web"));
}

#[test]
fn who_may_come_is_named_by_a_secret_and_put_back() {
    let script = Script::new(&["h1"]).with(|project| {
        let proxy = role(project, "web").proxy.as_mut().expect("a proxy");
        proxy.basic_auth = Some(SecretName::parse("USERS").expect("a secret"));
    });
    let plan = script.plan("1").expect("a plan");
    let directory = ".kamal/proxy/apps-config/app/users/web".to_owned();
    let step = plan.steps().find(|step| matches!(step.action, Action::WriteUsers { .. })).expect("a step");
    assert_eq!(step.undo, Undo::RestoreUsers { directory: directory.clone() });
    assert_eq!(removed(&plan), [format!("{directory}/before")], "what was kept for the way back goes");
    let files = plan.steps().find_map(|step| match &step.action {
        Action::SwitchTarget { files, .. } => files.users.clone(),
        _ => None,
    });
    assert_eq!(files.as_deref(), Some("/home/kamal-proxy/.apps-config/app/users/web"));
}

#[test]
fn a_release_command_runs_once_before_anything_boots() {
    let script = Script::new(&["h1", "h2"]).role("jobs", &["h2"], false).with(|project| {
        for name in ["jobs", "web"] {
            role(project, name).release_command = Some(vec!["bin/migrate".to_owned()]);
        }
        role(project, "web").options.publish = vec!["80:80".to_owned()];
    });
    let plan = script.plan("1").expect("a plan");
    assert_eq!(
        titles(&plan, StageKind::Release),
        ["h1: run the release command of web", "h2: run the release command of jobs"]
    );
    let kinds: Vec<StageKind> = plan.stages.iter().map(|stage| stage.kind).collect();
    let place = |kind| kinds.iter().position(|known| *known == kind).expect("a stage");
    assert!(place(StageKind::Prepare) < place(StageKind::Release));
    assert!(place(StageKind::Release) < place(StageKind::Boot));
    for step in plan.steps() {
        let Action::RunReleaseCommand(command) = &step.action else { continue };
        assert_eq!(command.container.command.as_deref(), Some(&["bin/migrate".to_owned()][..]));
        assert_eq!(command.container.labels.get("service"), None, "it is no container of the service");
        assert_eq!(command.container.options.publish, [""; 0]);
        let name = command.container.name.clone();
        assert_eq!(step.undo, Undo::RemoveContainer { container: name.clone() });
        let is_removal = |step: &&Step| matches!(&step.action, Action::RemoveContainer { container } if *container == name);
        assert_eq!(plan.steps().filter(is_removal).count(), 1, "{name}");
    }
}

#[test]
fn replicas_start_switch_stop_and_come_back_together() {
    let script = Script::new(&["h1"]).with(|project| {
        role(project, "web").replicas = NonZeroU32::new(3).expect("a number");
        project.retain_containers = NonZeroU32::new(2).expect("a number");
    });
    let script = script.deploy("1").deploy("2");
    let switched = |plan: &Plan| {
        plan.steps().find_map(|step| match &step.action {
            Action::SwitchTarget { containers, .. } => {
                Some(containers.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            _ => None,
        })
    };
    let plan = script.plan("3").expect("a plan");
    assert_eq!(
        switched(&plan).expect("a step"),
        ["app-web-3", "app-web-3_replica_2", "app-web-3_replica_3"],
        "the first has Kamal's name"
    );
    let stopped: Vec<String> = titles(&plan, StageKind::Retire)
        .into_iter()
        .filter(|title| title.contains("drain and stop"))
        .collect();
    assert_eq!(stopped.len(), 3, "{stopped:?}");
    let script = script.deploy("3");
    let gone = titles(&script.plan("4").expect("a plan"), StageKind::Retire);
    let gone: Vec<&String> = gone.iter().filter(|title| title.contains("remove container")).collect();
    assert_eq!(gone.len(), 3, "all of version 1: {gone:?}");
    let back = script.back(RollbackTarget::Previous).expect("a plan");
    assert_eq!(switched(&back).expect("a step"), ["app-web-2", "app-web-2_replica_2", "app-web-2_replica_3"]);
}

#[test]
fn roles_boot_side_by_side_where_the_file_says_so() {
    let script = || Script::new(&["h1"]).role("jobs", &["h1"], false).role("mail", &["h1"], false);
    let lanes = |plan: &Plan| -> Vec<usize> {
        plan.stages
            .iter()
            .filter(|stage| stage.kind == StageKind::Boot)
            .map(|stage| stage.lanes.len())
            .collect()
    };
    assert_eq!(lanes(&script().plan("1").expect("a plan")), [1, 1]);
    let parallel = script().with(|project| project.boot.order = RoleOrder::Parallel);
    assert_eq!(lanes(&parallel.plan("1").expect("a plan")), [1, 2], "after the primary role is healthy");
}
