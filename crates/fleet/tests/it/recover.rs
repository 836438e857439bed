use std::time::Duration;

use freehold_fleet::{Event, Intent, Lease, RecoverError, Recovered, Stop, World, execute, recover};
use freehold_model::{Diagnose, ErrorKind, SecretValues};
use freehold_plan::{OnFailure, PlanKind, StageKind, Step, remove};
use freehold_testkit::{Harm, Moment, ProjectFixture, rollout_id};

use crate::harness::{Scene, WAIT, at_step, host, request, steps_of};

/// A scene whose second deploy crashed after this step's effect.
async fn crashed_at(choose: impl Fn(&StageKind, &Step) -> bool) -> Scene {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let step = plan
        .stages
        .iter()
        .flat_map(|stage| stage.lanes.iter().flat_map(|lane| &lane.steps).map(|step| (stage.kind, step)))
        .find(|(kind, step)| choose(kind, step))
        .map(|(_, step)| step.clone())
        .expect("such a step");
    scene.fleet.inject(at_step(&step, Moment::After, Harm::Crash));
    assert!(scene.deploy_or_crash(&scene.fleet.client(), "v2", 2).await.is_none());
    scene
}

async fn recover_as(scene: &Scene, intent: Intent) -> Result<Recovered, RecoverError> {
    let world = scene.fleet.client().world();
    recover_in(&world, intent).await
}

async fn recover_in(world: &World, intent: Intent) -> Result<Recovered, RecoverError> {
    let stop = Stop::default();
    let lease = Lease::acquire(world, &request(), WAIT, &stop).await.expect("a lease");
    let result = recover(world, &lease, &SecretValues::default(), &stop, intent).await;
    lease.release().await.expect("a release");
    result
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_after_a_deploy_that_ended() {
    let scene = Scene::three_hosts().await;
    for intent in [Intent::Automatic, Intent::Forward, Intent::Back] {
        assert_eq!(recover_as(&scene, intent).await.expect("nothing"), Recovered::Nothing);
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_switch_it_goes_back() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Boot).await;
    let recovered = recover_as(&scene, Intent::Automatic).await.expect("put back");
    assert!(matches!(recovered, Recovered::Undone { kind: PlanKind::Deploy, .. }));
    scene.assert_live("v1", "put back");
    scene.assert_no_outage("put back");
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_the_switch_it_goes_back() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Commit).await;
    recover_as(&scene, Intent::Automatic).await.expect("put back");
    scene.assert_live("v1", "put back");
}

#[tokio::test(start_paused = true)]
async fn after_the_switch_it_goes_forward_without_watching() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Soak).await;
    let client = scene.fleet.client();
    let recovered = recover_in(&client.world(), Intent::Automatic).await.expect("finished");
    assert!(matches!(recovered, Recovered::Finished(_)));
    scene.assert_live("v2", "finished");
    assert!(!client.watch().lines().contains(&"stage Soak".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn while_retiring_it_goes_forward_and_cannot_go_back() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Retire).await;
    let error = recover_as(&scene, Intent::Back).await.expect_err("too late");
    assert!(matches!(error, RecoverError::Retired { .. }));
    assert!(error.help()[0].contains("freehold rollback"));
    recover_as(&scene, Intent::Automatic).await.expect("finished");
    scene.assert_live("v2", "finished");
}

#[tokio::test(start_paused = true)]
async fn a_person_may_choose_the_direction() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Boot).await;
    recover_as(&scene, Intent::Forward).await.expect("finished");
    scene.assert_live("v2", "resume");

    let scene = crashed_at(|kind, _| *kind == StageKind::Soak).await;
    recover_as(&scene, Intent::Back).await.expect("put back");
    scene.assert_live("v1", "abort");
    scene.assert_no_outage("abort");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_being_put_back_is_not_finished_by_the_next_run() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let soak = steps_of(&plan, OnFailure::PutBack).pop().expect("a last step");
    scene.fleet.inject(at_step(&soak, Moment::Before, Harm::Fail));
    scene.fleet.inject(freehold_testkit::Fault {
        host: None,
        point: freehold_testkit::Point::AnyUndo,
        moment: Moment::Before,
        harm: Harm::Crash,
    });
    assert!(scene.deploy_or_crash(&scene.fleet.client(), "v2", 2).await.is_none());
    let client = scene.fleet.client();
    recover_in(&client.world(), Intent::Automatic).await.expect("put back");
    assert!(client.watch().events().iter().any(|e| matches!(e, Event::Recovering { forward: false, .. })));
    scene.assert_live("v1", "the decision stands");
}

