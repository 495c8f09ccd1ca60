package core

import (
	"bytes"
	"time"
)

// The tags and services of a member do not fit a Rec. Their owner numbers them,
// and the Rec carries the number. A small record is sent to all; whoever lacks the
// number that was announced asks the owner. What is in a record is none of the
// core's business.

// maxNumber bounds what a stranger may number.
const maxNumber = 1 << 40

// fetch is a record on its way.
type fetch struct {
	due  time.Duration // when its owner is asked, 0 if nothing is wanted
	wait time.Duration
}

// announced takes in that r has a record of this number.
func (c *Core) announced(r *row, number uint64) {
	if number > maxNumber {
		return
	}
	if number > r.Rec.Number {
		c.edit(r, func() { r.Rec.Number = number })
	}
	c.lacks(r)
}

// lacks sees to it that r's record is asked for, if this peer lacks the newest and r
// can answer. It is called whenever either may have become so.
func (c *Core) lacks(r *row) {
	if r != c.self && r.Rec.Number > r.number && r.fetch.due == 0 && !r.State.gone() {
		r.fetch = fetch{due: c.now + c.rng.jitter(fetchAfter), wait: fetchAfter}
		c.heat(r)
	}
}

// fetchDue asks for r's record if it is late.
func (c *Core) fetchDue(r *row) {
	f := &r.fetch
	switch {
	case f.due == 0 || c.now < f.due:
	case r.number >= r.Rec.Number || r.State.gone():
		*f = fetch{}
	case c.fetches == fetchBurst: // the next tick goes on
	default:
		c.fetches++
		f.wait = min(2*f.wait, exchangeMost)
		f.due = c.now + c.rng.jitter(f.wait)
		c.send([]ID{r.ID}, Want{From: c.self.ID, Owner: r.ID})
	}
}

// takeRecord takes in a record.
func (c *Core) takeRecord(in Record) {
	r := c.rows[in.Peer]
	switch {
	case r == nil || in.Number > maxNumber:
		return
	case r == c.self:
		if in.Number > r.number || in.Number == r.number && !bytes.Equal(in.Body, r.body) {
			c.log(LogWarn, "somebody spread a record in this peer's name: contradicting it")
			c.number(in.Number + 1)
		}
		return
	case in.Number <= r.number:
		return
	}
	news := r.number > 0 || len(in.Body) > 0
	c.edit(r, func() { r.Rec.Number = max(r.Rec.Number, in.Number) })
	r.number, r.body, r.data = in.Number, in.Body, in.Data
	if r.number >= r.Rec.Number {
		r.fetch = fetch{}
	}
	if news {
		c.updated(r)
	}
	if len(c.ring) > directSends {
		c.out.Sends = append(c.out.Sends, Send{Gossip: true, Msg: RecordOf{Peer: r.ID}})
	}
}

// setRecord makes a new record of this peer's.
func (c *Core) setRecord(in SetRecord) {
	c.self.body, c.self.data = in.Body, in.Data
	c.number(c.self.number + 1)
	c.updated(c.self)
}

// number numbers this peer's record, and tells everybody.
func (c *Core) number(n uint64) {
	s := c.self
	c.edit(s, func() { s.Rec.Number = min(n, maxNumber) })
	s.number = s.Rec.Number
	c.out.Sends = append(c.out.Sends, Send{To: c.everybody(), Gossip: len(c.ring) > directSends, Msg: RecordOf{Peer: s.ID}})
}
