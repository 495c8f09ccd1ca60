package core

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// row is what is held of one instance.
type row struct {
	Rec
	place uint64        // on the ring
	since time.Duration // when it came into its state
	hot   bool
	shown bool // it was told of in a Change, and not dropped
	seen  State
	why   Cause
	from  time.Duration // since when it is shown so

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
	pending   *Rec          // a verdict of an exchange that waits for an answer
	pendingAt time.Duration // 0: none
	told      time.Duration // when it was last told that it is out
	answered  time.Duration // when this peer last said that it hears it
	conflict  bool          // another live instance has its name
	shadowed  bool          // and that one is the earlier
	hidden    bool          // another instance took its place
	retry     retry
	nextName  *row // the next row of the same name, in whatever case
	nextAddr  *row // the next row of the same address
}

// doubtful says whether time alone may decide on r.
func (r *row) doubtful() bool {
	return !r.State.gone() && (len(r.votes) > 0 || r.pendingAt > 0 || r.swimDead || r.watch != nil && r.watch.says.accuses())
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
		Rec: r.Rec, Shown: r.seen, Why: r.why, Since: r.from, Body: r.body, Data: r.data, Number: r.number,
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
	c.byID = insertByID(c.byID, r)
	key := strings.ToLower(r.Name)
	r.nextName, c.names[key] = c.names[key], r
	c.warnCase(r)
	c.address(r)
	c.inherit(r)
	c.hash += r.sum()
	c.moved(r, 0, r.State)
	c.touched = append(c.touched, r)
	return r
}

// moved keeps what is counted in step with r, which was in state from and is in
// state to; 0 is outside of the table.
func (c *Core) moved(r *row, from, to State) {
	switch was, is := from.onRing(), to.onRing(); {
	case was && !is:
		c.ringOut(r)
	case is && !was:
		c.ringIn(r)
	}
	switch was, is := from.gone(), to.gone(); {
	case was && !is:
		c.gone--
	case is && !was:
		c.gone++
	}
	if to.gone() {
		c.expires = min(c.expires, r.since+c.keep(to))
	}
	switch was, is := from.missing(), to.missing(); {
	case was && !is:
		c.missing = deleteByID(c.missing, r)
	case is && !was:
		c.missing = insertByID(c.missing, r)
		if from == Alive && r != c.self {
			c.own.went(c.now, len(c.ring))
		}
	}
}

// grow makes room for n rows more at once.
func (c *Core) grow(n int) {
	c.rows, c.names, c.addrs = grown(c.rows, n), grown(c.names, n), grown(c.addrs, n)
	c.byID, c.ring, c.touched = slices.Grow(c.byID, n), slices.Grow(c.ring, n), slices.Grow(c.touched, n)
	c.out.Changes = slices.Grow(c.out.Changes, n)
}

func grown[K comparable](m map[K]*row, n int) map[K]*row {
	out := make(map[K]*row, len(m)+n)
	maps.Copy(out, m)
	return out
}

// remove takes r out of the table.
func (c *Core) remove(r *row) {
	delete(c.rows, r.ID)
	c.byID = deleteByID(c.byID, r)
	key := strings.ToLower(r.Name)
	if first := unlink(c.names[key], r, (*row).byName); first != nil {
		c.names[key] = first
	} else {
		delete(c.names, key)
	}
	c.unaddress(r, r.Addr)
	c.disinherit(r, r.Prev)
	c.hash -= r.sum()
	c.moved(r, r.State, 0)
	if r.hot {
		c.hot = without(c.hot, r)
	}
	if r.watch != nil {
		c.unwatch(r)
	}
}

func (c *Core) address(r *row) { r.nextAddr, c.addrs[r.Addr] = c.addrs[r.Addr], r }

func (c *Core) unaddress(r *row, addr netip.AddrPort) {
	if first := unlink(c.addrs[addr], r, (*row).byAddr); first != nil {
		c.addrs[addr] = first
	} else {
		delete(c.addrs, addr)
	}
}

func (c *Core) inherit(r *row) {
	if r.Prev != 0 {
		c.heirs[r.Prev] = append(c.heirs[r.Prev], r)
	}
}

func (c *Core) disinherit(r *row, prev ID) {
	if c.heirs[prev] = without(c.heirs[prev], r); len(c.heirs[prev]) == 0 {
		delete(c.heirs, prev)
	}
}

// The rows of one name, and those of one address, are chains: nearly all have one
// row.

func (r *row) byName() **row { return &r.nextName }
func (r *row) byAddr() **row { return &r.nextAddr }

// unlink takes r out of a chain and returns the first of the rest.
func unlink(first, r *row, next func(*row) **row) *row {
	for at := &first; *at != nil; at = next(*at) {
		if *at == r {
			*at = *next(r)
			break
		}
	}
	*next(r) = nil
	return first
}

func compareID(o *row, id ID) int { return cmp.Compare(o.ID, id) }

func insertByID(rows []*row, r *row) []*row {
	at, _ := slices.BinarySearchFunc(rows, r.ID, compareID)
	return slices.Insert(rows, at, r)
}

func deleteByID(rows []*row, r *row) []*row {
	if at, found := slices.BinarySearchFunc(rows, r.ID, compareID); found {
		return slices.Delete(rows, at, at+1)
	}
	return rows
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
	state, addr, prev, since := r.State, r.Addr, r.Prev, r.since
	c.hash -= r.sum()
	f()
	c.hash += r.sum()
	if r.Addr != addr {
		c.unaddress(r, addr)
		c.address(r)
	}
	if r.Prev != prev {
		c.disinherit(r, prev)
		c.inherit(r)
	}
	if r.State != state {
		if r.since == since {
			r.since = c.now
		}
		c.moved(r, state, r.State)
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
		case c.cutOff && (r.swimDead || c.now-c.cutAt >= buryAfter):
			s, why = Failed, Unreachable
		case s == Alive && !c.vouched(r):
			s, why = Suspect, Overdue
		case s == Alive && r.watch != nil && r.watch.says == Refuses && c.now-r.watch.at >= crashWait:
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
		c.out.Changes = append(c.out.Changes, Change{Kind: kind, Peer: r.ID, From: r.seen, To: r.seen, Why: r.why})
	case !r.shown:
		r.shown, r.seen, r.why, r.from = true, s, why, r.since
		c.out.Changes = append(c.out.Changes, Change{Kind: Joined, Peer: r.ID, To: s, Why: why})
		if c.source != firstTable || len(c.byID) <= directSends { // a line for each of thousands helps nobody
			c.log(LogInfo, "member joined", "member", r.Name, "addr", r.Addr, "state", s)
		}
	case s != r.seen || why != r.why:
		from := r.seen
		if s != from {
			r.from = c.now
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
		c.out.Changes = append(c.out.Changes, Change{Kind: kind, Peer: r.ID, From: from, To: s, Why: why})
	}
}

// updated says that something else about r changed.
func (c *Core) updated(r *row) {
	if r.shown {
		c.out.Changes = append(c.out.Changes, Change{Kind: Updated, Peer: r.ID, From: r.seen, To: r.seen, Why: r.why})
	}
}
