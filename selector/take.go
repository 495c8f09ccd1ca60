package selector

import (
	"iter"
	"slices"
	"time"
)

// Want says what a caller wants beyond the next turn. The zero value wants
// nothing more.
type Want struct {
	// Key chooses the peer under ByKey. Other policies ignore it.
	Key string
	// Exclude lists the IDs of peers not to be handed out, such as those that
	// have been tried.
	Exclude []string
}

// Turn is one peer handed out, and a claim on its time until Done.
type Turn[T any] struct {
	Peer T
	// Tier says how fit the peer is: other than Live only when nobody better was
	// to be had.
	Tier Tier

	selector *Selector[T]
	place    *place[T]
}

// Take takes a turn like Next, or like NextFor when w has a key, and tells more
// of it. The turn counts as load of its peer until [Turn.Done] is called. When
// the peer whose turn it is is excluded, the first after it that is not gets
// it; when all are, the error is a *NoMatchError.
func (s *Selector[T]) Take(w Want) (Turn[T], error) {
	r, i := s.fresh(), 0
	if s.keyed(w) {
		i = r.byKey(w.Key, w.Exclude, s.load.Load())
	} else {
		var at int
		r, at = s.choose(r)
		i = r.first(at, w.Exclude)
	}
	if i < 0 {
		return Turn[T]{}, r.none()
	}
	p := r.places[i]
	p.load.Add(1)
	s.load.Add(1)
	return Turn[T]{Peer: r.peers[i], Tier: r.tier(i), selector: s, place: p}, nil
}

// Done ends the turn and reports its outcome: see [Selector.Report]. It must be
// called once.
func (t Turn[T]) Done(err error, latency time.Duration) {
	t.place.load.Add(-1)
	t.selector.load.Add(-1)
	t.selector.roster.report(t.place.seat, err, latency)
}

// Cancel ends the turn in place of Done when it has no outcome that tells of the
// peer: the caller has given up.
func (t Turn[T]) Cancel() {
	t.place.load.Add(-1)
	t.selector.load.Add(-1)
}

// Order takes a turn each time it is ranged over, and yields the peers that
// match in the order in which to try them, each with its tier: [Selector.All]
// with a key, without those excluded. Under ByKey that is the order in which
// the key would go on if peers failed one after the other. Nothing of it counts
// as load.
func (s *Selector[T]) Order(w Want) iter.Seq2[T, Tier] {
	return func(yield func(T, Tier) bool) {
		r := s.fresh()
		var order iter.Seq[int]
		if s.keyed(w) {
			order = r.onCircle(w.Key)
		} else {
			var at int
			r, at = s.choose(r)
			order = r.from(at)
		}
		for i := range order {
			if !r.excludes(i, w.Exclude) && !yield(r.peers[i], r.tier(i)) {
				return
			}
		}
	}
}

// choose takes a turn and returns the position that the policy of s gives it, -1
// when there is nobody. The ring may be a later one than r.
func (s *Selector[T]) choose(r *ring[T]) (*ring[T], int) {
	r, t := s.take(r)
	switch {
	case r.size == 0:
		return r, -1
	case !s.draws():
		return r, int(t % uint64(r.size))
	}
	// Drawn from the number of the turn: that costs less than a generator of
	// random numbers, and gives the same picks for the same seed.
	lots := fold(r.salt^t, mulB)
	a := draw(lots, r.size)
	if s.policy == Random || r.size < 2 {
		return r, a
	}
	b := r.wrap(a, 1+draw(lots<<32, r.size-1)) // another one, each as likely
	if r.lighter(r.owner(b), r.owner(a)) {
		a = b
	}
	return r, a
}

// draws says whether the policy of s chooses by lot.
func (s *Selector[T]) draws() bool { return s.policy == LeastLoaded || s.policy == Random }

// draw makes a number below n of the first bits of lots.
func draw(lots uint64, n int) int { return int((lots >> 32) * uint64(n) >> 32) }

// lighter says whether peer i has less to do for its share than peer j.
func (r *ring[T]) lighter(i, j int) bool {
	a, b := r.places[i].load.Load(), r.places[j].load.Load()
	if r.slots == nil {
		return a < b
	}
	return a*int64(r.counts[j]) < b*int64(r.counts[i])
}

// excludes says whether the caller does not want peer i.
func (r *ring[T]) excludes(i int, ids []string) bool {
	return len(ids) > 0 && slices.Contains(ids, r.places[i].seat.id)
}

// first returns the index of the first peer from position at on that is not
// excluded, or -1.
func (r *ring[T]) first(at int, exclude []string) int {
	if at < 0 {
		return -1
	}
	if i := r.owner(at); !r.excludes(i, exclude) {
		return i
	}
	for i := range r.from(at) {
		if !r.excludes(i, exclude) {
			return i
		}
	}
	return -1
}
