use std::time::Duration;

use crate::following::is_started_step;
use crate::scene::{Scene, THREE, expect_no_failure};

/// The connection to the second host breaks at each of its steps and stays broken for a second. Before the switch is
/// done everywhere everything is put back; after it the release stays.
#[tokio::test(flavor = "multi_thread")]
async fn connection_cut_at_every_step_is_all_or_nothing() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("0").await;
    let relay = scene.relay("h2").await;
    let mut whole = scene.follow("1");
    let mut titles = Vec::new();
    while let Some(event) = whole.until(|event| is_started_step(event, "h2")).await {
        titles.push(event["title"].as_str().unwrap().to_owned());
    }
    whole.end().await.expect_code(0).unwrap();
    assert!(titles.len() > 5, "{titles:?}");
    let load = scene.load().await;
    let mut serving = "1".to_owned();
    for index in 0..titles.len() {
        let version = format!("c{index}");
        let mut deploy = scene.follow(&version);
        let mut seen = 0;
        let step = deploy
            .until(|event| {
                seen += usize::from(is_started_step(event, "h2"));
                seen > index
            })
            .await;
        let Some(step) = step else { panic!("step {index} did not come: {}", deploy.seen()) };
        relay.refuse();
        relay.cut();
        tokio::time::sleep(Duration::from_secs(1)).await;
        relay.admit();
        let run = deploy.end().await;
        println!(
            "case cut at `{}`: code {:?} after {:.1} s",
            step["title"].as_str().unwrap(),
            run.code,
            run.elapsed.as_secs_f64()
        );
        match run.code {
            Some(0) => serving = version,
            Some(4) => assert!(run.stderr.contains("h2"), "{}", run.stderr),
            code => panic!("{code:?}: {}", run.stderr),
        }
        scene.expect_serving(&serving).await;
        scene.expect_clean(&serving).await;
        if index % 4 == 3 {
            let next = format!("d{index}");
            scene.deploy_well(&next).await;
            serving = next;
        }
    }
    println!("{}", expect_no_failure(load).await);
    println!("{} cases passed", titles.len());
}
