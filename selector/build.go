package selector

import "slices"

// rebuild publishes the rotation of s for the members as they are now, going on
// from the one before. The caller holds roster.mu.
func (s *Selector[T]) rebuild() *ring[T] {
	old := s.ring.Load()
	next, from, follow := s.build(old)
	old.hand(next, from, follow)
	s.ring.Store(next)
	old.heir.Store(nil)
	return next
}

// build makes the rotation that goes on from old, and what hand needs to know.
func (s *Selector[T]) build(old *ring[T]) (next *ring[T], from int, follow []int) {
	x := s.roster
	x.builds++
	next = &ring[T]{version: x.version.Load(), known: len(x.members)}
	pool, rest := s.muster(old, next)
	for _, p := range pool {
		p.pool = x.builds
	}

	from = old.position()
	stay := old.queue(from)
	for _, p := range stay {
		p.stays = x.builds
	}
	stay = slices.DeleteFunc(stay, func(p *place[T]) bool { return p.pool != x.builds })
	var joined []*place[T]
	for _, p := range pool {
		if p.stays != x.builds {
			joined = append(joined, p)
		}
	}

	next.pool = len(pool)
	even := s.ration(pool)
	if even {
		next.size = len(pool)
		next.places = s.weave(stay, joined)
	} else {
		next.places = append(stay, joined...)
	}
	next.places = append(next.places, rest...)
	next.peers = make([]T, len(next.places))
	for i, p := range next.places {
		next.peers[i], p.index = p.seat.peer, i
	}
	if !even {
		s.schedule(old, next, from, len(stay))
	}
	if s.policy == ByKey {
		next.keys = x.layKeys(old, next)
	}
	if s.draws() {
		next.salt = s.rand.Uint64()
	}
	next.steady = s.name == "" && next.due == 0
	next.plain = next.steady && next.size > 0 && !s.draws()
	if next.plain && next.slots == nil {
		next.quick = next.peers[:next.size]
	}
	return next, from, old.follow(next, from, x.builds)
}

// weave returns those that stay in their order, and among them the joined, each
// interleaving as likely as any other. That makes a joiner's wait uniform over
// the rotation, which is what gives a peer that comes and goes its fair share,
// whatever its rhythm.
func (s *Selector[T]) weave(stay, joined []*place[T]) []*place[T] {
	if len(joined) == 0 {
		return stay
	}
	out := make([]*place[T], 0, len(stay)+len(joined))
	for len(stay) > 0 && len(joined) > 0 {
		if s.rand.IntN(len(stay)+len(joined)) < len(joined) {
			out, joined = append(out, joined[0]), joined[1:]
		} else {
			out, stay = append(out, stay[0]), stay[1:]
		}
	}
	return append(append(out, stay...), joined...)
}

// queue returns who is in r's rotation, in the order of their next turns from
// position at on.
func (r *ring[T]) queue(at int) []*place[T] {
	out := make([]*place[T], 0, r.pool)
	n := 0
	for i := range r.from(at) {
		if n++; n > r.pool {
			break
		}
		out = append(out, r.places[i])
	}
	return out
}

// follow returns, for each position of r from at on, the one in next that comes
// after the same turn of the same peer, as hand wants it.
func (r *ring[T]) follow(next *ring[T], at int, build uint64) []int {
	out := make([]int, r.size+1)
	out[0] = next.position()
	listed := next.list()
	for k := range r.size {
		p := r.places[r.owner(r.wrap(at, k))]
		if p.pool != build {
			out[k+1] = out[k]
			continue
		}
		if listed == nil {
			out[k+1] = p.index + 1
			continue
		}
		out[k+1] = listed[p.first+min(p.seen, p.count-1)] + 1
		p.seen++
	}
	return out
}

// list returns the positions of r grouped by peer, each group in the order of
// the turns to come, or nil when each has one.
func (r *ring[T]) list() []int {
	if r.slots == nil {
		return nil
	}
	n := 0
	for _, p := range r.places[:r.pool] {
		p.first, p.seen = n, 0
		n += p.count
	}
	out, at := make([]int, n), r.position()
	for k := range r.slots {
		pos := r.wrap(at, k)
		p := r.places[r.slots[pos]]
		out[p.first+p.seen] = pos
		p.seen++
	}
	for _, p := range r.places[:r.pool] {
		p.seen = 0
	}
	return out
}
