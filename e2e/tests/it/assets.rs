use freehold_e2e::lab::Host;

use crate::scene::{Scene, expect_no_failure};

const ASSETS: &str = ".kamal/apps/hello/assets";

/// Gives the image a file whose name changes with each version, and one whose content does.
fn dress(scene: &Scene, version: &str) {
    let dockerfile = "FROM scratch\nCOPY hello /hello\nCOPY VERSION /VERSION\nCOPY assets /public/assets\nEXPOSE 80\n\
                      ENTRYPOINT [\"/hello\"]\n";
    scene.project.write("Dockerfile", dockerfile).unwrap();
    scene.project.write(".dockerignore", "config\n").unwrap();
    let assets = scene.project.folder().join("assets");
    if assets.exists() {
        fs_err::remove_dir_all(&assets).unwrap();
    }
    scene.project.write(&format!("assets/app-{version}.css"), version).unwrap();
    scene.project.write("assets/deep/same.js", "same").unwrap();
}

async fn files(host: &Host, home: &str, folder: &str) -> Vec<String> {
    let script = format!("cd {home}/{ASSETS}/{folder} 2>/dev/null || exit 0; find . -type f | sort");
    host.exec(&script).await.unwrap().lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

/// What the container of a version sees at the path.
async fn seen(host: &Host, version: &str) -> Vec<String> {
    let script = format!("docker cp hello-web-{version}:/public/assets - | tar --list | grep -v '/$' | sort");
    host.exec(&script)
        .await
        .unwrap()
        .lines()
        .map(|line| line.trim_start_matches("assets/").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_have_the_assets_of_each_other() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.more = "asset_path: /public/assets:ro\nretain_containers: 1\n".to_owned();
    scene.write(&scene.file);
    let host = scene.host("h1");
    dress(&scene, "1");
    scene.deploy_well("1").await;
    let load = scene.load().await;
    dress(&scene, "2");
    scene.deploy_well("2").await;
    expect_no_failure(load).await;
    let both = ["app-1.css", "app-2.css", "deep/same.js"];
    assert_eq!(files(&host, "/root", "volumes/web-1").await, both, "a page of 2 may ask a container of 1");
    assert_eq!(files(&host, "/root", "extracted/web-2").await, ["app-2.css", "deep/same.js"]);
    assert_eq!(seen(&host, "2").await, both, "and the other way round");
    assert_eq!(host.containers().await.unwrap(), ["hello-web-1", "hello-web-2", "kamal-proxy"]);
    let volumes = host.docker(&["volume", "ls", "--quiet"]).await.unwrap();
    assert_eq!(volumes.trim(), "kamal-proxy-config");

    // An image without the folder, and the way back.
    fs_err::write(
        scene.project.folder().join("Dockerfile"),
        "FROM scratch\nCOPY hello /hello\nCOPY VERSION /VERSION\nENTRYPOINT [\"/hello\"]\n",
    )
    .unwrap();
    let refused = scene.deploy("3").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("has nothing in `/public/assets`"), "{}", refused.stderr);
    let left = host.exec(&format!("cd /root/{ASSETS}; find . -name '*web-3*'")).await.unwrap();
    assert_eq!(left, "", "put back");
    scene.expect_serving("2").await;

    // Kamal removes the assets of every other version; a rollback brings them back.
    host.exec(&format!("rm -rf /root/{ASSETS}/extracted/web-1 /root/{ASSETS}/volumes/web-1")).await.unwrap();
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    scene.expect_serving("1").await;
    assert_eq!(seen(&host, "1").await, both);

    dress(&scene, "4");
    scene.deploy_well("4").await;
    dress(&scene, "5");
    scene.deploy_well("5").await;
    let folders = host.exec(&format!("cd /root/{ASSETS}/volumes; ls")).await.unwrap();
    assert!(!folders.lines().any(|name| name == "web-1"), "they go with their containers: {folders}");
    scene.run(&["remove", "--confirmed"]).await.expect_code(0).unwrap();
    assert_eq!(host.exec("ls /root/.kamal/apps").await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_root_can_share_assets_too() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.more = "asset_path: /public/assets\nretain_containers: 1\nssh:\n  user: deploy\n".to_owned();
    scene.write(&scene.file);
    let host = scene.host("h1");
    host.exec("chown deploy: /home/deploy").await.unwrap();
    for version in ["1", "2", "3"] {
        dress(&scene, version);
        scene.deploy(version).await.expect_code(0).unwrap();
        scene.expect_serving(version).await;
    }
    let both = ["app-2.css", "app-3.css", "deep/same.js"];
    assert_eq!(files(&host, "/home/deploy", "volumes/web-3").await, both);
    assert_eq!(files(&host, "/home/deploy", "volumes/web-1").await, [""; 0], "removed without being root");
}
