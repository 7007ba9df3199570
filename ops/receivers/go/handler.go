// Package actions is an endpoint for Authio Actions: it checks a request's signature, reads its event, and answers
// with a signed verdict.
package actions

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// maxBody is more than any event has.
const maxBody = 2 << 20

// Decide gives a verdict. With an error the answer is 500, and the action's fail mode decides.
type Decide func(context.Context, Event) (Verdict, error)

// Handler answers requests. The secrets are the action's: the current one first and, while it is rotated, the
// previous one. Decide is asked only about what is signed.
func Handler(secrets []string, decide Decide) (http.Handler, error) {
	if len(secrets) == 0 {
		return nil, ErrEmptySecret
	}
	for _, secret := range secrets {
		if secret == "" {
			return nil, ErrEmptySecret
		}
	}
	answer := func(w http.ResponseWriter, status int, value any) {
		body, err := json.Marshal(value)
		if err != nil {
			status, body = http.StatusInternalServerError, []byte(`{"code":"invalid_verdict"}`)
		}
		signature, _ := Sign(secrets[0], body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Authio-Response-Signature", signature)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
	code := func(code string) map[string]string { return map[string]string{"code": code} }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			answer(w, http.StatusRequestEntityTooLarge, code("too_large"))
			return
		}
		if err != nil || !Verify(secrets, r.Header.Get("Authio-Signature"), body) {
			answer(w, http.StatusUnauthorized, code("invalid_signature"))
			return
		}
		var event Event
		if err := json.Unmarshal(body, &event); err != nil || event.Trigger == "" {
			answer(w, http.StatusBadRequest, code("invalid_event"))
			return
		}
		verdict, err := decide(r.Context(), event)
		if err != nil {
			answer(w, http.StatusInternalServerError, code("no_verdict"))
			return
		}
		answer(w, http.StatusOK, verdict.wire())
	}), nil
}
