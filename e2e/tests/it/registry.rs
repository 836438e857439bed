use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::scene::{Scene, eventually};

/// bcrypt of `right$` for the user `ann`.
const PASSWORDS: &str = "ann:$2y$04$T4I.H8jOATyHRsHL/kwBKO4mLGudmHTyNzkBvL0L9FtVa8uvrfT22\n";

/// Debian's registry behind a password, as the engines know it: `127.0.0.1:PORT`, which every engine uses without TLS.
/// One process serves the build machine and one more each host, in the host's own network; all have the same storage.
pub(crate) struct Registry {
    pub(crate) address: String,
    processes: Vec<Child>,
    _folder: TempDir,
}

impl Registry {
    pub(crate) async fn start(scene: &Scene) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let passwords = folder.path().join("passwords");
        fs_err::write(&passwords, PASSWORDS).unwrap();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}', secret: shared}}\n\
             storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {}}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            folder.path().join("data").display(),
            passwords.display()
        );
        fs_err::write(&config, text).unwrap();
        let mut processes = vec![serve(&[], &config)];
        for host in scene.hosts() {
            let network = format!("--net=/proc/{}/ns/net", host.process().await.unwrap());
            processes.push(serve(&["nsenter", &network], &config));
        }
        let registry = Self { address: address.to_string(), processes, _folder: folder };
        for host in scene.hosts() {
            let ask = format!("curl --silent --fail --user ann:right$ http://{address}/v2/");
            eventually("the registry", async || host.exec(&ask).await.is_ok()).await;
        }
        registry
    }

    /// The tags of an image, as the registry tells them.
    async fn tags(&self, scene: &Scene, image: &str) -> Vec<String> {
        let ask =
            format!("curl --silent --fail --user ann:right$ http://{}/v2/{image}/tags/list", self.address);
        let answer = scene.hosts()[0].exec(&ask).await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let tags = answer["tags"].as_array().unwrap();
        let mut tags: Vec<String> = tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }
}

fn serve(before: &[&str], config: &PathBuf) -> Child {
    let words = [before, &["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve"]].concat();
    Command::new(words[0])
        .args(&words[1..])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("this test needs Debian's docker-registry")
}

impl Drop for Registry {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if process.kill().and_then(|()| process.wait()).is_err() {
                println!("registry {} could not be stopped", process.id());
            }
        }
    }
}

/// kamal-compat §5 login row 1, kamal-compat §12.2 row 33, kamal-compat §16 row 12.
#[tokio::test(flavor = "multi_thread")]
async fn logins_are_left_and_forgotten() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    let registry = Registry::start(&scene).await;
    scene.file.more = format!(
        "registry:\n  server: {}\n  username: ann\n  password: [REGISTRY_PASSWORD]\n",
        registry.address
    );
    scene.write(&scene.file);
    let secret =
        |password: &str| scene.project.write(".kamal/secrets", &format!("REGISTRY_PASSWORD='{password}'\n"));
    let is_known = async |host: &freehold_e2e::lab::Host| {
        let ask = format!("grep -q {} /root/.docker/config.json", registry.address);
        host.attempt(&ask).await.unwrap().code == Some(0)
    };
    secret("wrong$").unwrap();
    let refused = scene.run(&["registry", "login"]).await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("user `ann` cannot log in"), "{}", refused.stderr);
    secret("right$").unwrap();
    let run = scene.run(&["registry", "login", "-v"]).await.expect_code(0).unwrap();
    for place in ["this machine", "h1", "h2"] {
        assert!(run.stdout.contains(&format!("{place} logged in to {}", registry.address)), "{}", run.stdout);
    }
    assert!(!run.stdout.contains("right$") && !run.stderr.contains("right$"), "{run:?}");
    let own = fs_err::read_to_string(scene.project.home().join(".docker/config.json")).unwrap();
    assert!(own.contains(&registry.address), "{own}");
    for host in scene.hosts() {
        assert!(is_known(&host).await, "{}", host.name());
    }
    scene.run(&["registry", "logout", "--skip-local"]).await.expect_code(0).unwrap();
    for host in scene.hosts() {
        assert!(!is_known(&host).await, "{}", host.name());
    }
    scene.run(&["registry", "remove", "-R"]).await.expect_code(0).unwrap();
    let own = fs_err::read_to_string(scene.project.home().join(".docker/config.json")).unwrap();
    assert!(!own.contains(&registry.address), "{own}");
}

