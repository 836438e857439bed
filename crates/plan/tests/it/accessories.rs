use std::collections::BTreeMap;

use freehold_model::{
    Accessory, AccessoryFile, AccessoryName, ContainerName, ContainerOptions, Environment, FileContent,
    FileMode, HostName, Logging, ProxySettings, RemoteImage, SecretName,
};
use freehold_plan::{
    AccessoryError, AccessoryRequest, AccessoryVerb, Action, ContainerState, ObservedAccessories,
    ObservedAccessory, OnFailure, Plan, ProxyMaker, accessory, accessory_configuration,
};

use crate::fixture::{Script, host, id, render};

fn database() -> Accessory {
    Accessory {
        name: AccessoryName::parse("db").expect("a name"),
        container: ContainerName::parse("app-db").expect("a name"),
        image: RemoteImage::parse("postgres:16").expect("an image"),
        hosts: vec![host("one"), host("two")],
        publish: Some("127.0.0.1:5432:5432".to_owned()),
        command: None,
        environment: Environment::default(),
        files: vec![AccessoryFile {
            local: "config/my.cnf".to_owned(),
            content: FileContent::Verbatim,
            remote: "/etc/my.cnf".to_owned(),
            options: None,
            mode: FileMode::DEFAULT,
            owner: None,
        }],
        directories: Vec::new(),
        volumes: vec!["data:/var/lib/postgresql/data".to_owned()],
        labels: BTreeMap::new(),
        options: ContainerOptions::default(),
        logging: Logging::default(),
        network: "kamal".to_owned(),
        proxy: None,
    }
}

fn seen(on: &[(&str, ContainerState)]) -> ObservedAccessories {
    let db = database();
    let one = |state| ObservedAccessory {
        id: "0".repeat(64),
        name: db.container.clone(),
        image: "postgres:15".to_owned(),
        state,
        configuration: None,
        route: None,
    };
    on.iter().map(|(name, state)| (host(name), BTreeMap::from([(db.name.clone(), one(*state))]))).collect()
}

fn plan(verb: AccessoryVerb, seen: &ObservedAccessories) -> Result<Plan, AccessoryError> {
    plan_for(verb, (&database(), BTreeMap::new()), seen)
}

fn plan_for(
    verb: AccessoryVerb,
    (db, proxies): (&Accessory, BTreeMap<HostName, ProxyMaker>),
    seen: &ObservedAccessories,
) -> Result<Plan, AccessoryError> {
    let script = Script::new(&["one"]);
    let request = AccessoryRequest {
        project: &script.project,
        accessories: vec![(db, db.hosts.clone())],
        verb,
        id: id(1),
        random: [7; 16],
        proxies,
        files: &BTreeMap::from([("app-db/etc/my.cnf".to_owned(), "f1".to_owned())]),
    };
    accessory(&request, seen)
}

#[test]
fn what_only_our_proxy_does_is_not_asked_of_a_kamal_proxy() {
    let mut admin = database();
    let users = SecretName::parse("ADMINS").expect("a name");
    admin.proxy = Some(ProxySettings { basic_auth: Some(users), ..ProxySettings::default() });
    let seen = seen(&[("one", ContainerState::Running)]);
    let plan = |maker, verb| plan_for(verb, (&admin, BTreeMap::from([(host("one"), maker)])), &seen);
    let refused = plan(ProxyMaker::Kamal, AccessoryVerb::Boot);
    assert!(matches!(refused, Err(AccessoryError::OwnProxyOnly { key: "basic_auth", .. })), "{refused:?}");
    assert!(plan(ProxyMaker::Kamal, AccessoryVerb::Remove).is_ok());
    assert!(plan(ProxyMaker::Freehold, AccessoryVerb::Boot).is_ok());
}

#[test]
fn booting_leaves_what_runs_and_starts_what_was_stopped() {
    let fresh = plan(AccessoryVerb::Boot, &seen(&[("one", ContainerState::Running)])).expect("a plan");
    insta::assert_snapshot!("accessory_boot", render(&fresh));
    let stopped = plan(AccessoryVerb::Boot, &seen(&[("two", ContainerState::Exited)])).expect("a plan");
    assert!(stopped.steps().any(|step| matches!(step.action, Action::StartAgain { .. })));
}

#[test]
fn a_replacement_can_be_put_back_until_the_new_one_is_healthy() {
    let both = seen(&[("one", ContainerState::Running), ("two", ContainerState::Exited)]);
    let plan = plan(AccessoryVerb::Reboot, &both).expect("a plan");
    insta::assert_snapshot!("accessory_reboot", render(&plan));
    let late = plan.stages.iter().filter(|stage| stage.on_failure == OnFailure::GoOn);
    let actions: Vec<_> = late.flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.steps).collect();
    assert!(
        actions.iter().all(|step| matches!(step.action, Action::RemoveContainer { .. })),
        "only the removal of the old container has no way back"
    );
}

