//! Builds by other programs than an engine, which are stand-ins that write down how they were called, and what is wrong
//! with builders and registries before anything is built.

use crate::errors::without_times;
use crate::sandbox::{Sandbox, snapshot_name};

const FILE: &str = "service: shop
image: acme/shop
servers: [web-1.invalid]
proxy: {app_port: 3000}
registry: {server: ghcr.io, username: ann, password: [TOKEN]}
";

/// Writes down its words, the variables that matter and its input; `buildx inspect` finds nothing.
const STAND_IN: &str = r#"#!/bin/sh
{
  printf '%s' "${0##*/}"; printf ' %s' "$@"; echo
  [ -z "$BUILD_TOKEN" ] || echo "  BUILD_TOKEN has ${#BUILD_TOKEN} characters"
  [ -z "$LEVEL" ] || echo "  LEVEL=$LEVEL"
  [ -z "$BUILDKIT_NO_CLIENT_TOKEN" ] || echo "  BUILDKIT_NO_CLIENT_TOKEN=$BUILDKIT_NO_CLIENT_TOKEN"
  case "$*" in login*) read -r input; echo "  input of ${#input} characters" ;; esac
} >>calls
case "$*" in
  'buildx inspect'*) exit 1 ;;
  *--fail*) echo 'the base image is gone' >&2; exit 3 ;;
esac
echo "${1} done"
"#;

fn sandbox(builder: &str) -> Sandbox {
    Sandbox::with_deploy_file(&format!("{FILE}builder: {builder}\n"))
        .file("Dockerfile", "FROM scratch\n")
        .file(".kamal/secrets", "TOKEN=marked\nBUILD_TOKEN=marked-2\n")
        .executable("bin/docker", STAND_IN)
        .executable("bin/pack", STAND_IN)
}

/// Runs a command with the stand-ins and returns what is seen of it and of the calls.
fn run(sandbox: &Sandbox, words: &[&str]) -> String {
    let path = format!("{}:/usr/bin:/bin", sandbox.path().join("bin").display());
    let shown = without_times(&sandbox.run_with(words, &[("PATH", &path), ("SSH_AUTH_SOCK", "/run/agent")]));
    let calls = fs_err::read_to_string(sandbox.path().join("calls")).unwrap_or_default();
    let calls = calls.replace(&sandbox.path().display().to_string(), "[PROJECT]");
    let calls = without_keys(&calls);
    format!("{shown}\n--- calls\n{calls}")
}

/// The key of the content changes with the stand-ins.
fn without_keys(calls: &str) -> String {
    let mut parts = calls.split("freehold.build=");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        shown += &format!("freehold.build=[{} DIGITS]{rest}", part.len() - rest.len());
    }
    shown
}

const EVERYTHING: &str = "{arch: [amd64, arm64], context: ., target: run, args: {LEVEL: debug}, secrets: [BUILD_TOKEN], \
    ssh: default=$SSH_AUTH_SOCK, cache: {type: registry, options: mode=max}, provenance: mode=max, sbom: true}";

/// kamal-compat §6 rows 7, 8, 9, 10, 15, 16, 20, 22; kamal-compat §12.2 rows 29, 31: what an engine cannot do, buildx does.
#[test]
fn builds_by_buildx() {
    for (name, builder) in [
        ("with everything", EVERYTHING),
        ("in the cloud", "{arch: amd64, context: ., driver: cloud acme/fast}"),
        (
            "with the cache of github",
            "{arch: amd64, context: ., cache: {type: gha, options: 'mode=max,scope=x'}}",
        ),
    ] {
        let shown = run(&sandbox(builder), &["build", "push", "--version", "1"]);
        assert!(!shown.contains("marked"), "{shown}");
        insta::assert_snapshot!(snapshot_name("build", name), shown);
    }
    let sandbox = sandbox(EVERYTHING);
    insta::assert_snapshot!("build_create", run(&sandbox, &["build", "create"]));
    insta::assert_snapshot!("build_remove", run(&sandbox, &["build", "remove"]));
    insta::assert_snapshot!("build_details", run(&sandbox, &["build", "details"]));
}

