package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// The table is what this peer holds of every member: one row an instance. All
// changes happen under c.mu, most of them inside memberlist's callbacks, and
// end with publish: readers see immutable Views, the dispatcher sees Events.
// Nothing is called out with c.mu held.

// row is one instance in the table.
type row struct {
	m        Member
	swim     bool      // memberlist holds it alive
	buried   time.Time // when it last ceased to
	farewell uint64    // heartbeat counter of its goodbye, 0 when none was heard
	number   uint64    // of the record in m
	wanted   uint64    // number of the newest record announced
	body     []byte    // the record as it came, to hand on
	asked    bool      // a fetch of the wanted record is under way
	sentBeat uint64    // turn in which its heartbeat was last sent on
	late     bool      // its heartbeat is overdue

	// What is held against it; see judge.
	hash      uint64 // its place on the ring
	mine      evidence
	votes     map[Instance]vote
	epoch     uint64 // of its life as an accused
	crashed   bool   // the verdict of a majority
	crashBeat uint64 // its heartbeat counter then
	told      time.Time
	quiet     bool // it refuted what I hold: the others know better

	// Its watch streams.
	partner, succ bool
	heard         time.Time // a byte or an answer from it
	out, in       *watchStream
	had           bool // there was a stream once
	dialling      bool
	dialled       time.Time // when the last dial began

	// ghost hides an instance that did not answer when a later one took its
	// name. Should it be heard from after all, it is shown as a conflict.
	ghost bool
}

// farewellGrace is how many heartbeats after its goodbye a member must count up
// to be alive after all: a leaver is gone by then, so the goodbye was forged.
const farewellGrace = 30

func sortRows(rows []*row, newer func(a, b *row) bool) {
	slices.SortFunc(rows, func(a, b *row) int {
		switch {
		case newer(a, b):
			return -1
		case newer(b, a):
			return 1
		}
		return cmp.Compare(a.m.Instance, b.m.Instance)
	})
}

// set moves r to a state and tells of it. The caller holds c.mu and publishes.
func (c *Cluster) set(r *row, s State, cause Cause) {
	if r.m.State == s && r.m.Cause == cause {
		return
	}
	old := r.m.State
	if old != s {
		r.m.Since = time.Now()
	}
	r.m.State, r.m.Cause = s, cause
	switch {
	case old == s:
		c.emit(Updated, r)
	case s == Suspect:
		c.emit(Overdue, r)
	case s == Failed:
		c.emit(Fell, r)
	case s == Left:
		c.emit(Departed, r)
	default:
		r.m.Flaps++
		c.emit(Returned, r)
		if old == Failed {
			c.healed()
		}
	}
	c.log(r, old)
}

// log tells of a change of state in one line. The caller holds c.mu; hclog
// writes to stderr and never calls back.
func (c *Cluster) log(r *row, old State) {
	if old == r.m.State {
		return
	}
	args := []any{"member", r.m.Name, "addr", r.m.Addr.String(), "state", string(r.m.State)}
	if r.m.Cause != CauseNone {
		args = append(args, "cause", string(r.m.Cause))
	}
	c.logger.Info("member changed", args...)
}

// emit queues an event about r as it is now. The caller holds c.mu.
func (c *Cluster) emit(t EventType, r *row) {
	c.index++
	c.dirty = true
	c.queue = append(c.queue, Event{Seq: c.index, Type: t, At: c.cfg.Now(), Member: r.m})
}

// publish makes what has changed visible: first the View, then its events, so
// that who hears of an event finds it in the View. The caller holds c.mu.
func (c *Cluster) publish() {
	if !c.dirty {
		return
	}
	c.dirty = false
	v := &View{Index: c.index, Members: make([]Member, 0, len(c.rows))}
	for _, r := range c.rows {
		if !r.ghost {
			v.Members = append(v.Members, r.m)
		}
	}
	slices.SortFunc(v.Members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Instance, b.Instance))
	})
	c.remember()
	c.view.Store(v)
	c.cond.Broadcast()
	c.kickReconcile()
	select {
	case c.watchKick <- struct{}{}:
	default:
	}
}

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

func (c *Cluster) countLocked(s State) int {
	n := 0
	for _, r := range c.rows {
		if r.m.State == s && !r.ghost {
			n++
		}
	}
	return n
}

// drop takes r out of the table. The caller holds c.mu and sees to it that an
// event tells of it: Views change with one, or not at all.
func (c *Cluster) drop(r *row) {
	delete(c.rows, r.m.Instance)
	c.hangUp(r, byteGoodbye)
	c.ringRows = nil
}

// supersede drops r for good: a later start took its place. Announcements of
// r that still go around are refused from now on. The caller holds c.mu.
func (c *Cluster) supersede(r *row) {
	c.drop(r)
	c.gone[r.m.Instance] = time.Now()
	if len(c.gone) > maxMembers {
		oldest, at := Instance(0), time.Time{}
		for i, t := range c.gone {
			if oldest == 0 || t.Before(at) {
				oldest, at = i, t
			}
		}
		delete(c.gone, oldest)
	}
}

