use crate::scene::{Scene, expect_no_failure};

/// Puts a shell into the image and has the release command run a script.
fn script(scene: &mut Scene, script: &str) {
    let dockerfile = "FROM scratch\nCOPY hello /hello\nCOPY busybox /busybox\nCOPY VERSION /VERSION\nEXPOSE 80\n\
                      CMD [\"/hello\"]\n";
    scene.project.write("Dockerfile", dockerfile).unwrap();
    scene.project.write(".dockerignore", "config\n").unwrap();
    let target = scene.project.folder().join("busybox");
    fs_err::copy("/bin/busybox", target).expect("this test needs busybox-static");
    let hosts = scene.file.hosts.join(", ");
    let file = scene.file.render();
    let (head, rest) = file.split_once("servers:\n").unwrap();
    let (_, rest) = rest.split_once("proxy:\n").unwrap();
    let text = format!(
        "{head}servers:\n  web:\n    hosts: [{hosts}]\n    release_command: \"/busybox sh -c '{script}'\"\n\
         proxy:\n{rest}"
    );
    scene.project.write("config/deploy.yml", &text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_once_on_the_new_image_before_anything_boots() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    script(&mut scene, "echo migrating $GREETING to $KAMAL_VERSION; echo ran >> /data/runs");
    let file = fs_err::read_to_string(scene.project.folder().join("config/deploy.yml")).unwrap();
    scene.project.write("config/deploy.yml", &format!("{file}volumes: [\"data:/data\"]\n")).unwrap();
    let run = scene.deploy_well("1").await;
    assert!(run.stderr.contains("migrating Hello to 1"), "its output is shown: {}", run.stderr);
    let runs = async |name: &str| {
        let script = "cat /var/lib/docker/volumes/data/_data/runs 2>/dev/null | wc -l";
        scene.host(name).exec(script).await.unwrap().trim().to_owned()
    };
    assert_eq!((runs("h1").await, runs("h2").await), ("1".to_owned(), "0".to_owned()));
    for host in scene.hosts() {
        assert_eq!(host.containers().await.unwrap(), ["hello-web-1", "kamal-proxy"], "none is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_stops_the_deploy_and_says_why() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    script(&mut scene, "true");
    scene.deploy_well("1").await;
    let load = scene.load().await;
    script(&mut scene, "echo column is missing; exit 7");
    let failed = scene.deploy("2").await.expect_code(1).unwrap();
    assert!(
        failed.stderr.contains("the release command of role `web` ended with code 7"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("column is missing"), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("everything: every host serves what it served before"),
        "{}",
        failed.stderr
    );
    expect_no_failure(load).await;
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;
    for host in scene.hosts() {
        assert_eq!(host.containers().await.unwrap(), ["hello-web-1", "kamal-proxy"], "nothing of 2 ran");
    }
}
