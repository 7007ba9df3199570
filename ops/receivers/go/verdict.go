package actions

// Verdict is what an endpoint answers. Its zero value allows. A nil list changes nothing; an empty one that is not nil
// takes all roles or permissions away.
type Verdict struct {
	Decision string
	// DenyReason is for the audit log; the person who signs in never sees it.
	DenyReason string
	// DenyCode is what the client gets.
	DenyCode string
	// Claims are merged into the token, on pre_token_mint.
	Claims map[string]any
	// Roles and Permissions replace the token's, on pre_token_mint where the project allows it.
	Roles       []string
	Permissions []string
	// Audit stands in the audit entry: at most 4,096 bytes of JSON.
	Audit map[string]any
}

// Allow lets the auth event go on.
func Allow() Verdict { return Verdict{Decision: "allow"} }

// Deny ends the auth event. The client gets the code; the reason is for the audit log alone.
func Deny(code, reason string) Verdict {
	return Verdict{Decision: "deny", DenyCode: code, DenyReason: reason}
}

// wire leaves out what is not given; omitempty would leave out an empty list, which is an answer.
func (v Verdict) wire() map[string]any {
	wire := map[string]any{}
	for name, text := range map[string]string{"decision": v.Decision, "deny_reason": v.DenyReason, "deny_code": v.DenyCode} {
		if text != "" {
			wire[name] = text
		}
	}
	for name, list := range map[string][]string{"override_roles": v.Roles, "override_permissions": v.Permissions} {
		if list != nil {
			wire[name] = list
		}
	}
	for name, object := range map[string]map[string]any{"override_claims": v.Claims, "append_audit": v.Audit} {
		if object != nil {
			wire[name] = object
		}
	}
	return wire
}
