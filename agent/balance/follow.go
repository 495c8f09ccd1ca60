package balance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// errNewConn ends a read that went over a new connection: whoever
// answers there may be a later start of the agent, whose index means something
// else.
var errNewConn = errors.New("a read over a new connection")

// A follower is the state of a Watch's goroutine.
type follower struct {
	*Watch
	instance string // the start of the agent that answered last
	home     string
	pause    backoff
	kept     atomic.Bool // connections are kept between requests

	settling bool
	settled  time.Time // when a view that lacks somebody is believed
}

// follow reads until ctx ends.
func (w *Watch) follow(ctx context.Context) {
	f := follower{Watch: w, home: w.cfg.Home}
	for ctx.Err() == nil {
		err := f.session(ctx)
		if errors.Is(err, errNewConn) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.away(err)
		f.pause.sleep(ctx)
	}
}

// session asks who answers and then reads from it until something fails.
func (f *follower) session(ctx context.Context) error {
	if err := f.hello(ctx); err != nil {
		return err
	}
	index := uint64(0) // at first what is known now, at once
	for reads := 0; ; reads++ {
		wait := f.cfg.Wait
		if f.settling {
			wait = max(min(wait, time.Until(f.settled)), time.Second)
		}
		// Where connections are not kept, who answers has just been asked.
		mayDial := !f.kept.Load() && reads < 2
		began := time.Now()
		a, err := f.read(ctx, index, wait, mayDial)
		polled := full(err)
		if polled { // no room for one more blocking read: look now and then
			a, err = f.read(ctx, 0, 0, true)
		}
		if errors.Is(err, errNewConn) && reads == 0 {
			f.kept.Store(false) // not any more
		}
		if err == nil {
			err = f.take(ctx, a)
		}
		if err != nil {
			return err
		}
		// An unchanged answer before its time comes from one that stops, or that
		// does not know how to wait.
		if polled || a.index == index && time.Since(began) < wait/2 {
			f.pause.sleep(ctx)
		} else {
			f.pause.reset()
		}
		index = a.index
	}
}

// hello finds out which start of the agent answers.
func (f *follower) hello(ctx context.Context) error {
	st, err := f.client.Status(ctx)
	if err != nil {
		return err
	}
	if st.Schema != api.SchemaStatus || st.Node.Instance == "" {
		return f.foreign("a status without an instance")
	}
	if st.Node.Instance == f.instance {
		return nil
	}
	if f.cfg.ZoneTag != "" && f.cfg.Home == "" {
		m, err := f.client.Member(ctx, st.Node.Name)
		if err != nil {
			return fmt.Errorf("ask for the agent's own zone: %w", err)
		}
		f.home = m.Tags[f.cfg.ZoneTag]
	}
	f.instance = st.Node.Instance
	f.settling = f.cfg.Settle > 0
	f.settled = time.Now().Add(f.cfg.Settle)
	return nil
}

// answer is one list, read to its end.
type answer struct {
	index uint64
	known int
	peers []*Peer
}

// read asks for the list, once it is newer than index.
func (f *follower) read(ctx context.Context, index uint64, wait time.Duration, mayDial bool) (answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// net/http may also send a read again when its connection breaks.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if c.Reused {
			f.kept.Store(true)
		} else if !mayDial {
			cancel(errNewConn)
		}
	}})
	a, err := f.list(ctx, index, wait)
	if context.Cause(ctx) == errNewConn {
		err = errNewConn // the answer may have been faster
	}
	return a, err
}

// list asks for the list once.
func (f *follower) list(ctx context.Context, index uint64, wait time.Duration) (answer, error) {
	if f.cfg.Service == "" {
		doc, err := f.client.Members(ctx, api.MembersQuery{Index: index, Wait: wait})
		if err == nil && doc.Schema != api.SchemaMembers {
			err = f.foreign("a list of members without its schema")
		}
		return answer{doc.Index, len(doc.Members), f.cfg.ofMembers(doc.Members, f.home)}, err
	}
	g, err := f.client.Service(ctx, f.cfg.Service, api.ServicesQuery{Index: index, Wait: wait})
	var p *api.Problem
	if errors.As(err, &p) && p.Kind() == api.KindNoService {
		return answer{index: p.Index}, nil
	}
	if err == nil && g.Name != f.cfg.Service {
		err = f.foreign("another service than it was asked for")
	}
	return answer{g.Index, len(g.Instances), f.cfg.ofInstances(g.Instances, f.home)}, err
}

// foreign is an answer that no agent gives.
func (f *follower) foreign(what string) error {
	return &api.UnreachableError{Addr: f.client.Addr(), Err: fmt.Errorf("it answers with %s", what)}
}

// full says whether the agent has too many who wait.
func full(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Kind() == api.KindTooManyStreams
}

// take makes a the view, unless it comes from an agent that does not know enough
// yet.
func (f *follower) take(ctx context.Context, a answer) error {
	old := f.view.Load()
	if f.settling && !covers(a.peers, old.Peers) {
		err := errSettling
		if time.Now().After(f.settled) {
			var serr error
			if err, serr = f.joined(ctx); serr != nil {
				return serr
			}
		}
		if err != nil {
			v := *old
			v.Err, v.Tries = err, 0
			f.publish(v, false)
			return nil
		}
	}
	f.settling = false
	now := time.Now()
	v := View{Service: old.Service, Peers: a.peers, Known: a.known, Index: a.index, Instance: f.instance, Changed: old.Changed, Heard: now}
	changed := old.Changed.IsZero() || !slices.EqualFunc(a.peers, old.Peers, (*Peer).same)
	if changed {
		v.Changed = now
	}
	f.peers.Set(a.peers) // round trips change also when nothing else does
	f.publish(v, changed)
	return nil
}

// joined returns why the agent is not to be believed yet, or nil; serr when it
// does not answer.
func (f *follower) joined(ctx context.Context) (why, serr error) {
	st, err := f.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range st.Checks {
		if c.Name == "joined" && c.Status == "fail" {
			return fmt.Errorf("%w: %s", errSettling, c.Text), nil
		}
	}
	return nil, nil
}

// covers says whether everybody of old is in peers, both sorted.
func covers(peers, old []*Peer) bool {
	i := 0
	for _, p := range old {
		for i < len(peers) && peers[i].Name < p.Name {
			i++
		}
		if i == len(peers) || peers[i].Name != p.Name {
			return false
		}
	}
	return true
}

// away keeps the last view and says why there is no newer one.
func (f *follower) away(err error) {
	v := *f.view.Load()
	v.Err = err
	v.Tries++
	f.publish(v, false)
}

// publish makes v the view, and tells who wants to know when other peers are in
// it, or the agent goes or comes.
func (f *follower) publish(v View, changed bool) {
	old := f.view.Load()
	f.view.Store(&v)
	if changed && old.Changed.IsZero() {
		close(f.first)
	}
	if f.cfg.OnChange != nil && (changed || (v.Err == nil) != (old.Err == nil)) {
		f.cfg.OnChange(v)
	}
}

// backoff is how long to pause between two tries.
type backoff struct{ next time.Duration }

const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 5 * time.Second
)

// sleep pauses for at least half of what is next, at random, or until ctx ends.
func (b *backoff) sleep(ctx context.Context) {
	b.next = min(max(b.next, pauseMin), pauseMax)
	d := b.next/2 + rand.N(b.next/2)
	b.next *= 2
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (b *backoff) reset() { b.next = 0 }
