use std::time::Duration;

use freehold_model::{AssetPath, ErrorKind, Project, RoleOrder};
use freehold_testkit::{Fault, Harm, Moment, Point, ProjectFixture};
use proptest::prelude::*;

use crate::harness::Scene;

const HOSTS: [&str; 3] = ["one", "two", "three"];

fn fixture() -> impl Strategy<Value = ProjectFixture> {
    let shape = (1..=3_usize, 0..=3_usize, 0..=2_u32, any::<bool>(), any::<bool>());
    shape.prop_map(|(web, jobs, batch, soaks, has_extras)| {
        let mut fixture = ProjectFixture::new(&HOSTS[..web]);
        if jobs > 0 {
            fixture = fixture.role("jobs", &HOSTS[3 - jobs..], false);
        }
        if has_extras {
            fixture = fixture.job("tidy", "web");
        }
        fixture = fixture.batches(batch, Duration::from_secs(1));
        if has_extras {
            fixture = fixture.with(with_extras);
        }
        if soaks { fixture } else { fixture.with(|project| project.timeouts.soak = Duration::ZERO) }
    })
}

/// Assets, a release command, and roles that boot side by side.
fn with_extras(project: &mut Project) {
    project.boot.order = RoleOrder::Parallel;
    for role in project.roles.values_mut() {
        role.release_command = Some(vec!["migrate".to_owned()]);
        role.asset_path = Some(AssetPath { path: "/assets".to_owned(), options: None });
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => Just(Harm::Fail),
        3 => (0..40_u64).prop_map(|seconds| Harm::Lose(Duration::from_secs(seconds))),
        1 => (80..200_u64).prop_map(|seconds| Harm::Lose(Duration::from_secs(seconds))),
        1 => (0..60_u64).prop_map(|seconds| Harm::Slow(Duration::from_secs(seconds))),
        2 => Just(Harm::Crash),
    ]
}

fn faults() -> impl Strategy<Value = Vec<(u64, bool, Harm)>> {
    proptest::collection::vec((1..160_u64, any::<bool>(), harm()), 1..4)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_nobody_notices_and_the_next_deploy_works(
        fixture in fixture(),
        same_version in any::<bool>(),
        faults in faults(),
    ) {
        run(async {
            let scene = Scene::running(fixture).await;
            let before = scene.snapshot();
            let calls = scene.fleet.calls();
            for (call, is_after, harm) in faults {
                let moment = if is_after { Moment::After } else { Moment::Before };
                scene.fleet.inject(Fault { host: None, point: Point::Call(calls + call), moment, harm });
            }
            let version = if same_version { "v1" } else { "v2" };
            let result = scene.deploy_or_crash(&scene.fleet.client(), version, 2).await;
            scene.fleet.clear_faults();
            scene.assert_no_outage("while things went wrong");
            match result {
                Some(Ok(_)) => scene_is_live(&scene, version),
                Some(Err(error)) => {
                    let is_put_back = !matches!(error.kind(), ErrorKind::NeedsAttention | ErrorKind::Locked);
                    let is_about_the_rollout = matches!(error, crate::harness::DeployError::Execute(_));
                    if is_put_back && is_about_the_rollout {
                        let mut after = scene.snapshot();
                        // A host that is away just then keeps an empty or finished journal until the next run.
                        for snapshot in after.values_mut() {
                            snapshot.has_journal = false;
                        }
                        assert_eq!(after, before, "{error:?}");
                    }
                }
                None => {}
            }
            tokio::time::sleep(Duration::from_secs(300)).await;
            scene.deploy(&scene.fleet.client(), "v3", 3).await.expect("the next deploy");
            scene.assert_live("v3", "the next deploy");
            scene.assert_no_outage("the next deploy");
        });
    }

    #[test]
    fn after_a_deploy_there_is_nothing_to_rename_and_one_current_container(
        fixture in fixture(),
        versions in proptest::collection::vec(1..4_u8, 1..5),
    ) {
        run(async {
            let scene = Scene::new(fixture);
            let mut number = 0;
            for version in versions {
                number += 1;
                let version = format!("v{version}");
                scene.deploy(&scene.fleet.client(), &version, number).await.expect("a deploy");
                scene.assert_live(&version, "a deploy");
                let plan = scene.next_plan("v9", number + 1).await;
                let titles: Vec<String> = plan.steps().map(|step| step.action.to_string()).collect();
                assert!(!titles.iter().any(|title| title.starts_with("rename")), "{titles:?}");
                let roles: usize =
                    scene.fixture.project().roles.values().map(|role| role.hosts.len()).sum();
                let stops = titles.iter().filter(|title| title.contains("stop ")).count();
                assert_eq!(stops, roles, "{titles:?}");
            }
            scene.assert_no_outage("deploys");
        });
    }
}

fn scene_is_live(scene: &Scene, version: &str) {
    for role in scene.fixture.project().roles.values() {
        for entry in &role.hosts {
            let machine = scene.fleet.machine(&entry.name).expect("a machine");
            let name = format!("{}-{version}", scene.fixture.project().role_prefix(&role.name));
            assert!(
                machine
                    .containers()
                    .iter()
                    .any(|container| container.is_running && container.name.as_str() == name)
            );
        }
    }
}
