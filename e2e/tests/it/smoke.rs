use crate::scene::{Scene, expect_no_failure};

/// kamal-compat §12.2 rows 3, 4, 5, 6, 7, 10, 16, 17, 41; kamal-compat §13.6 row 1; kamal-compat §15 row 3.
#[tokio::test(flavor = "multi_thread")]
async fn one_host_from_nothing_to_nothing() {
    let scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");

    let plan = scene.run(&["plan", "--version", "1"]).await.expect_code(0).unwrap();
    assert!(plan.stdout.contains("hello-web-1"), "{}", plan.stdout);
    assert_eq!(scene.state(&host).await.running, [""; 0], "plan changes nothing");

    scene.deploy_well("1").await;
    let load = scene.load().await;
    let run = scene.deploy_well("2").await;
    println!("deploy of an application that serves: {:?}", run.elapsed);
    let run = scene.run(&["redeploy", "--version", "3"]).await.expect_code(0).unwrap();
    println!("redeploy: {:?}", run.elapsed);
    scene.expect_clean("3").await;
    let run = scene.run(&["rollback"]).await.expect_code(0).unwrap();
    println!("rollback: {:?}", run.elapsed);
    scene.expect_serving("2").await;
    scene.expect_clean("2").await;
    let report = expect_no_failure(load).await;
    println!("{report}");

    for arguments in
        [&["status"][..], &["details"], &["releases"], &["app", "version"], &["app", "containers"]]
    {
        let run = scene.run(arguments).await.expect_code(0).unwrap();
        assert!(run.stdout.contains('2'), "{arguments:?}: {}", run.stdout);
        let json = scene.run(&[arguments, &["--json"]].concat()).await.expect_code(0).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["ok"], true, "{json}");
    }
    let logs = scene.run(&["app", "logs"]).await.expect_code(0).unwrap();
    assert!(logs.stdout.contains("hello 2 listens on"), "{}", logs.stdout);
    // The image has no other program: a second one beside the first finds the port taken.
    let run = scene.run(&["app", "exec", "--reuse", "/hello"]).await.expect_code(1).unwrap();
    assert!(run.stdout.contains("cannot listen on 0.0.0.0:80: Address already in use"), "{run:?}");
    let audit = scene.run(&["audit"]).await.expect_code(0).unwrap();
    let booted: Vec<&str> = audit
        .stdout
        .lines()
        .filter_map(|line| line.split_once("[web] Booted app version "))
        .map(|(_, v)| v)
        .collect();
    // A rollback is told as Kamal tells it.
    assert!(booted == ["1", "2", "3", "2"], "{}", audit.stdout);

    scene.run(&["lock", "acquire", "-m", "for a test"]).await.expect_code(0).unwrap();
    let status = scene.run(&["lock", "status"]).await.expect_code(0).unwrap();
    assert!(status.stdout.contains("for a test"), "{}", status.stdout);
    let refused = scene.deploy("4").await.expect_code(5).unwrap();
    assert!(refused.stderr.contains("for a test"), "{}", refused.stderr);
    scene.run(&["lock", "release"]).await.expect_code(0).unwrap();

    scene.run(&["app", "stop"]).await.expect_code(0).unwrap();
    assert_eq!(scene.state(&host).await.running, [""; 0]);
    scene.run(&["app", "start"]).await.expect_code(0).unwrap();
    scene.expect_serving("2").await;

    scene.run(&["remove", "--confirmed"]).await.expect_code(0).unwrap();
    assert_eq!(host.containers().await.unwrap(), [""; 0]);
    let images = host.docker(&["image", "ls", "--quiet", "hello"]).await.unwrap();
    assert_eq!(images, "");
    // The fencing number stays: it refuses a client that slept through the removal. So does the audit log.
    let left = host.exec("cd /root; find .kamal -type f ! -name fence ! -name '*-audit.log'").await.unwrap();
    assert_eq!(left, "");
}
