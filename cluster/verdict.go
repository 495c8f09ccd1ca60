package cluster

import (
	"math"
	"slices"
	"time"
)

// What a member's state is follows from the evidence in its row, by judge and
// nowhere else. Two clocks tick: out of rotation is quick and cheap to undo, a
// verdict is slow and sure.
//
//	left                its goodbye
//	failed, crashed     a majority of its live partners has the kernel's word
//	                    that its process is gone
//	failed, unreachable the verdict of SWIM, memberlist's own
//	suspect             a majority of its live partners does not hear it; or I
//	                    myself cannot reach it; or its heartbeat is overdue; or
//	                    nobody answers me at all, and then it is I who is cut off
//	alive               everything else
//
// My own evidence moves my own view; a majority of partners moves everybody's.

// evidence is what one witness holds against a member.
type evidence byte

const (
	evNone   evidence = iota
	evBroke           // the stream broke, and then its address refused or was another's
	evFirst           // it refused, but there never was a stream: a firewall may do that
	evSilent          // no byte in time
)

func (e evidence) crash() bool { return e == evBroke || e == evFirst }

// vote is a witness's evidence as it was told.
type vote struct {
	ev  evidence
	seq uint64 // of the witness; messages may overtake one another
	at  time.Time
}

const (
	silentAfter = 1600 * time.Millisecond // without a byte: tell the others
	aloneAfter  = 3300 * time.Millisecond // and for so long: believe it though the others hear it
	voteLife    = 5 * time.Second         // of silence; its witness renews it
	crashLife   = 10 * time.Second
	// crashGrace is how many heartbeats after a crash a member must count up to
	// be alive after all, if its refutation was lost.
	crashGrace = 20
	// refuteGrace is how long a member that its partners hear may take to refute
	// SWIM's verdict, before it is out of rotation.
	refuteGrace = 2 * time.Second
)

func (v vote) live(now time.Time) bool {
	switch v.ev {
	case evNone:
		return false
	case evSilent:
		return now.Sub(v.at) < voteLife
	}
	return now.Sub(v.at) < crashLife
}

// heardAnew is called when SWIM holds r alive again. Silence told of it before
// is void: who buried r meanwhile watches it no more, and so would never take
// back what it said, and neither would I. Who still does not hear r says so
// again. The caller holds c.mu.
func (c *Cluster) heardAnew(r *row, now time.Time) {
	for w, v := range r.votes {
		if v.ev == evSilent {
			v.ev = evNone
			r.votes[w] = v
		}
	}
	if r.mine == evNone && now.Sub(r.told) < voteLife {
		c.tell(r, evNone)
	}
}

// suspicionFloor is the shortest time for which memberlist, with LAN timing,
// suspects a member before its verdict, in a cluster of n.
func suspicionFloor(n int) time.Duration {
	return time.Duration(4 * max(1, math.Log10(max(1, float64(n)))) * float64(time.Second))
}

// mineNow returns my own evidence against r, if I watch it. The caller holds c.mu.
func (c *Cluster) mineNow(r *row) evidence {
	if !r.partner {
		return evNone
	}
	return r.mine
}

// accused says whether anybody holds anything against r: it cannot be counted
// on as a witness. The caller holds c.mu.
func (c *Cluster) accused(r *row, now time.Time) bool {
	if r == c.self {
		return false
	}
	if c.mineNow(r) != evNone {
		return true
	}
	for _, v := range r.votes {
		if v.live(now) {
			return true
		}
	}
	return false
}

// soundRing is the ring of r and of those nobody holds anything against. The
// caller holds c.mu.
func (c *Cluster) soundRing(r *row, now time.Time) []*row {
	return slices.DeleteFunc(slices.Clone(c.ring()), func(o *row) bool { return o != r && c.accused(o, now) })
}

// count counts what r's witnesses say: its partners, and whoever was one when
// it spoke, for the ring moves while several die at once. One that may be gone
// itself counts only for what it has said. The caller holds c.mu.
func (c *Cluster) count(r *row, now time.Time) (live, crash, silent int, broke bool) {
	add := func(p *row, ev evidence) {
		switch {
		case ev.crash():
			crash++
			broke = broke || ev == evBroke
		case ev == evSilent:
			silent++
		case c.accused(p, now):
			return
		}
		live++
	}
	partners := partnersOf(c.ring(), r)
	for _, p := range partners {
		ev := evNone
		if p == c.self {
			ev = c.mineNow(r)
		} else if v := r.votes[p.m.Instance]; v.live(now) {
			ev = v.ev
		}
		add(p, ev)
	}
	for inst, v := range r.votes {
		if w := c.rows[inst]; w != nil && v.live(now) && w.m.State == Alive && !slices.Contains(partners, w) {
			add(w, v.ev)
		}
	}
	return live, crash, silent, broke
}

