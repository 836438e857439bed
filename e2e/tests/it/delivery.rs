//! Images on their way to hosts: cut connections, killed clients, full disks.

use std::io::Write as _;

use freehold_e2e::lab::{Lab, Relay, Topology};

use crate::deploy_file::DeployFile;
use crate::scene::{Scene, eventually};

/// What a break may cost: a piece, and what the connection itself needs.
const PIECE: u64 = 4 * 1024 * 1024;
const CONNECTION: u64 = 200_000;

/// Gives the project a layer of random bytes, which nothing compresses.
pub(crate) fn add_layer(scene: &Scene, name: &str, megabytes: usize) {
    let mut file = fs_err::File::create(scene.project.folder().join(name)).unwrap();
    let mut block = vec![0; 1_000_000];
    for _ in 0..megabytes {
        getrandom::fill(&mut block).unwrap();
        file.write_all(&block).unwrap();
    }
    let dockerfile = fs_err::read_to_string(scene.project.folder().join("Dockerfile")).unwrap();
    let line = format!("COPY {name} /{name}\n");
    if !dockerfile.contains(&line) {
        scene.project.write("Dockerfile", &format!("{dockerfile}{line}")).unwrap();
    }
    scene.project.write(".dockerignore", "").unwrap();
}

/// What the builder and a host say of an image: its identifier, and how many bytes they export.
pub(crate) async fn exported(scene: &Scene, host: &str, image: &str) -> [(String, u64); 2] {
    let words = |what: &str| {
        format!("docker image inspect --format '{{{{.Id}}}}' {image} && docker save {image} | {what}")
    };
    let script = words("wc -c");
    let here = std::process::Command::new("sh")
        .env("DOCKER_HOST", scene.lab.engine_address())
        .args(["-c", &script])
        .output()
        .unwrap();
    let there = scene.host(host).exec(&script).await.unwrap();
    [String::from_utf8(here.stdout).unwrap(), there].map(|text| {
        let (id, size) = text.trim().split_once('\n').expect("identifier and size");
        (id.to_owned(), size.trim().parse().unwrap())
    })
}

/// Issue 5: each byte is sent at most once, plus one piece for each break; the image is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_goes_on_where_it_was_cut() {
    let scene = Scene::new(&["h1"]).await;
    add_layer(&scene, "large", 200);
    scene.run(&["build", "push", "--version", "cut"]).await.expect_code(0).unwrap();
    let relay = scene.relay("h1").await;
    let cuts = async {
        for count in 1..=10_u64 {
            let mut random = [0; 8];
            getrandom::fill(&mut random).unwrap();
            relay.cut_after(1_000_000 + u64::from_le_bytes(random) % 18_000_000);
            eventually("the cut", async || !relay.will_cut()).await;
            println!("cut {count} after {} bytes in all", relay.bytes());
        }
    };
    let mut pull = std::pin::pin!(scene.run(&["build", "pull", "--version", "cut"]));
    tokio::select! {
        run = &mut pull => panic!("it ended before the last cut: {run:?}"),
        () = cuts => {}
    }
    let run = pull.await.expect_code(0).unwrap();
    let [here, there] = exported(&scene, "h1", "hello:cut").await;
    assert_eq!(here, there);
    let limit = there.1 + 10 * (PIECE + CONNECTION) + CONNECTION;
    println!("{} bytes for an image of {}, at most {limit}: {}", relay.bytes(), there.1, run.stderr);
    assert!(relay.bytes() <= limit, "{} bytes, {limit} are allowed", relay.bytes());
    scene.host("h1").exec("! test -e /root/.kamal/freehold/transfer").await.unwrap();
}

/// A client that is killed leaves pieces, which only their owner reads, and no name; the next one sends the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_delivery_leaves_no_half_image_and_nothing_is_sent_again() {
    let scene = Scene::new(&["h1"]).await;
    add_layer(&scene, "large", 60);
    scene.run(&["build", "push", "--version", "killed"]).await.expect_code(0).unwrap();
    let relay = scene.relay("h1").await;
    let mut child = scene.project.start(&["build", "pull", "--version", "killed"]).unwrap();
    eventually("half of the image", async || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before: {ended:?} after {} bytes", relay.bytes());
        relay.bytes() > 35_000_000
    })
    .await;
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let host = scene.host("h1");
    assert_eq!(host.docker(&["image", "ls", "--quiet", "hello"]).await.unwrap(), "");
    let modes = host.exec("cd /root/.kamal/freehold/transfer/* && stat -c %a . * | sort -u").await.unwrap();
    assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["600", "700"]);
    let before = relay.bytes();
    let run = scene.run(&["build", "pull", "--version", "killed"]).await.expect_code(0).unwrap();
    let [here, there] = exported(&scene, "h1", "hello:killed").await;
    assert_eq!(here, there);
    let more = relay.bytes() - before;
    assert!(more < there.1 - 30_000_000, "{more} bytes more: {}", run.stderr);
    host.exec("! test -e /root/.kamal/freehold/transfer").await.unwrap();
}

