use proptest::prelude::*;

use super::*;

/// A new server of a provider: Debian, root by key, passwords still on.
const NEW: &str = "packages=apt\nupgrades=no\nsshd.passwordauthentication=yes\n\
    sshd.kbdinteractiveauthentication=no\nsshd.permitrootlogin=yes\nsysctl.kernel.kptr_restrict=0\n\
    sysctl.net.ipv4.tcp_syncookies=1\nmemory_kib=4010000\nswap_kib=0\nfree_kib=30000000\ntime=no\nswarm=no\n\
    container=no\ndocker-file\n";

fn facts(text: &str) -> ServerFacts {
    ServerFacts { let_in_by_key: true, ..ServerFacts::parse(text).expect("facts") }
}

fn swarm() -> ServerFacts {
    ServerFacts { in_swarm: true, ..ServerFacts::default() }
}

#[test]
fn what_the_engine_gets_as_an_option_stays_out_of_its_file() {
    let options = "docker_option=log-driver\ndocker_option=live-restore\ndocker-file\n";
    let facts = facts(&NEW.replace("docker-file\n", options));
    assert!(daemon::merged("", &facts).expect("merges").is_none());
    assert!(!items(&plan(&facts)).contains(&"docker"));
    let facts = ServerFacts { docker_options: ["log-opt".to_owned()].into(), ..facts };
    let merged = daemon::merged("", &facts).expect("merges").expect("changes");
    assert_eq!(merged.text, "{\n  \"live-restore\": true\n}\n");
}

fn plan(facts: &ServerFacts) -> HardeningPlan {
    harden(facts, &BTreeSet::new())
}

fn items(plan: &HardeningPlan) -> Vec<&'static str> {
    plan.changes.iter().map(|change| change.item.as_str()).collect()
}

#[test]
fn a_new_server_needs_everything_and_ssh_comes_last() {
    let plan = plan(&facts(NEW));
    assert_eq!(items(&plan), ["upgrades", "sysctl", "docker", "swap", "time", "ssh"]);
    let lines: Vec<String> = plan
        .changes
        .iter()
        .map(|change| format!("{}: {} -> {}", change.item.as_str(), change.before, change.after))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    upgrades: off -> package unattended-upgrades, every day
    sysctl: kernel.kptr_restrict = 0 -> kernel.kptr_restrict = 1
    docker: logs of containers without a limit, no live-restore -> logs of 3 × 10 MB for each container, live-restore
    swap: none, 3916 MiB of memory -> /swapfile of 2048 MiB
    time: nothing sets the clock -> package systemd-timesyncd
    ssh: passwords, root by password -> keys and certificates only
    ");
}

#[test]
fn what_is_done_is_not_done_again() {
    let after = "packages=dnf\nupgrades=yes\nsshd.passwordauthentication=no\n\
        sshd.kbdinteractiveauthentication=no\nsshd.permitrootlogin=without-password\n\
        sysctl.kernel.kptr_restrict=2\nmemory_kib=4000000\nswap_kib=1\nfree_kib=1\ntime=yes\nswarm=no\n\
        container=no\ndocker-file\n{\"live-restore\": true, \"log-driver\": \"local\"}\n";
    let plan = plan(&facts(after));
    assert_eq!(items(&plan), [] as [&str; 0]);
    assert_eq!(plan.done.len(), 6);
}

#[test]
fn nobody_is_locked_out_who_came_by_a_password() {
    let by_password = ServerFacts { let_in_by_key: false, ..facts(NEW) };
    let plan = plan(&by_password);
    assert!(!items(&plan).contains(&"ssh"));
    assert!(plan.left[&HardeningItem::Ssh].contains("without a key"));
}

#[test]
fn what_is_not_wanted_is_left() {
    let without = BTreeSet::from([HardeningItem::Swap, HardeningItem::Docker]);
    let plan = harden(&facts(NEW), &without);
    assert_eq!(items(&plan), ["upgrades", "sysctl", "time", "ssh"]);
    assert_eq!(plan.left[&HardeningItem::Swap], "not wanted");
}

#[test]
fn settings_of_others_stay_in_docker_s_file() {
    let file = r#"{"registry-mirrors": ["https://mirror.example"], "log-opts": {"labels": "a"}, "bip": "10.9.0.1/24"}"#;
    let merged = daemon::merged(file, &ServerFacts::default()).expect("merges").expect("changes");
    let settings: serde_json::Value = serde_json::from_str(&merged.text).expect("JSON");
    assert_eq!(
        settings,
        serde_json::json!({
            "registry-mirrors": ["https://mirror.example"],
            "log-opts": {"labels": "a", "max-size": "10m", "max-file": "3"},
            "bip": "10.9.0.1/24",
            "live-restore": true,
        })
    );
    assert!(
        daemon::merged(&merged.text, &ServerFacts::default()).expect("merges").is_none(),
        "twice is once"
    );
}

#[test]
fn limits_of_one_s_own_and_a_swarm_are_respected() {
    let file = r#"{"log-opts": {"max-size": "50m"}}"#;
    assert!(daemon::merged(file, &swarm()).expect("merges").is_none());
    assert!(daemon::merged(r#"{"log-driver": "journald"}"#, &swarm()).expect("merges").is_none());
}

#[test]
fn a_file_that_cannot_be_read_is_left_alone() {
    for file in ["{,}", "[]", r#"{"log-opts": 3}"#] {
        let facts = ServerFacts { docker_file: Some(file.to_owned()), ..facts(NEW) };
        let plan = plan(&facts);
        assert!(plan.left.contains_key(&HardeningItem::Docker), "{file}");
    }
}

#[test]
fn small_disks_and_containers_get_no_swap() {
    let small = ServerFacts { free_disk_mib: 3_000, ..facts(NEW) };
    assert_eq!(plan(&small).left[&HardeningItem::Swap], "only 3000 MiB of disk are free");
    let container = ServerFacts { in_container: true, ..facts(NEW) };
    assert_eq!(items(&plan(&container)), ["upgrades", "docker", "ssh"], "nor the machine's kernel");
}

#[test]
fn lines_without_a_meaning_are_named() {
    let error = ServerFacts::parse("packages=apt\nswap_kib=many\n").expect_err("refused");
    assert_eq!(error.to_string(), "cannot understand `swap_kib=many`");
    assert!(ServerFacts::parse("nonsense\n").is_err());
}

#[test]
fn every_item_has_a_word() {
    for item in HardeningItem::ALL {
        assert_eq!(HardeningItem::parse(item.as_str()), Some(item));
    }
    assert_eq!(HardeningItem::parse("firewall"), None);
}

proptest! {
    #[test]
    fn docker_s_file_is_merged_once_and_loses_nothing(
        names in proptest::collection::btree_map("[a-z-]{1,8}", 0_u32..5, 0..6),
        in_swarm: bool,
    ) {
        let text = serde_json::to_string(&names).expect("JSON");
        let facts = ServerFacts { in_swarm, ..ServerFacts::default() };
        if let Ok(Some(merged)) = daemon::merged(&text, &facts) {
            let settings: serde_json::Value = serde_json::from_str(&merged.text).expect("JSON");
            for (name, value) in &names {
                if name != "live-restore" {
                    prop_assert_eq!(&settings[name], &serde_json::json!(value));
                }
            }
            prop_assert!(daemon::merged(&merged.text, &facts).expect("merges").is_none());
        }
    }
}
