package core

import (
	"slices"
	"time"
)

// A verdict goes to everybody. In a small cluster each of those who decided tells
// all. In a large one each member is told by two of its subject's neighbours, those
// that a hash of the pair puts first. When many go at once those who decide hold some
// for neighbours who are gone too. So a tick later, when they know, the neighbours
// tell it again, whether they decided or were told. Gossip repeats it for whoever
// lost all of that.

// retelling is a verdict that is to be told once more.
type retelling struct {
	r  *row
	at time.Duration
}

// announceWith makes a change to r and tells it.
func (c *Core) announceWith(r *row, change func()) {
	change()
	r.told = c.now
	large := len(c.ring) > directSends
	c.retellSoon(r)
	c.out.Sends = append(c.out.Sends, Send{To: c.audience(r), Gossip: large, Msg: News{From: c.self.ID, Recs: []Rec{c.export(r)}}})
}

// retellSoon lets r's neighbours tell once more what was decided on it.
func (c *Core) retellSoon(r *row) {
	if len(c.ring) > directSends && len(c.retellings) < maxRetellings {
		c.retellings = append(c.retellings, retelling{r, c.now + TickEvery})
	}
}

// retell tells the verdicts that are due once more.
func (c *Core) retell() {
	n := 0
	for _, t := range c.retellings {
		if c.now < t.at {
			break
		}
		n++
		if c.rows[t.r.ID] == t.r && t.r.State != Alive && slices.Contains(c.around(nil, t.r), c.self) {
			c.send(c.audience(t.r), News{From: c.self.ID, Recs: []Rec{c.export(t.r)}})
		}
	}
	c.retellings = slices.Delete(c.retellings, 0, n)
}

// audience returns whom this peer tells of r, and r itself.
func (c *Core) audience(r *row) []ID {
	to := make([]ID, 0, min(len(c.ring), directSends)+1)
	large := len(c.ring) > directSends
	var scratch [2*watchWidth + 1]*row
	tellers := scratch[:0]
	if large {
		tellers = c.around(tellers, r)
	}
	for _, o := range c.ring {
		if o != c.self && o != r && (!large || c.tells(tellers, o)) {
			to = append(to, o.ID)
		}
	}
	if r != c.self {
		to = append(to, r.ID)
	}
	return to
}

// around appends to dst those next to r's place on the ring, whether r is on it or
// not.
func (c *Core) around(dst []*row, r *row) []*row {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	next := at
	if found {
		next++
	}
	n := len(c.ring)
	for d := range watchWidth {
		for _, p := range []*row{c.ring[(next+d)%n], c.ring[(at-1-d+2*n)%n]} {
			if p != r {
				dst = append(dst, p)
			}
		}
	}
	return dst
}

// tells says whether this peer is one of those that tell o.
func (c *Core) tells(tellers []*row, o *row) bool {
	before, mine, one := 0, mix(c.self.place^o.place), false
	for _, p := range tellers {
		one = one || p == c.self
		if mix(p.place^o.place) > mine {
			before++
		}
	}
	return one && before < toldBy
}

// tell tells r what is held of it, so that it can undo it.
func (c *Core) tell(r *row) {
	r.told = c.now
	c.send([]ID{r.ID}, News{From: c.self.ID, Recs: []Rec{c.export(r)}})
}
