//! What later commands make of the host of the first vector.

use freehold_e2e::lab::Host;
use serde_json::Value;

use super::{commit, inspect, labels, mounts};
use crate::proxy::audit;
use crate::scene::Scene;

/// The same host after further deploys, by hand and by us.
pub(super) async fn later_deploys(scene: &Scene, host: &Host, first: &str) {
    scene.project.write("assets/app-2.css", "2").unwrap();
    let second = commit(&scene.project);
    scene.run(&["deploy", "-H"]).await.expect_code(0).unwrap();
    assert!(!scene.project.folder().join("hooks.log").exists(), "-H skips hooks");
    expect_kept(host, first, &second).await;
    expect_stale(scene, host, first, &second).await;
    expect_exec(scene, host, &second).await;
    expect_logs(scene, &second).await;
    expect_audit(scene, host, first, &second).await;
    expect_boot_again(scene, host, &second).await;
    expect_rollback(scene, host, first, &second).await;
    expect_pruned_and_removed(scene, host).await;
}

/// kamal-compat §13.8 row 1; kamal-compat §17 rows 4, 7, 8, 9, 10; kamal-compat §12.2 row 17
async fn expect_kept(host: &Host, first: &str, second: &str) {
    let state = |name: String| async move { inspect(host, &name).await["State"]["Status"].clone() };
    for role in ["web", "job"] {
        assert_eq!(state(format!("app-{role}-{first}")).await, "exited", "it stays for a rollback");
        assert_eq!(state(format!("app-{role}-{second}")).await, "running");
    }
    let (old, new) =
        (inspect(host, &format!("app-web-{first}")).await, inspect(host, &format!("app-web-{second}")).await);
    let time = |container: &Value, key: &str| container["State"][key].as_str().unwrap().to_owned();
    assert!(time(&new, "StartedAt") < time(&old, "FinishedAt"), "started before the old one stopped");
    assert_eq!(old["State"]["OOMKilled"], false);
    let latest = inspect(host, "acme/app:latest").await["Id"].clone();
    assert_eq!(latest, inspect(host, &format!("acme/app:{second}")).await["Id"]);
    let files = |version: &str| format!("ls /root/.kamal/apps/app/assets/volumes/web-{version}");
    for version in [first, second] {
        assert_eq!(host.exec(&files(version)).await.unwrap(), "app-1.css\napp-2.css\n", "both have both");
    }
    assert_eq!(inspect(host, "app-db").await["RestartCount"], 0);
    let uptime = inspect(host, "app-db").await["State"]["StartedAt"].as_str().unwrap().to_owned();
    assert!(uptime < time(&new, "StartedAt"), "a deploy does not touch accessories");
}

/// kamal-compat §13.3 row 1; kamal-compat §12.2 row 20; kamal-compat §17 row 2
async fn expect_stale(scene: &Scene, host: &Host, first: &str, second: &str) {
    host.docker(&["start", &format!("app-job-{first}")]).await.unwrap();
    let seen = scene.run(&["app", "stale_containers"]).await.expect_code(0).unwrap();
    let all = format!("{}{}", seen.stdout, seen.stderr);
    assert!(all.contains("job") && all.contains(short(first)) && !all.contains(short(second)), "{all}");
    assert_eq!(inspect(host, &format!("app-job-{first}")).await["State"]["Running"], true, "it only looks");
    scene.run(&["app", "stale_containers", "--stop"]).await.expect_code(0).unwrap();
    assert_eq!(inspect(host, &format!("app-job-{first}")).await["State"]["Running"], false);
    assert_eq!(inspect(host, &format!("app-job-{second}")).await["State"]["Running"], true);
    let shown = scene.run(&["app", "version"]).await.expect_code(0).unwrap();
    assert!(shown.stdout.contains(second), "{}", shown.stdout);
}

