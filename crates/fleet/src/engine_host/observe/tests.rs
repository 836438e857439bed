use freehold_model::SecretName;

use super::*;
use crate::engine_host::proxy::deploy_request;

fn status(tls: &str) -> ServiceStatus {
    let settings = format!(r#"{{"hosts":["a.example.com"]{tls}}}"#);
    let counters = r#"{"since_switch_ms":1,"requests":0,"upgrades":0,"responses_2xx":0,"responses_3xx":0,
        "responses_4xx":0,"responses_5xx":0,"target_errors":{}}"#;
    let text = format!(
        r#"{{"name":"app-web","settings":{settings},"generation":1,"draining":[],"counters":{counters},
        "targets":[{{"address":"1a2b3c4d5e6f:3000","health":"healthy"}}],"in_flight":{{"requests":0,"tunnels":0}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

// kamal-compat §7 rows 3, 4, 15.
#[test]
fn a_route_is_put_back_with_the_certificate_that_it_had() {
    let folder = "/home/kamal-proxy/.apps-config/app/tls/web";
    let files = format!(
        r#","tls":{{"certificate_path":"{folder}/cert.pem","private_key_path":"{folder}/key.pem","redirect":false}}"#
    );
    let acme = r#","tls":{"acme":{"directory":"https://ca.example.com/","contact":"ops@example.com"},"redirect":true}"#;
    let name = |text: &str| SecretName::parse(text).unwrap();
    let custom = Tls::Custom { certificate: name("CERT"), private_key: name("KEY") };
    let wanted = ProxySettings { tls: custom.clone(), ..ProxySettings::default() };
    for (tls, settings) in [("", Tls::Off), (&files, custom)] {
        let status = status(tls);
        let route = route_of(Some(wanted.clone()), &status);
        assert_eq!(route.settings.tls, settings);
        assert_eq!(deploy_request(&route).unwrap().settings.tls, status.settings.tls);
    }
    // The project may want something else by now.
    let fleet = r#","tls":{"acme":{"skip_name_check":true,"fleet":{"peers":["one:80"]}},"redirect":true,
        "clients":{"ca_pem":"PEM","mode":"optional","crl_pem":"CRL"}}"#;
    for tls in ["", &files, acme, fleet] {
        let status = status(tls);
        let route = route_of(None, &status);
        assert_eq!(deploy_request(&route).unwrap().settings.tls, status.settings.tls, "{tls}");
    }
}

#[test]
fn a_route_is_put_back_with_what_targets_are_known_by() {
    let tls = r#"{"ca_pem":"PEM","server_name":"app.internal"}"#;
    let status = status(&format!(r#","target_protocol":"h2","target_tls":{tls}"#));
    let again = deploy_request(&route_of(None, &status)).unwrap().settings;
    assert_eq!(again.target_protocol, status.settings.target_protocol);
    assert!(again.target_tls.is_some());
    assert_eq!(again.target_tls, status.settings.target_tls);
}

#[test]
fn a_route_is_put_back_with_its_rules_and_users() {
    let file = "/home/kamal-proxy/.apps-config/app/users/web/users";
    let rules = r#"{"balance":"least_connections","client_rate":"20/1s","block":["192.0.2.0/24"]}"#;
    let status = status(&format!(r#","traffic":{rules},"basic_auth_file":"{file}""#));
    let users = SecretName::parse("USERS").unwrap();
    let wanted = ProxySettings { basic_auth: Some(users.clone()), ..ProxySettings::default() };
    for (wanted, named) in [(Some(wanted), Some(users)), (None, None)] {
        let route = route_of(wanted, &status);
        assert_eq!(route.settings.basic_auth, named);
        let again = deploy_request(&route).unwrap().settings;
        assert_eq!(again.basic_auth_file.as_deref(), Some(file));
        assert_eq!(again.traffic, status.settings.traffic);
    }
}

/// What `kamal-proxy deploy` can say and a deploy file cannot.
#[test]
fn a_route_is_put_back_with_settings_that_no_deploy_file_has() {
    let mut status = status(
        r#","canonical_host":"a.example.com","health_check":{"path":"/up","host":"health.example.com","port":9000,
        "interval_ms":1000,"timeout_ms":5000},
        "tls":{"acme":{"cache_path":"/certs","fleet":{"peers":["one:80"],"key_path":"/key"}},"redirect":true,
        "clients":{"ca_path":"/ca.pem","crl_path":"/crl.pem"}}"#,
    );
    status.read_targets.clone_from(&status.targets);
    // Written down with a plan, and read again by whoever undoes it.
    let route = serde_json::to_string(&route_of(Some(ProxySettings::default()), &status)).unwrap();
    let again = deploy_request(&serde_json::from_str(&route).unwrap()).unwrap();
    assert_eq!(again.settings, status.settings);
    assert_eq!(again.read_targets, again.targets);
    assert_eq!(again.targets[0].to_string(), "1a2b3c4d5e6f:3000");

    let unreadable = Route { stored: Some("{}".to_owned()), ..route_of(None, &status) };
    let error = deploy_request(&unreadable).unwrap_err();
    assert_eq!(error.to_string(), "what the proxy served before cannot be read");
}
