package core

import (
	"slices"
	"time"
)

// vote is what another partner said of a member.
type vote struct {
	from  ID
	says  Evidence
	epoch uint64 // of the member
	seq   uint64
	at    time.Duration
}

// counts says whether v counts for a member in epoch at now. A vote may overtake
// the record that raised the epoch: it counts when that has come.
func (v *vote) counts(epoch uint64, now time.Duration) bool {
	return v.epoch == epoch && now-v.at < voteLife
}

// tally counts what the partners of a member say.
type tally struct {
	all     int // partners, and others that voted
	accuse  int
	witness int // of those, others than this peer
	crash   int
	hear    int
	noRoute int // of those that accuse: they hear it, and cannot dial it
}

func (t *tally) add(e Evidence) {
	switch {
	case e == Hears:
		t.hear++
	case e.accuses():
		t.accuse++
		if e == Refuses {
			t.crash++
		}
		if e == NoRoute {
			t.noRoute++
		}
	}
}

func (t *tally) witnesses(e Evidence) {
	if e.accuses() {
		t.witness++
	}
}

// count counts the votes on r. The dead say nothing, so nobody need be left out;
// whom this peer saw vanish is left out all the same, for his silence is no
// reason to wait.
func (c *Core) count(r *row) (t tally) {
	var scratch [2 * watchWidth]*row
	partners := c.jury(scratch[:0], r)
	for _, p := range partners {
		t.all++
		if p == c.self {
			t.add(c.mine(r))
			continue
		}
		if i := r.voteOf(p.ID); i >= 0 && r.votes[i].counts(r.Epoch, c.now) {
			t.add(r.votes[i].says)
			t.witnesses(r.votes[i].says)
		}
	}
	for _, v := range r.votes { // the ring moved since they voted
		if v.counts(r.Epoch, c.now) && !slices.ContainsFunc(partners, func(p *row) bool { return p.ID == v.from }) {
			if p := c.rows[v.from]; p != nil && p.State == Alive {
				t.all++
				t.add(v.says)
				t.witnesses(v.says)
			}
		}
	}
	return t
}

// mine returns what this peer says of r now.
func (c *Core) mine(r *row) Evidence {
	switch w := r.watch; {
	case w == nil:
		return Nothing
	case w.says == Hears && !c.hears(r):
		return Nothing
	default:
		return w.says
	}
}

func (r *row) voteOf(id ID) int {
	return slices.IndexFunc(r.votes, func(v vote) bool { return v.from == id })
}

// vote tells the other partners of r, and r, what this peer says of it.
func (c *Core) vote(r *row, ask bool) {
	w := r.watch
	if w == nil || c.self.State == Left {
		return
	}
	w.told = c.now
	c.sendVote(r, w.says, ask)
}

// answer tells who asked what this peer says of r, and now and then the other
// partners as well that it hears it. SWIM's verdict makes others than partners ask,
// and many at once.
func (c *Core) answer(r *row, asker ID) {
	says := c.mine(r)
	if says == Hears && c.now-r.answered >= crashWait/2 {
		r.answered = c.now
		c.sendVote(r, says, false)
		if slices.ContainsFunc(c.partnersOf(nil, r), func(p *row) bool { return p.ID == asker }) {
			return
		}
	}
	if says != Nothing && !c.cutOff {
		c.seq++
		c.send([]ID{asker}, Vote{About: r.ID, From: c.self.ID, Epoch: r.Epoch, Seq: c.seq, Says: says})
	}
}

func (c *Core) sendVote(r *row, says Evidence, ask bool) {
	c.seq++
	to := make([]ID, 0, 2*watchWidth+1)
	for _, p := range c.partnersOf(nil, r) {
		if p != c.self {
			to = append(to, p.ID)
		}
	}
	to = append(to, r.ID)
	c.send(to, Vote{About: r.ID, From: c.self.ID, Epoch: r.Epoch, Seq: c.seq, Says: says, Ask: ask})
}

// send sends m to those that this peer knows: a stranger's message may name others.
func (c *Core) send(to []ID, m Message) {
	if to = slices.DeleteFunc(to, func(id ID) bool { return c.rows[id] == nil }); len(to) == 0 {
		return
	}
	c.out.Sends = append(c.out.Sends, Send{To: to, Msg: m})
}

