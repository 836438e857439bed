use std::num::NonZeroU32;
use std::time::Duration;

use freehold_model::BootLimit;
use freehold_plan::{Action, OnFailure, Plan, StageKind, Undo};
use proptest::prelude::*;

use crate::fixture::Script;

const HOSTS: [&str; 3] = ["one", "two", "three"];

fn script() -> impl Strategy<Value = Script> {
    (1..=3_usize, 0..=3_usize, 0..=3_u32, 1..=3_u32).prop_map(|(web, jobs, batch, retain)| {
        let mut script = Script::new(&HOSTS[..web]);
        if jobs > 0 {
            script = script.role("jobs", &HOSTS[3 - jobs..], false);
        }
        script.with(|project| {
            project.boot.limit = NonZeroU32::new(batch).map(BootLimit::Hosts);
            project.boot.wait = Duration::from_secs(1);
            project.retain_containers = NonZeroU32::new(retain).expect("at least one");
        })
    })
}

fn is_before(plan: &Plan, first: impl Fn(&Action) -> bool, second: impl Fn(&Action) -> bool) -> bool {
    plan.hosts.iter().all(|host| {
        let place = |wanted: &dyn Fn(&Action) -> bool, is_last: bool| {
            let mut places =
                plan.steps().filter(|step| step.host == *host && wanted(&step.action)).map(|step| step.id);
            if is_last { places.last() } else { places.next() }
        };
        match (place(&first, true), place(&second, false)) {
            (Some(one), Some(other)) => one < other,
            _ => true,
        }
    })
}

proptest! {
    #[test]
    fn a_plan_after_its_execution_keeps_the_rules(
        script in script(),
        versions in proptest::collection::vec(1..4_u8, 1..6),
    ) {
        let mut script = script;
        for version in versions {
            let version = format!("v{version}");
            let plan = script.plan(&version).expect("a plan");

            let text = serde_json::to_string(&plan).expect("a plan is data");
            prop_assert_eq!(&serde_json::from_str::<Plan>(&text).expect("and back"), &plan);
            prop_assert_eq!(&script.plan(&version).expect("the same inputs"), &plan);

            let ids: Vec<u32> = plan.steps().map(|step| step.id.0).collect();
            let count = u32::try_from(ids.len()).expect("a small number");
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (1..=count).collect::<Vec<_>>());

            let has_way_back = plan
                .stages
                .iter()
                .filter(|stage| stage.on_failure == OnFailure::PutBack)
                .flat_map(|stage| &stage.lanes)
                .flat_map(|lane| &lane.steps)
                .all(|step| step.undo != Undo::Impossible);
            prop_assert!(has_way_back);
            prop_assert!(plan.stages.iter().rev().take(1).all(|stage| stage.kind == StageKind::Retire));
            let is_healthy_first = is_before(
                &plan,
                |action| matches!(action, Action::AwaitHealthy { .. }),
                |action| matches!(action, Action::SwitchTarget { .. }),
            );
            let is_switched_first = is_before(
                &plan,
                |action| matches!(action, Action::SwitchTarget { .. }),
                |action| matches!(action, Action::StopContainer { .. }),
            );
            prop_assert!(is_healthy_first && is_switched_first);

            script.happen(&plan);
            script.rollouts += 1;
            for role in script.project.roles.values() {
                for entry in &role.hosts {
                    let seen = &script.observed.hosts[&entry.name];
                    let running =
                        seen.containers_of(&script.project, &role.name).filter(|c| c.state.is_running()).count();
                    prop_assert_eq!(running, 1);
                    let current = seen.current(&script.project, &role.name).expect("a current container");
                    prop_assert_eq!(current.name.to_string(), format!("app-{}-{version}", role.name));
                }
            }
            let next = script.plan("v9").expect("a plan");
            let renames = next.steps().any(|step| matches!(step.action, Action::RenameContainer { .. }));
            prop_assert!(!renames);
        }
    }
}