/// kamal-compat §5 login row 1; kamal-compat §16 row 12; kamal-compat §18 rows 13, 14
#[tokio::test(flavor = "multi_thread")]
async fn images_go_through_a_registry_with_a_password() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    let registry = Registry::start(&scene).await;
    scene.file.more = format!(
        "registry:\n  server: {}\n  username: ann\n  password: [REGISTRY_PASSWORD]\n",
        registry.address
    );
    scene.write(&scene.file);
    let secret =
        |password: &str| scene.project.write(".kamal/secrets", &format!("REGISTRY_PASSWORD='{password}'\n"));

    secret("wrong$").unwrap();
    let refused = scene.deploy("1").await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("user `ann` cannot log in"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong$"), "{}", refused.stderr);
    let build = format!("build {}", registry.address);
    assert!(!refused.stderr.contains(&build), "nothing was built: {}", refused.stderr);
    for host in scene.hosts() {
        assert_eq!(scene.state(&host).await.unfinished, [""; 0]);
    }

    secret("right$").unwrap();
    let run = scene.deploy_well("1").await;
    assert!(run.stderr.contains(&build), "{}", run.stderr);
    assert!(!run.stderr.contains("right$") && !run.stdout.contains("right$"), "{run:?}");
    let image = format!("{}/hello", registry.address);
    for host in scene.hosts() {
        let tags = host.docker(&["image", "ls", "--format", "{{.Tag}}", &image]).await.unwrap();
        let mut tags: Vec<&str> = tags.lines().filter(|tag| *tag != "<none>").collect();
        tags.sort_unstable();
        assert_eq!(tags, ["1", "latest"], "on {}", host.name());
        let config = host.attempt("cat /root/.docker/config.json").await.unwrap();
        assert_ne!(config.code, Some(0), "no login is left on the host");
    }
    assert_eq!(registry.tags(&scene, "hello").await, ["1", "latest"]);

    // Another tag, which one of the hosts has already, is pulled without a build and where it is missing only.
    scene.deploy_well("2").await;
    let first = scene.host("h1");
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    first.docker(&["rm", "--force", "hello-web-2"]).await.unwrap();
    first.docker(&["rmi", &format!("{image}:2")]).await.unwrap();
    let run =
        scene.run(&["deploy", "--version", "2", "--skip-push", "--verbose"]).await.expect_code(0).unwrap();
    scene.expect_serving("2").await;
    let line = |host: &str| {
        let is_pull = |line: &&str| line.contains(&format!(" {host} ")) && line.contains("pull 127.0.0.1");
        run.stderr.lines().rfind(is_pull).unwrap_or_default().to_owned()
    };
    assert!(line("h1").contains("layers"), "pulled on h1: {}", run.stderr);
    assert!(line("h2").contains("nothing to do"), "there on h2: {}", run.stderr);

    // An image that is not the service's is not run.
    let push = format!(
        "printf 'FROM {image}:2\\nLABEL service=other\\n' | docker build --quiet --tag {image}:3 - && \
         docker login --username ann --password-stdin {address} <<<'right$' && docker push {image}:3 && \
         docker rmi {image}:3 && docker logout {address}",
        address = registry.address
    );
    first.exec(&format!("bash -c {}", shell_quoted(&push))).await.unwrap();
    let refused = scene.run(&["deploy", "--version", "3", "--skip-push"]).await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("its label says `other`"), "{}", refused.stderr);
    scene.expect_serving("2").await;
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
