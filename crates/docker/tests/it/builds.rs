use std::time::Duration;

use freehold_docker::{
    BuildCache, BuildError, BuildEvent, BuildRequest, BuilderChoice, BuiltImage, ContainerSpec, ImageName,
    RemoveOptions, StepOutcome,
};
use freehold_model::{ImageId, ImageReference, RestartPolicy, SecretName};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::lab::{TestEngine, container_name, eventually, must, reference, unique};

#[tokio::test]
async fn images_are_built_from_a_folder() {
    let lab = TestEngine::first().await;
    let base = lab.load_busybox().await;
    let mut configurations = Vec::new();
    for builder in [BuilderChoice::Best, BuilderChoice::Classic] {
        configurations.push(builds_with_everything_set(&lab, &base, builder).await);
        explains_a_failing_step(&lab, &base, builder).await;
        explains_a_bad_dockerfile(&lab, builder).await;
    }
    assert_eq!(configurations[0], configurations[1], "an image is the same without BuildKit");
    uses_the_cache_or_not(&lab, &base).await;
    mounts_secrets(&lab, &base).await;
    forwards_an_agent(&lab, &base).await;
    streams_a_large_context(&lab).await;
    stops_when_nobody_waits(&lab, &base).await;
}

fn project(dockerfile: &str) -> (TempDir, BuildRequest) {
    let folder = tempfile::tempdir().expect("a folder");
    fs_err::write(folder.path().join("Dockerfile"), dockerfile).expect("a file");
    let request = BuildRequest::new(folder.path());
    (folder, request)
}

async fn build(lab: &TestEngine, request: BuildRequest) -> (Result<BuiltImage, BuildError>, Vec<BuildEvent>) {
    let mut events = Vec::new();
    let outcome = lab.engine.build(request, &mut |event| events.push(event)).await;
    (outcome, events)
}

fn finished(events: &[BuildEvent]) -> Vec<&StepOutcome> {
    events
        .iter()
        .filter_map(|event| match event {
            BuildEvent::StepFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect()
}

fn lines(events: &[BuildEvent]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            BuildEvent::StepOutput { line, .. } => Some(line.as_str()),
            _ => None,
        })
        .collect()
}

/// Builds, looks at what came of it, and returns the image's configuration without what is not set.
async fn builds_with_everything_set(
    lab: &TestEngine,
    base: &ImageReference,
    builder: BuilderChoice,
) -> serde_json::Value {
    let (folder, mut request) = project(&format!(
        "FROM {base} AS first\nARG GREETING\nENV GREETED=$GREETING\nWORKDIR /srv\nUSER 1000:1000\nEXPOSE 80\nUSER 0\n\
         RUN echo $GREETING > /greeting\nCOPY . /app\nCMD [\"sh\"]\nFROM {base} AS last\n"
    ));
    fs_err::write(folder.path().join("kept"), "kept").expect("a file");
    fs_err::write(folder.path().join("dropped"), "dropped").expect("a file");
    // Rails and others leave out these two as well: they are used and yet do not reach the image.
    let ignore = "dropped\n.dockerignore\nDockerfile\ndeep\n!deep/kept\n";
    fs_err::write(folder.path().join(".dockerignore"), ignore).expect("a file");
    fs_err::create_dir(folder.path().join("deep")).expect("a folder");
    fs_err::write(folder.path().join("deep/kept"), "kept").expect("a file");
    fs_err::write(folder.path().join("deep/dropped"), "dropped").expect("a file");
    std::os::unix::fs::symlink("kept", folder.path().join("link")).expect("a link");
    let tag = reference(&unique("built"), "1");
    request.tags = vec![tag.clone(), reference(tag.repository.as_str(), "latest")];
    request.args = [("GREETING".to_owned(), "hello there".to_owned())].into();
    request.labels = [("service".to_owned(), "it".to_owned())].into();
    request.target = Some("first".to_owned());
    request.builder = builder;
    let (outcome, events) = build(lab, request).await;
    let built = must(outcome);
    let image = must(lab.engine.inspect_image(&tag.to_string()).await).expect("the image");
    assert_eq!(image.id, built.id);
    assert_eq!(image.labels.get("service").map(String::as_str), Some("it"));
    assert_eq!(image.tags.len(), 2);
    assert!(events.iter().any(|event| matches!(event, BuildEvent::ContextSent { bytes } if *bytes > 0)));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, BuildEvent::StepStarted { name, .. } if name.contains("COPY")))
    );
    let listing = run(lab, &built.id, "cat /greeting; cd /app; ls -A . deep; cat link").await;
    assert_eq!(
        listing,
        ["hello there", ".:", "deep", "kept", "link", "", "deep:", "kept", "kept"],
        "{builder:?}"
    );
    let text = lab.docker(&["image", "inspect", "--format", "{{json .Config}}", &built.id]);
    let mut configuration: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).expect("a configuration");
    // The classic builder notes which image stood below the last step.
    configuration.remove("Image");
    // BuildKit says how Windows is to read the command.
    configuration.remove("ArgsEscaped");
    configuration.retain(|_, value| !value.is_null() && value != "" && value != false);
    configuration.into()
}

