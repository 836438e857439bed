use freehold_fleet::{Event, JournalState};
use freehold_plan::{OnFailure, PlanKind, Step};
use freehold_testkit::{Fault, Harm, Moment, Point, ProjectFixture};

use crate::harness::Scene;

fn fixture() -> ProjectFixture {
    ProjectFixture::new(&["one", "two"]).role("jobs", &["two"], false).job("tidy", "web")
}

/// How many calls a deploy of this version makes, so that every one of them can be the last.
async fn calls_of_a_deploy(version: &str) -> (u64, u64) {
    let scene = Scene::running(fixture()).await;
    let before = scene.fleet.calls();
    scene.deploy(&scene.fleet.client(), version, 2).await.expect("a deploy");
    (before, scene.fleet.calls())
}

/// Once a step has begun that has no way back, every step that has one is known to be done: it would be done again else, and
/// everything put back if it failed.
fn assert_what_is_retired_is_live(scene: &Scene, context: &str) {
    let journals: Vec<_> = scene
        .fleet
        .machines()
        .filter_map(|machine| Some((machine.name().clone(), machine.journal()?)))
        .collect();
    let Some(plan) = journals.iter().find_map(|(_, journal)| journal.plan.clone()) else { return };
    let of = |rule| plan.stages.iter().filter(move |stage| stage.on_failure == rule);
    let steps = |rule| of(rule).flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.steps);
    let says = |step: &Step, state| {
        let of_host = journals.iter().filter(|(host, _)| *host == step.host);
        of_host
            .flat_map(|(_, journal)| &journal.entries)
            .any(|line| (line.step, line.state) == (step.id, state))
    };
    if !steps(OnFailure::GoOn).any(|step| says(step, JournalState::Begun)) {
        return;
    }
    let has_journal = |step: &&Step| journals.iter().any(|(host, _)| *host == step.host);
    for step in steps(OnFailure::PutBack).filter(has_journal) {
        assert!(says(step, JournalState::Done), "{context}: {} on {} is open", step.action, step.host);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_at_any_call_is_cleaned_up_after_by_the_next() {
    let both: &[Moment] = &[Moment::Before, Moment::After];
    for (version, moments) in [("v2", both), ("v1", &[Moment::After])] {
        let (first, last) = calls_of_a_deploy(version).await;
        assert!(last - first > 40, "a deploy of {} calls", last - first);
        for call in first + 1..=last {
            for moment in moments.iter().copied() {
                let context = format!("{version}: gone at call {call}, {moment:?}");
                let scene = Scene::running(fixture()).await;
                scene.fleet.inject(Fault { host: None, point: Point::Call(call), moment, harm: Harm::Crash });
                assert!(
                    scene.deploy_or_crash(&scene.fleet.client(), version, 2).await.is_none(),
                    "{context}"
                );
                assert_what_is_retired_is_live(&scene, &context);
                scene.deploy(&scene.fleet.client(), "v3", 3).await.expect(&context);
                scene.assert_live("v3", &context);
                scene.assert_no_outage(&context);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_while_it_recovers_is_cleaned_up_after_too() {
    let (first, last) = calls_of_a_deploy("v2").await;
    for call in [first + 20, first + 30, last - 12] {
        let mut next = 1;
        loop {
            let context = format!("gone at call {call}, then {next} calls later");
            let scene = Scene::running(fixture()).await;
            let crash =
                |call, moment| Fault { host: None, point: Point::Call(call), moment, harm: Harm::Crash };
            scene.fleet.inject(crash(call, Moment::After));
            assert!(scene.deploy_or_crash(&scene.fleet.client(), "v2", 2).await.is_none());
            scene.fleet.inject(crash(scene.fleet.calls() + next, Moment::After));
            let second = scene.fleet.client();
            let is_over = scene.deploy_or_crash(&second, "v3", 3).await.is_some();
            scene.fleet.clear_faults();
            let recovered =
                second.watch().events().iter().any(|event| matches!(event, Event::Planned { .. }));
            scene.deploy(&scene.fleet.client(), "v4", 4).await.expect(&context);
            scene.assert_live("v4", &context);
            scene.assert_no_outage(&context);
            if is_over || recovered {
                break;
            }
            next += 1;
        }
        assert!(next > 10, "recovering takes {next} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wakes_up_late_changes_nothing() {
    let (first, last) = calls_of_a_deploy("v2").await;
    // Its first two calls take the lock and raise the other host's fence: who sleeps there has nothing yet and may
    // take the lock anew.
    for call in first + 3..=last {
        for moment in [Moment::Before, Moment::After] {
            let context = format!("asleep at call {call}, {moment:?}");
            let scene = Scene::running(fixture()).await;
            scene.fleet.inject(Fault { host: None, point: Point::Call(call), moment, harm: Harm::Freeze });
            let late = scene.fleet.client();
            let work = async {
                let result = scene.deploy(&late, "v2", 2).await;
                (result, scene.snapshot())
            };
            let others = async {
                late.frozen().await;
                scene.deploy(&scene.fleet.client(), "v3", 3).await.expect(&context);
                scene.assert_live("v3", &context);
                let effects: Vec<_> = scene.fleet.machines().map(|machine| machine.effects()).collect();
                late.thaw();
                (scene.snapshot(), effects)
            };
            let ((result, after), (before, effects)) = tokio::join!(work, others);
            assert_eq!(after, before, "{context}");
            let now: Vec<_> = scene.fleet.machines().map(|machine| machine.effects()).collect();
            assert_eq!(now, effects, "{context}");
            scene.assert_no_outage(&context);
            scene.assert_live("v3", &context);
            match result {
                // It fell asleep when everything was done.
                Ok(report) => assert_eq!(report.kind, PlanKind::Deploy, "{context}"),
                Err(error) => {
                    assert_eq!(error.kind(), freehold_model::ErrorKind::Locked, "{context}: {error:?}")
                }
            }
        }
    }
}
