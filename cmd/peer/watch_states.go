package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/peerhq/peer/agent/api"
)

const (
	// watchWait is how long one read waits for a change.
	watchWait = 30 * time.Second
	// joinWait is how long an agent may take to join before COMMAND is run for
	// the first time, and joinSettle how long one that has joined anew takes to
	// hear of everything.
	joinWait   = 10 * time.Second
	joinSettle = 2 * time.Second
)

// state is a service at one time.
type state struct {
	key  string // equal when the instances are
	body []byte // JSON, in the form of GET /v1/services/{name}
	live int
}

// states follows a service with a goroutine of its own, which stop waits for.
type states struct {
	changed chan struct{} // has one when newest is another
	failed  chan error    // why there was not even a first state

	inv      *invocation
	client   *api.Client
	service  string
	query    api.ServicesQuery
	instance string // the start of the agent that answered last
	told     string // what was said of an agent that does not answer
	cancel   context.CancelFunc
	done     chan struct{}

	mu  sync.Mutex
	now *state
}

func watchStates(inv *invocation, c *api.Client, call watchCall) *states {
	ctx, cancel := context.WithCancel(inv)
	s := &states{
		changed: make(chan struct{}, 1), failed: make(chan error, 1),
		inv: inv, client: c, service: call.service, query: call.query, cancel: cancel, done: make(chan struct{}),
	}
	go s.follow(ctx)
	return s
}

func (s *states) stop() {
	s.cancel()
	<-s.done
}

// newest returns the newest state, the zero one before the first.
func (s *states) newest() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return state{}
	}
	return *s.now
}

func (s *states) put(st state) {
	s.mu.Lock()
	same := s.now != nil && s.now.key == st.key
	s.now = &st
	s.mu.Unlock()
	if same {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

var (
	// errAnother says that another start of the agent answers.
	errAnother = errors.New("the agent was started again")
	errLeaves  = errors.New("the agent is leaving the cluster")
)

// follow reads until ctx is done. An agent that does not answer is an error only
// before the first state.
func (s *states) follow(ctx context.Context) {
	defer close(s.done)
	for failures := 0; ; failures++ {
		began := time.Now()
		err := s.session(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errAnother):
			failures = -1
			continue
		case s.newest().key == "":
			s.failed <- err
			return
		case s.told == "":
			s.told = err.Error()
			s.inv.note("%s; COMMAND is left alone until it answers", s.told)
		}
		if time.Since(began) > time.Minute {
			failures = 0
		}
		d := min(250*time.Millisecond<<min(failures, 5), 5*time.Second)
		if !pause(ctx, d/2+rand.N(d/2)) {
			return
		}
	}
}

// pause waits for d and returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// session reads one state after the other from one start of the agent.
func (s *states) session(ctx context.Context) error {
	if err := s.hello(ctx); err != nil {
		return err
	}
	if s.told != "" {
		s.told = ""
		s.inv.note("the agent answers again")
	}
	q := s.query
	for {
		// An index of one start means nothing to another, which may have the same.
		if q.Wait > 0 {
			if err := s.same(ctx); err != nil {
				return err
			}
		}
		began := time.Now()
		st, index, err := s.read(ctx, q)
		if err != nil {
			return err
		}
		if st.key != s.newest().key && q.Wait > 0 {
			if err := s.same(ctx); err != nil {
				return err
			}
		}
		s.put(st)
		if index == q.Index && time.Since(began) < time.Second && !pause(ctx, time.Second/2) {
			return ctx.Err() // an agent that stops does not wait
		}
		q.Index, q.Wait = index, watchWait
	}
}

// same returns an error when another start of the agent answers, or one that
// leaves: what runs beside it leaves with it.
func (s *states) same(ctx context.Context) error {
	switch st, err := s.client.Status(ctx); {
	case err != nil:
		return err
	case st.Node.Instance != s.instance:
		return errAnother
	case isLeaving(st):
		return errLeaves
	}
	return nil
}

// hello waits until the agent that answers has joined: one that was just started
// knows of nobody but itself. At the very first it does not wait for long, since
// there is no last state to stay with.
func (s *states) hello(ctx context.Context) error {
	again := s.instance != ""
	said := !again
	for began := time.Now(); ; {
		st, err := s.client.Status(ctx)
		if err != nil {
			return err
		}
		switch {
		case isLeaving(st):
			return errLeaves
		case st.Node.Instance == s.instance:
			return nil
		}
		why := notJoined(st)
		if why == "" || !again && time.Since(began) > joinWait {
			if again && !pause(ctx, joinSettle) {
				return ctx.Err()
			}
			s.instance = st.Node.Instance
			return nil
		}
		if !said {
			said, s.told = true, why
			s.inv.note("the agent was started again, and has not joined: %s; COMMAND is left alone until it has", why)
		}
		if !pause(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func isLeaving(st api.Status) bool { return st.Node.State == "leaving" || st.Node.State == "left" }

// notJoined says why an agent has not joined, or "".
func notJoined(st api.Status) string {
	for _, c := range st.Checks {
		if c.Name == "joined" && c.Status == "fail" {
			return c.Text
		}
	}
	return ""
}

// read asks for the service. One that runs nowhere is an empty list.
func (s *states) read(ctx context.Context, q api.ServicesQuery) (state, uint64, error) {
	g, err := s.client.Service(ctx, s.service, q)
	var p *api.Problem
	if errors.As(err, &p) && p.Kind() == api.KindNoService {
		g, err = api.ServiceGroup{Name: s.service, Index: p.Index, Tags: []string{}, Instances: []api.ServiceInstance{}}, nil
	}
	if err != nil {
		return state{}, 0, err
	}
	st, err := stateOf(g)
	return st, g.Index, err
}

// stateOf draws g. Round trips and what a check has found do not make another
// state.
func stateOf(g api.ServiceGroup) (state, error) {
	body, err := json.Marshal(g)
	if err != nil {
		return state{}, fmt.Errorf("write COMMAND's input: %w", err)
	}
	live := 0
	plain := make([]api.ServiceInstance, len(g.Instances))
	for i, x := range g.Instances {
		if x.Eligible {
			live++
		}
		x.RTTMS, x.Local = nil, nil
		plain[i] = x
	}
	key, err := json.Marshal(plain)
	if err != nil {
		return state{}, fmt.Errorf("write COMMAND's input: %w", err)
	}
	return state{key: string(key), body: append(body, '\n'), live: live}, nil
}
