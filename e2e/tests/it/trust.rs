//! Only what a key of the project has signed runs, and only what a scanner lets through.
//!
//! The signatures are made by OpenSSL after cosign's specification (`specs/SIGNATURE_SPEC.md`), and stored in the registry as
//! cosign stores them: no cosign can be had where these tests run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::json;

use crate::real_registry::{Entrance, RealRegistry, shell};
use crate::scene::Scene;

use authority::{NOW, Proof, Sigstore, Wish};

#[path = "../../../crates/docker/src/signature/authority.rs"]
mod authority;

/// The annotation that holds a signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Makes a pair of keys.
fn pair(folder: &Path, name: &str, algorithm: &str) {
    let path = folder.join(name).display().to_string();
    shell(&format!(
        "openssl genpkey -algorithm {algorithm} -out {path}.key && openssl pkey -in {path}.key -pubout -out {path}.pub"
    ));
}

fn payload(digest: &str) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "hello"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"
        },
        "optional": null
    })
    .to_string()
}

/// Signs a payload and returns the signature in base64.
fn sign(key: &Path, payload: &str) -> String {
    let file = key.with_extension("payload");
    fs_err::write(&file, payload).unwrap();
    let words = ["pkeyutl", "-sign", "-rawin", "-inkey"];
    let mut command = Command::new("openssl");
    command.args(words).arg(key).arg("-in").arg(&file);
    if !fs_err::read_to_string(key.with_extension("kind")).unwrap().contains("ed25519") {
        command.args(["-digest", "sha256"]);
    }
    let signed = command.output().unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    base64::engine::general_purpose::STANDARD.encode(signed.stdout)
}

/// Puts a signature beside an image, as `cosign sign` does.
fn attach(registry: &RealRegistry, digest: &str, payload: &str, signature: &str) {
    attach_with(registry, digest, payload, BTreeMap::from([(SIGNATURE.to_owned(), signature.to_owned())]));
}

fn attach_with(registry: &RealRegistry, digest: &str, payload: &str, notes: BTreeMap<String, String>) {
    let layer = registry.store("hello", payload.as_bytes());
    let config = registry.store(
        "hello",
        br#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 76, "digest": config},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "size": payload.len(),
            "digest": layer,
            "annotations": notes
        }]
    });
    registry.tag("hello", &format!("{}.sig", digest.replacen(':', "-", 1)), &manifest);
}

async fn expect_refused(scene: &Scene, version: &str, why: &str) {
    let words = ["deploy", "--skip-push", "--version", version];
    let refused = scene.run(&words).await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains("may not run here") && refused.stderr.contains(why),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("hello"), "it is named: {}", refused.stderr);
    for host in scene.hosts() {
        let images = host.docker(&["image", "ls", "--format", "{{.Tag}}"]).await.unwrap();
        assert!(!images.lines().any(|tag| tag == version), "{images}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_signed_images_run() {
    let mut scene = Scene::new(&["h1"]).await;
    let registry = RealRegistry::start(&scene, Entrance::Password).await;
    let keys = tempfile::tempdir().unwrap();
    let at = |name: &str| keys.path().join(name);
    for (name, algorithm) in
        [("own", "EC -pkeyopt ec_paramgen_curve:P-256"), ("second", "ed25519"), ("foreign", "ed25519")]
    {
        pair(keys.path(), name, algorithm);
        fs_err::write(at(name).with_extension("kind"), algorithm).unwrap();
    }
    for name in ["own", "second"] {
        let key = fs_err::read_to_string(at(name).with_extension("pub")).unwrap();
        scene.project.write(&format!("config/{name}.pub"), &key).unwrap();
    }
    scene.project.write(".kamal/secrets", "REGISTRY_PASSWORD='right$'\n").unwrap();
    let verify = "verify:\n  keys: [config/own.pub, config/second.pub]\n";
    scene.file.more = format!(
        "registry:\n  server: {}\n  username: ann\n  password: [REGISTRY_PASSWORD]\n{verify}",
        registry.address
    );
    scene.write(&scene.file);
    let push = async |version: &str, content: &str| {
        scene.project.set_version(content).unwrap();
        scene.run(&["build", "push", "--version", version]).await.expect_code(0).unwrap();
        registry.digest("hello", version)
    };

    let digest = push("signed-1", "one").await;
    expect_refused(&scene, "signed-1", "it is not signed").await;
    attach(&registry, &digest, &payload(&digest), &sign(&at("foreign.key"), &payload(&digest)));
    expect_refused(&scene, "signed-1", "not by a key of the project").await;
    let good = sign(&at("own.key"), &payload(&digest));
    let changed = payload(&digest).replace("hello", "hallo");
    attach(&registry, &digest, &changed, &good);
    expect_refused(&scene, "signed-1", "has been changed").await;
    let other = payload(&digest.replace(|c: char| c.is_ascii_digit(), "0"));
    attach(&registry, &digest, &other, &sign(&at("own.key"), &other));
    expect_refused(&scene, "signed-1", "what was signed is another image").await;
    attach(&registry, &digest, &payload(&digest), &good);
    scene.run(&["deploy", "--skip-push", "--version", "signed-1"]).await.expect_code(0).unwrap();
    scene.expect_serving("one").await;

    // One byte of the image differs: it is another image, and nobody has signed that.
    push("signed-2", "two").await;
    expect_refused(&scene, "signed-2", "it is not signed").await;
    let digest = registry.digest("hello", "signed-2");
    attach(&registry, &digest, &payload(&digest), &sign(&at("second.key"), &payload(&digest)));
    let plan = scene.run(&["plan", "--skip-push", "--version", "signed-2"]).await.expect_code(0).unwrap();
    assert!(plan.stdout.contains("verify the signature of"), "{}", plan.stdout);
    scene.run(&["deploy", "--skip-push", "--version", "signed-2"]).await.expect_code(0).unwrap();
    scene.expect_serving("two").await;

    // Without a registry the signatures are in a folder of the project.
    scene.file.more = format!("{verify}  signatures: config/signatures\n");
    scene.write(&scene.file);
    scene.project.set_version("three").unwrap();
    let refused = scene.run(&["deploy", "--version", "signed-3"]).await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("it is not signed"), "{}", refused.stderr);
    let id = Command::new("docker")
        .env("DOCKER_HOST", scene.lab.engine_address())
        .args(["image", "inspect", "--format", "{{.Id}}", "hello:signed-3"])
        .output()
        .unwrap();
    let id = String::from_utf8(id.stdout).unwrap().trim().to_owned();
    let name = format!("config/signatures/{}", id.replacen(':', "-", 1));
    scene.project.write(&format!("{name}.json"), &payload(&id)).unwrap();
    scene.project.write(&format!("{name}.sig"), &sign(&at("foreign.key"), &payload(&id))).unwrap();
    expect_refused(&scene, "signed-3", "not by a key of the project").await;
    scene.project.write(&format!("{name}.sig"), &sign(&at("own.key"), &payload(&id))).unwrap();
    scene.run(&["deploy", "--skip-push", "--version", "signed-3"]).await.expect_code(0).unwrap();
    scene.expect_serving("three").await;
}

