use std::time::Duration;

use freehold_fleet::{Event, ExecuteError, PutBack, Stop, Watch};
use freehold_model::ErrorKind;
use freehold_plan::{OnFailure, StepId};
use freehold_testkit::{Harm, Moment};

use crate::harness::{DeployError, Scene, at_step, steps_of};

/// Deploys `v2` and presses Ctrl-C when a step begins.
async fn interrupted_at(scene: &Scene, step: StepId) -> Result<freehold_fleet::Report, DeployError> {
    let stop = Stop::default();
    let client = scene.fleet.client();
    let soft = stop.soft.clone();
    let watching = async {
        loop {
            let has_begun = client
                .watch()
                .events()
                .iter()
                .any(|event| matches!(event, Event::StepStarted { step: id, .. } if *id == step));
            if has_begun {
                break soft.cancel();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (result, ()) = tokio::join!(scene.deploy_until(&client, "v2", 2, &stop), watching);
    result
}

/// kamal-compat §18 row 10
#[tokio::test(start_paused = true)]
async fn the_first_ctrl_c_before_the_switch_is_over_puts_everything_back() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    let plan = scene.next_plan("v2", 2).await;
    for step in steps_of(&plan, OnFailure::PutBack) {
        let context = format!("{} on {}", step.action, step.host);
        let error = interrupted_at(&scene, step.id).await.expect_err(&context);
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{context}: {error:?}");
        let error = error.execute();
        assert!(
            matches!(error, ExecuteError::Interrupted { put_back: PutBack::Complete }),
            "{context}: {error:?}"
        );
        assert_eq!(scene.snapshot(), before, "{context}");
    }
    scene.assert_no_outage("interrupted at every step");
}

#[tokio::test(start_paused = true)]
async fn the_first_ctrl_c_after_the_switch_leaves_the_rest_to_the_next_run() {
    let reference = Scene::three_hosts().await;
    let plan = reference.next_plan("v2", 2).await;
    let mut interrupted = 0;
    for step in steps_of(&plan, OnFailure::GoOn) {
        let context = format!("{} on {}", step.action, step.host);
        let scene = Scene::three_hosts().await;
        match interrupted_at(&scene, step.id).await {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{context}");
                assert!(matches!(error.execute(), ExecuteError::InterruptedLive { .. }), "{context}");
                interrupted += 1;
            }
            // The other hosts had begun their last steps, too.
            Ok(_) => scene.assert_live("v2", &context),
        }
        scene.deploy(&scene.fleet.client(), "v3", 3).await.expect(&context);
        scene.assert_live("v3", &context);
        scene.assert_no_outage(&context);
    }
    assert!(interrupted > 6, "{interrupted}");
}

#[tokio::test(start_paused = true)]
async fn waits_end_early_when_told() {
    let scene = Scene::three_hosts().await;
    let before = scene.snapshot();
    let plan = scene.next_plan("v2", 2).await;
    let waits = steps_of(&plan, OnFailure::PutBack);
    let wait = waits.iter().find(|step| step.action.to_string().starts_with("wait until")).expect("a wait");
    scene.fleet.inject(at_step(wait, Moment::Before, Harm::Hang));
    let began = tokio::time::Instant::now();
    interrupted_at(&scene, wait.id).await.expect_err("interrupted");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(scene.snapshot(), before);
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_one_host_ends_the_waits_on_the_others() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let steps = steps_of(&plan, OnFailure::PutBack);
    let mut waits = steps.iter().filter(|step| step.action.to_string() == "wait until app-web-v2 is healthy");
    let (hangs, fails) = (waits.next().expect("a wait"), waits.next().expect("another"));
    scene.fleet.inject(at_step(hangs, Moment::Before, Harm::Hang));
    scene.fleet.inject(at_step(fails, Moment::Before, Harm::Fail));
    let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("a failure").execute();
    let failures = error.failures();
    assert_eq!((failures.len(), failures[0].step), (1, fails.id), "the one that was stopped is no failure");
    scene.assert_live("v1", "put back");
}

#[tokio::test(start_paused = true)]
async fn the_second_ctrl_c_ends_at_once_and_says_what_is_left() {
    let scene = Scene::three_hosts().await;
    let plan = scene.next_plan("v2", 2).await;
    let switch = steps_of(&plan, OnFailure::PutBack)
        .into_iter()
        .find(|step| step.action.to_string().starts_with("send requests"))
        .expect("a switch");
    scene.fleet.inject(at_step(&switch, Moment::Before, Harm::Slow(Duration::from_secs(600))));
    let stop = Stop::default();
    let client = scene.fleet.client();
    let (soft, hard) = (stop.soft.clone(), stop.hard.clone());
    let began = tokio::time::Instant::now();
    let pressing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        soft.cancel();
        tokio::time::sleep(Duration::from_secs(3)).await;
        hard.cancel();
    };
    let (result, ()) = tokio::join!(scene.deploy_until(&client, "v2", 2, &stop), pressing);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let error = result.expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let ExecuteError::Interrupted { put_back: PutBack::Incomplete { left, .. } } = error.execute() else {
        panic!("something is left")
    };
    assert!(left.iter().any(|left| left.step == switch.id), "{left:?}");
    scene.deploy(&scene.fleet.client(), "v3", 3).await.expect("the next deploy");
    scene.assert_live("v3", "the next deploy");
    scene.assert_no_outage("stopped twice");
}

#[test]
fn executing_can_be_a_task_of_a_server() {
    fn is_send<T: Send>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _context = runtime.enter();
    let work = async {
        let scene = Scene::three_hosts().await;
        scene.deploy(&scene.fleet.client(), "v2", 2).await.is_ok()
    };
    is_send(&work);
    fn is_watch<T: Watch>() {}
    is_watch::<freehold_testkit::RecordingWatch>();
}
