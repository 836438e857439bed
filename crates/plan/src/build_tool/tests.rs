use freehold_model::{Repository, Tag};

use super::*;

fn builder(architectures: &[Architecture]) -> Builder {
    Builder { architectures: architectures.to_vec(), ..Builder::default() }
}

fn tool(builder: &Builder) -> BuildTool {
    build_tool(builder, false, Some(Architecture::Amd64))
}

fn buildx(builder: &Builder, uses_local_registry: bool) -> Buildx {
    match build_tool(builder, uses_local_registry, Some(Architecture::Amd64)) {
        BuildTool::Buildx(buildx) => buildx,
        other => panic!("{other:?}"),
    }
}

const SSH: &str = "ssh://ann@build.example.com:2222";

fn remote(builder: Builder) -> Builder {
    Builder { remote: Some(SSH.to_owned()), ..builder }
}

/// kamal-compat §6 rows 11, 12, 13, 16, 17, 18, 19, 20, 21.
#[test]
fn what_builds_follows_kamals_rules() {
    use Architecture::{Amd64, Arm64};
    assert_eq!(tool(&builder(&[])), BuildTool::Engine);
    assert_eq!(tool(&builder(&[Arm64])), BuildTool::Engine);
    assert_eq!(tool(&Builder { driver: BuildDriver::Docker, ..builder(&[Amd64]) }), BuildTool::Engine);
    // A remote engine builds what this one cannot, or all where this one may not.
    assert_eq!(tool(&remote(builder(&[Amd64]))), BuildTool::Engine);
    assert_eq!(tool(&remote(builder(&[Arm64]))), BuildTool::RemoteEngine(SSH.to_owned()));
    let never_here = Builder { local: false, ..remote(builder(&[Amd64])) };
    assert_eq!(tool(&never_here), BuildTool::RemoteEngine(SSH.to_owned()));
    assert_eq!(
        build_tool(&remote(builder(&[Amd64])), false, None),
        BuildTool::RemoteEngine(SSH.to_owned()),
        "an engine that does not answer builds nothing"
    );
    let both = buildx(&remote(builder(&[Amd64, Arm64])), false);
    assert_eq!(
        both.name().as_deref(),
        Some("kamal-hybrid-docker-container-ssh---ann-build-example-com-2222")
    );
    let kind =
        |kind: &BuildxKind| format!("{kind:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
    assert_eq!(kind(&buildx(&builder(&[Amd64, Arm64]), false).kind), "Local");
    let cloud = Builder { driver: BuildDriver::Cloud("acme/fast".to_owned()), ..builder(&[Amd64]) };
    assert_eq!(buildx(&cloud, false).name().as_deref(), Some("cloud-acme-fast"));
    let pack = Buildpacks { builder: "heroku/builder:24".to_owned(), buildpacks: Vec::new() };
    let packed = Builder { pack: Some(pack.clone()), ..builder(&[Amd64]) };
    assert_eq!(tool(&packed), BuildTool::Pack(pack));
    for wish in ["true", "mode=max"] {
        let attested = Builder { provenance: Some(wish.to_owned()), ..builder(&[Amd64]) };
        assert_eq!(kind(&buildx(&attested, false).kind), "Local");
    }
    let none =
        Builder { provenance: Some("false".to_owned()), sbom: Some("false".to_owned()), ..builder(&[Amd64]) };
    assert_eq!(tool(&none), BuildTool::Engine);
}

fn lines(lines: &[Vec<String>]) -> Vec<String> {
    lines.iter().map(|line| line.join(" ")).collect()
}

/// kamal-compat §6 rows 16, 18, 19, 20; kamal-compat §5 local row 1: names and flags of builders.
#[test]
fn builders_are_made_and_removed_as_by_kamal() {
    use Architecture::{Amd64, Arm64};
    let local = buildx(&builder(&[Amd64, Arm64]), false);
    assert_eq!(
        lines(&local.create()),
        ["buildx create --name kamal-local-docker-container --driver=docker-container"]
    );
    assert_eq!(
        local.inspect().map(|line| line.join(" ")).as_deref(),
        Some("buildx inspect kamal-local-docker-container")
    );
    assert_eq!(lines(&local.remove()), ["buildx rm kamal-local-docker-container"]);
    let near = buildx(&builder(&[Amd64, Arm64]), true);
    assert_eq!(
        lines(&near.create()),
        [
            "buildx create --name kamal-local-registry-docker-container --driver=docker-container --driver-opt network=host"
        ]
    );
    let far = buildx(&Builder { local: false, ..remote(builder(&[Amd64, Arm64])) }, false);
    let name = "kamal-remote-ssh---ann-build-example-com-2222";
    assert_eq!(
        lines(&far.create()),
        [
            format!("context create {name}-context --description {name} host --docker host={SSH}"),
            format!("buildx create --name {name} {name}-context"),
        ]
    );
    assert_eq!(lines(&far.remove()), [format!("context rm {name}-context"), format!("buildx rm {name}")]);
    assert!(far.is_remote());
    let both = buildx(&remote(builder(&[Amd64, Arm64])), false);
    let name = "kamal-hybrid-docker-container-ssh---ann-build-example-com-2222";
    assert_eq!(
        lines(&both.create()),
        [
            format!("buildx create --platform linux/amd64 --name {name} --driver=docker-container"),
            format!("context create {name}-context --description {name} host --docker host={SSH}"),
            format!("buildx create --platform linux/arm64 --append --name {name} {name}-context"),
        ]
    );
    let cloud =
        buildx(&Builder { driver: BuildDriver::Cloud("acme/fast".to_owned()), ..builder(&[]) }, false);
    assert_eq!(lines(&cloud.create()), ["buildx create --driver cloud acme/fast"]);
    let engine = Buildx { driver: "docker".to_owned(), ..local };
    assert!(engine.create().is_empty() && engine.remove().is_empty() && engine.inspect().is_none());
}

fn tags() -> Vec<ImageReference> {
    ["1", "latest"]
        .map(|tag| ImageReference {
            repository: Repository::parse("ghcr.io/acme/shop").expect("a name"),
            tag: Tag::parse(tag).expect("a tag"),
        })
        .to_vec()
}

/// kamal-compat §6 rows 1, 3, 4, 5, 6, 7, 8, 9, 10, 15, 22.
#[test]
fn buildx_is_told_everything() {
    let builder = Builder {
        target: Some("run".to_owned()),
        args: BTreeMap::from([("A".to_owned(), "x y".to_owned())]),
        secrets: vec![SecretName::parse("TOKEN").expect("a name")],
        ssh: Some("default=$SSH_AUTH_SOCK,${MORE}$".to_owned()),
        cache: Some(BuildCache {
            kind: CacheKind::Registry(Repository::parse("ghcr.io/acme/shop-build-cache").expect("a name")),
            options: Some("mode=max".to_owned()),
        }),
        provenance: Some("mode=max".to_owned()),
        sbom: Some("true".to_owned()),
        ..builder(&[Architecture::Amd64, Architecture::Arm64])
    };
    let environment = BTreeMap::from([("SSH_AUTH_SOCK".to_owned(), "/run/agent".to_owned())]);
    let command = BuildxCommand {
        buildx: &buildx(&builder, false),
        builder: &builder,
        tags: &tags(),
        labels: &BTreeMap::from([("service".to_owned(), "shop".to_owned())]),
        output: "registry",
        is_uncached: true,
        context: "/src",
        environment: &environment,
    };
    let expected = "buildx build --output=type=registry --platform linux/amd64,linux/arm64 \
        --builder kamal-local-docker-container -t ghcr.io/acme/shop:1 -t ghcr.io/acme/shop:latest \
        --cache-to type=registry,ref=ghcr.io/acme/shop-build-cache,mode=max \
        --cache-from type=registry,ref=ghcr.io/acme/shop-build-cache --label service=shop --build-arg A=x y \
        --secret id=TOKEN --file /src/Dockerfile --target run --ssh default=/run/agent,$ --provenance mode=max \
        --sbom true --no-cache /src";
    assert_eq!(command.words().join(" "), expected);
    let gha = BuildCache { kind: CacheKind::Gha, options: Some("mode=max,scope=x,token=t".to_owned()) };
    let expected = ("type=gha,mode=max,scope=x,token=t".to_owned(), "type=gha,scope=x,token=t".to_owned());
    assert_eq!(cache_flags(&gha), expected);
    let local =
        BuildCache { kind: CacheKind::Local("/var/cache/shop".into()), options: Some("mode=max".to_owned()) };
    let expected =
        ("type=local,dest=/var/cache/shop,mode=max".to_owned(), "type=local,src=/var/cache/shop".to_owned());
    assert_eq!(cache_flags(&local), expected);
}

/// kamal-compat §6 row 14.
#[test]
fn pack_is_told_names_and_no_values() {
    let builder = Builder {
        args: BTreeMap::from([("A".to_owned(), "x y".to_owned())]),
        secrets: vec![SecretName::parse("TOKEN").expect("a name")],
        ..builder(&[Architecture::Arm64])
    };
    let pack = Buildpacks {
        builder: "heroku/builder:24".to_owned(),
        buildpacks: vec!["heroku/ruby".to_owned(), "heroku/procfile".to_owned()],
    };
    let command = PackCommand {
        pack: &pack,
        builder: &builder,
        tags: &tags(),
        service: "shop",
        is_uncached: true,
        context: "/src",
    };
    let expected = "build ghcr.io/acme/shop --platform linux/arm64 --creation-time now --builder heroku/builder:24 \
        --buildpack heroku/ruby --buildpack heroku/procfile --buildpack paketo-buildpacks/image-labels \
        -t ghcr.io/acme/shop:1 -t ghcr.io/acme/shop:latest --env BP_IMAGE_LABELS=service=shop --env A --env TOKEN \
        --path /src --clear-cache";
    assert_eq!(command.words().join(" "), expected);
}
