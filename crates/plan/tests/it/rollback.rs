use freehold_model::Diagnose;
use freehold_plan::{RollbackError, RollbackTarget};

use crate::fixture::{Script, render};

fn named(name: &str) -> RollbackTarget {
    RollbackTarget::Named(name.to_owned())
}

#[test]
fn to_the_previous_release() {
    let script = Script::new(&["one", "two"]).role("jobs", &["two"], false).deploy("v1").deploy("v2");
    insta::assert_snapshot!(render(&script.back(RollbackTarget::Previous).expect("a plan")));
}

#[test]
fn to_a_named_version_and_again_to_the_one_before() {
    let mut script = Script::new(&["one"]).deploy("v1").deploy("v2").deploy("v3");
    let plan = script.back(named("v2")).expect("a plan");
    assert_eq!(plan.version.as_ref().map(|version| version.as_str()), Some("v2"));
    script.happen(&plan);
    script.rollouts += 1;
    insta::assert_snapshot!(render(&script.back(RollbackTarget::Previous).expect("a plan")));
}

#[test]
fn to_a_release_whose_container_was_renamed_since() {
    let script = Script::new(&["one"]).deploy("v1").deploy("v1");
    let text = render(&script.back(RollbackTarget::Previous).expect("a plan"));
    assert!(text.contains("start app-web-v1_replaced_"), "{text}");
}

#[test]
fn a_container_that_runs_already_is_not_stopped_when_it_is_put_back() {
    let mut script = Script::new(&["one"]).deploy("v1").deploy("v2");
    for container in &mut script.seen("one").containers {
        container.state = freehold_plan::ContainerState::Running;
    }
    let text = render(&script.back(RollbackTarget::Previous).expect("a plan"));
    assert!(text.contains("start app-web-v1 again [leave it]"), "{text}");
}

#[test]
fn what_cannot_be_gone_back_to_is_refused_with_what_there_is() {
    let script = Script::new(&["one"]).deploy("v1");
    let error = script.back(RollbackTarget::Previous).expect_err("only one release");
    insta::assert_snapshot!(format!("{error}\n{}", error.help().join("\n")), @r"
    there is no earlier release to go back to
    only one release was ever deployed here; see `freehold releases`
    ");
    let script = script.deploy("v2");
    let error = script.back(named("v7")).expect_err("no such release");
    insta::assert_snapshot!(format!("{error}\n{}", error.help().join("\n")), @r"
    there is no release `v7` to go back to
    there are: v1 (20261122T030100Z-000001)
    ");
    assert!(matches!(script.back(named("v2")), Err(RollbackError::AlreadyLive { .. })));
}
