//! The fault matrix: three hosts under load, the fault on the second one. Each case asserts that every host serves the
//! old release, that no request failed, the exit code, that the cause is named, that nothing is left over, and that the
//! next deploy works.

use std::time::Duration;

use freehold_e2e::lab::{Host, Lab, Topology};
use freehold_e2e::load::{Load, LoadOptions};
use freehold_e2e::project::Run;
use tokio::time::Instant;

use crate::deploy_file::DeployFile;
use crate::following::is_started_step;
use crate::scene::{Scene, THREE, address, eventually, expect_no_failure};

/// How a deploy with a fault has to end.
struct Expected<'a> {
    code: i32,
    /// What stderr says; the host is looked for always.
    causes: &'a [&'a str],
}

fn check(run: &Run, expected: &Expected<'_>) {
    assert_eq!(run.code, Some(expected.code), "exit code\nstdout:\n{}\nstderr:\n{}", run.stdout, run.stderr);
    for cause in expected.causes.iter().chain(&["h2"]) {
        assert!(run.stderr.contains(cause), "`{cause}` is not named in:\n{}", run.stderr);
    }
    println!(
        "ended with {} after {:.1} s:\n{}",
        expected.code,
        run.elapsed.as_secs_f64(),
        cause_of(&run.stderr)
    );
}

/// Returns the part of stderr that tells of the failure.
fn cause_of(stderr: &str) -> &str {
    stderr.find("error:").and_then(|start| stderr.get(start..)).unwrap_or(stderr)
}

/// The old release runs everywhere and nothing of the new one is left.
async fn expect_put_back(scene: &Scene, old: &str, new: &str) {
    scene.expect_serving(old).await;
    scene.expect_clean(old).await;
    for host in scene.hosts() {
        let containers = host.containers().await.unwrap();
        let orphans: Vec<_> = containers.iter().filter(|name| name.contains(&format!("-{new}"))).collect();
        assert!(orphans.is_empty(), "orphans on {}: {orphans:?}", host.name());
    }
}

