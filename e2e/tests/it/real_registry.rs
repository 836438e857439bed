//! Debian's registry as people run one: TLS with an authority of its own, a password or tokens, a disk that fills up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use tempfile::TempDir;

use crate::scene::{Scene, eventually};

/// bcrypt of `right$` for the user `ann`.
const PASSWORDS: &str = "ann:$2y$04$T4I.H8jOATyHRsHL/kwBKO4mLGudmHTyNzkBvL0L9FtVa8uvrfT22\n";

/// How the registry lets people in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// By a password.
    Password,
    /// By tokens, which a server of the test gives.
    Tokens,
}

/// A registry at an address that no engine takes without TLS, with a certificate of an authority that only its users know.
pub(crate) struct RealRegistry {
    pub(crate) address: String,
    process: Child,
    folder: TempDir,
    tokens: Option<Arc<AtomicU8>>,
    storage: PathBuf,
}

/// What the server of tokens does.
#[derive(Clone, Copy)]
pub(crate) enum Tokens {
    Good = 0,
    /// They allow nothing.
    Empty = 1,
    /// They have expired.
    Expired = 2,
    /// They are good until an engine wants to push, and have expired from then on.
    UntilPush = 3,
}

impl RealRegistry {
    pub(crate) async fn start(scene: &Scene, entrance: Entrance) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let route = scene.hosts()[0].exec("ip -4 route show default").await.unwrap();
        let gateway: Ipv4Addr = route.split_whitespace().nth(2).unwrap().parse().unwrap();
        let address = TcpListener::bind((gateway, 0)).unwrap().local_addr().unwrap().to_string();
        certificates(folder.path(), gateway);
        let storage = at("data");
        fs_err::create_dir(&storage).unwrap();
        // A disk of its own, so that it can fill up.
        shell(&format!("mount -t tmpfs -o size=64m none {}", storage.display()));
        fs_err::write(at("passwords"), PASSWORDS).unwrap();
        let (auth, tokens) = match entrance {
            Entrance::Password => {
                (format!("htpasswd: {{realm: test, path: {}}}", at("passwords").display()), None)
            }
            Entrance::Tokens => {
                let mode = Arc::new(AtomicU8::new(Tokens::Good as u8));
                let place = token_server(gateway, folder.path().to_owned(), Arc::clone(&mode));
                let bundle = at("authority.crt").display().to_string();
                let text = format!(
                    "token: {{realm: 'https://{place}/token', service: test, issuer: test, rootcertbundle: {bundle}}}"
                );
                (text, Some(mode))
            }
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}', secret: x, tls: {{certificate: {}, key: {}}}}}\n\
             storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {}}}}}\nauth: {{{auth}}}\n",
            at("registry.crt").display(),
            at("registry.key").display(),
            storage.display(),
        );
        fs_err::write(at("config.yml"), config).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "docker-registry", "serve"])
            .arg(at("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs Debian's docker-registry");
        let registry = Self { address, process, folder, tokens, storage };
        registry.make_known(scene).await;
        let ask = format!(
            "curl --silent --output /dev/null --cacert {} https://{}/v2/",
            registry.folder.path().join("authority.crt").display(),
            registry.address
        );
        eventually("the registry", async || {
            Command::new("sh").args(["-c", &ask]).status().unwrap().success()
        })
        .await;
        registry
    }

    /// Puts the authority where engines look for it, on this machine and on the hosts.
    async fn make_known(&self, scene: &Scene) {
        let authority = fs_err::read(self.folder.path().join("authority.crt")).unwrap();
        fs_err::create_dir_all(self.docker_folder()).unwrap();
        fs_err::write(self.docker_folder().join("ca.crt"), &authority).unwrap();
        for host in scene.hosts() {
            host.exec(&format!("mkdir -p {}", self.docker_folder().display())).await.unwrap();
            host.write(&self.docker_folder().join("ca.crt").display().to_string(), &authority).await.unwrap();
        }
    }

    fn docker_folder(&self) -> PathBuf {
        Path::new("/etc/docker/certs.d").join(&self.address)
    }

    pub(crate) fn give(&self, tokens: Tokens) {
        self.tokens.as_ref().unwrap().store(tokens as u8, Ordering::SeqCst);
    }

    /// Calls `curl` as ann and returns what it prints.
    pub(crate) fn curl(&self, words: &str, path: &str) -> String {
        shell(&format!(
            "curl --silent --show-error --fail --http1.1 --user 'ann:right$' --cacert {} {words} 'https://{}{path}'",
            self.folder.path().join("authority.crt").display(),
            self.address
        ))
    }

    /// The digest of an image's tag.
    pub(crate) fn digest(&self, image: &str, tag: &str) -> String {
        self.digest_of(image, tag, "application/vnd.docker.distribution.manifest.v2+json")
    }

    /// The digest of a tag, whatever form is behind it.
    pub(crate) fn digest_of(&self, image: &str, tag: &str, kind: &str) -> String {
        let accept = format!("--head --header 'Accept: {kind}'");
        let head = self.curl(&accept, &format!("/v2/{image}/manifests/{tag}"));
        let line = head.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        line.unwrap().trim().to_owned()
    }

    /// Stores a blob and returns its digest.
    pub(crate) fn store(&self, image: &str, content: &[u8]) -> String {
        let file = self.folder.path().join("blob");
        fs_err::write(&file, content).unwrap();
        let digest = shell(&format!("sha256sum {}", file.display()));
        let digest = format!("sha256:{}", digest.split(' ').next().unwrap());
        let head = self.curl("--request POST --include", &format!("/v2/{image}/blobs/uploads/"));
        let place = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim().to_owned();
        let path = place.split_once(&self.address).unwrap().1;
        let put = format!(
            "--request PUT --header 'Content-Type: application/octet-stream' --data-binary @{}",
            file.display()
        );
        self.curl(&put, &format!("{path}&digest={digest}"));
        digest
    }

    /// Stores a manifest, or an index, under a tag or its digest.
    pub(crate) fn tag(&self, image: &str, tag: &str, manifest: &serde_json::Value) {
        let file = self.folder.path().join("manifest");
        fs_err::write(&file, manifest.to_string()).unwrap();
        let kind = manifest["mediaType"].as_str().unwrap();
        let put = format!("--request PUT --header 'Content-Type: {kind}' --data-binary @{}", file.display());
        self.curl(&put, &format!("/v2/{image}/manifests/{tag}"));
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            println!("registry {} could not be stopped: {error}", self.process.id());
        }
        if let Err(error) = fs_err::remove_dir_all(self.docker_folder()) {
            println!("{error}");
        }
        shell(&format!("umount {}", self.storage.display()));
    }
}

