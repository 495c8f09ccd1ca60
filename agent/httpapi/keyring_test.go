package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent/api"
)

// fakeKeys are the answers of a fakeAgent about gossip keys.
type fakeKeys struct {
	asked []api.KeyringRequest
	err   error
}

func (a *fakeAgent) Keyring(context.Context) (api.Keyring, error) {
	return api.Keyring{Members: []api.KeyringMember{{Name: "a"}}}, a.keys.err
}

func (a *fakeAgent) ChangeKeyring(_ context.Context, r api.KeyringRequest) (api.Keyring, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys.asked = append(a.keys.asked, r)
	return api.Keyring{Fingerprint: "0123456789abcdef"}, a.keys.err
}

func TestKeyring(t *testing.T) {
	a := newFakeAgent()
	const js = "Content-Type: application/json"
	e := start(t, a)
	got := e.get("/v1/keyring")
	k := decode[api.Keyring](t, got)
	if k.Schema != api.SchemaKeyring || len(k.Members) != 1 || strings.Contains(got.body, "null") {
		t.Errorf("got %s", got.body)
	}
	for _, body := range []string{
		`{"op":"rotate"}`, `{"op":"rotate","key":"eA=="}`, `{"op":"install","key":"eA=="}`,
		`{"op":"use","fingerprint":"0123456789abcdef"}`, `{"op":"remove","fingerprint":"0123456789abcdef"}`,
	} {
		got := e.ask(e.http, "POST", "/v1/keyring", body, js)
		if k := decode[api.Keyring](t, got); k.Fingerprint != "0123456789abcdef" {
			t.Errorf("%s: got %s", body, got.body)
		}
	}
	if len(a.keys.asked) != 5 {
		t.Errorf("the agent was asked %d times", len(a.keys.asked))
	}
	for _, body := range []string{
		``, `{}`, `{"op":"rot"}`, `{"op":"install"}`, `{"op":"use"}`, `{"op":"use","key":"eA=="}`, `{"op":"remove","fingerprint":"x","key":"y"}`,
		`{"op":"rotate","fingerprint":"x"}`, `{"op":"rotate","secret":"x"}`, `[]`,
	} {
		if p := problemOf(t, e.ask(e.http, "POST", "/v1/keyring", body, js)); p.Status != 400 {
			t.Errorf("%s: got %+v", body, p)
		}
	}
	if len(a.keys.asked) != 5 {
		t.Errorf("a bad request reached the agent")
	}
	a.keys.err = api.NewProblem(http.StatusConflict, "keys-not-changed", "gossip is not encrypted", "make a key")
	if p := problemOf(t, e.ask(e.http, "POST", "/v1/keyring", `{"op":"rotate"}`, js)); p.Status != 409 || p.Fix != "make a key" {
		t.Errorf("got %+v", p)
	}
}
