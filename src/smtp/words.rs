//! What a mail server said, made fit for a log and for operators: one line, short, and without
//! the names of people, which mail servers like to repeat.

/// The most characters that are kept.
const LONGEST: usize = 500;

/// One line without what stands before any @, and without the recipient's own name where it stands
/// by itself.
pub fn tidy(said: &str, recipient: &str) -> String {
    let name = recipient.rsplit_once('@').map_or("", |(name, _)| name);
    let mut tidy = String::new();
    let mut word = String::new();
    for c in said.chars().map(|c| if c.is_control() { ' ' } else { c }).chain([' ']) {
        if is_of_word(c) {
            word.push(c);
            continue;
        }
        let bare = word.trim_matches('.');
        let names_a_person = !bare.is_empty() && (c == '@' || bare.eq_ignore_ascii_case(name));
        tidy.push_str(if names_a_person { "…" } else { &word });
        word.clear();
        tidy.push(c);
    }
    let one_line = tidy.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().take(LONGEST).collect()
}

/// What may stand before an @, and anything beyond ASCII.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || (!c.is_ascii() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_and_it_is_one_short_line() {
        let said = "permanent error (550): 5.1.1 <Ada.L@acme.com>: User ada.l unknown;\r\nsee ada.l@other.example.\u{7}";
        assert_eq!(tidy(said, "ada.l@acme.com"), "permanent error (550): 5.1.1 <…@acme.com>: User … unknown; see …@other.example.");
        assert_eq!(tidy(&"é ".repeat(900), "").chars().count(), LONGEST);
    }
}
