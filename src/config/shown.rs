//! Every key with the value that the layers give it, and where it comes from. Secrets and
//! passwords are hidden. Called by `actionsctl config show`.

use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::Value;

use super::layers::merge_variable;
use super::shape::every_key;
use super::{ConfigError, DEFAULTS, ENV_PREFIX};

/// What stands in the place of something that nobody may see.
const HIDDEN: &str = "<hidden>";
/// Parameters of a URL that hold a secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];

/// One key of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `section.key`.
    pub key: String,
    /// As JSON; null where it is not set.
    pub value: serde_json::Value,
    /// `default`, `file PATH`, `environment VARIABLE`, or `not set`. The parts of a table may come
    /// from several.
    pub origin: String,
}

/// A layer and what it is called.
struct Layer {
    figment: Figment,
    name: String,
}

/// Every key, section by section.
pub fn shown(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Vec<Shown>, ConfigError> {
    let mut layers = vec![Layer { figment: Figment::from(Toml::string(DEFAULTS)), name: "default".to_owned() }];
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new("--config", format!("{}: {error}", path.display()), "the path of a TOML file"))?;
        layers.push(Layer { figment: Figment::from(Toml::string(&text)), name: format!("file {}", path.display()) });
    }
    let mut environment: Vec<_> = environment.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    environment.sort();
    for (name, value) in environment {
        layers.push(Layer { figment: merge_variable(Figment::new(), &name, &value)?, name: format!("environment {name}") });
    }
    Ok(every_key().into_iter().map(|key| of_key(&layers, key)).collect())
}

fn of_key(layers: &[Layer], key: String) -> Shown {
    let mut value = Figment::new();
    let mut origins: Vec<&str> = Vec::new();
    for layer in layers {
        let Ok(found) = layer.figment.find_value(&key) else { continue };
        let is_table = matches!(&found, Value::Dict(..));
        if matches!(&found, Value::Dict(_, entries) if entries.is_empty()) && !origins.is_empty() {
            continue; // an empty table adds nothing to one that is there
        }
        if !is_table || origins == ["default"] && is_empty_table(&value, &key) {
            origins.clear(); // a later layer replaces a value, and adds to a table
        }
        origins.push(&layer.name);
        value = value.merge(figment::providers::Serialized::default(&key, found));
    }
    let found = value.find_value(&key).ok().and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default();
    let origin = if origins.is_empty() { "not set".to_owned() } else { origins.join(", ") };
    Shown { value: hidden(&key, found), key, origin }
}

fn is_empty_table(value: &Figment, key: &str) -> bool {
    matches!(value.find_value(key), Ok(Value::Dict(_, entries)) if entries.is_empty())
}

fn hidden(key: &str, value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) if is_secret(key) => Value::String(without_keys(&text)),
        Value::String(text) => Value::String(without_password(&text)),
        Value::Array(parts) => parts.into_iter().map(|part| hidden(key, part)).collect(),
        Value::Object(parts) => parts.into_iter().map(|(name, part)| (name.clone(), hidden(&format!("{key}.{name}"), part))).collect(),
        other if is_secret(key) && !other.is_null() => Value::String(HIDDEN.to_owned()),
        other => other,
    }
}

/// Whether the value itself is a secret; the path of a file that holds it is none.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    !name.ends_with("_file")
        && (key.starts_with("secrets.") || ["secret", "password", "token", "webhook"].iter().any(|word| name.contains(word)))
}