#[test]
fn stopping_and_starting_need_a_container() {
    let one = seen(&[("one", ContainerState::Running)]);
    for verb in [AccessoryVerb::Stop, AccessoryVerb::Start, AccessoryVerb::Restart] {
        let error = plan(verb, &one).expect_err("host two has none");
        assert_eq!(error, AccessoryError::NoContainer { host: host("two"), name: database().name });
    }
    let both = seen(&[("one", ContainerState::Running), ("two", ContainerState::Running)]);
    insta::assert_snapshot!(
        "accessory_restart",
        render(&plan(AccessoryVerb::Restart, &both).expect("a plan"))
    );
}

#[test]
fn removing_takes_everything_but_named_volumes() {
    let one = seen(&[("one", ContainerState::Running)]);
    insta::assert_snapshot!("accessory_remove", render(&plan(AccessoryVerb::Remove, &one).expect("a plan")));
}

#[test]
fn the_configuration_changes_with_what_the_container_is_made_from_and_not_with_its_hosts() {
    let before = accessory_configuration(&database());
    let moved = Accessory { hosts: vec![host("three")], ..database() };
    assert_eq!(accessory_configuration(&moved), before);
    let newer = Accessory { image: RemoteImage::parse("postgres:17").expect("an image"), ..database() };
    assert_ne!(accessory_configuration(&newer), before);
}

/// Returns the lines of the hosts file and the variables that the container of a plan gets.
fn introduced(plan: &Plan, container: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let steps = plan.steps();
    let request = steps.filter_map(|step| match &step.action {
        Action::StartContainer(request) if request.name.as_str() == container => Some(request),
        _ => None,
    });
    let request = request.last().expect("the container is started");
    let clear = request.environment.clear.iter();
    let ours = clear.filter(|(name, _)| name.as_str().starts_with("FREEHOLD_"));
    let variables = ours.map(|(name, value)| (name.to_string(), value.clone())).collect();
    (request.options.add_host.clone(), variables)
}

#[test]
fn accessories_on_other_hosts_are_known_by_name_and_by_a_variable() {
    let mut db = database();
    db.hosts = vec![host("10.0.0.11"), host("db-2")];
    db.publish = Some("5432:5432".to_owned());
    let mut inner = database();
    inner.name = AccessoryName::parse("cache").expect("a name");
    inner.container = ContainerName::parse("app-cache").expect("a name");
    let known = |script: Script| {
        script.with(|project| {
            project.accessories = [&db, &inner].map(|one| (one.name.clone(), one.clone())).into();
        })
    };
    // What a host publishes on its loopback address alone, no other host reaches; what runs here, the engine knows.
    let script = known(Script::new(&["one", "10.0.0.11"]));
    let plan = script.plan("1").expect("a plan");
    let addresses = BTreeMap::from([("FREEHOLD_DB_HOSTS".to_owned(), "10.0.0.11".to_owned())]);
    let text = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(text.matches("app-db:10.0.0.11").count(), 1, "on the host without the accessory only");
    assert!(!text.contains("app-cache:") && !text.contains("FREEHOLD_CACHE"), "{text}");
    let script = known(Script::new(&["one"]));
    let seen = introduced(&script.plan("1").expect("a plan"), "app-web-1");
    assert_eq!(seen, (vec!["app-db:10.0.0.11".to_owned()], addresses));

    // The file's addresses count for names, and before names that are addresses.
    let script = script.with(|project| {
        let addresses = [("db-2", "fd00::2"), ("10.0.0.11", "10.9.0.11")];
        project.addresses = addresses.map(|(name, ip)| (host(name), ip.parse().expect("an address"))).into();
    });
    let (lines, variables) = introduced(&script.plan("1").expect("a plan"), "app-web-1");
    assert_eq!(lines, ["app-db:10.9.0.11"]);
    assert_eq!(variables["FREEHOLD_DB_HOSTS"], "10.9.0.11,fd00::2");

    // What the person wrote goes first.
    let script = script.with(|project| {
        let role = project.roles.values_mut().next().expect("a role");
        role.options.add_host = vec!["app-db:192.0.2.1".to_owned()];
        let name = freehold_model::EnvName::parse("FREEHOLD_DB_HOSTS").expect("a variable");
        role.hosts[0].environment.clear.insert(name, "mine".to_owned());
    });
    let (lines, variables) = introduced(&script.plan("1").expect("a plan"), "app-web-1");
    assert_eq!(
        (lines, variables["FREEHOLD_DB_HOSTS"].as_str()),
        (vec!["app-db:192.0.2.1".to_owned()], "mine")
    );
}

