package cluster

import (
	"slices"
	"time"
)

// Watch streams tell within milliseconds that a process is gone, and within two
// seconds that a host is silent, at a cost that does not grow with the cluster.
// A peer holds one stream through the gossip port to each of its successors on
// the ring. The dialler writes a byte every beatEvery, the other end echoes it.
//
// A stream that ends without a goodbye is looked into at once: if the address
// refuses, or another instance answers there, the kernel itself says that the
// process is gone. A time-out says nothing, and neither does an answer by the
// same instance. Silence means a stopped or cut-off host, or a stream that
// stalls after an outage; so who is silent for long is dialled afresh.
//
// One loop beats, looks for silence and follows the ring; each stream has a
// goroutine that reads, and each dial one of its own.

const (
	beatEvery = 750 * time.Millisecond // on average: a beat waits for a tick
	watchTick = 200 * time.Millisecond
	redialIf  = time.Second // without a byte: the stream may be stalled
	// redialStale is how long a dial may be under way before a better reason begins
	// another beside it: its first packet is lost, and the kernel sends the next
	// after a second.
	redialStale = 250 * time.Millisecond
	redialWait  = 5 * time.Millisecond
	redialMax   = 10 // quick tries after a break
	writeLimit  = 20 * time.Millisecond
	userLimit   = 2500 * time.Millisecond // TCP_USER_TIMEOUT
)

// watchLoop runs until the cluster is closed.
func (c *Cluster) watchLoop() {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	last := time.Now()
	beat := last.Add(beatEvery)
	for {
		select {
		case <-c.closing:
			return
		case <-c.watchKick:
			c.followRing(time.Now())
			continue
		case <-tick.C:
		}
		now := time.Now()
		if late := now.Sub(last) - watchTick; late > watchTick {
			c.forgive(late)
		}
		last = now
		if !now.Before(beat) {
			if beat = beat.Add(beatEvery); beat.Before(now) {
				beat = now.Add(beatEvery) // held up: what was missed is not made up for
			}
			c.beatAll()
		}
		c.followRing(now)
		c.listen(now)
	}
}

// forgive moves everybody's last byte by the time in which I was stopped myself.
func (c *Cluster) forgive(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logger.Debug("this peer was held up", "took", late.String())
	for _, r := range c.rows {
		if !r.heard.IsZero() {
			r.heard = r.heard.Add(late)
		}
	}
}

func (c *Cluster) beatAll() {
	c.mu.Lock()
	var out []*watchStream
	for _, r := range c.rows {
		if r.out != nil {
			out = append(out, r.out)
		}
	}
	c.mu.Unlock()
	for _, s := range out {
		s.write(byteBeat)
	}
}

// followRing makes the streams those that the ring asks for.
func (c *Cluster) followRing(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.left {
		return
	}
	ring := c.ring()
	next := successors(ring, c.self, 1)
	// Those on either side that watch me are watched back; past a silent one
	// the walk goes further, as it does on the other end.
	before := successors(ring, c.self, -1)
	for _, r := range c.rows {
		if r == c.self {
			continue
		}
		succ := slices.Contains(next, r)
		partner := succ || slices.Contains(before, r)
		looks := partner && !r.partner && len(r.votes) > 0 // others doubt it already
		if partner && !r.partner {
			r.heard, r.dialled = now, time.Time{}
		}
		if !partner && r.partner {
			r.mine = evNone
			c.hangUp(r, byteGoodbye)
		}
		if r.out != nil && !succ && partner {
			c.end(r.out, byteGoodbye)
			r.out = nil
		}
		r.partner, r.succ = partner, succ
		if looks {
			c.lookAt(r)
		}
		if succ && r.out == nil && !r.dialling && r.mine == evNone && now.Sub(r.dialled) > redialIf {
			c.dialLater(r, false)
		}
	}
}

// listen looks for silence. It runs every watchTick.
func (c *Cluster) listen(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.left {
		return
	}
	watched, silent := 0, 0
	for _, r := range c.rows {
		if !r.partner || r.ghost || (r.m.State != Alive && r.m.State != Suspect) {
			continue
		}
		watched++
		quiet := now.Sub(r.heard)
		if quiet > redialIf && !r.dialling && now.Sub(r.dialled) > redialIf {
			c.dialLater(r, false)
		}
		if quiet > silentAfter {
			silent++
		}
	}
	c.setCutOff(watched > 1 && silent == watched)
	for _, r := range c.rows {
		if !r.partner || r.ghost || r == c.self {
			continue
		}
		if now.Sub(r.heard) > silentAfter && r.mine == evNone {
			c.blame(r, evSilent)
		}
		if r.mine != evNone && !r.quiet && !c.cutOff && now.Sub(r.told) > renewEvery && r.m.State != Failed {
			c.tell(r, r.mine)
		}
	}
	for _, r := range c.rows { // votes run out, and my own doubt grows, with time alone
		if len(r.votes) > 0 || r.mine == evSilent {
			c.judge(r)
		}
	}
	c.publish()
}

// setCutOff takes in whether nobody at all answers me: then it is I who is cut
// off, and I blame nobody. The caller holds c.mu and publishes.
func (c *Cluster) setCutOff(cut bool) {
	if cut == c.cutOff {
		return
	}
	c.cutOff = cut
	if cut {
		c.logger.Warn("no partner answers: this peer is cut off, or the last one", "fix", "check this host's network")
	} else {
		c.logger.Info("partners answer again")
	}
	for _, r := range c.rows {
		c.judge(r)
	}
}
