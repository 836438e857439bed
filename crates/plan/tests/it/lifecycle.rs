use std::collections::BTreeMap;

use freehold_model::Diagnose;
use freehold_plan::{ObservedProxy, ProxyMaker, ProxyVerb, proxy, remove, start, stop};

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