#[test]
fn what_is_published_at_one_address_is_found_there() {
    let mut db = database();
    db.hosts = vec![host("203.0.113.5")];
    let mut lines_of = |publish: &str, said: Option<&str>| {
        db.publish = Some(publish.to_owned());
        let script = Script::new(&["one"]).with(|project| {
            project.accessories = [(db.name.clone(), db.clone())].into();
            let said = said.map(|ip| (host("203.0.113.5"), ip.parse().expect("an address")));
            project.addresses = said.into_iter().collect();
        });
        introduced(&script.plan("1").expect("a plan"), "app-web-1").0
    };
    assert_eq!(lines_of("10.0.0.2:5432:5432", None), ["app-db:10.0.0.2"]);
    assert_eq!(lines_of("10.0.0.2:5432:5432", Some("10.0.0.9")), ["app-db:10.0.0.9"]);
    assert_eq!(lines_of("0.0.0.0:5432:5432", None), ["app-db:203.0.113.5"]);
    assert_eq!(lines_of("5432:5432", None), ["app-db:203.0.113.5"]);
}

#[test]
fn roles_on_other_hosts_are_known_the_same_way() {
    let script = Script::new(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]).with(|project| {
        let web = project.roles.values_mut().next().expect("a role");
        web.hosts.truncate(1);
        let mut search = web.clone();
        search.name = freehold_model::RoleName::parse("full-text").expect("a name");
        search.hosts = ["10.0.0.2", "10.0.0.3"]
            .map(|name| freehold_model::RoleHost { name: host(name), environment: Environment::default() })
            .to_vec();
        search.proxy = None;
        search.options.publish = vec!["9200:9200".to_owned()];
        let mut jobs = search.clone();
        jobs.name = freehold_model::RoleName::parse("jobs").expect("a name");
        jobs.options.publish = vec!["127.0.0.1:9:9".to_owned()];
        project.roles.insert(search.name.clone(), search);
        project.roles.insert(jobs.name.clone(), jobs);
    });
    let plan = script.plan("1").expect("a plan");
    let addresses = BTreeMap::from([("FREEHOLD_FULL_TEXT_HOSTS".to_owned(), "10.0.0.2,10.0.0.3".to_owned())]);
    assert_eq!(introduced(&plan, "app-web-1"), (vec!["app-full-text:10.0.0.2".to_owned()], addresses));
    let own = introduced(&plan, "app-full-text-1");
    assert_eq!(own, (Vec::new(), BTreeMap::new()), "web publishes nothing, jobs to its own host alone");
    assert_eq!(introduced(&plan, "app-jobs-1"), (Vec::new(), BTreeMap::new()), "the role runs here, too");

    // An accessory of the same name goes first.
    let mut db = database();
    (db.name, db.container) = (
        AccessoryName::parse("full-text").expect("a name"),
        ContainerName::parse("app-full-text").expect("a name"),
    );
    (db.hosts, db.publish) = (vec![host("10.0.0.11")], Some("5432:5432".to_owned()));
    let script = script.with(|project| {
        project.accessories = [(db.name.clone(), db.clone())].into();
    });
    let (lines, variables) = introduced(&script.plan("1").expect("a plan"), "app-web-1");
    assert_eq!(lines, ["app-full-text:10.0.0.11"]);
    assert_eq!(variables["FREEHOLD_FULL_TEXT_HOSTS"], "10.0.0.11");
}

#[test]
fn accessories_know_each_other_unless_they_share_the_network_of_a_container() {
    let mut db = database();
    db.hosts = vec![host("10.0.0.11")];
    db.publish = Some("5432:5432".to_owned());
    let mut search = database();
    search.name = AccessoryName::parse("search").expect("a name");
    search.container = ContainerName::parse("app-search").expect("a name");
    let plan = |search: &Accessory| {
        let script = Script::new(&["one"]).with(|project| {
            project.accessories = [&db, search].map(|one| (one.name.clone(), one.clone())).into();
        });
        let request = AccessoryRequest {
            project: &script.project,
            accessories: vec![(search, vec![host("one")])],
            verb: AccessoryVerb::Boot,
            id: id(1),
            random: [7; 16],
            proxies: BTreeMap::new(),
            files: &BTreeMap::new(),
        };
        introduced(&accessory(&request, &BTreeMap::new()).expect("a plan"), "app-search").0
    };
    assert_eq!(plan(&search), ["app-db:10.0.0.11"]);
    search.network = "container:other".to_owned();
    assert_eq!(plan(&search), [""; 0]);
}
