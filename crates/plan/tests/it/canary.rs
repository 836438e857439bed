use std::collections::BTreeMap;

use freehold_model::{Author, Canary, Diagnose, SecretFingerprint, SecretName, Tag};
use freehold_plan::{
    Action, CanaryError, CanaryPromotion, ContainerState, ObservedProxy, ObservedSide, ObservedVerdict, Plan,
    RollbackError, RollbackTarget, RolloutError, Undo, VerdictState, canary_abort, canary_promote,
    canary_start, remove, stale_containers, start, stop,
};

use crate::fixture::{Script, id, render};

impl Script {
    fn try_plan(&self, version: &str) -> Result<Plan, CanaryError> {
        let request = self.request(version);
        let canary = Canary { percent: 25, ..Canary::default() };
        canary_start(&request, &canary, &self.observed)
    }

    /// Starts a canary and lets it happen.
    fn try_out(mut self, version: &str) -> Self {
        let plan = self.try_plan(version).expect("a plan");
        self.rollouts += 1;
        self.happen(&plan);
        self
    }

    fn promotion(&self) -> Result<Plan, CanaryError> {
        let number = self.rollouts + 1;
        let secret = SecretName::parse("TOKEN").expect("a secret");
        let promotion = CanaryPromotion {
            project: &self.project,
            id: id(number),
            created_at: format!("2026-11-22T03:{number:02}:00Z"),
            author: Author { name: "Joan".to_owned(), email: "joan@example.com".to_owned() },
            secrets: BTreeMap::from([(secret, SecretFingerprint("e".repeat(16)))]),
            random: [number; 16],
        };
        canary_promote(&promotion, &self.observed)
    }

    fn abortion(&self) -> Result<Plan, CanaryError> {
        canary_abort(&self.project, id(self.rollouts + 1), &self.observed)
    }

    /// The proxy of a host decides.
    fn decide(&mut self, host: &str, state: VerdictState) {
        let service = self.project.roles.values().next().expect("a role").proxy_service.clone();
        let ObservedProxy::Running { routes, .. } = &mut self.seen(host).proxy else { panic!("no proxy") };
        let canary = routes.get_mut(&service).and_then(|route| route.canary.as_mut()).expect("a canary");
        let side = ObservedSide::default();
        canary.verdict =
            Some(ObservedVerdict { state, why: "errors: 9 of 10".to_owned(), own: side, tried: side });
        if state == VerdictState::Aborted {
            canary.percent = None;
        }
    }
}

