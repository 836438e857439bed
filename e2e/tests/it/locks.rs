use std::time::Duration;

use crate::deploy_file::DeployFile;
use crate::following::Following;
use crate::scene::{Scene, THREE, expect_no_failure};

/// kamal-compat §12.1 row 9; kamal-compat §15 row 4.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_deploys_one_wins_and_the_other_names_the_holder_or_waits() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    scene.write(&DeployFile { soak: 4, ..scene.file.clone() });
    let mut first = scene.follow("2");
    first.until(|event| event["event"] == "locked").await.unwrap();
    let refused = scene.run(&["deploy", "--version", "3"]).await.expect_code(5).unwrap();
    assert!(refused.stderr.contains("Locked by"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Version: 2"), "{}", refused.stderr);
    let waiting = scene.run(&["deploy", "--version", "2", "--lock-wait"]);
    let (first, waited) = tokio::join!(first.end(), waiting);
    first.expect_code(0).unwrap();
    waited.expect_code(0).unwrap();
    scene.expect_serving("2").await;
    let report = expect_no_failure(load).await;
    println!("{report}");
}

/// A client that slept while another one took its lock over changes nothing when it wakes up.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_client_that_wakes_up_changes_nothing() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    for (number, title) in ["prepare", "start", "send requests", "drain"].iter().enumerate() {
        let (old, new) = (format!("p{number}"), format!("q{number}"));
        let mut paused = scene.follow(&old);
        paused
            .until(|event| {
                event["event"] == "step_started" && event["title"].as_str().unwrap().starts_with(title)
            })
            .await
            .unwrap();
        paused.signal("STOP");
        scene.project.set_version(&new).unwrap();
        let arguments = ["deploy", "--version", &new, "--lock-wait"];
        let run = Following::start(&scene.project, &arguments).end().await.expect_code(0).unwrap();
        scene.expect_serving(&new).await;
        let before = states(&scene).await;
        paused.signal("CONT");
        let woken = tokio::time::timeout(Duration::from_secs(60), paused.end()).await.unwrap();
        assert!(matches!(woken.code, Some(4 | 5)), "{woken:?}");
        assert!(format!("{}{}", woken.stdout, woken.stderr).contains("taken over"), "{woken:?}");
        assert_eq!(states(&scene).await, before);
        scene.expect_serving(&new).await;
        scene.expect_clean(&new).await;
        println!(
            "case paused at `{title}`: the other took {:.1} s, then code {:?}",
            run.elapsed.as_secs_f64(),
            woken.code
        );
    }
    println!("{}", expect_no_failure(load).await);
}

async fn states(scene: &Scene) -> Vec<crate::scene::State> {
    let mut states = Vec::new();
    for host in scene.hosts() {
        states.push(scene.state(&host).await);
    }
    states
}
