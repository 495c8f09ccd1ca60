package cluster

import (
	"net"
	"time"
)

// Two live instances of one name: the first to start is asked at once whether
// it still lives. If nobody answers in time it crashed and came back
// elsewhere, and the second takes its place. If it answers, both run under
// one name by mistake: both are shown as a conflict, the first stays
// eligible, and nobody shuts itself down.

const (
	challengeTries   = 3
	challengeTimeout = 130 * time.Millisecond // each; together under 400 ms
)

// challengeLater starts the question. The caller holds c.mu.
func (c *Cluster) challengeLater(first, second *row) {
	if c.closed {
		return
	}
	if first == c.self {
		c.declareConflict(first, second)
		return
	}
	name, addr := nodeName(first.m.Name, first.m.Instance), first.m.Addr
	a, b := first.m.Instance, second.m.Instance
	c.wg.Go(func() {
		answered := false
		for range challengeTries {
			if answered = c.ping(name, net.UDPAddrFromAddrPort(addr), challengeTimeout); answered {
				break
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		first, second := c.rows[a], c.rows[b]
		if first == nil || second == nil || c.closed {
			return
		}
		defer c.publish()
		if answered {
			c.declareConflict(first, second)
			return
		}
		first.ghost = true
		c.dirty = true
		c.settleNames(second.m.Name)
	})
}

// unmask shows an instance again that was thought to be replaced. The caller
// holds c.mu and publishes.
func (c *Cluster) unmask(r *row) {
	r.ghost = false
	c.set(r, Alive, CauseNone)
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

// ping asks the gossip port at addr whether it is the instance called node.
func (c *Cluster) ping(node string, addr net.Addr, timeout time.Duration) bool {
	answer := make(chan bool, 1)
	c.wg.Go(func() {
		_, err := c.ml.Ping(node, addr)
		answer <- err == nil
	})
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case ok := <-answer:
		return ok
	case <-t.C:
	case <-c.closing:
	}
	return false
}
