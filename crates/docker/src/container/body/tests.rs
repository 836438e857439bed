use freehold_model::{ContainerName, ImageId};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::ImageName;

fn spec() -> ContainerSpec {
    let image = ImageId::parse(format!("sha256:{}", "a1".repeat(32))).unwrap();
    ContainerSpec::new(ContainerName::parse("app-web-1").unwrap(), ImageName::Id(image))
}

fn written(spec: &ContainerSpec) -> Value {
    serde_json::to_value(create_body(spec).unwrap()).unwrap()
}

#[test]
fn secrets_show_only_in_the_written_request() {
    let mut spec = spec();
    spec.env.insert(EnvName::parse("A").unwrap(), EnvValue::Clear("1".to_owned()));
    let secret = EnvValue::Secret(SecretString::from("marked-secret"));
    spec.env.insert(EnvName::parse("B").unwrap(), secret);
    let body = create_body(&spec).unwrap();
    assert!(!format!("{spec:?} {body:?}").contains("marked-secret"));
    assert_eq!(serde_json::to_value(&body).unwrap()["Env"], json!(["B=marked-secret", "A=1"]));
}

#[test]
fn volumes_are_binds_named_or_anonymous() {
    let mut spec = spec();
    spec.volumes = ["data:/data", "/srv/x:/x:ro,z", "/cache"].map(str::to_owned).to_vec();
    let body = written(&spec);
    assert_eq!(body["HostConfig"]["Binds"], json!(["data:/data", "/srv/x:/x:ro,z"]));
    assert_eq!(body["Volumes"], json!({"/cache": {}}));
    for relative in ["./x:/x", "a/b:/x", "~/x:/x"] {
        spec.volumes = vec![relative.to_owned()];
        assert!(matches!(create_body(&spec), Err(SpecError::RelativeVolume { .. })), "{relative}");
    }
}

#[test]
fn security_options_become_the_fields_of_the_api() {
    let mut spec = spec();
    spec.options.security_opt =
        ["no-new-privileges", "systempaths=unconfined", "seccomp=unconfined"].map(str::to_owned).to_vec();
    let body = written(&spec);
    assert_eq!(body["HostConfig"]["SecurityOpt"], json!(["no-new-privileges", "seccomp=unconfined"]));
    assert_eq!(body["HostConfig"]["MaskedPaths"], json!([]));
    spec.options.security_opt = vec!["seccomp=profile.json".to_owned()];
    assert!(matches!(create_body(&spec), Err(SpecError::SeccompFile { .. })));
}

#[test]
fn hosts_may_be_given_with_an_equals_sign() {
    let mut spec = spec();
    spec.options.add_host = ["a:1.2.3.4", "b=::1", "c:::1"].map(str::to_owned).to_vec();
    assert_eq!(written(&spec)["HostConfig"]["ExtraHosts"], json!(["a:1.2.3.4", "b:::1", "c:::1"]));
}

#[test]
fn aliases_need_a_network() {
    let mut spec = spec();
    spec.network_aliases = vec!["web".to_owned()];
    assert!(written(&spec).get("NetworkingConfig").is_none());
    spec.network = Some("kamal".to_owned());
    assert_eq!(written(&spec)["NetworkingConfig"]["EndpointsConfig"]["kamal"]["Aliases"], json!(["web"]));
}
