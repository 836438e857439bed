//! Engines for these tests: each a `dockerd` of Debian's package with its own root, socket and network namespace,
//! stopped by its pid when dropped. With `FREEHOLD_TEST_DOCKER_HOST=unix:///path` the first one is that engine.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use freehold_docker::{
    Deadlines, Engine, FileSource, Owner, ScratchConfig, ScratchEntry, ScratchImage, UnixSocket,
};
use freehold_model::{Architecture, ContainerName, ImageReference, Repository, Tag};
use futures_util::TryStreamExt;
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

pub(crate) struct TestEngine {
    daemon: Option<Daemon>,
    socket: PathBuf,
    pub(crate) engine: Engine,
}

struct Daemon {
    process: Child,
    folder: TempDir,
}

impl TestEngine {
    /// The engine that the environment names, or one of our own.
    pub(crate) async fn first() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is where the tests read their environment")]
        match std::env::var("FREEHOLD_TEST_DOCKER_HOST") {
            Ok(address) => {
                let path =
                    address.strip_prefix("unix://").expect("FREEHOLD_TEST_DOCKER_HOST is unix:///path");
                Self::at(PathBuf::from(path), None)
            }
            Err(_) => Self::start().await,
        }
    }

    /// An engine of our own.
    pub(crate) async fn start() -> Self {
        Self::start_after("true").await
    }

    /// An engine of our own whose disk has that many megabytes.
    pub(crate) async fn start_on_disk(megabytes: u32) -> Self {
        Self::start_after(&format!("mount -t tmpfs -o size={megabytes}m none \"$2\"")).await
    }

    /// The preparation sees the data root as its second argument.
    async fn start_after(preparation: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("freehold-docker-").tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let log = fs_err::File::create(at("log")).expect("a log");
        fs_err::create_dir(at("data")).expect("a folder");
        // Namespaces of its own keep its bridge, firewall rules and mounts away from other engines. The engine gets
        // SIGTERM when the thread that started it ends, however that happens.
        let process = Command::new("unshare")
            .args(["--net", "--mount", "setpriv", "--pdeathsig", "TERM", "sh", "-c"])
            .arg(format!("ip link set lo up && {preparation} && exec dockerd \"$@\""))
            .arg("dockerd")
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", at("socket").display()))
            .stdin(Stdio::null())
            .stdout(log.file().try_clone().expect("a log"))
            .stderr(log.file().try_clone().expect("a log"))
            .spawn()
            .expect("these tests need root, `unshare` and `setpriv` (util-linux)");
        let socket = at("socket");
        let started = Self::at(socket, Some(Daemon { process, folder }));
        started.wait_until_it_answers().await;
        started
    }

    fn at(socket: PathBuf, daemon: Option<Daemon>) -> Self {
        let engine = Engine::over(Arc::new(UnixSocket::new(&socket)), Deadlines::default());
        Self { daemon, socket, engine }
    }

    async fn wait_until_it_answers(&self) {
        let answered = eventually(Duration::from_secs(60), async || self.engine.info().await.ok()).await;
        if answered.is_none() {
            let log =
                self.daemon.as_ref().map(|daemon| fs_err::read_to_string(daemon.folder.path().join("log")));
            panic!(
                "the engine does not answer (these tests need Debian's docker.io and iptables); its log: {log:?}"
            );
        }
    }

    /// The process of the engine.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.process.id())
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs the `docker` command against this engine.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker")
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()))
            .args(arguments)
            .output()
            .expect("these tests need Debian's docker.io");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// How many bytes the engine exports for an image.
    pub(crate) async fn exported_size(engine: &Engine, image: &str) -> u64 {
        let stream = engine.save_image(image).await.expect("the engine exports it");
        let pieces =
            stream.map_ok(|piece| piece.len() as u64).try_fold(0, |sum, size| async move { Ok(sum + size) });
        pieces.await.expect("the engine exports it")
    }

    /// Loads an image with a shell and usual commands.
    pub(crate) async fn load_busybox(&self) -> ImageReference {
        let image = busybox_image();
        let reference = image.reference.clone();
        let sealed = image.seal().await.expect("an image");
        self.engine.load_archive(sealed.archive()).await.expect("the engine takes the image");
        reference
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let terminated = Command::new("kill").arg(self.process.id().to_string()).status();
        if !terminated.is_ok_and(|status| status.success()) || self.process.wait().is_err() {
            eprintln!("engine {} could not be stopped", self.process.id());
        }
    }
}

/// Asks until there is an answer or the time is over.
pub(crate) async fn eventually<T>(limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A name that no other test and no other run uses.
pub(crate) fn unique(stem: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("fh-it-{}-{}-{stem}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn container_name(stem: &str) -> ContainerName {
    ContainerName::parse(unique(stem)).expect("a name")
}

pub(crate) fn reference(repository: &str, tag: &str) -> ImageReference {
    ImageReference {
        repository: Repository::parse(repository).expect("a repository"),
        tag: Tag::parse(tag).expect("a tag"),
    }
}

pub(crate) fn file(path: &str, content: impl Into<Bytes>) -> ScratchEntry {
    ScratchEntry::File {
        path: path.to_owned(),
        mode: 0o644,
        owner: Owner::default(),
        content: FileSource::Bytes(content.into()),
    }
}

fn directory(path: &str) -> ScratchEntry {
    ScratchEntry::Directory { path: path.to_owned(), mode: 0o755, owner: Owner::default() }
}

/// The layer of a small system.
pub(crate) fn busybox_layer() -> Vec<ScratchEntry> {
    assert!(Path::new(BUSYBOX).exists(), "these tests need Debian's package busybox-static");
    let mut entries = vec![
        directory("/bin"),
        directory("/etc"),
        directory("/tmp"),
        file("/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
        file("/etc/group", "root:x:0:\napp:x:1000:\nextra:x:2000:\n"),
        ScratchEntry::File {
            path: "/bin/busybox".to_owned(),
            mode: 0o755,
            owner: Owner::default(),
            content: FileSource::Path(PathBuf::from(BUSYBOX)),
        },
    ];
    for command in
        ["sh", "cat", "echo", "env", "false", "httpd", "id", "ls", "nc", "sleep", "stty", "true", "wc"]
    {
        let target = "/bin/busybox".to_owned();
        entries.push(ScratchEntry::SymbolicLink { path: format!("/bin/{command}"), target });
    }
    entries
}

pub(crate) fn busybox_image() -> ScratchImage {
    ScratchImage {
        reference: reference(&unique("busybox"), "1"),
        architecture: Architecture::of_this_executable().expect("amd64 or arm64"),
        layers: vec![busybox_layer()],
        config: ScratchConfig {
            env: [("PATH".to_owned(), "/bin".to_owned())].into(),
            labels: [("service".to_owned(), "it".to_owned())].into(),
            exposed_ports: vec!["8080/tcp".to_owned()],
            command: vec!["sleep".to_owned(), "600".to_owned()],
            ..ScratchConfig::default()
        },
    }
}

pub(crate) fn must<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("the engine does it")
}