async fn run(lab: &TestEngine, image: &str, script: &str) -> Vec<String> {
    let image = ImageName::Id(ImageId::parse(image).expect("an identifier"));
    let mut spec = ContainerSpec::new(container_name("built"), image);
    spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    spec.options.restart = RestartPolicy::No;
    let name = spec.name.as_str();
    must(lab.engine.create_container(&spec).await);
    must(lab.engine.start_container(name).await);
    must(lab.engine.wait_container(name, Duration::from_secs(20)).await);
    let lines = must(lab.engine.last_logs(name, 100).await);
    must(lab.engine.remove_container(name, RemoveOptions { force: true, anonymous_volumes: true }).await);
    lines
}

async fn explains_a_failing_step(lab: &TestEngine, base: &ImageReference, builder: BuilderChoice) {
    let (_folder, mut request) = project(&format!(
        "FROM {base}\nRUN echo fine\nRUN for n in 1 2 3; do echo line $n; done; echo to stderr >&2; false\n"
    ));
    let tag = reference(&unique("failing"), "1");
    request.tags = vec![tag.clone()];
    request.builder = builder;
    let (outcome, events) = build(lab, request).await;
    let Err(BuildError::Step { step, source }) = outcome else { panic!("{outcome:?}") };
    assert!(step.name.contains("RUN for n in"), "{step:?}");
    for line in ["line 1", "line 2", "line 3", "to stderr"] {
        assert!(step.output.iter().any(|output| output.contains(line)), "{line}: {step:?}");
    }
    assert!(source.0.contains('1'), "{source}");
    assert!(matches!(finished(&events).last(), Some(StepOutcome::Failed(_))), "{events:?}");
    assert!(lines(&events).iter().any(|line| line.contains("line 2")));
    assert!(must(lab.engine.inspect_image(&tag.to_string()).await).is_none());
}

async fn explains_a_bad_dockerfile(lab: &TestEngine, builder: BuilderChoice) {
    let (_folder, mut request) = project("FROM scratch\nCOPPY a b\n");
    request.builder = builder;
    let (outcome, _) = build(lab, request).await;
    let error = outcome.expect_err("it is bad");
    let mut chain = format!("{error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        chain += &format!(": {cause}");
        source = cause.source();
    }
    assert!(chain.to_lowercase().contains("coppy"), "{chain}");
}

async fn uses_the_cache_or_not(lab: &TestEngine, base: &ImageReference) {
    let (_folder, request) =
        project(&format!("FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /unique\n"));
    let first = must(build(lab, request.clone()).await.0);
    let (again, events) = build(lab, request.clone()).await;
    assert_eq!(must(again), first);
    assert!(finished(&events).contains(&&StepOutcome::Cached), "{events:?}");
    let anew = BuildRequest { cache: BuildCache::Ignore, ..request };
    assert_ne!(must(build(lab, anew).await.0), first);
}

async fn mounts_secrets(lab: &TestEngine, base: &ImageReference) {
    let (_folder, mut request) = project(&format!(
        "FROM {base}\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN | wc -c > /length\n"
    ));
    let token = SecretName::parse("TOKEN").expect("a name");
    request.secrets = [(token, SecretString::from("marked-secret"))].into();
    request.cache = BuildCache::Ignore;
    let (outcome, events) = build(lab, request.clone()).await;
    let built = must(outcome);
    assert_eq!(run(lab, &built.id, "cat /length").await, ["13"]);
    assert!(!format!("{events:?} {request:?}").contains("marked-secret"));
    let history = lab.docker(&["history", "--no-trunc", &built.id]);
    assert!(!history.contains("marked-secret"), "{history}");
    request.builder = BuilderChoice::Classic;
    assert!(matches!(build(lab, request).await.0, Err(BuildError::SecretsNeedBuildKit)));
}