/// A release whose containers are faulty on the second host.
async fn faulty_container(name: &'static str, value: &'static str, expected: Expected<'_>) {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    scene.write(&DeployFile { deploy_timeout: 5, ..scene.file.clone().with_fault("h2", name, value) });
    let run = scene.deploy("2").await;
    check(&run, &expected);
    expect_put_back(&scene, "1", "2").await;
    scene.write(&scene.file);
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_at_start() {
    let causes = &["crashed with code 7", "told to exit with 7 at start"];
    faulty_container("HELLO_EXIT_AT_START", "7", Expected { code: 6, causes }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_a_variable() {
    let causes = &["crashed with code 1", "environment variable DATABASE_URL is not set"];
    faulty_container("HELLO_REQUIRE_ENV", "DATABASE_URL", Expected { code: 6, causes }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_check_answers_500() {
    faulty_container("HELLO_UNHEALTHY", "500", Expected { code: 6, causes: &["500", "/up"] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_check_answers_404() {
    faulty_container("HELLO_UNHEALTHY", "404", Expected { code: 6, causes: &["404", "/up"] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_check_answers_301() {
    let causes = &["301", "/up", "elsewhere.example"];
    faulty_container("HELLO_UNHEALTHY", "301", Expected { code: 6, causes }).await;
}

/// kamal-compat §18 row 9
#[tokio::test(flavor = "multi_thread")]
async fn health_check_never_answers() {
    faulty_container("HELLO_UNHEALTHY", "hang", Expected { code: 6, causes: &["/up"] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listens_on_loopback_only() {
    faulty_container("HELLO_BIND", "127.0.0.1", Expected { code: 6, causes: &["127.0.0.1"] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listens_on_another_port() {
    faulty_container("PORT", "3000", Expected { code: 6, causes: &["3000"] }).await;
}

/// A container without traffic that dies after the switch: nobody was using it, so nothing may fail.
#[tokio::test(flavor = "multi_thread")]
async fn worker_crashes_during_soak() {
    let mut scene = Scene::new(&THREE).await;
    scene.file.soak = 6;
    let servers = "servers:\n  - h1\n  - h2\n  - h3\n";
    let roles = |tag: &str| {
        format!(
            "servers:\n  web:\n    hosts: [h1, h2, h3]\n  jobs:\n    hosts:\n      - h2{tag}\n    cmd: serve\n"
        )
    };
    let without_fault = scene.file.render().replace(servers, &roles(""));
    let without_fault = format!("{without_fault}readiness_delay: 1\n");
    let with_fault = without_fault
        .replace(&roles(""), &roles(": dying"))
        .replace("builder:", "  tags:\n    dying:\n      HELLO_CRASH_AFTER_MS: \"4000\"\nbuilder:");
    scene.project.write("config/deploy.yml", &without_fault.replace("soak: 6", "soak: 0")).unwrap();
    scene.deploy("1").await.expect_code(0).unwrap();
    let load = scene.load().await;
    scene.project.write("config/deploy.yml", &with_fault).unwrap();
    let run = scene.deploy("2").await;
    // Whether it is seen before or after the engine starts it again is chance.
    check(&run, &Expected { code: 6, causes: &["started again", "crashing as told", "hello-jobs-2"] });
    scene.expect_serving("1").await;
    assert_eq!(scene.state(&scene.host("h2")).await.running, ["hello-jobs-1", "hello-web-1"]);
    assert_eq!(scene.state(&scene.host("h2")).await.stopped, [""; 0]);
    scene.project.write("config/deploy.yml", &without_fault).unwrap();
    scene.deploy("3").await.expect_code(0).unwrap();
    scene.expect_serving("3").await;
    println!("{}", expect_no_failure(load).await);
}

/// A container that dies while requests are in flight on it takes those with it: they are bounded, and those of the
/// other hosts are untouched.
#[tokio::test(flavor = "multi_thread")]
async fn web_container_crashes_during_soak() {
    let mut scene = Scene::new(&THREE).await;
    scene.file.soak = 6;
    scene.write(&DeployFile { soak: 0, ..scene.file.clone() });
    scene.deploy_well("1").await;
    let targets = [scene.host("h1"), scene.host("h3")].iter().map(address).collect::<Vec<_>>();
    let others = Load::start(LoadOptions { workers: 1, ..LoadOptions::new(targets) });
    let faulty = Load::start(LoadOptions { workers: 1, ..LoadOptions::new([address(&scene.host("h2"))]) });
    others.answered(2).await;
    faulty.answered(2).await;
    scene.write(&scene.file.clone().with_fault("h2", "HELLO_CRASH_AFTER_REQUEST_MS", "700"));
    let run = scene.deploy("2").await;
    check(&run, &Expected { code: 6, causes: &["crashed with code 1", "crashing as told"] });
    expect_put_back(&scene, "1", "2").await;
    scene.write(&scene.file);
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(others).await);
    let report = faulty.stop().await;
    println!("on the host whose container crashed:\n{report}");
    assert!(report.failed() < 100, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_refuses_the_image() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    let host = scene.host("h2");
    // Where the engine unpacks what it is sent.
    let place = "/var/lib/docker/tmp";
    host.exec(&format!("mount --bind {place} {place} && mount -o remount,ro,bind {place}")).await.unwrap();
    let version = unique();
    let run = scene.deploy(&version).await;
    host.exec(&format!("umount {place}")).await.unwrap();
    check(&run, &Expected { code: 1, causes: &["read-only file system", &version] });
    expect_put_back(&scene, "1", &version).await;
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_ends_while_the_image_is_sent() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let relay = scene.relay("h2").await;
    let load = scene.load().await;
    add_ballast(&scene);
    let version = unique();
    let mut deploy = scene.follow(&version);
    deploy
        .until(|event| {
            is_started_step(event, "h2") && event["title"].as_str().unwrap().starts_with("deliver")
        })
        .await
        .unwrap();
    relay.cut_after(1024 * 1024);
    relay_stays_cut(&relay).await;
    // The journal of the host is ended as soon as it can be reached again.
    deploy.until(|event| event["event"] == "putting_back").await.unwrap();
    relay.admit();
    let run = deploy.end().await;
    check(&run, &Expected { code: 4, causes: &["deliver"] });
    expect_put_back(&scene, "1", &version).await;
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

async fn relay_stays_cut(relay: &freehold_e2e::lab::Relay) {
    let before = relay.bytes();
    eventually("a megabyte to pass", async || relay.bytes() >= before + 1024 * 1024).await;
    relay.refuse();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_has_the_host_name() {
    let mut scene = Scene::new(&THREE).await;
    scene.file.proxy_hosts = vec!["localhost".to_owned()];
    scene.write(&scene.file);
    scene.deploy_well("1").await;
    let other = Scene::beside(&scene, "other", &["h2"], "taken.example");
    other.deploy("1").await.expect_code(0).unwrap();
    let load = scene.load().await;
    let hosts = vec!["localhost".to_owned(), "taken.example".to_owned()];
    scene.write(&DeployFile { proxy_hosts: hosts, ..scene.file.clone() });
    let run = scene.deploy("2").await;
    check(&run, &Expected { code: 3, causes: &["serves a host and path of `hello-web` for `other-web`"] });
    expect_put_back(&scene, "1", "2").await;
    scene.write(&scene.file);
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

/// The host name is taken when the plan is made already and the new containers are about to be started.
#[tokio::test(flavor = "multi_thread")]
async fn proxy_refuses_the_switch() {
    let mut scene = Scene::new(&THREE).await;
    scene.file.proxy_hosts = vec!["localhost".to_owned()];
    scene.write(&scene.file);
    scene.deploy_well("1").await;
    let load = scene.load().await;
    let hosts = vec!["localhost".to_owned(), "taken.example".to_owned()];
    scene.write(&DeployFile { proxy_hosts: hosts, ..scene.file.clone() });
    let hook = ".kamal/hooks/pre-app-boot";
    let take = "docker exec kamal-proxy /freehold proxy deploy late-web --target late:80 --host taken.example --force";
    scene
        .project
        .write(hook, &format!("#!/bin/sh\nexec ssh -F \"$HOME/.ssh/config\" h2 '{take}'\n"))
        .unwrap();
    let path = scene.project.folder().join(hook);
    fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = scene.deploy("2").await;
    check(&run, &Expected { code: 3, causes: &["conflict with another service", "`late-web`"] });
    expect_put_back(&scene, "1", "2").await;
    scene.write(&scene.file);
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_is_unreachable_from_the_start() {
    let scene = Scene::new(&THREE).await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    let relay = scene.relay("h2").await;
    relay.refuse();
    let run = scene.deploy("2").await;
    check(&run, &Expected { code: 4, causes: &["h2"] });
    expect_put_back(&scene, "1", "2").await;
    relay.admit();
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_drops_every_packet_from_the_start() {
    let scene = Scene::new(&["h1", "h2"]).await;
    let relay = scene.relay("h2").await;
    scene.deploy_well("1").await;
    let load = scene.load().await;
    relay.freeze();
    let start = Instant::now();
    let run = scene.deploy("2").await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    relay.thaw();
    check(&run, &Expected { code: 4, causes: &[] });
    expect_put_back(&scene, "1", "2").await;
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

/// Hosts whose containers live on while their engine restarts.
async fn live_restore() -> std::sync::Arc<Lab> {
    let topology = Topology::three().with("live-restore", |host| {
        host.dockerd_options = vec!["--live-restore".to_owned()];
        if host.name == "h2" {
            host.disk_bytes = Some(700 * 1024 * 1024);
        }
    });
    Lab::shared(topology).await.unwrap()
}

/// The engine restarts at four moments of a deploy: whatever becomes of the deploy, it is all or nothing.
///
/// An engine that starts rebuilds its rules for published ports: for about a quarter of a second it refuses new
/// connections to its own host, whatever runs there. Nothing else fails, neither there while the engine is away nor on
/// the other hosts.
#[tokio::test(flavor = "multi_thread")]
async fn engine_restarts() {
    /// Many times the quarter of a second, for a busy computer; the engine itself is away for longer.
    const RULES_ARE_REBUILT: Duration = Duration::from_secs(2);
    let scene = Scene::on(live_restore().await, &THREE).await;
    scene.deploy_well("0").await;
    let mut serving = "0".to_owned();
    for (number, title) in ["deliver", "start", "wait until", "send requests"].iter().enumerate() {
        let version = format!("4{number}");
        let targets = [scene.host("h1"), scene.host("h3")].iter().map(address).collect::<Vec<_>>();
        let others = Load::start(LoadOptions { workers: 1, ..LoadOptions::new(targets) });
        let restarted =
            Load::start(LoadOptions { workers: 1, ..LoadOptions::new([address(&scene.host("h2"))]) });
        restarted.answered(2).await;
        let mut deploy = scene.follow(&version);
        deploy
            .until(|event| {
                is_started_step(event, "h2") && event["title"].as_str().unwrap().starts_with(title)
            })
            .await
            .unwrap();
        scene.host("h2").restart_engine().await.unwrap();
        let run = deploy.end().await;
        let report = restarted.stop().await;
        println!(
            "case engine restarts at `{title}`: code {:?} after {:.1} s; its host failed {} of {} requests within {:.2} s",
            run.code,
            run.elapsed.as_secs_f64(),
            report.failed(),
            report.sent(),
            report.failing_time().as_secs_f64()
        );
        assert!(report.failing_time() < RULES_ARE_REBUILT, "{report}");
        match run.code {
            Some(0) => serving = version,
            Some(1 | 4 | 6) => {
                assert!(run.stderr.contains("h2"), "{}", run.stderr);
                expect_put_back(&scene, &serving, &version).await;
            }
            // The new release was live; what follows the switch could not be done.
            Some(7) => {
                serving = version;
                scene.run(&["resume"]).await.expect_code(0).unwrap();
            }
            code => panic!("{code:?}: {}", run.stderr),
        }
        scene.expect_serving(&serving).await;
        scene.expect_clean(&serving).await;
        let all = scene.load().await;
        let next = format!("5{number}");
        scene.deploy_well(&next).await;
        serving = next;
        expect_no_failure(others).await;
        expect_no_failure(all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_is_full() {
    let scene = Scene::on(live_restore().await, &THREE).await;
    scene.deploy_well("0").await;
    disk_full(&scene).await;
}

/// Once without any space, and once with enough for our own files but not for the image.
async fn disk_full(scene: &Scene) {
    scene.deploy_well("1").await;
    let load = scene.load().await;
    let host: Host = scene.host("h2");
    let dockerfile = fs_err::read_to_string(scene.project.folder().join("Dockerfile")).unwrap();
    for (left, cause) in [(0, "its disk is full"), (2 * 1024 * 1024, "for a while in `/var/lib/docker`")] {
        add_ballast(scene);
        match left {
            // To the last byte, whatever else writes at the same time.
            0 => drop(host.attempt("cat /dev/zero >/var/lib/docker/lab-filler").await.unwrap()),
            left => host.fill_disk(left).await.unwrap(),
        }
        let version = unique();
        let run = scene.deploy(&version).await;
        host.free_disk().await.unwrap();
        println!("case disk full, {left} bytes left");
        check(&run, &Expected { code: 1, causes: &[cause] });
        expect_put_back(scene, "1", &version).await;
        scene.project.write("Dockerfile", &dockerfile).unwrap();
    }
    scene.deploy_well("3").await;
    println!("{}", expect_no_failure(load).await);
}

/// Makes the image 4 MiB larger, of random bytes, so that they have to be sent as they are.
fn add_ballast(scene: &Scene) {
    let mut ballast = vec![0; 4 * 1024 * 1024];
    getrandom::fill(&mut ballast).unwrap();
    fs_err::write(scene.project.folder().join("ballast"), ballast).unwrap();
    let dockerfile = fs_err::read_to_string(scene.project.folder().join("Dockerfile")).unwrap();
    scene.project.write(".dockerignore", "config\n").unwrap();
    scene
        .project
        .write("Dockerfile", &dockerfile.replace("EXPOSE", "COPY ballast /ballast\nEXPOSE"))
        .unwrap();
}

/// A version that no host has an image of.
fn unique() -> String {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    format!("u{:08x}", u32::from_be_bytes(random))
}
