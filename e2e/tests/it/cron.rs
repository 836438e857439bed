use freehold_e2e::project::Run;
use serde_json::Value;

use crate::scene::{Scene, THREE, eventually};

/// Jobs of role `web`, whose first host is h1. None is due while the tests run.
const JOBS: &str = "cron:
  hello: {schedule: \"0 0 1 1 *\", cmd: env}
  fails: {schedule: \"0 0 1 1 *\", cmd: exit 7}
  sleeps: {schedule: \"0 0 1 1 *\", cmd: sleep 300}
  slow: {schedule: \"0 0 1 1 *\", cmd: sleep 300, timeout: 2}
";

async fn scene(hosts: &[&str], jobs: &str) -> Scene {
    let mut scene = Scene::new(hosts).await;
    scene.file.more = jobs.to_owned();
    scene.file.secrets = vec!["PASSWORD".to_owned()];
    scene.project.write(".kamal/secrets", "PASSWORD=marked-secret\n").unwrap();
    scene.write(&scene.file);
    scene
}

fn result(run: &Run) -> Value {
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    value["result"].clone()
}

async fn jobs(scene: &Scene) -> Vec<Value> {
    let run = scene.run(&["cron", "list", "--json"]).await.expect_code(0).unwrap();
    result(&run).as_array().unwrap().clone()
}

/// Returns the runs of a job as they are listed, latest first: how each stands, and its version.
async fn history(scene: &Scene, job: &str) -> Vec<(String, String)> {
    let run = scene.run(&["cron", "history", job, "--json"]).await.expect_code(0).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = result(&run);
    let runs = runs.as_array().unwrap().iter();
    runs.map(|run| (text(&run["state"]["state"]), text(&run["version"]))).collect()
}

/// Returns everything on a host that has to do with scheduled jobs.
async fn traces(scene: &Scene, host: &str) -> String {
    let script = "docker ps -a --filter name=freehold-agent --format '{{.Names}} {{.State}}'; \
        docker ps -a --filter label=freehold.job --format '{{.Names}} {{.State}}'; \
        docker volume ls -q | grep freehold-agent || true";
    scene.host(host).exec(script).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_with_the_role_s_image_and_secrets_and_their_ends_are_told() {
    let scene = scene(&THREE, JOBS).await;
    let planned = scene.run(&["plan", "--version", "1"]).await.expect_code(0).unwrap();
    assert!(
        planned.stdout.contains("store the jobs of web: fails, hello, sleeps, slow"),
        "{}",
        planned.stdout
    );
    scene.deploy_well("1").await;
    let listed = jobs(&scene).await;
    assert_eq!(listed.len(), 4, "{listed:?}");
    assert!(listed.iter().all(|job| job["host"] == "h1" && job["state"] == "active"), "{listed:?}");
    assert!(listed.iter().all(|job| job["next_at"].as_str().unwrap().ends_with("-01-01T00:00:00Z")));
    for host in ["h2", "h3"] {
        assert_eq!(traces(&scene, host).await, "", "only where it is needed");
    }
    let container = "docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.NetworkMode}} \
        {{.HostConfig.CapDrop}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.PortBindings}}' freehold-agent";
    let container = scene.host("h1").exec(container).await.unwrap();
    assert_eq!(container.trim(), "true none [ALL] unless-stopped map[]");

    let run = scene.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();
    for line in ["PASSWORD=marked-secret", "GREETING=Hello", "KAMAL_VERSION=1", "KAMAL_HOST=h1"] {
        assert!(run.stdout.lines().any(|seen| seen == line), "{line} in {}", run.stdout);
    }
    let again = scene.run(&["cron", "logs", "hello"]).await.expect_code(0).unwrap();
    assert_eq!(again.stdout, run.stdout);

    let failed = scene.run(&["cron", "run", "fails"]).await.expect_code(1).unwrap();
    assert!(
        failed.stderr.contains("run 1 of job `fails` on host `h1`: ended with code 7"),
        "{}",
        failed.stderr
    );
    let start = std::time::Instant::now();
    let slow = scene.run(&["cron", "run", "slow"]).await.expect_code(1).unwrap();
    assert!(slow.stderr.contains("took too long and was stopped"), "{}", slow.stderr);
    assert!(slow.stdout.contains("sleeping for 300 s") && start.elapsed().as_secs() < 30, "{slow:?}");
    let unknown = scene.run(&["cron", "run", "nothing"]).await.expect_code(2).unwrap();
    assert!(unknown.stderr.contains("the jobs are: fails, hello, sleeps, slow"), "{}", unknown.stderr);
    assert_eq!(traces(&scene, "h1").await, "freehold-agent running\nfreehold-agent\n", "no run is left");

    // Neither plan, journal, log nor the list tells a secret; nobody but root may read where it is.
    let log = scene
        .host("h1")
        .exec("docker logs freehold-agent 2>&1; cat /root/.kamal/hello-audit.log")
        .await
        .unwrap();
    assert!(log.contains("run started") && log.contains("Ran job hello, run 1"), "{log}");
    let status = scene.run(&["status", "--json"]).await.expect_code(0).unwrap();
    let planned = scene.run(&["plan", "--version", "2", "--json"]).await.expect_code(0).unwrap();
    for text in [&log, &status.stdout, &planned.stdout] {
        assert!(!text.contains("marked-secret"), "{text}");
    }
    assert!(status.stdout.contains("\"jobs\""), "{}", status.stdout);
    let modes = "v=$(docker volume inspect --format '{{.Mountpoint}}' freehold-agent); \
        find $v -type f -printf '%m\\n' | sort -u; find $v -type d -not -path $v -printf '%m\\n' | sort -u";
    assert_eq!(scene.host("h1").exec(modes).await.unwrap(), "600\n700\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_when_it_is_due_and_the_agent_s_restart_loses_nothing() {
    let scene = scene(&["h1"], "cron:\n  tick: {schedule: \"* * * * *\", cmd: sleep 20}\n").await;
    scene.deploy_well("1").await;
    // It is due within a minute.
    let deadline = std::time::Instant::now();
    loop {
        let runs = history(&scene, "tick").await;
        if runs.iter().any(|(state, _)| state == "running") {
            break;
        }
        assert!(deadline.elapsed().as_secs() < 70, "it never ran: {runs:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    // Another run of it meanwhile is left out.
    let skipped = scene.run(&["cron", "run", "tick"]).await.expect_code(1).unwrap();
    assert!(skipped.stderr.contains("skipped: another run went on"), "{}", skipped.stderr);

    // An agent that is killed finds the run again.
    scene.host("h1").exec("docker kill freehold-agent && docker start freehold-agent").await.unwrap();
    eventually("the end of the run", async || {
        let runs = scene.run(&["cron", "history", "tick", "--json"]).await;
        runs.code == Some(0) && runs.stdout.contains("\"exit_code\":0")
    })
    .await;
    let runs = scene.run(&["cron", "history", "tick", "--json"]).await.expect_code(0).unwrap();
    let first = result(&runs).as_array().unwrap().last().unwrap().clone();
    assert_eq!(first["cause"], "schedule", "{first}");
    let time = |name: &str| first[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let late = time("started_at").duration_since(time("due_at"));
    assert!(late.as_secs() < 5 && time("due_at").as_second() % 60 == 0, "{late:#}, {first}");
    println!("a run that was due began after {late:#}");
    assert_eq!(first["last_lines"], serde_json::json!(["sleeping for 20 s", "awake"]), "{first}");

    // What is stopped does nothing.
    scene.run(&["app", "stop"]).await.expect_code(0).unwrap();
    let listed = jobs(&scene).await;
    assert_eq!((&listed[0]["state"], &listed[0]["next_at"]), (&"paused".into(), &Value::Null));
    scene.run(&["app", "start"]).await.expect_code(0).unwrap();
    assert_eq!(jobs(&scene).await[0]["state"], "active");
    scene.run(&["app", "maintenance"]).await.expect_code(0).unwrap();
    assert_eq!(jobs(&scene).await[0]["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_belong_to_their_release() {
    let mut scene = scene(&["h1", "h2"], JOBS).await;
    scene.deploy_well("1").await;
    scene.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();

    // A failed deploy leaves the earlier jobs.
    scene.file.more = JOBS.replace("hello:", "greets:");
    let healthy = scene.file.clone();
    scene.file = healthy.clone().with_fault("h2", "HELLO_UNHEALTHY", "500");
    scene.write(&scene.file);
    scene.deploy("2").await.expect_code(6).unwrap();
    let names = |jobs: Vec<Value>| -> Vec<String> {
        let deployed = jobs.into_iter().filter(|job| job["state"] == "active");
        deployed.map(|job| job["job"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(jobs(&scene).await), ["fails", "hello", "sleeps", "slow"]);
    scene.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();

    // A good one brings its own, and a rollback the earlier ones back, with their image and their history.
    scene.file = healthy;
    scene.write(&scene.file);
    scene.deploy_well("3").await;
    assert_eq!(names(jobs(&scene).await), ["fails", "greets", "sleeps", "slow"]);
    let greeted = scene.run(&["cron", "run", "greets"]).await.expect_code(0).unwrap();
    assert!(greeted.stdout.contains("KAMAL_VERSION=3"), "{}", greeted.stdout);
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    assert_eq!(names(jobs(&scene).await), ["fails", "hello", "sleeps", "slow"]);
    let hello = scene.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();
    assert!(hello.stdout.contains("KAMAL_VERSION=1"), "{}", hello.stdout);
    let ended = |version: &str| ("ended".to_owned(), version.to_owned());
    assert_eq!(history(&scene, "hello").await, [ended("1"), ended("1"), ended("1")]);
    scene.run(&["prune", "all"]).await.expect_code(0).unwrap();
    scene.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();

    // They move with the first host, and go with the last job.
    scene.file.hosts.reverse();
    scene.write(&scene.file);
    scene.deploy_well("4").await;
    let listed = jobs(&scene).await;
    assert!(listed.iter().all(|job| job["host"] == "h2"), "{listed:?}");
    scene.file.more.clear();
    scene.write(&scene.file);
    scene.deploy_well("5").await;
    assert_eq!(jobs(&scene).await, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_ends_what_runs_and_leaves_nothing() {
    let scene = scene(&["h1"], JOBS).await;
    scene.deploy_well("1").await;
    scene.run(&["cron", "run", "sleeps", "--detach"]).await.expect_code(0).unwrap();
    eventually("the run", async || traces(&scene, "h1").await.contains("hello-cron-sleeps-run-1 running"))
        .await;
    scene.run(&["remove", "-y"]).await.expect_code(0).unwrap();
    assert_eq!(traces(&scene, "h1").await, "");

    // The agent stays as long as anybody has jobs.
    scene.deploy_well("1").await;
    let mut other = Scene::beside(&scene, "other", &["h1"], "other.test");
    other.file.more = JOBS.to_owned();
    other.write(&other.file);
    other.project.set_version("1").unwrap();
    other.run(&["deploy", "--version", "1"]).await.expect_code(0).unwrap();
    other.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();
    scene.run(&["remove", "-y"]).await.expect_code(0).unwrap();
    assert!(traces(&scene, "h1").await.contains("freehold-agent running"));
    other.run(&["cron", "run", "hello"]).await.expect_code(0).unwrap();
    other.run(&["remove", "-y"]).await.expect_code(0).unwrap();
    assert_eq!(traces(&scene, "h1").await, "");
}