/// An SSH agent of this machine, as OpenSSH has it, with one key.
struct Agent {
    process: std::process::Child,
    folder: TempDir,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("agent");
        let process = std::process::Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("this test needs openssh-client");
        let agent = Self { process, folder };
        let key = agent.folder.path().join("key");
        agent.run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "key-of-the-test", "-f", &key.to_string_lossy()],
        );
        for _ in 0..200 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        agent.run("ssh-add", &["-q", &key.to_string_lossy()]);
        agent
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("agent")
    }

    fn run(&self, program: &str, words: &[&str]) {
        let mut command = std::process::Command::new(program);
        let status =
            command.args(words).env("SSH_AUTH_SOCK", self.socket()).status().expect("openssh-client");
        assert!(status.success(), "{program} {words:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends with its socket's folder otherwise.
        drop(self.process.kill().and_then(|()| self.process.wait()));
    }
}

/// Copies a program and the libraries that it is linked with.
fn copy_program(path: &str, root: &std::path::Path) {
    let linked = std::process::Command::new("ldd").arg(path).output().expect("ldd");
    let text = String::from_utf8_lossy(&linked.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([path]) {
        let target = root.join(file.trim_start_matches('/'));
        fs_err::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        fs_err::copy(file, target).expect("a file");
    }
}

/// kamal-compat §6 row 7.
async fn forwards_an_agent(lab: &TestEngine, base: &ImageReference) {
    let agent = Agent::start();
    let (folder, mut request) = project(&format!(
        "FROM {base}\nCOPY root /\nRUN --mount=type=ssh,required=true /usr/bin/ssh-add -l > /keys\n"
    ));
    copy_program("/usr/bin/ssh-add", &folder.path().join("root"));
    request.cache = BuildCache::Ignore;
    assert!(build(lab, request.clone()).await.0.is_err(), "there is no agent");
    request.ssh_agents = [("default".to_owned(), agent.socket())].into();
    let built = must(build(lab, request.clone()).await.0);
    let keys = run(lab, &built.id, "cat /keys").await.join("\n");
    assert!(keys.contains("key-of-the-test (ED25519)"), "{keys}");
    request.builder = BuilderChoice::Classic;
    assert!(matches!(build(lab, request).await.0, Err(BuildError::AgentsNeedBuildKit)));
}

/// The context is larger than what may wait in memory on the way.
async fn streams_a_large_context(lab: &TestEngine) {
    let (folder, request) = project("FROM scratch\nCOPY large /\n");
    let large: Vec<u8> =
        (0..20_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs_err::write(folder.path().join("large"), &large).expect("a file");
    let sent = |events: &[BuildEvent]| {
        let sent = events.iter().filter_map(|event| match event {
            BuildEvent::ContextSent { bytes } => Some(*bytes),
            _ => None,
        });
        sent.max().expect("something is sent")
    };
    let (outcome, events) = build(lab, request.clone()).await;
    let image = must(lab.engine.inspect_image(&must(outcome).id).await).expect("the image");
    assert_eq!(image.size_bytes, 20_000_000);
    assert!(sent(&events) >= 20_000_000);
    // BuildKit asks only for what has changed since.
    fs_err::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY large /other\n").expect("a file");
    let (outcome, events) = build(lab, request).await;
    must(outcome);
    assert!(sent(&events) < 10_000, "{}", sent(&events));
}

async fn stops_when_nobody_waits(lab: &TestEngine, base: &ImageReference) {
    // The command line tells this run's step from those of others on this machine.
    let seconds = 10_000 + std::process::id();
    let (_folder, mut request) = project(&format!("FROM {base}\nRUN echo begun; sleep {seconds}\n"));
    request.tags = vec![reference(&unique("abandoned"), "1")];
    let line = format!("sleep\u{0}{seconds}\u{0}");
    let (begun, mut wait) = tokio::sync::mpsc::channel(1);
    let mut notice = move |event| {
        if matches!(&event, BuildEvent::StepOutput { line, .. } if line == "begun") {
            begun.try_send(()).expect("once");
        }
    };
    tokio::select! {
        outcome = lab.engine.build(request, &mut notice) => panic!("{outcome:?}"),
        () = async {
            assert!(wait.recv().await.is_some());
            let runs = eventually(Duration::from_secs(20), async || runs(&line).then_some(()));
            runs.await.expect("the step sleeps");
        } => {}
    }
    let stopped = eventually(Duration::from_secs(60), async || (!runs(&line)).then_some(()));
    stopped.await.expect("the engine stops the step");
}

fn runs(command_line: &str) -> bool {
    let processes = fs_err::read_dir("/proc").expect("processes");
    processes.flatten().any(|process| {
        let line = fs_err::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).starts_with(command_line)
    })
}
