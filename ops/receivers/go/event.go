package actions

import (
	"encoding/json"
	"errors"
)

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

var errNoEvent = errors.New("actions: not an event")

// UnmarshalJSON reads the members by their exact names, which encoding/json alone does not: an event's own key "Trigger"
// is not its trigger. Only the envelope has to be as it should; what else has another type than here is left out,
// because it is what somebody else wrote, and no reason to fail.
func (e *Event) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	*e = Event{}
	for name, member := range map[string]any{"event_id": &e.ID, "trigger": &e.Trigger} {
		if err := json.Unmarshal(members[name], member); err != nil {
			return errNoEvent
		}
	}
	for name, member := range map[string]any{
		"occurred_at": &e.OccurredAt, "project": &e.Project, "user": &e.User, "session": &e.Session, "token": &e.Token,
		"request": &e.Request, "metadata": &e.Metadata,
	} {
		if raw, ok := members[name]; ok {
			_ = json.Unmarshal(raw, member)
		}
	}
	return nil
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
