//! Layers of configuration: put over each other, and what is wrong with one in words of its key.

use figment::providers::{Format, Serialized, Toml};
use figment::{Figment, Profile, Provider};

use super::{ConfigError, ENV_PREFIX, shape};

/// Puts a layer over the others, if it names nothing but sections and keys that there are.
pub(super) fn merge(layers: Figment, layer: impl Provider) -> Result<Figment, ConfigError> {
    let named = layer.data().map_err(|error| from_figment(&layers, &error))?;
    named.get(&Profile::Default).map_or(Ok(()), shape::check)?;
    Ok(layers.merge(layer))
}

/// One variable is one key. Its value is TOML; what is not, such as a bare URL, is a text.
pub(super) fn merge_variable(layers: Figment, name: &str, value: &str) -> Result<Figment, ConfigError> {
    let Some((section, key)) = name[ENV_PREFIX.len()..].split_once("__") else {
        return Ok(layers); // another program's variable
    };
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name(section) || !is_name(key) {
        let accepted = "ACTIONS_<SECTION>__<KEY>, such as ACTIONS_WORKER__POLL_MS";
        return Err(ConfigError::new(name, "a variable that names no section and key", accepted));
    }
    let (section, key) = (section.to_lowercase(), key.to_lowercase());
    // What lies in a table is named by one more step: ACTIONS_CONSOLE__OIDC__ISSUER.
    let key = key.strip_prefix("oidc__").filter(|_| section == "console").map_or(key.clone(), |name| format!("oidc.{name}"));
    let dotted = format!("{section}.{key}");
    let document = format!("{dotted} = {value}");
    let is_toml = !value.contains('\n') && Figment::from(Toml::string(&document)).find_value(&dotted).is_ok();
    if is_toml { merge(layers, Toml::string(&document)) } else { merge(layers, Serialized::default(&dotted, value)) }
}

pub(super) fn from_figment(layers: &Figment, error: &figment::Error) -> ConfigError {
    use figment::error::{Actual, Kind};
    // A key is a section and a name; what lies deeper is part of its value.
    let key = error.path.iter().take(2).cloned().collect::<Vec<_>>().join(".");
    let sensitive = key.contains("url")
        || key == "console.oidc"
        || key.contains("root_keys")
        || ["database", "secrets", "smtp"].contains(&key.as_str());
    let show = |actual: &Actual| match actual {
        Actual::Map => "a table".to_owned(),
        Actual::Seq => "a list".to_owned(),
        _ if sensitive => "a value of the wrong type".to_owned(),
        actual => actual.to_string(),
    };
    match &error.kind {
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            ConfigError::new(&key, show(actual), accepted_form(&key, expected))
        }
        Kind::UnknownVariant(actual, accepted) => ConfigError::new(key, format!("{actual:?}"), accepted.join(", ")),
        _ if sensitive => ConfigError::new(&key, "invalid", accepted_form(&key, "see config/default.toml")),
        other if key.is_empty() => ConfigError::new("the file", without_source(&other.to_string()), "TOML; see config/default.toml"),
        other => {
            // What a parser says of a text leaves the text out. Of lists and tables, the whole is shown.
            let given = layers.find_value(&key).ok().and_then(|value| serde_json::to_string(&value).ok()).unwrap_or_default();
            ConfigError::new(&key, format!("{given}: {other}"), accepted_form(&key, "see config/default.toml"))
        }
    }
}

/// What a key takes, for people; else what the parser says of it.
pub(super) fn accepted_form(key: &str, parser: &str) -> String {
    // An element of a list is named as list and place.
    let form = match key.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()) {
        "egress.allow_cidrs" | "egress.deny_cidrs" => "a list of networks such as [\"10.0.0.0/8\"]",
        "egress.ports" => "a list of ports from 1 to 65535 such as [443, 8443]",
        "egress.nat64_prefix" => "an IPv6 network of 32, 40, 48, 56, 64 or 96 bits such as \"64:ff9b::/96\"",
        "egress.resolve" => "a table of names with their addresses such as {\"hooks.acme.test\" = [\"127.0.0.1\"]}",
        "egress.dns_servers" => "a list of ip:port such as [\"9.9.9.9:53\"]",
        "metrics.listen" => "ip:port such as 127.0.0.1:9464; port 0 is off",
        "log.format" => "pretty, json",
        _ => match parser {
            "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
            "f32" | "f64" => "a number",
            "string" | "a string" => "a text",
            "a boolean" => "true or false",
            "path string" => "the path of a file",
            other => other,
        },
    };
    form.to_owned()
}

/// What a parser says of a file, without the line that it quotes: a secret may stand in it.
fn without_source(message: &str) -> String {
    let quotes = |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    message.lines().filter(|line| !quotes(line)).collect::<Vec<_>>().join(": ")
}
