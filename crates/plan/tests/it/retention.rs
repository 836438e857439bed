use std::num::NonZeroU32;

use freehold_model::{ImageReference, Repository, Tag};
use freehold_plan::{ContainerState, ImageSource, ObservedImage, OnFailure, RollbackTarget};

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

fn image(tag: &str) -> ObservedImage {
    let repository = Repository::parse("acme/app").expect("a name");
    let reference = ImageReference { repository, tag: Tag::parse(tag).expect("a tag") };
    ObservedImage { id: format!("sha256:{reference}"), reference }
}

/// Only a release that succeeds tidies up behind itself, so the next deploy takes away what failed ones have left.
#[test]
fn images_that_never_served_go_when_the_next_one_has_come() {
    let mut script = retaining(2).deploy("v1").deploy("v2");
    for failed in ["v3", "v4", "latest-other"] {
        script.seen("one").images.push(image(failed));
    }
    let steps = |script: &Script, version: &str| -> (Vec<String>, Vec<String>) {
        let plan = script.plan(version).expect("a plan");
        let (late, early): (Vec<_>, Vec<_>) =
            plan.stages.iter().partition(|stage| stage.on_failure == OnFailure::GoOn);
        let removed = |stages: Vec<&freehold_plan::Stage>| {
            let steps = stages.into_iter().flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.steps);
            steps.map(|step| step.action.to_string()).filter(|title| title.contains("remove image")).collect()
        };
        (removed(early), removed(late))
    };
    assert_eq!(
        steps(&script, "v5"),
        (vec!["remove image acme/app:v3".to_owned(), "remove image acme/app:v4".to_owned()], Vec::new()),
        "what serves and what can be gone back to stays, and nothing is removed twice"
    );
    assert_eq!(
        steps(&script, "v4").0,
        ["remove image acme/app:v3"],
        "one that is tried again is not sent again"
    );
    script.image = ImageSource::OnHosts;
    assert_eq!(steps(&script, "v4"), (Vec::new(), vec!["remove image acme/app:v3".to_owned()]));
}

#[test]
fn an_image_without_a_name_goes_with_those_that_never_served() {
    let mut script = retaining(2).deploy("v1");
    let serving = script.seen("one").containers.first().expect("it serves").image_id.clone();
    script.seen("one").unnamed_images = vec![serving];
    let early = |script: &Script| {
        let text = render(&script.plan("v2").expect("a plan"));
        text.split("Retire").next().expect("stages").contains("that have no name")
    };
    assert!(!early(&script), "it serves");
    script.seen("one").unnamed_images.push("sha256:failed".to_owned());
    assert!(early(&script));
}