/// Puts a keyless signature beside an image as cosign 2 did: notes beside what was signed.
fn note(registry: &RealRegistry, digest: &str, proof: &Proof) {
    let mut notes = proof.notes();
    let signature = base64::engine::general_purpose::STANDARD.encode(&proof.signature);
    notes.insert(SIGNATURE.to_owned(), signature);
    attach_with(registry, digest, std::str::from_utf8(&proof.payload).unwrap(), notes);
}

/// Puts a bundle beside an image as cosign 3 does in a registry that keeps no list of referrers.
fn refer(registry: &RealRegistry, digest: &str, proof: &Proof) {
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let bundle = proof.bundle().to_string();
    let layer = registry.store("hello", bundle.as_bytes());
    let empty = registry.store("hello", b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": empty},
        "layers": [{"mediaType": kind, "size": bundle.len(), "digest": layer}]
    });
    let text = manifest.to_string();
    registry.tag("hello", "bundle", &manifest);
    let referrer = registry.digest_of("hello", "bundle", "application/vnd.oci.image.manifest.v1+json");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": kind,
            "size": text.len(),
            "digest": referrer
        }]
    });
    registry.tag("hello", &digest.replacen(':', "-", 1), &index);
}

/// Signatures without a key: by somebody whom an authority of the project's trusted root knows.
#[tokio::test(flavor = "multi_thread")]
async fn keyless_signatures_decide() {
    let mut scene = Scene::new(&["h1"]).await;
    let registry = RealRegistry::start(&scene, Entrance::Password).await;
    let (sigstore, foreign) = (Sigstore::new(), Sigstore::new());
    scene.project.write(".kamal/secrets", "REGISTRY_PASSWORD='right$'\n").unwrap();
    let verify = "verify:\n  trusted_root: config/trusted_root.json\n  identity_regexp: ci@example\\.(com|org)\n  \
                  issuer: https://accounts.example.com\n";
    scene.file.more = format!(
        "registry:\n  server: {}\n  username: ann\n  password: [REGISTRY_PASSWORD]\n{verify}",
        registry.address
    );
    scene.write(&scene.file);
    scene.project.write("config/trusted_root.json", "{}").unwrap();
    let words = ["deploy", "--skip-push", "--version", "keyless-1"];
    let refused = scene.run(&words).await.expect_code(3).unwrap();
    assert!(refused.stderr.contains("`config/trusted_root.json`"), "{}", refused.stderr);
    scene.project.write("config/trusted_root.json", &sigstore.trusted_root().to_string()).unwrap();
    let push = async |version: &str| {
        scene.project.set_version(version).unwrap();
        scene.run(&["build", "push", "--version", version]).await.expect_code(0).unwrap();
        registry.digest("hello", version)
    };

    let digest = push("keyless-1").await;
    expect_refused(&scene, "keyless-1", "it is not signed").await;
    let text = payload(&digest);
    let late = Wish { logged: NOW + 601, ..Wish::default() };
    let eve = Wish { identity: "eve@example.com", ..Wish::default() };
    for (proof, why) in [
        (foreign.sign(&text, None, &Wish::default()), "not by a transparency log of the trusted root"),
        (sigstore.sign(&text, None, &late), "its certificate was not valid when"),
        (sigstore.sign(&text, None, &eve), "it was signed by `eve@example.com`, not by what matches"),
    ] {
        note(&registry, &digest, &proof);
        expect_refused(&scene, "keyless-1", why).await;
    }
    note(&registry, &digest, &sigstore.sign(&text, None, &Wish::default()));
    let run = scene.run(&["deploy", "--skip-push", "--version", "keyless-1", "--verbose"]).await;
    let run = run.expect_code(0).unwrap();
    assert!(run.stderr.contains("signed by ci@example.com"), "{}", run.stderr);
    scene.expect_serving("keyless-1").await;

    let digest = push("keyless-2").await;
    let statement = |predicate: &str| {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digest.trim_start_matches("sha256:")}}],
            "predicateType": predicate,
            "predicate": {}
        })
        .to_string()
    };
    let kind = Some("application/vnd.in-toto+json");
    let made = sigstore.sign(&statement("https://slsa.dev/provenance/v1"), kind, &Wish::default());
    refer(&registry, &digest, &made);
    expect_refused(&scene, "keyless-2", "what was signed is not an image").await;
    let signed = statement("https://sigstore.dev/cosign/sign/v1");
    refer(&registry, &digest, &foreign.sign(&signed, kind, &Wish::default()));
    expect_refused(&scene, "keyless-2", "not by a transparency log of the trusted root").await;
    refer(&registry, &digest, &sigstore.sign(&signed, kind, &Wish::default()));
    scene.run(&["deploy", "--skip-push", "--version", "keyless-2"]).await.expect_code(0).unwrap();
    scene.expect_serving("keyless-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_decides() {
    let mut scene = Scene::new(&["h1"]).await;
    let scan = |command: &str| format!("scan:\n  cmd: {command}\n  fail_on: high\n");
    let report = |severity: &str| {
        let flaw = json!({"VulnerabilityID": "CVE-2026-1", "PkgName": "zlib", "InstalledVersion": "1", "Severity": severity});
        json!({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [flaw]}]}).to_string()
    };
    // As Trivy is told: by the name, or by a file with the image.
    scene.project.write("scanner", "tar -tf \"$FREEHOLD_ARCHIVE\" | grep -q manifest.json && echo \"$FREEHOLD_IMAGE\" >&2 && cat report.json").unwrap();
    scene.file.more = scan("'sh ./scanner # $FREEHOLD_ARCHIVE'");
    scene.write(&scene.file);
    scene.project.write("report.json", &report("CRITICAL")).unwrap();
    let refused = scene.deploy("1").await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains("1 known flaws of image `hello:1` are high or worse"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("critical: CVE-2026-1 in zlib 1"), "{}", refused.stderr);
    assert_eq!(scene.state(&scene.host("h1")).await.running, [""; 0]);
    scene.project.write("report.json", "all fine").unwrap();
    let refused = scene.deploy("1").await.expect_code(3).unwrap();
    assert!(refused.stderr.contains("the report of the scanner cannot be understood"), "{}", refused.stderr);
    scene.project.write("report.json", &report("MEDIUM")).unwrap();
    scene.deploy_well("1").await;
    scene.file.more = scan("exit 7");
    scene.write(&scene.file);
    let refused = scene.deploy("2").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("the scan ended with exit status: 7"), "{}", refused.stderr);
    scene.file.more = "scan:\n  cmd: 'sleep 86399 & echo looking >&2; wait'\n  timeout: 2\n".to_owned();
    scene.write(&scene.file);
    let refused = scene.deploy("2").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("the scan took longer than 2 seconds"), "{}", refused.stderr);
    assert!(refused.stderr.contains("looking"), "{}", refused.stderr);
    let left = shell("grep -lsz 86399 /proc/[0-9]*/cmdline | xargs -r grep -lz '^sleep$' || true");
    assert_eq!(left, "", "what the scanner started is gone");
    scene.file.more = scan("exec yes");
    scene.write(&scene.file);
    let refused = scene.deploy("2").await.expect_code(1).unwrap();
    assert!(refused.stderr.contains("the scan printed more than 64 MiB"), "{}", refused.stderr);
    scene.expect_serving("1").await;
    let left = shell("ls -d /tmp/freehold-scan-* 2>/dev/null || true");
    assert_eq!(left, "", "the image's file is gone");
}
