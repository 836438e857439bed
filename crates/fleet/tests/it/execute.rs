use std::sync::Arc;
use std::time::Duration;

use freehold_fleet::{
    Event, ExecuteError, Gate, Lease, PutBack, Scope, StepError, StepOutcome, Stop, execute, observe,
};
use freehold_model::{Diagnose, ErrorKind, SecretValues};
use freehold_plan::{OnFailure, Plan, RollbackTarget, rollback};
use freehold_testkit::{Fault, Harm, Moment, Point, ProjectFixture, rollout_id};

use crate::harness::{Scene, WAIT, at_step, host, request, steps_of};

#[tokio::test(start_paused = true)]
async fn a_deploy_tells_what_it_does_step_by_step() {
    let scene = Scene::new(ProjectFixture::new(&["one"]));
    let client = scene.fleet.client();
    let report = scene.deploy(&client, "v1", 1).await.expect("a deploy");
    assert_eq!((report.done, report.already_done), (8, 2));
    scene.assert_live("v1", "first");
    insta::assert_snapshot!(client.watch().lines().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn one_version_follows_another_without_an_outage() {
    let scene = Scene::three_hosts().await;
    for (number, version) in ["v2", "v3", "v3", "v4", "v5", "v6", "v7", "v8", "v9"].iter().enumerate() {
        let number = u8::try_from(number + 2).expect("a small number");
        scene.deploy(&scene.fleet.client(), version, number).await.expect("a deploy");
        scene.assert_live(version, version);
    }
    scene.assert_no_outage("nine deploys");
    for machine in scene.fleet.machines() {
        let roles = if machine.name().as_str() == "one" { 1 } else { 2 };
        assert_eq!(machine.containers().len(), 6 * roles, "five to go back to and one that runs");
    }
}

#[tokio::test(start_paused = true)]
async fn every_host_of_a_stage_is_worked_on_at_the_same_time() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    for step in steps_of(&plan, OnFailure::PutBack) {
        if step.action.to_string().starts_with("deliver") {
            scene.fleet.inject(at_step(&step, Moment::Before, Harm::Slow(Duration::from_secs(10))));
        }
    }
    let report = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect("a deploy");
    assert!(report.elapsed < Duration::from_secs(12), "{:?}", report.elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_said_to_be_finished_only_when_its_journal_says_so() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let step = steps_of(&plan, OnFailure::PutBack).remove(3);
    let client = scene.fleet.client();
    // Two calls after the step's own comes the line that says `done`: the client is gone before it.
    scene.fleet.inject(at_step(&step, Moment::After, Harm::Crash));
    assert!(scene.deploy_or_crash(&client, "v2", 2).await.is_none());
    let finished = client.watch().events().iter().any(|event| {
        matches!(event, Event::StepFinished { step: id, outcome: StepOutcome::Done { .. }, .. } if *id == step.id)
    });
    assert!(!finished);
}

#[tokio::test(start_paused = true)]
async fn a_failure_anywhere_before_the_switch_is_over_puts_every_host_back() {
    let scene = Scene::three_hosts().await;
    let harms = [Harm::Fail, Harm::Lose(Duration::from_secs(10))];
    for version in ["v2", "v1"] {
        // What failed before would be removed in the first of many tries, and each of them is to have the same steps.
        scene.fleet.machines().for_each(|machine| machine.forget_image("v2"));
        let plan = scene.next_plan(version, 2).await;
        for step in steps_of(&plan, OnFailure::PutBack) {
            for moment in [Moment::Before, Moment::After] {
                for harm in harms {
                    let context =
                        format!("{version}: {} on {}, {moment:?}, {harm:?}", step.action, step.host);
                    let before = scene.snapshot();
                    scene.fleet.inject(at_step(&step, moment, harm));
                    let client = scene.fleet.client();
                    let error = scene.deploy(&client, version, 2).await.expect_err(&context).execute();
                    scene.fleet.clear_faults();
                    assert_eq!(error.failures()[0].step, step.id, "{context}");
                    assert!(error.put_back().is_some_and(PutBack::is_complete), "{context}: {error:?}");
                    let kind = if harm == Harm::Fail { ErrorKind::Failed } else { ErrorKind::Unreachable };
                    assert_eq!(error.kind(), kind, "{context}");
                    assert_eq!(scene.snapshot(), before, "{context}");
                    scene.assert_live("v1", &context);
                }
            }
        }
    }
    scene.assert_no_outage("failures at every step");
    scene.deploy(&scene.fleet.client(), "v2", 2).await.expect("a deploy after all that");
    scene.assert_live("v2", "after all that");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_switch_leaves_the_release_live_and_the_next_run_does_the_rest() {
    let reference = Scene::three_hosts().await;
    let plan = reference.next_plan("v2", 2).await;
    for step in steps_of(&plan, OnFailure::GoOn) {
        let context = format!("{} on {}", step.action, step.host);
        let scene = Scene::three_hosts().await;
        // It is tried again twice.
        for _ in 0..3 {
            scene.fleet.inject(at_step(&step, Moment::Before, Harm::Fail));
        }
        let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err(&context).execute();
        assert_eq!(error.kind(), ErrorKind::NeedsAttention, "{context}");
        let ExecuteError::NeedsAttention { left, first, .. } = &error else { panic!("{context}: {error:?}") };
        assert_eq!((left.len(), first.step), (1, step.id), "{context}: the other steps went on");
        scene.deploy(&scene.fleet.client(), "v3", 3).await.expect("the next deploy");
        scene.assert_live("v3", &context);
        scene.assert_no_outage(&context);
        let releases = scene.snapshot()[&step.host].releases.len();
        assert_eq!(releases, 3, "{context}: the release was recorded by the recovery");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_switch_a_broken_connection_is_made_again() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let step = steps_of(&plan, OnFailure::GoOn).remove(0);
    scene.fleet.inject(at_step(&step, Moment::After, Harm::Lose(Duration::from_secs(20))));
    scene.deploy(&scene.fleet.client(), "v2", 2).await.expect("a deploy");
    scene.assert_live("v2", "made again");
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_release_is_explained_and_put_back() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    scene.fleet.spoil("v2");
    let client = scene.fleet.client();
    let error = scene.deploy(&client, "v2", 2).await.expect_err("an unhealthy release").execute();
    assert_eq!(error.kind(), ErrorKind::Unhealthy);
    assert_eq!(scene.snapshot(), before);
    scene.assert_no_outage("unhealthy");
    insta::assert_snapshot!(rendered(&error));
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_several_hosts_are_all_told() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    for step in steps_of(&plan, OnFailure::PutBack) {
        if step.action.to_string() == "start app-web-v2" {
            scene.fleet.inject(at_step(&step, Moment::Before, Harm::Fail));
        }
    }
    let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("three failures").execute();
    let mut hosts: Vec<&str> = error.failures().iter().map(|failure| failure.host.as_str()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["one", "three", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_back_is_told_and_the_next_run_puts_it_back() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    let plan = scene.next_plan("v2", 2).await;
    let switch = steps_of(&plan, OnFailure::PutBack)
        .into_iter()
        .find(|step| step.host == host("two") && step.action.to_string().starts_with("send requests"))
        .expect("a switch");
    scene.fleet.inject(at_step(&switch, Moment::After, Harm::Lose(Duration::from_secs(300))));
    let client = scene.fleet.client();
    let error = scene.deploy(&client, "v2", 2).await.expect_err("a host that is gone").execute();
    assert_eq!(error.kind(), ErrorKind::NeedsAttention);
    let after = scene.snapshot();
    for other in ["one", "three"] {
        assert_eq!(after[&host(other)].routes, before[&host(other)].routes);
        assert_eq!(after[&host(other)].containers, before[&host(other)].containers);
    }
    insta::assert_snapshot!(rendered(&error));

    let unreachable = scene.deploy(&scene.fleet.client(), "v2", 3).await.expect_err("still gone");
    assert_eq!(unreachable.kind(), ErrorKind::Unreachable);
    tokio::time::sleep(Duration::from_secs(300)).await;
    scene.deploy(&scene.fleet.client(), "v2", 4).await.expect("the host is back");
    scene.assert_live("v2", "the host is back");
    scene.assert_no_outage("a host was away");
}

#[tokio::test(start_paused = true)]
async fn a_host_keeps_its_new_container_while_its_route_cannot_be_put_back() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let soak = steps_of(&plan, OnFailure::PutBack).pop().expect("a last step");
    scene.fleet.inject(at_step(&soak, Moment::Before, Harm::Fail));
    for _ in 0..3 {
        scene.fleet.inject(Fault {
            host: Some(host("two")),
            point: Point::AnyUndo,
            moment: Moment::Before,
            harm: Harm::Fail,
        });
    }
    let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("a failure").execute();
    assert_eq!(error.kind(), ErrorKind::NeedsAttention);
    scene.assert_no_outage("the route still leads to the new container");
    scene.deploy(&scene.fleet.client(), "v3", 3).await.expect("the next deploy");
    scene.assert_live("v3", "next");
    scene.assert_no_outage("next");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_host_is_found_before_anything_changes() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    scene.fleet.machine(&host("two")).expect("a machine").cut_off(Duration::from_secs(3600));
    let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("a host is gone");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(scene.snapshot(), before);
    assert!(!scene.fleet.machine(&host("one")).expect("a machine").is_locked());
}

fn rendered(error: &ExecuteError) -> String {
    let mut lines = vec![format!("error: {error}")];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        lines.push(format!("caused by: {cause}"));
        source = cause.source();
    }
    lines.extend(error.help().into_iter().map(|help| format!("help: {help}")));
    lines.join("\n")
}

struct Refuses(usize);

#[async_trait::async_trait]
impl Gate for Refuses {
    async fn before(&self, plan: &Plan, stage: usize) -> Result<(), StepError> {
        if stage == self.0 && plan.id == rollout_id(2) {
            Err(StepError::Secret { name: "HOOK".to_owned() })
        } else {
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_a_gate_is_put_back() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    let stages = scene.next_plan("v2", 2).await.stages;
    for index in 0..stages.iter().filter(|stage| stage.on_failure == OnFailure::PutBack).count() {
        let mut world = scene.fleet.client().world();
        world.gate = Some(Arc::new(Refuses(index)));
        let error = scene.deploy_in(&world, "v2", 2, &Stop::default()).await.expect_err("refused").execute();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert_eq!(scene.snapshot(), before, "before stage {index}");
    }
    scene.assert_no_outage("gates");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_anywhere_is_put_back_too() {
    let scene = Scene::three_hosts().await;
    scene.deploy(&scene.fleet.client(), "v2", 2).await.expect("a deploy");
    let before = scene.snapshot();
    let (secrets, stop) = (SecretValues::default(), Stop::default());
    let project = scene.fixture.project();
    let mut failed = 0;
    loop {
        let world = scene.fleet.client().world();
        let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("a lease");
        let seen = observe(&world, &Scope { project }).await.expect("hosts");
        let plan = rollback(project, rollout_id(3), &RollbackTarget::Previous, &seen).expect("a plan");
        let steps = steps_of(&plan, OnFailure::PutBack);
        if let Some(step) = steps.get(failed) {
            scene.fleet.inject(at_step(step, Moment::After, Harm::Fail));
        }
        let result = execute(&plan, &world, &lease, &secrets, &stop).await;
        lease.release().await.expect("a release");
        if result.is_ok() {
            assert_eq!(failed, steps.len());
            break;
        }
        assert_eq!(scene.snapshot(), before, "{failed}");
        failed += 1;
    }
    scene.assert_live("v1", "rolled back");
    scene.assert_no_outage("rollbacks");
}
