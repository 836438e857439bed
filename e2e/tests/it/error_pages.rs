use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_shows_the_pages_of_the_release_that_serves() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.more = "error_pages_path: public\nretain_containers: 1\n".to_owned();
    scene.write(&scene.file);
    let host = scene.host("h1");
    let pages = "/root/.kamal/proxy/apps-config/hello/error_pages";
    for version in ["1", "2", "3"] {
        for status in ["404", "502", "503", "504"] {
            let page = format!("<p>{status} of release {version}: it is not \\ 'quoted' $HOME</p>");
            scene.project.write(&format!("public/{status}.html"), &page).unwrap();
        }
        scene.project.write("public/index.html", "no error page").unwrap();
        scene.deploy_well(version).await;
    }
    assert_eq!(
        host.exec(&format!("ls {pages}/3")).await.unwrap(),
        "404.html\n502.html\n503.html\n504.html\n"
    );
    assert_eq!(host.exec(&format!("ls {pages}")).await.unwrap(), "2\n3\n", "old ones go with their release");
    // 502 where the address refuses, 504 where nobody answers for it any more.
    let body = async |container: &str| {
        host.docker(&["stop", container]).await.unwrap();
        host.exec("curl --silent --max-time 40 http://localhost/").await.unwrap()
    };
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    let shown = body("hello-web-2").await;
    assert!(shown.contains(" of release 2: it is not \\ 'quoted' $HOME"), "{shown}");
}
