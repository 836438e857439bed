//! A state file that is damaged, and one that is lost.

use std::time::Duration;

use crate::client::LIMIT;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

#[tokio::test]
async fn a_damaged_state_file_is_put_right_at_the_start() {
    let mut rig = Rig::start();
    let target = Target::start("kept").await;
    rig.deploy(&target).await;
    rig.stop();
    let text = fs_err::read(rig.state_file()).unwrap();
    fs_err::write(rig.state_file(), &text[..text.len() / 2]).unwrap();
    rig.restart(Duration::from_secs(5));
    rig.stop();
    assert_eq!(fs_err::read(rig.state_file()).unwrap(), text, "as it was before");
    rig.restart(Duration::from_secs(5));
    rig.stop();
    let damaged_once =
        rig.log.lines().iter().filter(|line| line["msg"] == "The saved state is damaged").count();
    assert_eq!(damaged_once, 1);
    let kept = rig.state_file().with_added_extension("damaged");
    assert_eq!(fs_err::read(kept).unwrap(), &text[..text.len() / 2]);
    let names = fs_err::read_dir(rig.state_file().parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.contains("damaged")).count(), 1);
}

#[tokio::test]
async fn a_service_whose_rules_are_lost_lets_nobody_in_until_it_is_deployed() {
    let mut rig = Rig::start();
    let (target, open) = (Target::start("guarded").await, Target::start("open").await);
    let mut request = request_for(&target);
    request.settings.traffic = Some(serde_json::from_str(r#"{"block":["10.0.0.0/8"]}"#).unwrap());
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut other = request_for(&open);
    other.settings.hosts = vec![freehold_wire::HostPattern::parse("open.example.com").unwrap()];
    rig.client().await.deploy(&name("open"), &other, LIMIT).await.unwrap();
    rig.stop();
    fs_err::write(rig.state_file(), "{").unwrap();
    fs_err::write(rig.state_file().with_added_extension("copy"), "nonsense").unwrap();
    let asked = target.requests();
    // Also where it is started again before anything is deployed.
    for _ in 0..2 {
        rig.restart(Duration::from_secs(5));
        assert_eq!(rig.open().await.get("/n").await.status, 503);
        let mut connection = rig.open().await;
        connection.send("GET /n HTTP/1.1\r\nHost: open.example.com\r\n\r\n").await;
        assert_eq!(connection.reply().await.text(), "open  /n 0 0", "it had no rules");
    }
    assert_eq!(target.requests(), asked);
    rig.stop();
    // Both files are gone, and what says who had rules cannot be read: each may have had some.
    for extension in ["", "copy"] {
        let path = rig.state_file();
        let path = if extension.is_empty() { path } else { path.with_added_extension(extension) };
        fs_err::remove_file(path).unwrap();
    }
    fs_err::write(rig.state_file().with_file_name("freehold-proxy.guarded"), "cut sh").unwrap();
    rig.restart(Duration::from_secs(5));
    assert_eq!(rig.open().await.get("/n").await.status, 503);
    assert_eq!(target.requests(), asked);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(rig.open().await.get("/n").await.text(), "guarded  /n 0 0");
    rig.restart(Duration::from_secs(5));
    assert_eq!(rig.open().await.get("/n").await.text(), "guarded  /n 0 0");
    rig.stop();
    let text = rig.log.text();
    assert!(text.contains("Service not served until it is deployed again: its rules are lost"), "{text}");
}
