package core

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// row is what is held of one instance.
type row struct {
	Rec
	place  uint64 // on the ring
	since  time.Duration
	hot    bool
	hollow bool // its epoch is known by a vote, and the rest of its record is older
	shown  bool // it was told of in a Change, and not dropped
	seen   State
	why    Cause

	swimDead  bool
	swimAt    time.Duration // when that began, or was last asked about
	swimAsked bool
	beat      uint64
	beatAt    time.Duration
	number    uint64 // of body
	body      []byte
	data      any
	fetch     fetch
	watch     *watch // of a partner
	votes     []vote
	first     time.Duration // when the first crash vote of this doubt came
	second    time.Duration // when the second accusation came
	pending   Rec           // a verdict of an exchange that waits for an answer
	pendingAt time.Duration // 0: none
	told      time.Duration // when it was last told that it is out
	answered  time.Duration // when this peer last said that it hears it
	conflict  bool          // another live instance has its name
	shadowed  bool          // and that one is the earlier
	hidden    bool          // another instance took its place
	retry     retry
}

// doubtful says whether time alone may change what is held of r.
func (r *row) doubtful(now time.Duration) bool {
	return len(r.votes) > 0 || r.pendingAt > 0 || r.swimDead && !r.State.gone() ||
		r.fetch.due > 0 || r.watch != nil && r.watch.says.accuses()
}

// Info is one instance as it is shown.
type Info struct {
	Rec
	Shown    State // Alive, Suspect, Failed or Left
	Why      Cause
	Since    time.Duration
	Body     []byte
	Data     any
	Number   uint64
	Conflict bool // another live instance has its name
	Shadowed bool // and that one is the earlier
	Self     bool
}

// Shown returns what is shown of id; ok is false for what is not shown.
func (c *Core) Shown(id ID) (i Info, ok bool) {
	r := c.rows[id]
	if r == nil || !r.shown {
		return Info{}, false
	}
	return Info{
		Rec: r.Rec, Shown: r.seen, Why: r.why, Since: r.since, Body: r.body, Data: r.data, Number: r.number,
		Conflict: r.conflict, Shadowed: r.shadowed, Self: r == c.self,
	}, true
}

func (c *Core) heat(r *row) {
	if !r.hot && r != c.self {
		r.hot = true
		c.hot = append(c.hot, r)
	}
}

// insert makes a row for rec.
func (c *Core) insert(rec Rec) *row {
	r := &row{Rec: rec, place: place(rec.ID), since: c.now - rec.Age}
	r.Age = 0
	c.rows[r.ID] = r
	at, _ := slices.BinarySearchFunc(c.byID, r.ID, func(o *row, id ID) int { return cmp.Compare(o.ID, id) })
	c.byID = slices.Insert(c.byID, at, r)
	key := strings.ToLower(r.Name)
	c.names[key] = append(c.names[key], r)
	c.addrs[r.Addr] = append(c.addrs[r.Addr], r)
	c.beats = append(c.beats, r)
	c.hash += r.sum()
	if r.State.gone() {
		c.gone++
	} else {
		c.live++
		c.ringIn(r)
	}
	c.touched = append(c.touched, r)
	return r
}

// remove takes r out of the table.
func (c *Core) remove(r *row) {
	delete(c.rows, r.ID)
	at, _ := slices.BinarySearchFunc(c.byID, r.ID, func(o *row, id ID) int { return cmp.Compare(o.ID, id) })
	c.byID = slices.Delete(c.byID, at, at+1)
	key := strings.ToLower(r.Name)
	if c.names[key] = without(c.names[key], r); len(c.names[key]) == 0 {
		delete(c.names, key)
	}
	c.unaddress(r)
	c.beats = without(c.beats, r)
	c.hash -= r.sum()
	if r.State.gone() {
		c.gone--
	} else {
		c.live--
		c.ringOut(r)
	}
	if r.hot {
		c.hot = without(c.hot, r)
	}
	if r.watch != nil {
		c.unwatch(r)
	}
}

func (c *Core) unaddress(r *row) {
	if c.addrs[r.Addr] = without(c.addrs[r.Addr], r); len(c.addrs[r.Addr]) == 0 {
		delete(c.addrs, r.Addr)
	}
}

func without(rows []*row, r *row) []*row {
	if at := slices.Index(rows, r); at >= 0 {
		return slices.Delete(rows, at, at+1)
	}
	return rows
}

// sum is r's part of the hash of the table: two tables with the same sum hold the
// same records.
func (r *row) sum() uint64 {
	x := uint64(r.ID)
	x = mix(x ^ r.Epoch<<8 ^ uint64(r.State)<<4 ^ uint64(r.Cause))
	return mix(x ^ r.Number<<8 ^ uint64(r.Level))
}

// edit changes r by f, and keeps all that is counted in step.
func (c *Core) edit(r *row, f func()) {
	gone, addr := r.State.gone(), r.Addr
	c.hash -= r.sum()
	f()
	c.hash += r.sum()
	if r.Addr != addr {
		c.addrs[addr] = without(c.addrs[addr], r)
		c.addrs[r.Addr] = append(c.addrs[r.Addr], r)
	}
	switch now := r.State.gone(); {
	case gone && !now:
		c.gone--
		c.live++
		c.ringIn(r)
	case !gone && now:
		c.live--
		c.gone++
		c.ringOut(r)
	}
	c.touched = append(c.touched, r)
}

// show brings what is shown of r up to date, and says what changed.
func (c *Core) show(r *row) {
	s, why := r.State, r.Cause
	if s == Alive {
		why = NoCause
	}
	if r != c.self && !s.gone() {
		switch {
		case c.cutOff && r.swimDead:
			s, why = Failed, Unreachable
		case c.cutOff && s == Alive:
			s, why = Suspect, Overdue
		case s == Alive && r.watch != nil && r.watch.says.crash() && c.now-r.watch.at >= crashWait:
			s, why = Suspect, Unreachable // for this peer alone: the others hear it
		}
	}
	if r == c.self && c.cutOff && s == Suspect {
		s, why = Alive, NoCause // of all that this peer knows, only it itself can be handed out
	}
	visible := s <= Left && !r.hidden
	switch {
	case !visible && !r.shown:
		return
	case !visible:
		r.shown = false
		kind := Replaces
		if r.State == Forgotten || c.rows[r.ID] == nil {
			kind = Dropped
		}
		c.out.Changes = append(c.out.Changes, Change{Kind: kind, Peer: r.ID, From: r.seen})
	case !r.shown:
		r.shown, r.seen, r.why = true, s, why
		c.out.Changes = append(c.out.Changes, Change{Kind: Joined, Peer: r.ID})
		c.log(LogInfo, "member joined", "member", r.Name, "addr", r.Addr, "state", s)
	case s != r.seen || why != r.why:
		from := r.seen
		if s != from {
			r.since = c.now
			switch {
			case s == Alive:
				c.stats.Flaps++
			case from == Alive && s < Left:
				c.stats.Suspicions++
			}
			c.log(LogInfo, "member changed", "member", r.Name, "addr", r.Addr, "state", s, "cause", why)
		}
		r.seen, r.why = s, why
		kind := Changed
		if s == from {
			kind = Updated
		}
		c.out.Changes = append(c.out.Changes, Change{Kind: kind, Peer: r.ID, From: from})
	}
}

// updated says that something else about r changed.
func (c *Core) updated(r *row) {
	if r.shown {
		c.out.Changes = append(c.out.Changes, Change{Kind: Updated, Peer: r.ID, From: r.seen})
	}
}
