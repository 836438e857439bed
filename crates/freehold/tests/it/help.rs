use crate::sandbox::{Sandbox, snapshot_name};

/// Every command that is shown.
const COMMANDS: [&str; 86] = [
    "init",
    "setup",
    "deploy",
    "redeploy",
    "plan",
    "rollback",
    "releases",
    "status",
    "doctor",
    "tunnel",
    "app",
    "app logs",
    "app exec",
    "app containers",
    "app version",
    "app boot",
    "app start",
    "app stop",
    "app maintenance",
    "app live",
    "cron",
    "cron list",
    "cron history",
    "cron run",
    "cron logs",
    "adopt",
    "proxy",
    "proxy boot",
    "proxy reboot",
    "proxy start",
    "proxy stop",
    "proxy restart",
    "proxy details",
    "proxy logs",
    "proxy remove",
    "proxy boot_config",
    "proxy boot_config set",
    "accessory",
    "accessory boot",
    "accessory reboot",
    "accessory start",
    "accessory stop",
    "accessory restart",
    "accessory details",
    "accessory exec",
    "accessory logs",
    "accessory remove",
    "config",
    "build",
    "build push",
    "build pull",
    "build deliver",
    "build dev",
    "build create",
    "build remove",
    "build details",
    "registry",
    "registry setup",
    "registry login",
    "registry logout",
    "registry remove",
    "lock",
    "lock status",
    "lock acquire",
    "lock release",
    "audit",
    "app details",
    "app images",
    "app stale_containers",
    "app remove",
    "prune",
    "prune containers",
    "server",
    "server exec",
    "server bootstrap",
    "docs",
    "secrets",
    "secrets fetch",
    "secrets extract",
    "secrets print",
    "secrets check",
    "resume",
    "abort",
    "remove",
    "version",
    "completion",
];

#[test]
fn every_command_has_help() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("help", sandbox.run(&["--help"]));
    for command in COMMANDS {
        let mut words: Vec<&str> = command.split(' ').collect();
        words.push("--help");
        // The options that every command takes are in the help of `freehold` itself.
        let shown = sandbox.run(&words);
        let (own, global) = shown.split_once("Global options:").unwrap();
        assert!(global.contains("--destination"), "{command}");
        let end = global.split_once("Print help\n").map_or("", |(_, end)| end);
        insta::assert_snapshot!(snapshot_name("help", command), format!("{own}Global options: ...\n{end}"));
    }
}

#[test]
fn help_is_the_same_however_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let after = |words: &[&str]| {
        let shown = sandbox.run(words);
        shown.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap()
    };
    assert_eq!(after(&[]), after(&["--help"]));
    assert_eq!(after(&["help"]), after(&["--help"]));
    assert_eq!(after(&["help", "deploy"]), after(&["deploy", "--help"]));
    assert_eq!(after(&["app"]), after(&["app", "--help"]));
}
