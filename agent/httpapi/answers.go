package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// locksTimeout bounds one look at the shared Redis.
const locksTimeout = 5 * time.Second

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request, _ query) {
	writeJSON(w, r, tidyStatus(s.agent.Status(r.Context())))
}

func (s *Server) serveNext(w http.ResponseWriter, r *http.Request, q query) {
	nq, p := q.next()
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	next, err := s.agent.Next(nq)
	if err != nil {
		writeProblem(w, r, asProblem(err, http.StatusInternalServerError, api.KindInternal, "see the agent's log"))
		return
	}
	if len(next.Peers) == 0 {
		writeProblem(w, r, api.NewProblem(http.StatusServiceUnavailable, api.KindNoPeers,
			"no live peer can be handed out", "see /v1/members for who is known here and why they are not live"))
		return
	}
	writeJSON(w, r, tidyNext(next))
}

func (s *Server) serveLocks(w http.ResponseWriter, r *http.Request, _ query) {
	l, p := s.locks(r.Context())
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	writeJSON(w, r, l)
}

func (s *Server) serveLock(w http.ResponseWriter, r *http.Request, _ query) {
	l, p := s.locks(r.Context())
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	name := r.PathValue("name")
	for _, k := range l.Locks {
		if k.Name == name {
			writeJSON(w, r, k)
			return
		}
	}
	writeProblem(w, r, api.NewProblem(http.StatusNotFound, api.KindNoLock,
		fmt.Sprintf("nobody holds or waits for lock %q", name), "see /v1/locks for those in use"))
}

func (s *Server) locks(ctx context.Context) (api.Locks, *api.Problem) {
	ctx, cancel := context.WithTimeout(ctx, locksTimeout)
	defer cancel()
	l, err := s.agent.Locks(ctx)
	if err != nil {
		return l, asProblem(err, http.StatusBadGateway, api.KindRedis, "see locks.backend in /v1/status, and the agent's redis settings")
	}
	return tidyLocks(l), nil
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, _ query) {
	s.scrape.ServeHTTP(w, r)
}
