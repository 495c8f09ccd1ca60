package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/text"
)

// What the owner knows becomes visible here: first the View, then its events, so
// that whoever hears of an event finds it in the View.

// publishGap is the least time between two Views, for each member: copying one
// of 10,000 members takes a millisecond, and 20 a second are enough. In a small
// cluster every change is visible at once.
const publishGap = 5 * time.Microsecond

// change takes in one change of what is shown.
func (c *Cluster) change(ch core.Change) {
	id := Instance(ch.Peer)
	i, shown := c.core.Shown(ch.Peer)
	if !shown {
		old, known := c.table[id]
		if !known {
			return
		}
		delete(c.table, id)
		delete(c.pulses, ch.Peer)
		c.changed = append(c.changed, key{old.Name, id})
		if ch.Kind == core.Dropped {
			c.emit(Forgot, old)
		} else {
			c.silent = true // the change that took its place tells of it
		}
		return
	}
	m := c.member(i)
	m.State, m.Cause = stateOf(ch.To), causeOf(ch.To, ch.Why, i.Conflict)
	if old, ok := c.table[id]; ok {
		m.Flaps = old.Flaps
	}
	t := Updated
	switch {
	case ch.Kind == core.Joined && ch.To == core.Alive:
		t = Joined
	case ch.Kind == core.Updated:
	case ch.To == core.Suspect:
		t = Overdue
	case ch.To == core.Failed:
		t = Fell
	case ch.To == core.Left:
		t = Departed
	default:
		t = Returned
		m.Flaps++
	}
	c.table[id] = m
	c.changed = append(c.changed, key{m.Name, id})
	c.emit(t, m)
}

// member draws i as others see it.
func (c *Cluster) member(i core.Info) Member {
	p := c.pulses[i.ID]
	if p == nil {
		p = newPulse(c.started, i.Since)
		c.pulses[i.ID] = p
	}
	m := Member{
		Name: i.Name, Instance: Instance(i.ID), Addr: i.Addr, Self: i.Self,
		State: stateOf(i.Shown), Cause: causeOf(i.Shown, i.Why, i.Conflict), Since: c.started.Add(i.Since),
		Version: text.Safe(i.Version), Shadowed: i.Shadowed, pulse: p, Tags: noTags,
	}
	if r, ok := i.Data.(record); ok {
		m.Services = r.Services
		if r.Tags != nil {
			m.Tags = r.Tags
		}
	}
	return m
}

var noTags = map[string]string{}

func stateOf(s core.State) State {
	switch s {
	case core.Alive:
		return Alive
	case core.Suspect:
		return Suspect
	case core.Left:
		return Left
	}
	return Failed
}

func causeOf(s core.State, why core.Cause, conflict bool) Cause {
	switch {
	case s == core.Alive && conflict:
		return CauseConflict
	case s == core.Left:
		return CauseLeft
	}
	return Cause(why.String())
}

// emit queues an event. The owner calls it.
func (c *Cluster) emit(t EventType, m Member) {
	c.index++
	c.silent = false
	c.pending = append(c.pending, Event{Seq: c.index, Type: t, At: c.cfg.Now(), Member: m})
}

// publish makes what has changed visible, unless the last View is too young for
// its size.
func (c *Cluster) publish() {
	c.publishAck()
	if len(c.changed) == 0 || c.publishAt != nil {
		return
	}
	gap := time.Duration(len(c.table)) * publishGap
	if wait := c.published + gap - c.now(); wait > 0 && gap > time.Millisecond {
		c.publishAt = time.After(wait)
		return
	}
	c.published = c.now()
	if c.silent { // a View changes with an event, or not at all
		c.emit(Updated, c.table[Instance(c.core.Self())])
	}
	c.view.Store(&View{Index: c.index, Members: c.members()})
	if c.core.Joined() {
		c.joined.Store(true)
	}
	c.mu.Lock()
	c.queue = append(c.queue, c.pending...)
	c.mu.Unlock()
	clear(c.pending) // it keeps no member that is gone
	c.pending = c.pending[:0]
	c.cond.Broadcast()
	c.seeds.kick()
	select {
	case c.unsaved <- struct{}{}:
	default:
	}
}

// key is where a member stands in a View.
type key struct {
	name     string
	instance Instance
}

func compareKey(a, b key) int {
	return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.instance, b.instance))
}

// members returns the members of the next View: those of the last one, with what
// has changed since. Only that is sorted; the rest is copied.
func (c *Cluster) members() []Member {
	slices.SortFunc(c.changed, compareKey)
	old := c.shown
	c.shown = make([]Member, 0, len(c.table))
	for _, k := range slices.Compact(c.changed) {
		at, found := slices.BinarySearchFunc(old, k, func(m Member, k key) int { return compareKey(key{m.Name, m.Instance}, k) })
		c.shown = append(c.shown, old[:at]...)
		if m, ok := c.table[k.instance]; ok {
			c.shown = append(c.shown, m)
		}
		if found {
			at++
		}
		old = old[at:]
	}
	c.shown = append(c.shown, old...)
	if cap(c.changed) > changedKept {
		c.changed = nil
	}
	c.changed = c.changed[:0]
	return c.shown
}

// changedKept bounds what is kept of a list that a join of thousands made long.
const changedKept = 1024

// dispatch hands events to OnEvent, in order, until the cluster is closed.
func (c *Cluster) dispatch() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.cond.Wait()
		}
		batch := c.queue
		c.queue = nil
		done := c.closed
		c.mu.Unlock()
		for _, e := range batch {
			if c.cfg.OnEvent != nil {
				c.cfg.OnEvent(e, c.View())
			}
		}
		if done && len(batch) == 0 {
			return
		}
	}
}

// View returns the newest picture of the cluster. It takes no lock.
func (c *Cluster) View() *View { return c.view.Load() }
