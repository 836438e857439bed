use std::time::Duration;

use freehold_fleet::{Event, LEASE_TIME_TO_LIVE, Lease, LeaseError, LeaseLost, LeaseRequest, Stop, Waiting};
use freehold_model::{Diagnose, ErrorKind};
use freehold_testkit::{Client, FakeFleet, Fault, Harm, Moment, Point};

use crate::harness::{host, request};

fn fleet() -> FakeFleet {
    FakeFleet::new(&[host("one"), host("two"), host("three")])
}

async fn acquire(client: &Client, waiting: Waiting) -> Result<Lease, LeaseError> {
    Lease::acquire(&client.world(), &request(), waiting, &Stop::default()).await
}

fn crash_at(call: u64) -> Fault {
    Fault { host: None, point: Point::Call(call), moment: Moment::Before, harm: Harm::Crash }
}

#[tokio::test(start_paused = true)]
async fn one_client_has_it_at_a_time() {
    let fleet = fleet();
    let lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    let error = acquire(&fleet.client(), Waiting::No).await.expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::Locked);
    let mut text = vec![error.to_string()];
    text.extend(error.help());
    insta::assert_snapshot!(text.join("\n"), @r"
    deploy lock is held: Locked by: Jane at 2026-11-22T03:00:00Z; Version: v1; Message: Automatic deploy lock
    the holder is process 42 on `laptop`
    it expires in 29 s unless its holder is alive; wait for it with `--lock-wait`
    if nobody deploys: `freehold lock release`
    ");
    let first = lease.token().fence;
    lease.release().await.expect("a release");
    let again = acquire(&fleet.client(), Waiting::No).await.expect("it is free");
    assert!(again.token().fence > first);
    assert!(!again.was_taken_over());
}

#[tokio::test(start_paused = true)]
async fn it_stays_ours_as_long_as_its_holder_lives() {
    let fleet = fleet();
    let lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    for _ in 0..20 {
        tokio::time::sleep(LEASE_TIME_TO_LIVE).await;
        assert!(lease.is_ours());
        lease.check().await.expect("still ours");
    }
    assert!(matches!(acquire(&fleet.client(), Waiting::No).await, Err(LeaseError::Held { .. })));
}

