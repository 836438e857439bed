use std::collections::BTreeMap;

use freehold_fleet::{
    ExecuteError, Intent, Lease, PutBack, Report, Scope, Stop, World, execute, observe, recover,
};
use freehold_model::{Canary, SecretValues};
use freehold_plan::{
    Action, CanaryPromotion, Observed, OnFailure, Plan, Step, canary_abort, canary_promote, canary_start,
};
use freehold_testkit::{Client, Fault, Harm, Moment, Point, ProjectFixture, rollout_id};

use crate::harness::{Scene, WAIT, at_step, request, steps_of};

/// What is done with a release that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Start,
    Promote,
    Abort,
}

impl Scene {
    async fn seen(&self, world: &World) -> Observed {
        observe(world, &Scope { project: self.fixture.project() }).await.expect("an observation")
    }

    fn plan_of(&self, verb: Verb, seen: &Observed) -> Plan {
        let project = self.fixture.project();
        match verb {
            Verb::Start => canary_start(&self.fixture.request("v2", 2), &Canary::default(), seen),
            Verb::Promote => {
                let request = self.fixture.request("v2", 3);
                let promotion = CanaryPromotion {
                    project,
                    id: rollout_id(3),
                    created_at: request.created_at.clone(),
                    author: request.author.clone(),
                    secrets: BTreeMap::new(),
                    random: [3; 16],
                };
                canary_promote(&promotion, seen)
            }
            Verb::Abort => canary_abort(project, rollout_id(4), seen),
        }
        .expect("a plan")
    }

    /// What a command does.
    async fn canary(&self, client: &Client, verb: Verb) -> Result<Report, ExecuteError> {
        let (world, secrets, stop) = (client.world(), SecretValues::default(), Stop::default());
        let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("the lock");
        let plan = self.plan_of(verb, &self.seen(&world).await);
        let result = execute(&plan, &world, &lease, &secrets, &stop).await;
        let _is_released = lease.release().await.is_ok();
        result
    }

    /// Finishes or undoes what was cut off.
    async fn recover(&self) {
        let client = self.fleet.client();
        let (world, stop) = (client.world(), Stop::default());
        let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("the lock");
        let secrets = SecretValues::default();
        recover(&world, &lease, &secrets, &stop, Intent::Automatic).await.expect("a recovery");
        lease.release().await.expect("released");
    }

    async fn tried(&self) -> Vec<bool> {
        let client = self.fleet.client();
        let seen = self.seen(&client.world()).await;
        seen.hosts.values().map(|host| host.canary.is_some()).collect()
    }
}

async fn scene() -> Scene {
    let hosts = ["one", "two"];
    Scene::running(ProjectFixture::new(&hosts).role("jobs", &["two"], false).job("tidy", "jobs")).await
}

#[tokio::test(start_paused = true)]
async fn it_is_started_promoted_and_gone_back_from_without_an_outage() {
    let scene = scene().await;
    scene.canary(&scene.fleet.client(), Verb::Start).await.expect("a start");
    assert_eq!(scene.tried().await, [true, true]);
    scene.assert_no_outage("start");
    scene.canary(&scene.fleet.client(), Verb::Promote).await.expect("a promotion");
    assert_eq!(scene.tried().await, [false, false]);
    scene.assert_live("v2", "promoted");
    scene.assert_no_outage("promote");
    scene.deploy(&scene.fleet.client(), "v3", 5).await.expect("a deploy");
    scene.assert_live("v3", "deployed");
}

#[tokio::test(start_paused = true)]
async fn it_is_given_up_without_a_trace() {
    let scene = scene().await;
    let before = scene.snapshot();
    scene.canary(&scene.fleet.client(), Verb::Start).await.expect("a start");
    assert_ne!(scene.snapshot(), before);
    scene.canary(&scene.fleet.client(), Verb::Abort).await.expect("an abort");
    assert_eq!(scene.snapshot(), before);
    scene.assert_no_outage("abort");
}

