package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/peerhq/peer/agent/api"
)

func (s *Server) serveMembers(w http.ResponseWriter, r *http.Request, q query) {
	f, p := q.memberFilter()
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	m, p := s.members(w, r, q)
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	m.Members = slices.DeleteFunc(slices.Clone(m.Members), func(m api.Member) bool { return !f.lets(m) })
	writeJSON(w, r, tidyMembers(m))
}

func (s *Server) serveMember(w http.ResponseWriter, r *http.Request, q query) {
	name := r.PathValue("name")
	m, p := s.members(w, r, q)
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	// Of two live instances with one name the one that is handed out speaks.
	var found *api.Member
	for i := range m.Members {
		if c := &m.Members[i]; c.Name == name && (found == nil || c.Eligible && !found.Eligible) {
			found = c
		}
	}
	if found == nil {
		fix := "see /v1/members for who is known here"
		names := make([]string, len(m.Members))
		for i, c := range m.Members {
			names[i] = c.Name
		}
		if near := nearestOf(name, names); near != "" {
			fix = fmt.Sprintf("did you mean %q?", near)
		}
		writeProblem(w, r, api.NewProblem(http.StatusNotFound, api.KindNoMember, fmt.Sprintf("no member is called %q", name), fix))
		return
	}
	writeJSON(w, r, tidyMember(*found))
}

// members returns everybody, once they are newer than the request's index. It
// sets the header that the next request takes its index from.
func (s *Server) members(w http.ResponseWriter, r *http.Request, q query) (api.Members, *api.Problem) {
	b, p := q.blocking()
	if p != nil {
		return api.Members{}, p
	}
	if p := s.await(w, r, b); p != nil {
		return api.Members{}, p
	}
	m := s.agent.Members()
	w.Header().Set("X-Peer-Index", strconv.FormatUint(m.Index, 10))
	return m, nil
}

// await blocks as long as b asks for. A time-out, or the agent's stopping, is no
// error: the answer is then the same as before.
func (s *Server) await(w http.ResponseWriter, r *http.Request, b blockingQuery) *api.Problem {
	// An index from the future is one of an earlier start of this agent.
	if !b.on || b.wait == 0 || s.agent.Members().Index != b.index {
		return nil
	}
	if !s.blocked.take() {
		return api.NewProblem(http.StatusServiceUnavailable, api.KindTooManyStreams,
			fmt.Sprintf("%d reads wait for a change already", cap(s.blocked)), "follow /v1/events instead, or ask without index")
	}
	defer s.blocked.give()
	ctx, done := s.untilStop(r.Context())
	defer done()
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	_ = s.agent.MembersChanged(ctx, b.index) // only ever the error of ctx
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	return nil
}

// lets says whether f lets m through.
func (f memberFilter) lets(m api.Member) bool {
	if len(f.states) > 0 && !slices.Contains(f.states, m.State) {
		return false
	}
	for k, v := range f.tags {
		if got, ok := m.Tags[k]; !ok || got != v {
			return false
		}
	}
	if f.service != "" && !slices.ContainsFunc(m.Services, func(s api.Service) bool { return s.Name == f.service }) {
		return false
	}
	return f.name == "" || f.name == m.Name || wildcard(f.name, m.Name)
}

// wildcard matches s against a pattern in which * stands for any characters and
// ? for any one, without going back further than the last star.
func wildcard(pattern, s string) bool {
	p, i := []rune(pattern), 0
	t, j := []rune(s), 0
	star, mark := -1, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
