//! The recorded vectors of the compatibility specification: what a host has afterwards is what Kamal 2.12 leaves there.
//!
//! What differs on purpose: the image comes without a registry, because a lab has none; a blank clear value is set to
//! nothing instead of being left out; flags that Docker does not have are refused.

use std::collections::BTreeMap;
use std::process::Command;

use freehold_e2e::lab::Host;
use freehold_e2e::project::Project;
use serde_json::Value;

use crate::scene::{Scene, address, ask};
use later::{later_deploys, short};

mod later;

/// An application with a page, assets, a shell and a worker.
const DOCKERFILE: &str = "FROM scratch\nARG A\nCOPY hello /hello\nCOPY busybox /busybox\nCOPY VERSION /VERSION\n\
    COPY --chmod=755 jobs /bin/jobs\nCOPY assets /rails/public/assets\nEXPOSE 80\nCMD [\"/hello\"]\n";

const JOBS: &str = "#!/busybox sh\nexec /busybox sleep 100000\n";

/// Hooks that write down their environment.
const HOOK: &str = "#!/bin/sh\nprintf '%s' \"$(basename \"$0\")\" >> hooks.log\n\
    env | grep -E '^(KAMAL_|SEC=)' | sort | tr '\\n' '|' | sed 's/^/|/' >> hooks.log\necho >> hooks.log\n";

const HOOKS: [&str; 7] = [
    "docker-setup",
    "pre-connect",
    "pre-build",
    "pre-deploy",
    "pre-app-boot",
    "post-app-boot",
    "post-deploy",
];

fn deploy_file(host: &str) -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!(
        r#"service: app
image: acme/app
servers:
  web:
    - {host}: t1
  job:
    hosts: [{host}]
    cmd: bin/jobs
proxy:
  host: a.example.com
  healthcheck: {{interval: 1}}
builder:
  arch: {arch}
  secrets: [RPW]
  args: {{A: "b c"}}
env:
  clear: {{X: 'a$b ${{HOSTNAME}}', N: 3, E: "", F: false}}
  secret: [SEC, "AL:SEC"]
  tags: {{t1: {{TAGGED: yes1}}}}
asset_path: /rails/public/assets:ro
error_pages_path: public
volumes: ["data:/data"]
labels: {{foo: "bar baz"}}
readiness_delay: 1
deploy_timeout: 20
drain_timeout: 5
accessories:
  db:
    image: postgres:16
    host: {host}
    port: "127.0.0.1:5432:80"
    env: {{secret: [SEC]}}
    files: ["config/my.cnf:/etc/my.cnf"]
    directories: ["data:/var/lib/postgresql/data"]
"#
    )
}

/// Lays the project out as a repository of git with one commit, and puts the accessory's image on the hosts.
async fn scene(hosts: &[&str]) -> Scene {
    let scene = Scene::new(hosts).await;
    let project = &scene.project;
    let write = |path: &str, text: &str| project.write(path, text).unwrap();
    write("Dockerfile", DOCKERFILE);
    write(".dockerignore", "config\n");
    write("jobs", JOBS);
    write("assets/app-1.css", "1");
    write("public/404.html", "not found");
    write("public/503.html", "busy");
    write("public/index.html", "no error page");
    write("config/my.cnf", "[mysqld]\n");
    write("config/deploy.yml", &deploy_file(hosts[0]));
    write(".kamal/secrets", "SEC='s3 \"$x\" \\ ä\nline 2'\nRPW=registry\n");
    write(".gitignore", ".kamal/secrets*\nhooks.log\n");
    fs_err::copy("/bin/busybox", project.folder().join("busybox")).expect("this test needs busybox-static");
    for hook in HOOKS {
        let path = format!(".kamal/hooks/{hook}");
        write(&path, HOOK);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(project.folder().join(path), mode).unwrap();
    }
    git(project, &["init", "--quiet"]);
    git(project, &["config", "user.email", "ann@example.com"]);
    git(project, &["config", "user.name", "Ann"]);
    commit(project);
    for host in scene.hosts() {
        crate::proxy::forget_images(&host, "app").await;
        let make = "mkdir -p /tmp/db && cd /tmp/db && cat > hello && chmod 755 hello && \
            printf 'FROM scratch\\nCOPY hello /hello\\nCMD [\"/hello\"]\\n' > Dockerfile && \
            docker build --quiet --tag postgres:16 . && rm -r /tmp/db";
        let hello = fs_err::read(project.folder().join("hello")).unwrap();
        host.write("/tmp/hello", &hello).await.unwrap();
        host.exec(&format!("{{ {make}; }} < /tmp/hello; rm /tmp/hello")).await.unwrap();
    }
    scene
}

