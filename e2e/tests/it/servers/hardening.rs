//! What hardening does where there is an init system: with a kernel and packages as a machine has them.

use std::process::Stdio;

use freehold_e2e::lab::{Host, Lab, Suite, Topology};
use freehold_e2e::project::Project;
use serde_json::Value;

/// The password of the user `deploy`.
const PASSWORD: &str = "not a secret";

/// Takes away what tells a container from a machine, and gives it less memory than this computer has. The unit that sets
/// the clock would not start in a container; the network is not reached, so that it sets nothing.
const LIKE_A_MACHINE: &str = r#"
rm -f /.dockerenv
mount --bind /dev/null /proc/1/environ
printf 'MemTotal: 1000000 kB\nMemAvailable: 800000 kB\nSwapTotal: 0 kB\n' >/run/lab-meminfo
mount --bind /run/lab-meminfo /proc/meminfo
mkdir -p /etc/systemd/system/systemd-timesyncd.service.d
printf '[Unit]\nConditionVirtualization=\n' >/etc/systemd/system/systemd-timesyncd.service.d/lab.conf
systemctl daemon-reload
"#;

/// In place of the program that tells the kernel: says yes, and writes down what it was told.
const SWAPON: &str = r#"
printf '#!/bin/sh\necho "$@" >>/run/lab-swapon\n' >/usr/local/sbin/swapon
chmod 755 /usr/local/sbin/swapon
"#;

/// Tries to log in by the password, with OpenSSH.
async fn logs_in_by_password(host: &Host) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    let answer = place.path().join("answer");
    fs_err::write(&answer, format!("#!/bin/sh\necho '{PASSWORD}'\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs_err::set_permissions(&answer, mode).unwrap();
    let output = tokio::process::Command::new("ssh")
        .args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "LogLevel=ERROR"])
        .arg(format!("deploy@{}", host.open_address().unwrap()))
        .arg("true")
        .env("SSH_ASKPASS", &answer)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_time_upgrades_and_keys_only_are_made_and_count() {
    let topology = Topology::one().with("hardening", |host| host.suite = Suite::Systemd);
    let lab = Lab::start(topology).await.unwrap();
    let project = Project::new(&lab, &["h1"]).unwrap();
    let host = lab.host("h1").unwrap();
    host.exec(LIKE_A_MACHINE).await.unwrap();
    host.exec(super::PASSWORDS).await.unwrap();
    host.exec(&format!("echo 'deploy:{PASSWORD}' | chpasswd")).await.unwrap();
    assert_eq!(logs_in_by_password(&host).await, (true, String::new()), "before");

    // The kernel's settings are those of this computer: they stay.
    let harden = ["server", "bootstrap", "--harden", "--without", "sysctl", "--yes"];
    let run = project.freehold(&harden).await.unwrap().expect_code(1).unwrap();
    println!("{}", run.stderr);
    // The kernel takes no file of an overlay for swap: then there is none, and nothing that says there was.
    assert!(run.stderr.contains("cannot make a swap file on host `h1`: swapon"), "{}", run.stderr);
    let left = host.exec("ls /; cat /etc/fstab; cat /proc/swaps").await.unwrap();
    assert!(!left.contains("swapfile"), "{left}");

    host.exec(SWAPON).await.unwrap();
    let run = project.freehold(&harden).await.unwrap().expect_code(0).unwrap();
    println!("{}", run.stderr);
    swap(&host).await;
    let time = "dpkg-query -W -f '${Status}\\n' systemd-timesyncd; systemctl is-enabled systemd-timesyncd
        systemctl is-active systemd-timesyncd || journalctl -u systemd-timesyncd --no-pager | tail -n 5";
    assert_eq!(host.exec(time).await.unwrap(), "install ok installed\nenabled\nactive\n");
    let upgrades = "dpkg-query -W -f '${Status}\\n' unattended-upgrades
        apt-config dump APT::Periodic::Unattended-Upgrade; unattended-upgrade --dry-run >/dev/null && echo runs";
    let seen = host.exec(upgrades).await.unwrap();
    assert_eq!(seen, "install ok installed\nAPT::Periodic::Unattended-Upgrade \"1\";\nruns\n");
    let (is_in, said) = logs_in_by_password(&host).await;
    assert!(!is_in && said.contains("Permission denied (publickey)"), "{said}");

    // Once more: everything is there.
    // The file that is mounted has to stay the same one.
    let swap =
        "printf 'MemTotal: 1000000 kB\\nMemAvailable: 800000 kB\\nSwapTotal: 999420 kB\\n' >/run/lab-meminfo";
    host.exec(swap).await.unwrap();
    let run = project.freehold(&[&harden[..], &["--json"]].concat()).await.unwrap().expect_code(0).unwrap();
    let result: Value = serde_json::from_str(&run.stdout).unwrap();
    let hardened = &result["result"]["hardened"][0];
    assert_eq!(hardened["changed"], serde_json::json!([]), "{result}");
    for item in ["swap", "time", "upgrades", "ssh"] {
        let unchanged = hardened["unchanged"].as_array().unwrap();
        assert!(unchanged.iter().any(|name| name == item), "{item}: {result}");
    }
}

/// A file as `mkswap` makes it, for root alone, of the size that was planned, at every start.
async fn swap(host: &Host) {
    let seen = host
        .exec("stat -c '%s %a %U' /swapfile; blkid -p -s TYPE -o value /swapfile; grep swapfile /etc/fstab; cat /run/lab-swapon")
        .await
        .unwrap();
    let size = 976 * 1024 * 1024;
    assert_eq!(seen, format!("{size} 600 root\nswap\n/swapfile none swap sw 0 0\n/swapfile\n"));
    host.exec("rm /swapfile").await.unwrap();
}
