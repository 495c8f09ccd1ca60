package cluster

import (
	"net/netip"
	"time"
)

// Two live instances of one name: the first to start is asked at once whether
// it still lives. If nobody answers in time it crashed and came back
// elsewhere, and the second takes its place. If it answers, both run under
// one name by mistake: both are shown as a conflict, the first stays
// eligible, and nobody shuts itself down.

// challengeTimeout is for a host that does not even refuse; who was only slow is
// unmasked when it is heard from.
const challengeTimeout = 300 * time.Millisecond

// challengeLater starts the question. The caller holds c.mu.
func (c *Cluster) challengeLater(first, second *row) {
	if c.closed {
		return
	}
	if first == c.self {
		c.declareConflict(first, second)
		return
	}
	addr := first.m.Addr
	a, b := first.m.Instance, second.m.Instance
	c.spawn(func() {
		conn, _, _ := c.dialWatch(addr, kindProbe, a, challengeTimeout)
		answered := conn != nil
		c.mu.Lock()
		defer c.mu.Unlock()
		if answered {
			c.end(&watchStream{conn: conn}, byteGoodbye)
		}
		first, second := c.rows[a], c.rows[b]
		if first == nil || second == nil || c.closed {
			return
		}
		defer c.publish()
		if answered && (first.m.State == Alive || first.m.State == Suspect) {
			c.declareConflict(first, second)
			return
		}
		first.ghost = true
		c.ringRows = nil
		c.settleNames(second.m.Name)
		if !c.dirty { // the second never stood in the shadow of the first
			c.emit(Updated, second)
		}
	})
}

// earlierTries bounds how often an address is asked for an earlier instance.
const earlierTries = 3

// askWhoLives is called when an instance turns up that is earlier than the one
// known under its name and address. Mostly it is old news. But a host whose clock
// was set back, and that keeps nothing, comes back like that, and then it says so
// itself when it is asked. The caller holds c.mu.
func (c *Cluster) askWhoLives(name string, inst Instance, addr netip.AddrPort, number uint64, version string) {
	if c.closed || addr == c.self.m.Addr {
		return
	}
	c.spawn(func() {
		for range earlierTries {
			conn, _, _ := c.dialWatch(addr, kindProbe, inst, challengeTimeout)
			if conn == nil {
				if !c.sleep(challengeTimeout) {
					return
				}
				continue
			}
			c.mu.Lock()
			c.end(&watchStream{conn: conn}, byteGoodbye)
			for _, o := range c.rows {
				if o != c.self && o.m.Name == name && o.m.Addr == addr && o.m.Instance > inst {
					c.supersede(o)
				}
			}
			c.mu.Unlock()
			c.memberUp(name, inst, addr, number, version)
			return
		}
	})
}

// unmask shows an instance again that was thought to be replaced. The caller
// holds c.mu and publishes.
func (c *Cluster) unmask(r *row) {
	r.ghost = false
	c.ringRows = nil
	c.judge(r)
	for _, o := range c.rows {
		if o == r || o.ghost || o.m.Name != r.m.Name || o.m.State == Failed || o.m.State == Left {
			continue
		}
		first, second := r, o
		if o.m.Instance < r.m.Instance {
			first, second = o, r
		}
		c.declareConflict(first, second)
		return
	}
	c.emit(Updated, r)
}

// declareConflict marks both. The caller holds c.mu and publishes.
func (c *Cluster) declareConflict(first, second *row) {
	first.m.Shadowed, second.m.Shadowed = false, true
	for _, r := range []*row{first, second} {
		if r.m.State == Alive && r.m.Cause != CauseConflict {
			r.m.Cause = CauseConflict
			c.emit(Updated, r)
		}
	}
	c.logger.Warn("two live peers have one name: rename one of them",
		"member", first.m.Name, "addr", first.m.Addr.String(), "other", second.m.Addr.String())
}

// conflictCause is CauseConflict when another live instance has r's name. The
// caller holds c.mu.
func (c *Cluster) conflictCause(r *row) Cause {
	for _, o := range c.rows {
		if o != r && !o.ghost && o.m.Name == r.m.Name && o.m.State == Alive && r.m.Shadowed != o.m.Shadowed {
			return CauseConflict
		}
	}
	return CauseNone
}

// settleNames ends a conflict when one of two instances of a name is gone: the
// other is plainly alive, and the gone one is not worth showing. The caller
// holds c.mu.
func (c *Cluster) settleNames(name string) {
	var live, dead []*row
	for _, r := range c.rows {
		if r.m.Name != name || r.ghost {
			continue
		}
		if r.m.State == Failed || r.m.State == Left {
			dead = append(dead, r)
		} else {
			live = append(live, r)
		}
	}
	if len(live) == 0 {
		return
	}
	for _, r := range dead {
		c.supersede(r)
	}
	if len(live) == 1 {
		r := live[0]
		if r.m.Shadowed || r.m.Cause == CauseConflict {
			r.m.Shadowed = false
			cause := CauseNone
			if r.m.State == Suspect {
				cause = CauseOverdue
			}
			r.m.Cause = cause
			c.emit(Updated, r)
		}
	}
	if len(dead) > 0 && !c.dirty {
		c.emit(Updated, live[0])
	}
}
