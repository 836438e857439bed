use std::fmt::Write as _;

use freehold_e2e::project::Run;

use super::{lab, private};
use crate::scene::Scene;

/// How many hosts there are behind the bastion: as many `sshd`s on one of the lab's.
const COUNT: u16 = 30;

/// sshd as Debian has it: from ten unfinished logins on, it drops some.
const SSHD: &str = "/usr/sbin/sshd -o MaxStartups=10:30:60 -o MaxSessions=10";

fn names() -> Vec<String> {
    (1..=COUNT).map(|number| format!("n{number:02}")).collect()
}

async fn look(scene: &Scene, hosts: &[String]) -> Run {
    let mut file = scene.file.clone();
    file.hosts = hosts.to_vec();
    scene.write(&file);
    scene.run(&["status", "--json"]).await
}

fn connected(run: &Run) -> usize {
    run.stderr.matches("\"event\":\"connected\"").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_hosts_behind_one_bastion_connect_at_once() {
    let scene = Scene::on(lab().await, &["app"]).await;
    let (bastion, app) = (scene.host("bastion"), scene.host("app"));
    let (open, address) = (bastion.open_address().unwrap(), private(&app));
    bastion
        .exec(&format!("{SSHD} -p 2222 -E /var/log/jump.log -o LogLevel=VERBOSE -o PidFile=none"))
        .await
        .unwrap();
    let start = format!(
        "for port in $(seq 2201 {}); do {SSHD} -p $port -o PidFile=none; done
        # One that takes connections and says nothing.
        {SSHD} -p 2299 -o PidFile=/run/silent.pid
        until [ -s /run/silent.pid ]; do sleep 0.05; done
        kill -STOP $(cat /run/silent.pid)",
        2200 + COUNT
    );
    app.exec(&start).await.unwrap();
    let config = scene.project.home().join(".ssh/config");
    let mut text = format!("Host jump\n  HostName {open}\n  Port 2222\n  HostKeyAlias bastion\n");
    for (port, name) in (2201..).zip(names()) {
        writeln!(
            text,
            "Host {name}\n  HostName {address}\n  Port {port}\n  HostKeyAlias app\n  ProxyJump jump"
        )
        .unwrap();
    }
    text.push_str(&format!(
        "Host silent\n  HostName {address}\n  Port 2299\n  HostKeyAlias app\n  ProxyJump jump\n  ConnectTimeout 4\n"
    ));
    text.push_str(&fs_err::read_to_string(&config).unwrap());
    fs_err::write(&config, text).unwrap();
    let logins = async || {
        let count = bastion.exec("grep -c 'Accepted publickey' /var/log/jump.log || true").await.unwrap();
        count.trim().parse::<usize>().unwrap()
    };

    let one = look(&scene, &names()[..1]).await.expect_code(0).unwrap();
    assert_eq!((connected(&one), logins().await), (1, 1));
    let all = look(&scene, &names()).await.expect_code(0).unwrap();
    println!("1 host: {:?}; {COUNT} hosts: {:?}", one.elapsed, all.elapsed);
    assert_eq!(
        (connected(&all), logins().await),
        (usize::from(COUNT), 2),
        "one login at the bastion for all"
    );

    // A command on each host has a connection of its own, and so a login at the bastion: none of them is lost.
    let run = scene.run(&["server", "exec", "--raw", "--", "hostname"]).await.expect_code(0).unwrap();
    println!("a command on {COUNT} hosts: {:?}, {} logins at the bastion", run.elapsed, logins().await - 2);
    assert_eq!(run.stdout.matches("app\n").count(), usize::from(COUNT), "{}", run.stdout);

    // One that says nothing costs its own deadline and nobody else's.
    let mut hosts = names();
    hosts.insert(0, "silent".to_owned());
    let run = look(&scene, &hosts).await.expect_code(4).unwrap();
    println!("{COUNT} hosts and a silent one: {:?}", run.elapsed);
    assert_eq!(connected(&run), usize::from(COUNT), "{}", run.stderr);
    let text = format!("{}{}", run.stdout, run.stderr);
    assert!(
        text.contains("`silent` took the connection but did not finish the SSH handshake within 4 s"),
        "{text}"
    );
}
