use crate::scene::Scene;

/// kamal-compat §6 rows 12, 13, 18: an engine that is reached by SSH builds, and the hosts get the image from it.
#[tokio::test(flavor = "multi_thread")]
async fn another_machine_builds() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    let remote = "x-freehold:\n  builder:\n    remote: ssh://root@h3:22\n    local: false\n";
    scene.file.more = remote.to_owned();
    scene.write(&scene.file);
    let builder = scene.host("h3");
    scene.deploy_well("built-elsewhere").await;
    let tags = builder.docker(&["image", "ls", "--format", "{{.Tag}}", "hello"]).await.unwrap();
    assert!(tags.lines().any(|tag| tag == "built-elsewhere"), "{tags}");
    let here = std::process::Command::new("docker")
        .env("DOCKER_HOST", scene.lab.engine_address())
        .args(["image", "inspect", "hello:built-elsewhere"])
        .output()
        .unwrap();
    assert!(!here.status.success(), "this machine's engine has nothing to do with it");
    let details = scene.run(&["build", "details"]).await.expect_code(0).unwrap();
    assert!(details.stdout.contains("h3"), "{}", details.stdout);
    // The host that only builds gets neither proxy nor containers.
    assert!(builder.containers().await.unwrap().is_empty());
    // What was built before is sent from there.
    scene.host("h1").docker(&["rm", "--force", "hello-web-built-elsewhere"]).await.unwrap();
    let words = ["deploy", "--version", "built-elsewhere", "--skip-push"];
    scene.run(&words).await.expect_code(0).unwrap();
    scene.expect_serving("built-elsewhere").await;
}