// heardFrom takes in fresh evidence that r lives: a heartbeat, an ack, a byte.
// The caller holds c.mu and publishes.
func (c *Cluster) heardFrom(r *row) {
	if r.ghost {
		c.unmask(r)
		return
	}
	if r.partner && r.mine == evSilent {
		c.lookAt(r)
	}
	beat := r.m.pulse.beat.Load()
	r.late = false
	if r.farewell > 0 && r.swim && beat > r.farewell+farewellGrace {
		r.farewell = 0
	}
	if r.crashed && r.swim && beat > r.crashBeat+crashGrace {
		r.crashed = false
	}
	c.judge(r)
}

// memberUp takes in that memberlist holds an instance alive.
func (c *Cluster) memberUp(name string, inst Instance, addr netip.AddrPort, number uint64, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	defer c.publish()
	now := time.Now()
	r := c.rows[inst]
	if r == nil {
		if r = c.admit(name, inst, addr, now); r == nil {
			c.askWhoLives(name, inst, addr, number, version)
			return
		}
		r.swim, r.wanted, r.m.Version = true, number, version
		c.emit(Joined, r)
		c.logger.Info("member joined", "member", name, "addr", addr.String(), "state", string(r.m.State))
	} else {
		if !r.swim {
			c.heardAnew(r, now)
		}
		if r.partner && r.mine == evSilent {
			c.lookAt(r)
		}
		r.swim = true
		if r.m.Addr != addr || r.m.Version != version {
			r.m.Addr, r.m.Version = addr, version
			c.emit(Updated, r)
		}
		r.wanted = max(r.wanted, number)
		r.m.pulse.touch(now)
		r.late = false
		c.judge(r)
	}
	if r != c.self {
		c.fetchLater(r)
	}
}

// admit makes a row for a new instance and settles what it means for the
// others of its name and address. It returns nil when the newcomer is itself
// out of date. The caller holds c.mu.
func (c *Cluster) admit(name string, inst Instance, addr netip.AddrPort, now time.Time) *row {
	r := &row{hash: ringHash(inst), m: Member{
		Name: name, Instance: inst, Addr: addr, State: Alive, Since: now,
		Tags: map[string]string{}, pulse: newPulse(c.started, now),
	}}
	for _, o := range slices.Collect(maps.Values(c.rows)) {
		sameName, sameAddr := o.m.Name == name, o.m.Addr == addr
		later := inst > o.m.Instance
		switch {
		case !sameName && !sameAddr:
		case sameName && sameAddr: // a restart; the later start is the live one
			if !later {
				return nil
			}
			c.supersede(o)
		case sameAddr: // the port has a new owner, so whoever had it is gone
			if later && o != c.self && (o.m.State == Alive || o.m.State == Suspect) {
				o.crashed, o.crashBeat = true, o.m.pulse.beat.Load()
				c.judge(o)
			}
		case o.m.State == Failed || o.m.State == Left:
			if later {
				c.supersede(o)
			}
		case later: // two live ones: the first is asked whether it still is
			r.m.Shadowed = true
			c.challengeLater(o, r)
		default: // an earlier one turns up after a later one
			o.m.Shadowed = o != c.self
			c.challengeLater(r, o)
		}
	}
	c.rows[inst] = r
	return r
}

// memberDown takes in that memberlist holds an instance dead or left; it does
// not tell which, so a goodbye heard before decides.
func (c *Cluster) memberDown(inst Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[inst]
	if r == nil || c.closed || r == c.self {
		return
	}
	r.swim, r.buried = false, time.Now()
	if r.ghost {
		c.drop(r)
	}
	c.judge(r)
	c.publish()
	c.kickReconcile() // the view may not have changed: see refuteGrace
}

// memberGone takes in the goodbye of an instance.
func (c *Cluster) memberGone(inst Instance, count uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[inst]
	if r == c.self {
		c.staying(count)
		return
	}
	if r == nil || r.farewell > 0 || r.m.pulse.beat.Load() > count+farewellGrace {
		return
	}
	r.farewell = max(count, 1)
	// For those whom the leaver did not reach; and if it lives, it hears of it.
	c.broadcasts.QueueBroadcast(recordBroadcast{owner: "left " + inst.String(), frame: farewellFrame(inst, r.farewell)})
	c.judge(r)
	c.publish()
}

// Forget drops a member that is failed or left, so that neither the table nor
// the reconciler keeps it. It fails with ErrUnknown or ErrLiving.
func (c *Cluster) Forget(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*row
	for _, r := range c.rows {
		if r.m.Name == name && !r.ghost {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return ErrUnknown
	}
	for _, r := range found {
		if r.m.State != Failed && r.m.State != Left {
			return ErrLiving
		}
	}
	for _, r := range found {
		c.supersede(r)
		c.emit(Forgot, r)
	}
	c.forgotten(name)
	c.publish()
	return nil
}
