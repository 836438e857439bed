//! Rules of Kamal 2.12 that show on this machine, whose name is `localhost`: command lines, secrets, hooks, the lock.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::record;
use crate::sandbox::Sandbox;

/// A project on this machine and on one that cannot be reached.
const TWO: &str = "service: shop
image: shop
servers:
  web: [localhost]
  jobs: {hosts: [jobs.invalid], cmd: work}
builder: {context: .}
accessories:
  cache: {image: redis, host: localhost}
sshkit: {dns_retries: 0}
";

/// The commands that look at hosts or change them.
const NEED_CONFIG: [&[&str]; 9] = [
    &["deploy"],
    &["status"],
    &["audit"],
    &["lock", "status"],
    &["app", "logs"],
    &["app", "exec", "ls"],
    &["app", "version"],
    &["server", "exec", "ls"],
    &["secrets", "print"],
];

/// kamal-compat §1 row 9
#[test]
fn the_whole_file_is_checked_before_every_command_that_needs_it() {
    let sandbox = Sandbox::with_deploy_file(&format!("{TWO}retain_containers: 0\n"))
        .file(".kamal/secrets", "A=$(touch ran; echo 1)\n");
    for words in NEED_CONFIG {
        let shown = sandbox.run(words);
        assert!(
            shown.ends_with("exit code 3") && shown.contains("config/deploy.yml:10:"),
            "{words:?}: {shown}"
        );
    }
    assert!(!sandbox.path().join("ran").exists(), "no secret was asked for");
    for words in [
        &["version"][..],
        &["docs"],
        &["help", "deploy"],
        &["secrets", "fetch", "-a", "test", "--account", "a", "K"],
        &["secrets", "extract", "K", "{\"K\":\"v\"}"],
        &["init"],
    ] {
        assert!(sandbox.run(words).ends_with("exit code 0"), "{words:?} needs no deploy file");
    }
}

/// kamal-compat §1 row 1; kamal-compat §12.1 row 6
#[test]
fn another_file_is_named_by_an_option() {
    let sandbox = Sandbox::new().file("x/app.yml", TWO).file("x/app.s.yml", "hooks_path: x\n");
    let shown = sandbox.run(&["server", "exec", "-p", "echo found"]);
    assert!(shown.contains("there is no deploy file `config/deploy.yml`"), "{shown}");
    for option in
        [&["-c", "x/app.yml"][..], &["--config-file=x/app.yml"], &["--config_file", "x/app.yml", "-d", "s"]]
    {
        let shown = sandbox.run(&[&["server", "exec", "-p", "echo found"], option].concat());
        assert!(shown.contains("--- stdout\nfound\n"), "{option:?}: {shown}");
    }
    let shown = sandbox.run(&["status", "-c", "x/app.yml", "-d", "other"]);
    assert!(shown.contains("`x/app.other.yml`"), "{shown}");
}

/// kamal-compat §1 row 10
#[test]
fn secrets_are_read_when_they_are_needed_and_once() {
    let text = "A=$(echo asked >> asked; echo 1)\n";
    let sandbox =
        Sandbox::with_deploy_file(&format!("{TWO}env: {{secret: [A]}}\n")).file(".kamal/secrets", text);
    let asked = || fs_err::read_to_string(sandbox.path().join("asked")).unwrap_or_default().lines().count();
    for words in
        [&["lock", "status"][..], &["server", "exec", "-p", "true"], &["server", "exec", "-p", "-i", "true"]]
    {
        assert!(sandbox.run(words).ends_with("exit code 0"), "{words:?}");
    }
    assert_eq!(asked(), 0);
    assert!(sandbox.run(&["secrets", "print"]).contains("A=1"));
    assert_eq!(asked(), 1);
    // A hook that gets secrets needs them, whatever the command is.
    let sandbox = sandbox.executable(".kamal/hooks/pre-connect", "#!/bin/sh\n[ \"$A\" = 1 ]\n");
    let asked = || fs_err::read_to_string(sandbox.path().join("asked")).unwrap_or_default().lines().count();
    assert!(sandbox.run(&["lock", "status"]).ends_with("exit code 0"));
    assert_eq!(asked(), 2);
}

