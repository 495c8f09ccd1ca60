package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/peerhq/peer/agent/api"
)

const (
	// lookEvery is how old the page's look at the locks may be.
	lookEvery = time.Second
	// lookShare bounds what the pages cost a Redis with many keys: a look that
	// took long is shown for so many times as long.
	lookShare = 20
)

// A lockLook is the last look at the locks of the shared Redis that was taken for
// a page. All pages share it: finding the locks means walking through every key
// of that Redis, which others need too.
type lockLook struct {
	turn    chan struct{} // capacity 1: taken to look, and for what follows
	at      time.Time
	took    time.Duration
	seq     uint64 // of the last event then
	locks   api.Locks
	problem *api.Problem
}

func newLockLook() *lockLook { return &lockLook{turn: make(chan struct{}, 1)} }

// lookAtLocks returns the locks, or why there are none, and how old that is. Seq
// is that of the last event here: who has just taken a lock wants to see it.
func (s *Server) lookAtLocks(ctx context.Context, seq uint64) (api.Locks, *api.Problem, time.Duration) {
	l := s.look
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return api.Locks{}, api.NewProblem(http.StatusBadGateway, api.KindRedis, "it does not answer in time", "see locks.backend in /v1/status"), 0
	}
	if age := time.Since(l.at); !l.fresh(age, seq) {
		began := time.Now()
		l.locks, l.problem = s.locks(ctx)
		l.at, l.seq, l.took = time.Now(), seq, time.Since(began)
	}
	age := time.Since(l.at)
	return aged(l.locks, age), l.problem, age
}

func (l *lockLook) fresh(age time.Duration, seq uint64) bool {
	switch {
	case l.at.IsZero():
		return false
	case l.problem != nil, l.seq == seq && age < lookEvery:
		return age < lookEvery
	}
	return age < lookShare*l.took
}

// aged returns l as it has become after age, as far as anybody can know.
func aged(l api.Locks, age time.Duration) api.Locks {
	l.Locks = slices.Clone(l.Locks)
	for i := range l.Locks {
		l.Locks[i].ExpiresInMS = max(l.Locks[i].ExpiresInMS-age.Milliseconds(), 0)
	}
	return l
}
