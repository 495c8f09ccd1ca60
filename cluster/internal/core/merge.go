package core

import (
	"cmp"
	"slices"
	"time"
)

// source is where records come from.
type source uint8

const (
	announced  source = iota
	firstTable        // in the first exchange of this peer: all is news to it alone
	laterTable
)

// export returns r's record as others get it.
func (c *Core) export(r *row) Rec {
	rec := r.Rec
	rec.Age = c.now - r.since
	rec.Number = max(rec.Number, r.number)
	return rec
}

// Table appends the whole table to dst, this peer first. Whom it cannot vouch for it
// calls alive with a cause.
func (c *Core) Table(dst []Rec) []Rec {
	dst = append(dst, c.export(c.self))
	for _, r := range c.byID {
		if r == c.self {
			continue
		}
		rec := c.export(r)
		if r.State == Alive && !c.vouched(r) {
			rec.Cause = Overdue
		}
		dst = append(dst, rec)
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
	c.source = laterTable
	if first {
		c.source = firstTable
		if len(in.Recs) > directSends {
			c.grow(len(in.Recs))
			c.log(LogInfo, "many members joined", "count", len(in.Recs))
		}
	}
	for i := range in.Recs {
		rec := &in.Recs[i]
		if rec.State == Alive && rec.Cause != NoCause {
			if c.rows[rec.ID] == nil {
				rec.State = Suspect
			} else {
				rec.Cause = NoCause
			}
		}
		c.merge(rec, rec.ID == in.From, in.From)
	}
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
	switch {
	case !rec.worse(&r.Rec):
		if fresh && from != 0 && from != rec.ID && r.Epoch > rec.Epoch {
			c.send([]ID{from}, News{From: c.self.ID, Recs: []Rec{c.export(r)}}) // it has missed that r raised its epoch
		}
	case fresh || rec.ownWord() || rec.State == Alive || rec.State >= Left || r.State != Alive && r.State >= rec.State:
		c.adopt(r, rec)
		if fresh && from != rec.ID && rec.State > Alive {
			c.retellSoon(r)
		}
		if len(r.votes) > 0 { // they overtook rec
			c.judge(r)
		}
	default:
		c.suspend(r, rec)
	}
}

// admit makes a row of a record of an instance that is new here. It is born as the
// record has it: never alive because SWIM calls it so.
func (c *Core) admit(rec *Rec) {
	if rec.State.gone() {
		keep := c.keep(rec.State)
		if rec.Age >= keep-keep/16 { // others drop it a little later than this peer did
			return
		}
		if c.gone >= maxGone {
			oldest := c.oldest()
			if c.now-rec.Age <= oldest.since {
				return
			}
			c.drop(oldest)
		}
	} else if len(c.ring) >= maxLive {
		return
	}
	r := c.insert(*rec)
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
// brought. A newcomer has no news for anybody but of itself.
func (c *Core) handOn(r *row) {
	if c.source == laterTable || c.source == announced && len(c.ring) > directSends {
		c.out.Sends = append(c.out.Sends, Send{Gossip: true, Msg: News{Recs: []Rec{c.export(r)}}})
	}
}

// adopt makes r what rec says.
func (c *Core) adopt(r *row, rec *Rec) {
	raised, from := rec.Epoch > r.Epoch, r.Addr
	news := raised && (r.Version != rec.Version || r.Addr != rec.Addr)
	c.edit(r, func() {
		if r.State != rec.State {
			r.since = c.now - rec.Age
		}
		r.Epoch, r.State, r.Cause = rec.Epoch, rec.State, rec.Cause
		if raised {
			r.Prev, r.Addr, r.Level, r.Version = rec.Prev, rec.Addr, rec.Level, rec.Version
			r.WireMin, r.WireMax, r.Ext = rec.WireMin, rec.WireMax, rec.Ext
		}
	})
	r.pendingAt = 0
	if raised {
		c.voidEvidence(r)
		c.heat(r) // SWIM may hold it dead still
		c.lacks(r)
	}
	if r.Addr != from && r.watch != nil {
		r.watch.proven = false
		c.dial(r)
	}
	if news {
		c.updated(r)
	}
}

// voidEvidence forgets what was held against r before it raised its epoch.
func (c *Core) voidEvidence(r *row) {
	r.votes = slices.DeleteFunc(r.votes, func(v vote) bool { return v.epoch < r.Epoch })
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
	if r.pendingAt > 0 && !rec.worse(r.pending) {
		return
	}
	if r.pendingAt == 0 {
		r.pendingAt = c.now
		c.ask(r)
	}
	pending := *rec
	r.pending = &pending
	told := c.export(r)
	told.Epoch, told.State, told.Cause, told.Age = rec.Epoch, rec.State, rec.Cause, rec.Age
	c.send([]ID{r.ID}, News{From: c.self.ID, Recs: []Rec{told}})
	c.heat(r)
}

// judgePending makes up this peer's mind on what an exchange said of r.
func (c *Core) judgePending(r *row, t tally) {
	if r.pendingAt == 0 || c.now-r.pendingAt < askWait {
		return
	}
	p := r.pending
	r.pending, r.pendingAt = nil, 0
	if t.hear > 0 && t.hear >= t.accuse {
		return // those who watch it hear it: its answer is on its way, and else the tables differ still
	}
	if p.worse(&r.Rec) {
		c.adopt(r, p)
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
}

// takeBeats takes in heartbeats.
func (c *Core) takeBeats(beats []Beat) {
	for _, b := range beats {
		r := c.rows[b.Peer]
		if r == nil || r == c.self || b.Count <= r.beat {
			continue
		}
		r.beat = b.Count
		if at := c.now - max(b.Age, 0); at > r.beatAt {
			r.beatAt = at
			b.Age = at
			c.out.Heard = append(c.out.Heard, b)
			if c.doubt > 0 {
				c.show(r)
			}
		}
	}
}

// Digest appends to dst the heartbeats to send along with an ack, this peer's own
// first: all in a small cluster, and in turn in a large one.
func (c *Core) Digest(dst []Beat, now time.Duration) []Beat {
	dst = append(dst, Beat{Peer: c.self.ID, Count: uint64(now/time.Second) + 1})
	i, n := 0, len(c.byID)
	for ; i < n && len(dst) < digestBeats; i++ {
		r := c.byID[(c.beatTurn+i)%n]
		if r != c.self && !r.State.gone() && r.beat > 0 {
			dst = append(dst, Beat{Peer: r.ID, Count: r.beat, Age: max(now-r.beatAt, 0)})
		}
	}
	c.beatTurn = (c.beatTurn + i) % n
	return dst
}

// Hash returns the hash of the table.
func (c *Core) Hash() uint64 { return c.hash }

// keep returns how long an instance is remembered in a state.
func (c *Core) keep(s State) time.Duration {
	if s > Left {
		return replacedFor
	}
	return c.cfg.ForgetAfter
}

// sweep drops the departed that are remembered no longer, and the longest gone of
// too many.
func (c *Core) sweep() {
	var gone []*row
	for _, r := range c.byID {
		if r.State.gone() {
			gone = append(gone, r)
		}
	}
	slices.SortStableFunc(gone, func(a, b *row) int { return cmp.Compare(a.since, b.since) })
	c.expires = never
	for i, r := range gone {
		if at := r.since + c.keep(r.State); at <= c.now || len(gone)-i > maxGone {
			c.drop(r)
		} else {
			c.expires = min(c.expires, at)
		}
	}
}

// oldest returns who is gone for longest, nil if nobody is.
func (c *Core) oldest() *row {
	var oldest *row
	for _, r := range c.byID {
		if r.State.gone() && (oldest == nil || r.since < oldest.since) {
			oldest = r
		}
	}
	return oldest
}

func (c *Core) drop(r *row) {
	c.remove(r)
	r.hidden = true
	c.show(r)
}
