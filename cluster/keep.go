package cluster

import (
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/datadir"
)

const (
	// saveAfter gathers the changes of a moment into one write.
	saveAfter = time.Second
	// saveAgain is when a failed write is tried again.
	saveAgain = 30 * time.Second
	// saveAbsence is how often the ages of those that are away are written.
	saveAbsence = 10 * time.Minute
)

// memories returns what the core may remember of an earlier run.
func (c *Cluster) memories(s datadir.Contents) core.Remembered {
	var out core.Remembered
	for _, p := range s.Peers {
		if p.Name != c.cfg.Name {
			out.Peers = append(out.Peers, core.Memory{ID: core.ID(p.Instance), Name: p.Name, Addr: p.Addr, Left: p.State == string(Left), Absent: p.Absent})
		}
	}
	return out
}

// memorize returns what the data dir is to keep; ok is false when the cluster is
// closed.
func (c *Cluster) memorize() (s datadir.Contents, ok bool) {
	s.Self = uint64(c.instance())
	ok = c.ask(func(k *core.Core) {
		for _, m := range k.Memories() {
			state := Alive
			switch {
			case m.Left:
				state = Left
			case m.Absent > 0:
				state = Failed
			}
			s.Peers = append(s.Peers, datadir.Peer{Instance: uint64(m.ID), Name: m.Name, Addr: m.Addr, State: string(state), Absent: m.Absent})
		}
	})
	s.Peers = datadir.Bound(s.Peers)
	return s, ok
}

// keep writes what is known to the data dir, a moment after each change, now and
// then because absence grows, and once more at the end.
func (c *Cluster) keep() {
	var failing bool
	save := func(s datadir.Contents) {
		err := c.dir.Taken(s.Self)
		if err == nil {
			err = c.dir.Save(s)
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				c.logger.Warn("members are not kept: a full outage would not heal without seeds", "err", err)
			} else {
				c.logger.Info("members are kept again")
			}
		}
		c.mu.Lock()
		c.saveErr = err
		c.mu.Unlock()
	}
	update := func() {
		if s, ok := c.memorize(); ok {
			save(s)
		}
	}
	update()
	defer func() {
		if last := c.lastWords.Load(); last != nil {
			save(*last)
		}
	}()
	t := time.NewTimer(saveAbsence)
	defer t.Stop()
	changed := false
	for {
		select {
		case <-c.closing:
			return
		case <-c.unsaved:
			if !changed {
				changed = true
				t.Reset(saveAfter)
			}
		case <-t.C:
			changed = false
			update()
			if failing {
				t.Reset(saveAgain)
			} else {
				t.Reset(saveAbsence)
			}
		}
	}
}
