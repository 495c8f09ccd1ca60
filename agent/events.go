package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/lockclient"
)

// ringSize is how many events are kept for who comes late.
const ringSize = 1024

// ring is the feed of events: a bounded history that readers pull from, so that
// a slow reader costs nothing and holds up nobody.
type ring struct {
	now func() time.Time

	mu     sync.Mutex
	events []api.Event
	seq    uint64
	more   chan struct{} // closed and replaced when an event comes
	closed bool
}

func newRing(now func() time.Time) *ring { return &ring{now: now, more: make(chan struct{})} }

// add gives e its number and wakes the readers.
func (r *ring) add(e api.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.seq++
	e.Seq = r.seq
	if e.At.IsZero() {
		e.At = r.now()
	}
	e.At = e.At.UTC()
	if len(r.events) == ringSize {
		r.events = slices.Delete(r.events, 0, ringSize/4)
	}
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
}

// after returns the events newer than since, and waits until there is one. A
// since that lies ahead is of an earlier start of this agent: like one that is
// too old it gets a reset, and then what there is.
func (r *ring) after(ctx context.Context, since uint64) ([]api.Event, error) {
	for {
		r.mu.Lock()
		events, seq, more, closed := r.events, r.seq, r.more, r.closed
		r.mu.Unlock()
		oldest := seq - uint64(len(events)) // what lies before the first
		if since > seq || since < oldest {
			reset := api.Event{Seq: oldest, Type: "reset", At: r.now().UTC(), Text: "earlier events are gone; read the state anew"}
			return append([]api.Event{reset}, events...), nil
		}
		if since < seq {
			return slices.Clone(events[since-oldest:]), nil
		}
		if closed {
			return nil, context.Canceled
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *ring) bounds() api.StatusEvents {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := api.StatusEvents{Seq: r.seq}
	if len(r.events) > 0 {
		out.Oldest = r.events[0].Seq
	}
	return out
}

// close ends the waits of all readers.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		close(r.more)
	}
}

func memberEvent(e cluster.Event) api.Event {
	m := e.Member
	return api.Event{
		Type: string(e.Type),
		At:   e.At,
		Member: &api.EventMember{
			Name: m.Name, Instance: m.Instance.String(), Addr: m.Addr.String(),
			State: string(m.State), Cause: string(m.Cause),
		},
		Text: memberText(e),
	}
}

func memberText(e cluster.Event) string {
	m := e.Member
	switch e.Type {
	case cluster.Joined:
		return fmt.Sprintf("%s joined at %s", m.Name, m.Addr)
	case cluster.Returned:
		return m.Name + " is back"
	case cluster.Overdue:
		return m.Name + " is out of rotation: " + api.CauseText(string(m.State), string(m.Cause), m.Addr.String())
	case cluster.Fell:
		return fmt.Sprintf("%s failed: %s", m.Name, m.Cause)
	case cluster.Departed:
		return m.Name + " left"
	case cluster.Forgot:
		return m.Name + " was forgotten"
	case cluster.Updated:
		if m.Cause == cluster.CauseConflict {
			return fmt.Sprintf("%s runs twice, here at %s", m.Name, m.Addr)
		}
	}
	return m.Name + " changed"
}

func lockEvent(e lockclient.Event, node string) api.Event {
	out := api.Event{Type: string(e.Type), At: e.At}
	switch e.Type {
	case lockclient.RedisUp:
		out.Text = "Redis answers"
		return out
	case lockclient.RedisDown:
		out.Text = "Redis does not answer: " + e.Reason
		return out
	}
	out.Lock = &api.EventLock{Name: e.Name, Node: node, Fence: e.Fence}
	switch e.Type {
	case lockclient.LockAcquired:
		out.Text = fmt.Sprintf("%s acquired lock %s, fence %d", node, e.Name, e.Fence)
	case lockclient.LockReleased:
		out.Text = fmt.Sprintf("%s released lock %s", node, e.Name)
	case lockclient.LockLost:
		out.Text = fmt.Sprintf("%s lost lock %s: %s", node, e.Name, e.Reason)
	}
	return out
}