pub(crate) fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes an authority, and a certificate by it for an address.
fn certificates(folder: &Path, address: Ipv4Addr) {
    let folder = folder.display();
    shell(&format!(
        "cd {folder} && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key \
           -out authority.crt 2>/dev/null && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout registry.key -out registry.csr 2>/dev/null && \
         printf 'subjectAltName=IP:{address}\\nbasicConstraints=CA:FALSE\\n' > names && \
         openssl x509 -req -in registry.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 \
           -extfile names -out registry.crt 2>/dev/null"
    ));
}

/// What the server of tokens shows: the registry's certificate, which is for the same address.
fn server_settings(folder: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join("registry.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("registry.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

/// Gives tokens as the specification of the distribution's token authentication has them, to ann with the right password.
fn token_server(address: Ipv4Addr, folder: PathBuf, mode: Arc<AtomicU8>) -> String {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let settings = server_settings(&folder);
    // It ends with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&settings)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            let mut lines = reader.by_ref().lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let mut stream = reader.into_inner();
            let known = format!("basic {}", STANDARD.encode("ann:right$").to_lowercase());
            let is_engine = head.iter().any(|line| line.to_lowercase().starts_with("user-agent: docker"));
            let is_push = request.contains("push");
            if is_engine && is_push && mode.load(Ordering::SeqCst) == Tokens::UntilPush as u8 {
                mode.store(Tokens::Expired as u8, Ordering::SeqCst);
            }
            let is_known = head.iter().any(|line| line.to_lowercase() == format!("authorization: {known}"));
            let (status, body) = if is_known {
                ("200 OK", json!({"token": token(&folder, &request, mode.load(Ordering::SeqCst))}))
            } else {
                ("401 Unauthorized", json!({"errors": [{"code": "UNAUTHORIZED", "message": "who is that?"}]}))
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let mut written = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            written = written.and_then(|()| stream.flush());
            if let Err(error) = written {
                println!("{error}");
            }
        }
    });
    place
}