#[tokio::test(start_paused = true)]
async fn half_put_back_it_can_still_be_resumed() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let soak = steps_of(&plan, OnFailure::PutBack).pop().expect("a last step");
    scene.fleet.inject(at_step(&soak, Moment::Before, Harm::Fail));
    for _ in 0..3 {
        scene.fleet.inject(freehold_testkit::Fault {
            host: Some(host("two")),
            point: freehold_testkit::Point::AnyUndo,
            moment: Moment::After,
            harm: Harm::Fail,
        });
    }
    scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("half put back");
    recover_as(&scene, Intent::Forward).await.expect("resumed");
    scene.assert_live("v2", "resumed");
    scene.assert_no_outage("resumed");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_leaves_everything_as_it_is() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Commit).await;
    let before = scene.snapshot();
    let client = scene.fleet.client();
    let world = client.world();
    let stop = Stop::default();
    let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("a lease");
    let away = scene.fleet.machine(&host("three")).expect("a machine");
    away.cut_off(world.clock.elapsed() + Duration::from_secs(600));
    let error = recover(&world, &lease, &SecretValues::default(), &stop, Intent::Automatic)
        .await
        .expect_err("a host is away");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(scene.snapshot(), before);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_left_the_project_is_left_out_with_a_warning() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Commit).await;
    let client = scene.fleet.client();
    let mut world = client.world();
    world.hosts.remove(&host("three"));
    recover_in(&world, Intent::Automatic).await.expect("put back");
    assert!(client.watch().lines().iter().any(|line| line.starts_with("three: warning: rollout")));
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_finished() {
    let scene = Scene::running(ProjectFixture::new(&["one", "two"])).await;
    let client = scene.fleet.client();
    let world = client.world();
    let stop = Stop::default();
    let scope = freehold_fleet::Scope { project: scene.fixture.project() };
    let seen = freehold_fleet::observe(&world, &scope).await.expect("hosts");
    let plan = remove(scene.fixture.project(), rollout_id(2), &seen);
    let step = plan.steps().nth(4).expect("a step").clone();
    scene.fleet.inject(at_step(&step, Moment::After, Harm::Crash));
    let secrets = SecretValues::default();
    let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("a lease");
    tokio::select! {
        _ = execute(&plan, &world, &lease, &secrets, &stop) => panic!("it should crash"),
        () = client.crashed() => {}
    }
    let error = recover_as(&scene, Intent::Back).await.expect_err("no way back");
    assert!(matches!(error, RecoverError::OneWay { .. }));
    recover_as(&scene, Intent::Automatic).await.expect("finished");
    for machine in scene.fleet.machines() {
        assert!(machine.containers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_of_a_running_rollout_does_not_touch_it() {
    let scene = crashed_at(|kind, _| *kind == StageKind::Commit).await;
    let world = scene.fleet.client().world();
    let lease = Lease::inherited(&world, "app").await.expect("the parent's");
    let (secrets, stop) = (SecretValues::default(), Stop::default());
    let error = recover(&world, &lease, &secrets, &stop, Intent::Automatic).await.expect_err("busy");
    assert!(matches!(error, RecoverError::Busy { .. }));
    let plan = scene.next_plan("v3", 3).await;
    let error = execute(&plan, &world, &lease, &secrets, &stop).await.expect_err("busy");
    assert_eq!(error.kind(), ErrorKind::Locked);
}
