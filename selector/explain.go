package selector

import (
	"fmt"
	"slices"
	"time"
)

// Standing is how one peer stands with a selector, and why.
type Standing[T any] struct {
	Peer T
	ID   string
	Tier Tier
	// Rank is the peer's place in the order in which Order would yield the peers
	// now, from 0, or -1: it would not be yielded.
	Rank    int
	Share   float64       // of the turns, 0 to 1; under ByKey of the keys
	Load    int           // turns taken and not done
	Latency time.Duration // smoothed, of the requests reported; 0 if none
	Strikes int           // failures in a row
	Why     string        // in words
}

// Explain tells of every peer where it stands and why: first those that Order
// would yield for w, in its order, then those it would not. It takes no turn.
// Under LeastLoaded and Random, which draw, the order is one of many.
func (s *Selector[T]) Explain(w Want) []Standing[T] {
	r := s.fresh()
	x := s.roster
	x.mu.Lock()
	defer x.mu.Unlock()
	order := r.from(r.position())
	if s.keyed(w) {
		order = r.onCircle(w.Key)
	}
	now := x.now()
	out := make([]Standing[T], 0, len(x.members))
	var excluded []Standing[T]
	shown := make(map[*seat[T]]bool, len(r.places))
	rank := 0
	for i := range order {
		p := r.places[i]
		shown[p.seat] = true
		st := p.seat.standing()
		st.Tier, st.Load, st.Share = r.tier(i), int(p.load.Load()), r.share(i)
		if slices.Contains(w.Exclude, st.ID) {
			st.Why = "excluded by the caller"
			excluded = append(excluded, st)
			continue
		}
		st.Rank = rank
		st.Why = s.why(r, i, now)
		rank++
		out = append(out, st)
	}
	out = append(out, excluded...)
	for _, c := range x.members {
		if shown[c] {
			continue
		}
		st := c.standing()
		st.Tier = LastResort
		st.Why = "does not match"
		if c.id == x.cfg.Self && x.cfg.SelfRule == SelfNever {
			st.Why = "is this client itself, which is never handed out"
		}
		out = append(out, st)
	}
	return out
}

func (c *seat[T]) standing() Standing[T] {
	return Standing[T]{
		Peer:    c.peer,
		ID:      c.id,
		Rank:    -1,
		Latency: time.Duration(c.latency.Load()),
		Strikes: int(c.strikes.Load()),
	}
}

// share is what part of the turns, or of the keys, peer i gets.
func (r *ring[T]) share(i int) float64 {
	switch {
	case i >= r.pool:
		return 0
	case r.keys != nil:
		return float64(r.keys.shares[i]) / float64(r.keys.all)
	case r.slots != nil:
		return float64(r.counts[i]) / float64(r.size)
	}
	return 1 / float64(r.size)
}

// why says in words why peer i of r is where it is. The caller holds roster.mu.
func (s *Selector[T]) why(r *ring[T], i int, now time.Duration) string {
	c, x := r.places[i].seat, s.roster
	switch r.tier(i) {
	case Cooling:
		failed := "a failed request"
		if n := c.strikes.Load(); n > 1 {
			failed = fmt.Sprintf("%d failed requests in a row", n)
		}
		return fmt.Sprintf("cools down for %v after %s", (c.until - now).Round(time.Millisecond), failed)
	case LastResort:
		if c.id == x.cfg.Self && x.cfg.SelfRule == SelfLast {
			return "is this client itself, the last resort"
		}
		return "stands by"
	}
	if i >= r.pool {
		if s.policy == Nearest {
			return "live, but farther than others"
		}
		return "live, but not at home"
	}
	switch {
	case c.joined >= 0 && now-c.joined < x.cfg.SlowStart:
		return "takes turns, slowly yet: it has just joined"
	case s.policy == ByKey:
		return "takes keys"
	case s.policy == LeastLoaded || s.policy == Random:
		return "may be drawn"
	}
	return "takes turns"
}
