use std::path::Path;
use std::process::Command;

use crate::scene::Scene;

/// The name of Kamal's registry on the build machine.
const CONTAINER: &str = "kamal-docker-registry";

/// Calls `docker` for this machine's engine.
fn docker(scene: &Scene, words: &[&str]) -> std::process::Output {
    Command::new("docker").env("DOCKER_HOST", scene.lab.engine_address()).args(words).output().unwrap()
}

fn docker_well(scene: &Scene, words: &[&str]) -> String {
    let output = docker(scene, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes `registry:3` of Debian's registry, as nothing can be pulled here, unless somebody has it.
fn make_image(scene: &Scene) {
    if docker(scene, &["image", "inspect", "registry:3"]).status.success() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str| fs_err::write(folder.path().join(path), text).unwrap();
    fs_err::copy("/usr/bin/docker-registry", folder.path().join("docker-registry")).unwrap();
    file(
        "config.yml",
        "version: 0.1\nlog: {level: error}\nhttp: {addr: ':5000', secret: x}\nstorage: {filesystem: {rootdirectory: /data}}\n",
    );
    let linked = Command::new("ldd").arg("/usr/bin/docker-registry").output().unwrap();
    let text = String::from_utf8_lossy(&linked.stdout).into_owned();
    let libraries: Vec<&str> =
        text.split_whitespace().filter(|word| word.starts_with('/') && Path::new(word).is_file()).collect();
    let mut dockerfile = "FROM scratch\n".to_owned();
    for library in libraries {
        let target = folder.path().join("root").join(library.trim_start_matches('/'));
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::copy(library, &target).unwrap();
    }
    fs_err::create_dir_all(folder.path().join("root/tmp")).unwrap();
    dockerfile.push_str(
        "COPY root /\nCOPY docker-registry /docker-registry\nCOPY config.yml /config.yml\nEXPOSE 5000\n\
         ENTRYPOINT [\"/docker-registry\", \"serve\", \"/config.yml\"]\n",
    );
    file("Dockerfile", &dockerfile);
    docker_well(scene, &["build", "--quiet", "--tag", "registry:3", &folder.path().display().to_string()]);
}

/// kamal-compat §5 local row 1, kamal-compat §12.2 rows 29, 30, 32, 33.
#[tokio::test(flavor = "multi_thread")]
async fn images_go_through_the_registry_of_this_machine() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    make_image(&scene);
    docker(&scene, &["rm", "--force", "--volumes", CONTAINER]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    scene.file.more = format!("registry:\n  server: localhost:{port}\n");
    scene.write(&scene.file);
    let image = format!("localhost:{port}/hello:1");

    let run = scene.run(&["registry", "setup"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains(&format!("is started on localhost:{port}")), "{}", run.stdout);
    let bound = docker_well(&scene, &["port", CONTAINER]);
    assert!(bound.contains(&format!("5000/tcp -> 127.0.0.1:{port}")), "{bound}");
    let again = scene.run(&["registry", "setup"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("runs on"), "{}", again.stdout);

    let push = scene.run(&["build", "push", "--version", "1"]).await.expect_code(0).unwrap();
    assert!(push.stdout.contains(&format!("{image} is pushed")), "{}", push.stdout);
    // The engine that built it may forget it: the hosts get it from the registry, through their own port.
    docker_well(&scene, &["rmi", "--force", &image]);
    let pull = scene.run(&["build", "pull", "--version", "1"]).await.expect_code(0).unwrap();
    assert!(pull.stdout.contains("is on the hosts"), "{}", pull.stdout);
    for host in scene.hosts() {
        let label = "{{index .Config.Labels \"service\"}}";
        let service = host.docker(&["image", "inspect", "--format", label, &image]).await.unwrap();
        assert_eq!(service.trim(), "hello", "on {}", host.name());
        let open =
            host.attempt(&format!("curl --silent --max-time 2 http://127.0.0.1:{port}/v2/")).await.unwrap();
        assert_ne!(open.code, Some(0), "the port is closed again on {}", host.name());
    }
    scene.deploy_well("2").await;
    let dev = scene.run(&["build", "dev", "--version", "3"]).await.expect_code(0).unwrap();
    assert!(dev.stdout.contains("hello:3-dirty is built"), "{}", dev.stdout);
    docker_well(&scene, &["image", "inspect", &format!("localhost:{port}/hello:latest-dirty")]);

    let run = scene.run(&["registry", "remove"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("is removed"), "{}", run.stdout);
    assert!(!docker(&scene, &["inspect", CONTAINER]).status.success());
    let again = scene.run(&["registry", "remove"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("there was no registry"), "{}", again.stdout);
}
