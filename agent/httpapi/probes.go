package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

// probeAnswer is what the probes say to who accepts JSON.
type probeAnswer struct {
	OK     bool        `json:"ok"`
	Checks []api.Check `json:"checks"`
}

func (s *Server) serveLive(w http.ResponseWriter, r *http.Request, q query) {
	c := api.Check{Name: "process", Status: "pass", Text: "ok"}
	err := s.agent.Live()
	if err != nil {
		c.Status, c.Text = "fail", err.Error()
	}
	s.answerProbe(w, r, q, probe{ok: err == nil, good: "live", bad: "not live", checks: []api.Check{c}})
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request, q query) {
	ok, checks := s.agent.Ready()
	s.answerProbe(w, r, q, probe{ok: ok, good: "ready", bad: "not ready", checks: checks})
}

type probe struct {
	ok        bool
	good, bad string
	checks    []api.Check
}

// answerProbe says 200 or 503 in lines of text, or in JSON for who prefers it:
// a bad answer is an answer here, not an error.
func (s *Server) answerProbe(w http.ResponseWriter, r *http.Request, q query, p probe) {
	verbose, problem := q.flag("verbose")
	if problem != nil {
		writeProblem(w, r, problem)
		return
	}
	status := http.StatusOK
	if !p.ok {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Vary", "Accept")
	if strings.HasPrefix(r.Header.Get("Accept"), "application/json") {
		send(w, r, "application/json", status, probeAnswer{OK: p.ok, Checks: orEmpty(p.checks)})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(p.text(verbose))) // a prober that has gone wants no answer
}

// text is one line when all is well, and lists what is not, or everything when
// verbose.
func (p probe) text(verbose bool) string {
	var b strings.Builder
	for _, c := range p.checks {
		if !verbose && (p.ok || c.Status == "pass") {
			continue
		}
		mark := map[string]string{"pass": "+", "warn": "!"}[c.Status]
		if mark == "" {
			mark = "-"
		}
		fmt.Fprintf(&b, "[%s]%s: %s\n", mark, oneLine(c.Name), oneLine(c.Text))
	}
	last := p.good
	if !p.ok {
		last = p.bad
	}
	return b.String() + last + "\n"
}

// oneLine keeps text that may come from afar from making lines of its own.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
