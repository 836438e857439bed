use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freehold_model::{Diagnose, SecretName};
use freehold_plan::{
    Bridging, Handover, Incoming, ObservedProxy, ProxyMaker, ProxyPlanError, ProxyVerb, handover, proxy,
    remove, start, stop,
};

use crate::fixture::{Script, host, id, render};

fn script() -> Script {
    Script::new(&["one", "two"]).role("jobs", &["two"], false).deploy("v1").deploy("v2")
}

#[test]
fn stopping_and_starting_again() {
    let mut script = script();
    let plan = stop(&script.project, id(3), &script.observed);
    insta::assert_snapshot!("stop", render(&plan));
    script.happen(&plan);
    let again = stop(&script.project, id(4), &script.observed);
    assert!(again.is_empty(), "{}", render(&again));
    let plan = start(&script.project, id(5), &script.observed).expect("a plan");
    insta::assert_snapshot!("start", render(&plan));
}

#[test]
fn starting_what_was_never_deployed_is_refused() {
    let script = Script::new(&["one"]);
    assert!(start(&script.project, id(1), &script.observed).is_err());
}

#[test]
fn removing_everything() {
    let script = script();
    insta::assert_snapshot!(render(&remove(&script.project, id(3), &script.observed)));
}

#[test]
fn removing_one_destination_leaves_the_other() {
    let production = script();
    let mut staging = Script::new(&["one", "two"]).role("jobs", &["two"], false).destination("staging");
    staging.observed = production.observed;
    let staging = staging.deploy("v3");
    let text = render(&remove(&staging.project, id(4), &staging.observed));
    assert!(text.contains("remove container app-web-staging-v3"), "{text}");
    assert!(!text.contains("app-web-v2") && !text.contains("remove image acme/app:v2"), "{text}");
}

#[test]
fn only_a_running_proxy_of_ours_that_knows_how_hands_over() {
    let mut script = script();
    let hosts = script.observed.hosts.keys().cloned().collect::<Vec<_>>();
    let plan =
        |script: &Script| proxy(&script.project, id(3), (&hosts, &script.observed), ProxyVerb::Upgrade);
    let text = render(&plan(&script).expect("a plan"));
    assert_eq!(text.matches("let the proxy hand over to this build").count(), 2, "{text}");
    let with = |maker, is_outdated| ObservedProxy::Running {
        image: "x".to_owned(),
        maker,
        is_outdated,
        routes: BTreeMap::new(),
    };
    for (seen, wanted) in [
        (ObservedProxy::Absent, "host `two` has no proxy"),
        (
            ObservedProxy::Stopped { image: "x".to_owned(), maker: ProxyMaker::Freehold },
            "the proxy of host `two` cannot hand over: it does not run",
        ),
        (with(ProxyMaker::Kamal, false), "the proxy of host `two` cannot hand over: it is a kamal-proxy"),
        (
            with(ProxyMaker::Freehold, true),
            "the proxy of host `two` cannot hand over: it is of an earlier Freehold that does not know how",
        ),
    ] {
        script.observed.hosts.get_mut(&host("two")).expect("the host").proxy = seen;
        let error = plan(&script).expect_err("a refusal");
        assert_eq!(error.to_string(), wanted);
        assert!(error.help()[0].contains("freehold proxy"), "{error:?}");
    }
}

#[test]
fn nothing_is_given_back_to_a_kamal_proxy_that_would_serve_it_unguarded() {
    let plan = |script: &Script, incoming| {
        let request = Handover {
            project: &script.project,
            id: id(9),
            hosts: &[host("one")],
            incoming,
            bridging: Bridging::StandIn,
            kept: &BTreeSet::new(),
            drain: Duration::from_secs(10),
        };
        handover(&request, &script.observed)
    };
    let mut script = Script::new(&["one"]).deploy("v1");
    assert!(plan(&script, Incoming::Earlier).is_ok());
    let role = script.project.roles.values_mut().next().expect("a role");
    let settings = role.proxy.as_mut().expect("a proxy");
    settings.basic_auth = Some(SecretName::parse("USERS").expect("a name"));
    let refused = plan(&script, Incoming::Earlier);
    assert!(matches!(refused, Err(ProxyPlanError::OwnProxyOnly { key: "basic_auth", .. })), "{refused:?}");
    assert!(plan(&script, Incoming::Same).is_ok());
}