/// kamal-compat §18 row 10
#[tokio::test(start_paused = true)]
async fn that_of_a_holder_that_is_gone_is_taken_over_on_every_host() {
    let fleet = fleet();
    let gone = fleet.client();
    let lease = acquire(&gone, Waiting::No).await.expect("a lease");
    fleet.inject(crash_at(fleet.calls() + 1));
    gone.crashed().await;
    let client = fleet.client();
    let next = acquire(&client, Waiting::Until(LEASE_TIME_TO_LIVE * 2)).await.expect("taken over");
    assert!(next.was_taken_over());
    for machine in fleet.machines() {
        assert_eq!(machine.fence(), next.token().fence);
    }
    assert!(next.token().fence > lease.token().fence);
    assert!(
        client.watch().lines().iter().any(|line| line.starts_with("waiting for the lock: Locked by: Jane"))
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_in_time_or_when_told() {
    let fleet = fleet();
    let _lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    let began = tokio::time::Instant::now();
    let error =
        acquire(&fleet.client(), Waiting::Until(Duration::from_secs(7))).await.expect_err("it is taken");
    let LeaseError::Held { waited, .. } = error else { panic!("{error:?}") };
    assert!(waited >= Duration::from_secs(7) && began.elapsed() < Duration::from_secs(9), "{waited:?}");

    let stop = Stop::default();
    stop.soft.cancel();
    let client = fleet.client();
    let stopped =
        Lease::acquire(&client.world(), &request(), Waiting::Until(Duration::from_secs(7)), &stop).await;
    assert_eq!(stopped.expect_err("stopped").kind(), ErrorKind::Interrupted);
}

/// kamal-compat §15 rows 4, 5.
#[tokio::test(start_paused = true)]
async fn that_of_a_person_neither_expires_nor_is_waited_for() {
    let fleet = fleet();
    let client = fleet.client();
    let by_hand = LeaseRequest { message: "no deploys today".to_owned(), time_to_live: None, ..request() };
    let lease =
        Lease::acquire(&client.world(), &by_hand, Waiting::No, &Stop::default()).await.expect("a lock");
    drop(lease);
    tokio::time::sleep(LEASE_TIME_TO_LIVE * 100).await;
    let began = tokio::time::Instant::now();
    let error =
        acquire(&fleet.client(), Waiting::Until(Duration::from_secs(60))).await.expect_err("it is taken");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(error.help().contains(&"it never expires by itself".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_slept_too_long_finds_out_before_its_next_step() {
    let fleet = fleet();
    let sleeper = fleet.client();
    let lease = acquire(&sleeper, Waiting::No).await.expect("a lease");
    fleet.inject(Fault {
        host: None,
        point: Point::Call(fleet.calls() + 1),
        moment: Moment::Before,
        harm: Harm::Freeze,
    });
    sleeper.frozen().await;
    let _next = acquire(&fleet.client(), Waiting::Until(LEASE_TIME_TO_LIVE * 2)).await.expect("taken over");
    assert!(!lease.is_ours(), "too old to be sure");
    sleeper.thaw();
    assert!(matches!(lease.check().await, Err(LeaseLost::Taken { .. })));
    lease.lost().cancelled().await;
    lease.release().await.expect("nothing to release");
    assert!(fleet.machine(&host("one")).expect("a machine").is_locked(), "the other's lock is left alone");
}

#[tokio::test(start_paused = true)]
async fn it_is_lost_when_the_host_is_away_for_too_long_and_ours_again_if_nobody_took_it() {
    let fleet = fleet();
    let client = fleet.client();
    let lease = acquire(&client, Waiting::No).await.expect("a lease");
    let began = tokio::time::Instant::now();
    let clock = client.world().clock;
    fleet.machine(&host("one")).expect("a machine").cut_off(clock.elapsed() + LEASE_TIME_TO_LIVE * 2);
    lease.lost().cancelled().await;
    assert!(began.elapsed() <= LEASE_TIME_TO_LIVE * 4 / 3, "{:?}", began.elapsed());
    assert!(matches!(lease.check().await, Err(LeaseLost::Unknown(_))));
    tokio::time::sleep(LEASE_TIME_TO_LIVE * 2).await;
    lease.check().await.expect("nobody took it");
    assert!(lease.is_ours());
}

#[tokio::test(start_paused = true)]
async fn a_broken_lock_is_noticed_by_its_holder() {
    let fleet = fleet();
    let lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    fleet.machine(&host("one")).expect("a machine").break_lock();
    lease.lost().cancelled().await;
    assert!(!lease.is_ours());
    assert!(lease.check().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_told_gives_the_lock_back() {
    let fleet = fleet();
    fleet.machine(&host("two")).expect("a machine").cut_off(Duration::from_secs(3600));
    let error = acquire(&fleet.client(), Waiting::No).await.expect_err("a host is away");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(!fleet.machine(&host("one")).expect("a machine").is_locked());
}

#[tokio::test(start_paused = true)]
async fn the_count_goes_on_when_the_primary_host_was_set_up_anew() {
    let fleet = fleet();
    for _ in 0..5 {
        let lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
        lease.release().await.expect("a release");
    }
    fleet.machine(&host("one")).expect("a machine").forget_fence();
    let lease = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    assert_eq!(lease.token().fence, 6);
}

#[tokio::test(start_paused = true)]
async fn an_inherited_one_is_neither_taken_nor_released() {
    let fleet = fleet();
    let parent = acquire(&fleet.client(), Waiting::No).await.expect("a lease");
    let child = Lease::inherited(&fleet.client().world(), "app").await.expect("the parent's");
    assert_eq!(child.token(), parent.token());
    tokio::time::sleep(LEASE_TIME_TO_LIVE * 3).await;
    child.check().await.expect("the parent keeps it alive");
    child.release().await.expect("nothing to do");
    assert!(fleet.machine(&host("one")).expect("a machine").is_locked());
    parent.check().await.expect("still the parent's");
}

#[tokio::test(start_paused = true)]
async fn taking_it_says_so() {
    let fleet = fleet();
    let client = fleet.client();
    let lease = acquire(&client, Waiting::No).await.expect("a lease");
    let events = client.watch().events();
    assert!(matches!(events.as_slice(), [Event::Locked { fence }] if *fence == lease.token().fence));
}
