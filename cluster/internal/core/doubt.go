package core

import (
	"slices"
	"time"
)

// A peer that hears few of its partners, or nobody, does not know who is alive: they
// may be gone, or it may be cut off. What it shows then is for its own view alone.

// lookAround counts the partners that are heard, and takes in what follows for the
// view of this peer.
func (c *Core) lookAround() {
	silent, heard, all := 0, 0, 0
	anybody := false
	for _, r := range c.partners { // who is a partner is settled at the end of a Step
		w := r.watch
		quiet := c.now - max(w.heard, w.since)
		hears := c.hears(r)
		anybody = anybody || hears
		if quiet > silentAfter {
			silent++ // all are counted first: if nobody is heard, it is this peer that is cut off
		}
		if w.says != Refuses && (hears || quiet > silentAfter-redialAfter) {
			all++
			if hears {
				heard++
			}
		}
	}
	c.doubts(all > 2 && 2*heard < min(all, 4*watchWidth))
	switch { // a new watch is no sign of life: only what is heard ends it, or that all are known to be gone
	case !anybody && silent > 1:
		c.setCutOff(true)
	case len(c.partners) == 0:
		c.setCutOff(false)
	}
	if c.cutOff && c.now-c.cutAt-buryAfter < 2*TickEvery && c.now-c.cutAt >= buryAfter {
		c.showAll()
	}
}

// doubts takes in whether few of the partners are heard. Then this peer looks farther
// for some that it hears. While it finds none it does not know who is alive, and
// hands out only those of whom it has had a sign of life since.
func (c *Core) doubts(few bool) {
	switch {
	case few:
		c.few++
		c.ringMoved = true
		if c.few == 2 && c.doubt == 0 {
			c.setDoubt(c.now)
		}
	case c.few > 0:
		c.few, c.ringMoved = 0, true
	}
	if c.few == 0 && c.doubt > 0 && !c.cutOff && !slices.ContainsFunc(c.partners, func(r *row) bool { return r.State == Alive && !c.hears(r) }) {
		c.setDoubt(0)
	}
}

func (c *Core) setDoubt(since time.Duration) {
	c.doubt = since
	c.showAll()
}

func (c *Core) showAll() {
	for _, r := range c.byID {
		if !r.State.gone() {
			c.show(r)
		}
	}
}

// vouched says whether there was a sign of life of r since this peer has doubted its
// view.
func (c *Core) vouched(r *row) bool {
	return c.doubt == 0 || c.hears(r) || r.beatAt > c.doubt && (r.watch == nil || r.watch.says != Silent)
}

// setCutOff takes in whether nobody at all is heard. Then it is this peer that is
// cut off, or the last one, and it accuses nobody.
func (c *Core) setCutOff(cut bool) {
	if cut == c.cutOff {
		return
	}
	c.cutOff = cut
	if cut {
		c.log(LogWarn, "no partner answers: this peer is cut off, or the last one", "fix", "check this host's network")
	} else {
		c.log(LogInfo, "partners answer again")
	}
	if cut {
		c.cutAt = c.now
	}
	if cut && c.doubt == 0 {
		c.doubt = c.now
	}
	c.showAll()
	if !cut {
		c.contacts.soon(c)
		for _, r := range c.partners {
			if !c.hears(r) && !r.watch.dialing {
				c.dial(r)
			}
		}
	}
}