/// kamal-compat §1 row 11; kamal-compat §12.1 row 2; kamal-compat §14 row 10
#[test]
fn the_version_comes_from_the_option_or_the_environment() {
    let (sandbox, socket) = record::project("");
    let hook = "#!/bin/sh\necho \"$KAMAL_VERSION $KAMAL_SERVICE_VERSION\" > told\n";
    let sandbox = sandbox.executable(".kamal/hooks/docker-setup", hook);
    let told = |words: &[&str], environment: &[(&str, &str)]| {
        let (code, shown) = record::run(&sandbox, &socket, words, environment);
        assert_eq!(code, 0, "{shown}");
        fs_err::read_to_string(sandbox.path().join("told")).unwrap().trim().to_owned()
    };
    let long = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(told(&["server", "bootstrap"], &[("VERSION", long)]), format!("{long} shop@0123456"));
    let of_option = told(&["server", "bootstrap", "--version", "v2"], &[("VERSION", "v1")]);
    assert_eq!(of_option, "v2 shop@v2");
    let dirty = format!("{long}_uncommitted_89abcdef89abcdef");
    assert_eq!(told(&["server", "bootstrap", "--version", &dirty], &[]), format!("{dirty} shop@{dirty}"));
}

/// kamal-compat §12.1 rows 3, 4, 5
#[test]
fn filters_choose_hosts_and_roles() {
    let sandbox = Sandbox::with_deploy_file(TWO);
    let reached = |filter: &[&str]| {
        let shown = sandbox.run(&[&["server", "exec", "echo here"], filter].concat());
        // The first line is the command line itself.
        let (_, shown) = shown.split_once('\n').unwrap();
        (shown.contains("here\n"), shown.contains("jobs.invalid"))
    };
    for filter in [
        &["-p"][..],
        &["-h", "localhost"],
        &["--hosts=local*"],
        &["-h", "nothing,[kl]ocalhos?"],
        &["-r", "web"],
        &["--roles=w?b"],
        // The primary host wins over a list of hosts.
        &["-p", "-h", "jobs.invalid"],
    ] {
        assert_eq!(reached(filter), (true, false), "{filter:?}");
    }
    for filter in [&["-h", "jobs*"][..], &["-r", "jobs"], &["-r", "j*", "-h", "*.invalid"]] {
        assert_eq!(reached(filter), (false, true), "{filter:?}");
    }
    assert!(reached(&[]).1, "without a filter all of them");
    for (filter, message) in
        [(&["-h", "db-*"][..], "db-*"), (&["-r", "cron"], "cron"), (&["-r", "web", "-h", "jobs.invalid"], "")]
    {
        let shown = sandbox.run(&[&["server", "exec", "true"], filter].concat());
        assert!(shown.contains(message) && !shown.ends_with("exit code 0"), "{filter:?}: {shown}");
    }
}

/// kamal-compat §12.1 rows 1, 8
#[test]
fn how_much_is_shown_and_whether_hooks_run() {
    let (sandbox, socket) = record::project("");
    let run = |more: &[&str], environment: &[(&str, &str)]| {
        record::run(&sandbox, &socket, &[&["server", "bootstrap"], more].concat(), environment)
    };
    let (_, quiet) = run(&["-q"], &[]);
    assert_eq!(quiet, "");
    let (_, usual) = run(&[], &[]);
    assert!(usual.contains("docker-setup") && !usual.contains("the hook says hello"), "{usual}");
    let (_, verbose) = run(&["--verbose"], &[]);
    assert!(verbose.contains("the hook says hello"), "{verbose}");
    let (code, quiet) = run(&["-q"], &[("FAIL", "yes")]);
    assert!(code == 1 && quiet.contains("error: ") && quiet.contains("the hook says hello"), "{quiet}");
    for option in ["-H", "--skip-hooks", "--skip_hooks"] {
        let (code, shown) = run(&[option], &[("FAIL", "yes")]);
        assert!(code == 0 && !shown.contains("docker-setup"), "{option}: {shown}");
    }
}

