use std::process::{Child, Command, Stdio};
use std::time::Duration;

use freehold_docker::{EngineError, RegistryCredentials, RegistryProgress};
use freehold_model::ImageReference;
use secrecy::SecretString;
use tempfile::TempDir;

use crate::lab::{TestEngine, eventually, must, reference};

/// bcrypt of `right$` for the user `ann`.
const PASSWORDS: &str = "ann:$2y$04$T4I.H8jOATyHRsHL/kwBKO4mLGudmHTyNzkBvL0L9FtVa8uvrfT22\n";

/// Debian's registry in the network of an engine, behind a password.
struct Registry {
    process: Child,
    _folder: TempDir,
}

impl Registry {
    fn start(engine: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let passwords = folder.path().join("passwords");
        fs_err::write(&passwords, PASSWORDS).expect("written");
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:5000'}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            folder.path().join("data").display(),
            passwords.display()
        );
        fs_err::write(&config, text).expect("written");
        let process = Command::new("nsenter")
            .arg(format!("--net=/proc/{engine}/ns/net"))
            .args(["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs Debian's docker-registry");
        Self { process, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if self.process.kill().and_then(|()| self.process.wait()).is_err() {
            eprintln!("registry {} could not be stopped", self.process.id());
        }
    }
}

fn credentials(password: &str) -> RegistryCredentials {
    RegistryCredentials {
        server: Some("127.0.0.1:5000".to_owned()),
        username: "ann".to_owned(),
        password: SecretString::from(password),
    }
}

/// Nobody looks at the progress.
fn unseen(_: RegistryProgress) {}

#[tokio::test]
async fn images_go_through_a_registry_with_a_password() {
    let lab = TestEngine::start().await;
    let engine = &lab.engine;
    let registry = Registry::start(lab.pid().expect("an engine of our own"));
    let good = credentials("right$");
    let up = eventually(Duration::from_secs(20), async || engine.check_credentials(&good).await.ok()).await;
    assert!(up.is_some(), "the registry takes the right password");
    let refused = engine.check_credentials(&credentials("wrong")).await.unwrap_err();
    assert!(format!("{refused:?}").contains("401"), "the engine's words are kept: {refused:?}");
    assert!(!format!("{refused:?}").contains("wrong"));

    let local = lab.load_busybox().await;
    let image = reference("127.0.0.1:5000/team/app", "1");
    must(engine.tag_image(&local.to_string(), &image).await);
    let nobody = engine.push_image(&image, None, &mut unseen).await.unwrap_err();
    assert!(matches!(nobody, EngineError::Failed { .. }), "{nobody:?}");
    let mut last = RegistryProgress::default();
    must(engine.push_image(&image, Some(&good), &mut |now| last = now).await);
    assert_eq!((last.layers_done, last.layers), (1, 1));

    let digest = must(engine.inspect_image(&image.to_string()).await)
        .and_then(|details| details.repository_digests.into_iter().next())
        .expect("the engine knows the digest of what it pushed");
    let asked = must(engine.registry_digest(&image.to_string(), Some(&good)).await);
    assert!(digest.ends_with(&format!("@{asked}")), "{digest} is that of {asked}");
    assert!(engine.registry_digest(&image.to_string(), None).await.is_err(), "it takes the password");
    forget(&lab, &[&image, &local]).await;
    let before = must(engine.inspect_image(&image.to_string()).await);
    assert!(before.is_none(), "nothing is left to be pulled from here");
    let mut last = RegistryProgress::default();
    must(engine.pull_image(&image.to_string(), Some(&good), &mut |now| last = now).await);
    assert_eq!((last.layers_done, last.layers), (1, 1));
    assert!(must(engine.inspect_image(&image.to_string()).await).is_some());
    must(engine.pull_image(&digest, Some(&good), &mut unseen).await);

    let missing = engine.pull_image("127.0.0.1:5000/team/app:2", Some(&good), &mut unseen).await;
    assert_eq!(missing.unwrap_err().status(), Some(404));
    let hidden = engine.pull_image(&image.to_string(), None, &mut unseen).await;
    assert!(hidden.is_err(), "nobody without a password sees it");
    drop(registry);
    let gone = engine.pull_image(&image.to_string(), Some(&good), &mut unseen).await;
    assert!(gone.is_err(), "the registry is gone");
}

async fn forget(lab: &TestEngine, images: &[&ImageReference]) {
    for image in images {
        must(lab.engine.remove_image(&image.to_string()).await);
    }
    let left = must(lab.engine.list_images(&images[0].repository).await);
    for digest in left.into_iter().map(|summary| summary.id) {
        must(lab.engine.remove_image(&digest).await);
    }
}