fn token(folder: &Path, request: &str, mode: u8) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (from, until) =
        if mode == Tokens::Expired as u8 { (now - 7200, now - 3600) } else { (now - 60, now + 300) };
    let query = request
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .replace("%3A", ":")
        .replace("%2F", "/")
        .replace("%2C", ",");
    let scopes = query.split(['?', '&']).filter_map(|part| part.strip_prefix("scope="));
    let access: Vec<serde_json::Value> = scopes
        .filter(|_| mode != Tokens::Empty as u8)
        .filter_map(|scope| {
            let (rest, actions) = scope.rsplit_once(':')?;
            let (kind, name) = rest.split_once(':')?;
            Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
        })
        .collect();
    let certificate = fs_err::read_to_string(folder.join("authority.crt")).unwrap();
    let der: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = encode(json!({"typ": "JWT", "alg": "RS256", "x5c": [der]}));
    let claims = encode(json!({
        "iss": "test", "sub": "ann", "aud": "test", "jti": "1", "iat": from, "nbf": from, "exp": until, "access": access
    }));
    let input = folder.join(format!("token-{}", std::process::id()));
    fs_err::write(&input, format!("{head}.{claims}")).unwrap();
    let key = folder.join("authority.key");
    let signature = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .arg(&input)
        .output()
        .unwrap()
        .stdout;
    format!("{head}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn use_registry(scene: &mut Scene, registry: &RealRegistry, more: &str) {
    scene.file.more = format!(
        "registry:\n  server: {}\n  username: ann\n  password: [REGISTRY_PASSWORD]\n{more}",
        registry.address
    );
    scene.write(&scene.file);
    password(scene, "right$");
}

fn password(scene: &Scene, text: &str) {
    scene.project.write(".kamal/secrets", &format!("REGISTRY_PASSWORD='{text}'\n")).unwrap();
}

/// Nothing of the service is on any host.
async fn expect_untouched(scene: &Scene, image: &str) {
    for host in scene.hosts() {
        let state = scene.state(&host).await;
        assert_eq!((state.running, state.unfinished), (Vec::new(), Vec::new()), "on {}", host.name());
        assert_eq!(host.docker(&["image", "ls", "--quiet", image]).await.unwrap(), "", "on {}", host.name());
    }
}

/// A registry with TLS and a password, from the first push to a rollback, and all that can be wrong with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_from_end_to_end() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    let registry = RealRegistry::start(&scene, Entrance::Password).await;
    use_registry(&mut scene, &registry, "");
    let image = format!("{}/hello", registry.address);

    password(&scene, "wrong$");
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("user `ann` cannot log in"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong$"), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    password(&scene, "right$");

    // Its disk is full: told before anything is built.
    let filler = registry.storage.join("filler");
    shell(&format!("head -c 80000000 /dev/zero > {0} 2>/dev/null; test -s {0}", filler.display()));
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("has no space left to store anything"), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&format!("build {image}:1")), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    fs_err::remove_file(&filler).unwrap();

    // It fills up while the image is pushed.
    let mut ballast = vec![0; 6 << 20];
    getrandom::fill(&mut ballast).unwrap();
    fs_err::write(scene.project.folder().join("ballast"), &ballast).unwrap();
    let dockerfile = fs_err::read_to_string(scene.project.folder().join("Dockerfile")).unwrap();
    scene.project.write("Dockerfile", &format!("{dockerfile}COPY ballast /ballast\n")).unwrap();
    let ignored = fs_err::read_to_string(scene.project.folder().join(".dockerignore")).unwrap();
    scene.project.write(".dockerignore", &format!("{ignored}\n!ballast\n")).unwrap();
    shell(&format!(
        "head -c $(( $(df --output=avail --block-size=1 {0} | tail -n 1) - 3000000 )) /dev/zero > {1}",
        registry.storage.display(),
        filler.display()
    ));
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains(&format!("build {image}:1")), "it was built: {}", refused.stderr);
    assert!(refused.stderr.contains("has no space left to store anything"), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    fs_err::remove_file(&filler).unwrap();
    scene.project.write("Dockerfile", &dockerfile).unwrap();
    scene.project.write(".dockerignore", &ignored).unwrap();

    // Nobody has pushed that version.
    let refused = scene.run(&["deploy", "--skip-push", "--version", "0"]).await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains(&format!("registry `{}` has no such image", registry.address)),
        "{}",
        refused.stderr
    );

    scene.deploy_well("1").await;
    for host in scene.hosts() {
        let format = "{{json .RepoDigests}}";
        let digests =
            host.docker(&["image", "inspect", "--format", format, &format!("{image}:1")]).await.unwrap();
        assert!(digests.contains(&format!("{image}@{}", registry.digest("hello", "1"))), "{digests}");
        let config = host.attempt("cat /root/.docker/config.json").await.unwrap();
        assert_ne!(config.code, Some(0), "no login is left on the host");
    }
    scene.deploy_well("2").await;
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    scene.expect_serving("1").await;

    // An engine that knows nothing, as in CI: the registry has the image, only its tag is new.
    let here = ["rmi", "--force", &format!("{image}:2"), &format!("{image}:1")].map(str::to_owned);
    let removed =
        Command::new("docker").env("DOCKER_HOST", scene.lab.engine_address()).args(here).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
    let run = scene.run(&["deploy", "--version", "3", "--verbose"]).await.expect_code(0).unwrap();
    assert!(run.stderr.contains("not built: the registry has the same already"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("was there under another name").count(), 2, "{}", run.stderr);
    assert_eq!(registry.digest("hello", "3"), registry.digest("hello", "2"));
    scene.expect_serving("2").await;
}

