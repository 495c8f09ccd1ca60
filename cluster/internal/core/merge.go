package core

import (
	"slices"
	"time"
)

// export returns r's record as others get it.
func (c *Core) export(r *row) Rec {
	rec := r.Rec
	rec.Age = c.now - r.since
	rec.Number = max(rec.Number, r.number)
	return rec
}

// Table appends the whole table to dst, this peer first.
func (c *Core) Table(dst []Rec) []Rec {
	dst = append(dst, c.export(c.self))
	for _, r := range c.byID {
		if r != c.self {
			dst = append(dst, c.export(r))
		}
	}
	return dst
}

// takeNews takes in what was announced.
func (c *Core) takeNews(in News) {
	for i := range in.Recs {
		c.merge(&in.Recs[i], true, in.From)
	}
}

// takeTable takes in the table of another peer.
func (c *Core) takeTable(in Table) {
	if in.From == c.self.ID {
		return
	}
	first := !c.contacts.joined
	c.contacts.met(c, in.From)
	c.passOn = !first // a newcomer has no news for anybody but of itself
	deaf := slices.ContainsFunc(in.Recs, func(r Rec) bool { return r.ID == in.From && r.State == Suspect && r.Cause == Deaf })
	for i := range in.Recs {
		rec := &in.Recs[i]
		if deaf && rec.State == Alive && rec.ID != in.From && c.rows[rec.ID] == nil {
			rec.State, rec.Cause = Suspect, Overdue // who hears nobody cannot vouch for anybody
		}
		c.merge(rec, rec.ID == in.From, in.From)
	}
	c.passOn = false
	if first {
		c.announceSelf()
	}
}

// merge takes in one record. fresh says that it is not hearsay: a decision that
// was just made, or its owner's own word.
func (c *Core) merge(rec *Rec, fresh bool, from ID) {
	if rec.ID == c.self.ID {
		c.told(rec, from)
		return
	}
	r := c.rows[rec.ID]
	switch {
	case r == nil:
		c.admit(rec)
		return
	case rec.Number > r.Rec.Number:
		c.announced(r, rec.Number)
	}
	if rec.Epoch == r.Epoch {
		if r.hollow {
			c.fill(r, rec)
		}
		c.level(r, rec)
	}
	switch {
	case !rec.worse(&r.Rec):
		if fresh && from != 0 && from != rec.ID && r.Epoch > rec.Epoch && rec.State > Alive {
			c.send([]ID{from}, News{From: c.self.ID, Recs: []Rec{c.export(r)}}) // it has missed that r is back
		}
	case fresh && from != rec.ID && len(c.ring) > directSends && rec.State > Alive && c.mine(r).accuses():
		c.announceWith(r, func() { c.adopt(r, rec) }) // the others count on this peer to tell its share
	case fresh || rec.ownWord() || rec.State == Alive || rec.State >= Left || r.State != Alive && r.State >= rec.State:
		c.adopt(r, rec)
	default:
		c.suspend(r, rec)
	}
}

// admit makes a row of a record of an instance that is new here. It is born as the
// record has it: never alive because SWIM calls it so.
func (c *Core) admit(rec *Rec) {
	if rec.State.gone() {
		keep := c.cfg.ForgetAfter
		if rec.State > Left {
			keep = replacedFor
		}
		if rec.Age >= keep {
			return
		}
	} else if c.live >= maxLive {
		return
	}
	for c.gone >= maxGone && rec.State.gone() || len(c.byID) >= maxLive+maxGone {
		if !c.dropOldest() {
			return
		}
	}
	r := c.insert(*rec)
	r.Number = rec.Number
	c.contacts.drop(rec.ID)
	if rec.Number > 0 && !r.State.gone() {
		c.announced(r, rec.Number)
	}
	r.beatAt = c.now
	if rec.State == Alive {
		c.handOn(r)
	}
}

// handOn lets gossip carry what is news here: in a large cluster always, for not
// everybody is told by those whose news it is, and in a small one what an exchange
// brought.
func (c *Core) handOn(r *row) {
	if c.passOn || len(c.ring) > directSends {
		c.out.Sends = append(c.out.Sends, Send{Gossip: true, Msg: News{Recs: []Rec{c.export(r)}}})
	}
}

// adopt makes r what rec says.
func (c *Core) adopt(r *row, rec *Rec) {
	raised := rec.Epoch > r.Epoch
	if raised {
		c.voidEvidence(r)
	}
	c.edit(r, func() { r.Epoch, r.State, r.Cause = rec.Epoch, rec.State, rec.Cause })
	r.pendingAt = 0
	if raised {
		c.fill(r, rec)
	}
	c.handOn(r)
}

// level keeps the greater of two levels within an epoch: one may have come by a
// vote, which does not carry it, and been passed on.
func (c *Core) level(r *row, rec *Rec) {
	if rec.Level > r.Level {
		c.edit(r, func() { r.Level = rec.Level })
	}
}

// fill takes over what an owner says of itself with a new epoch.
func (c *Core) fill(r *row, rec *Rec) {
	from, news := r.Addr, r.Version != rec.Version || r.Addr != rec.Addr
	r.hollow = false
	c.edit(r, func() {
		r.Prev, r.Addr, r.Level, r.Version = rec.Prev, rec.Addr, rec.Level, rec.Version
		r.WireMin, r.WireMax, r.Ext = rec.WireMin, rec.WireMax, rec.Ext
	})
	if r.Addr != from && r.watch != nil {
		r.watch.proven, r.watch.had = false, false
		c.dial(r)
	}
	if news {
		c.updated(r)
	}
}

