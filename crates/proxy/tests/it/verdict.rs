//! Visitors without a cookie who are shared out, and targets that are compared and then promoted or given up.

use std::time::Duration;

use freehold_proxy::Limits;
use freehold_wire::{
    CanaryRequest, HeaderMatch, ServiceStatus, Split, SplitRequest, VerdictRule, VerdictState,
};

use crate::client::{Connection, LIMIT, Reply};
use crate::rig::{Rig, address, name};
use crate::target::Target;

async fn scene() -> (Rig, Target, Target) {
    let limits = Limits { verdicts: Duration::from_millis(10), ..Limits::default() };
    let (rig, own) = (Rig::with_limits(limits), Target::start("own").await);
    let tried = Target::start("tried").await;
    rig.deploy(&own).await;
    try_out(&rig, &tried).await;
    (rig, own, tried)
}

async fn try_out(rig: &Rig, target: &Target) {
    let request = CanaryRequest {
        targets: vec![address(&target.address())],
        read_targets: Vec::new(),
        deploy_timeout_ms: 5000,
        drain_timeout_ms: 5000,
        fence: None,
    };
    rig.client().await.install_canary(&name("shop"), &request, LIMIT).await.unwrap();
}

async fn split(rig: &Rig, split: Split) {
    let request = SplitRequest { split: Some(split), fence: None };
    rig.client().await.split(&name("shop"), &request, LIMIT).await.unwrap();
}

fn share(percentage: u8) -> Split {
    Split { percentage, anonymous: true, ..Split::default() }
}

async fn ask(client: &mut Connection, path: &str, lines: &str) -> Reply {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n")).await;
    client.reply().await
}

fn who(reply: &Reply) -> &str {
    reply.text().split(' ').next().unwrap()
}