// judge sets r's state from the evidence. The caller holds c.mu and publishes.
func (c *Cluster) judge(r *row) {
	if r == c.self || r.ghost {
		return
	}
	now := time.Now()
	s, cause := c.verdict(r, now)
	if s != r.m.State && len(r.votes) > 0 {
		c.passOn(r, now)
	}
	c.set(r, s, cause)
	if s == Failed || s == Left {
		c.hangUp(r, byteGoodbye)
		c.settleNames(r.m.Name)
	}
}

func (c *Cluster) verdict(r *row, now time.Time) (State, Cause) {
	switch {
	case r.farewell > 0:
		return Left, CauseLeft
	case r.crashed:
		return Failed, CauseCrashed
	case !r.swim && r.m.State == Failed:
		return Failed, r.m.Cause
	}
	live, crash, silent, broke := c.count(r, now)
	doubted := 2*(crash+silent) > live
	switch age := now.Sub(r.m.pulse.last()); {
	case r.swim:
	case r.m.State == Alive && !doubted && live > 0 && !c.cutOff && now.Sub(r.buried) < refuteGrace:
		// Those who watch it hear it: SWIM's suspicion is of a time when the
		// network was cut, and outlived that. The refutation is under way.
		return Alive, c.conflictCause(r)
	case age < suspicionFloor(c.countLocked(Alive)), !doubted && live > 0 && age < heartbeatLimit(len(c.rows)):
		// It was heard from after SWIM began to suspect it, or those who watch it
		// hear it: packets are lost, and its refutation is likely on the way.
		return Suspect, CauseOverdue
	default:
		return Failed, CauseUnreachable
	}
	if 2*crash > live && (broke || crash > 1) {
		r.crashed, r.crashBeat = true, r.m.pulse.beat.Load()
		// A witness repeats itself. And where several die at once the ring moves:
		// who sees it late counts partners that never looked, so those who are
		// partners once the doubtful are out say that they are convinced.
		if ev := c.mineNow(r); ev.crash() {
			c.tellAgain(r, ev)
		} else if slices.Contains(partnersOf(c.soundRing(r, now), r), c.self) {
			c.tellAgain(r, evFirst)
		}
		return Failed, CauseCrashed
	}
	switch {
	case c.mineNow(r).crash():
		return Suspect, CauseUnreachable
	case doubted, r.late, c.cutOff, r.partner && r.mine == evSilent && now.Sub(r.heard) > aloneAfter:
		return Suspect, CauseOverdue
	}
	return Alive, c.conflictCause(r)
}

// clear takes back what I hold against r, for I have just heard from it, and
// tells the others if they were told. The caller holds c.mu and publishes.
func (c *Cluster) clear(r *row, now time.Time) {
	if now.After(r.heard) {
		r.heard = now
	}
	if c.cutOff && r.partner {
		c.setCutOff(false)
	}
	if r.mine == evNone {
		return
	}
	r.mine, r.quiet = evNone, false
	c.tell(r, evNone)
	c.judge(r)
}

// blame takes in my own evidence against r and tells the others. The caller
// holds c.mu and publishes.
func (c *Cluster) blame(r *row, ev evidence) {
	if r == c.self || r.ghost || r.farewell > 0 || !r.partner || r.mine == ev || r.mine.crash() && ev == evSilent {
		return
	}
	r.mine = ev
	c.logger.Debug("evidence", "member", r.m.Name, "addr", r.m.Addr.String(), "cause", ev.String())
	if !c.cutOff {
		c.tell(r, ev)
	}
	c.judge(r)
	c.judgeNeighbours(r)
}

// judgeNeighbours looks again at those whom r was a witness of: a witness that
// may be gone no longer counts. The caller holds c.mu.
func (c *Cluster) judgeNeighbours(r *row) {
	for _, p := range partnersOf(c.ring(), r) {
		if len(p.votes) > 0 || p.mine != evNone {
			c.judge(p)
		}
	}
}

func (e evidence) String() string {
	switch e {
	case evBroke:
		return "stream broke and the address refuses"
	case evFirst:
		return "the address refuses"
	case evSilent:
		return "silent"
	}
	return "heard again"
}