// raised takes in that r raised its epoch, told by a vote, which says no more.
func (c *Core) raised(r *row, epoch uint64) {
	rec := r.Rec
	rec.Epoch, rec.State, rec.Cause = epoch, Alive, NoCause
	c.adopt(r, &rec)
	r.hollow = true
}

// voidEvidence forgets what was held against r before it raised its epoch.
func (c *Core) voidEvidence(r *row) {
	r.votes = r.votes[:0]
	r.first, r.second, r.pendingAt, r.told = 0, 0, 0, 0
	r.swimAsked = false
	if w := r.watch; w != nil {
		switch {
		case w.says == NoRoute: // a new epoch does not make its address right
			w.told = 0
		case w.says.accuses():
			w.says, w.heard = Nothing, 0
		}
		if w.heard == 0 {
			w.since = c.now
		}
	}
}

// suspend tells r what an exchange says of it, and waits for its answer.
func (c *Core) suspend(r *row, rec *Rec) {
	if r.pendingAt > 0 && !rec.worse(&r.pending) {
		return
	}
	if r.pendingAt == 0 {
		r.pendingAt = c.now
		c.ask(r)
	}
	r.pending = *rec
	told := c.export(r)
	told.Epoch, told.State, told.Cause = rec.Epoch, rec.State, rec.Cause
	c.send([]ID{r.ID}, News{From: c.self.ID, Recs: []Rec{told}})
	c.heat(r)
}

// judgePending makes up this peer's mind on what an exchange said of r.
func (c *Core) judgePending(r *row, t tally) {
	if r.pendingAt == 0 || c.now-r.pendingAt < askWait {
		return
	}
	r.pendingAt = 0
	if t.hear > 0 && t.hear >= t.accuse {
		return // those who watch it hear it: its answer is on its way, and else the tables differ still
	}
	if p := r.pending; p.worse(&r.Rec) {
		c.adopt(r, &p)
	}
}

// swim takes in SWIM's opinion.
func (c *Core) swim(in Swim) {
	if in.Peer == c.self.ID {
		return
	}
	r := c.rows[in.Peer]
	if r == nil {
		c.contacts.heardOf(in.Peer, in.Addr, in.Dead, c.now)
		return
	}
	if r.swimDead != in.Dead {
		r.swimDead, r.swimAt, r.swimAsked = in.Dead, c.now, false
		c.heat(r)
		c.judge(r)
		c.show(r)
	}
	if !in.Dead && r.State.gone() && r.State < Replaced {
		c.tell(r) // if it lives, it undoes what is held of it
	}
}

// takeBeats takes in heartbeats.
func (c *Core) takeBeats(beats []Beat) {
	for _, b := range beats {
		r := c.rows[b.Peer]
		if r == nil || r == c.self || b.Count <= r.beat {
			continue
		}
		r.beat = b.Count
		if at := c.now - b.Age; at > r.beatAt {
			r.beatAt = at
			b.Age = at
			c.out.Heard = append(c.out.Heard, b)
		}
	}
}

// Digest appends to dst the heartbeats to send along with an ack, this peer's own
// first: all in a small cluster, and in turn in a large one.
func (c *Core) Digest(dst []Beat, now time.Duration) []Beat {
	dst = append(dst, Beat{Peer: c.self.ID, Count: uint64(now/time.Second) + 1})
	if len(c.beats) == 0 {
		return dst
	}
	for i, n := 0, len(c.beats); i < n && len(dst) < digestBeats; i++ {
		r := c.beats[(int(c.beatTurn)+i)%n]
		if r != c.self && !r.State.gone() && r.beat > 0 {
			dst = append(dst, Beat{Peer: r.ID, Count: r.beat, Age: max(now-r.beatAt, 0)})
		}
	}
	if len(c.beats) > digestBeats {
		c.beatTurn = (c.beatTurn + digestBeats - 1) % uint64(len(c.beats))
	}
	return dst
}

// Hash returns the hash of the table.
func (c *Core) Hash() uint64 { return c.hash }

// sweep drops the departed that are remembered no longer.
func (c *Core) sweep() {
	if c.gone == 0 {
		return
	}
	for _, r := range slices.Clone(c.byID) {
		keep := c.cfg.ForgetAfter
		if r.State > Left {
			keep = replacedFor
		}
		if r.State.gone() && c.now-r.since > keep {
			c.drop(r)
		}
	}
}

// dropOldest makes room by dropping who is gone for longest.
func (c *Core) dropOldest() bool {
	var oldest *row
	for _, r := range c.byID {
		if r.State.gone() && (oldest == nil || r.since < oldest.since) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	c.drop(oldest)
	return true
}

func (c *Core) drop(r *row) {
	c.remove(r)
	r.hidden = true
	c.show(r)
}

// forget drops the departed of a name, for everybody.
func (c *Core) forget(name string) {
	for _, r := range slices.Clone(c.named(name)) {
		if r != c.self && (r.State == Failed || r.State == Left) {
			c.announceWith(r, func() { c.edit(r, func() { r.State, r.Cause = Forgotten, NoCause }); r.since = c.now })
		}
	}
	c.contacts.forget(name)
}

// Departed says of a name whether it is known at all, and whether all its
// instances are gone.
func (c *Core) Departed(name string) (known, gone bool) {
	gone = true
	for _, r := range c.named(name) {
		if r.shown {
			known = true
			gone = gone && r.seen >= Failed
		}
	}
	return known || c.contacts.remembers(name), gone
}
