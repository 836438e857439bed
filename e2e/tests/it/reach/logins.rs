//! Logins that need a person, asked by a real `sshd` with its password database.

use super::lab;
use super::ways::{on_a_terminal, reload};
use crate::scene::Scene;

/// A user with a password.
const SETTINGS: &str = r#"
id pat >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups docker pat
echo 'pat:open sesame' | chpasswd
"#;

async fn let_in_by(scene: &Scene, methods: &str) {
    let host = scene.host("outside");
    host.exec(SETTINGS).await.unwrap();
    host.write("/etc/ssh/lab.d/people.conf", format!("Match User pat\n{methods}").as_bytes()).await.unwrap();
    reload(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_asked_for_their_password_by_either_method() {
    let mut scene = Scene::on(lab().await, &["outside"]).await;
    scene.file.more = "ssh:\n  user: pat\n".to_owned();
    scene.write(&scene.file);
    let config = scene.project.home().join(".ssh/config");
    let known = fs_err::read_to_string(&config).unwrap();
    let first = "Host outside\n  IdentityFile none\n  IdentitiesOnly yes\n  BatchMode no\n";
    fs_err::write(&config, format!("{first}{known}")).unwrap();

    for (methods, way) in [
        ("  PasswordAuthentication yes\n  KbdInteractiveAuthentication no\n", "password"),
        ("  PasswordAuthentication no\n  KbdInteractiveAuthentication yes\n", "keyboard-interactive"),
    ] {
        let_in_by(&scene, methods).await;
        let run = scene.run(&["status"]).await.expect_code(4).unwrap();
        assert!(run.stderr.contains("did not let us in"), "{way}, and nobody to ask: {}", run.stderr);
        let seen = on_a_terminal(&scene, "status -v", "Password", "open sesame\n").await;
        assert!(seen.contains("ended with 0"), "{way}: {seen}");
        assert_eq!(seen.matches("Password").count(), 1, "{way}: {seen}");
        assert!(!seen.contains("open sesame"), "{way}: {seen}");
        println!("{way}: let in");
    }
    let host = scene.host("outside");
    host.exec("rm /etc/ssh/lab.d/people.conf; passwd --quiet --lock pat").await.unwrap();
    reload(&host).await;
}
