package cluster

import (
	"time"
)

const (
	// saveAfter gathers the changes of a moment into one write.
	saveAfter = time.Second
	// saveAgain is when a failed write is tried again.
	saveAgain = 30 * time.Second
)

// remember brings known up to date with the table. The caller holds c.mu.
func (c *Cluster) remember() {
	now := c.cfg.Now()
	for _, r := range c.rows {
		if r == c.self || r.ghost || r.m.Shadowed || r.m.Name == c.cfg.Name {
			continue
		}
		p := rememberedPeer{Name: r.m.Name, Instance: r.m.Instance, Addr: r.m.Addr, State: r.m.State, LastSeen: now}
		if old, ok := c.known[r.m.Name]; ok && old.Instance == r.m.Instance && (r.m.State == Failed || r.m.State == Left) {
			p.LastSeen = old.LastSeen
		}
		c.known[r.m.Name] = p
	}
}

// forgotten takes name out of what is kept. The caller holds c.mu.
func (c *Cluster) forgotten(name string) { delete(c.known, name) }

// lost returns the members ever seen that nobody answers for now, by name, and
// whether this peer knows no other that lives. Those who left are lost only
// until some peer answered, for then the cluster itself tells who is in it.
func (c *Cluster) lost() (lost map[string]rememberedPeer, alone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := map[any]bool{}
	alone = true
	for _, r := range c.rows {
		if r == c.self || r.swim && (r.m.State == Alive || r.m.State == Suspect) { // else SWIM has buried it: a push/pull digs it out
			live[r.m.Addr] = true
			if !r.ghost {
				live[r.m.Name] = true
			}
			alone = alone && r == c.self
		}
	}
	lost = map[string]rememberedPeer{}
	for name, p := range c.known {
		switch {
		case live[name] || live[p.Addr]:
		case p.State == Left && c.joined.Load():
		case c.cfg.Now().Sub(p.LastSeen) > c.cfg.ForgetAfter:
			delete(c.known, name)
		default:
			lost[name] = p
		}
	}
	return lost, alone
}

// keep writes what is known to the data dir, a moment after each change and
// once more at the end.
func (c *Cluster) keep() {
	var saved uint64
	var failing bool
	var tried time.Time
	save := func() {
		c.mu.Lock()
		c.remember()
		saved = c.index
		r := remembered{Self: c.self.m.Instance}
		for _, p := range c.known {
			r.Peers = append(r.Peers, p)
		}
		c.mu.Unlock()
		tried = time.Now()
		err := c.store.taken(r.Self)
		if err == nil {
			err = c.store.save(r)
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				c.logger.Warn("members are not kept: a full outage would not heal without seeds", "err", err)
			} else {
				c.logger.Info("members are kept again")
			}
		}
		c.setSaveErr(err)
	}
	save()
	defer save()
	t := time.NewTicker(saveAfter)
	defer t.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-t.C:
		}
		if c.View().Index != saved || failing && time.Since(tried) > saveAgain {
			save()
		}
	}
}
