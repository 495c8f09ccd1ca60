package selector

import (
	"slices"
	"time"
)

// Report tells the outcome of a request to a peer: its error, nil for a success,
// and how long a success took (0 if unknown). It is for those who pick with
// Next; [Turn.Done] does the same. Reports of peers that have gone are ignored.
//
// A failure makes the peer cool down: it is handed out only when nobody live is
// left. It comes back when [Config].Cooldown is over, twice as long with each
// failure in a row, or with the next success. Failures reported while it cools
// down are those of requests that were under way and count as one. At most
// [Config].MaxCooling of all peers cool down at one time.
//
// Report what tells of the peer: a refused connection, a time-out. An answer is
// a success, also one that the caller does not like.
func (s *Selector[T]) Report(peer T, err error, latency time.Duration) {
	x := s.roster
	id := x.cfg.ID(peer)
	x.mu.Lock()
	c := x.seats[id]
	x.mu.Unlock()
	if c != nil {
		x.report(c, err, latency)
	}
}

func (x *roster[T]) report(c *seat[T], err error, latency time.Duration) {
	if err != nil {
		if x.cfg.Cooldown > 0 {
			x.strike(c)
		}
		return
	}
	if latency > 0 {
		// Reports that cross may lose one another: it is an estimate.
		old := c.latency.Load()
		if old == 0 {
			old = int64(latency)
		}
		c.latency.Store(max(1, old+(int64(latency)-old)/8))
	}
	if c.strikes.Load() > 0 {
		x.forgive(c)
	}
}

// strike counts a failure and makes the peer cool down.
func (x *roster[T]) strike(c *seat[T]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	if x.seats[c.id] != c || c.until > now {
		return
	}
	n := c.strikes.Add(1)
	x.cooling = slices.DeleteFunc(x.cooling, func(c *seat[T]) bool { return c.until <= now })
	if float64(len(x.cooling)+1) > x.cfg.MaxCooling*float64(len(x.members)) {
		return
	}
	c.until = now + x.cfg.Cooldown<<min(n-1, 5)
	x.cooling = append(x.cooling, c)
	x.version.Add(1)
	x.first.rebuild()
}

// forgive ends a row of failures, and the cool-down with it.
func (x *roster[T]) forgive(c *seat[T]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c.strikes.Store(0)
	if c.until <= x.now() {
		return
	}
	c.until = 0
	x.cooling = slices.DeleteFunc(x.cooling, func(o *seat[T]) bool { return o == c })
	if x.seats[c.id] == c {
		x.version.Add(1)
		x.first.rebuild()
	}
}