fn cookie(reply: &Reply) -> String {
    let line = reply.header("set-cookie").expect("a cookie");
    assert!(line.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"), "{line}");
    line.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn strangers_are_shared_out_and_stay_where_they_are() {
    let (rig, _own, _tried) = scene().await;
    let mut client = rig.open().await;
    assert_eq!(ask(&mut client, "/n", "").await.header("set-cookie"), None, "nobody is told without a split");
    split(&rig, share(30)).await;
    let mut sides = Vec::new();
    for _ in 0..400 {
        let reply = ask(&mut client, "/n", "").await;
        sides.push((cookie(&reply), who(&reply).to_owned()));
    }
    let tried = sides.iter().filter(|(_, side)| side == "tried").count();
    // 120 of 400; further than five standard deviations away is no accident.
    assert!((75..=165).contains(&tried), "{tried}");
    for (cookie, side) in sides.iter().take(100) {
        let reply = ask(&mut client, "/n", &format!("Cookie: a=b; {cookie}\r\n")).await;
        assert_eq!(who(&reply), side);
        assert_eq!(reply.header("set-cookie"), None, "who has one keeps it");
    }
    // Where the share grows, those who were there stay.
    split(&rig, share(60)).await;
    for (cookie, side) in sides.iter().filter(|(_, side)| side == "tried").take(30) {
        assert_eq!(who(&ask(&mut client, "/n", &format!("Cookie: {cookie}\r\n")).await), side);
    }
}

#[tokio::test]
async fn a_header_or_a_cookie_of_ones_own_leads_there() {
    let (rig, _own, _tried) = scene().await;
    let header = Some(HeaderMatch { name: "X-Canary".to_owned(), value: Some("yes".to_owned()) });
    let listed = vec!["ann".to_owned()];
    split(&rig, Split { header, allow_list: listed, cookie: Some("user".to_owned()), ..Split::default() })
        .await;
    let mut client = rig.open().await;
    for (lines, wanted) in [
        ("", "own"),
        ("x-canary: yes\r\n", "tried"),
        ("X-Canary: no\r\n", "own"),
        ("Cookie: user=ann\r\n", "tried"),
        ("Cookie: user=bob\r\n", "own"),
        ("Cookie: kamal-rollout=ann\r\n", "own"),
    ] {
        assert_eq!(who(&ask(&mut client, "/n", lines).await), wanted, "{lines}");
    }
    let header = Some(HeaderMatch { name: "X-Canary".to_owned(), value: None });
    split(&rig, Split { header, ..Split::default() }).await;
    assert_eq!(who(&ask(&mut client, "/n", "X-Canary: whatever\r\n").await), "tried");
}

fn judged(window_ms: u64, promote: bool) -> Split {
    let verdict =
        VerdictRule { window_ms, promote, latency_tolerance_percent: 10_000, ..VerdictRule::default() };
    Split { verdict: Some(verdict), ..share(50) }
}

fn last(status: &ServiceStatus) -> Option<VerdictState> {
    status.last_verdict.as_ref().map(|verdict| verdict.state)
}

#[tokio::test]
async fn targets_that_are_as_good_become_the_services_own() {
    let (mut rig, own, tried) = scene().await;
    split(&rig, judged(5000, true)).await;
    let mut client = rig.open().await;
    for _ in 0..200 {
        assert_eq!(ask(&mut client, "/n", "").await.status, 200);
    }
    let watching = rig.status().await.canary.unwrap().verdict.unwrap();
    assert_eq!(
        (watching.state, watching.own.requests + watching.tried.requests),
        (VerdictState::Watching, 200)
    );
    rig.wait_for(|status| status.last_verdict.is_some()).await;
    let status = rig.status().await;
    assert_eq!(last(&status), Some(VerdictState::Promoted), "{status:?}");
    assert!(status.canary.is_none());
    assert_eq!(status.targets[0].address.as_str(), tried.address());
    let before = own.requests();
    for _ in 0..20 {
        let reply = ask(&mut client, "/n", "").await;
        assert_eq!((who(&reply), reply.header("set-cookie")), ("tried", None));
    }
    assert_eq!(own.requests(), before);
    rig.restart(Duration::from_secs(5));
    assert_eq!(who(&ask(&mut rig.open().await, "/n", "").await), "tried");
    rig.stop();
    let lines = rig.log.lines();
    let decided = lines.iter().find(|line| line["msg"] == "Decided about rollout").unwrap();
    assert_eq!((&decided["verdict"], &decided["service"]), (&"promoted".into(), &"shop".into()));
}

#[tokio::test]
async fn targets_that_fail_get_nobody_any_more() {
    let (rig, _own, tried) = scene().await;
    split(&rig, judged(60_000, true)).await;
    tried.stop().await;
    let mut client = rig.open().await;
    // Nobody sees it: where no connection can be made the service's own targets answer. It counts all the same.
    crate::client::soon(async {
        while last(&rig.status().await).is_none() {
            assert_eq!(who(&ask(&mut client, "/n", "").await), "own");
        }
    })
    .await;
    let status = rig.status().await;
    let verdict = status.last_verdict.unwrap();
    assert_eq!(verdict.state, VerdictState::Aborted);
    assert!(verdict.why.starts_with("more errors: 100.00 % of "), "{verdict:?}");
    assert!(verdict.tried.requests < 100, "{verdict:?}");
    assert_eq!(status.canary.unwrap().split, None, "the targets stay, without visitors");
}

#[tokio::test]
async fn what_a_target_answers_counts_and_a_verdict_may_be_said_only() {
    let (rig, _own, _tried) = scene().await;
    split(&rig, judged(5000, false)).await;
    let mut client = rig.open().await;
    for _ in 0..150 {
        ask(&mut client, "/n", "").await;
    }
    rig.wait_for(|status| status.last_verdict.is_some()).await;
    let status = rig.status().await;
    assert_eq!(last(&status), Some(VerdictState::Passed), "{status:?}");
    let canary = status.canary.unwrap();
    assert_eq!((canary.split.as_ref().unwrap().percentage, canary.verdict), (50, None));
    rig.client().await.promote(&name("shop"), None, LIMIT).await.unwrap();
    assert_eq!(who(&ask(&mut client, "/n", "").await), "tried");
    let error = rig.client().await.promote(&name("shop"), None, LIMIT).await.unwrap_err();
    assert_eq!(error.message(), Some("rollout target not set"));
}

#[tokio::test]
async fn a_verdict_changes_nothing_that_was_split_anew() {
    let limits = Limits { verdicts: Duration::from_millis(1), ..Limits::default() };
    let (rig, own) = (Rig::with_limits(limits), Target::start("own").await);
    let tried = Target::start("tried").await;
    rig.deploy(&own).await;
    try_out(&rig, &tried).await;
    for round in 0..100 {
        // It is given up at once, unless what comes next is there before.
        split(&rig, judged(1, true)).await;
        if round % 2 == 0 {
            rig.wait_for(|status| status.last_verdict.is_some()).await;
        }
        split(&rig, share(round)).await;
        let status = rig.status().await;
        assert_eq!(last(&status), None, "round {round}");
        let split = status.canary.and_then(|canary| canary.split);
        assert_eq!(split.map(|split| split.percentage), Some(round));
    }
    split(&rig, judged(1, true)).await;
    rig.wait_for(|status| status.last_verdict.is_some()).await;
    try_out(&rig, &tried).await;
    assert_eq!(last(&rig.status().await), None, "it was about the targets before");
}

#[tokio::test]
async fn too_few_visitors_show_nothing_and_nonsense_is_refused() {
    let (rig, _own, _tried) = scene().await;
    split(&rig, judged(100, true)).await;
    rig.wait_for(|status| status.last_verdict.is_some()).await;
    let verdict = rig.status().await.last_verdict.unwrap();
    assert_eq!(verdict.state, VerdictState::Aborted);
    assert!(verdict.why.starts_with("too few requests to tell: 0 "), "{verdict:?}");
    for (wrong, wanted) in [
        (Split { percentage: 100, ..judged(100, true) }, "`percentage` must be 1 to 99, not 100"),
        (judged(0, true), "`verdict.window_ms` must be 1 to"),
        (Split { cookie: Some("a b".to_owned()), ..share(1) }, "`a b` is not the name of a cookie"),
    ] {
        let request = SplitRequest { split: Some(wrong), fence: None };
        let error = rig.client().await.split(&name("shop"), &request, LIMIT).await.unwrap_err();
        assert!(error.message().unwrap().contains(wanted), "{error:?}");
    }
}