fn git(project: &Project, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(words)
        .current_dir(project.folder())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", project.home())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits everything and returns the revision, which becomes the version.
fn commit(project: &Project) -> String {
    git(project, &["add", "--all"]);
    git(project, &["commit", "--quiet", "--allow-empty", "--message", "change"]);
    git(project, &["rev-parse", "HEAD"])
}

async fn inspect(host: &Host, name: &str) -> Value {
    let text = host.docker(&["inspect", name]).await.unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

fn environment(container: &Value) -> BTreeMap<String, String> {
    let list = container["Config"]["Env"].as_array().unwrap();
    let pair = |text: &Value| {
        let (name, value) = text.as_str().unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    list.iter().map(pair).filter(|(name, _)| name != "PATH").collect()
}

/// The mounts as `SOURCE:TARGET[:ro]`, those of named volumes by their name.
fn mounts(container: &Value) -> Vec<String> {
    let list = container["Mounts"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mount = |mount: &Value| {
        let source = if mount["Type"] == "volume" { text(&mount["Name"]) } else { text(&mount["Source"]) };
        let end = if mount["RW"] == false { ":ro" } else { "" };
        format!("{source}:{}{end}", text(&mount["Destination"]))
    };
    let mut mounts: Vec<String> = list.iter().map(mount).collect();
    mounts.sort();
    mounts
}

/// The labels, without those that are Freehold's own.
fn labels(container: &Value) -> BTreeMap<String, String> {
    let map = container["Config"]["Labels"].as_object().unwrap();
    let own = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    map.iter().map(own).filter(|(name, _)| !name.contains("freehold")).collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The files and folders below the login directory with their modes, without those of Freehold alone.
async fn tree(host: &Host) -> Vec<String> {
    let find =
        "cd /root; find .kamal app-db -printf '%m %y %p\\n' | grep -v '/freehold' | LC_ALL=C sort -k 3";
    host.exec(find).await.unwrap().lines().map(str::to_owned).collect()
}

const SECRET: &str = "s3 \"$x\" \\ ä\nline 2";

/// kamal-compat §19 row 1, and every rule that its end state shows.
///
/// kamal-compat §4 rows 6, 7, 10; kamal-compat §6.1 row 1; kamal-compat §6.2 row 1; kamal-compat §10 rows 1, 2, 4;
/// kamal-compat §12.2 rows 2, 3; kamal-compat §13.1 row 1; kamal-compat §13.2 row 1; kamal-compat §13.4 row 1
/// kamal-compat §13.8 row 1; kamal-compat §13.9 row 1; kamal-compat §16 rows 1, 3, 4, 5, 6, 7, 8, 11, 13, 14, 16, 17
/// kamal-compat §16 rows 18, 19; kamal-compat §17 rows 1, 5, 7; kamal-compat §18 rows 2, 3; kamal-compat §19 row 3
#[tokio::test(flavor = "multi_thread")]
async fn setup_leaves_what_kamal_leaves() {
    let scene = scene(&["h1"]).await;
    let host = scene.host("h1");
    // What is not committed is not built: the image is made from a clone of the commit.
    scene.project.write("assets/uncommitted.css", "x").unwrap();
    let version = git(&scene.project, &["rev-parse", "HEAD"]);
    let run = scene.run(&["setup"]).await.expect_code(0).unwrap();
    assert!(run.stderr.contains("1 uncommitted change left out"), "{}", run.stderr);
    fs_err::remove_file(scene.project.folder().join("assets/uncommitted.css")).unwrap();

    expect_roles(&host, &version).await;
    expect_accessory_and_proxy(&host).await;
    expect_images(&host, &version).await;
    expect_files(&host, &version).await;
    expect_hooks(&scene, &version, "setup");
    later_deploys(&scene, &host, &version).await;
}

async fn expect_roles(host: &Host, version: &str) {
    let web = inspect(host, &format!("app-web-{version}")).await;
    let settings = &web["HostConfig"];
    assert_eq!(settings["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(settings["NetworkMode"], "kamal");
    assert_eq!(settings["LogConfig"]["Config"], serde_json::json!({ "max-size": "10m" }));
    assert_eq!(web["State"]["Running"], true);
    assert_eq!(web["Config"]["Image"], format!("acme/app:{version}"));
    let hostname = web["Config"]["Hostname"].as_str().unwrap();
    let (name, digits) = hostname.split_once('-').unwrap();
    assert!(
        name == "h1" && digits.len() == 12 && digits.chars().all(|c| c.is_ascii_hexdigit()),
        "{hostname}"
    );
    let container_name = format!("app-web-{version}");
    let clear = [
        ("KAMAL_VERSION", version),
        ("KAMAL_HOST", "h1"),
        ("X", "a$b h1"),
        ("N", "3"),
        ("E", ""),
        ("F", "false"),
        ("SEC", SECRET),
        ("AL", SECRET),
    ];
    let mut expected = pairs(&clear);
    expected.extend(pairs(&[("KAMAL_CONTAINER_NAME", &container_name), ("TAGGED", "yes1")]));
    assert_eq!(environment(&web), expected);
    let assets = format!("/root/.kamal/apps/app/assets/volumes/web-{version}:/rails/public/assets:ro");
    assert_eq!(mounts(&web), [assets.as_str(), "data:/data"]);
    let own = [("service", "app"), ("destination", ""), ("foo", "bar baz")];
    let of_role = |role: &str| {
        let mut labels = pairs(&own);
        labels.insert("role".to_owned(), role.to_owned());
        labels
    };
    assert_eq!(labels(&web), of_role("web"));

    let job = inspect(host, &format!("app-job-{version}")).await;
    assert_eq!(job["Config"]["Cmd"], serde_json::json!(["bin/jobs"]));
    assert_eq!(job["State"]["Running"], true);
    let mut expected = pairs(&clear);
    expected.extend(pairs(&[("KAMAL_CONTAINER_NAME", &format!("app-job-{version}"))]));
    assert_eq!(environment(&job), expected, "the tag is that of the other role's host entry");
    assert_eq!(mounts(&job), ["data:/data"], "assets are for roles with the proxy only");
    assert_eq!(labels(&job), of_role("job"));
}

async fn expect_accessory_and_proxy(host: &Host) {
    let database = inspect(host, "app-db").await;
    assert_eq!(database["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(database["HostConfig"]["NetworkMode"], "kamal");
    assert_eq!(environment(&database), pairs(&[("KAMAL_HOST", "h1"), ("SEC", SECRET)]));
    assert_eq!(labels(&database), pairs(&[("service", "app-db")]));
    let expected = ["/root/app-db/data:/var/lib/postgresql/data", "/root/app-db/etc/my.cnf:/etc/my.cnf"];
    assert_eq!(mounts(&database), expected);
    let bindings = serde_json::json!([{ "HostIp": "127.0.0.1", "HostPort": "5432" }]);
    assert_eq!(database["HostConfig"]["PortBindings"]["80/tcp"], bindings);

    let proxy = inspect(host, "kamal-proxy").await;
    assert_eq!(proxy["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(proxy["HostConfig"]["NetworkMode"], "kamal");
    assert_eq!(proxy["HostConfig"]["LogConfig"]["Config"]["max-size"], "10m");
    let proxy_mounts = mounts(&proxy);
    for mount in [
        "/root/.kamal/proxy/apps-config:/home/kamal-proxy/.apps-config",
        "kamal-proxy-config:/home/kamal-proxy/.config/kamal-proxy",
    ] {
        assert!(proxy_mounts.iter().any(|there| there.starts_with(mount)), "{mount} in {proxy_mounts:?}");
    }
    let ask_proxy = "curl --silent --header 'Host: a.example.com' http://localhost/version";
    assert!(!host.exec(ask_proxy).await.unwrap().is_empty());
    assert!(ask(address(host), "/version").await.is_err(), "the route is for its host name only");
}

async fn expect_images(host: &Host, version: &str) {
    let ids = "docker image ls --no-trunc --format '{{.Tag}} {{.ID}}' acme/app | grep -v none | sort";
    let images = host.exec(ids).await.unwrap();
    let lines: Vec<(&str, &str)> = images.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let tags: std::collections::BTreeSet<&str> = lines.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, [version, "latest"].into());
    assert!(lines.iter().all(|(_, id)| *id == lines[0].1), "{images}");
    let image = inspect(host, &format!("acme/app:{version}")).await;
    assert_eq!(image["Config"]["Labels"]["service"], "app");
    let running = "sh -c 'docker ps --latest --format '\\''{{.Names}}'\\'' --filter label=service=app --filter label=destination= --filter label=role=web --filter status=running --filter status=restarting --filter ancestor=$(docker image ls --filter reference=acme/app:latest --format '\\''{{.ID}}'\\'') ; docker ps --latest --format '\\''{{.Names}}'\\'' --filter label=service=app --filter label=destination= --filter label=role=web --filter status=running --filter status=restarting' | head -1 | while read line; do echo ${line#app-web-}; done";
    assert_eq!(host.exec(running).await.unwrap().trim(), version, "Kamal's own query finds it");
    let network = host.docker(&["network", "inspect", "--format", "{{.Driver}}", "kamal"]).await.unwrap();
    assert_eq!(network.trim(), "bridge");
}

async fn expect_files(host: &Host, version: &str) {
    let seen = tree(host).await;
    let expected = [
        "755 d .kamal".to_owned(),
        "600 f .kamal/apps/app/env/accessories/db.env".to_owned(),
        "600 f .kamal/apps/app/env/roles/job.env".to_owned(),
        "600 f .kamal/apps/app/env/roles/web.env".to_owned(),
        format!("644 f .kamal/apps/app/assets/extracted/web-{version}/app-1.css"),
        format!("644 f .kamal/apps/app/assets/volumes/web-{version}/app-1.css"),
        format!("644 f .kamal/proxy/apps-config/app/error_pages/{version}/404.html"),
        format!("644 f .kamal/proxy/apps-config/app/error_pages/{version}/503.html"),
        "755 f app-db/etc/my.cnf".to_owned(),
        "755 d app-db/data".to_owned(),
    ];
    for line in &expected {
        assert!(seen.contains(line), "{line} in {seen:#?}");
    }
    let more: Vec<&String> = seen
        .iter()
        .filter(|line| line.contains(" f ") && !expected.contains(line) && !line.ends_with("-audit.log"))
        .collect();
    assert_eq!(more, [""; 0], "and nothing else");
    let file = host.exec("cat /root/.kamal/apps/app/env/roles/web.env").await.unwrap();
    let line = "s3 \"$x\" \\ ä\\nline 2";
    assert_eq!(file, format!("AL={line}\nSEC={line}\n"), "one line each, line breaks as `\\n`");
    assert_eq!(host.exec("cat /root/app-db/etc/my.cnf").await.unwrap(), "[mysqld]\n");
}

/// What each hook was told.
fn hooks(scene: &Scene) -> Vec<(String, BTreeMap<String, String>)> {
    let path = scene.project.folder().join("hooks.log");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::remove_file(path).unwrap();
    let mut hooks = Vec::new();
    for line in text.lines().filter(|line| line.contains('|')) {
        let (name, rest) = line.split_once('|').unwrap();
        let variables = rest.split('|').filter_map(|pair| pair.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        hooks.push((name.to_owned(), variables));
    }
    hooks
}

/// kamal-compat §14 rows 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16, 17
fn expect_hooks(scene: &Scene, version: &str, command: &str) {
    let hooks = hooks(scene);
    let order: Vec<&str> = hooks.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "pre-connect",
        "docker-setup",
        "pre-build",
        "pre-deploy",
        "pre-app-boot",
        "post-app-boot",
        "post-deploy",
    ];
    assert_eq!(order, expected);
    for (name, variables) in &hooks {
        let of = |name: &str| variables.get(name).map(String::as_str);
        let time = of("KAMAL_RECORDED_AT").unwrap().replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(time, "0000-00-00T00:00:00Z", "{name}");
        assert_eq!(of("KAMAL_PERFORMER"), Some("ann@example.com"), "{name}");
        assert_eq!(of("KAMAL_SERVICE"), Some("app"), "{name}");
        assert_eq!(of("KAMAL_VERSION"), Some(version), "{name}");
        assert_eq!(of("KAMAL_SERVICE_VERSION"), Some(format!("app@{}", short(version)).as_str()), "{name}");
        assert_eq!(of("KAMAL_HOSTS"), Some("h1"), "{name}");
        assert_eq!(of("KAMAL_COMMAND"), Some(command), "{name}");
        assert_eq!(of("KAMAL_SUBCOMMAND"), None, "{name}");
        assert_eq!(of("KAMAL_DESTINATION"), None, "{name}");
        assert_eq!(of("KAMAL_ROLES"), None, "{name}: only with --roles");
        let gets_secrets = ["pre-connect", "pre-deploy", "post-deploy"].contains(&name.as_str());
        assert_eq!(of("SEC").is_some(), gets_secrets, "{name}");
        let is_locked =
            ["docker-setup", "pre-deploy", "pre-app-boot", "post-app-boot"].contains(&name.as_str());
        // Builds and what follows the release of the lock may be either, before and after Kamal's own order.
        if is_locked || name == "pre-connect" {
            assert_eq!(of("KAMAL_LOCK"), Some(if is_locked { "true" } else { "false" }), "{name}");
        }
        let runtime = of("KAMAL_RUNTIME").map(|text| text.parse::<u64>().is_ok());
        assert_eq!(runtime, (name == "post-deploy").then_some(true), "{name}");
    }
}

/// kamal-compat §19 row 4; kamal-compat §14 row 11; kamal-compat §14 row 13; kamal-compat §16 row 5;
/// kamal-compat §12.1 row 7
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_has_names_of_its_own() {
    let scene = scene(&["h2"]).await;
    let host = scene.host("h2");
    scene.project.write("config/deploy.stg.yml", "env: {clear: {X: staging}}\n").unwrap();
    scene.project.write(".kamal/secrets.stg", "SEC=of-staging\nRPW=registry\n").unwrap();
    let version = commit(&scene.project);
    scene.run(&["setup", "-d", "stg"]).await.expect_code(0).unwrap();
    for (hook, variables) in hooks(&scene) {
        assert_eq!(variables["KAMAL_DESTINATION"], "stg", "{hook}");
    }
    let web = inspect(&host, &format!("app-web-stg-{version}")).await;
    let mut expected =
        pairs(&[("service", "app"), ("role", "web"), ("destination", "stg"), ("foo", "bar baz")]);
    assert_eq!(labels(&web), expected);
    expected.insert("role".to_owned(), "job".to_owned());
    assert_eq!(labels(&inspect(&host, &format!("app-job-stg-{version}")).await), expected);
    let variables = environment(&web);
    for (name, value) in [("KAMAL_DESTINATION", "stg"), ("X", "staging"), ("SEC", "of-staging"), ("N", "3")] {
        assert_eq!(variables[name], value);
    }
    let latest = inspect(&host, "acme/app:latest-stg").await["Id"].clone();
    assert_eq!(latest, inspect(&host, &format!("acme/app:{version}")).await["Id"]);
    assert_eq!(
        labels(&inspect(&host, "app-db").await),
        pairs(&[("service", "app-db")]),
        "not of a destination"
    );
    let seen = tree(&host).await;
    for file in [
        "600 f .kamal/apps/app-stg/env/roles/web.env".to_owned(),
        "600 f .kamal/apps/app-stg/env/accessories/db.env".to_owned(),
        format!("644 f .kamal/proxy/apps-config/app-stg/error_pages/{version}/404.html"),
        format!("644 f .kamal/apps/app-stg/assets/volumes/web-{version}/app-1.css"),
    ] {
        assert!(seen.contains(&file), "{file} in {seen:#?}");
    }
    assert!(!seen.iter().any(|line| line.contains(".kamal/apps/app/")), "{seen:#?}");
    let audit = host.exec("cat /root/.kamal/app-stg-audit.log").await.unwrap();
    assert!(audit.contains(&format!("] [stg] [web] Booted app version {version}")), "{audit}");
    scene.run(&["lock", "acquire", "-m", "stop", "-d", "stg"]).await.expect_code(0).unwrap();
    host.exec("test -f /root/.kamal/lock-app-stg/details").await.unwrap();
    // Without the destination nothing is held.
    let other = scene.run(&["lock", "status"]).await.expect_code(0).unwrap();
    assert!(!other.stdout.contains("stop"), "{other:?}");
    scene.run(&["lock", "release", "-d", "stg"]).await.expect_code(0).unwrap();
    let list = host.docker(&["exec", "kamal-proxy", "/freehold", "proxy", "list"]).await.unwrap();
    assert!(list.contains("app-web-stg"), "{list}");
    hooks(&scene);
    scene.run(&["redeploy", "-d", "stg", "-r", "job"]).await.expect_code(0).unwrap();
    for (hook, variables) in hooks(&scene) {
        assert_eq!(variables["KAMAL_ROLES"], "job", "{hook}");
    }
}

/// kamal-compat §19 row 2; kamal-compat §10 rows 2, 3
#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_role_are_those_of_docker_run() {
    let scene = scene(&["h3"]).await;
    let host = scene.host("h3");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let text = format!(
        r#"service: app
image: acme/app
servers:
  web:
    hosts: [h3]
    options: {{memory: 2g, cpus: 1, init: true, add-host: ["a:10.0.0.1", "b:10.0.0.2"], restart: "on-failure:3"}}
    labels: {{l: 1}}
    logging: {{driver: local, options: {{max-file: 3}}}}
    env: {{clear: {{A: "x y"}}}}
proxy: {{healthcheck: {{interval: 1}}}}
builder: {{arch: {arch}}}
deploy_timeout: 20
drain_timeout: 5
"#
    );
    scene.project.write("config/options.yml", &text).unwrap();
    commit(&scene.project);
    scene.run(&["deploy", "-c", "config/options.yml", "--version", "v1"]).await.expect_code(0).unwrap();
    let web = inspect(&host, "app-web-v1").await;
    let settings = &web["HostConfig"];
    assert_eq!(
        settings["RestartPolicy"],
        serde_json::json!({ "Name": "on-failure", "MaximumRetryCount": 3 })
    );
    assert_eq!(settings["Memory"], 2_147_483_648_u64);
    assert_eq!(settings["NanoCpus"], 1_000_000_000_u64);
    assert_eq!(settings["Init"], true);
    assert_eq!(settings["ExtraHosts"], serde_json::json!(["a:10.0.0.1", "b:10.0.0.2"]));
    assert_eq!(settings["LogConfig"], serde_json::json!({ "Type": "local", "Config": { "max-file": "3" } }));
    assert_eq!(labels(&web), pairs(&[("service", "app"), ("role", "web"), ("destination", ""), ("l", "1")]));
    assert_eq!(environment(&web)["A"], "x y");
    let file = host.exec("cat /root/.kamal/apps/app/env/roles/web.env").await.unwrap();
    assert_eq!(file, "\n", "without secrets the file holds one line break");
    // A key that is a secret opens interactive sessions too: there is one SSH stack. kamal-compat §18 row 15
    let file = scene.project.home().join(".ssh/id_ed25519");
    let key = fs_err::read_to_string(&file).unwrap();
    scene.project.write("key", &key).unwrap();
    fs_err::remove_file(file).unwrap();
    scene.project.write(".kamal/secrets", "KEY=\"$(cat key)\"\n").unwrap();
    let with_key = format!("{text}ssh: {{key_data: [KEY], keys_only: true}}\n");
    scene.project.write("config/options.yml", &with_key).unwrap();
    for words in
        [&["server", "exec", "-i", "echo in"][..], &["app", "exec", "-i", "--reuse", "/busybox echo in"]]
    {
        let run = scene.run(&[words, &["-c", "config/options.yml"]].concat()).await.expect_code(0).unwrap();
        assert!(run.stdout.contains("in\n"), "{run:?}");
    }
    // A flag that Docker does not have is refused before anything happens; Kamal has the host refuse it.
    scene.project.write("config/options.yml", &text.replace("init: true", "x: false")).unwrap();
    let refused =
        scene.run(&["deploy", "-c", "config/options.yml", "--version", "v2"]).await.expect_code(3).unwrap();
    assert!(refused.stderr.contains("unknown `docker run` flag `x`"), "{}", refused.stderr);
}
