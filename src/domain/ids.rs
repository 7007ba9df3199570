//! Identifiers: a prefix and the 26 Crockford base-32 characters of a UUIDv7.

/// A new event id, `evt_…`.
pub fn new_event_id() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = uuid::Uuid::now_v7().as_u128();
    let letters = (0..26).rev().map(|n| char::from(ALPHABET[(bits >> (5 * n)) as usize & 31]));
    let mut id = String::with_capacity(30);
    id.push_str("evt_");
    id.extend(letters);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_have_the_form_of_the_contract() {
        let id = new_event_id();
        let letters = id.strip_prefix("evt_").unwrap();
        assert_eq!(letters.len(), 26);
        assert!(letters.starts_with('0') && letters.chars().all(|c| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c))));
        assert_ne!(id, new_event_id());
    }
}
