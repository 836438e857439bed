//! What people bring from Kamal: ways to write a command line, aliases, commands that only exist there.

use crate::errors::without_times;
use crate::sandbox::{Sandbox, snapshot_name};

const LOCAL: &str = "service: shop
image: shop
servers: [localhost]
proxy: {app_port: 3000}
builder: {context: .}
aliases:
  show: docs alias
  again: show
  round: about
  about: round
  staging-names: secrets print -d staging
  quoted: secrets extract 'a b'
";

#[test]
fn an_alias_stands_for_its_words() {
    let sandbox = Sandbox::with_deploy_file(LOCAL)
        .file("config/deploy.staging.yml", "{}\n")
        .file(".kamal/secrets", "A=plain\n")
        .file(".kamal/secrets.staging", "A=staging\n");
    let ends_well = |words: &[&str], text: &str| {
        let shown = sandbox.run(words);
        assert!(shown.contains(text) && shown.ends_with("exit code 0"), "{shown}");
    };
    ends_well(&["show"], "## `aliases`");
    ends_well(&["again"], "## `aliases`");
    ends_well(&["staging-names"], "A=staging");
    ends_well(&["quoted", r#"{"a b":"found"}"#], "found");
    insta::assert_snapshot!("alias_in_a_circle", sandbox.run(&["round"]));
    insta::assert_snapshot!("alias_unknown", sandbox.run(&["banana"]));
    // An alias that the destination's file defines is known with that destination only.
    let sandbox = sandbox.file("config/deploy.staging.yml", "aliases: {here: secrets print}\n");
    let shown = sandbox.run(&["here", "-d", "staging"]);
    assert!(shown.contains("A=staging"), "{shown}");
    assert!(sandbox.run(&["here"]).ends_with("exit code 2"));
}

/// kamal-compat §18 row 6
#[test]
fn options_stand_anywhere_and_names_may_be_shortened() {
    let sandbox = Sandbox::with_deploy_file(LOCAL).file(".kamal/secrets", "A=1\n");
    let json = r#"{"K":"found"}"#;
    for words in [
        &["secrets", "extract", "K", json][..],
        &["-q", "secrets", "extract", "K", json],
        &["secrets", "-q", "extract", "K", json],
        &["sec", "ext", "K", json, "--skip_hooks", "--no-verbose"],
        &["secrets", "extract", "--no_color=true", "K", json, "--lock-wait=false"],
    ] {
        let shown = sandbox.run(words);
        assert!(shown.contains("--- stdout\nfound\n") && shown.ends_with("exit code 0"), "{shown}");
    }
    for words in [&["app", "--help"][..], &["app", "exec", "--help"], &["app", "exec", "-p", "ls", "--help"]]
    {
        let shown = sandbox.run(words);
        assert!(shown.contains("Usage: freehold app") && shown.ends_with("exit code 0"), "{shown}");
    }
}

/// kamal-compat §12.2 row 11.
#[test]
fn commands_without_a_host() {
    let sandbox = Sandbox::with_deploy_file(LOCAL);
    for (name, words) in [
        ("upgrade", &["upgrade"][..]),
        ("init with a gem", &["init", "--bundle"]),
        ("docs of nothing", &["docs", "traefik"]),
        ("exec without a command", &["app", "exec"]),
        ("detach and interactive", &["app", "exec", "--detach", "-i", "sh"]),
        ("raw and detach", &["app", "exec", "--raw", "--detach", "sh"]),
        ("pair that is none", &["app", "exec", "-e", "production", "rake"]),
        ("prune without a word", &["prune", "nothing"]),
        ("prune that keeps none", &["prune", "containers", "--retain", "0"]),
        ("remove a version that is none", &["app", "remove_container", "a b"]),
    ] {
        insta::assert_snapshot!(snapshot_name("kamal", name), sandbox.run(words));
    }
    let registry = sandbox.run(&["docs", "registry"]);
    assert!(registry.contains("| `password` |") && !registry.contains("| `context` |"), "{registry}");
    let whole = sandbox.run(&["docs"]);
    assert!(whole.contains("# The deploy file") && whole.contains("## `sshkit`"), "{whole}");
}

/// On this machine, whose name is `localhost`, no SSH is needed. kamal-compat §12.2 row 14; kamal-compat §15 row 7.
#[test]
fn commands_run_on_the_host_itself() {
    let sandbox = Sandbox::with_deploy_file(LOCAL);
    let run = |words: &[&str]| {
        let mut words = words.to_vec();
        words.insert(0, "server");
        without_times(&sandbox.run(&words))
    };
    let shown = run(&["exec", "echo", "$((1+2))", "|", "cat", "-q"]);
    assert!(shown.contains("--- stdout\n3\n"), "{shown}");
    insta::assert_snapshot!("server_exec_failure", run(&["exec", "echo out; echo err >&2; exit 3"]));
    let raw = sandbox.command(&["server", "exec", "--raw", "printf 'a\\nb'"]).output().unwrap();
    assert_eq!(raw.stdout, b"a\nb");
    let interactive = sandbox.command(&["server", "exec", "-i", "cat; exit 4"]).output().unwrap();
    assert_eq!(interactive.status.code(), Some(1));
    let audit = fs_err::read_to_string(sandbox.home().join(".kamal/shop-audit.log")).unwrap();
    assert!(audit.contains("Executed cmd 'printf 'a\\nb'' on localhost"), "{audit}");
}

#[test]
fn hooks_tell_as_much_as_the_deploy_file_says() {
    let hook = "#!/bin/sh\necho marked by $KAMAL_COMMAND $KAMAL_SUBCOMMAND\n[ -z \"$FAIL\" ]\n";
    let run = |setting: &str, words: &[&str]| {
        let sandbox = Sandbox::with_deploy_file(&format!("{LOCAL}hooks_output: {setting}\n"))
            .executable(".kamal/hooks/pre-connect", hook);
        without_times(&sandbox.run(words))
    };
    let command = ["server", "exec", "true"];
    let verbose = run("verbose", &command);
    assert!(verbose.contains("pre-connect: marked by server exec"), "{verbose}");
    let quiet = run("{pre-connect: quiet}", &command);
    assert!(!quiet.contains("pre-connect") && quiet.ends_with("exit code 0"), "{quiet}");
    let over = run("quiet", &["server", "exec", "true", "-v"]);
    assert!(over.contains("marked by"), "`--verbose` decides: {over}");
    let wrong = run("loud", &command);
    assert!(wrong.ends_with("exit code 3"), "{wrong}");
}

#[test]
fn a_hook_of_kamal_1_is_named() {
    let sandbox =
        Sandbox::with_deploy_file(LOCAL).executable(".kamal/hooks/pre-traefik-reboot", "#!/bin/sh\n");
    insta::assert_snapshot!("hook_of_kamal_1", sandbox.run(&["server", "exec", "true"]));
}
