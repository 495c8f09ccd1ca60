package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// keyringTimeout bounds the wait for members that do not answer; it is below
// writeTimeout.
const keyringTimeout = 10 * time.Second

func (s *Server) serveKeyring(w http.ResponseWriter, r *http.Request, _ query) {
	ctx, cancel := context.WithTimeout(r.Context(), keyringTimeout)
	defer cancel()
	k, err := s.agent.Keyring(ctx)
	answerKeyring(w, r, k, err)
}

func (s *Server) serveChangeKeyring(w http.ResponseWriter, r *http.Request, _ query) {
	var q api.KeyringRequest
	if p := readBody(r, &q); p != nil {
		writeProblem(w, r, p)
		return
	}
	if p := checkKeyring(q); p != nil {
		writeProblem(w, r, p)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), keyringTimeout)
	defer cancel()
	k, err := s.agent.ChangeKeyring(ctx, q)
	answerKeyring(w, r, k, err)
}

func checkKeyring(q api.KeyringRequest) *api.Problem {
	const fix = "see /openapi.json for the shape"
	switch q.Op {
	case "rotate":
		if q.Fingerprint != "" {
			return badRequest(fix, "fingerprint does not go with rotate")
		}
	case "install":
		if q.Key == "" || q.Fingerprint != "" {
			return badRequest(fix, "install wants a key, and nothing else")
		}
	case "use", "remove":
		if q.Fingerprint == "" || q.Key != "" {
			return badRequest(fix, "%s wants a fingerprint, and nothing else", q.Op)
		}
	default:
		return badRequest(fix, "op is none of rotate, install, use, remove")
	}
	return nil
}

func answerKeyring(w http.ResponseWriter, r *http.Request, k api.Keyring, err error) {
	if err != nil {
		writeProblem(w, r, asProblem(err, http.StatusConflict, "keys-not-changed", "see GET /v1/keyring for who has which key"))
		return
	}
	k.Schema = cmp.Or(k.Schema, api.SchemaKeyring)
	k.Keys, k.Absent = orEmpty(k.Keys), orEmpty(k.Absent)
	members := make([]api.KeyringMember, len(k.Members))
	for i, m := range k.Members {
		m.Keys = orEmpty(m.Keys)
		members[i] = m
	}
	k.Members = members
	writeJSON(w, r, k)
}
