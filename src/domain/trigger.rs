//! The six moments of an auth event.

super::words! {
    /// The moment of the auth event at which an action is called.
    Trigger("trigger") {
        /// Before the primary factor is verified.
        PreAuthenticate = "pre_authenticate",
        /// After the primary factor, before a session exists.
        PostAuthenticate = "post_authenticate",
        /// Right before the access token is signed: the only one that may change it.
        PreTokenMint = "pre_token_mint",
        /// After the token is signed; informational.
        PostTokenMint = "post_token_mint",
        /// At the top of every sign-up.
        PreRegister = "pre_register",
        /// After the user is stored; informational.
        PostRegister = "post_register",
    }
}

impl Trigger {
    /// Informational triggers never deny, whatever a verdict or fail mode says.
    /// The SQL function `actions_private.can_deny` is the same rule.
    pub fn can_deny(self) -> bool {
        !matches!(self, Self::PostTokenMint | Self::PostRegister)
    }

    /// Whether a verdict may change the token.
    pub fn can_override_token(self) -> bool {
        self == Self::PreTokenMint
    }
}
