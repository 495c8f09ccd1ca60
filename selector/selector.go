package selector

import (
	"iter"
	"math/rand/v2"
	"sync/atomic"
)

// Selector hands out peers in turn. All its methods may be called from any
// goroutine. On the selector that New returned, those that pick never wait for
// one that writes. It starts no goroutine.
//
// Selectors made from one another by Where and With share the peers and what is
// reported of them; each has its own filter, policy, place and load.
type Selector[T any] struct {
	ring atomic.Pointer[ring[T]]
	load atomic.Int64 // turns taken and not done

	roster *roster[T]
	name   string // among the selectors of the roster, "" is the first
	policy Policy
	match  func(T) bool // nil matches all

	// Guarded by roster.mu.
	rand  *rand.Rand
	asked uint64 // when, by roster.asks
}

// New returns a selector with no peers in it. It panics when cfg.ID is nil.
func New[T any](cfg Config[T]) *Selector[T] {
	if cfg.ID == nil {
		panic("selector: Config.ID is nil: it must name a peer")
	}
	return newRoster(cfg.withDefaults()).selector("", cfg.Policy, nil)
}

// Next takes a turn and returns the peer whose turn it is. The error is
// ErrNoPeers when there is nobody, and ErrNoMatch when there are peers but
// nobody for this selector. It allocates nothing; by turns it costs one atomic
// addition.
func (s *Selector[T]) Next() (T, error) {
	// This is take, twice: for equal turns, and for turns by weight.
	r := s.ring.Load()
	for peers := r.quick; len(peers) != 0; peers = r.quick {
		t := r.turn.Add(1) - 1
		if int64(t) >= 0 { // t < closed
			return peers[t%uint64(len(peers))], nil
		}
		r = s.after(r)
	}
	for r.plain {
		t := r.turn.Add(1) - 1
		if int64(t) >= 0 {
			return r.peers[r.owner(int(t%uint64(r.size)))], nil
		}
		r = s.after(r)
	}
	return s.next()
}

// next is Next when there is more to it than a turn.
func (s *Selector[T]) next() (T, error) {
	r, at := s.choose(s.fresh())
	if at < 0 {
		var nobody T
		return nobody, r.none()
	}
	return r.peers[r.owner(at)], nil
}

// All takes a turn each time it is ranged over, and yields the peer whose turn
// it is, then every other peer once: whom to ask next when the first does not
// answer. Peers that cool down come after those that are live, and the last
// resort last. It works on the peers as they are when the range begins; what
// happens meanwhile is not seen.
func (s *Selector[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		r, at := s.choose(s.fresh())
		for i := range r.from(at) {
			if !yield(r.peers[i]) {
				return
			}
		}
	}
}

// Len returns how many peers this selector may hand out, in whatever tier.
func (s *Selector[T]) Len() int { return len(s.fresh().peers) }

// Policy returns the rule by which s chooses.
func (s *Selector[T]) Policy() Policy { return s.policy }

// fresh returns the rotation as it must be now: it makes it anew when the peers
// have changed since, or when a cool-down or a step of a slow start is over.
func (s *Selector[T]) fresh() *ring[T] {
	if r := s.ring.Load(); r.steady {
		return r
	}
	return s.refresh()
}

func (s *Selector[T]) refresh() *ring[T] {
	r, x := s.ring.Load(), s.roster
	if s.name != "" && r.version != x.version.Load() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if r = s.ring.Load(); r.version != x.version.Load() {
			r = s.rebuild()
		}
		return r
	}
	// Being late here is no fault, so whoever finds the lock taken goes on.
	if r.due != 0 && x.now() >= r.due && x.mu.TryLock() {
		defer x.mu.Unlock()
		if r = s.ring.Load(); r.due != 0 && x.now() >= r.due {
			r = s.rebuild()
		}
	}
	return r
}
