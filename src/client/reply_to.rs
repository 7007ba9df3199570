//! Where this client listens, and the token by which it knows a result.
//!
//! PostgreSQL lets anybody in a database notify any channel, and monitoring shows its name. So a
//! result is believed only if it carries what the client and the fleet alone know.

/// A channel and a token, both random: `channel/token`.
#[derive(Clone)]
pub struct ReplyTo {
    text: String,
    channel_len: usize,
}

impl ReplyTo {
    /// A channel that nobody else has, and 32 random letters and digits.
    pub fn random() -> Self {
        let channel = format!("actions_reply_{}", uuid::Uuid::new_v4().simple());
        let token = uuid::Uuid::new_v4().simple();
        Self { text: format!("{channel}/{token}"), channel_len: channel.len() }
    }

    /// What enqueue takes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where to listen.
    pub fn channel(&self) -> &str {
        &self.text[..self.channel_len]
    }

    /// What a result must carry.
    pub fn token(&self) -> &str {
        &self.text[self.channel_len + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_and_token_are_random_and_in_their_place() {
        let (one, other) = (ReplyTo::random(), ReplyTo::random());
        assert_eq!(format!("{}/{}", one.channel(), one.token()), one.as_str());
        assert!(one.token().len() == 32 && one.token() != other.token() && one.channel() != other.channel());
    }
}
