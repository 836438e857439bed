use freehold_plan::{remove, start, stop};

use crate::fixture::{Script, id, render};

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