fn running(script: &mut Script, host: &str) -> Vec<String> {
    let containers = script.seen(host).containers.iter();
    let running = containers.filter(|container| container.state == ContainerState::Running);
    let mut names: Vec<String> = running.map(|container| container.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn it_starts_beside_what_serves_and_is_promoted_as_a_release() {
    let mut script =
        Script::new(&["one", "two"]).role("jobs", &["two"], false).job("tidy", "jobs").deploy("v1");
    let begun = script.try_plan("v2").expect("a plan");
    insta::assert_snapshot!("start", render(&begun));
    script = script.try_out("v2");
    assert_eq!(running(&mut script, "two"), ["app-jobs-v1", "app-web-v1", "app-web-v2"]);
    let releases = script.seen("one").releases.len();
    assert_eq!(releases, 1, "it is none that can be gone back to");

    let promoted = script.promotion().expect("a plan");
    insta::assert_snapshot!("promote", render(&promoted));
    script.rollouts += 1;
    script.happen(&promoted);
    for (host, names) in [("one", &["app-web-v2"][..]), ("two", &["app-jobs-v2", "app-web-v2"])] {
        assert_eq!(running(&mut script, host), names);
        assert_eq!(script.seen(host).canary, None);
    }
    let newest = &script.seen("two").releases[0];
    assert_eq!((newest.id.clone(), newest.version.as_str()), (id(2), "v2"));
    assert_eq!(newest.author.name, "Joan");
    let roles: Vec<&str> = newest.roles.keys().map(|role| role.as_str()).collect();
    assert_eq!(roles, ["jobs", "web"]);

    // It is a release like any other.
    let back = script.back(RollbackTarget::Previous).expect("a plan");
    assert_eq!(back.version.as_ref().map(|version| version.as_str()), Some("v1"));
}

#[test]
fn it_is_promoted_with_the_configuration_that_it_was_started_with() {
    let script = Script::new(&["one"]).deploy("v1").try_out("v2").with(|project| {
        for role in project.roles.values_mut() {
            role.proxy.as_mut().expect("a proxy").app_port = 9999;
        }
    });
    let plan = script.promotion().expect("a plan");
    let switched = plan.steps().find_map(|step| match &step.action {
        Action::SwitchTarget { settings, .. } => Some((settings.app_port, step.undo.clone())),
        _ => None,
    });
    let (port, undo) = switched.expect("a switch");
    assert_eq!(port, 3000);
    assert!(matches!(undo, Undo::RestoreRoute { previous: Some(_), .. }), "{undo}");
}

#[test]
fn it_is_removed_when_it_is_given_up() {
    let mut script = Script::new(&["one", "two"]).deploy("v1").try_out("v2");
    let plan = script.abortion().expect("a plan");
    insta::assert_snapshot!(render(&plan));
    script.happen(&plan);
    for host in ["one", "two"] {
        assert_eq!(running(&mut script, host), ["app-web-v1"]);
        assert_eq!(script.seen(host).canary, None);
    }
    assert!(matches!(script.abortion(), Err(CanaryError::Nothing { .. })));
    assert!(matches!(script.promotion(), Err(CanaryError::Nothing { .. })));
}

#[test]
fn what_would_get_in_its_way_is_refused_as_long_as_visitors_go_there() {
    let mut script = Script::new(&["one", "two"]).deploy("v1").deploy("v2").try_out("v3");
    let error = script.plan("v4").expect_err("a canary");
    insta::assert_snapshot!(format!("{error}\n{}", error.help().join("\n")), @r"
    version `v3` is tried on host `one`, and visitors go there
    end it first: `freehold canary promote` lets it serve, `freehold canary abort` removes it
    ");
    assert!(matches!(error, RolloutError::Canary { .. }));
    assert!(matches!(script.back(RollbackTarget::Previous), Err(RollbackError::Canary { .. })));
    assert!(matches!(script.try_plan("v4"), Err(CanaryError::UnderWay { .. })));
    assert_eq!(stale_containers(&script.project, &script.observed), []);

    // The proxy of one host has given it up: visitors still go there on the other one.
    script.decide("one", VerdictState::Aborted);
    assert!(matches!(script.plan("v4"), Err(RolloutError::Canary { .. })));
    let error = script.promotion().expect_err("worse");
    assert_eq!(error.to_string(), "the proxy on host `one` has given the release up: errors: 9 of 10");
    script.decide("two", VerdictState::Aborted);
    // Nobody does: whatever comes next clears it away.
    let plan = script.back(RollbackTarget::Previous).expect("a plan");
    let mut back = script.clone();
    back.happen(&plan);
    assert_eq!(
        (running(&mut back, "two"), back.seen("two").canary.clone()),
        (vec!["app-web-v1".to_owned()], None)
    );
    let plan = script.plan("v4").expect("a plan");
    script.happen(&plan);
    assert_eq!(running(&mut script, "one"), ["app-web-v4"]);
    assert_eq!(script.seen("one").canary, None);
}

#[test]
fn nothing_is_decided_or_forgotten_while_a_proxy_does_not_run() {
    let mut script = Script::new(&["one", "two"]).deploy("v1").deploy("v2").try_out("v3");
    let running_proxy = script.seen("two").proxy.clone();
    let stopped =
        ObservedProxy::Stopped { image: "proxy".to_owned(), maker: script.seen("two").proxy.maker() };
    for proxy in [stopped, ObservedProxy::Absent] {
        script.seen("two").proxy = proxy;
        script.decide("one", VerdictState::Aborted);
        let error = script.plan("v4").expect_err("in doubt");
        assert_eq!(
            error.to_string(),
            "version `v3` is tried on host `two`, whose proxy does not run: it may send visitors there again"
        );
        let back = script.back(RollbackTarget::Previous).expect_err("in doubt");
        assert_eq!((back.to_string(), back.help()), (error.to_string(), error.help()));
        let error = script.abortion().expect_err("in doubt");
        assert_eq!(
            error.to_string(),
            "the proxy on host `two` does not run: whether it sends visitors to version `v3` cannot be told or changed"
        );
        assert_eq!(
            error.help(),
            [
                "start it: `freehold proxy start`, or `freehold proxy boot` where its container is gone; it goes on with \
              what it has stored"
            ]
        );
        let mut other = script.clone();
        other.decide("one", VerdictState::Passed);
        assert!(matches!(
            other.promotion(),
            Err(CanaryError::GivenUp { .. } | CanaryError::ProxyDown { .. })
        ));
        // The containers stop, and what is tried is still known.
        let mut stopped = script.clone();
        let plan = stop(&stopped.project, id(9), &stopped.observed);
        stopped.happen(&plan);
        assert_eq!(running(&mut stopped, "two"), [""; 0]);
        assert_eq!(
            (stopped.seen("one").canary.is_some(), stopped.seen("two").canary.is_some()),
            (false, true)
        );
    }
    script.seen("two").proxy = running_proxy;
    script.abortion().expect("a plan");
}

#[test]
fn a_proxy_that_shows_nothing_is_told_all_the_same() {
    let mut script = Script::new(&["one"]).deploy("v1").try_out("v2");
    let ObservedProxy::Running { routes, .. } = &mut script.seen("one").proxy else { panic!("no proxy") };
    routes.values_mut().for_each(|route| route.canary = None);
    for plan in [script.abortion().expect("a plan"), script.plan("v3").expect("a plan")] {
        let mut actions = plan.steps().map(|step| &step.action);
        assert!(actions.any(|action| matches!(action, Action::EndCanary { .. })), "{}", render(&plan));
        assert!(actions.any(|action| matches!(action, Action::ForgetCanary)), "{}", render(&plan));
    }
}

#[test]
fn a_release_that_nobody_is_sent_to_is_not_promoted_also_where_the_verdict_is_forgotten() {
    let mut script = Script::new(&["one"]).deploy("v1").try_out("v2");
    script.decide("one", VerdictState::Aborted);
    let ObservedProxy::Running { routes, .. } = &mut script.seen("one").proxy else { panic!("no proxy") };
    routes.values_mut().filter_map(|route| route.canary.as_mut()).for_each(|canary| canary.verdict = None);
    let error = script.promotion().expect_err("given up");
    assert_eq!(
        error.to_string(),
        "the proxy on host `one` has given the release up: it sends nobody there any more"
    );
    assert!(error.help().join(" ").contains("freehold deploy --skip-push --version VERSION"));
}

#[test]
fn a_note_that_a_promotion_has_left_removes_nothing_that_serves() {
    let mut script = Script::new(&["one"]).role("jobs", &["one"], false).deploy("v1").try_out("v2");
    let note = script.seen("one").canary.clone();
    let plan = script.promotion().expect("a plan");
    script.rollouts += 1;
    script.happen(&plan);
    script.seen("one").canary = note;
    let plan = script.abortion().expect("a plan");
    let all: Vec<String> = plan.steps().map(|step| step.action.to_string()).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    let before = running(&mut script, "one");
    script.happen(&plan);
    assert_eq!((running(&mut script, "one"), script.seen("one").canary.clone()), (before, None));
    let plan = stop(&script.project, id(9), &script.observed);
    script.happen(&plan);
    assert_eq!(running(&mut script, "one"), [""; 0]);
}

#[test]
fn the_application_stops_and_goes_with_it() {
    let script = Script::new(&["one"]).deploy("v1").try_out("v2");
    let mut stopped = script.clone();
    let plan = stop(&stopped.project, id(9), &stopped.observed);
    stopped.happen(&plan);
    assert_eq!(running(&mut stopped, "one"), [""; 0]);
    assert_eq!(stopped.seen("one").canary, None);
    let plan = start(&stopped.project, id(10), &stopped.observed).expect("a plan");
    stopped.happen(&plan);
    assert_eq!(running(&mut stopped, "one"), ["app-web-v1"], "not what was tried");

    let plan = remove(&script.project, id(9), &script.observed);
    assert!(render(&plan).contains(".kamal/freehold/apps/app/canary.json"), "{}", render(&plan));
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let error = |result: Result<Plan, CanaryError>| {
        let error = result.expect_err("refused");
        format!("{error}\n{}", error.help().join("\n"))
    };
    let fresh = Script::new(&["one"]);
    insta::assert_snapshot!(error(fresh.try_plan("v1")), @r"
    the proxy on host `one` does not serve role `web`: there is nothing to try a release beside
    deploy the first release, or what is new on the host: `freehold deploy`
    ");
    let jobs = Script::new(&["one"]).with(|project| {
        project.roles.values_mut().for_each(|role| role.proxy = None);
    });
    assert!(matches!(jobs.try_plan("v1"), Err(CanaryError::NoProxy { .. })));
    let script = Script::new(&["one", "two"]).deploy("v1");
    assert!(matches!(script.try_plan("v1"), Err(CanaryError::AlreadyLive { .. })));

    // A host that does not take part.
    let mut script = script.try_out("v2");
    script.seen("two").canary = None;
    insta::assert_snapshot!(error(script.promotion()), @r"
    host `two` does not try version `v2`, which other hosts do
    end it, and start again: `freehold canary abort`
    ");
    let plan = script.abortion().expect("a plan");
    assert!(plan.steps().all(|step| step.host.as_str() == "one"), "{}", render(&plan));

    // A container that somebody removed.
    let mut script = Script::new(&["one"]).deploy("v1").try_out("v2");
    script.seen("one").containers.retain(|container| container.name.as_str() != "app-web-v2");
    assert!(matches!(script.promotion(), Err(CanaryError::NoContainer { .. })));
    assert_eq!(
        Tag::parse("v2").expect("a version"),
        script.seen("one").canary.as_ref().expect("one").version
    );
}
