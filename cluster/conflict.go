package cluster

import "time"

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
