package triggers

import (
	"context"
	"testing"

	"authio.example/actions"
)

func TestEachTriggerHasAnExample(t *testing.T) {
	for trigger, want := range map[actions.Trigger]string{
		actions.PreAuthenticate: "compliance_block", actions.PostAuthenticate: "requires_2fa", actions.PreTokenMint: "",
		actions.PostTokenMint: "", actions.PreRegister: "disposable_email", actions.PostRegister: "", "one_of_next_year": "",
	} {
		event := actions.Event{Trigger: trigger, User: actions.User{Email: "x@mailinator.example"}, Request: actions.Request{IP: "203.0.113.7"}}
		if verdict, err := Decide(context.Background(), event); err != nil || verdict.DenyCode != want {
			t.Error(trigger, verdict, err)
		}
	}
	ada := actions.Event{Trigger: actions.PreTokenMint, User: actions.User{Email: "Ada@acme.com"}}
	if verdict, err := Decide(context.Background(), ada); err != nil || len(verdict.Roles) != 2 {
		t.Error(verdict, err)
	}
}
