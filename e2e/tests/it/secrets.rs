use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;

use crate::deploy_file::DeployFile;
use crate::following::is_finished_step;
use crate::scene::{Scene, address, ask};

/// Looks at the command lines of every process of this computer, those on the lab's hosts among them, again and again.
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, Vec<String>)>,
}

impl Watcher {
    pub(crate) fn start(marks: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut looked, mut found) = (0, Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                for entry in fs_err::read_dir("/proc").unwrap().flatten() {
                    let Ok(bytes) = fs_err::read(entry.path().join("cmdline")) else { continue };
                    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
                    looked += 1;
                    if marks.iter().any(|mark| line.contains(mark)) {
                        found.push(line);
                    }
                }
                std::thread::yield_now();
            }
            (looked, found)
        });
        Self { stop, thread }
    }

    pub(crate) fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Every verb at full verbosity and every kind of failure, with a secret that is known when it is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_marked_secret_is_seen_nowhere() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    let mut random = [0; 12];
    getrandom::fill(&mut random).unwrap();
    let mark: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = format!("mark-{mark}-'\"$HOME\\");
    let marks = vec![mark.clone(), base64::engine::general_purpose::STANDARD.encode(&secret)];
    scene.project.write(".kamal/secrets", &format!("TOKEN=\"{}\"\n", escaped(&secret))).unwrap();
    scene.file.secrets = vec!["TOKEN".to_owned()];
    scene.file.deploy_timeout = 4;
    scene.write(&scene.file);

    let watcher = Watcher::start(marks.clone());
    let outputs = run_everything(&scene).await;
    let (looked, found) = watcher.end();
    println!("{} commands run, {looked} command lines of processes looked at", outputs.len());
    assert_eq!(found, [""; 0], "in the process list");
    for (arguments, output) in &outputs {
        for mark in &marks {
            assert!(!output.contains(mark), "{arguments} printed it:\n{output}");
        }
    }
    let seen_inside = ask(address(&scene.host("h1")), "/env?name=TOKEN").await;
    assert_eq!(seen_inside, Ok(secret), "the application gets it as it is");
    expect_nothing_stored(&scene, &mark).await;
    let local = files_with(&scene, &mark);
    assert_eq!(local, [scene.project.folder().join(".kamal/secrets")]);
}

/// Escapes a value for double quotes in a secrets file.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")
}

async fn run_everything(scene: &Scene) -> Vec<(String, String)> {
    let mut outputs = Vec::new();
    let mut call = async |scene: &Scene, code: i32, arguments: &[&str]| {
        let run = scene.run(&[arguments, &["--verbose"]].concat()).await;
        let output = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, Some(code), "{arguments:?}: {output}");
        outputs.push((arguments.join(" "), output));
    };
    call(scene, 0, &["plan", "--version", "1"]).await;
    call(scene, 0, &["plan", "--version", "1", "--json"]).await;
    call(scene, 0, &["setup", "--version", "1"]).await;
    scene.project.set_version("2").unwrap();
    call(scene, 0, &["deploy", "--version", "2", "--json"]).await;
    call(scene, 0, &["redeploy", "--version", "2"]).await;
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["details"],
        &["releases"],
        &["releases", "--json"],
        &["app", "containers"],
        &["app", "version"],
        &["app", "logs"],
        &["app", "stop"],
        &["app", "start"],
        &["app", "boot", "--version", "2"],
        &["lock", "acquire", "-m", "why"],
        &["lock", "status"],
        &["lock", "release"],
        &["audit"],
        &["resume"],
        &["abort"],
        &["rollback"],
    ] {
        call(scene, 0, arguments).await;
    }
    for (name, value) in
        [("HELLO_EXIT_AT_START", "3"), ("HELLO_UNHEALTHY", "500"), ("HELLO_BIND", "127.0.0.1")]
    {
        scene.write(&scene.file.clone().with_fault("h2", name, value));
        scene.project.set_version("4").unwrap();
        call(scene, 6, &["deploy", "--version", "4"]).await;
    }
    scene.write(&DeployFile { secrets: vec!["TOKEN".to_owned(), "OTHER".to_owned()], ..scene.file.clone() });
    call(scene, 3, &["deploy", "--version", "5"]).await;
    scene.project.write("config/deploy.yml", &format!("{}sevice: x\n", scene.file.render())).unwrap();
    call(scene, 3, &["deploy", "--version", "5"]).await;
    scene.write(&scene.file);
    let relay = scene.relay("h2").await;
    relay.refuse();
    call(scene, 4, &["deploy", "--version", "5"]).await;
    relay.admit();
    for count in [2, 4, 6, 8] {
        let mut deploy = scene.follow("6");
        for _ in 0..count {
            deploy.until(is_finished_step).await;
        }
        outputs.push(("killed deploy".to_owned(), deploy.kill().await));
        // What a client that died leaves on the hosts is looked at as well.
        for host in scene.hosts() {
            let left = host.exec("cd /root; cat $(find .kamal/freehold -type f) </dev/null").await.unwrap();
            outputs.push((format!("the state on {}", host.name()), left));
        }
    }
    scene.project.set_version("7").unwrap();
    let run = scene.run(&["deploy", "--version", "7", "-v"]).await.expect_code(0).unwrap();
    outputs.push(("deploy".to_owned(), format!("{}{}", run.stdout, run.stderr)));
    outputs
}

/// On the hosts, the secret may be in the file of the environment and in what the engine stores, both for root only.
async fn expect_nothing_stored(scene: &Scene, mark: &str) {
    for host in scene.hosts() {
        let search = format!(
            "grep --recursive --files-with-matches --binary-files=text {mark} / --exclude-dir=proc --exclude-dir=sys \
             --exclude-dir=dev 2>/dev/null || true"
        );
        let found = host.exec(&search).await.unwrap();
        let is_allowed = |path: &&str| {
            *path == "/root/.kamal/apps/hello/env/roles/web.env"
                || path.starts_with("/var/lib/docker/containers/") && path.ends_with("/config.v2.json")
                || path.starts_with("/var/lib/docker/containerd/")
                || path.starts_with("/run/docker/containerd/") && path.ends_with("/config.json")
                || path.starts_with("/var/run/docker/containerd/") && path.ends_with("/config.json")
        };
        let unexpected: Vec<&str> = found.lines().filter(|path| !is_allowed(path)).collect();
        assert_eq!(unexpected, [""; 0], "on {}", host.name());
        assert!(found.contains("web.env"), "on {}: {found}", host.name());
        let as_nobody =
            host.exec(&format!("su -s /bin/sh nobody -c '{}'", search.replace('\'', ""))).await.unwrap();
        assert_eq!(as_nobody, "", "readable by everybody on {}", host.name());
        let mode = host.exec("stat -c %a /root/.kamal/apps/hello/env/roles/web.env").await.unwrap();
        assert_eq!(mode, "600\n");
    }
}

/// Returns the files of the project, its home and the temporary folder that hold a text.
fn files_with(scene: &Scene, mark: &str) -> Vec<PathBuf> {
    let (folder, home) = (scene.project.folder(), scene.project.home());
    let output = std::process::Command::new("grep")
        .args(["--recursive", "--files-with-matches", "--binary-files=text", "--no-messages", mark])
        .args([folder, home])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}
