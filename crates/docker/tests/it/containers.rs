use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{
    ContainerScope, ContainerSpec, ContainerState, CreateContainerError, Deadlines, Engine, EngineError,
    EnvValue, ExecError, ExecSpec, HealthStatus, ImageName, LogLine, LogOptions, OutputStream, RemoveOptions,
    Removed, RenameContainerError, StandardStreams, Started, Stopped, UnixSocket, Untagged,
};
use freehold_model::{Diagnose, EnvName, ErrorKind, ImageReference, RestartPolicy};
use futures_util::{StreamExt, TryStreamExt};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::faults::{Fault, faulty};
use crate::lab::{TestEngine, container_name, eventually, must, reference, unique};

const GONE: RemoveOptions = RemoveOptions { force: true, anonymous_volumes: true };

fn spec(image: &ImageReference, stem: &str, script: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(container_name(stem), ImageName::Reference(image.clone()));
    spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    spec.options.restart = RestartPolicy::No;
    spec
}

#[tokio::test]
async fn containers_live_and_die_as_asked() {
    let lab = TestEngine::first().await;
    let image = lab.load_busybox().await;
    describes_the_engine(&lab).await;
    goes_through_its_life(&lab, &image).await;
    refuses_by_type(&lab, &image).await;
    lists_by_labels(&lab, &image).await;
    knows_health_and_death(&lab, &image).await;
    reads_logs(&lab, &image).await;
    runs_commands(&lab, &image).await;
    attaches(&lab, &image).await;
    connects_networks(&lab, &image).await;
    fills_folders(&lab, &image).await;
    names_images(&lab, &image).await;
}

async fn fills_folders(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let name = unique("folder");
    must(engine.create_folder_volume(&name, &path).await);
    must(engine.create_folder_volume(&name, &path).await);
    let mut user = spec(image, "filler", "true");
    user.volumes = vec![format!("{name}:/etc")];
    must(engine.create_container(&user).await);
    assert!(must(engine.has_path(user.name.as_str(), "/etc/passwd").await));
    assert!(!must(engine.has_path(user.name.as_str(), "/nothing").await));
    assert!(!must(engine.has_path("fh-it-no-such", "/etc").await));
    assert_eq!(engine.remove_volume(&name).await.unwrap_err().status(), Some(409));
    must(engine.remove_container(user.name.as_str(), GONE).await);
    must(engine.remove_volume(&name).await);
    must(engine.remove_volume(&name).await);
    let files: Vec<String> = ["group", "passwd"].map(str::to_owned).to_vec();
    let mut found: Vec<String> = fs_err::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| files.contains(name))
        .collect();
    found.sort();
    assert_eq!(found, files, "the image's files stay in the folder of the host");
}

async fn describes_the_engine(lab: &TestEngine) {
    let info = must(lab.engine.info().await);
    assert!(info.api_version.minor >= 41, "{info:?}");
    assert_eq!(info.architecture, freehold_model::Architecture::of_this_executable());
    assert!(!info.podman && info.buildkit && info.data_root.is_absolute(), "{info:?}");
}