#[tokio::test(start_paused = true)]
async fn what_visitors_may_be_sent_to_is_neither_forgotten_nor_removed() {
    let scene = scene().await;
    let before = scene.snapshot();
    scene.canary(&scene.fleet.client(), Verb::Start).await.expect("a start");
    let started = scene.snapshot();
    let plan = scene.plan_of(Verb::Abort, &scene.seen(&scene.fleet.client().world()).await);
    let steps = steps_of(&plan, OnFailure::GoOn);
    let is_end =
        |step: &&Step| step.host.as_str() == "one" && matches!(step.action, Action::EndCanary { .. });
    let end = steps.iter().find(is_end).expect("the end of a canary").clone();
    // It is tried again twice.
    for _ in 0..3 {
        scene.fleet.inject(at_step(&end, Moment::Before, Harm::Fail));
    }
    let error = scene.canary(&scene.fleet.client(), Verb::Abort).await.expect_err("it was not ended");
    let ExecuteError::NeedsAttention { left, first, .. } = &error else { panic!("{error:?}") };
    assert_eq!(first.step, end.id);
    let of_one = steps.iter().filter(|step| step.host == end.host && step.id >= end.id).count();
    assert_eq!(left.len(), of_one, "all of it is left on that host: {left:?}");
    assert_eq!(scene.tried().await, [true, false]);
    let (now, started) = (&scene.snapshot()[&end.host], &started[&end.host]);
    assert_eq!((&now.containers, &now.tried), (&started.containers, &started.tried));
    assert_eq!((&now.routes, &now.schedules), (&started.routes, &started.schedules));
    scene.recover().await;
    assert_eq!(scene.snapshot(), before);
    scene.assert_no_outage("an end that came late");
}

#[tokio::test(start_paused = true)]
async fn a_failure_anywhere_puts_every_host_back() {
    for verb in [Verb::Start, Verb::Promote] {
        let scene = scene().await;
        if verb == Verb::Promote {
            scene.canary(&scene.fleet.client(), Verb::Start).await.expect("a start");
        }
        let client = scene.fleet.client();
        let plan = scene.plan_of(verb, &scene.seen(&client.world()).await);
        for step in steps_of(&plan, OnFailure::PutBack) {
            for moment in [Moment::Before, Moment::After] {
                let context = format!("{verb:?}: {} on {}, {moment:?}", step.action, step.host);
                let before = scene.snapshot();
                scene.fleet.inject(at_step(&step, moment, Harm::Fail));
                let error = scene.canary(&scene.fleet.client(), verb).await.expect_err(&context);
                assert!(matches!(error.put_back(), Some(PutBack::Complete)), "{context}: {error:?}");
                scene.fleet.clear_faults();
                assert_eq!(scene.snapshot(), before, "{context}");
                scene.assert_no_outage(&context);
            }
        }
        scene.canary(&scene.fleet.client(), verb).await.expect("in the end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_at_any_call_leaves_all_of_it_or_nothing() {
    for verb in [Verb::Start, Verb::Promote, Verb::Abort] {
        let mut call = 1;
        loop {
            let scene = scene().await;
            if verb != Verb::Start {
                scene.canary(&scene.fleet.client(), Verb::Start).await.expect("a start");
            }
            let context = format!("{verb:?}: gone at call {call}");
            let last = scene.fleet.calls() + call;
            scene.fleet.inject(Fault {
                host: None,
                point: Point::Call(last),
                moment: Moment::After,
                harm: Harm::Crash,
            });
            let client = scene.fleet.client();
            let is_over = tokio::select! {
                result = scene.canary(&client, verb) => result.is_ok(),
                () = client.crashed() => false,
            };
            scene.fleet.clear_faults();
            if is_over {
                assert!(call > 10, "{verb:?} takes {call} calls");
                break;
            }
            scene.recover().await;
            scene.assert_no_outage(&context);
            let tried = scene.tried().await;
            assert!(tried.iter().all(|is_tried| *is_tried == tried[0]), "{context}: {tried:?}");
            if tried[0] {
                scene.canary(&scene.fleet.client(), Verb::Abort).await.expect(&context);
            }
            scene.deploy(&scene.fleet.client(), "v3", 5).await.expect(&context);
            scene.assert_live("v3", &context);
            scene.assert_no_outage(&context);
            call += 1;
        }
    }
}
