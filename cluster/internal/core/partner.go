package core

import (
	"slices"
	"time"
)

// Evidence is what one partner says of a member.
type Evidence uint8

const (
	Nothing Evidence = iota
	Hears            // it has heard the member within silentAfter
	Silent           // it has not
	NoRoute          // it hears the member, and cannot dial its address
	Refuses          // its address refuses, or another instance answers there
)

func (e Evidence) accuses() bool { return e >= Silent }

// watch is what a partner of this peer is watched by.
type watch struct {
	succ    bool          // this peer dials it, and keeps the stream
	out     bool          // that stream is open
	since   time.Duration // when the watch began, or the epoch was raised
	heard   time.Duration // the last byte, 0 if never
	broke   time.Duration // when a stream broke last: what came before proves nothing
	says    Evidence      // what this peer says of it
	at      time.Duration // since when
	told    time.Duration // when the others were last told
	dialing bool
	dialed  time.Duration // when the last dial began
	proven  bool          // its address answered a dial
	held    int           // share of time in which beats to it were held up, in 1/1024
	late    int           // share of time in which its own were
}

// followRing makes this peer's partners those that the ring asks for.
func (c *Core) followRing() {
	c.ringMoved = false
	if c.self.State == Left {
		return
	}
	var scratch [4 * watchWidth]*row
	after := c.walk(scratch[:0], 1)
	all := c.walk(after, -1)
	succs := len(after)
	for _, r := range slices.Clone(c.partners) {
		if !slices.Contains(all, r) {
			c.unwatch(r)
		}
	}
	for i, r := range all {
		succ := c.few > 0 || i < succs || slices.Contains(all[:succs], r) // who is one of few knows only here that this peer watches it
		if r.watch == nil {
			r.watch = &watch{since: c.now}
			c.partners = append(c.partners, r)
		} else if r.watch.succ && !succ {
			c.out.Closes = append(c.out.Closes, Close{Peer: r.ID, OnlyOut: true})
			r.watch.dialing = false // its result will not come
		}
		fresh := succ && !r.watch.succ
		if r.watch.succ = succ; fresh && !r.watch.dialing {
			c.dial(r)
		}
	}
	for i := 0; i < len(c.hot); i++ { // one partner less, perhaps, that they could wait for
		c.judge(c.hot[i])
	}
}

// unwatch ends the watch of r with a goodbye.
func (c *Core) unwatch(r *row) {
	c.partners = without(c.partners, r)
	r.watch = nil
	c.out.Closes = append(c.out.Closes, Close{Peer: r.ID})
	c.touched = append(c.touched, r)
}

// dial asks for a stream to r, or what becomes of one.
func (c *Core) dial(r *row) {
	w := r.watch
	w.dialing, w.dialed = true, c.now
	c.out.Dials = append(c.out.Dials, Dial{Peer: r.ID, Addr: r.Addr, Probe: !w.succ})
}

// up takes in that a stream to or from id is open.
func (c *Core) up(id ID, out bool) {
	r := c.other(id)
	if r == nil {
		return
	}
	if r.State.gone() { // it lives: whoever opens a stream shall know what is held of it
		c.tell(r)
		return
	}
	w := r.watch
	if w == nil {
		return
	}
	if out {
		w.proven, w.out, w.dialing = true, true, false
	}
	if !out {
		c.own.noRoute = false // somebody could dial this peer
	}
	c.heard(r, c.now)
	if !out && !w.proven && !w.dialing {
		c.dial(r) // it reached me; can I reach it?
	}
}

// dialled takes in what became of a dial.
func (c *Core) dialled(id ID, result DialResult) {
	r := c.other(id)
	if r == nil || r.watch == nil {
		return
	}
	w := r.watch
	w.dialing = false
	switch result {
	case Answered:
		w.proven = true
		c.heard(r, c.now)
	case Refused:
		if c.hears(r) {
			c.noRoute(r)
		} else {
			c.say(r, Refuses)
		}
	case TimedOut:
		if c.hears(r) {
			c.noRoute(r)
		}
	}
}

// noRoute takes in that r, which is heard, could not be dialled. Once may be the
// network's fault.
func (c *Core) noRoute(r *row) {
	if w := r.watch; !w.proven && c.now-w.since > redialAfter {
		c.say(r, NoRoute)
	}
}

// broke takes in that a stream of r ended without a goodbye.
func (c *Core) broke(id ID) {
	r := c.other(id)
	if r == nil || r.watch == nil {
		return
	}
	w := r.watch
	w.out = false
	w.since, w.heard, w.broke = max(w.since, w.heard), 0, c.now // the silence goes on
	if w.says == Hears {
		w.says = Nothing // when it is heard again, those who ask are told
	}
	c.dial(r)
}

