use std::time::Duration;

use freehold_plan::{Action, Gate, GateError, ObservedProxy, PlanKind, Undo, set_gate};

use crate::fixture::{Script, id, render};

fn stopped(message: &str) -> Gate {
    Gate::Stopped { message: message.to_owned() }
}

/// kamal-compat §12.2 row 21: every role behind the proxy, on every host, and no other.
#[test]
fn maintenance_begins_and_ends_on_every_host() {
    let drain = Duration::from_secs(7);
    let mut script = Script::new(&["one", "two"]).role("jobs", &["two"], false).deploy("v1");
    let plan = set_gate(&script.project, id(2), &script.observed, (&stopped("soon"), drain)).expect("a plan");
    assert_eq!(plan.kind, PlanKind::Maintenance);
    insta::assert_snapshot!("maintenance", render(&plan));
    for step in plan.steps() {
        assert!(matches!(&step.action, Action::SetGate { drain: given, .. } if *given == drain));
        assert!(matches!(&step.undo, Undo::RestoreGate { previous: Gate::Open, .. }));
    }
    script.happen(&plan);
    let again =
        set_gate(&script.project, id(3), &script.observed, (&stopped("soon"), drain)).expect("a plan");
    assert!(again.is_empty(), "{}", render(&again));
    let other =
        set_gate(&script.project, id(4), &script.observed, (&stopped("later"), drain)).expect("a plan");
    assert_eq!(other.steps().count(), 2, "another message is another page");
    let plan = set_gate(&script.project, id(5), &script.observed, (&Gate::Open, drain)).expect("a plan");
    assert_eq!(plan.kind, PlanKind::Live);
    insta::assert_snapshot!("live", render(&plan));
    script.happen(&plan);
    let again = set_gate(&script.project, id(6), &script.observed, (&Gate::Open, drain)).expect("a plan");
    assert!(again.is_empty(), "{}", render(&again));
}

#[test]
fn what_the_proxy_does_not_serve_is_refused() {
    let moved = |script: &Script| {
        set_gate(&script.project, id(2), &script.observed, (&stopped(""), Duration::ZERO))
            .expect_err("a refusal")
    };
    assert!(matches!(moved(&Script::new(&["one"])), GateError::NotServed { .. }));
    let mut script = Script::new(&["one", "two"]).deploy("v1");
    let host = script.observed.hosts.values_mut().last().expect("a host");
    let ObservedProxy::Running { routes, .. } = &mut host.proxy else { panic!("no proxy") };
    routes.clear();
    let error = moved(&script);
    assert_eq!(error.to_string(), "the proxy on host `two` does not serve role `web`");
    let script = script.with(|project| {
        for role in project.roles.values_mut() {
            role.proxy = None;
        }
    });
    assert!(matches!(moved(&script), GateError::NoProxy { .. }));
}