/// No engine, a silent one, and something that is no engine: each ends in time and says what it is.
#[tokio::test]
async fn what_does_not_answer_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let quick = Deadlines { request: Duration::from_millis(200), ..Deadlines::default() };
    let missing = Engine::over(Arc::new(UnixSocket::new(&socket)), quick.clone());
    let error = missing.info().await.unwrap_err();
    assert!(matches!(error, EngineError::Connection { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.help(), ["no engine listens there: install it or start it, `systemctl start docker`"]);

    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let silent = faulty(socket.clone(), Fault::Silence, quick.clone());
    let error = silent.info().await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the Docker engine did not describe itself within 0.2 s");

    let answer = async |text: &str| {
        let served = async {
            // The first connections are those of the silent engine.
            loop {
                let (mut stream, _) = listener.accept().await?;
                let mut request = [0; 4096];
                if stream.read(&mut request).await? > 0 && stream.write_all(text.as_bytes()).await.is_ok() {
                    stream.shutdown().await?;
                }
            }
        };
        tokio::select! {
            answer = missing.info() => answer.unwrap_err(),
            broken = served => { let broken: std::io::Result<()> = broken; panic!("{broken:?}") }
        }
    };
    let other = answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    assert!(matches!(other, EngineError::Answer { .. }), "{other:?}");
    let cut = answer("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{").await;
    assert!(matches!(cut, EngineError::Connection { .. }), "{cut:?}");
    let refused = answer("HTTP/1.1 503 Busy\r\ncontent-length: 18\r\n\r\n{\"message\":\"later\"").await;
    assert_eq!(refused.status(), Some(503));
    let refused = answer("HTTP/1.1 500 No\r\ncontent-length: 16\r\n\r\n{\"message\":\"no\"}").await;
    assert_eq!((refused.status(), refused.engine_message()), (Some(500), Some("no")));
}

async fn goes_through_its_life(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let mut spec = spec(image, "life", "trap 'exit 7' TERM; while true; do sleep 0.1; done");
    spec.env.insert(EnvName::parse("CLEAR").unwrap(), EnvValue::Clear("seen".to_owned()));
    let secret = EnvValue::Secret(SecretString::from("marked-secret"));
    spec.env.insert(EnvName::parse("SECRET").unwrap(), secret);
    let name = spec.name.as_str();
    let id = must(engine.create_container(&spec).await);
    let seen = must(engine.inspect_container(name).await).unwrap();
    assert_eq!((seen.id.clone(), seen.state), (id.clone(), ContainerState::Created));
    assert!(seen.started_at.is_none() && seen.env_names.contains(&"SECRET".to_owned()), "{seen:?}");
    assert!(!format!("{seen:?} {spec:?}").contains("marked-secret"));

    assert_eq!(must(engine.start_container(name).await), Started::Started);
    assert_eq!(must(engine.start_container(name).await), Started::AlreadyRunning);
    let seen = must(engine.inspect_container(id.as_str()).await).unwrap();
    assert_eq!(seen.state, ContainerState::Running);
    assert!(seen.pid > 0 && seen.started_at.is_some(), "{seen:?}");
    assert_eq!(seen.exposed_ports, ["8080/tcp"]);

    assert_eq!(must(engine.stop_container(name, Some(Duration::from_secs(5))).await), Stopped::Stopped);
    assert_eq!(must(engine.stop_container(name, None).await), Stopped::AlreadyStopped);
    assert_eq!(must(engine.kill_container(name, "HUP").await), Stopped::AlreadyStopped);
    assert_eq!(must(engine.inspect_container(name).await).unwrap().exit_code, 7);
    assert_eq!(must(engine.wait_container(name, Duration::from_secs(5)).await), 7);

    let renamed = container_name("renamed");
    must(engine.rename_container(name, &renamed).await);
    assert!(must(engine.inspect_container(name).await).is_none());
    assert_eq!(
        must(engine.remove_container(renamed.as_str(), RemoveOptions::default()).await),
        Removed::Removed
    );
    assert_eq!(must(engine.remove_container(renamed.as_str(), GONE).await), Removed::AlreadyGone);
}

async fn refuses_by_type(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let spec = spec(image, "twice", "sleep 600");
    must(engine.create_container(&spec).await);
    let taken = engine.create_container(&spec).await.unwrap_err();
    assert!(matches!(taken, CreateContainerError::NameInUse { .. }), "{taken:?}");
    let other = self::spec(image, "other", "sleep 600");
    must(engine.create_container(&other).await);
    let taken = engine.rename_container(other.name.as_str(), &spec.name).await.unwrap_err();
    assert!(matches!(taken, RenameContainerError::NameInUse { .. }), "{taken:?}");
    let missing = self::spec(&reference(&unique("absent"), "1"), "absent", "true");
    let missing = engine.create_container(&missing).await.unwrap_err();
    assert!(matches!(missing, CreateContainerError::ImageMissing { .. }), "{missing:?}");

    let nowhere = unique("nowhere");
    assert_eq!(must(engine.stop_container(&nowhere, None).await), Stopped::NoSuchContainer);
    assert_eq!(must(engine.kill_container(&nowhere, "KILL").await), Stopped::NoSuchContainer);
    assert_eq!(engine.start_container(&nowhere).await.unwrap_err().status(), Some(404));
    assert_eq!(engine.last_logs(&nowhere, 1).await.unwrap_err().status(), Some(404));
    let argv = vec!["true".to_owned()];
    let exec = ExecSpec { argv, ..ExecSpec::default() };
    assert!(matches!(engine.exec(&nowhere, &exec).await, Err(ExecError::NoSuchContainer { .. })));
    assert!(matches!(engine.exec(spec.name.as_str(), &exec).await, Err(ExecError::NotRunning { .. })));

    must(engine.start_container(spec.name.as_str()).await);
    let running = engine.remove_container(spec.name.as_str(), RemoveOptions::default()).await.unwrap_err();
    assert_eq!(running.status(), Some(409));
    for name in [&spec.name, &other.name] {
        assert_eq!(must(engine.remove_container(name.as_str(), GONE).await), Removed::Removed);
    }
}

async fn lists_by_labels(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let service = unique("service");
    let mut plain = spec(image, "plain", "sleep 600");
    plain.labels = [("service", service.as_str()), ("destination", "")].map(owned).into();
    let mut staging = spec(image, "staging", "sleep 600");
    staging.labels = [("service", service.as_str()), ("destination", "staging")].map(owned).into();
    for spec in [&plain, &staging] {
        must(engine.create_container(spec).await);
    }
    let names = async |scope, labels: BTreeMap<String, String>| {
        let found = must(engine.list_containers(scope, &labels).await);
        found.into_iter().map(|container| container.name).collect::<Vec<_>>()
    };
    let all = BTreeMap::from([owned(("service", &service))]);
    assert_eq!(names(ContainerScope::All, all.clone()).await, [staging.name.as_str(), plain.name.as_str()]);
    assert!(names(ContainerScope::Running, all).await.is_empty());
    assert_eq!(names(ContainerScope::All, plain.labels.clone()).await, [plain.name.as_str()]);
    for spec in [&plain, &staging] {
        must(engine.remove_container(spec.name.as_str(), GONE).await);
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

async fn knows_health_and_death(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let mut sick = spec(image, "sick", "sleep 600");
    sick.options.health_command = Some("echo no such page; exit 3".to_owned());
    sick.options.health_interval = Some(Duration::from_millis(100));
    sick.options.health_retries = Some(1);
    must(engine.create_container(&sick).await);
    must(engine.start_container(sick.name.as_str()).await);
    let health = eventually(Duration::from_secs(20), async || {
        let health = must(engine.inspect_container(sick.name.as_str()).await).unwrap().health.unwrap();
        (health.status == HealthStatus::Unhealthy).then_some(health)
    })
    .await
    .expect("it becomes unhealthy");
    assert_eq!((health.last_exit_code, health.last_output.trim()), (Some(3), "no such page"));

    // It outlives what is killed: where the cgroup ends with it, containerd may miss that memory ran out.
    let grow = "(x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done); code=$?; sleep 1; exit $code";
    let mut hungry = spec(image, "hungry", grow);
    hungry.options.memory_bytes = Some(8 << 20);
    hungry.options.memory_swap_bytes = Some(8 << 20);
    must(engine.create_container(&hungry).await);
    must(engine.start_container(hungry.name.as_str()).await);
    assert_eq!(must(engine.wait_container(hungry.name.as_str(), Duration::from_secs(20)).await), 137);
    assert!(must(engine.inspect_container(hungry.name.as_str()).await).unwrap().oom_killed);

    let mut broken = spec(image, "broken", "");
    broken.command = Some(vec!["/no/such/command".to_owned()]);
    must(engine.create_container(&broken).await);
    let refused = engine.start_container(broken.name.as_str()).await.unwrap_err();
    assert!(refused.engine_message().is_some_and(|words| words.contains("/no/such/command")), "{refused:?}");
    let seen = must(engine.inspect_container(broken.name.as_str()).await).unwrap();
    assert!(seen.exit_code == 127 && !seen.error.is_empty(), "{seen:?}");

    let endless = spec(image, "endless", "sleep 600");
    must(engine.create_container(&endless).await);
    must(engine.start_container(endless.name.as_str()).await);
    let late = engine.wait_container(endless.name.as_str(), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(late, freehold_docker::EngineError::Timeout { .. }), "{late:?}");
    for spec in [&sick, &hungry, &broken, &endless] {
        must(engine.remove_container(spec.name.as_str(), GONE).await);
    }
}

async fn reads_logs(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let script = "echo out 1; echo err 1 >&2; echo out 2; echo go on; cat /tmp/none; printf last; exit 4";
    let talker = spec(image, "talker", script);
    let name = talker.name.as_str();
    must(engine.create_container(&talker).await);
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    must(engine.start_container(name).await);
    let lines: Vec<_> = must(must(engine.logs(name, &follow).await).try_collect().await);
    let of = |lines: &[LogLine], stream| {
        let lines = lines.iter().filter(|line| line.stream == stream);
        lines.map(LogLine::text).collect::<Vec<_>>()
    };
    // An engine that follows may miss what is written right before the end; read afterwards, the log is whole.
    assert_eq!(of(&lines, OutputStream::Stdout)[..3], ["out 1", "out 2", "go on"]);
    assert_eq!(must(engine.wait_container(name, Duration::from_secs(5)).await), 4);
    let lines: Vec<_> = must(must(engine.logs(name, &LogOptions::default()).await).try_collect().await);
    assert_eq!(of(&lines, OutputStream::Stdout), ["out 1", "out 2", "go on", "last"]);
    assert_eq!(of(&lines, OutputStream::Stderr).first().unwrap(), "err 1");
    assert_eq!(must(engine.last_logs(name, 1).await), ["last"]);
    let stamped = LogOptions { tail: Some(1), timestamps: true, ..LogOptions::default() };
    let stamped: Vec<_> = must(must(engine.logs(name, &stamped).await).try_collect().await);
    assert!(stamped[0].text().starts_with("20") && stamped[0].text().ends_with(" last"), "{stamped:?}");
    let finished = must(engine.inspect_container(name).await).unwrap().finished_at.unwrap();
    let since = LogOptions { since: Some(finished + Duration::from_secs(1)), ..LogOptions::default() };
    assert_eq!(must(engine.logs(name, &since).await).count().await, 0);
    must(engine.remove_container(name, GONE).await);

    // A log that nobody reads must not hold up other requests.
    let flood = spec(image, "flood", "while true; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done");
    must(engine.create_container(&flood).await);
    must(engine.start_container(flood.name.as_str()).await);
    let mut unread = must(engine.logs(flood.name.as_str(), &follow).await);
    assert!(unread.next().await.unwrap().is_ok());
    for _ in 0..20 {
        must(engine.inspect_container(flood.name.as_str()).await);
    }
    drop(unread);
    must(engine.remove_container(flood.name.as_str(), GONE).await);
}

async fn runs_commands(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let host = spec(image, "exec", "sleep 600");
    let name = host.name.as_str();
    must(engine.create_container(&host).await);
    must(engine.start_container(name).await);
    let run = async |script: &str, change: &dyn Fn(&mut ExecSpec)| {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut spec = ExecSpec { argv, ..ExecSpec::default() };
        change(&mut spec);
        must(engine.exec_collect(name, &spec, Duration::from_secs(20)).await)
    };
    let outcome = run("echo out; echo err >&2; exit 5", &|_| {}).await;
    let parts = (outcome.exit_code, outcome.stdout.as_slice(), outcome.stderr.as_slice());
    assert_eq!(parts, (5, b"out\n".as_slice(), b"err\n".as_slice()));
    let outcome = run("echo $A $B; id -u", &|spec| {
        spec.env = vec![
            (EnvName::parse("A").unwrap(), EnvValue::Clear("1 2".to_owned())),
            (EnvName::parse("B").unwrap(), EnvValue::Secret(SecretString::from("s"))),
        ];
        spec.user = Some("1000".to_owned());
    })
    .await;
    assert_eq!(outcome.stdout, b"1 2 s\n1000\n");

    let argv = ["sh", "-c", "cat; echo done >&2"].map(str::to_owned).to_vec();
    let session = must(engine.exec(name, &ExecSpec { argv, stdin: true, ..ExecSpec::default() }).await);
    let (mut io, control) = session.into_io();
    let payload: Vec<u8> = (0..300_000u32).map(|byte| byte as u8).collect();
    let mut echoed = Vec::new();
    let (mut reader, mut writer) = tokio::io::split(&mut io);
    let (written, read) = tokio::join!(
        async {
            writer.write_all(&payload).await?;
            writer.shutdown().await
        },
        reader.read_to_end(&mut echoed)
    );
    must(written);
    must(read);
    assert!(echoed == payload, "{} bytes came back", echoed.len());
    assert_eq!(io.stderr_tail(), "done\n");
    assert_eq!(must(control.exit_code().await), 0);

    let argv = ["sh", "-c", "stty size; cat"].map(str::to_owned).to_vec();
    let spec = ExecSpec { argv, tty: true, stdin: true, ..ExecSpec::default() };
    let session = must(engine.exec(name, &spec).await);
    must(session.control.resize(91, 17).await);
    let (mut io, control) = session.into_io();
    must(io.write_all(b"typed\n\x04").await);
    let mut text = String::new();
    must(io.read_to_string(&mut text).await);
    assert!(text.contains("typed\r\n"), "{text:?}");
    assert_eq!(must(control.exit_code().await), 0);
    must(engine.remove_container(name, GONE).await);
}

async fn attaches(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let mut one_off = spec(image, "one-off", "read line; echo got $line; exit 9");
    one_off.streams = StandardStreams::Interactive;
    one_off.removal = freehold_docker::Removal::WhenStopped;
    let name = one_off.name.as_str();
    must(engine.create_container(&one_off).await);
    let (mut output, mut input) = must(engine.attach_container(name, false).await);
    let (code, ()) = tokio::join!(
        async {
            must(engine.start_container(name).await);
            must(engine.wait_container(name, Duration::from_secs(20)).await)
        },
        async {
            must(input.write_all(b"hello\n").await);
            must(input.shutdown().await);
        }
    );
    assert_eq!(code, 9);
    let mut text = Vec::new();
    while let Some((_, bytes)) = must(output.next().await) {
        text.extend_from_slice(&bytes);
    }
    assert_eq!(text, b"got hello\n");
    let gone = eventually(Duration::from_secs(10), async || {
        must(engine.inspect_container(name).await).is_none().then_some(())
    });
    gone.await.expect("the engine removes it");
}

async fn connects_networks(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let (first, second) = (unique("net"), unique("net"));
    for network in [&first, &second, &first] {
        must(engine.ensure_network(network).await);
    }
    assert!(!must(engine.has_network(&unique("net")).await));
    let mut spec = spec(image, "networked", "sleep 600");
    spec.network = Some(first.clone());
    spec.network_aliases = vec!["alias".to_owned()];
    let name = spec.name.as_str();
    must(engine.create_container(&spec).await);
    must(engine.start_container(name).await);
    for _ in 0..2 {
        must(engine.connect_network(&second, name, &["other".to_owned()]).await);
    }
    let seen = must(engine.inspect_container(name).await).unwrap();
    assert_eq!(seen.ip_addresses.keys().collect::<Vec<_>>(), [&first, &second]);
    must(engine.disconnect_network(&first, name, true).await);
    must(engine.remove_container(name, GONE).await);
    for network in [&first, &second, &first] {
        must(engine.remove_network(network).await);
    }
}

async fn names_images(lab: &TestEngine, image: &ImageReference) {
    let engine = &lab.engine;
    let details = must(engine.inspect_image(&image.to_string()).await).unwrap();
    assert_eq!(details.layers.len(), 1);
    assert_eq!(details.labels.get("service").unwrap(), "it");
    assert_eq!((details.command.len(), details.has_healthcheck), (2, false));
    assert!(details.env_names == ["PATH"] && details.exposed_ports == ["8080/tcp"], "{details:?}");
    let other = ImageReference { repository: image.repository.clone(), tag: reference("x", "other").tag };
    must(engine.tag_image(&image.to_string(), &other).await);
    let listed = must(engine.list_images(&image.repository).await);
    let mut tags = listed[0].tags.clone();
    tags.sort();
    assert_eq!((listed.len(), tags), (1, vec![image.to_string(), other.to_string()]));
    assert_eq!(must(engine.remove_image(&other.to_string()).await), Untagged::Untagged);
    assert_eq!(must(engine.remove_image(&other.to_string()).await), Untagged::AlreadyGone);

    let user = spec(image, "user", "sleep 600");
    must(engine.create_container(&user).await);
    assert_eq!(must(engine.remove_image(&image.to_string()).await), Untagged::InUse);
    must(engine.remove_container(user.name.as_str(), GONE).await);
    must(engine.prune_dangling_images("service=it").await);
    assert!(must(engine.inspect_image(&image.to_string()).await).is_some(), "only nameless images go");
    assert_eq!(must(engine.remove_image(&image.to_string()).await), Untagged::Untagged);
    assert!(must(engine.inspect_image(&image.to_string()).await).is_none());
}
