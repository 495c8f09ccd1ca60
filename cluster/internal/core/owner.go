package core

import (
	"slices"
	"time"
)

// owner is what a peer holds of itself: it alone undoes what is said of it.
type owner struct {
	level    uint8
	raised   time.Duration // when it last came back, 0 if never
	clean    time.Duration // since when all is well
	out      bool          // the others hold it out of rotation
	need     time.Duration // how long all must be well before it comes back
	blame    bool          // this outage counts
	trouble  Cause         // what it noticed itself
	good     int           // ticks in which all was well
	badSince time.Duration // since when most partners accuse it
	stalled  time.Duration // when it was last held up
	denied   time.Duration // when it last contradicted that it is gone
	votes    []vote        // the newest of each partner, on this peer
	wentAt   time.Duration // when the first of wentOut members went out of rotation
	wentOut  int
	split    time.Duration // when the network broke between it and others, 0 if never
	noRoute  bool          // its address cannot be dialled, as far as is known
}

// damped returns for how long this peer waits still before it comes back.
func (o *owner) damped(now time.Duration) time.Duration {
	if !o.out {
		return 0
	}
	return max(o.clean+o.need-now, time.Millisecond)
}

func (c *Core) trouble() Cause {
	if c.self.State == Suspect {
		return c.self.Cause
	}
	return c.own.trouble
}

// accusedBy takes in the vote of a partner on this peer.
func (c *Core) accusedBy(v Vote) {
	o := &c.own
	if v.Epoch < c.self.Epoch {
		if c.self.State != Left && v.Says.accuses() {
			c.send([]ID{v.From}, News{From: c.self.ID, Recs: []Rec{c.export(c.self)}})
		}
		return
	}
	o.votes = slices.DeleteFunc(o.votes, func(a vote) bool { return c.now-a.at >= voteLife })
	at := slices.IndexFunc(o.votes, func(a vote) bool { return a.from == v.From })
	switch {
	case at >= 0 && o.votes[at].seq >= v.Seq:
		return
	case at >= 0:
		o.votes = slices.Delete(o.votes, at, at+1)
	case len(o.votes) == maxVotes:
		return
	}
	o.votes = append(o.votes, vote{v.From, v.Says, v.Epoch, v.Seq, c.now})
	if v.Says.accuses() {
		o.clean = c.now
	} else {
		o.noRoute = o.noRoute && v.Says != Hears // who hears it and could not dial it would say so
	}
}

// accusers counts those who accuse this peer, and tells whether any of them
// cannot dial its address.
func (o *owner) accusers() (n int, noRoute bool) {
	for _, v := range o.votes {
		if v.says.accuses() {
			n++
		}
		noRoute = noRoute || v.says == NoRoute
	}
	return n, noRoute
}

