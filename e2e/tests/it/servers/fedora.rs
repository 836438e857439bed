//! The real `dnf`, with packages of our own: every option that we give it is one that it takes.
//!
//! There is no Fedora to be had here. Debian has its package manager, and the rest is made to look like it.

use freehold_e2e::lab::{Host, Lab, Suite, Topology};
use freehold_e2e::project::Project;

const PORT: u16 = 8081;

/// Installs `dnf` and what makes packages for it.
const INSTALL_DNF: &str = r#"
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get -q install -y --no-install-recommends dnf createrepo-c rpm >/dev/null 2>&1
"#;

/// Makes packages of what Debian's own have: Docker, and units with the names of Fedora's.
const MAKE_PACKAGES: &str = r#"
mkdir -p /srv/repo /srv/aside
package() {
  name=$1; shift
  { printf '%%global debug_package %%{nil}\n%%global __os_install_post %%{nil}\n%%define _binary_payload w0.gzdio\n'
    printf 'Name: %s\nVersion: 1\nRelease: 1\nSummary: x\nLicense: MIT\nAutoReqProv: no\n%%description\nx\n' "$name"
    echo '%install'
    for file; do echo "mkdir -p %{buildroot}$(dirname "$file"); cp -L /srv/aside$file %{buildroot}$file"; done
    echo '%files'
    printf '%s\n' "$@"
  } >/srv/$name.spec
  rpmbuild -bb --define '_topdir /srv/build' --define '_rpmdir /srv/repo' /srv/$name.spec >/srv/$name.log 2>&1 ||
    { cat /srv/$name.log >&2; exit 1; }
}
unit() {
  mkdir -p /srv/aside/usr/lib/systemd/system
  printf "$2" >/srv/aside/usr/lib/systemd/system/$1
}
docker=$(dpkg -L docker.io | grep -E '^(/usr/s?bin/|/lib/systemd/system/docker\.)')
aside=
for file in $docker; do
  case $file in /lib/*) place=/usr$file ;; *) place=$file ;; esac
  mkdir -p "/srv/aside$(dirname "$place")"; cp -L "$file" "/srv/aside$place"; aside="$aside $place"
done
package moby-engine $aside
unit dnf-automatic-install.timer '[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n'
unit dnf-automatic-install.service '[Service]\nExecStart=/bin/true\n'
package dnf-automatic /usr/lib/systemd/system/dnf-automatic-install.timer /usr/lib/systemd/system/dnf-automatic-install.service
unit chronyd.service '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n'
package chrony /usr/lib/systemd/system/chronyd.service
createrepo_c --quiet /srv/repo
"#;

/// Makes the host look like Fedora, without Docker, and like a machine: its clock is its own.
const LIKE_FEDORA: &str = r#"
systemctl stop docker.socket docker.service
dpkg --purge --force-depends docker.io >/dev/null 2>&1
rm -rf /run/docker /var/run/docker.sock
systemctl daemon-reload
mv /usr/bin/apt-get /usr/bin/apt-get.aside
rm /etc/os-release
printf 'ID=fedora\nVERSION_ID=40\nPRETTY_NAME="Fedora Linux 40"\n' >/etc/os-release
rm -f /.dockerenv
mount --bind /dev/null /proc/1/environ
mkdir -p /etc/yum.repos.d
printf '[lab]\nname=lab\nbaseurl=http://ADDRESS:PORT/\nenabled=1\ngpgcheck=0\n' >/etc/yum.repos.d/lab.repo
(setsid python3 -m http.server PORT --directory /srv/repo >/srv/http.log 2>&1 </dev/null &)
until curl -sf -o /dev/null http://ADDRESS:PORT/repodata/repomd.xml; do sleep 0.05; done
"#;

const INSTALLED: &str = "rpm -q moby-engine dnf-automatic chrony
    systemctl is-enabled docker dnf-automatic-install.timer chronyd; systemctl is-active docker chronyd
    docker version --format 'answers'; cat /etc/dnf/automatic.conf";

/// Expects everything installed and set; what a package brought for the settings stays.
async fn expect_installed(host: &Host, brought: bool) {
    let seen = host.exec(INSTALLED).await.unwrap();
    let packages: Vec<&str> = seen.lines().take(3).collect();
    assert!(packages.iter().all(|line| line.contains("-1-1.")), "{seen}");
    let rest: Vec<&str> = seen.lines().skip(3).collect();
    let (states, settings) = rest.split_at(6);
    assert_eq!(states, ["enabled", "enabled", "enabled", "active", "active", "answers"]);
    // What the package brought stays, but for what is set.
    let set: Vec<&&str> =
        settings.iter().filter(|line| line.starts_with("apply_") || line.starts_with("upgrade_")).collect();
    assert_eq!(set, [&"apply_updates = yes", &"upgrade_type = security"]);
    assert_eq!(settings.iter().filter(|line| **line == "[commands]").count(), 1, "{seen}");
    assert_eq!((settings.len() > 3, settings.contains(&"emit_via = stdio")), (brought, brought), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dnf_installs_docker_and_what_hardens_directly_and_through_this_computer() {
    let topology = Topology::one().with("fedora", |host| host.suite = Suite::Systemd);
    let lab = Lab::start(topology).await.unwrap();
    let project = Project::new(&lab, &["h1"]).unwrap();
    let host = lab.host("h1").unwrap();
    let address = host.open_address().unwrap().to_string();
    let here = |script: &str| script.replace("ADDRESS", &address).replace("PORT", &PORT.to_string());
    host.exec(INSTALL_DNF).await.unwrap();
    host.exec(MAKE_PACKAGES).await.unwrap();
    host.exec(&here(LIKE_FEDORA)).await.unwrap();

    let bootstrap = ["server", "bootstrap", "--harden", "--without", "sysctl,docker,swap,ssh", "--yes"];
    let run = project.freehold(&bootstrap).await.unwrap().expect_code(0).unwrap();
    println!("{}", run.stderr);
    assert!(run.stderr.contains("installs the package moby-engine"), "{}", run.stderr);
    assert!(!run.stderr.contains("through this computer"), "{}", run.stderr);
    expect_installed(&host, true).await;

    // Once more, on a host that does not reach its package source: only this computer does.
    let cut = "systemctl stop docker.socket docker.service chronyd
        rpm -e moby-engine dnf-automatic chrony; rm -rf /etc/dnf/automatic.conf /var/run/docker.sock /run/docker
        systemctl daemon-reload; dnf -q clean all
        iptables -I OUTPUT -o lo -p tcp -d ADDRESS --dport PORT -j REJECT --reject-with tcp-reset
        ! curl -sf -m 3 -o /dev/null http://ADDRESS:PORT/repodata/repomd.xml";
    host.exec(&here(cut)).await.unwrap();
    let run = project.freehold(&bootstrap).await.unwrap().expect_code(0).unwrap();
    println!("{}", run.stderr);
    let said = format!("does not reach its package sources ({address}): they come through this computer");
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    expect_installed(&host, false).await;
    // The proxy's login was in a file that is gone.
    let left = host.exec("ls /tmp; grep -rs proxy /etc/dnf || true").await.unwrap();
    assert!(!left.contains("proxy") && !left.contains("tmp."), "{left}");
}
