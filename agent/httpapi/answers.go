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
