//! The rules of the architecture that a machine can hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who may import whom; ARCHITECTURE.md shows the same table.
fn permitted() -> BTreeMap<&'static str, &'static [&'static str]> {
    let loops: &[&str] = &["store", "egress", "sign", "judge", "telemetry", "config", "domain"];
    BTreeMap::from([
        ("domain", &[][..]),
        ("sign", &["domain"]),
        ("judge", &["domain"]),
        ("config", &["sign"]),
        ("telemetry", &["config", "domain"]),
        ("egress", &["config", "domain"]),
        ("store", &["config", "domain"]),
        ("fleet", &["store", "egress", "sign", "judge", "telemetry", "config", "domain", "supervise", "trial"]),
        ("supervise", &[]),
        ("smtp", &["config"]),
        ("janitor", &["store", "smtp", "telemetry", "config", "domain", "supervise"]),
        ("client", loops),
        ("program", &["config", "console", "fleet", "janitor", "store"]),
        ("schema", &["judge", "domain"]),
        ("replay", &["store", "egress", "sign", "judge", "domain", "trial"]),
        ("trial", &["egress", "sign", "judge", "domain"]),
        ("console", &["store", "egress", "sign", "telemetry", "config", "domain", "trial", "replay"]),
        ("ctl", &["store", "egress", "sign", "judge", "telemetry", "config", "domain", "program", "smtp", "trial", "replay", "schema"]),
    ])
}

/// What calls the operator's own hosts: his chat, his collector.
const OPERATORS_OWN: [&str; 2] = ["janitor/alerts.rs", "telemetry/traces.rs"];

#[test]
fn customers_endpoints_are_never_called_with_reqwest() {
    for (room, file, text) in rooms() {
        assert!(
            room == "console" || OPERATORS_OWN.iter().any(|own| file.ends_with(own)) || !text.contains("reqwest"),
            "{}: it resolves names itself",
            file.display()
        );
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

fn rooms() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let with_room = |path: PathBuf| {
        let relative = path.strip_prefix(&src).unwrap().to_owned();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        (first, relative, std::fs::read_to_string(&path).unwrap())
    };
    sources(&src).into_iter().map(with_room).filter(|(room, ..)| room != "lib").collect()
}

#[test]
fn rooms_import_only_whom_they_may() {
    let permitted = permitted();
    let mut seen = 0;
    for (room, file, text) in rooms() {
        let allowed = permitted.get(room.as_str()).unwrap_or_else(|| panic!("the table does not know the room {room}"));
        for line in text.split("crate::").skip(1) {
            let target: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            seen += 1;
            assert!(target == room || allowed.contains(&target.as_str()), "{} imports {target}", file.display());
        }
    }
    assert!(seen > 50, "the test found its lines");
}

#[test]
fn every_file_opens_with_what_it_is() {
    for (_, file, text) in rooms() {
        assert!(text.starts_with("//! "), "{} opens without a word", file.display());
    }
}

#[test]
fn sql_stands_in_the_store_and_sockets_in_egress() {
    for (room, file, text) in rooms() {
        let text = text.split("#[cfg(test)]").next().unwrap();
        assert!(room == "store" || !text.contains("sqlx::"), "{} speaks to the database", file.display());
        let dials = text.contains("TcpStream") || text.contains("hickory");
        assert!(room == "egress" || !dials, "{} opens sockets", file.display());
    }
}
