use crate::following::{Following, is_finished_step};
use crate::scene::{Scene, THREE, expect_no_failure};

/// The client is killed after each step that an undisturbed deploy journals. The next deploy finds what was left and
/// finishes or undoes it.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_every_step_the_next_run_puts_it_right() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("0").await;
    let mut whole = scene.follow("1");
    let mut steps = Vec::new();
    while let Some(event) = whole.until(is_finished_step).await {
        steps.push(format!("{} of {}", event["step"], event["host"].as_str().unwrap()));
    }
    whole.end().await.expect_code(0).unwrap();
    assert!(steps.len() > 10, "{steps:?}");
    let load = scene.load().await;
    for (index, step) in steps.iter().enumerate() {
        let killed = format!("k{index}");
        let titles = kill_after(scene.follow(&killed), index + 1).await;
        let left: usize = {
            let mut left = 0;
            for host in scene.hosts() {
                left += scene.state(&host).await.unfinished.len();
            }
            left
        };
        let next = format!("n{index}");
        let run = scene.deploy_well(&next).await;
        let recovered = run.stderr.contains("recover") || run.stderr.contains("unfinished");
        println!(
            "case killed after event {} (step {step}; {}): {left} files left, recovered: {recovered}, next run {:.1} s",
            index + 1,
            titles.last().map_or("", String::as_str),
            run.elapsed.as_secs_f64()
        );
    }
    println!("{}", expect_no_failure(load).await);
    println!("{} cases passed", steps.len());
}

/// Kills a deploy as soon as so many of its steps have ended, and returns their titles.
async fn kill_after(mut deploy: Following, count: usize) -> Vec<String> {
    let mut ended = 0;
    let mut titles = Vec::new();
    while ended < count {
        let Some(event) = deploy.next().await else { break };
        if event["event"] == "step_started" {
            titles.push(format!(
                "{} on {}",
                event["title"].as_str().unwrap(),
                event["host"].as_str().unwrap()
            ));
        }
        ended += usize::from(is_finished_step(&event));
    }
    deploy.kill().await;
    titles
}
