use freehold_e2e::crowd::Crowd;
use freehold_e2e::project::Run;

use super::lab;
use crate::scene::Scene;

/// How many hosts there are behind the bastion.
const COUNT: u16 = 30;

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
    let crowd = Crowd::start(&scene.lab, &scene.project, COUNT).await.unwrap();
    let names = crowd.names();
    let logins = async || crowd.logins().await.unwrap();

    let one = look(&scene, &names[..1]).await.expect_code(0).unwrap();
    assert_eq!((connected(&one), logins().await), (1, 1));
    let all = look(&scene, &names).await.expect_code(0).unwrap();
    println!(
        "1 host: {:?}; {COUNT} hosts: {:?}, {:.1} times as long",
        one.elapsed,
        all.elapsed,
        all.elapsed.as_secs_f64() / one.elapsed.as_secs_f64()
    );
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
    let mut hosts = names.clone();
    hosts.insert(0, Crowd::SILENT.to_owned());
    let run = look(&scene, &hosts).await.expect_code(4).unwrap();
    println!("{COUNT} hosts and a silent one: {:?}", run.elapsed);
    assert_eq!(connected(&run), usize::from(COUNT), "{}", run.stderr);
    let text = format!("{}{}", run.stdout, run.stderr);
    assert!(
        text.contains("`silent` took the connection but did not finish the SSH handshake within 4 s"),
        "{text}"
    );
}