/// The ids of root keys without the keys.
fn without_keys(text: &str) -> String {
    let one = |part: &str| part.split_once(':').map_or_else(|| HIDDEN.to_owned(), |(id, _)| format!("{}:{HIDDEN}", id.trim()));
    text.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// A URL without its password, also one of several hosts, which no parser of URLs takes.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    // The last @, because a password may hold one, too.
    let (before, query) = match (before.rsplit_once('@'), query) {
        (Some((user, place)), query) => (format!("{}@{place}", without_secret_part(user)), query),
        (None, Some(query)) if before.contains(':') && query.contains('@') => (HIDDEN.to_owned(), None), // a ? in the password
        (None, query) => (before.to_owned(), query),
    };
    let one = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if url::form_urlencoded::parse(name.as_bytes()).any(|(name, _)| SECRET_PARAMETERS.contains(&name.as_ref())) => {
            format!("{name}={HIDDEN}")
        }
        _ => pair.to_owned(),
    };
    let query = query.map(|query| format!("?{}", query.split('&').map(one).collect::<Vec<_>>().join("&"))).unwrap_or_default();
    format!("{scheme}://{before}{query}")
}

fn without_secret_part(user: &str) -> String {
    user.split_once(':').map_or_else(|| user.to_owned(), |(name, _)| format!("{name}:{HIDDEN}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(file: Option<&Path>, variables: &[(&str, &str)]) -> Vec<Shown> {
        shown(file, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
    }

    #[test]
    fn each_value_tells_its_layer() {
        let file = std::env::temp_dir().join(format!("authio-actions-shown-{}.toml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&file, "[worker]\nmax_in_flight = 7\npoll_ms = 50\n[egress.resolve]\n\"a.test\" = [\"192.0.2.1\"]\n").unwrap();
        let variables = [("ACTIONS_WORKER__POLL_MS", "60"), ("ACTIONS_EGRESS__RESOLVE", r#"{"b.test"=["192.0.2.2"]}"#)];
        let all = show(Some(&file), &variables);
        let of =
            |key: &str| all.iter().find(|shown| shown.key == key).map(|shown| (shown.value.to_string(), shown.origin.clone())).unwrap();
        let from_file = format!("file {}", file.display());
        assert_eq!(of("worker.max_in_flight"), ("7".to_owned(), from_file.clone()));
        assert_eq!(of("worker.poll_ms"), ("60".to_owned(), "environment ACTIONS_WORKER__POLL_MS".to_owned()));
        assert_eq!(of("worker.max_in_flight_per_action"), ("1024".to_owned(), "default".to_owned()));
        assert_eq!(of("database.url"), ("null".to_owned(), "not set".to_owned()));
        let (value, origin) = of("egress.resolve");
        assert!(value.contains("a.test") && value.contains("b.test"), "{value}");
        assert_eq!(origin, format!("{from_file}, environment ACTIONS_EGRESS__RESOLVE"));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn no_password_and_no_key_is_shown() {
        for (given, wanted) in [
            ("postgres://u:hunter2@h/d", "postgres://u:<hidden>@h/d"),
            ("postgres://u:hun@ter2@h1:1,h2:2/d?sslmode=require", "postgres://u:<hidden>@h1:1,h2:2/d?sslmode=require"),
            ("postgres://u:hun/ter2@h/d", "postgres://u:<hidden>@h/d"),
            ("postgres://u:hun?ter2@h/d", "postgres://<hidden>"),
            ("postgres://u@h/d?pass%77ord=hunter2&a=b", "postgres://u@h/d?pass%77ord=<hidden>&a=b"),
            ("smtps://u:hunter2@mail.example:465", "smtps://u:<hidden>@mail.example:465"),
            ("https://dashboard.example/a", "https://dashboard.example/a"),
        ] {
            assert_eq!(without_password(given), wanted);
        }
        let all = show(None, &[("ACTIONS_SECRETS__ROOT_KEYS", "k2:aaaa,k1:bbbb"), ("ACTIONS_SECRETS__ROOT_KEYS_FILE", "/etc/keys")]);
        let of = |key: &str| all.iter().find(|shown| shown.key == key).unwrap().value.clone();
        assert_eq!((of("secrets.root_keys"), of("secrets.root_keys_file")), ("k2:<hidden>,k1:<hidden>".into(), "/etc/keys".into()));
    }
}
