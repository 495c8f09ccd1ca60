package selector

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// muster finds a place for every member that matches, and returns those that are
// in the rotation, by rank, and the others in the order in which to try them
// after. It sets the tiers of next and when it is due.
func (s *Selector[T]) muster(old, next *ring[T]) (pool, rest []*place[T]) {
	x := s.roster
	now := x.now()
	for i, p := range old.places {
		p.was = i
		p.seat.here, p.seat.build = p, x.builds
	}
	var tiers [3][]*place[T]
	tiers[Live] = make([]*place[T], 0, len(x.members))
	for _, c := range x.members {
		if s.match != nil && !s.match(c.peer) {
			continue
		}
		self := c.id == x.cfg.Self && x.cfg.SelfRule != SelfIncluded
		if self && x.cfg.SelfRule == SelfNever {
			continue
		}
		p := c.here
		if c.build != x.builds {
			p = &place[T]{seat: c}
		}
		switch {
		case self || c.standby:
			tiers[LastResort] = append(tiers[LastResort], p)
		case c.until > now:
			tiers[Cooling] = append(tiers[Cooling], p)
			next.dueBy(c.until)
		default:
			tiers[Live] = append(tiers[Live], p)
		}
		p.rate = 1
		if s.policy != RoundRobin && s.policy != ByKey {
			p.rate = float64(c.weight)
		}
		if d := x.cfg.SlowStart; c.joined >= 0 && now-c.joined < d {
			step := slowSteps * (now - c.joined) / d
			p.rate *= float64(step+1) / (slowSteps + 1)
			next.dueBy(c.joined + min(d, (step+1)*d/slowSteps+1))
		}
	}
	slices.SortStableFunc(tiers[Cooling], func(a, b *place[T]) int { return cmp.Compare(a.seat.until, b.seat.until) })
	next.live = len(tiers[Live])
	next.cool = next.live + len(tiers[Cooling])

	first := Live
	for first < LastResort && len(tiers[first]) == 0 {
		first++
	}
	pool = tiers[first]
	switch {
	case s.policy == Nearest:
		pool, rest = x.nearest(pool)
		if x.cfg.RTT == nil {
			next.dueBy(now + time.Second)
		}
	case x.cfg.Zone != nil:
		home := 0
		for _, t := range tiers {
			for _, p := range t {
				if p.seat.zone == x.cfg.Home {
					home++
				}
			}
		}
		pool, rest = x.homeFirst(pool, home)
	}
	for t := first + 1; t <= LastResort; t++ {
		rest = append(rest, tiers[t]...)
	}
	return pool, rest
}

// slowSteps is how often a peer that starts slowly gains.
const slowSteps = 9

// dueBy notes that r must be made anew at t at the latest.
func (r *ring[T]) dueBy(t time.Duration) {
	if r.due == 0 || t < r.due {
		r.due = t
	}
}

// homeFirst splits what is fit into those that take turns and those that come
// after. home counts the peers at home whatever their tier.
func (x *roster[T]) homeFirst(fit []*place[T], home int) (pool, rest []*place[T]) {
	var at, away []*place[T]
	var atRate, awayRate float64
	for _, p := range fit {
		if p.seat.zone == x.cfg.Home {
			at, atRate = append(at, p), atRate+p.rate
		} else {
			away, awayRate = append(away, p), awayRate+p.rate
		}
	}
	enough := x.cfg.HomeEnough
	if enough < 1 {
		enough = int(math.Ceil(0.7 * float64(home)))
	}
	switch {
	case len(at) == 0:
		return away, nil
	case len(at) >= enough || len(away) == 0:
		return at, away
	}
	for _, p := range at {
		p.rate *= float64(len(at)) * awayRate
	}
	for _, p := range away {
		p.rate *= float64(enough-len(at)) * atRate
	}
	// By rank again, so that joiners are.
	return merge(at, away, func(a, b *place[T]) int { return byRank(a.seat, b.seat) }), nil
}

// nearest splits what is fit by round trip: the nearest take turns, the others
// come after in order.
func (x *roster[T]) nearest(fit []*place[T]) (pool, rest []*place[T]) {
	if len(fit) == 0 {
		return nil, nil
	}
	const unknown = math.MaxInt64
	far := func(p *place[T]) time.Duration {
		if p.seat.rtt > 0 {
			return p.seat.rtt
		}
		if l := p.seat.latency.Load(); l > 0 {
			return time.Duration(l)
		}
		return unknown
	}
	least := far(slices.MinFunc(fit, func(a, b *place[T]) int { return cmp.Compare(far(a), far(b)) }))
	margin := max(least/4, 250*time.Microsecond)
	for _, p := range fit {
		// Where requests are all that measures, nobody is known who gets none.
		if d := far(p); d-least <= margin || d == unknown && x.cfg.RTT == nil {
			pool = append(pool, p)
		} else {
			rest = append(rest, p)
		}
	}
	slices.SortStableFunc(rest, func(a, b *place[T]) int { return cmp.Compare(far(a), far(b)) })
	return pool, rest
}
