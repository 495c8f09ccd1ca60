package balance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"slices"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// errNewConn ends a blocking read that went over a new connection: whoever
// answers there may be a later start of the agent, whose index means something
// else.
var errNewConn = errors.New("a blocking read over a new connection")

// A follower is the state of a Watch's goroutine.
type follower struct {
	*Watch
	index    uint64
	instance string // the start of the agent that index is of
	home     string
	pause    backoff

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
	mayDial := true // a peer that does not keep connections has just been asked who it is
	for {
		wait := f.cfg.Wait
		if f.settling {
			wait = max(min(wait, time.Until(f.settled)), time.Second)
		}
		began, index := time.Now(), f.index
		a, err := f.read(ctx, index, wait, mayDial)
		mayDial = false
		if full(err) {
			// No room for one more blocking read: look now and then.
			if a, err = f.read(ctx, 0, 0, true); err == nil {
				if err := f.take(ctx, a); err != nil {
					return err
				}
				f.pause.sleep(ctx)
				continue
			}
		}
		if err != nil {
			return err
		}
		f.index = a.index
		if err := f.take(ctx, a); err != nil {
			return err
		}
		// An unchanged answer before its time comes from one that stops, or that
		// does not know how to wait.
		if a.index == index && time.Since(began) < wait/2 {
			f.pause.sleep(ctx)
		} else {
			f.pause.reset()
		}
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
	f.index, f.instance = 0, st.Node.Instance
	f.settling = f.cfg.Settle > 0
	f.settled = time.Now().Add(f.cfg.Settle)
	return nil
}

// answer is one list, read to its end.
type answer struct {
	index uint64
	known int
	peers []Peer
}

// read asks for the list, once it is newer than index.
func (f *follower) read(ctx context.Context, index uint64, wait time.Duration, mayDial bool) (answer, error) {
	if !mayDial && index != 0 {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
			if !c.Reused {
				cancel(errNewConn)
			}
		}})
	}
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
			f.publish(v)
			return nil
		}
	}
	f.settling = false
	now := time.Now()
	v := View{Service: old.Service, Peers: a.peers, Known: a.known, Index: a.index, Instance: f.instance, Changed: old.Changed, Heard: now}
	if old.Changed.IsZero() || !slices.EqualFunc(a.peers, old.Peers, Peer.same) {
		v.Changed = now
	}
	f.peers.Set(a.peers)
	f.publish(v)
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
func covers(peers, old []Peer) bool {
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
	f.publish(v)
}

// publish makes v the view, and tells who wants to know when it says something
// new.
func (f *follower) publish(v View) {
	old := f.view.Load()
	f.view.Store(&v)
	if !v.Changed.IsZero() && old.Changed.IsZero() {
		close(f.first)
	}
	if f.cfg.OnChange != nil && (!v.Changed.Equal(old.Changed) || (v.Err == nil) != (old.Err == nil)) {
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
