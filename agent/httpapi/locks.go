package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

const (
	// locksTimeout bounds one look at the shared Redis.
	locksTimeout = 5 * time.Second
	// forceTimeout bounds one change of it.
	forceTimeout = 5 * time.Second
	// maxWaits bounds the requests that wait for a lock or hold one by their
	// connection. With streams and blocking reads it stays below maxConns.
	maxWaits = 48
)

func (s *Server) serveLocks(w http.ResponseWriter, r *http.Request, _ query) {
	l, p := s.locks(r.Context())
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	writeJSON(w, r, l)
}

func (s *Server) serveLock(w http.ResponseWriter, r *http.Request, _ query) {
	ctx, cancel := context.WithTimeout(r.Context(), locksTimeout)
	defer cancel()
	l, err := s.agent.Lock(ctx, r.PathValue("name"))
	if err != nil {
		writeProblem(w, r, lockProblem(err))
		return
	}
	l.Waiters = orEmpty(l.Waiters)
	writeJSON(w, r, l)
}

func (s *Server) locks(ctx context.Context) (api.Locks, *api.Problem) {
	ctx, cancel := context.WithTimeout(ctx, locksTimeout)
	defer cancel()
	l, err := s.agent.Locks(ctx)
	if err != nil {
		return l, lockProblem(err)
	}
	return tidyLocks(l), nil
}

func lockProblem(err error) *api.Problem {
	return asProblem(err, http.StatusBadGateway, api.KindRedis, "see locks.backend in /v1/status, and the agent's redis settings")
}

// serveAcquire takes a lock. A client that is gone before it has its lease has
// it released at once.
func (s *Server) serveAcquire(w http.ResponseWriter, r *http.Request, _ query) {
	req, ok := s.lockRequest(w, r)
	if !ok {
		return
	}
	defer s.waits.give()
	name := r.PathValue("name")
	l, err := s.agent.AcquireLock(r.Context(), name, req)
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // the wait has used it up
	if err != nil {
		writeProblem(w, r, lockProblem(err))
		return
	}
	if r.Context().Err() == nil {
		writeJSON(w, r, l)
		// Whether it is still there is of no more interest: who has its answer may go.
		if rc.Flush() == nil {
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), locksTimeout)
	defer cancel()
	_, err = s.agent.ReleaseLock(ctx, name, l.Lease)
	s.log.Debug("client is gone, its lock is released", "lock", name, "fence", l.Fence, "err", err)
}

func (s *Server) serveRenew(w http.ResponseWriter, r *http.Request, _ query) {
	lease, p := readLease(r)
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	l, err := s.agent.RenewLock(r.Context(), r.PathValue("name"), lease)
	if err != nil {
		writeProblem(w, r, lockProblem(err))
		return
	}
	writeJSON(w, r, l)
}

// serveRelease gives a lease back or, with force, takes the lock from whoever
// has it.
func (s *Server) serveRelease(w http.ResponseWriter, r *http.Request, q query) {
	force, p := q.flag("force")
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	name := r.PathValue("name")
	var out api.Released
	var err error
	if force {
		if p := readBody(r, &struct{}{}); p != nil {
			writeProblem(w, r, p)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), forceTimeout)
		defer cancel()
		out, err = s.agent.ForceReleaseLock(ctx, name)
	} else {
		lease, p := readLease(r)
		if p != nil {
			writeProblem(w, r, p)
			return
		}
		out, err = s.agent.ReleaseLock(r.Context(), name, lease)
	}
	if err != nil {
		writeProblem(w, r, lockProblem(err))
		return
	}
	writeJSON(w, r, out)
}

// serveHold holds a lock for as long as the connection lives.
func (s *Server) serveHold(w http.ResponseWriter, r *http.Request, _ query) {
	req, ok := s.lockRequest(w, r)
	if !ok {
		return
	}
	defer s.waits.give()
	st := &stream{w: w, rc: http.NewResponseController(w), lines: true}
	begun := false
	tell := func(e api.HoldEvent) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold lines back
			w.WriteHeader(http.StatusOK)
		}
		raw, err := json.Marshal(e) // one line: newlines in strings are escaped
		if err != nil {
			panic(fmt.Errorf("encode hold: %w", err))
		}
		st.buf.Write(append(raw, '\n'))
		return st.flush()
	}
	err := s.agent.HoldLock(r.Context(), r.PathValue("name"), req, tell)
	switch {
	case err == nil:
	case !begun:
		_ = st.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		writeProblem(w, r, lockProblem(err))
	default:
		_ = tell(api.HoldEvent{Type: api.HoldFailed, Problem: lockProblem(err)}) // one that is gone does not care
	}
}

// lockRequest reads the body of a request for a lock and takes a place among
// those that wait. On false it has answered.
func (s *Server) lockRequest(w http.ResponseWriter, r *http.Request) (api.LockRequest, bool) {
	var req api.LockRequest
	p := readBody(r, &req)
	if p == nil && !s.waits.take() {
		p = api.NewProblem(http.StatusServiceUnavailable, api.KindTooManyStreams,
			fmt.Sprintf("%d requests wait for a lock or hold one already", cap(s.waits)),
			"try again with wait_ms 0, or use `peer lock` or the lockclient package, which need no agent")
	}
	if p != nil {
		writeProblem(w, r, p)
		return req, false
	}
	if req.Command == "" {
		req.Command = product(r.UserAgent())
	}
	return req, true
}

// product is the first word of a User-Agent without its version, as a name for
// people of what holds a lock.
func product(agent string) string {
	word, _, _ := strings.Cut(agent, " ")
	word, _, _ = strings.Cut(word, "/")
	word = strings.Map(func(c rune) rune {
		if c > ' ' && c < 0x7f {
			return c
		}
		return -1
	}, word)
	return word[:min(len(word), 32)]
}

// readLease reads the body {"lease":"…"}.
func readLease(r *http.Request) (string, *api.Problem) {
	const fix = `send {"lease":"…"} as POST /v1/locks/{name} gave it out`
	var req api.LeaseRequest
	if p := readBody(r, &req); p != nil {
		return "", p
	}
	if req.Lease == "" || len(req.Lease) > 128 {
		p := badRequest(fix, "the lease is missing")
		if r.Method == http.MethodDelete {
			p.Fix += ", or ?force=true to take the lock from whoever has it"
		}
		return "", p
	}
	return req.Lease, nil
}
