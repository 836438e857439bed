use crate::sandbox::{Sandbox, snapshot_name};

const GOOD: &str =
    "service: shop\nimage: shop\nservers: [web-1.invalid]\nproxy: {app_port: 3000}\nbuilder: {context: .}\n";

#[test]
fn command_lines_that_are_wrong() {
    let sandbox = Sandbox::new();
    for (name, words) in [
        ("unknown command", &["banana"][..]),
        ("misspelled command", &["depoly"]),
        ("unknown option", &["deploy", "--force"]),
        ("missing argument", &["completion"]),
        ("wrong value", &["completion", "csh"]),
        ("wrong time", &["app", "logs", "--since", "yesterday"]),
        ("options of grep without a pattern", &["app", "logs", "--grep-options", "-i"]),
        ("following as json", &["app", "logs", "--follow", "--json"]),
        ("wrong quotes in options of grep", &["app", "logs", "-g", "x", "--grep-options", "-e 'a"]),
        ("options that exclude each other", &["deploy", "-v", "-q"]),
        ("missing message", &["lock", "acquire"]),
        ("usage error as json", &["deploy", "--json", "--force"]),
    ] {
        insta::assert_snapshot!(snapshot_name("usage", name), sandbox.run(words));
    }
}

#[test]
fn command_lines_of_the_proxy_that_are_wrong() {
    let sandbox = Sandbox::new();
    let deploy = ["proxy", "deploy", "shop", "--target", "web:80"];
    for (name, words) in [
        ("compress with a space", &["--compress", "lz4"][..]),
        ("compress", &["--compress=lz4"]),
        ("balance", &["--balance", "random"]),
        ("hsts in days", &["--hsts", "365d"]),
        ("negative failures", &["--passive-health-failures", "-1"]),
        ("negative span", &["--hsts", "-1h"]),
        ("pause above the longest", &["--passive-health-failures", "3", "--passive-health-pause", "10m"]),
        ("pause without failures", &["--passive-health-pause", "10s"]),
        ("header without a value", &["--request-header", "NoColon"]),
        ("upgrade", &["--upgrade", "h2c"]),
        ("rate", &["--client-rate", "fast"]),
    ] {
        let words = [&deploy[..], words].concat();
        insta::assert_snapshot!(snapshot_name("proxy", name), sandbox.run(&words));
    }
    for (name, words) in [
        ("buffer disk", &["proxy", "serve", "--buffer-disk", "4G"][..]),
        ("negative port", &["proxy", "serve", "--http-port", "-1"]),
        ("trace ratio", &["proxy", "serve", "--trace-ratio", "half"]),
        (
            "verdict flag alone",
            &["proxy", "rollout", "set", "shop", "--percent", "5", "--verdict-errors", "3"],
        ),
        ("stop by socket", &["proxy", "stop", "shop", "--socket", "/nonexistent/proxy.sock"]),
        ("remove by socket", &["proxy", "remove", "shop", "--socket=/nonexistent/proxy.sock"]),
        ("upgrade by socket", &["proxy", "upgrade", "--socket=/nonexistent/proxy.sock"]),
        ("serve help", &["proxy", "serve", "--help"]),
    ] {
        insta::assert_snapshot!(snapshot_name("proxy", name), sandbox.run(words));
    }
}

/// A port of a host itself is not reached from another host, whatever the filter says.
#[test]
fn a_tunnel_to_a_host_that_the_filter_leaves_out() {
    let sandbox = Sandbox::with_deploy_file(
        "service: shop\nimage: shop\nservers: [web-1.invalid, web-2.invalid]\nproxy: {app_port: 3000}\n\
         builder: {context: .}\naccessories:\n  db: {image: postgres:16, host: db.invalid}\n",
    );
    for (name, words) in [
        ("another host", &["tunnel", "web-1.invalid:6379", "-h", "web-2.invalid"][..]),
        ("host of an accessory", &["tunnel", "db.invalid:5432", "--roles", "web"]),
        ("a name without a port", &["tunnel", "web-1.invalid", "-h", "web-1.invalid"]),
    ] {
        insta::assert_snapshot!(snapshot_name("tunnel", name), sandbox.run(words));
    }
}

#[test]
fn deploy_files_that_are_wrong() {
    for (name, text) in [
        ("broken yaml", "service: shop\nimage: [shop\nservers: x\n"),
        ("unknown key", "service: shop\nimage: shop\nservers: [web-1]\nporxy: {app_port: 3000}\n"),
        ("wrong type", "service: shop\nimage: shop\nservers: [web-1]\nproxy: {app_port: many}\n"),
        ("several mistakes", "service: my shop\nimage: Shop\nservers: [user@web-1]\ndeploy_timeout: 30s\n"),
    ] {
        insta::assert_snapshot!(
            format!("deploy file {name}"),
            Sandbox::with_deploy_file(text).run(&["deploy"])
        );
    }
    let sandbox = Sandbox::with_deploy_file("service: 1\n");
    insta::assert_snapshot!("deploy_file_as_json", sandbox.run(&["status", "--json"]));
}

