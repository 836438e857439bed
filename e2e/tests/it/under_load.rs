use crate::scene::{Scene, THREE, expect_no_failure};

/// Twenty releases in a row on three hosts, with every kind of request under way all the time.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_deploys_in_a_row_fail_no_request() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("0").await;
    let load = scene.load().await;
    let mut times = Vec::new();
    for version in 1..=20 {
        let run = scene.deploy_well(&version.to_string()).await;
        times.push(run.elapsed);
    }
    let report = expect_no_failure(load).await;
    times.sort();
    println!("20 deploys: {:?} to {:?}, median {:?}", times[0], times[19], times[10]);
    println!("{report}");
}
