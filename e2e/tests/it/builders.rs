use std::process::Command;

use base64::Engine as _;

use crate::scene::Scene;
use crate::secrets::Watcher;

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

/// Calls `docker` for this machine's engine, which has to succeed.
fn docker(scene: &Scene, words: &[&str]) -> Vec<u8> {
    let output =
        Command::new("docker").env("DOCKER_HOST", scene.lab.engine_address()).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn docker_text(scene: &Scene, words: &[&str]) -> String {
    String::from_utf8(docker(scene, words)).unwrap()
}

/// A service of its own, so that no image of another test is taken for one of this.
fn own_service(scene: &mut Scene, service: &str) {
    scene.file.service = service.to_owned();
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let dockerfile = fs_err::read_to_string(scene.project.folder().join("Dockerfile")).unwrap();
    scene.project.write("Dockerfile", &format!("{dockerfile}LABEL run={text}\n")).unwrap();
    scene.write(&scene.file);
}

/// What is built, pushed and sent is decided by the content: a tree that is as it was makes no build, another environment
/// only other containers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_built_again() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    own_service(&mut scene, "known");
    let deploy = async |scene: &Scene, words: &[&str]| {
        scene.run(&[&["deploy", "--verbose"], words].concat()).await.expect_code(0).unwrap()
    };
    let id = async |scene: &Scene, host: &str, version: &str| {
        let image = format!("known:{version}");
        scene.host(host).docker(&["image", "inspect", "--format", "{{.Id}}", &image]).await.unwrap()
    };
    let first = deploy(&scene, &["--version", "1"]).await;
    assert!(!first.stderr.contains("not built"), "{}", first.stderr);

    // The same again, under another version and under the same.
    let run = deploy(&scene, &["--version", "2"]).await;
    assert!(run.stderr.contains("not built: the same as 1"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("was there under another name").count(), 2, "{}", run.stderr);
    for host in ["h1", "h2"] {
        assert_eq!(id(&scene, host, "1").await, id(&scene, host, "2").await, "{host}");
    }
    scene.expect_clean("2").await;

    // Only the environment differs: only containers are made anew, and hardly anything goes over the wire.
    scene.file.clear = vec![("COLOUR".to_owned(), "green".to_owned())];
    scene.write(&scene.file);
    let relay = scene.relay("h1").await;
    let run = scene.run(&["redeploy", "--version", "2", "--verbose"]).await.expect_code(0).unwrap();
    let sent = relay.bytes();
    println!("a redeploy of another environment: {sent} bytes in both directions");
    assert!(sent < 400_000, "{sent} bytes");
    assert!(
        run.stderr.lines().any(|line| line.contains("build") && line.contains("nothing to do")),
        "{run:?}"
    );
    let environment = scene
        .host("h1")
        .docker(&["inspect", "--format", "{{json .Config.Env}}", "known-web-2"])
        .await
        .unwrap();
    assert!(environment.contains("COLOUR=green"), "{environment}");

    // An engine that knows nothing, as in CI, asks the hosts.
    docker(&scene, &["rmi", "--force", "known:1", "known:2"]);
    let run = deploy(&scene, &["--version", "3"]).await;
    assert!(run.stderr.contains("not built: every host has the same already"), "{}", run.stderr);
    assert_eq!(id(&scene, "h2", "2").await, id(&scene, "h2", "3").await);
    scene.expect_clean("3").await;

    // Asked to, and where one byte differs, it is built.
    let run = deploy(&scene, &["--version", "4", "--no-cache"]).await;
    assert!(!run.stderr.contains("not built"), "{}", run.stderr);
    scene.project.set_version("other").unwrap();
    let run = deploy(&scene, &["--version", "5"]).await;
    assert!(!run.stderr.contains("not built"), "{}", run.stderr);
    assert_ne!(id(&scene, "h1", "4").await, id(&scene, "h1", "5").await);
    scene.expect_serving("other").await;
}

/// Needs a shell, which the hello image has none of.
const WITH_SECRET: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY hello /hello\nCOPY VERSION /VERSION\n\
    ARG LEVEL=low\nENV LEVEL=$LEVEL\nWORKDIR /srv\nUSER 1000:1000\nEXPOSE 80\n\
    RUN --mount=type=secret,id=BUILD_TOKEN,uid=1000 \
    [\"/bin/busybox\", \"sh\", \"-c\", \"test $(/bin/busybox wc -c < /run/secrets/BUILD_TOKEN) -gt 20 && OUTCOME\"]\n\
    USER 0\nENTRYPOINT [\"/hello\"]\n";

/// A configuration as `docker image inspect` prints it, without what is not set: engines of different versions leave out
/// different parts of that.
fn configuration(text: &str) -> String {
    let (config, platform) = text.split_once('\n').unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(config).unwrap();
    let is_empty = |value: &serde_json::Value| match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => true,
        serde_json::Value::String(text) => text.is_empty(),
        _ => false,
    };
    config.retain(|_, value| !is_empty(value));
    format!("{} {platform}", serde_json::Value::Object(config))
}

/// Gives a project what builds with a secret need, and returns what marks that.
fn with_secret(scene: &Scene) -> String {
    fs_err::copy("/bin/busybox", scene.project.folder().join("busybox")).unwrap();
    scene.project.write(".dockerignore", "*\n!hello\n!VERSION\n!busybox\n").unwrap();
    let mut random = [0; 12];
    getrandom::fill(&mut random).unwrap();
    let mark: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    scene.project.write(".kamal/secrets", &format!("BUILD_TOKEN=mark-{mark}\n")).unwrap();
    mark
}

/// Every kind of builder that is here makes the same image of one project; a secret that the build uses is nowhere after
/// it, neither when the build succeeds nor when it fails.
#[tokio::test(flavor = "multi_thread")]
async fn every_builder_makes_the_same_image() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    own_service(&mut scene, "same");
    let mark = with_secret(&scene);
    let dockerfile = |outcome: &str| {
        scene.project.write("Dockerfile", &WITH_SECRET.replace("OUTCOME", outcome)).unwrap();
    };
    let marks = vec![mark.clone(), base64::engine::general_purpose::STANDARD.encode(format!("mark-{mark}"))];
    let watcher = Watcher::start(marks.clone());
    let mut images = Vec::new();
    for (version, place) in [
        ("here", ""),
        ("remote", "    remote: ssh://root@h3:22\n    local: false\n"),
        ("host", "    on: h1\n"),
    ] {
        scene.file.more = format!(
            "x-freehold:\n  builder:\n    secrets: [BUILD_TOKEN]\n    args: {{LEVEL: high}}\n{place}"
        );
        scene.write(&scene.file);
        // A build that fails behind the secret says why, and not what the secret is.
        dockerfile("/bin/busybox false");
        let failed = scene.run(&["build", "push", "--version", "failed", "-v"]).await.expect_code(1).unwrap();
        assert!(failed.stderr.contains("the build failed at"), "{}", failed.stderr);
        dockerfile("/bin/busybox true");
        let built = scene
            .run(&["deploy", "--version", version, "--no-cache", "--verbose"])
            .await
            .expect_code(0)
            .unwrap();
        for run in [failed, built] {
            assert!(!run.stderr.contains(&mark) && !run.stdout.contains(&mark), "{version}: {run:?}");
        }
        let image = format!("same:{version}");
        let inspect = ["image", "inspect", "--format", "{{json .Config}}\n{{.Architecture}} {{.Os}}", &image];
        let history = ["history", "--no-trunc", "--format", "{{.CreatedBy}}", &image];
        let (config, history, saved) = match version {
            "here" => (
                docker_text(&scene, &inspect),
                docker_text(&scene, &history),
                docker(&scene, &["save", &image]),
            ),
            builder => {
                let host = scene.host(if builder == "remote" { "h3" } else { "h1" });
                let file = "/root/saved.tar";
                host.docker(&["save", "--output", file, &image]).await.unwrap();
                // Written so that this very command line does not hold it.
                let (first, rest) = mark.split_at(1);
                let pattern = format!("[{first}]{rest}");
                let found = host.attempt(&format!("grep -c '{pattern}' {file}")).await.unwrap();
                assert_eq!(found.code, Some(1), "the secret is in a layer made on {builder}: {found:?}");
                host.exec(&format!("rm {file}")).await.unwrap();
                (host.docker(&inspect).await.unwrap(), host.docker(&history).await.unwrap(), Vec::new())
            }
        };
        assert!(!saved.windows(mark.len()).any(|piece| piece == mark.as_bytes()), "the secret is in a layer");
        assert!(!history.contains(&mark) && !config.contains(&mark), "{history}");
        images.push((version, configuration(&config), history));
    }
    let (looked, found) = watcher.end();
    println!("{looked} command lines of processes looked at");
    assert_eq!(found, [""; 0], "in the process list");
    let (_, config, history) = &images[0];
    assert!(config.contains("LEVEL=high") && config.contains("\"WorkingDir\":\"/srv\""), "{config}");
    for (version, other, steps) in &images[1..] {
        assert_eq!((other, steps), (config, history), "built by {version}");
    }
}

