//! What a person sees who makes a mistake. Each is a snapshot of the exit code, stdout and stderr.

use freehold_e2e::lab::{Lab, Topology};
use freehold_e2e::project::Run;

use crate::deploy_file::DeployFile;
use crate::scene::Scene;

/// Renders what a command did, with what differs from run to run replaced.
fn shown(scene: &Scene, run: &Run) -> String {
    let mut text = format!("exit code: {:?}\n", run.code.unwrap());
    for (name, stream) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if !stream.is_empty() {
            text.push_str(&format!("--- {name}\n{stream}"));
        }
    }
    let home = scene.project.home().to_string_lossy().into_owned();
    let folder = scene.project.folder().to_string_lossy().into_owned();
    let mut text = text.replace(&folder, "PROJECT").replace(&home, "HOME");
    for host in scene.lab.hosts() {
        text = text.replace(&host.address().unwrap().to_string(), &format!("ADDRESS-OF-{}", host.name()));
    }
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let bare = word.trim();
        let number = bare.trim_end_matches(':').trim_end_matches('s');
        let is_seconds = number.parse::<f64>().is_ok() && number.contains('.');
        if is_seconds { word.replace(number, "N.N") } else { word.to_owned() }
    });
    let words: String = words.collect();
    words.split("SHA256:").enumerate().fold(String::new(), |mut text, (index, part)| {
        let hash = part
            .chars()
            .take_while(|character| character.is_ascii_alphanumeric() || "+/".contains(*character));
        let hash: String = hash.collect();
        text.push_str(if index == 0 { part } else { "SHA256:HASH" });
        if index > 0 {
            text.push_str(part.strip_prefix(&hash).unwrap_or(part));
        }
        text
    })
}

async fn one() -> Scene {
    Scene::new(&["h1"]).await
}

async fn deploy(scene: &Scene) -> String {
    let run = scene.run(&["deploy", "--version", "1"]).await;
    shown(scene, &run)
}

#[tokio::test]
async fn broken_yaml() {
    let scene = one().await;
    scene.project.write("config/deploy.yml", "service: hello\nservers: [h1\nimage: hello\n").unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn unknown_keys_and_wrong_types() {
    let scene = one().await;
    let text = scene.file.render().replace("deploy_timeout: 20", "deploy_timeout: soon\nsevers: [h1]");
    scene.project.write("config/deploy.yml", &text).unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn missing_secret() {
    let scene = one().await;
    scene.write(&DeployFile { secrets: vec!["TOKEN".to_owned()], ..scene.file.clone() });
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn missing_dockerfile() {
    let scene = one().await;
    fs_err::remove_file(scene.project.folder().join("Dockerfile")).unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn host_that_does_not_resolve() {
    let mut scene = one().await;
    scene.file.hosts = vec!["web-1.invalid".to_owned()];
    scene.write(&scene.file);
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn refused_key() {
    let scene = one().await;
    let key = scene.project.home().join(".ssh/id_ed25519");
    fs_err::remove_file(&key).unwrap();
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "stranger", "-f"])
        .arg(&key)
        .status();
    assert!(status.unwrap().success());
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn changed_host_key() {
    let scene = one().await;
    let path = scene.project.home().join(".ssh/known_hosts");
    let text = fs_err::read_to_string(&path).unwrap();
    let mut keys: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    keys.dedup();
    // The host of the lab is known by the key of another one.
    fs_err::write(&path, text.replace(keys[0], keys[1])).unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn unknown_host_key() {
    let scene = one().await;
    fs_err::write(scene.project.home().join(".ssh/known_hosts"), "").unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}

#[tokio::test]
async fn full_disk() {
    let topology = Topology::one().with("full-disk", |host| host.disk_bytes = Some(300 * 1024 * 1024));
    let scene = Scene::on(std::sync::Arc::new(Lab::start(topology).await.unwrap()), &["h1"]).await;
    scene.host("h1").fill_disk(0).await.unwrap();
    insta::assert_snapshot!(deploy(&scene).await);
}
