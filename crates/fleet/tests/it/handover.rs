use std::collections::BTreeSet;
use std::time::Duration;

use freehold_fleet::{
    ExecuteError, Intent, Lease, PutBack, Report, Scope, Stop, World, execute, observe, recover,
};
use freehold_model::{HostName, SecretValues};
use freehold_plan::{Bridging, Handover, Incoming, OnFailure, Plan, handover};
use freehold_testkit::{Client, Harm, Moment, rollout_id};

use crate::harness::{Scene, WAIT, at_step, request, steps_of};

async fn plan(scene: &Scene, world: &World, number: u8) -> Plan {
    let project = scene.fixture.project();
    let hosts: Vec<HostName> = project.hosts();
    let seen = observe(world, &Scope { project }).await.expect("an observation");
    let request = Handover {
        project,
        id: rollout_id(number),
        hosts: &hosts,
        incoming: Incoming::Same,
        bridging: Bridging::StandIn,
        kept: &BTreeSet::new(),
        drain: Duration::from_secs(30),
    };
    handover(&request, &seen).expect("a plan")
}

/// What `freehold proxy reboot` does.
async fn reboot(scene: &Scene, client: &Client, number: u8) -> Result<Report, ExecuteError> {
    let (world, stop, secrets) = (client.world(), Stop::default(), SecretValues::default());
    let lease = Lease::acquire(&world, &request(), WAIT, &stop).await.expect("the lock");
    recover(&world, &lease, &secrets, &stop, Intent::Automatic).await.expect("a recovery");
    let plan = plan(scene, &world, number).await;
    let outcome = execute(&plan, &world, &lease, &secrets, &stop).await;
    // One that could not be released expires by itself.
    let _is_released = lease.release().await.is_ok();
    outcome
}

fn assert_proxies_serve(scene: &Scene, context: &str) {
    for machine in scene.fleet.machines() {
        assert_eq!(machine.bridging(), (true, false, false), "{context}: {}", machine.name());
        assert!(machine.journal().is_none(), "{context}: {} has a journal", machine.name());
    }
    scene.assert_no_outage(context);
}

#[tokio::test(start_paused = true)]
async fn one_proxy_takes_the_place_of_another_without_an_outage() {
    let scene = Scene::three_hosts().await;
    let report = reboot(&scene, &scene.fleet.client(), 2).await.expect("a reboot");
    assert_eq!(report.done, 3 * 7, "on each of three hosts");
    assert_proxies_serve(&scene, "reboot");
    scene.assert_live("v1", "reboot");
}

#[tokio::test(start_paused = true)]
async fn a_failure_anywhere_in_a_handover_puts_every_host_back() {
    let scene = Scene::three_hosts().await;
    let plan = plan(&scene, &scene.fleet.client().world(), 2).await;
    for step in steps_of(&plan, OnFailure::PutBack) {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("{} on {}, {moment:?}", step.action, step.host);
            scene.fleet.inject(at_step(&step, moment, Harm::Fail));
            let error = reboot(&scene, &scene.fleet.client(), 2).await.expect_err(&context);
            let ExecuteError::Failed { put_back, .. } = &error else { panic!("{context}: {error}") };
            assert!(matches!(put_back, PutBack::Complete), "{context}: {put_back:?}");
            assert_proxies_serve(&scene, &context);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dies_anywhere_in_a_handover_leaves_nobody_without_a_proxy() {
    let scene = Scene::three_hosts().await;
    let plan = plan(&scene, &scene.fleet.client().world(), 2).await;
    for step in plan.steps() {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("{} on {}, {moment:?}", step.action, step.host);
            let client = scene.fleet.client();
            scene.fleet.inject(at_step(step, moment, Harm::Crash));
            tokio::select! {
                outcome = reboot(&scene, &client, 2) => panic!("{context}: {outcome:?}"),
                () = client.crashed() => {}
            }
            scene.assert_no_outage(&context);
            reboot(&scene, &scene.fleet.client(), 3).await.expect(&context);
            assert_proxies_serve(&scene, &context);
        }
    }
}