/// Docker's own login, which a helper keeps, instead of user and password.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_tokens_and_dockers_own_login() {
    let mut scene = Scene::new(&["h1"]).await;
    let registry = RealRegistry::start(&scene, Entrance::Tokens).await;
    let image = format!("{}/hello", registry.address);
    use_registry(&mut scene, &registry, "");
    registry.give(Tokens::Expired);
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("user `ann` cannot log in"), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    // Known, but without a right to that repository, as with a missing one of a registry that hides which there are.
    registry.give(Tokens::Empty);
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    let denied = format!("registry `{}` does not let user `ann` write to `hello`", registry.address);
    assert!(refused.stderr.contains(&denied), "{}", refused.stderr);
    assert!(!refused.stderr.contains(&format!("build {image}:1")), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    // They were good when the deploy began, and are not any more when the image is there.
    registry.give(Tokens::UntilPush);
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains(&format!("build {image}:1")), "it was built: {}", refused.stderr);
    let gone = format!("registry `{}` does not let in user `ann`", registry.address);
    assert!(refused.stderr.contains(&gone), "{}", refused.stderr);
    expect_untouched(&scene, &image).await;
    registry.give(Tokens::Good);

    scene.file.more = format!("registry:\n  server: {}\n  credentials: docker\n", registry.address);
    scene.write(&scene.file);
    let refused = scene.deploy("1").await.expect_code(3).unwrap();
    assert!(refused.stderr.contains("cannot read Docker's logins"), "{}", refused.stderr);
    let docker = scene.project.home().join(".docker");
    fs_err::create_dir(&docker).unwrap();
    let helpers = json!({"credHelpers": {&registry.address: "freehold-test"}}).to_string();
    fs_err::write(docker.join("config.json"), helpers).unwrap();
    let refused = scene.deploy("1").await.expect_code(3).unwrap();
    assert!(refused.stderr.contains("cannot run `docker-credential-freehold-test`"), "{}", refused.stderr);
    let helper = PathBuf::from("/usr/local/bin/docker-credential-freehold-test");
    let calls = scene.project.home().join("calls");
    let script = format!(
        "#!/bin/sh\necho \"$1\" >> {}\nread -r server\ntest \"$server\" = '{}' || exit 1\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"ann\",\"Secret\":\"right$\"}}'\n",
        calls.display(),
        registry.address
    );
    fs_err::write(&helper, script).unwrap();
    fs_err::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = scene.deploy("1").await;
    fs_err::remove_file(&helper).unwrap();
    let run = run.expect_code(0).unwrap();
    assert!(!run.stderr.contains("right$"), "{}", run.stderr);
    scene.expect_serving("1").await;
    assert_eq!(fs_err::read_to_string(&calls).unwrap(), "get\n", "asked once");
}
