use std::num::NonZeroU32;

use freehold_model::{
    AssetPath, Credential, Diagnose, ErrorKind, PlainSecret, Registry, RegistryCredentials, RegistryPlace,
};
use freehold_testkit::ProjectFixture;

use crate::harness::Scene;

fn everything() -> ProjectFixture {
    let hosts = ["one", "two"];
    ProjectFixture::new(&hosts).role("jobs", &hosts, false).with(|project| {
        let secret = |text: &str| Credential::Plain(PlainSecret::new(text));
        let credentials = RegistryCredentials { username: secret("ann"), password: secret("password") };
        project.registry = Some(Registry {
            place: RegistryPlace::DockerHub,
            credentials: Some(credentials),
            uses_docker_login: false,
        });
        for role in project.roles.values_mut() {
            role.release_command = Some(vec!["migrate".to_owned()]);
            role.asset_path = Some(AssetPath { path: "/assets".to_owned(), options: None });
            role.replicas = NonZeroU32::new(2).expect("a number");
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_release_with_everything_is_delivered_and_replaced() {
    let scene = Scene::running(everything()).await;
    scene.deploy(&scene.fleet.client(), "v2", 2).await.expect("the second deploy");
    scene.assert_no_outage("two deploys");
    for machine in scene.fleet.machines() {
        let running: Vec<String> = machine
            .containers()
            .iter()
            .filter(|container| container.is_running)
            .map(|container| container.name.to_string())
            .collect();
        assert_eq!(
            running,
            ["app-web-v2", "app-web-v2_replica_2", "app-jobs-v2", "app-jobs-v2_replica_2"],
            "{}",
            machine.name()
        );
        assert!(machine.containers().iter().all(|container| !container.name.as_str().contains("-exec-")));
    }
    let pushed: Vec<String> =
        scene.fleet.machines().flat_map(|machine| machine.pushed()).map(|image| image.to_string()).collect();
    assert_eq!(pushed, ["acme/app:v1", "acme/app:v2"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_command_that_fails_stops_the_deploy_before_anything_boots() {
    let scene = Scene::running(everything()).await;
    let before = scene.snapshot();
    for machine in scene.fleet.machines() {
        machine.spoil_release_command("v2");
    }
    let error = scene.deploy(&scene.fleet.client(), "v2", 2).await.expect_err("it fails").execute();
    assert_eq!(scene.snapshot(), before, "assets and containers are as before");
    assert!(error.put_back().is_some_and(|put_back| put_back.is_complete()), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Failed);
    let effects: Vec<String> =
        scene.fleet.machines().flat_map(|machine| machine.effects()).map(|(_, effect)| effect).collect();
    assert!(!effects.contains(&"start app-web-v2".to_owned()), "{effects:?}");
    scene.assert_no_outage("the deploy that failed");
    scene.deploy(&scene.fleet.client(), "v3", 3).await.expect("the next deploy");
}
