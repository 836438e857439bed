use freehold_e2e::lab::Host;

use crate::scene::Scene;

/// An accessory of the application's own image, because a lab has no registry.
fn accessory(more: &str) -> String {
    format!(
        "accessories:\n  cache:\n    image: hello:1\n    host: h2\n    port: '127.0.0.1:9000:80'\n\
         \x20   files:\n      - config/cache.conf:/etc/cache.conf:ro\n\
         \x20     - {{local: config/key, remote: /etc/key, mode: '0600', owner: '1000'}}\n\
         \x20   directories:\n      - data:/data\n    volumes:\n      - cache:/cache\n{more}"
    )
}

async fn set(scene: &mut Scene, more: &str) {
    scene.file.more = accessory(more);
    scene.write(&scene.file);
}

async fn inspect(host: &Host, format: &str) -> String {
    host.docker(&["inspect", "--format", format, "hello-cache"]).await.unwrap().trim().to_owned()
}

/// kamal-compat §13.10 row 1; kamal-compat §12.2 rows 23, 26; kamal-compat §16 rows 5, 11, 16; kamal-compat §18 row 16
#[tokio::test(flavor = "multi_thread")]
async fn an_accessory_lives_beside_the_application() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.deploy_well("1").await;
    let host = scene.host("h2");
    scene.project.write("config/cache.conf", "maxmemory 1\n").unwrap();
    scene.project.write("config/key", "a key \"with\" $quotes\\n\n").unwrap();
    scene.project.write(".kamal/secrets", "PASSWORD='pa$$word'\n").unwrap();
    let env = "    env:\n      clear:\n        SIZE: 1\n      secret: [PASSWORD]\n";
    set(&mut scene, env).await;

    let run = scene.run(&["accessory", "details"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("no container"), "{}", run.stdout);
    scene.run(&["accessory", "boot", "cache"]).await.expect_code(0).unwrap();
    let first = inspect(&host, "{{.Id}}").await;
    let mounts = inspect(&host, "{{range .Mounts}}{{.Source}}:{{.Destination}}:{{.RW}} {{end}}").await;
    for mount in [
        "/root/hello-cache/etc/cache.conf:/etc/cache.conf:false",
        "/root/hello-cache/etc/key:/etc/key:true",
        "/root/hello-cache/data:/data:true",
        ":/cache:true",
    ] {
        assert!(mounts.contains(mount), "{mount} in {mounts}");
    }
    let files = "cd /root/hello-cache/etc; stat -c '%a %u %n' *; cat cache.conf key";
    let expected = "755 0 cache.conf\n600 1000 key\nmaxmemory 1\na key \"with\" $quotes\\n";
    assert_eq!(host.exec(files).await.unwrap().trim(), expected);
    let env = inspect(&host, "{{.Config.Env}}").await;
    assert!(
        env.contains("SIZE=1") && env.contains("PASSWORD=pa$$word") && env.contains("KAMAL_HOST=h2"),
        "{env}"
    );
    assert_eq!(inspect(&host, "{{index .Config.Labels \"service\"}}").await, "hello-cache");
    let secrets = host.exec("stat -c %a /root/.kamal/apps/hello/env/accessories/cache.env").await.unwrap();
    assert_eq!(secrets.trim(), "600");

    // Again: nothing becomes of it. A deploy does not touch it either.
    scene.run(&["accessory", "boot", "all"]).await.expect_code(0).unwrap();
    scene.deploy_well("2").await;
    assert_eq!(inspect(&host, "{{.Id}}").await, first);
    let run = scene.run(&["accessory", "details", "cache"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("as in the file"), "{}", run.stdout);

    // Another configuration is seen, and the container replaced.
    set(&mut scene, "    env:\n      clear:\n        SIZE: 2\n").await;
    let run = scene.run(&["accessory", "details", "--json"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("\"differs\""), "{}", run.stdout);
    scene.run(&["accessory", "reboot", "cache"]).await.expect_code(0).unwrap();
    let second = inspect(&host, "{{.Id}}").await;
    assert_ne!(second, first);
    assert!(inspect(&host, "{{.Config.Env}}").await.contains("SIZE=2"));

    // One that does not come up is put back.
    set(&mut scene, "    env:\n      clear:\n        HELLO_EXIT_AT_START: 3\n").await;
    let run = scene.run(&["accessory", "reboot", "cache"]).await;
    assert!(matches!(run.code, Some(1 | 6)), "{run:?}");
    assert_eq!(inspect(&host, "{{.Id}} {{.State.Running}}").await, format!("{second} true"));
    let all = host.containers().await.unwrap();
    assert!(!all.iter().any(|name| name.contains("hello-cache_replaced")), "{all:?}");

    set(&mut scene, "    env:\n      clear:\n        SIZE: 2\n").await;
    scene.run(&["accessory", "stop", "cache"]).await.expect_code(0).unwrap();
    assert_eq!(inspect(&host, "{{.State.Running}}").await, "false");
    let run = scene.run(&["accessory", "details"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("stopped"), "{}", run.stdout);
    scene.run(&["accessory", "start", "cache"]).await.expect_code(0).unwrap();
    scene.run(&["accessory", "restart", "cache"]).await.expect_code(0).unwrap();
    assert_eq!(inspect(&host, "{{.Id}} {{.State.Running}}").await, format!("{second} true"));

    let run = scene.run(&["accessory", "boot", "nothing"]).await.expect_code(2).unwrap();
    assert!(
        run.stderr.contains("there is no accessory `nothing`") && run.stderr.contains("cache"),
        "{}",
        run.stderr
    );
    scene.run(&["accessory", "remove", "cache"]).await.expect_code(9).unwrap();
    scene.run(&["accessory", "remove", "cache", "--confirmed"]).await.expect_code(0).unwrap();
    let all = host.containers().await.unwrap();
    assert!(!all.iter().any(|name| name.starts_with("hello-cache")), "{all:?}");
    let left = host.exec("ls -d /root/hello-cache 2>/dev/null || true; docker volume ls -q").await.unwrap();
    assert!(!left.contains("/root/hello-cache") && left.contains("cache"), "data in volumes stays: {left}");
    expect_acts(&host).await;
}

/// Kamal's lines, one for each thing that was done.
async fn expect_acts(host: &Host) {
    let mut acts = crate::proxy::audit(host).await;
    // The lab keeps images, and a deploy may find one that an earlier test has left.
    acts.retain(|act| act != "Pruned images");
    let of = |words: &str| words.replace("NAME", "cache accessory");
    let expected = [
        "Booted NAME",
        "Booted NAME",
        "Pulled image with version 2",
        "[web] Booted app version 2",
        "Tagging hello:2 as the latest image",
        "Pull NAME image",
        "Stopped NAME",
        "Remove NAME container",
        "Booted NAME",
    ];
    let start = acts.iter().position(|act| *act == of("Booted NAME")).unwrap();
    assert_eq!(acts[start..start + expected.len()], expected.map(of));
    let end = ["Stopped NAME", "Started NAME", "Stopped NAME", "Started NAME"];
    let end: Vec<String> = end
        .into_iter()
        .chain(["Stopped NAME", "Remove NAME container", "Removed NAME image"])
        .map(of)
        .collect();
    assert!(acts.ends_with(&end), "{acts:?}");
}

/// The application's own image runs as an accessory on two hosts, with a template as a file.
const SIDE: &str = "accessories:
  side:
    image: hello:1
    hosts: [h1, h2]
    env: {clear: {SIZE: 1}, secret: [PASSWORD]}
    files:
      - {local: config/side.conf.erb, remote: /etc/side.conf, mode: '0640', owner: '1000:1000'}
    directories: [data:/data]
";

/// kamal-compat §8 row 7, kamal-compat §12.2 rows 6, 7, 24, 25, 27, 28.
#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_an_accessory_and_its_log_is_read() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.deploy_well("1").await;
    scene.project.write(".kamal/secrets", "PASSWORD='pa$$ \"word\"'\n").unwrap();
    let template =
        "size=<%= ENV[\"SIZE\"] %>\n<% if ENV[\"PASSWORD\"] %>password=<%= ENV[\"PASSWORD\"] %>\n<% end %>";
    scene.project.write("config/side.conf.erb", template).unwrap();
    scene.file.more = SIDE.to_owned();
    scene.write(&scene.file);

    // Single steps before there is a container.
    scene.run(&["accessory", "directories", "side"]).await.expect_code(0).unwrap();
    scene.run(&["accessory", "upload", "side"]).await.expect_code(0).unwrap();
    for host in scene.hosts() {
        let seen = "cd /root/hello-side; stat -c '%a %u:%g %n' etc/side.conf; ls -d data; cat etc/side.conf";
        let expected = "640 1000:1000 etc/side.conf\ndata\nsize=1\npassword=pa$$ \"word\"\n";
        assert_eq!(host.exec(seen).await.unwrap(), expected, "on {}", host.name());
    }
    let refused = scene.run(&["accessory", "exec", "side", "--reuse", "/hello", "env"]).await;
    let refused = refused.expect_code(1).unwrap();
    assert!(refused.stderr.contains("accessory `side` does not run on host `h1`"), "{}", refused.stderr);

    // In a container of its own, on both hosts, then in the one that runs.
    let new = scene.run(&["accessory", "exec", "side", "env"]).await.expect_code(0).unwrap();
    assert_eq!(new.stdout.matches("SIZE=1").count(), 2, "{}", new.stdout);
    assert_eq!(new.stdout.matches("PASSWORD=pa$$ \"word\"").count(), 2, "{}", new.stdout);
    for host in scene.hosts() {
        let left = host.containers().await.unwrap();
        assert!(!left.iter().any(|name| name.starts_with("hello-side-exec")), "{left:?}");
    }
    scene.run(&["accessory", "boot", "side"]).await.expect_code(0).unwrap();
    let words = ["accessory", "exec", "side", "--reuse", "--raw", "-h", "h2", "/hello", "env"];
    let reused = scene.run(&words).await.expect_code(0).unwrap();
    assert!(reused.stdout.contains("KAMAL_HOST=h2"), "{}", reused.stdout);
    let failed = scene.run(&["accessory", "exec", "side", "-p", "exit", "3"]).await;
    let failed = failed.expect_code(1).unwrap();
    assert!(failed.stderr.contains("the command ended with code 3 on host `h1`"), "{}", failed.stderr);

    let all = scene.run(&["accessory", "logs", "side", "-T"]).await.expect_code(0).unwrap();
    for host in ["h1  ", "h2  "] {
        assert!(all.stdout.lines().any(|line| line.starts_with(host)), "{}", all.stdout);
    }
    let words =
        ["accessory", "logs", "side", "-h", "h1", "--grep", "LISTEN.*80", "--grep-options", "-i -m 1"];
    let some = scene.run(&words).await.expect_code(0).unwrap();
    assert_eq!(some.stdout.lines().count(), 1, "{}", some.stdout);
    let none =
        scene.run(&["accessory", "logs", "side", "-g", "nobody says this"]).await.expect_code(0).unwrap();
    assert!(none.stderr.contains("no lines found"), "{}", none.stderr);
    let words = ["accessory", "logs", "side", "-g", "x", "--grep-options", "--nonsense"];
    let wrong = scene.run(&words).await.expect_code(2).unwrap();
    assert!(wrong.stderr.contains("`grep` refuses"), "{}", wrong.stderr);

    let audit = scene.run(&["audit"]).await.expect_code(0).unwrap();
    for act in ["Executed cmd 'env' on side accessory", "Uploaded side accessory files"] {
        assert!(audit.stdout.contains(act), "{act} in {}", audit.stdout);
    }
    let details = scene.run(&["details"]).await.expect_code(0).unwrap();
    assert_eq!(details.stdout.matches("hello-side").count(), 2, "{}", details.stdout);
    let before = scene.host("h1").docker(&["inspect", "--format", "{{.Id}}", "hello-side"]).await.unwrap();
    scene.run(&["accessory", "upgrade", "side", "-y", "--rolling"]).await.expect_code(0).unwrap();
    let after = scene.host("h1").docker(&["inspect", "--format", "{{.Id}}", "hello-side"]).await.unwrap();
    assert_ne!(after, before);
    scene.run(&["accessory", "stop", "side"]).await.expect_code(0).unwrap();
    scene.run(&["accessory", "remove_container", "side"]).await.expect_code(0).unwrap();
    scene.run(&["accessory", "remove_service_directory", "side", "-y"]).await.expect_code(0).unwrap();
    for host in scene.hosts() {
        let left = host.exec("ls -d /root/hello-side 2>/dev/null || true").await.unwrap();
        assert_eq!(left, "", "on {}", host.name());
        let all = host.containers().await.unwrap();
        assert!(!all.contains(&"hello-side".to_owned()), "{all:?}");
    }
}
