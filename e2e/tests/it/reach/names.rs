use super::{lab, lay_in_busybox, private, with_input};
use crate::scene::Scene;

/// The application with a shell, so that a container can be asked what it knows.
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY hello /hello\n\
    COPY VERSION /VERSION\nEXPOSE 80\nCMD [\"/hello\"]\n";

/// A role on a host that only the private network reaches is found by its name, as an accessory is.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_on_another_host_is_reached_by_its_name() {
    let scene = Scene::on(lab().await, &["bastion", "app"]).await;
    let (bastion, app) = (scene.host("bastion"), scene.host("app"));
    let (public, web, search) = (bastion.address().unwrap(), private(&bastion), private(&app));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let file = format!(
        "service: hello\nimage: hello\nservers:\n  web: [{web}]\n  search:\n    hosts: [{search}]\n    \
         options: {{publish: '{search}:9200:80'}}\nssh: {{proxy: root@{public}}}\n\
         proxy:\n  app_port: 80\n  healthcheck: {{path: /up, interval: 1, timeout: 2}}\n\
         readiness_delay: 1\nbuilder: {{arch: {arch}, context: .}}\n"
    );
    scene.project.write("config/deploy.yml", &file).unwrap();
    scene.project.write("Dockerfile", DOCKERFILE).unwrap();
    scene.project.write(".dockerignore", ".kamal\n").unwrap();
    lay_in_busybox(&scene, &bastion).await;
    scene.project.set_version("1").unwrap();
    scene.run(&["deploy", "--version", "1"]).await.expect_code(0).unwrap();

    let shell = ["app", "exec", "--interactive", "--reuse", "--roles", "web", "sh"];
    let ask = "echo known as $FREEHOLD_SEARCH_HOSTS; busybox wget -q -O - http://hello-search:9200/version\n";
    let run = with_input(&scene, &shell, ask).await.unwrap().expect_code(0).unwrap();
    assert_eq!(run.stdout.trim(), format!("known as {search}\n1"), "{}", run.stderr);
    // The other way round there is nothing: the proxy's ports are not the role's own.
    let shell = ["app", "exec", "--interactive", "--reuse", "--roles", "search", "sh"];
    let ask = "echo known as $FREEHOLD_WEB_HOSTS.\n";
    let run = with_input(&scene, &shell, ask).await.unwrap().expect_code(0).unwrap();
    assert_eq!(run.stdout.trim(), "known as .", "{}", run.stderr);
}