// takeVote takes in what another partner says.
func (c *Core) takeVote(v Vote) {
	if v.From == c.self.ID || v.Says > Refuses {
		return
	}
	if v.About == c.self.ID {
		c.accusedBy(v)
		return
	}
	r := c.rows[v.About]
	if r == nil {
		return
	}
	// One of the two has missed that r raised its epoch, or that it is gone: it tells,
	// or is told.
	if v.Epoch != r.Epoch || v.Ask && r.State.gone() {
		c.send([]ID{v.From}, News{From: c.self.ID, Recs: []Rec{c.export(r)}})
	}
	if v.Epoch < r.Epoch || v.Epoch == r.Epoch && r.State.gone() {
		return
	}
	if v.Says != Nothing {
		c.store(r, v)
	}
	if v.Says == Refuses && r.watch != nil && !r.watch.says.accuses() && !r.watch.dialing && c.now-r.watch.dialed > redialAfter/4 {
		c.dial(r) // one voice is enough to look for oneself
	}
	if v.Ask {
		c.answer(r, v.From)
	}
	c.judge(r)
}

func (c *Core) store(r *row, v Vote) {
	i := r.voteOf(v.From)
	switch {
	case i < 0 && len(r.votes) < maxVotes:
		r.votes = append(r.votes, vote{v.From, v.Says, v.Epoch, v.Seq, c.now})
	case i < 0:
		oldest := 0
		for j, o := range r.votes {
			if o.at < r.votes[oldest].at {
				oldest = j
			}
		}
		r.votes[oldest] = vote{v.From, v.Says, v.Epoch, v.Seq, c.now}
	case v.Seq > r.votes[i].seq:
		r.votes[i] = vote{v.From, v.Says, v.Epoch, v.Seq, c.now}
	}
	c.heat(r)
}

// judge decides on r by what its partners say.
func (c *Core) judge(r *row) {
	if r == c.self || r.State.gone() || c.self.State == Left {
		return
	}
	r.votes = slices.DeleteFunc(r.votes, func(v vote) bool { return v.epoch < r.Epoch || c.now-v.at >= voteLife })
	t := c.count(r)
	c.judgePending(r, t)
	if r.State.gone() {
		return
	}
	if t.crash > 0 {
		if r.first == 0 {
			r.first = c.now
		}
		if 2*t.crash > t.all || c.now-r.first >= crashWait && t.crash > t.hear {
			c.verdict(r, Failed, Crashed)
			return
		}
	} else {
		r.first = 0
	}
	if t.accuse < 2 {
		r.second = 0
	} else {
		if r.second == 0 {
			r.second = c.now
		}
		if w := r.watch; r.State == Alive && w != nil && !c.cutOff && c.now-w.told >= TickEvery/2 {
			w.told = c.now
			c.ask(r) // again and again until it is decided: an answer may be lost
		}
	}
	// Two suffice if nobody hears it. A peer that is out itself asks for longer, and so
	// does one that hears few: those that it can count are no majority.
	wait := silenceWait
	if c.own.out || c.few > 0 {
		wait = doubtWait
	}
	unheard := c.mine(r).accuses() && r.second > 0 && c.now-r.second >= wait && t.hear == 0 && c.own.trouble == NoCause
	if r.State == Alive && t.accuse > 0 && (2*t.accuse > t.all && c.few == 0 || unheard) {
		cause := Overdue
		if t.noRoute > 0 {
			cause = Unreachable
		}
		c.verdict(r, Suspect, cause)
	}
	if r.swimDead || r.State == Suspect && c.now-r.since >= buryAfter {
		c.judgeSwim(r, t)
	}
	c.show(r)
}

// judgeSwim decides on r, which SWIM holds dead or would by now: another partner that
// was asked must say that it does not hear r, and none that it does. That nobody
// answers proves nothing.
func (c *Core) judgeSwim(r *row, t tally) {
	switch {
	case c.own.out: // then so may SWIM's messages be: others decide
	case !r.swimAsked:
		r.swimAsked, r.swimAt = true, c.now
		c.ask(r)
	case c.now-r.swimAt < askWait:
	case t.hear == 0 && t.noRoute == 0 && (t.witness > 0 || t.all == 1 && t.accuse == 1) && (r.Level == 0 && !r.ownWord() || c.now-r.beatAt >= unheardFor):
		c.verdict(r, Failed, Unreachable)
	case c.now-r.swimAt >= askAgain:
		r.swimAt = c.now
		c.ask(r)
		if t.hear > 0 { // SWIM is wrong, and finds out by an exchange
			c.contacts.want(c, r)
		}
	}
}

// ask asks the partners of r whether they hear it.
func (c *Core) ask(r *row) {
	says := Nothing
	if r.watch != nil {
		says = c.mine(r)
	}
	c.sendVote(r, says, true)
}

// verdict makes r worse off, and announces it to everybody.
func (c *Core) verdict(r *row, s State, cause Cause) {
	if c.cutOff && cause != Crashed {
		return
	}
	rec := Rec{Epoch: r.Epoch, State: s, Cause: cause}
	if !rec.worse(&r.Rec) {
		return
	}
	c.announceWith(r, func() { c.edit(r, func() { r.State, r.Cause = s, cause }) })
}
