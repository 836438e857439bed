use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::scene::{Scene, address, ask};

async fn piped(scene: &Scene, words: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = scene.project.command(words).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// kamal-compat §12.2 row 18, kamal-compat §13.7 rows 1, 2, 3, 4, kamal-compat §16 row 15.
#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_the_application() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.project.write(".kamal/secrets", "PASSWORD='pa$$ \"word\"'\n").unwrap();
    scene.file.clear.push(("LEVEL".to_owned(), "info".to_owned()));
    scene.file.secrets.push("PASSWORD".to_owned());
    scene.write(&scene.file);
    scene.deploy_well("1").await;

    // In a container of its own on every host: with the role's environment, without Kamal's variables and labels.
    let new =
        scene.run(&["app", "exec", "-e", "LEVEL:debug", "MORE:a:b", "env"]).await.expect_code(0).unwrap();
    for line in ["LEVEL=debug", "MORE=a:b", "PASSWORD=pa$$ \"word\""] {
        assert_eq!(new.stdout.matches(line).count(), 2, "{line} in {}", new.stdout);
    }
    assert!(!new.stdout.contains("KAMAL_VERSION"), "{}", new.stdout);
    for host in scene.hosts() {
        let left = host.containers().await.unwrap();
        assert!(!left.iter().any(|name| name.contains("-exec-")), "{left:?}");
    }
    // In the container that serves.
    let words = ["app", "exec", "--reuse", "--raw", "-p", "-e", "MORE:1", "--", "/hello", "env"];
    let reused = scene.run(&words).await.expect_code(0).unwrap();
    assert!(reused.stdout.starts_with("GREETING="), "nothing but what it writes: {}", reused.stdout);
    for line in ["KAMAL_VERSION=1\n", "KAMAL_HOST=h1\n", "MORE=1\n"] {
        assert!(reused.stdout.contains(line), "{line} in {}", reused.stdout);
    }
    // With input, on the primary host only; without a terminal it is passed on as it is.
    let (code, text) = piped(&scene, &["app", "exec", "-i", "echo"], "one\ntwo").await;
    assert_eq!((code, text.as_str()), (Some(0), "one\ntwo"));
    let (code, text) = piped(&scene, &["app", "exec", "-i", "--reuse", "/hello", "echo"], "three\n").await;
    assert_eq!((code, text.as_str()), (Some(0), "three\n"));
    let (code, _) = piped(&scene, &["app", "exec", "-i", "exit", "4"], "").await;
    assert_eq!(code, Some(1));

    let failed = scene.run(&["app", "exec", "exit", "3"]).await.expect_code(1).unwrap();
    assert!(failed.stderr.contains("3 on host `h1`, 3 on host `h2`"), "{}", failed.stderr);
    scene.run(&["app", "exec", "-h", "h2", "--detach", "exit", "5"]).await.expect_code(0).unwrap();
    let second = scene.host("h2");
    let left: Vec<String> = second.containers().await.unwrap();
    let left: Vec<&String> = left.iter().filter(|name| name.starts_with("hello-web-exec-1-")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let labels =
        second.docker(&["inspect", "--format", "{{.Config.Labels.service}}", left[0]]).await.unwrap();
    assert!(
        labels.contains("hello") || labels.contains("no value"),
        "the image's own label at most: {labels}"
    );
    second.docker(&["rm", left[0]]).await.unwrap();
    // A version that no host has is not looked for anywhere: there is no registry.
    scene.run(&["app", "exec", "--version", "9", "env"]).await.expect_code(1).unwrap();

    let audit = scene.run(&["audit", "-n", "30"]).await.expect_code(0).unwrap();
    for act in ["Executed cmd 'env' on app version 1", "Executed cmd '/hello env' on app version 1"] {
        assert!(audit.stdout.contains(act), "{act} in {}", audit.stdout);
    }
}

/// kamal-compat §12.2 row 19.
#[tokio::test(flavor = "multi_thread")]
async fn logs_of_several_hosts_are_read_side_by_side() {
    let scene = Scene::new(&["h1", "h2"]).await;
    scene.deploy_well("1").await;
    let of = async |words: &[&str]| {
        let all = [&["app", "logs"], words].concat();
        scene.run(&all).await.expect_code(0).unwrap().stdout
    };
    let all = of(&["-T"]).await;
    for host in ["h1  hello 1 listens", "h2  hello 1 listens"] {
        assert!(all.contains(host), "{host} in {all}");
    }
    let one = of(&["-h", "h1", "-n", "1"]).await;
    assert_eq!(one.lines().count(), 1, "{one}");
    assert!(one.starts_with("20"), "the time is before the line: {one}");
    let matching = of(&["-T", "-g", "LISTENS on [0-9.]*:80", "--grep-options", "-i"]).await;
    assert_eq!(matching.lines().count(), 2, "{matching}");
    let others = of(&["-T", "-h", "h1", "-g", "listens", "--grep-options", "-v"]).await;
    assert!(!others.contains("listens"), "{others}");
    assert_eq!(of(&["--since", "1970-01-02", "-T", "-g", "listens"]).await.lines().count(), 2);
    assert_eq!(of(&["--since", "0s", "-g", "listens"]).await, "");
    let named = of(&["-T", "--container-id", "hello-web-1", "-h", "h2"]).await;
    assert!(named.contains("listens"), "{named}");

    // Following: what is new comes from both hosts, until Ctrl-C.
    let mut child = scene
        .project
        .command(&["app", "logs", "-f", "-T", "-g", "told to LOG", "--grep-options", "-i"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let follow = async {
        while seen.len() < 2 {
            for host in scene.hosts() {
                ask(address(&host), "/log").await.ok();
            }
            let line = tokio::time::timeout(std::time::Duration::from_secs(1), lines.next_line()).await;
            if let Ok(Ok(Some(line))) = line {
                let host = line.split_whitespace().next().unwrap_or_default().to_owned();
                if !seen.contains(&host) {
                    seen.push(host);
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), follow).await.expect("lines of both hosts");
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), child.wait()).await;
    assert!(ended.expect("it ends").unwrap().success());
    seen.sort();
    assert_eq!(seen, ["h1", "h2"]);
}
