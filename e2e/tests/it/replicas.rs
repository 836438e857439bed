use crate::scene::{Scene, eventually, expect_no_failure};

#[tokio::test(flavor = "multi_thread")]
async fn several_containers_of_a_role_share_the_requests_and_are_replaced_together() {
    let scene = Scene::new(&["h1"]).await;
    let file = scene.file.render();
    let replicated =
        file.replace("servers:\n  - h1\n", "servers:\n  web:\n    hosts: [h1]\n    replicas: 2\n");
    scene.project.write("config/deploy.yml", &replicated).unwrap();
    let host = scene.host("h1");
    scene.deploy("1").await.expect_code(0).unwrap();
    scene.expect_serving("1").await;
    let load = scene.load().await;
    scene.deploy("2").await.expect_code(0).unwrap();
    assert_eq!(scene.state(&host).await.running, ["hello-web-2", "hello-web-2_replica_2"]);
    // Both are asked: the page tells the host name of the container.
    let mut names = std::collections::BTreeSet::new();
    eventually("answers of both", async || {
        let page = crate::scene::ask(crate::scene::address(&host), "/").await.unwrap();
        names.insert(page);
        names.len() == 2
    })
    .await;
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    assert_eq!(scene.state(&host).await.running, ["hello-web-1", "hello-web-1_replica_2"]);
    expect_no_failure(load).await;
    scene.write(&scene.file);
    scene.deploy("3").await.expect_code(0).unwrap();
    assert_eq!(scene.state(&host).await.running, ["hello-web-3"], "and back to one");
}