/// The same by way of a bastion: what another machine builds that only a jump host reaches is what this one builds, and
/// the secret is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_builder_behind_a_bastion_makes_the_same_image() {
    let mut scene = Scene::on(crate::reach::lab().await, &["app"]).await;
    own_service(&mut scene, "behind");
    let mark = with_secret(&scene);
    scene.project.write("Dockerfile", &WITH_SECRET.replace("OUTCOME", "/bin/busybox true")).unwrap();
    let builder = scene.host("database");
    let mut seen = Vec::new();
    for (version, place) in
        [("here", ""), ("there", "    remote: ssh://root@database:22\n    local: false\n")]
    {
        scene.file.more = format!(
            "x-freehold:\n  builder:\n    secrets: [BUILD_TOKEN]\n    args: {{LEVEL: high}}\n{place}"
        );
        scene.write(&scene.file);
        let words = ["deploy", "--version", version, "--no-cache", "--verbose"];
        let run = scene.run(&words).await.expect_code(0).unwrap();
        assert!(!run.stderr.contains(&mark), "{run:?}");
        let image = format!("behind:{version}");
        let inspect = ["image", "inspect", "--format", "{{json .Config}}\n{{.Architecture}} {{.Os}}", &image];
        let history = ["history", "--no-trunc", "--format", "{{.CreatedBy}}", &image];
        let (config, history) = if version == "here" {
            (docker_text(&scene, &inspect), docker_text(&scene, &history))
        } else {
            (builder.docker(&inspect).await.unwrap(), builder.docker(&history).await.unwrap())
        };
        assert!(!history.contains(&mark) && !config.contains(&mark), "{history}");
        seen.push((configuration(&config), history));
    }
    assert_eq!(seen[0], seen[1]);
    // It only builds.
    assert!(builder.containers().await.unwrap().is_empty());
}
