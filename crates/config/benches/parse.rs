//! How long it takes to read and check a deploy file of 500 lines with 50 hosts: `script/bench config`.
#![expect(
    clippy::print_stdout,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench prints its figures, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use freehold_config::{Nowhere, Source, Sources, parse};

const RUNS: u32 = 400;

/// A file as a large project has it: roles with hosts and tags, environments, accessories, a proxy for each role.
fn deploy_file() -> String {
    let mut text = String::from(
        "service: shop\nimage: acme/shop\nregistry: {server: registry.example.com, username: shop, password: [REGISTRY]}\nbuilder:\n  arch: [amd64, arm64]\n  args:\n    RUBY: \"3.4\"\nservers:\n",
    );
    let mut line = |line: &str| writeln!(text, "{line}").unwrap_or_else(|error| panic!("{error}"));
    for role in 0..5 {
        line(&format!("  role{role}:"));
        line("    hosts:");
        for host in 0..10 {
            line(&format!("      - 10.0.{role}.{host}: [zone{}, all]", host % 3));
        }
        for more in [
            "    cmd: bin/work --queue default",
            "    options:",
            "      memory: 2g",
            "      cpus: 1.5",
            "      init: true",
            "      ulimit: [nofile=1024:2048]",
            "    labels:",
            "      team: payments",
            "    logging:",
            "      driver: local",
            "      options:",
            "        max-size: 20m",
            "    env:",
            "      clear:",
        ] {
            line(more);
        }
        for variable in 0..26 {
            line(&format!("        ROLE_{variable}: \"value {variable} of ${{HOSTNAME}}\""));
        }
        line(&format!("      secret: [TOKEN_{role}, \"KEY:KEY_{role}\"]"));
        line("    proxy:");
        line(&format!("      hosts: [r{role}.example.com, www.r{role}.example.com]"));
        line("      app_port: 3000");
        line("      healthcheck: {path: /up, interval: 2, timeout: 3}");
    }
    line("primary_role: role0\nenv:\n  clear:");
    for variable in 0..70 {
        line(&format!("    SETTING_{variable}: text number {variable}"));
    }
    line("  secret:");
    for secret in 0..30 {
        line(&format!("    - SECRET_{secret}"));
    }
    line(
        "  tags:\n    zone0: {ZONE: a}\n    zone1: {ZONE: b}\n    zone2: {ZONE: c}\n    all: {ALL: yes1}\naccessories:",
    );
    for accessory in 0..8 {
        line(&format!(
            "  store{accessory}:\n    image: postgres:17\n    host: 10.0.0.{accessory}\n    port: \"127.0.0.1:54{accessory}2:5432\"\n    env:\n      secret: [PASSWORD_{accessory}]\n    directories:\n      - data{accessory}:/var/lib/postgresql/data\n    files:\n      - config/{accessory}.conf:/etc/{accessory}.conf"
        ));
    }
    line(
        "volumes:\n  - data:/data\nretain_containers: 3\ndeploy_timeout: 60\nboot:\n  limit: 25%\n  wait: 2\naliases:",
    );
    let lines = text.lines().count();
    for alias in lines..500 {
        text.push_str(&format!("  alias-{alias}: app exec -p bin/task {alias}\n"));
    }
    text
}

/// The time that this thread has been on a processor, which other work of the computer does not swing as it does the clock.
fn processor_time() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_else(|error| panic!("{error}"));
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_else(|| panic!("{text}")))
}

fn main() {
    let text = deploy_file();
    let environment = BTreeMap::new();
    let begun = processor_time();
    for _ in 0..RUNS {
        let sources = Sources {
            base: Source { path: "config/deploy.yml", text: &text },
            destination: None,
            environment: &environment,
            surroundings: &Nowhere,
        };
        match parse(&sources) {
            Ok(parsed) => assert_eq!(parsed.project.all_hosts().len(), 50),
            Err(errors) => panic!("{}", errors.render()),
        }
    }
    let each = processor_time().saturating_sub(begun) / RUNS;
    println!(
        "config: {} lines, 50 hosts: {:.2} ms of processor time ({RUNS} runs; to be under 5 ms)",
        text.lines().count(),
        each.as_secs_f64() * 1e3,
    );
}