// hears says whether this peer hears its partner r.
func (c *Core) hears(r *row) bool {
	w := r.watch
	return w != nil && w.heard > 0 && c.now-w.heard <= silentAfter
}

// heard takes in that r was heard at a time.
func (c *Core) heard(r *row, at time.Duration) {
	w := r.watch
	if w == nil || at < max(w.heard, w.since, w.broke) {
		return
	}
	w.heard = max(at, 1)
	r.beatAt = max(r.beatAt, at)
	if c.doubt > 0 {
		c.show(r)
	}
	if w.says != NoRoute || w.proven {
		c.say(r, Hears)
	}
	if r.State == Suspect && c.now-r.told >= tellEvery {
		c.tell(r)
	}
	if c.cutOff {
		c.setCutOff(false)
		c.exchange(r) // it knows who was heard
		if c.own.trouble == Deaf {
			c.own.trouble = NoCause
			c.comesBack()
		}
	}
}

// say makes e what this peer says of r, and tells the other partners if it is
// news to them.
func (c *Core) say(r *row, e Evidence) {
	w := r.watch
	if w == nil || w.says == e || w.says == Refuses && e == Silent {
		return
	}
	old := w.says
	w.says, w.at = e, c.now
	c.ringMoved = c.ringMoved || e == Refuses || old == Refuses
	if e.accuses() {
		c.heat(r)
		if !c.cutOff {
			c.vote(r, true)
		}
	} else if old.accuses() || len(r.votes) > 0 {
		c.vote(r, false)
	}
	c.judge(r)
	c.touched = append(c.touched, r)
}

// readLinks takes in the state of the streams.
func (c *Core) readLinks(links []Link) {
	for _, r := range c.partners {
		r.watch.out = false
	}
	for _, l := range links {
		r := c.rows[l.Peer]
		if r == nil || r.watch == nil {
			continue
		}
		w := r.watch
		w.out = l.Out
		if l.Out && l.Pending <= hopelessAfter && !c.cutOff {
			average(&w.held, l.Pending > stalledAfter)
		}
		if l.Heard > w.heard {
			c.heard(r, l.Heard)
		}
	}
	for _, r := range c.partners {
		average(&r.watch.late, c.now-max(r.watch.heard, r.watch.since) > BeatEvery+stalledAfter)
	}
}

// average keeps the share of time in which something was bad.
func average(s *int, bad bool) {
	now := 0
	if bad {
		now = 1024
	}
	*s += (now - *s) / lossyTicks
	if !bad && *s < lossyTicks {
		*s = 0
	}
}

// redial dials the partners that are silent: a few of many in each tick, in turn.
func (c *Core) redial() {
	dials := 0
	for i, n := 0, len(c.partners); i < n; i++ {
		r := c.partners[(c.dialTurn+i)%n]
		w := r.watch
		since := c.now - w.dialed
		if w.dialing || ((c.now-max(w.heard, w.since) <= redialAfter && (!w.succ || w.out)) || since <= redialAfter) && (w.proven || since <= proveEvery) {
			continue
		}
		if dials++; dials > watchWidth {
			c.dialTurn = (c.dialTurn + i) % n
			return
		}
		c.dial(r)
	}
}

// listen looks for silence among the partners.
func (c *Core) listen() {
	if c.self.State == Left {
		return
	}
	c.redial()
	c.lookAround()
	for _, r := range c.partners { // who is a partner is settled at the end of a Step
		w := r.watch
		if c.now-max(w.heard, w.since) > silentAfter {
			c.say(r, Silent)
		}
		if w.says.accuses() && !c.cutOff && c.now-w.told > renewEvery {
			c.vote(r, true)
		}
	}
}

// late takes in that this process was held up.
func (c *Core) late(gap time.Duration) {
	forgive := func(at *time.Duration) {
		if *at > 0 {
			*at = min(*at+gap, c.now)
		}
	}
	for _, r := range c.partners {
		forgive(&r.watch.heard)
		forgive(&r.watch.since)
		forgive(&r.watch.at)
	}
	for _, r := range c.hot {
		for i := range r.votes {
			forgive(&r.votes[i].at)
		}
		forgive(&r.first)
		forgive(&r.second)
		forgive(&r.pendingAt)
	}
	c.own.stalled = c.now
	c.out.Stalled = gap
}
