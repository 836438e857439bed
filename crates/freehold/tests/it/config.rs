use crate::sandbox::Sandbox;

const FILE: &str = "service: shop
image: acme/shop
servers:
  web: [web-1, {web-2: eu}]
  job: {hosts: [web-1], cmd: bin/jobs}
registry: {server: ghcr.io, username: me, password: [TOKEN]}
volumes: ['data:/data', '/srv/up load:/up']
env: {tags: {eu: {}}}
ssh: {user: deploy, key_data: [KEY]}
logging: {driver: local, options: {max-file: 3, tag: 'a $b'}}
builder: {arch: amd64, args: {A: 'x: y'}}
accessories:
  db:
    image: postgres:17
    role: web
    port: '5432'
    registry: {username: me, password: m4rk}
    files: [{local: a, remote: /b, mode: '0600'}]
    env:
      clear:
        NOTE: |
          one
          two
";

/// kamal-compat §12.2 row 8: the form is Kamal's, and no secret is in it.
#[test]
fn the_configuration_is_printed_as_kamal_prints_it() {
    let sandbox = Sandbox::with_deploy_file(FILE).file("config/deploy.eu.yml", "builder: {arch: arm64}\n");
    let shown = sandbox.run(&["config", "--version", "v1", "-q"]);
    assert!(!shown.contains("m4rk"), "{shown}");
    insta::assert_snapshot!("config", shown);
    insta::assert_snapshot!(
        "config_of_a_destination_as_json",
        sandbox.run(&["config", "-d", "eu", "--json"])
    );
    let small = Sandbox::with_deploy_file("service: shop\nimage: shop\nservers: [web-1]\n");
    insta::assert_snapshot!("config_of_little", small.run(&["config"]));
}
