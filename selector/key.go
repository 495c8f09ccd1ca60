package selector

import (
	"iter"
	"math"
)

// pointsEach is how many points a peer of middling weight has. With two probes
// a key, the shares of equal peers have a standard deviation of a seventh; one
// probe would need three times the points, and three times the work when a peer
// comes or goes.
const pointsEach = 16

// NextFor returns the peer that key belongs to under ByKey: the same on every
// client that has the same peers, whatever the order in which they came, and
// when a peer goes only its own keys move. Under another policy, or with an
// empty key, it is Next.
//
// The load is bounded: a key whose peer has more than 5/4 of its share of the
// turns in hand goes to the next peer on the circle, so that one busy key does
// not drown one peer. Turns in hand are those that [Selector.Take] gave and
// [Turn.Done] has not ended; a caller who takes none has no such bound.
func (s *Selector[T]) NextFor(key string) (T, error) {
	if s.policy != ByKey || key == "" {
		return s.Next()
	}
	r := s.fresh()
	if i := r.byKey(key, nil, s.load.Load()); i >= 0 {
		return r.peers[i], nil
	}
	var nobody T
	return nobody, r.none()
}

// keyed says whether w is a question by key.
func (s *Selector[T]) keyed(w Want) bool { return s.policy == ByKey && w.Key != "" }

// byKey returns the index of the peer for key that is not excluded, or -1. load
// is the turns in hand over all peers.
func (r *ring[T]) byKey(key string, exclude []string, load int64) int {
	if r.pool == 0 {
		return -1
	}
	if i := r.keys.owner(key); len(exclude) == 0 && (load <= 0 || r.room(i, load)) {
		return i
	}
	full := -1 // the first that would do but for its load
	w := r.keys.walk(key)
	for range 2 * len(r.keys.marks) {
		i := w.step()
		if r.excludes(i, exclude) {
			continue
		}
		if r.room(i, load) {
			return i
		}
		if full < 0 {
			full = i
		}
	}
	for i := r.pool; i < len(r.peers) && full < 0; i++ {
		if !r.excludes(i, exclude) {
			full = i
		}
	}
	return full
}

// room says whether peer i may have one more turn in hand when load are in hand
// over all: whether with it it would stay within 5/4 of its share, rounded up.
func (r *ring[T]) room(i int, load int64) bool {
	return 4*r.keys.all*r.places[i].load.Load() < 5*(load+1)*int64(r.keys.shares[i])
}

// onCircle yields the index of each peer once: those in the rotation as their
// points come after that of key, then the others.
func (r *ring[T]) onCircle(key string) iter.Seq[int] {
	return func(yield func(int) bool) {
		if r.pool > 0 {
			seen, w := newBits(r.pool), r.keys.walk(key)
			for left := r.pool; left > 0; {
				if i := w.step(); seen.add(i) {
					if !yield(i) {
						return
					}
					left--
				}
			}
		}
		for i := r.pool; i < len(r.peers); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// layKeys makes the circle of next. Peers that were on old's keep their points
// there, which are only filtered and merged. The caller holds x.mu.
func (x *roster[T]) layKeys(old, next *ring[T]) *circle {
	sum := 0.0
	for _, p := range next.places[:next.pool] {
		sum += float64(p.seat.weight)
	}
	// A power of two, so that it seldom moves when peers come and go: the keys of
	// all peers move with it.
	unit := math.Exp2(math.Round(math.Log2(sum / float64(next.pool))))
	const gone = ^uint32(0)
	now := make([]uint32, len(old.places))
	for i := range now {
		now[i] = gone
	}
	c := &circle{shares: make([]uint32, next.pool)}
	var fresh []mark
	for i, p := range next.places[:next.pool] {
		want := min(max(1, int(pointsEach*float64(p.seat.weight)/unit)), 100*pointsEach)
		if p.stays == x.builds && p.points == want {
			now[p.was] = uint32(i)
		} else {
			for k := range uint64(want) {
				fresh = append(fresh, mark{fold(p.seat.key^mulA, (k+1)*mulB), uint32(i)})
			}
			p.points = want
		}
		c.shares[i] = uint32(want)
		c.all += int64(want)
	}
	fresh = sortMarks(fresh)
	c.marks = make([]mark, c.all)
	n := 0
	if old.keys != nil {
		for _, m := range old.keys.marks {
			who := now[m.who]
			if who == gone {
				continue
			}
			for len(fresh) > 0 && fresh[0].at < m.at {
				c.marks[n], fresh = fresh[0], fresh[1:]
				n++
			}
			c.marks[n] = mark{m.at, who}
			n++
		}
	}
	copy(c.marks[n:], fresh)
	c.index()
	return c
}
