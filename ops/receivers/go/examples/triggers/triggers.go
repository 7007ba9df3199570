// Package triggers has one decision a trigger, as small as it may be.
package triggers

import (
	"context"
	"strings"

	"authio.example/actions"
)

var (
	sanctioned = map[string]bool{"203.0.113.7": true}
	roles      = map[string][]string{"ada@acme.com": {"billing_admin", "auditor"}}
)

// Decide goes by the event's trigger. One that we do not know yet is allowed.
func Decide(_ context.Context, event actions.Event) (actions.Verdict, error) {
	switch event.Trigger {
	case actions.PreAuthenticate: // before anybody is asked for a password: refuse an address
		if sanctioned[event.Request.IP] {
			return actions.Deny("compliance_block", "the address is on our list"), nil
		}
	case actions.PostAuthenticate: // the person has proved who it is: ask for more
		if !event.User.EmailVerified {
			return actions.Deny("requires_2fa", "the e-mail address is not verified"), nil
		}
	case actions.PreTokenMint: // right before the token is signed: the roles are ours
		if own, ok := roles[strings.ToLower(event.User.Email)]; ok {
			verdict := actions.Allow()
			verdict.Roles, verdict.Claims = own, map[string]any{"team": "billing"}
			return verdict, nil
		}
	case actions.PreRegister: // before there is an account: no addresses that are thrown away
		if strings.HasSuffix(event.User.Email, "@mailinator.example") {
			return actions.Deny("disposable_email", "an address of a disposable kind"), nil
		}
	case actions.PostTokenMint, actions.PostRegister: // it has happened; these decide nothing
		verdict := actions.Allow()
		verdict.Audit = map[string]any{"seen": event.ID}
		return verdict, nil
	}
	return actions.Allow(), nil
}
