//! What a wrong configuration is told.

use super::*;

fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn values_of_the_environment_are_toml_or_else_text() {
    let config = load(&[
        ("ACTIONS_EGRESS__ALLOW_CIDRS", r#"["127.0.0.0/8"]"#),
        ("ACTIONS_EGRESS__RESOLVE", r#"{"hooks.acme.test"=["127.0.0.1"]}"#),
        ("ACTIONS_DATABASE__URL", "postgres://u:p@h/d"),
        ("ACTIONS_WORKER__MAX_IN_FLIGHT", "7"),
        ("ACTIONS_LOG__FORMAT", "json"),
        ("ACTIONS_UNRELATED", "x"),
    ])
    .unwrap();
    assert_eq!(config.egress.resolve["hooks.acme.test"], [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(config.egress.allow_cidrs.len(), 1);
    assert_eq!(config.worker.max_in_flight, 7);
    assert_eq!(config.log.format, Some(LogFormat::Json));
    assert_eq!(config.database.url().unwrap().reveal(), "postgres://u:p@h/d");
}

#[test]
fn errors_name_the_key_what_was_given_and_what_is_accepted() {
    for (variable, value, key, given, accepted) in [
        ("ACTIONS_WORKER__MAX_IN_FLIGHT", "many", "worker.max_in_flight", "many", "a whole number"),
        ("ACTIONS_WORKER__MAX_IN_FLIGHT", "-7", "worker.max_in_flight", "-7", "a whole number"),
        ("ACTIONS_WORKER__MAX_IN_FLIGHT", "0", "worker.max_in_flight", "0", "1 to"),
        ("ACTIONS_WORKER__MAX_INFLIGHT", "1", "worker.max_inflight", "unknown", "max_in_flight"),
        ("ACTIONS_WORKERS__MAX", "1", "workers", "unknown", "worker"),
        ("ACTIONS_LOG__FORMAT", "xml", "log.format", "xml", "json"),
        ("ACTIONS_KILL_SWITCH__ERROR_RATIO", "1.5", "kill_switch.error_ratio", "1.5", "0 to 1"),
        ("ACTIONS_DATABASE__URL", "mysql://u:hunter2@h/d", "database.url", "not a PostgreSQL URL", "postgres://"),
        ("ACTIONS_EGRESS__ALLOW_CIDRS", r#"["10.0.0.0/40"]"#, "egress.allow_cidrs", "10.0.0.0/40", "a list of networks"),
        ("ACTIONS_EGRESS__ALLOW_CIDRS", "10.0.0.0/8", "egress.allow_cidrs", "10.0.0.0/8", "a list of networks"),
        ("ACTIONS_EGRESS__DENY_CIDRS", r#"["fd00::/200"]"#, "egress.deny_cidrs", "fd00::/200", "a list of networks"),
        ("ACTIONS_EGRESS__PORTS", "443", "egress.ports", "443", "a list of ports"),
        ("ACTIONS_EGRESS__PORTS", "[443, 70000]", "egress.ports", "70000", "a list of ports"),
        ("ACTIONS_EGRESS__PORTS", "[0]", "egress.ports", "0", "a list of ports"),
        ("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::/95", "egress.nat64_prefix", "64:ff9b::/95", "of 32, 40, 48, 56, 64 or 96 bits"),
        ("ACTIONS_EGRESS__NAT64_PREFIX", "64:ff9b::1/96", "egress.nat64_prefix", "64:ff9b::1/96", "of 32, 40, 48, 56, 64 or 96 bits"),
        ("ACTIONS_EGRESS__NAT64_PREFIX", "10.0.0.0/8", "egress.nat64_prefix", "10.0.0.0/8", "an IPv6 network"),
        ("ACTIONS_EGRESS__RESOLVE", r#"{"a.b"=["x"]}"#, "egress.resolve", "x", "a table of names"),
        ("ACTIONS_EGRESS__DNS_SERVERS", r#"["1.1.1.1"]"#, "egress.dns_servers", "1.1.1.1", "ip:port"),
        ("ACTIONS_METRICS__LISTEN", "9464", "metrics.listen", "9464", "ip:port"),
        ("ACTIONS_METRICS__LISTEN", "localhost:9464", "metrics.listen", "localhost:9464", "ip:port"),
        ("ACTIONS_TELEMETRY__OTLP_ENDPOINT", "collector:4318", "telemetry.otlp_endpoint", "invalid", "an http:// or https:// URL"),
        ("ACTIONS_TELEMETRY__OTLP_ENDPOINT", "http://u:hunter2@h:4318", "telemetry.otlp_endpoint", "invalid", "without credentials"),
        ("ACTIONS_SECRETS__ROOT_KEYS", "k1:abc", "secrets.root_keys", "64 lower-case hex", ""),
    ] {
        let error = load(&[(variable, value)]).unwrap_err();
        let text = error.to_string();
        assert!(error.key.starts_with(key) && text.contains(given) && text.contains(accepted), "{variable}={value}: {text}");
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn what_is_missing_is_named_with_the_variable_to_set() {
    let text = load(&[]).unwrap().database.url().unwrap_err().clone().to_string();
    assert!(text.contains("database.url") && text.contains("ACTIONS_DATABASE__URL"), "{text}");
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own_and_never_twice() {
    let file = std::env::temp_dir().join(format!("authio-actions-config-{}", uuid::Uuid::new_v4().simple()));
    let path = file.display().to_string();
    for (key, url, of) in [
        ("ACTIONS_DATABASE__URL", "postgres://u:hunter2@h/d", (|config| config.database.url) as fn(Config) -> Option<Hidden>),
        ("ACTIONS_DATABASE__LISTEN_URL", "postgres://u:hunter2@h/d", |config| config.database.listen_url),
        ("ACTIONS_SMTP__URL", "smtps://u:hunter2@h", |config| config.smtp.url),
        ("ACTIONS_ALERTS__WEBHOOK_URL", "https://h/hunter2", |config| config.alerts.webhook_url),
    ] {
        let key_file = format!("{key}_FILE");
        std::fs::write(&file, format!("{url}\n")).unwrap();
        assert_eq!(of(load(&[(&key_file, &path)]).unwrap()), Some(Hidden::from(url)), "{key}");
        let text = load(&[(key, url), (&key_file, &path)]).unwrap_err().to_string();
        assert!(text.contains("one of the two") && !text.contains("hunter2"), "{text}");
        std::fs::write(&file, "\n").unwrap();
        let text = load(&[(&key_file, &path)]).unwrap_err().to_string();
        assert!(text.contains("it is empty") && text.contains("_file: "), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    let text = load(&[("ACTIONS_SMTP__URL_FILE", &path)]).unwrap_err().to_string();
    assert!(text.contains("smtp.url_file") && text.contains("No such file"), "{text}");
}

#[test]
fn no_debug_output_shows_a_password_or_a_key() {
    let key = "ab".repeat(32);
    let config =
        load(&[("ACTIONS_DATABASE__URL", "postgres://u:hunter2@h/d"), ("ACTIONS_SECRETS__ROOT_KEYS", &format!("k1:{key}"))]).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(&key), "{shown}");
}

#[test]
fn the_secret_of_the_provider_is_shown_by_no_error_and_by_no_command() {
    let given = [("ACTIONS_CONSOLE__OIDC__CLIENT_SECRET", "hunter2"), ("ACTIONS_CONSOLE__OIDC__ISSUER", "https://login.example.com")];
    let error = load(&given).unwrap_err();
    assert!(error.key == "console.oidc.client_id" && !error.to_string().contains("hunter2"), "{error}");
    let error = load(&[("ACTIONS_CONSOLE__OIDC", r#"{client_secret = "hunter2", issuer = 7}"#)]).unwrap_err();
    assert!(error.key == "console.oidc" && !error.to_string().contains("hunter2"), "{error}");
    for issuer in ["http://login.example.com", "login.example.com", "ftp://127.0.0.1"] {
        let all = [given[0], ("ACTIONS_CONSOLE__OIDC__CLIENT_ID", "c"), ("ACTIONS_CONSOLE__OIDC__ISSUER", issuer)];
        assert_eq!(load(&all).unwrap_err().key, "console.oidc.issuer", "{issuer}");
    }
    let environment = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let shown = shown::shown(None, environment).unwrap();
    let oidc = shown.iter().find(|one| one.key == "console.oidc").unwrap();
    assert!(oidc.value["issuer"] == "https://login.example.com" && !oidc.value.to_string().contains("hunter2"), "{}", oidc.value);
}

/// A wrong value of every kind for every key: the error names that key, once.
#[test]
fn whatever_kind_of_value_is_wrong_its_key_is_named_once_with_what_is_accepted() {
    let keys = shape::every_key();
    assert!(keys.len() > 25 && keys.iter().any(|key| key == "smtp.from"), "{keys:?}");
    let mut refused = 0;
    for key in &keys {
        let variable = format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase());
        for value in ["{hunter2 = 1}", "{a = {b = 1}}", "[[1]]", "[{a = 1}]", "true", "1.5", "-1", "[]", "1979-05-27", "hunter2", "\"\""] {
            let Err(error) = load(&[(&variable, value)]) else { continue };
            refused += 1;
            assert_eq!(error.key, *key, "{variable}={value}: {error}");
            assert!(!error.given.is_empty() && !error.accepted.is_empty(), "{variable}={value}: {error}");
            let is_open = ["dashboard.url", "console.public_url"].contains(&key.as_str()) || key.ends_with("_file");
            let is_secret = (key.contains("url") || key.contains("root_keys")) && !is_open;
            assert!(!(is_secret && error.to_string().contains("hunter2")), "{error}");
        }
        let under = format!("{key}.deeper = 1");
        let error = load_file(&under).err().filter(|error| error.key == *key);
        assert!(error.is_some() || key == "egress.resolve", "{under}");
    }
    assert!(refused > 150, "{refused}");
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    let path = std::env::temp_dir().join(format!("authio-actions-{}.toml", uuid::Uuid::new_v4().simple()));
    std::fs::write(&path, text).unwrap();
    let loaded = Config::load(Some(&path), std::iter::empty());
    std::fs::remove_file(path).unwrap();
    loaded
}

#[test]
fn a_file_with_other_names_or_values_where_sections_belong_names_them_once() {
    for (text, key, given, accepted) in [
        ("[workers]\npoll_ms = 1", "workers", "unknown section (did you mean worker?)", "a section of database, secrets, worker"),
        ("poll_ms = 1", "poll_ms", "unknown section (did you mean worker.poll_ms?)", "a section of"),
        ("[worker]\nworkers = 1", "worker.workers", "unknown key", "max_in_flight, max_in_flight_per_action, poll_ms"),
        ("[worker]\npol_ms = 1", "worker.pol_ms", "unknown key (did you mean poll_ms?)", "poll_ms"),
        ("[worker.worker]\npoll_ms = 1", "worker.worker", "unknown key", "poll_ms"),
        ("[secrets]\nsecrets = \"k1:hunter2\"", "secrets.secrets", "unknown key", "root_keys"),
        ("secrets = \"k1:hunter2\"", "secrets", "a text where a table belongs", "[secrets] with any of root_keys"),
        ("worker = 5", "worker", "a number where a table belongs", "[worker] with any of max_in_flight"),
        ("[[worker]]\npoll_ms = 50", "worker", "a list where a table belongs", "[worker]"),
        ("log = true", "log", "true or false where a table belongs", "format, filter"),
        ("[worker.poll_ms]\na = 1", "worker.poll_ms", "a table", "a whole number"),
        ("[database]\nurl = { hunter2 = \"x\" }", "database.url", "a table", "a text"),
        ("[egress.resolve.\"a.b\"]\nc = 1", "egress.resolve", "a table", "a table of names"),
        ("egress.allow_cidrs.x = 1", "egress.allow_cidrs", "a table", "a list of networks"),
        ("a.b.c.d = 1", "a", "unknown section", "a section of"),
        ("[worker]\n[worker]", "the file", "duplicate key", "TOML"),
    ] {
        let error = load_file(text).unwrap_err();
        assert_eq!(error.key, key, "{text}: {error}");
        assert!(
            error.given.contains(given) && error.accepted.contains(accepted) && !error.to_string().contains("hunter2"),
            "{text}: {error}"
        );
    }
}

#[test]
fn variables_with_odd_names_are_told_from_those_of_other_programs() {
    for (name, key, given) in [
        ("ACTIONS_WORKER__", "ACTIONS_WORKER__", "names no section and key"),
        ("ACTIONS___POLL_MS", "ACTIONS___POLL_MS", "names no section and key"),
        ("ACTIONS_WORKER__POLL.MS", "ACTIONS_WORKER__POLL.MS", "names no section and key"),
        ("ACTIONS_WORKER__POLL MS", "ACTIONS_WORKER__POLL MS", "names no section and key"),
        ("ACTIONS_WÖRKER__POLL_MS", "ACTIONS_WÖRKER__POLL_MS", "names no section and key"),
        ("ACTIONS_WORKER__WORKER__POLL_MS", "worker.worker__poll_ms", "unknown key"),
        ("ACTIONS_EGRESS__RESOLVE__A", "egress.resolve__a", "unknown key"),
        ("ACTIONS_SECRETS__SECRETS", "secrets.secrets", "unknown key"),
        ("ACTIONS_WORKERS__POLL_MS", "workers", "unknown section (did you mean worker?)"),
    ] {
        let error = load(&[(name, "hunter2")]).unwrap_err();
        assert!(error.key == key && error.given.contains(given) && !error.to_string().contains("hunter2"), "{name}: {error}");
    }
    assert!(load(&[("ACTIONS_TEST_DATABASE_URL", "x"), ("ACTIONS_", "x"), ("ACTIONS_HOME", "x")]).is_ok());
}
