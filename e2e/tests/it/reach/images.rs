//! An accessory's image for a host that reaches no registry.

use std::process::Command;

use super::{lab, lay_in_busybox};
use crate::scene::Scene;

/// A name that no registry has, with a tag of its own for each run: the host cannot have it from before.
fn name() -> String {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    format!("lab-cache:{:08x}", u32::from_le_bytes(random))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accessorys_image_comes_through_this_computer_to_a_private_host() {
    let mut scene = Scene::on(lab().await, &["app"]).await;
    let database = scene.host("database");
    let image = name();
    lay_in_busybox(&scene, &database).await;
    let folder = scene.project.folder();
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCMD [\"/bin/busybox\", \"sleep\", \"3600\"]\n";
    scene.project.write("cache/Dockerfile", dockerfile).unwrap();
    fs_err::rename(folder.join("busybox"), folder.join("cache/busybox")).unwrap();
    let engine = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["--host", scene.lab.engine_address()]).args(arguments).current_dir(&folder);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    engine(&["build", "--quiet", "--tag", &image, "cache"]);
    scene.file.more = format!("accessories:\n  cache:\n    image: {image}\n    host: database\n");
    scene.write(&scene.file);

    let run = scene.run(&["accessory", "boot", "cache"]).await;
    println!("{} in {:?}", run.stderr, run.elapsed);
    let run = run.expect_code(0).unwrap();
    let said = "through this computer, as the host cannot pull it";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    assert_eq!(database.containers().await.unwrap(), ["hello-cache"]);

    // It is there now: nothing is pulled and nothing sent.
    let run = scene.run(&["accessory", "reboot", "cache", "-y"]).await.expect_code(0).unwrap();
    assert!(!run.stderr.contains(said), "{}", run.stderr);

    // Neither this computer nor the host can get it: the registry's own answer is the error.
    engine(&["image", "rm", &image]);
    scene.file.more = scene.file.more.replace("lab-cache", "lab-cache-that-nobody-has");
    scene.write(&scene.file);
    let run = scene.run(&["accessory", "reboot", "cache", "-y"]).await.expect_code(1).unwrap();
    assert!(run.stderr.contains("lab-cache-that-nobody-has"), "{}", run.stderr);
    assert_eq!(database.containers().await.unwrap(), ["hello-cache"], "the old one stays");
}