// told takes in what others hold of this peer. from is 0 when it found out itself.
func (c *Core) told(rec *Rec, from ID) {
	s := c.self
	if s.State == Left {
		if from != 0 && rec.State < Left {
			c.send([]ID{from}, News{From: s.ID, Recs: []Rec{c.export(s)}})
		}
		return
	}
	if rec.Number > s.Rec.Number { // somebody numbered a record in this peer's name
		c.number(rec.Number + 1)
	}
	if !rec.worse(&s.Rec) {
		if from != 0 && rec.Epoch < s.Epoch && rec.State > Alive {
			c.send([]ID{from}, News{From: s.ID, Recs: []Rec{c.export(s)}})
		}
		return
	}
	o := &c.own
	epoch := max(rec.Epoch, s.Epoch)
	switch {
	case rec.State == Alive:
		c.raise(epoch, s.State, s.Cause)
		return
	case rec.State >= Left:
		// Nobody but this peer says that it left. It contradicts, though not at the rate
		// at which two that replace each other could: an exchange tells it again.
		if o.denied > 0 && c.now-o.denied < denyEvery {
			return
		}
		o.denied = c.now
		c.log(LogWarn, "somebody says that this peer is gone: contradicting it", "state", rec.State)
		if rec.State == Replaced {
			c.survive()
		}
		c.raise(epoch, s.State, s.Cause)
		return
	}
	noRoute := rec.State == Suspect && rec.Cause == Unreachable
	if !o.out {
		c.takenOut(c.now - rec.Age)
	}
	o.noRoute = o.noRoute || noRoute
	cause := max(rec.Cause, s.Cause)
	if rec.State == Failed {
		// The partners of a failed member watch it no more, and nobody would see it
		// recover: it comes back to the ring, if not into rotation.
		epoch, cause = epoch+1, Overdue
	}
	c.edit(s, func() { s.Epoch, s.State, s.Cause = epoch, Suspect, cause })
	if c.comesBack() {
		return
	}
	if cause == Overdue && o.stalled > 0 && c.now-o.stalled < stallWithin {
		c.edit(s, func() { s.Cause = Stalled })
	} else if cause == Overdue && !c.cutOff {
		c.edit(s, func() { s.Cause = Mute })
	}
	c.log(LogWarn, "this peer is out of rotation for a while: it was taken out before", "cause", s.Cause, "need", o.need)
	c.announceSelf()
}

// survive names the instance that claims this peer's place as the predecessor of
// this peer, so that it does not replace it again: a start by a clock that was
// ahead, or one from a copy of this peer's data, which lives beside it.
func (c *Core) survive() {
	s := c.self
	heir := s.Prev
	for r := c.addrs[s.Addr]; r != nil; r = r.nextAddr {
		if r.replaces(s) {
			heir = max(heir, r.ID)
		}
	}
	for _, r := range c.heirs[s.ID] {
		if r.replaces(s) {
			heir = max(heir, r.ID)
		}
	}
	if heir != s.Prev {
		c.edit(s, func() { s.Prev = heir })
	}
}

// takenOut begins an outage of this peer, which the others saw at a time.
func (c *Core) takenOut(at time.Duration) {
	o := &c.own
	o.out, o.clean = true, c.now
	split := o.split > 0 && (at-o.split).Abs() <= splitWithin
	o.blame = !split || o.raised > 0 && at-o.raised < splitWithin // so soon after its return, that was too early
	if o.raised > 0 && c.now-o.raised >= relapseWithin {
		o.level = 0
	}
	o.need = 0
	if o.level > 0 && o.blame {
		o.need = min(cleanFirst<<(o.level-1), cleanMost)
	}
}

// went takes in that a member went out of rotation for this peer. When a third of the
// ring goes within massWithin, the network broke between us.
func (o *owner) went(now time.Duration, ring int) {
	if now-o.wentAt > massWithin {
		o.wentAt, o.wentOut = now, 0
	}
	if o.wentOut++; o.wentOut >= 2 && 3*o.wentOut >= ring-1 {
		o.split = now
	}
}

// comesBack brings this peer back into rotation if it may be, and says so.
func (c *Core) comesBack() bool {
	o := &c.own
	if !o.out || c.cutOff || o.trouble != NoCause || c.now-o.clean < o.need || o.noRoute && c.now-o.clean < relapseWithin {
		return false
	}
	o.out = false
	if o.blame {
		o.level = min(o.level+1, 8)
	}
	o.raised = c.now
	if o.need > 0 {
		c.log(LogInfo, "this peer is back in rotation", "took", o.need)
	}
	c.raise(c.self.Epoch, Alive, NoCause)
	return true
}

// raise undoes what was said of this peer up to epoch.
func (c *Core) raise(epoch uint64, s State, cause Cause) {
	self := c.self
	c.edit(self, func() {
		self.Epoch, self.State, self.Cause, self.Level = min(epoch+1, maxEpoch), s, cause, c.own.level
	})
	c.own.votes = c.own.votes[:0]
	c.announceSelf()
}