/// Issue 5: deploys that fail, one after another, leave one image and not a row of them; what serves and what can be gone
/// back to stays.
#[tokio::test(flavor = "multi_thread")]
async fn failing_deploys_do_not_fill_the_disk() {
    let scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    scene.deploy_well("good1").await;
    scene.deploy_well("good2").await;
    let broken = scene.file.clone().with_fault("h1", "HELLO_EXIT_AT_START", "3");
    scene.write(&broken);
    for number in 1..=10 {
        let run = scene.deploy(&format!("bad{number}")).await;
        assert_ne!(run.code, Some(0), "{}", run.stderr);
        let tags = host.exec("docker image ls hello --format '{{.Tag}}' | sort").await.unwrap();
        let mut tags: Vec<&str> = tags.lines().filter(|tag| !tag.starts_with("latest")).collect();
        tags.sort_unstable();
        assert_eq!(tags, [format!("bad{number}").as_str(), "good1", "good2"], "after {number}");
    }
    scene.expect_serving("good2").await;
    scene.write(&scene.file);
    scene.run(&["rollback", "good1"]).await.expect_code(0).unwrap();
    scene.expect_serving("good1").await;
}

/// A person who reaches the engine only by `sudo docker` gets large images in pieces, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_comes_by_sudo() {
    let scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    host.exec("gpasswd --delete deploy docker && chown deploy: /home/deploy").await.unwrap();
    let more = "ssh:\n  user: deploy\n".to_owned();
    scene.write(&DeployFile { more, ..scene.file.clone() });
    add_layer(&scene, "large", 20);
    scene.run(&["build", "push", "--version", "sudo"]).await.expect_code(0).unwrap();
    let run = scene.run(&["build", "pull", "--version", "sudo"]).await;
    host.exec("gpasswd --add deploy docker").await.unwrap();
    let run = run.expect_code(0).unwrap();
    let [here, there] = exported(&scene, "h1", "hello:sudo").await;
    assert_eq!(here, there, "{}", run.stderr);
    host.exec("! test -e /home/deploy/.kamal/freehold/transfer").await.unwrap();
}

/// Issue 5: what a host of 2 GB holds stays bounded, whatever is deployed, and every retained release can be gone back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_is_enough_for_ever() {
    let topology = Topology::one().with("small", |host| host.disk_bytes = Some(2_000_000_000));
    let lab = Lab::start(topology).await.unwrap();
    let scene = Scene::on(lab.into(), &["h1"]).await;
    let host = scene.host("h1");
    let used = async || -> u64 {
        host.exec("df --output=used --block-size=1 /disk | tail -n 1").await.unwrap().trim().parse().unwrap()
    };
    // One of 60 MB needs more than what is left here. It is not even begun.
    add_layer(&scene, "large", 60);
    scene.run(&["build", "push", "--version", "large"]).await.expect_code(0).unwrap();
    host.fill_disk(100_000_000).await.unwrap();
    let relay = Relay::start(host.ssh_address().unwrap()).await.unwrap();
    scene.project.route("h1", relay.address()).unwrap();
    let run = scene.run(&["build", "pull", "--version", "large"]).await.expect_code(1).unwrap();
    assert!(run.stderr.contains("MB are free") && run.stderr.contains("freehold prune"), "{}", run.stderr);
    assert!(relay.bytes() < CONNECTION, "{} bytes", relay.bytes());
    host.free_disk().await.unwrap();

    const LAYER: u64 = 24_000_000;
    let empty = used().await;
    // Five retained ones, the one that serves, a failed one, and twice that of one on its way.
    let bound = empty + 9 * LAYER + 150_000_000;
    let mut most = 0;
    for number in 1..=50 {
        add_layer(&scene, "large", usize::try_from(LAYER / 1_000_000).unwrap());
        let version = format!("v{number}");
        if number % 10 == 5 {
            let broken = scene.file.clone().with_fault("h1", "HELLO_EXIT_AT_START", "3");
            scene.write(&broken);
            let run = scene.deploy(&version).await;
            assert_ne!(run.code, Some(0), "{}", run.stderr);
            scene.write(&scene.file);
        } else {
            scene.deploy(&version).await.expect_code(0).unwrap();
        }
        let now = used().await;
        most = most.max(now);
        assert!(now < bound, "{now} bytes after {version}, {bound} are allowed");
    }
    println!("{empty} bytes before, {most} at most after each of 50 deploys of {LAYER} bytes, bound {bound}");
    scene.run(&["prune", "all"]).await.expect_code(0).unwrap();
    let releases = scene.run(&["releases", "--json"]).await.expect_code(0).unwrap();
    let stored: Vec<String> = (1..=50)
        .map(|number| format!("v{number}"))
        .filter(|version| releases.stdout.contains(&format!("\"{version}\"")))
        .collect();
    assert!(stored.len() >= 5, "{}", releases.stdout);
    for version in &stored {
        scene.run(&["rollback", version]).await.expect_code(0).unwrap();
        scene.expect_serving(version).await;
    }
    println!("went back to {stored:?}");
}
