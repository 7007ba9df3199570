//! The names that this machine's hosts file points inside.
//!
//! The resolver never reads that file. Such a name is refused all the same: whoever wrote it
//! into an endpoint's URL meant what is inside, and a name server outside may answer it. A
//! name that the file points at a public address is judged by DNS, as everywhere else.

use std::net::IpAddr;

use super::forbidden;

const FILE: &str = "/etc/hosts";

/// The refused names of the machine's hosts file; none where there is no such file.
pub fn names() -> Vec<String> {
    std::fs::read_to_string(FILE).map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().filter_map(|line| line.split('#').next()) {
        let mut words = line.split_whitespace();
        let is_public = words.next().and_then(|word| word.parse::<IpAddr>().ok()).is_some_and(|address| forbidden(address).is_none());
        if !is_public {
            names.extend(words.map(|name| name.trim_matches('.').to_ascii_lowercase()).filter(|name| !name.is_empty()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_inner_addresses_are_read_without_comments() {
        let text = "127.0.0.1\tLocalhost.localdomain # ours\n\n# 10.0.0.1 no\n10.0.0.2 db.corp. db\n8.8.8.8 dns.google\nfe80::1%lo0 x.y\n";
        assert_eq!(parse(text), ["localhost.localdomain", "db.corp", "db", "x.y"]);
    }
}