/// kamal-compat §6 rows 14, 21.
#[test]
fn builds_by_pack() {
    let builder = "{arch: amd64, context: ., args: {LEVEL: debug}, secrets: [BUILD_TOKEN], \
        pack: {builder: 'heroku/builder:24', buildpacks: [heroku/ruby]}}";
    let sandbox = sandbox(builder);
    fs_err::remove_file(sandbox.path().join("Dockerfile")).unwrap();
    let shown = run(&sandbox, &["build", "push", "--version", "1", "--output", "docker", "--no-cache"]);
    assert!(!shown.contains("marked"), "{shown}");
    insta::assert_snapshot!("build_by_pack", shown);
}

/// Keys for signatures and Docker's own login are looked at before anything else.
#[test]
fn keys_and_logins_that_cannot_be_used() {
    let file = "service: shop\nimage: shop\nservers: [web-1.invalid]\nbuilder: {context: .}\n";
    for (name, more) in [
        ("no key file", "verify: {keys: [config/missing.pub]}\n"),
        ("no key", "verify: {keys: [Dockerfile]}\n"),
        ("no login", "registry: {server: registry.invalid, credentials: docker}\n"),
    ] {
        let sandbox =
            Sandbox::with_deploy_file(&format!("{file}{more}")).file("Dockerfile", "FROM scratch\n");
        let shown = without_times(&sandbox.run(&["deploy", "--version", "1"]));
        let shown = shown.replace(&sandbox.path().display().to_string(), "[PROJECT]");
        insta::assert_snapshot!(snapshot_name("trust", name), shown);
    }
}

#[test]
fn programs_that_fail() {
    let failing = sandbox("{arch: amd64, context: ., cache: {type: gha}, target: --fail}");
    insta::assert_snapshot!("build_that_fails", run(&failing, &["build", "push", "--version", "1"]));
    let without = sandbox("{arch: [amd64, arm64], context: .}");
    let shown =
        without_times(&without.run_with(&["build", "push", "--version", "1"], &[("PATH", "/nowhere")]));
    insta::assert_snapshot!("build_without_docker", shown);
}

/// kamal-compat §6 rows 7, 12, 13; kamal-compat §5 local row 1.
#[test]
fn builders_and_registries_that_are_wrong() {
    for (name, builder) in [
        ("tcp", "{arch: amd64, context: ., local: false, remote: 'tcp://build-1:2376'}"),
        ("address", "{arch: amd64, context: ., local: false, remote: 'ssh://build-1:x'}"),
        ("key file", "{arch: amd64, context: ., ssh: default=Dockerfile}"),
        ("no agent", "{arch: amd64, context: ., ssh: default}"),
    ] {
        let shown = without_times(&sandbox(builder).run(&["build", "push", "--version", "1"]));
        insta::assert_snapshot!(snapshot_name("builder", name), shown);
    }
    let no_registry = "service: shop\nimage: shop\nservers: [web-1.invalid]\n";
    let several =
        Sandbox::with_deploy_file(&format!("{no_registry}builder: {{arch: [amd64, arm64], context: .}}\n"))
            .file("Dockerfile", "FROM scratch\n");
    insta::assert_snapshot!(
        "builder_of_several_without_registry",
        several.run(&["build", "push", "--version", "1"])
    );
    let attested = Sandbox::with_deploy_file(&format!(
        "{no_registry}builder: {{arch: amd64, context: ., sbom: true}}\n"
    ))
    .file("Dockerfile", "FROM scratch\n");
    insta::assert_snapshot!(
        "builder_with_sbom_without_registry",
        attested.run(&["build", "push", "--version", "1"])
    );
    insta::assert_snapshot!("registry_login_without_one", several.run(&["registry", "login"]));
    let local = Sandbox::with_deploy_file(&format!("{no_registry}registry: {{server: 'localhost:5555'}}\n"));
    insta::assert_snapshot!("registry_login_of_a_local_one", local.run(&["registry", "login"]));
    insta::assert_snapshot!("registry_logout_of_a_local_one", local.run(&["registry", "logout"]));
    let shown =
        without_times(&local.run_with(&["registry", "setup"], &[("DOCKER_HOST", "unix:///nowhere.sock")]));
    insta::assert_snapshot!("registry_setup_without_an_engine", shown);
    insta::assert_snapshot!("registry_setup_elsewhere_only", local.run(&["registry", "setup", "-L"]));
}
