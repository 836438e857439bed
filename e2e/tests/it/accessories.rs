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
    let audit = scene.run(&["audit"]).await.expect_code(0).unwrap();
    assert!(audit.stdout.contains("Rebooted cache accessory"), "{}", audit.stdout);
}
