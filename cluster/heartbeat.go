package cluster

import (
	"sync/atomic"
	"time"
)

// Every peer has a heartbeat counter: the whole seconds since it started. It
// needs no timer, for it is read only when somebody asks. Who answers a gossip
// ping sends along, in the ack and so at no extra packet, a digest: the
// counters that it knows and how old each is. Age counts from the
// origin, not from the last hop, so that a long way does not make a heartbeat
// look fresh.
//
// A digest has room for digestEntries members. In a larger cluster half of
// them are the freshest that the sender knows and half come in turn, so that
// none is left out for long.

const (
	heartbeatEvery = time.Second
	digestEntries  = 64
	// sweepEvery is how often the table is looked through for overdue members.
	sweepEvery = 500 * time.Millisecond
)

// heartbeatLimit is the age at which a member counts as overdue in a cluster of
// n. Digests travel with one ack a second, so ages grow with n: in a simulation
// with 5 % of the packets lost the oldest age ever seen was 11 s among 10, 18 s
// among 64, 37 s among 128, 114 s among 512 and 250 s among 1,024. The limit
// keeps clear of those, for a false alarm takes a healthy peer out of rotation.
func heartbeatLimit(n int) time.Duration {
	return 15*time.Second + time.Duration(n)*250*time.Millisecond
}

// overdueAfter is the limit that a peer applies which has this view and this
// health score of memberlist's. Its own probes bring it most digests, and they
// slow down by the score while they fail: among 32 cut in halves a third of the
// peers doubted members of their own half otherwise. Those who do not answer
// count, for they take their turns at being probed.
func overdueAfter(v *View, score int) time.Duration {
	n := v.Count(Alive) + v.Count(Suspect) + v.Count(Failed)
	return heartbeatLimit(n) * time.Duration(1+max(score, 0))
}

// pulse is the part of a member that moves all the time. Readers need no lock.
type pulse struct {
	beat  atomic.Uint64 // highest counter known
	heard atomic.Int64  // when that one was sent, as nanoseconds since base
	rtt   atomic.Int64
	base  time.Time
}

func newPulse(base, now time.Time) *pulse {
	p := &pulse{base: base}
	p.heard.Store(int64(now.Sub(base)))
	return p
}

func (p *pulse) last() time.Time { return p.base.Add(time.Duration(p.heard.Load())) }

// hear takes in that the counter stood at beat at the time at. It reports
// whether that is news.
func (p *pulse) hear(beat uint64, at time.Time) bool {
	news := false
	for {
		old := p.beat.Load()
		if beat <= old {
			break
		}
		if p.beat.CompareAndSwap(old, beat) {
			news = true
			break
		}
	}
	if news {
		p.touch(at)
	}
	return news
}

// touch takes in that the member was heard from at the time at.
func (p *pulse) touch(at time.Time) {
	t := int64(at.Sub(p.base))
	for {
		old := p.heard.Load()
		if t <= old || p.heard.CompareAndSwap(old, t) {
			return
		}
	}
}

// forgive moves the last heartbeat by gap: time in which this peer itself was
// stopped is nobody else's silence.
func (p *pulse) forgive(gap time.Duration) { p.heard.Add(int64(gap)) }

// beatNow is this peer's own counter. The caller holds c.mu.
func (c *Cluster) beatNow(now time.Time) uint64 {
	return uint64(now.Sub(c.started)/heartbeatEvery) + 1 + c.beatLeap
}

// staying contradicts a goodbye in this peer's name that it never said: its
// counter leaps past what it may have been when it left. The caller holds c.mu.
func (c *Cluster) staying(count uint64) {
	if c.left || c.closed {
		return
	}
	now := time.Now()
	if own := c.beatNow(now); own <= count+farewellGrace {
		c.beatLeap += count + farewellGrace + 1 - own
		c.logger.Warn("somebody spread a goodbye in this peer's name, contradicting it")
	}
	self := []beat{{c.self.m.Instance, c.beatNow(now), 0}}
	c.broadcasts.QueueBroadcast(recordBroadcast{owner: "stays", frame: appendBeats([]byte{frameBeats}, self)})
}

// ack returns what goes along with the answer to a ping. The caller holds no lock.
func (c *Cluster) ack(now time.Time) ack {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ack{c.roster(), c.digest(now)}
}

// digest returns the heartbeats to send along with an ack, this peer's own
// first. The caller holds c.mu.
func (c *Cluster) digest(now time.Time) []beat {
	out := make([]beat, 0, min(len(c.rows)+1, digestEntries))
	out = append(out, beat{c.self.m.Instance, c.beatNow(now), 0})
	all := c.beatOrder[:0]
	for _, r := range c.rows {
		if r != c.self && (r.m.State == Alive || r.m.State == Suspect) && r.m.pulse.beat.Load() > 0 {
			all = append(all, r)
		}
	}
	c.beatOrder = all
	room := digestEntries - len(out)
	if len(all) > room {
		all = c.pickBeats(all, room)
	}
	for _, r := range all {
		out = append(out, beat{r.m.Instance, r.m.pulse.beat.Load(), now.Sub(r.m.pulse.last())})
	}
	return out
}

// pickBeats moves to the front of rows, and returns, the room/2 freshest and
// then others in turn. The caller holds c.mu.
func (c *Cluster) pickBeats(rows []*row, room int) []*row {
	sortRows(rows, func(a, b *row) bool { return a.m.pulse.heard.Load() > b.m.pulse.heard.Load() })
	fresh, rest := rows[:room/2], rows[room/2:]
	sortRows(rest, func(a, b *row) bool { return a.sentBeat < b.sentBeat })
	out := rows[:room]
	c.beatTurn++
	for _, r := range out[len(fresh):] {
		r.sentBeat = c.beatTurn
	}
	return out
}

// hearBeats takes in a digest that arrived at now.
func (c *Cluster) hearBeats(beats []beat, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range beats {
		r := c.rows[b.instance]
		if r == nil || r == c.self {
			continue
		}
		if r.m.pulse.hear(b.count, now.Add(-b.age)) {
			c.heardFrom(r)
		}
	}
	c.publish()
}

// sweep calls the overdue suspect, and drops those who have been gone for long.
// It runs on the beat loop.
func (c *Cluster) sweep(now time.Time, late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compareBlindly(now)
	if late > heartbeatEvery {
		for _, r := range c.rows {
			r.m.pulse.forgive(late)
		}
	}
	limit := overdueAfter(c.View(), c.ml.GetHealthScore())
	for _, r := range c.rows {
		// A grace after SWIM's verdict runs out with time alone.
		switch r.m.State {
		case Alive:
			if r != c.self && now.Sub(r.m.pulse.last()) > limit {
				r.late = true
				c.judge(r)
			} else if !r.swim {
				c.judge(r)
			}
		case Suspect:
			if !r.swim {
				c.judge(r)
			}
		case Failed, Left:
			if r != c.self && now.Sub(r.m.Since) > c.cfg.ForgetAfter {
				c.drop(r)
				c.emit(Forgot, r)
			}
		}
	}
	c.publish()
}

// beatLoop sweeps the table until the cluster is closed.
func (c *Cluster) beatLoop() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-c.closing:
			return
		case <-t.C:
		}
		now := time.Now()
		c.sweep(now, now.Sub(last)-sweepEvery)
		last = now
	}
}