/// The details of the lock as its file has them, decoded.
fn details(sandbox: &Sandbox) -> Option<Vec<String>> {
    let encoded = fs_err::read_to_string(sandbox.home().join(".kamal/lock-shop/details")).ok()?;
    assert!(encoded.lines().all(|line| line.len() <= 60), "Ruby's lines of base64: {encoded}");
    let decoded = Command::new("base64")
        .arg("-d")
        .arg(sandbox.home().join(".kamal/lock-shop/details"))
        .output()
        .unwrap();
    assert!(decoded.status.success());
    Some(String::from_utf8(decoded.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// kamal-compat §15 rows 1, 2, 3, 6; kamal-compat §16 row 2; kamal-compat §12.2 row 41; kamal-compat §17 row 6;
/// kamal-compat §18 row 11
#[test]
fn the_lock_is_that_of_kamal() {
    let (sandbox, socket) = record::project("");
    let run = |words: &[&str]| record::run(&sandbox, &socket, words, &[]);
    let status = || sandbox.run(&["lock", "status"]);
    assert!(status().contains("the deploy lock is free") && status().ends_with("exit code 0"));
    let message = "moving the database, which takes a while; ask Ann before you do anything";
    // The sandbox has no repository of git: the version is left out, and nothing fails.
    assert_eq!(run(&["lock", "acquire", "-m", message]).0, 0);
    let lines = details(&sandbox).unwrap();
    assert!(lines[0].starts_with("Locked by: ann at 20") && lines[0].ends_with('Z'), "{lines:?}");
    assert_eq!(lines.last().unwrap(), &format!("Message: {message}"));
    let directory = fs_err::metadata(sandbox.home().join(".kamal")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o755);
    assert!(status().contains(message));
    let (code, shown) = run(&["server", "bootstrap"]);
    assert!(code == 5 && shown.contains(message) && shown.contains("lock"), "{shown}");
    // Kamal's own way to release it.
    let release = "rm .kamal/lock-shop/details && rm -r .kamal/lock-shop";
    let released = Command::new("sh").args(["-c", release]).current_dir(sandbox.home()).status().unwrap();
    assert!(released.success());
    assert_eq!(run(&["server", "bootstrap"]).0, 0);
    assert_eq!(details(&sandbox), None, "released after the command");
    // One that Kamal holds, by its own words, whatever the language of its `mkdir`.
    let acquire = "mkdir .kamal/lock-shop && printf 'Locked by: Bob at 2026-01-01T00:00:00Z\\nVersion: abc\\nMessage: Automatic deploy lock\\n' | base64 -w 60 > .kamal/lock-shop/details";
    assert!(Command::new("sh").args(["-c", acquire]).current_dir(sandbox.home()).status().unwrap().success());
    let (code, shown) = run(&["server", "bootstrap"]);
    assert!(
        code == 5
            && shown.contains("Locked by: Bob at 2026-01-01T00:00:00Z")
            && shown.contains("Version: abc"),
        "{shown}"
    );
    assert_eq!(details(&sandbox).unwrap()[2], "Message: Automatic deploy lock", "it is left as it was");
    let (code, shown) = run(&["lock", "release"]);
    assert_eq!((code, details(&sandbox)), (0, None), "{shown}");
    let (code, shown) = run(&["lock", "release"]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = run(&["lock", "acquire"]);
    assert!(code == 2 && shown.contains("--message"), "{shown}");
}

/// kamal-compat §15 rows 4, 5; kamal-compat §12.1 row 9; kamal-compat §14 row 15; kamal-compat §1 row 11
#[test]
fn a_lock_is_waited_for_or_inherited() {
    let (sandbox, socket) = record::project("");
    let hook = "#!/bin/sh\necho \"$KAMAL_LOCK\" > told\n";
    let sandbox = sandbox.executable(".kamal/hooks/docker-setup", hook);
    let run =
        |words: &[&str], environment: &[(&str, &str)]| record::run(&sandbox, &socket, words, environment);
    assert_eq!(run(&["server", "bootstrap"], &[]).0, 0);
    assert_eq!(fs_err::read_to_string(sandbox.path().join("told")).unwrap(), "true\n");
    // A person's lock is not waited for.
    assert_eq!(run(&["lock", "acquire", "-m", "mine"], &[]).0, 0);
    let begun = std::time::Instant::now();
    let (code, shown) = run(&["server", "bootstrap", "--lock-wait", "--lock-wait-timeout", "30"], &[]);
    assert!(code == 5 && shown.contains("mine") && begun.elapsed().as_secs() < 20, "{shown}");
    // What a command inherits is neither taken nor released.
    assert_eq!(run(&["server", "bootstrap"], &[("KAMAL_LOCK", "true")]).0, 0);
    assert!(details(&sandbox).is_some());
    assert_eq!(run(&["lock", "release"], &[]).0, 0);
    // An automatic one is, so long; Kamal's has no sign of life and is never taken over.
    let acquire = "mkdir .kamal/lock-shop && printf 'Locked by: Bob at 2026-01-01T00:00:00Z\\nMessage: Automatic deploy lock\\n' | base64 -w 60 > .kamal/lock-shop/details";
    assert!(Command::new("sh").args(["-c", acquire]).current_dir(sandbox.home()).status().unwrap().success());
    let begun = std::time::Instant::now();
    let words =
        ["server", "bootstrap", "--lock-wait", "--lock-wait-timeout", "2", "--lock-wait-interval", "1"];
    let (code, shown) = run(&words, &[]);
    assert!(code == 5 && shown.contains("Bob") && begun.elapsed().as_secs() >= 2, "{shown}");
    let (_, shown) = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| run(&["server", "bootstrap", "--lock-wait", "--lock-wait-timeout", "60"], &[]));
        let release = "sleep 1; rm .kamal/lock-shop/details && rm -r .kamal/lock-shop";
        assert!(
            Command::new("sh").args(["-c", release]).current_dir(sandbox.home()).status().unwrap().success()
        );
        let (code, shown) = waiting.join().unwrap();
        assert_eq!(code, 0, "{shown}");
        (code, shown)
    });
    assert!(shown.contains("waiting for"), "{shown}");
}

/// kamal-compat §15 rows 8, 9
#[test]
fn outputs_and_exit_codes() {
    let (sandbox, socket) = record::project("");
    let run = |words: &[&str]| record::run(&sandbox, &socket, words, &[]).0;
    assert_eq!(run(&["server", "exec", "true"]), 0);
    assert_eq!(run(&["server", "exec", "exit 3"]), 1);
    assert_eq!(run(&["server", "exec", "-i", "exit 3"]), 1);
    // Where Kamal ends with 0 although nothing was done.
    assert_ne!(run(&["accessory", "boot", "nothing"]), 0);
    assert_ne!(run(&["remove"]), 0, "nobody said yes");
    assert_ne!(run(&["secrets", "fetch", "-a", "1password", "V/I"]), 0, "without --account");
    assert_ne!(run(&["rollback", "v1"]), 0);
    // Results have the host's name over them, but for raw ones.
    let shown = sandbox.run(&["server", "exec", "echo one; echo two"]);
    let (_, stdout) = shown.split_once("--- stdout\n").unwrap();
    assert!(stdout.contains("one\ntwo\n"), "{shown}");
    let sandbox = Sandbox::with_deploy_file(&TWO.replace("jobs.invalid", "127.0.0.1"));
    let shown = sandbox.run(&["server", "exec", "-h", "localhost", "echo one"]);
    assert!(shown.contains("one\n"), "{shown}");
}
