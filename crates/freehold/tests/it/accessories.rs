use crate::errors::without_times;
use crate::sandbox::{Sandbox, snapshot_name};

const TWO: &str = "service: shop
image: shop
servers: [localhost]
builder: {context: .}
accessories:
  db:
    image: postgres:17
    host: localhost
    env: {clear: {SIZE: 1}, secret: [PASSWORD]}
    files: ['config/db.conf.erb:/etc/db.conf']
  cache: {image: redis, host: localhost}
";

/// kamal-compat §12.2 rows 24, 25: what is wrong is told before anything is run.
#[test]
fn commands_about_accessories_that_are_wrong() {
    let sandbox = Sandbox::with_deploy_file(TWO);
    for (name, words) in [
        ("exec in nothing", &["accessory", "exec", "search", "ls"][..]),
        ("exec without a command", &["accessory", "exec", "db"]),
        ("exec with a terminal and raw", &["accessory", "exec", "db", "-i", "--raw", "ls"]),
        ("exec with a terminal as json", &["accessory", "exec", "db", "-i", "--json", "ls"]),
        ("logs of nothing", &["accessory", "logs", "search"]),
        ("logs of another host", &["accessory", "logs", "db", "-h", "web-*"]),
        ("exec without the secrets", &["accessory", "exec", "db", "ls"]),
        ("remove the folder without asking", &["accessory", "remove_service_directory", "cache"]),
    ] {
        insta::assert_snapshot!(snapshot_name("accessory", name), without_times(&sandbox.run(words)));
    }
    let none = Sandbox::with_deploy_file("service: shop\nimage: shop\nservers: [localhost]\n");
    insta::assert_snapshot!("accessory_exec_without_any", none.run(&["accessory", "exec", "db", "ls"]));
}

/// kamal-compat §8 row 7: a template is rendered here, before any host is asked; its errors hide secrets.
#[test]
fn templates_of_accessories_that_are_wrong() {
    let sandbox = Sandbox::with_deploy_file(TWO).file(".kamal/secrets", "PASSWORD=m4rk\n");
    let boot = ["accessory", "boot", "db"];
    insta::assert_snapshot!("accessory_without_its_file", without_times(&sandbox.run(&boot)));
    let text = "password=<%= ENV[\"PASSWORD\"] %>\ninclude=<%= File.read(ENV[\"PASSWORD\"]) %>\n";
    let sandbox = sandbox.file("config/db.conf.erb", text);
    let shown = without_times(&sandbox.run(&boot));
    assert!(!shown.contains("m4rk"), "{shown}");
    insta::assert_snapshot!("accessory_with_a_wrong_template", shown);
    fs_err::remove_file(sandbox.path().join("config/db.conf.erb")).unwrap();
    let sandbox = sandbox.file("config/db.conf.erb/x", "");
    insta::assert_snapshot!("accessory_with_a_folder", without_times(&sandbox.run(&boot)));
}