/// kamal-compat §13.7 rows 1, 2, 3, 4; kamal-compat §12.2 row 18; kamal-compat §16 row 15
async fn expect_exec(scene: &Scene, host: &Host, version: &str) {
    let run = scene.run(&["app", "exec", "-r", "web", "--raw", "/busybox env"]).await.expect_code(0).unwrap();
    assert!(
        run.stdout.contains("\nTAGGED=yes1\n") && run.stdout.contains("SEC=s3 \"$x\" \\ ä\nline 2\n"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("KAMAL_"), "a new container has none of the variables: {}", run.stdout);
    let run = scene.run(&["app", "exec", "-r", "web", "--reuse", "-e", "MORE:1", "/busybox env"]).await;
    let run = run.expect_code(0).unwrap();
    assert!(run.stdout.contains(&format!("KAMAL_CONTAINER_NAME=app-web-{version}")), "{}", run.stdout);
    assert!(run.stdout.contains("MORE=1"), "{}", run.stdout);
    for words in [
        &["app", "exec", "-i", "/busybox echo typed"][..],
        &["app", "exec", "-i", "--reuse", "/busybox echo typed"],
    ] {
        let run = scene.run(words).await.expect_code(0).unwrap();
        assert!(run.stdout.contains("typed"), "{run:?}");
    }
    scene.run(&["app", "exec", "-r", "web", "/busybox sh -c 'exit 3'"]).await.expect_code(1).unwrap();
    scene.run(&["app", "exec", "-r", "job", "--detach", "/busybox sleep 600"]).await.expect_code(0).unwrap();
    let names = host.containers().await.unwrap();
    let detached: Vec<&String> = names.iter().filter(|name| name.contains("-exec-")).collect();
    assert_eq!(detached.len(), 1, "{names:?}");
    let name = detached[0];
    let digits = name.strip_prefix(&format!("app-job-exec-{version}-")).unwrap();
    assert!(digits.len() == 6 && digits.chars().all(|c| c.is_ascii_hexdigit()), "{name}");
    let container = inspect(host, name).await;
    assert_eq!(labels(&container).get("role"), None, "it is nobody's release");
    assert_eq!(container["HostConfig"]["NetworkMode"], "kamal");
    assert_eq!(mounts(&container), ["data:/data"]);
    host.docker(&["rm", "--force", name]).await.unwrap();
}

/// kamal-compat §12.2 row 19
async fn expect_logs(scene: &Scene, version: &str) {
    let logs = async |more: &[&str]| {
        scene.run(&[&["app", "logs", "-r", "web"], more].concat()).await.expect_code(0).unwrap().stdout
    };
    assert!(logs(&[]).await.contains("listens on"), "of the container that runs, {version}");
    assert_eq!(
        logs(&["--lines", "1", "--skip-timestamps"]).await.lines().filter(|line| !line.is_empty()).count(),
        1
    );
    assert!(logs(&["--grep", "listens"]).await.contains("listens on"));
    let nothing =
        scene.run(&["app", "logs", "-r", "web", "--grep", "no such text"]).await.expect_code(0).unwrap();
    assert!(!nothing.stdout.contains("listens"), "{nothing:?}");
    assert!(logs(&["--since", "1h"]).await.contains("listens on"));
}

/// kamal-compat §15 row 7; kamal-compat §12.2 row 7; kamal-compat §16 row 3
async fn expect_audit(scene: &Scene, host: &Host, first: &str, version: &str) {
    let file = host.exec("cat /root/.kamal/app-audit.log").await.unwrap();
    let line = file.lines().rfind(|line| line.contains("Booted app version")).unwrap();
    let (time, rest) = line.split_once("] ").unwrap();
    assert_eq!(time.replace(|c: char| c.is_ascii_digit(), "0"), "[0000-00-00T00:00:00Z", "{line}");
    assert!(rest.starts_with("[ann@example.com] ["), "{line}");
    let acts: Vec<&str> = file
        .lines()
        .filter_map(|line| line.split_once("[ann@example.com] "))
        .map(|(_, act)| act)
        .filter(|act| !act.contains("Stopped stale") && !act.contains("Executed cmd"))
        .collect();
    let of = |version: &str| {
        vec![
            format!("Pulled image with version {version}"),
            format!("[job] Booted app version {version}"),
            format!("[web] Booted app version {version}"),
            format!("Tagging acme/app:{version} as the latest image"),
        ]
    };
    let expected: Vec<String> =
        std::iter::once("Booted db accessory".to_owned()).chain(of(first)).chain(of(version)).collect();
    assert_eq!(acts, expected);
    let shown = scene.run(&["audit"]).await.expect_code(0).unwrap();
    assert!(shown.stdout.contains(&format!("Booted app version {version}")), "{}", shown.stdout);
    let before = file.lines().count();
    scene.run(&["server", "exec", "true"]).await.expect_code(0).unwrap();
    let file = host.exec("cat /root/.kamal/app-audit.log").await.unwrap();
    assert_eq!(file.lines().count(), before + 1, "lines are appended");
    assert!(file.lines().last().unwrap().ends_with("Executed cmd 'true' on h1"), "{file}");
}

/// kamal-compat §12.2 rows 15, 16; kamal-compat §13.6 row 1
async fn expect_boot_again(scene: &Scene, host: &Host, version: &str) {
    let name = format!("app-web-{version}");
    let before = inspect(host, &name).await["Id"].clone();
    let said = audit(host).await.len();
    scene.run(&["app", "boot", "--version", version]).await.expect_code(0).unwrap();
    let acts = audit(host).await.split_off(said);
    for role in ["job", "web"] {
        let start = format!("[{role}] Renaming container {version} to {version}_replaced_");
        assert_eq!(acts.iter().filter(|act| act.starts_with(&start)).count(), 1, "{acts:?}");
        assert!(acts.contains(&format!("[{role}] Booted app version {version}")), "{acts:?}");
    }
    assert!(acts.contains(&format!("Tagging acme/app:{version} as the latest image")), "{acts:?}");
    assert_ne!(inspect(host, &name).await["Id"], before, "a container of that name is replaced");
    scene.run(&["app", "stop"]).await.expect_code(0).unwrap();
    assert_eq!(inspect(host, &name).await["State"]["Running"], false);
    let gone = "curl --silent --output /dev/null --write-out '%{http_code}' --header 'Host: a.example.com' http://localhost/version";
    assert_ne!(host.exec(gone).await.unwrap(), "200");
    scene.run(&["app", "start", "--version", version]).await.expect_code(0).unwrap();
    let mut acts = audit(host).await;
    let mut acts = acts.split_off(acts.len() - 4);
    acts.sort();
    let started = |role: &str| format!("[{role}] Started app version {version}");
    let expected = [started("job"), "[job] Stopped app".into(), started("web"), "[web] Stopped app".into()];
    assert_eq!(acts, expected);
    assert_eq!(inspect(host, &name).await["State"]["Running"], true);
    assert_eq!(host.exec(gone).await.unwrap(), "200");
}

/// kamal-compat §13.5 row 1; kamal-compat §12.2 rows 4, 5; kamal-compat §15 row 9
async fn expect_rollback(scene: &Scene, host: &Host, first: &str, second: &str) {
    let refused = scene.run(&["rollback", "0000000000000000000000000000000000000000"]).await;
    assert!(!matches!(refused.code, Some(0)), "Kamal ends with 0 although nothing was done");
    let said = audit(host).await.len();
    scene.run(&["rollback", first]).await.expect_code(0).unwrap();
    let expected = [
        format!("[job] Booted app version {first}"),
        format!("[web] Booted app version {first}"),
        format!("Tagging acme/app:{first} as the latest image"),
    ];
    assert_eq!(audit(host).await.split_off(said), expected);
    assert_eq!(inspect(host, &format!("app-web-{first}")).await["State"]["Running"], true);
    assert_eq!(inspect(host, &format!("app-web-{second}")).await["State"]["Running"], false);
    let latest = inspect(host, "acme/app:latest").await["Id"].clone();
    assert_eq!(latest, inspect(host, &format!("acme/app:{first}")).await["Id"]);
    scene.run(&["redeploy", "-H"]).await.expect_code(0).unwrap();
    assert_eq!(inspect(host, &format!("app-web-{second}")).await["State"]["Running"], true);
}

/// kamal-compat §13.11 row 1; kamal-compat §12.2 rows 22, 40; kamal-compat §18 row 7
async fn expect_pruned_and_removed(scene: &Scene, host: &Host) {
    let stopped = async |role: &str| {
        let filter = format!(
            "docker ps --all --quiet --filter label=service=app --filter label=role={role} --filter status=exited | wc -l"
        );
        host.exec(&filter).await.unwrap().trim().to_owned()
    };
    // A stopped container of another destination, which is not ours to count or to remove.
    let run = "docker create --name app-web-other-v1 --label service=app --label role=web --label destination=other postgres:16";
    host.exec(run).await.unwrap();
    for version in ["p1", "p2"] {
        scene.run(&["deploy", "-H", "--version", version]).await.expect_code(0).unwrap();
    }
    assert!(
        stopped("web").await.parse::<u32>().unwrap() >= 3
            && stopped("job").await.parse::<u32>().unwrap() >= 3
    );
    scene.run(&["prune", "containers", "--retain", "2"]).await.expect_code(0).unwrap();
    assert_eq!((stopped("web").await.as_str(), stopped("job").await.as_str()), ("2", "2"), "of each role");
    host.docker(&["inspect", "app-web-other-v1"]).await.unwrap();
    scene.run(&["prune", "images"]).await.expect_code(0).unwrap();
    assert!(audit(host).await.ends_with(&["Pruned containers", "Pruned images"].map(str::to_owned)));
    let tags = host.docker(&["image", "ls", "--format", "{{.Tag}}", "acme/app"]).await.unwrap();
    assert!(tags.contains("p2") && tags.contains("latest"), "what runs stays: {tags}");
    host.docker(&["rm", "app-web-other-v1"]).await.unwrap();

    let proxy = inspect(host, "kamal-proxy").await["Id"].clone();
    scene.run(&["app", "remove"]).await.expect_code(0).unwrap();
    let acts =
        ["Stopped app", "Removed all app containers", "Removed all app images", "Removed .kamal/apps/app"];
    assert!(audit(host).await.ends_with(&acts.map(str::to_owned)), "{:?}", audit(host).await);
    assert_eq!(host.containers().await.unwrap(), ["app-db", "kamal-proxy"]);
    assert_eq!(inspect(host, "kamal-proxy").await["Id"], proxy);
    let images = "docker image ls --all --quiet --filter label=service=app";
    assert_eq!(host.exec(images).await.unwrap(), "", "no image of the application is left");
    let left = host
        .exec("cd /root; find .kamal/apps/app .kamal/proxy/apps-config/app -type f 2>/dev/null || true")
        .await
        .unwrap();
    assert!(!left.contains("/roles/") && !left.contains("/assets/"), "{left}");
    assert_eq!(
        host.exec("cat /root/app-db/etc/my.cnf").await.unwrap(),
        "[mysqld]\n",
        "accessories keep their files"
    );
    assert!(host.docker(&["volume", "ls", "--quiet"]).await.unwrap().lines().any(|name| name == "data"));
}

/// A revision as people read it.
pub(super) fn short(revision: &str) -> &str {
    revision.get(..7).unwrap()
}
