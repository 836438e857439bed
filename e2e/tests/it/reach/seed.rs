use freehold_e2e::lab::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Reading, lab, lay_in_busybox, private, with_input, write_program};
use crate::registry::Registry;
use crate::scene::Scene;

/// The deploy file of somebody with one public host and a database on a private one, as Kamal has it. The lab's addresses
/// and its registry take the place of `APP`, `DB`, `PUBLIC` and `REGISTRY`; nothing else is ours.
const DEPLOY_FILE: &str = r#"# Used .env file to get spun up quickly.
<% require "dotenv"; Dotenv.load(".env") %>

service: my-app
image: my-app
servers:
  web:
    - APP
  job:
    hosts:
      - APP
    cmd: bin/jobs

proxy:
  ssl: true
  host: my-app.example.com

registry:
  server: REGISTRY
  username: ann
  password:
    - KAMAL_REGISTRY_PASSWORD

env:
  secret:
    - RAILS_MASTER_KEY
    - POSTGRES_PASSWORD
  clear:
    DB_HOST: DB
    POSTGRES_USER: db-user
    POSTGRES_DB: my_app_production
    JOB_CONCURRENCY: 3
    SOLID_QUEUE_IN_PUMA: true
    RAILS_MAX_THREADS: 5

aliases:
  console: app exec --interactive --reuse "bin/rails console"
  shell: app exec --interactive --reuse "bash"
  logs: app logs -f
  dbc: app exec --interactive --reuse "bin/rails dbconsole"

volumes:
  - "my_app_storage:/rails/storage"

asset_path: /rails/public/assets

builder:
  arch: ARCH

ssh:
  proxy: root@PUBLIC

accessories:
  db:
    image: postgres:15
    host: DB
    port: "5432:5432"
    env:
      clear:
        DB_HOST: my-app-db
        POSTGRES_USER: db-user
        POSTGRES_DB: my_app_production
      secret:
        - POSTGRES_PASSWORD
    directories:
      - data:/var/lib/postgresql/data
"#;

/// What the secrets file takes from the environment, the deploy file's first line puts there.
const SECRETS: &str = "KAMAL_REGISTRY_PASSWORD=$KAMAL_REGISTRY_PASSWORD\n\
    RAILS_MASTER_KEY=$RAILS_MASTER_KEY\nPOSTGRES_PASSWORD=$POSTGRES_PASSWORD\n";

const DOTENV: &str =
    "KAMAL_REGISTRY_PASSWORD='right$'\nRAILS_MASTER_KEY=0123abcd\nPOSTGRES_PASSWORD=\"a secret\"\n";

