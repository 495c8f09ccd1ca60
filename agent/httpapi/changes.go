package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/peerhq/peer/agent/api"
)

const (
	// joinTimeout bounds a join asked for over HTTP; it is below writeTimeout.
	joinTimeout = 20 * time.Second
	// maxJoinAddrs bounds the addresses of one join.
	maxJoinAddrs = 64
)

// joinProblem is the problem of a join in which nobody answered: the outcome of
// each address comes along.
type joinProblem struct {
	*api.Problem
	api.JoinResult
}

func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request, _ query) {
	var req api.JoinRequest
	if p := readBody(r, &req); p != nil {
		writeProblem(w, r, p)
		return
	}
	if p := checkAddrs(req.Addrs); p != nil {
		writeProblem(w, r, p)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
	defer cancel()
	res := s.agent.Join(ctx, req.Addrs)
	res.Joined, res.Errors = orEmpty(res.Joined), orEmpty(res.Errors)
	if len(res.Joined) > 0 {
		writeJSON(w, r, res)
		return
	}
	detail := "none of the addresses answered"
	if len(res.Errors) > 0 {
		detail = res.Errors[0].Addr + ": " + res.Errors[0].Error
		if more := len(res.Errors) - 1; more > 0 {
			detail += fmt.Sprintf(" (and %d more)", more)
		}
	}
	p := api.NewProblem(http.StatusBadGateway, api.KindJoinFailed, detail,
		"check that an agent of the same cluster label and key listens there, and that no firewall is in between")
	writeProblemWith(w, r, p.Status, joinProblem{p, res})
}

func checkAddrs(addrs []string) *api.Problem {
	const fix = `send {"addrs":["HOST:PORT"]}`
	if len(addrs) == 0 {
		return badRequest(fix, "addrs is empty")
	}
	if len(addrs) > maxJoinAddrs {
		return badRequest("send a few; the others are learnt from them", "addrs has %d entries, more than %d", len(addrs), maxJoinAddrs)
	}
	for _, a := range addrs {
		if a == "" || len(a) > 300 || strings.ContainsFunc(a, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }) {
			return badRequest(fix, "%q is no address", a)
		}
	}
	return nil
}

func (s *Server) serveForget(w http.ResponseWriter, r *http.Request, _ query) {
	if p := readBody(r, &struct{}{}); p != nil {
		writeProblem(w, r, p)
		return
	}
	if err := s.agent.Forget(r.PathValue("name")); err != nil {
		writeProblem(w, r, asProblem(err, http.StatusConflict, "not-possible", "see /v1/members for who is known"))
		return
	}
	writeJSON(w, r, struct{}{})
}

func (s *Server) serveLeave(w http.ResponseWriter, r *http.Request, _ query) {
	if p := readBody(r, &struct{}{}); p != nil {
		writeProblem(w, r, p)
		return
	}
	if err := s.agent.Leave(); err != nil {
		writeProblem(w, r, asProblem(err, http.StatusConflict, "not-possible", "see /v1/status for what the agent is doing"))
		return
	}
	w.Header().Set("Connection", "close")
	send(w, r, "application/json", http.StatusAccepted, map[string]string{"state": "leaving"})
}

// readBody decodes a body into v: one JSON value, no unknown fields. An empty
// body leaves v alone.
func readBody(r *http.Request, v any) *api.Problem {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return tooLarge()
		}
		return badRequest("send the whole body within 10 s", "the body did not arrive: %v", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("see /openapi.json for the shape", "the body does not parse: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("send one JSON value", "the body has more than one JSON value")
	}
	return nil
}
