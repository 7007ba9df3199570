package actions

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

const secret = "asec_1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f"

func TestEveryVector(t *testing.T) {
	text, err := os.ReadFile("../../vectors/signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Signatures []struct {
			Name    string
			Now     int64
			Secrets []string
			Header  *string
			Body    []byte `json:"body_b64"`
			Valid   bool
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Signatures) < 30 {
		t.Fatal(len(vectors.Signatures), err)
	}
	for _, vector := range vectors.Signatures {
		header := ""
		if vector.Header != nil {
			header = *vector.Header
		}
		if valid := verifyAt(vector.Secrets, header, vector.Body, time.Unix(vector.Now, 0)); valid != vector.Valid {
			t.Errorf("%s: valid is %t", vector.Name, valid)
		}
	}
}

func ask(t *testing.T, handler http.Handler, body, signature string) (int, string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if signature != "" {
		request.Header.Set("Authio-Signature", signature)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	answer, _ := io.ReadAll(recorder.Body)
	if !Verify([]string{secret}, recorder.Header().Get("Authio-Response-Signature"), answer) {
		t.Errorf("the answer %s is not signed", answer)
	}
	return recorder.Code, string(answer)
}

func signed(t *testing.T, body string) string {
	t.Helper()
	header, err := Sign(secret, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return header
}

func TestAnEventIsDecidedAndTheAnswerIsSigned(t *testing.T) {
	handler, err := Handler([]string{secret}, func(_ context.Context, event Event) (Verdict, error) {
		if event.ID != "evt_1" || event.Trigger != PreRegister || event.User.Email != "ada@acme.com" {
			t.Errorf("%+v", event)
		}
		return Deny("no", "why"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"event_id":"evt_1","trigger":"pre_register","user":{"email":"ada@acme.com","id":null}}`
	if status, answer := ask(t, handler, body, signed(t, body)); status != 200 || answer != `{"decision":"deny","deny_code":"no","deny_reason":"why"}` {
		t.Error(status, answer)
	}
}

func TestWhatIsNotSignedOrNoEventIsNotDecided(t *testing.T) {
	handler, err := Handler([]string{secret}, func(context.Context, Event) (Verdict, error) {
		t.Error("it was asked")
		return Allow(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, signature := range []string{"", "t=1,v1=00", signed(t, "{} ")} {
		if status, _ := ask(t, handler, "{}", signature); status != 401 {
			t.Error(signature, status)
		}
	}
	for _, body := range []string{"", "[]", "7", "{", "{}", `{"event_id":7,"trigger":"pre_register"}`, `{"event_id":"evt_1","Trigger":"pre_register"}`} {
		if status, _ := ask(t, handler, body, signed(t, body)); status != 400 {
			t.Error(body, status)
		}
	}
	large := strings.Repeat(" ", maxBody+1)
	if status, _ := ask(t, handler, large, signed(t, large)); status != 413 {
		t.Error(status)
	}
}

func TestAnEventsOwnMembersNeitherReplaceTheEnvelopeNorFail(t *testing.T) {
	handler, err := Handler([]string{secret}, func(_ context.Context, event Event) (Verdict, error) {
		if event.Trigger != PreAuthenticate || event.User.Email != "ada@acme.com" || event.Token.Type != "user" {
			t.Errorf("%+v", event)
		}
		return Allow(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"event_id":"evt_1","trigger":"pre_authenticate","Trigger":"post_register","TRIGGER":7,` +
		`"user":{"id":42,"email":"ada@acme.com"},"session":"none","token":{"ttl_seconds":900.0,"token_type":"user"},"metadata":[]}`
	if status, answer := ask(t, handler, body, signed(t, body)); status != 200 {
		t.Error(status, answer)
	}
}

func TestAnErrorIsAFailureAndNoVerdict(t *testing.T) {
	handler, err := Handler([]string{secret}, func(context.Context, Event) (Verdict, error) { return Allow(), errors.New("no database") })
	if err != nil {
		t.Fatal(err)
	}
	body := `{"event_id":"evt_1","trigger":"pre_register"}`
	if status, answer := ask(t, handler, body, signed(t, body)); status != 500 || strings.Contains(answer, "database") {
		t.Error(status, answer)
	}
}

func TestSecretsAreNeverEmpty(t *testing.T) {
	for _, wrong := range [][]string{nil, {""}, {secret, ""}} {
		if _, err := Handler(wrong, nil); !errors.Is(err, ErrEmptySecret) {
			t.Error(wrong, err)
		}
	}
	if _, err := Sign("", nil); !errors.Is(err, ErrEmptySecret) {
		t.Error(err)
	}
}

func TestAVerdictLeavesOutWhatIsNotGiven(t *testing.T) {
	for want, verdict := range map[string]Verdict{
		`{}`:                    {},
		`{"decision":"allow"}`:  Allow(),
		`{"override_roles":[]}`: {Roles: []string{}},
		`{"append_audit":{"x":1},"override_claims":{"a":"b"},"override_permissions":["p"],"override_roles":["r"]}`: {
			Audit: map[string]any{"x": 1}, Claims: map[string]any{"a": "b"}, Permissions: []string{"p"}, Roles: []string{"r"},
		},
	} {
		if got, _ := json.Marshal(verdict.wire()); string(got) != want {
			t.Errorf("%s, wanted %s", got, want)
		}
	}
}