/// An image with what the aliases call; `bin/rails dbconsole` talks to whatever listens at `DB_HOST`.
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY bash /bin/bash\n\
    COPY rails jobs /rails/bin/\nCOPY hello /hello\nCOPY VERSION /VERSION\nCOPY VERSION /rails/public/assets/app.css\n\
    WORKDIR /rails\nEXPOSE 80\nCMD [\"/hello\"]\n";

const RAILS: &str = "#!/bin/sh\ncase $1 in\n  console) exec /bin/busybox sed 's/^/console: /' ;;\n  \
    dbconsole) exec /bin/busybox nc \"$DB_HOST\" 5432 ;;\nesac\n";

const JOBS: &str = "#!/bin/sh\ntrap 'exit 0' TERM\necho \"working for $DB_HOST\"\n\
    while :; do /bin/busybox sleep 1 & wait; done\n";

/// A stand-in for PostgreSQL: it says who it is, and answers each line.
const DATABASE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n\
    CMD [\"/bin/busybox\", \"nc\", \"-ll\", \"-p\", \"5432\", \"-e\", \"/bin/sh\", \"-c\", \
    \"echo database $POSTGRES_DB of $POSTGRES_USER, secret of ${#POSTGRES_PASSWORD} letters; \
    while read line; do echo got $line; done\"]\n";

async fn lay_out(scene: &Scene, registry: &Registry) {
    let (application, database) = (scene.host("bastion"), scene.host("database"));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let public = application.address().unwrap().to_string();
    let file = DEPLOY_FILE
        .replace("APP", &private(&application))
        .replace(" DB\n", &format!(" {}\n", private(&database)))
        .replace("PUBLIC", &public)
        .replace("REGISTRY\n", &format!("{}\n", registry.address))
        .replace("ARCH", arch);
    for (path, text) in [
        ("config/deploy.yml", file.as_str()),
        (".env", DOTENV),
        (".kamal/secrets", SECRETS),
        ("Dockerfile", DOCKERFILE),
        (".dockerignore", ".env\n.kamal\n"),
    ] {
        scene.project.write(path, text).unwrap();
    }
    lay_in_busybox(scene, &application).await;
    for (name, text) in
        [("rails", RAILS), ("jobs", JOBS), ("bash", "#!/bin/sh\nexec /bin/busybox sh \"$@\"\n")]
    {
        write_program(scene, name, text.as_bytes());
    }
    database.write("/tmp/database/Dockerfile", DATABASE.as_bytes()).await.unwrap();
    database
        .exec("cp /bin/busybox /tmp/database/; docker build --quiet --tag postgres:15 /tmp/database")
        .await
        .unwrap();
}

/// Says whether a host gets an answer from a port.
async fn reaches(from: &Host, address: &str, port: u16) -> bool {
    let ask = format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -c 4 <&3' | grep -q .");
    from.attempt(&ask).await.unwrap().code == Some(0)
}

/// kamal-compat §9 ssh row 3; kamal-compat §9 aliases row 1; kamal-compat §1 row 5
#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_private_host_is_deployed_and_reached_through_the_application_host() {
    let scene = Scene::on(lab().await, &["bastion", "database"]).await;
    let (application, database) = (scene.host("bastion"), scene.host("database"));
    let address = private(&database);
    let outside = scene.host("outside");
    for port in [22, 5432] {
        assert!(!reaches(&outside, &address, port).await, "port {port} of the database host from outside");
    }
    database.exec("mkdir -p /tmp/database").await.unwrap();
    let registry = Registry::start(&scene).await;
    lay_out(&scene, &registry).await;

    let run = scene.run(&["setup", "--version", "1"]).await.expect_code(0).unwrap();
    println!("setup through the bastion: {:?}", run.elapsed);
    assert_eq!(application.containers().await.unwrap(), ["kamal-proxy", "my-app-job-1", "my-app-web-1"]);
    assert_eq!(database.containers().await.unwrap(), ["my-app-db"]);
    let data = database.docker(&["inspect", "--format", "{{(index .Mounts 0).Source}}", "my-app-db"]).await;
    assert_eq!(data.unwrap().trim(), "/root/my-app-db/data");

    // The aliases, each as it stands in the file.
    let run = with_input(&scene, &["console"], "1 + 1\n").await.unwrap().expect_code(0).unwrap();
    assert_eq!(run.stdout, "console: 1 + 1\n");
    let run = with_input(&scene, &["shell"], "echo $RAILS_MASTER_KEY in $PWD\n").await.unwrap();
    assert_eq!(run.expect_code(0).unwrap().stdout, "0123abcd in /rails\n");
    let run = with_input(&scene, &["dbc"], "select 1;\n").await.unwrap().expect_code(0).unwrap();
    assert_eq!(run.stdout, "database my_app_production of db-user, secret of 8 letters\ngot select 1;\n");
    let mut logs = Reading::start(&scene, &["logs"]);
    logs.until("listens on").await;
    assert_eq!(logs.interrupt().await.code, Some(0));

    // The application's hosts file knows the accessory by name, so that `DB_HOST` need not be an address.
    let ask = "echo $FREEHOLD_DB_HOSTS; echo select 2 | busybox nc my-app-db 5432\n";
    let run = with_input(&scene, &["shell"], ask).await.unwrap().expect_code(0).unwrap();
    let expected =
        format!("{address}\ndatabase my_app_production of db-user, secret of 8 letters\ngot select 2\n");
    assert_eq!(run.stdout, expected);
    tunnels(&scene, &address).await;
    doctor(&scene).await;

    // The next release, by the same way; what was there before is not touched.
    scene.project.set_version("2").unwrap();
    let run = scene.run(&["deploy", "--version", "2"]).await.expect_code(0).unwrap();
    println!("deploy through the bastion: {:?}", run.elapsed);
    let run = with_input(&scene, &["shell"], "busybox cat /VERSION\n").await.unwrap();
    assert_eq!(run.expect_code(0).unwrap().stdout.trim(), "2");
    assert!(database.containers().await.unwrap() == ["my-app-db"]);
    for port in [22, 5432] {
        assert!(!reaches(&outside, &address, port).await, "port {port} of the database host from outside");
    }
    assert!(reaches(&application, &address, 5432).await, "from the application host");
}

/// Talks to the stand-in for a database through a port of this machine.
async fn talk(port: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A port of this machine that leads to the database, by the accessory's name and by an address.
async fn tunnels(scene: &Scene, address: &str) {
    let beyond = format!("{address}:5432");
    for target in ["db", "db:5432", &beyond] {
        let mut tunnel = Reading::start(scene, &["tunnel", target]);
        let line = tunnel.until("leads to").await;
        let port = line.split(' ').next().unwrap();
        assert!(port.starts_with("127.0.0.1:"), "{line}");
        let many = tokio::join!(talk(port, "a\n"), talk(port, "b\n"), talk(port, "c\n"));
        for (answer, letter) in [(many.0, "a"), (many.1, "b"), (many.2, "c")] {
            let expected =
                format!("database my_app_production of db-user, secret of 8 letters\ngot {letter}\n");
            assert_eq!(answer, expected, "{target}");
        }
        assert_eq!(tunnel.interrupt().await.code, Some(0), "{target}");
    }
    let run = scene.run(&["tunnel", "db:5433"]).await.expect_code(1).unwrap();
    assert!(run.stderr.contains("cannot connect to"), "{}", run.stderr);
    let run = scene.run(&["tunnel", "cache"]).await.expect_code(2).unwrap();
    assert!(run.stderr.contains("the accessories are: db"), "{}", run.stderr);
}

/// The one thing that is wrong in a lab: no name server knows the application's name, so that there is no certificate.
async fn doctor(scene: &Scene) {
    let run = scene.run(&["doctor", "--json"]).await.expect_code(1).unwrap();
    let first = run.stdout.lines().next().unwrap();
    let diagnosis: serde_json::Value = serde_json::from_str(first).unwrap();
    let findings = diagnosis["result"]["findings"].as_array().unwrap();
    let bad: Vec<_> = findings.iter().filter(|finding| finding["verdict"] != "good").collect();
    assert!(!bad.is_empty(), "{first}");
    for finding in bad {
        assert!(["dns", "certificate"].contains(&finding["check"].as_str().unwrap()), "{finding}");
    }
    for check in
        ["authentication", "engine", "disk", "memory", "clock", "registry", "proxy", "service", "accessory"]
    {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}: {first}");
    }
}
