package cluster

import (
	"maps"
	"slices"
	"time"

	"github.com/peerhq/peer/cluster/internal/datadir"
)

const (
	// saveAfter gathers the changes of a moment into one write.
	saveAfter = time.Second
	// saveAgain is when a failed write is tried again.
	saveAgain = 30 * time.Second
	// ageEvery is how exactly an absence is measured: far below the hours after
	// which it matters.
	ageEvery = 10 * time.Second
	// saveAged is how much of an absence a crash may lose.
	saveAged = 10 * time.Minute
)

// remember brings known up to date with the table. Who is not in it alive is
// absent for the time since the last call, as far as this process ran: one that
// was stopped, or started late, saw nobody and ages nobody. The caller holds
// c.mu.
func (c *Cluster) remember() {
	now := time.Now()
	aging := now.Sub(c.aged) >= time.Second
	if aging {
		ran := min(now.Sub(c.aged), 2*ageEvery)
		c.aged = now
		for name, p := range c.known {
			p.Absent += ran
			c.known[name] = p
		}
	}
	present := 0
	for _, r := range c.rows {
		if r == c.self || r.ghost || r.m.Shadowed || r.m.Name == c.cfg.Name {
			continue
		}
		p := datadir.Peer{Name: r.m.Name, Instance: uint64(r.m.Instance), Addr: r.m.Addr, State: string(r.m.State)}
		if r.m.State == Failed || r.m.State == Left {
			p.Absent = now.Sub(r.m.Since)
			if old, ok := c.known[r.m.Name]; ok && old.Instance == p.Instance {
				p.Absent = old.Absent
			}
		} else {
			present++
		}
		c.known[r.m.Name] = p
	}
	if aging && len(c.known)-present > datadir.MaxAbsent {
		kept := datadir.Bound(slices.Collect(maps.Values(c.known)))
		clear(c.known)
		for _, p := range kept {
			c.known[p.Name] = p
		}
	}
}

// forgotten takes name out of what is kept. The caller holds c.mu.
func (c *Cluster) forgotten(name string) { delete(c.known, name) }

// lost returns the members ever seen that nobody answers for now, by name, and
// whether this peer knows no other that lives. Those who left are lost only
// until some peer answered, for then the cluster itself tells who is in it.
func (c *Cluster) lost() (lost map[string]datadir.Peer, alone bool) {
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
	lost = map[string]datadir.Peer{}
	for name, p := range c.known {
		switch {
		case live[name] || live[p.Addr]:
		case p.State == string(Left) && c.joined.Load():
		case p.Absent > c.cfg.ForgetAfter:
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
		r := datadir.Contents{Self: uint64(c.self.m.Instance), Prev: uint64(c.prev)}
		for _, p := range c.known {
			r.Peers = append(r.Peers, p)
		}
		c.mu.Unlock()
		tried = time.Now()
		err := c.store.Taken(r.Self)
		if err == nil {
			err = c.store.Save(r)
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
		c.mu.Lock()
		if time.Since(c.aged) >= ageEvery {
			c.remember()
		}
		c.mu.Unlock()
		since := time.Since(tried)
		if c.View().Index != saved || since > saveAged || failing && since > saveAgain {
			save()
		}
	}
}
