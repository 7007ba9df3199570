package actions

import "encoding/json"

// Trigger is the moment of an auth event.
type Trigger string

// The six triggers.
const (
	PreAuthenticate  Trigger = "pre_authenticate"
	PostAuthenticate Trigger = "post_authenticate"
	PreTokenMint     Trigger = "pre_token_mint"
	PostTokenMint    Trigger = "post_token_mint"
	PreRegister      Trigger = "pre_register"
	PostRegister     Trigger = "post_register"
)

// Event is what an endpoint is asked. The first four members are always there.
type Event struct {
	ID         string  `json:"event_id"`
	Trigger    Trigger `json:"trigger"`
	OccurredAt string  `json:"occurred_at"`
	Project    struct {
		ID string `json:"id"`
	} `json:"project"`
	User     User                       `json:"user"`
	Session  Session                    `json:"session"`
	Token    Token                      `json:"token"`
	Request  Request                    `json:"request"`
	Metadata map[string]json.RawMessage `json:"metadata"`
}

// User is who signs in or up; before registration there is no ID.
type User struct {
	ID            string `json:"id"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
}

// Session is the session, where there is one.
type Session struct {
	ID             string `json:"id"`
	OrganizationID string `json:"organization_id"`
}

// Token is the token that is about to be minted, or was.
type Token struct {
	Type        string   `json:"token_type"`
	Roles       []string `json:"roles"`
	Permissions []string `json:"permissions"`
	TTLSeconds  int64    `json:"ttl_seconds"`
}

// Request is the request of the person who signs in.
type Request struct {
	IP        string `json:"ip"`
	UserAgent string `json:"user_agent"`
}
