use std::num::NonZeroU32;

use freehold_plan::{ContainerState, RollbackTarget};

use crate::fixture::{Script, render};

fn retaining(containers: u32) -> Script {
    let retain = NonZeroU32::new(containers).expect("at least one");
    Script::new(&["one"]).with(|project| project.retain_containers = retain)
}

fn names(script: &mut Script) -> Vec<String> {
    script.seen("one").containers.iter().map(|container| container.name.to_string()).collect()
}

/// kamal-compat §13.11 row 1; kamal-compat §2 row 20
#[test]
fn the_newest_stay_with_their_images_and_releases() {
    let mut script = retaining(2).deploy("v1").deploy("v2").deploy("v3");
    insta::assert_snapshot!(render(&script.plan("v4").expect("a plan")));
    script = script.deploy("v4").deploy("v5");
    assert_eq!(names(&mut script), ["app-web-v5", "app-web-v4", "app-web-v3"]);
    assert_eq!(script.seen("one").releases.len(), 3);
    assert_eq!(script.seen("one").images.len(), 3);
}

#[test]
fn the_release_to_go_back_to_is_never_pruned() {
    let mut script = retaining(1).deploy("v1").deploy("v2").deploy("v3");
    // Back to v2, then on: what served last is v2, older than v3.
    let plan = script.back(RollbackTarget::Previous).expect("a plan");
    script.happen(&plan);
    script.rollouts += 1;
    script = script.deploy("v4");
    assert!(names(&mut script).contains(&"app-web-v2".to_owned()));
    let back = script.back(RollbackTarget::Previous).expect("there is a release to go back to");
    assert_eq!(back.version.as_ref().map(|version| version.as_str()), Some("v2"));
}

#[test]
fn a_running_container_that_does_not_serve_is_stopped_and_counted_later() {
    let mut script = retaining(1).deploy("v1").deploy("v2");
    for container in &mut script.seen("one").containers {
        container.state = ContainerState::Running;
    }
    let text = render(&script.plan("v3").expect("a plan"));
    assert!(text.contains("stop app-web-v1 ["), "{text}");
    assert!(!text.contains("remove container app-web-v1"), "{text}");
}

#[test]
fn an_image_that_another_container_uses_stays() {
    let mut script = retaining(1).deploy("v1").deploy("v1").deploy("v1");
    let plan = script.plan("v2").expect("a plan");
    script.happen(&plan);
    assert!(names(&mut script).iter().any(|name| name.starts_with("app-web-v1")));
}

#[test]
fn an_old_container_of_the_version_that_is_deployed_again_goes_by_its_new_name() {
    let mut script = retaining(1).deploy("v2").deploy("v1");
    let plan = script.plan("v2").expect("a plan");
    let text = render(&plan);
    assert!(text.contains("remove container app-web-v2_replaced_"), "{text}");
    script.happen(&plan);
    assert_eq!(names(&mut script), ["app-web-v2", "app-web-v1"]);
}