#[test]
fn a_deploy_file_that_is_not_there() {
    insta::assert_snapshot!("no_deploy_file", Sandbox::new().run(&["deploy"]));
    let sandbox = Sandbox::with_deploy_file(GOOD);
    insta::assert_snapshot!("no_destination", sandbox.run(&["deploy", "-d", "staging"]));
    let sandbox = sandbox.file("config/deploy.production.yml", "{}\n");
    insta::assert_snapshot!("another_destination", sandbox.run(&["deploy", "-d", "staging"]));
    insta::assert_snapshot!("wrong_destination", sandbox.run(&["deploy", "-d", "a b"]));
}

/// kamal-compat §12.1 rows 4, 5.
#[test]
fn filters_that_match_nothing() {
    let sandbox = Sandbox::with_deploy_file(GOOD);
    insta::assert_snapshot!("no_host_matches", sandbox.run(&["status", "-h", "db-*"]));
    insta::assert_snapshot!("no_role_matches", sandbox.run(&["status", "-r", "jobs"]));
}

/// kamal-compat §18 row 4; kamal-compat §4 row 8
#[test]
fn what_is_missing_is_found_before_a_host_is_asked() {
    let sandbox = Sandbox::with_deploy_file(GOOD);
    insta::assert_snapshot!("missing_dockerfile", sandbox.run(&["deploy"]));
    let sandbox = sandbox.file("Dockerfile", "FROM scratch\n");
    insta::assert_snapshot!("wrong_version", sandbox.run(&["deploy", "--version", "v 1"]));
    insta::assert_snapshot!("no_version", sandbox.run(&["deploy", "--skip-push"]));
    let sandbox = sandbox.file(".kamal/hooks/pre-build", "#!/bin/sh\n");
    insta::assert_snapshot!("hook_not_executable", sandbox.run(&["deploy"]));
    let secret = format!("{GOOD}env: {{secret: [DATABASE_PASSWORD, API_KEY]}}\n");
    let sandbox = sandbox.file("config/deploy.yml", &secret);
    insta::assert_snapshot!("missing_secrets_without_a_file", sandbox.run(&["deploy"]));
    let sandbox = sandbox.file(".kamal/secrets", "API_KEY=marked-secret\n");
    insta::assert_snapshot!("missing_secret", sandbox.run(&["deploy", "-v"]));
}

#[test]
fn a_hook_that_fails_ends_the_command() {
    use std::os::unix::fs::PermissionsExt;
    let hook = "#!/bin/sh\necho \"$KAMAL_COMMAND of $KAMAL_SERVICE, lock $KAMAL_LOCK, for $KAMAL_HOSTS\"\necho $API_KEY\nexit 3\n";
    let sandbox = Sandbox::with_deploy_file(&format!("{GOOD}env: {{secret: [API_KEY]}}\n"))
        .file("Dockerfile", "FROM scratch\n")
        .file(".kamal/secrets", "API_KEY=marked-secret\n")
        .file(".kamal/hooks/pre-connect", hook);
    let path = sandbox.path().join(".kamal/hooks/pre-connect");
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let shown = without_times(&sandbox.run(&["deploy", "--version", "v1"]));
    assert!(!shown.contains("marked-secret"), "{shown}");
    insta::assert_snapshot!("failing_hook", shown);
}

#[test]
fn a_reader_that_goes_away_ends_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_deploy_file(GOOD)
        .file("Dockerfile", "FROM scratch\n")
        .file(".kamal/hooks/pre-connect", "#!/bin/sh\necho one\ntouch ran\nexit 3\n");
    let path = sandbox.path().join(".kamal/hooks/pre-connect");
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = sandbox.command(&["deploy", "-v", "--version", "v1"]);
    let output = command.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    assert_eq!(output.code(), Some(1), "the hook's failure, not a panic");
    assert!(sandbox.path().join("ran").exists());
}

/// kamal-compat §18 row 5
#[test]
fn removing_needs_a_yes() {
    let sandbox = Sandbox::with_deploy_file(GOOD);
    insta::assert_snapshot!("nobody_to_ask", sandbox.run(&["remove"]));
}

#[test]
fn a_host_that_does_not_resolve() {
    let sandbox = Sandbox::with_deploy_file(GOOD);
    let shown = without_times(&sandbox.run(&["status"]));
    // What the resolver says depends on the machine's network.
    let shown: Vec<&str> = shown.lines().filter(|line| !line.contains("failed to lookup")).collect();
    insta::assert_snapshot!("host_does_not_resolve", shown.join("\n"));
}

/// Replaces the time at the start of progress lines.
pub(crate) fn without_times(text: &str) -> String {
    let line = |line: &str| match line.split_once("s  ") {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => format!("   [TIME]  {rest}"),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
