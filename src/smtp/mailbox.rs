//! What a mailbox is: the one rule for whom mail is sent to.
//!
//! Called by the mailer before each mail. `actions_private.mailbox_fault` is the same rule in SQL,
//! asked when members are set; a fact holds both to the same table and to every letter. It never
//! asks DNS or a mail server whether the mailbox exists.

use std::ops::RangeInclusive;

use idna::AsciiDenyList;
use lettre::Address;

/// What stands beside letters and digits in an atom (RFC 5322).
const ATOM_SIGNS: &str = "!#$%&'*+-/=?^_`{|}~";
const LONGEST: usize = 254;
const LONGEST_LOCAL: usize = 64;
const LONGEST_LABEL: usize = 63;

/// Letters that IDNA keeps as they are, wherever they stand in a label. No capitals, which IDNA
/// would map, and no marks, which it would compose: so SQL can tell the ASCII form's length. Whoever
/// has another name gives it in its ASCII form.
const LEFT_TO_RIGHT: &[RangeInclusive<char>] =
    &['ß'..='ö', 'ø'..='ÿ', 'ά'..='ώ', 'а'..='џ', 'ա'..='ֆ', 'ა'..='ჰ', 'ぁ'..='ゖ', 'ァ'..='ヺ', '㐀'..='䶿', '一'..='鿿', '가'..='힣'];
/// Those that do not stand in a row.
const SINGLE: &str = "āăąćĉċčďđēĕėęěĝğġģĥħĩīĭįıĵķĸĺļľłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷźżžơưșțґạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ々ー";
/// A label is written in one direction.
const RIGHT_TO_LEFT: &[RangeInclusive<char>] = &['א'..='ת', 'ؠ'..='ؿ', 'ف'..='ي'];
const SINGLE_RIGHT_TO_LEFT: &str = "پچڈڑژکگںھہیے";

/// What is wrong with a mailbox, as a sentence that the mailbox begins.
pub type Fault = &'static str;

/// The address that mail is sent to: the mailbox with its domain in ASCII.
pub fn address(mailbox: &str) -> Result<Address, Fault> {
    let (local, domain) = parts(mailbox)?;
    let labels: Vec<String> = domain.split('.').map(ascii_label).collect::<Result<_, _>>()?;
    let domain = labels.join(".");
    if local.len() + 1 + domain.len() > LONGEST {
        return Err("has more than 254 characters in its ASCII form");
    }
    Address::new(local, domain).map_err(|_| "is no address that can be sent to")
}

/// What stands before and behind the @, without a look at the labels.
fn parts(mailbox: &str) -> Result<(&str, &str), Fault> {
    if mailbox.chars().count() > LONGEST {
        return Err("has more than 254 characters in its ASCII form");
    }
    if mailbox.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    let (local, domain) = mailbox.rsplit_once('@').ok_or("has no @")?;
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(|c| c.is_ascii_alphanumeric() || ATOM_SIGNS.contains(c));
    if local.is_empty() || domain.is_empty() {
        Err("has nothing before or behind the @")
    } else if !local.is_ascii() {
        Err("has letters beyond ASCII before the @, which many mail servers cannot deliver")
    } else if !local.split('.').all(is_atom) {
        Err("has more than letters, digits, inner dots and !#$%&'*+-/=?^_`{|}~ before the @")
    } else if local.len() > LONGEST_LOCAL {
        Err("has more than 64 characters before the @")
    } else if domain.starts_with('[')
        || domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty())
    {
        Err("has an IP address or a number where the domain belongs")
    } else {
        Ok((local, domain))
    }
}

/// The ASCII form of one label of a domain.
fn ascii_label(label: &str) -> Result<String, Fault> {
    let wrong = "has a domain label of other than letters, digits and inner hyphens";
    let ascii = if label.is_ascii() {
        label.to_owned()
    } else if is_international(label) {
        idna::domain_to_ascii_cow(label.as_bytes(), AsciiDenyList::STD3).map_err(|_| wrong)?.into_owned()
    } else {
        return Err("has a domain label with a letter that is not taken as it is: give the label in its ASCII form, xn--…");
    };
    let is_plain = ascii.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !ascii.starts_with('-') && !ascii.ends_with('-');
    if ascii.is_empty() || !is_plain {
        Err(wrong)
    } else if ascii.len() > LONGEST_LABEL {
        Err("has a domain label of more than 63 characters in its ASCII form")
    } else {
        Ok(ascii)
    }
}

fn is_international(label: &str) -> bool {
    let within =
        |c: char, ranges: &[RangeInclusive<char>], single: &str| ranges.iter().any(|range| range.contains(&c)) || single.contains(c);
    let is_left_to_right = |c: char| c.is_ascii_alphanumeric() || c == '-' || within(c, LEFT_TO_RIGHT, SINGLE);
    let has_reserved_hyphens = label.chars().skip(2).take(2).eq("--".chars());
    label.chars().all(|c| within(c, RIGHT_TO_LEFT, SINGLE_RIGHT_TO_LEFT))
        || label.chars().all(is_left_to_right) && !label.starts_with('-') && !label.ends_with('-') && !has_reserved_hyphens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idna_keeps_every_letter_that_the_rule_takes_wherever_it_stands() {
        for c in ('\u{80}'..=char::MAX).filter(|c| is_international(&c.to_string())) {
            let is_right_to_left = !is_international(&format!("{c}a"));
            let labels =
                if is_right_to_left { vec![format!("{c}{c}")] } else { vec![format!("{c}a"), format!("1{c}"), format!("a-{c}{c}")] };
            for label in labels {
                let ascii = ascii_label(&label).unwrap_or_else(|fault| panic!("{label} {fault}"));
                let (kept, outcome) = idna::domain_to_unicode(&ascii);
                assert!(ascii.starts_with("xn--") && outcome.is_ok() && kept == label, "{label}: {ascii}, {kept}");
            }
        }
    }

    #[test]
    fn a_domain_is_sent_in_its_ascii_form() {
        assert_eq!(address("ada@bücher.Example").map(|address| address.to_string()), Ok("ada@xn--bcher-kva.Example".to_owned()));
    }
}