// announceSelf tells everybody what this peer says of itself.
func (c *Core) announceSelf() {
	c.out.Sends = append(c.out.Sends, Send{To: c.everybody(), Gossip: len(c.ring) > directSends, Msg: News{From: c.self.ID, Recs: []Rec{c.export(c.self)}}})
}

// says makes this peer's own word on itself, in its present epoch: it can only
// make it worse.
func (c *Core) says(cause Cause) {
	o := &c.own
	o.trouble, o.good = cause, 0
	o.clean = c.now
	if !o.out {
		c.takenOut(c.now)
	}
	if c.self.State == Suspect && c.self.Cause >= cause {
		return
	}
	c.edit(c.self, func() { c.self.State, c.self.Cause = Suspect, max(cause, c.self.Cause) })
	c.log(LogWarn, "this peer takes itself out of rotation", "cause", cause)
	c.announceSelf()
}

// lookAtSelf looks for what is wrong with this peer.
func (c *Core) lookAtSelf() {
	o := &c.own
	if c.self.State == Left {
		return
	}
	o.votes = slices.DeleteFunc(o.votes, func(a vote) bool { return c.now-a.at >= voteLife })
	trouble := c.diagnose()
	switch {
	case trouble != NoCause:
		if o.trouble != trouble {
			c.says(trouble)
		}
		o.good = 0
	case o.trouble != NoCause:
		if o.good++; o.good >= recoverTicks {
			o.trouble = NoCause
			for _, r := range c.partners {
				r.watch.held, r.watch.late = 0, 0
			}
		}
	}
	if o.out {
		if !c.well() {
			o.clean = c.now
		}
		c.comesBack()
	}
}

// diagnose returns what this peer notices of itself.
func (c *Core) diagnose() Cause {
	o := &c.own
	n := len(c.partners)
	if c.cutOff {
		return Deaf
	}
	if accusers, noRoute := o.accusers(); n >= 2 && 2*accusers > n && 2*c.heardPartners() > n {
		if o.badSince == 0 {
			o.badSince = c.now
		}
		if c.now-o.badSince >= muteAfter && !noRoute {
			return Mute
		}
	} else {
		o.badSince = 0
	}
	if c.lossy() {
		return Lossy
	}
	return NoCause
}

// lossy says whether most links of this peer are held up: those that it dialled,
// and by what it hears also the others. If it were those that it dialled alone, it
// might be that its neighbours are at fault.
func (c *Core) lossy() bool {
	var links [2][4 * watchWidth]int
	held, late := links[0][:0], links[1][:0]
	for _, r := range c.partners {
		if r.watch.succ {
			held = append(held, r.watch.held)
		}
		late = append(late, r.watch.late)
	}
	limit := lossyAbove
	if c.own.trouble == Lossy {
		limit = lossyBelow
	}
	return len(held) >= 3 && median(held) > limit && median(late) > limit/lateShare
}

// median returns the middle one, the lower one of two.
func median(of []int) int {
	slices.Sort(of)
	return of[(len(of)-1)/2]
}

// heardPartners counts the partners that this peer hears.
func (c *Core) heardPartners() (n int) {
	for _, r := range c.partners {
		if c.hears(r) {
			n++
		}
	}
	return n
}

// well says whether this peer hears at least two thirds of its partners that are in
// rotation, and none of them complains. Of the others, those that are dead for good
// would keep out for ever whoever waits for them.
func (c *Core) well() bool {
	heard, all := 0, 0
	for _, r := range c.partners {
		if r.State == Alive {
			all++
			if c.hears(r) {
				heard++
			}
		}
	}
	return 3*heard >= 2*all && !slices.ContainsFunc(c.own.votes, func(v vote) bool { return v.says.accuses() && c.now-v.at < renewEvery+TickEvery })
}

// leave says goodbye.
func (c *Core) leave() {
	s := c.self
	if s.State == Left {
		return
	}
	c.edit(s, func() { s.Epoch, s.State, s.Cause = s.Epoch+1, Left, NoCause })
	c.announceSelf()
}
