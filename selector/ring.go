package selector

import (
	"iter"
	"sync/atomic"
	"time"
)

// ring is one rotation of the peers, immutable but for its turn. Readers share
// it without a lock. A turn falls on a position of the ring, and a position
// belongs to a peer.
type ring[T any] struct {
	// turn counts the turns given so far; turn t falls on position t%size. With
	// the bit closed set no more turns are given here, and the next ring gives
	// them: heir, until that is published as the selector's ring. Then heir is
	// nil, so that a ring that somebody still holds keeps none of the later ones.
	turn  atomic.Uint64
	heir  atomic.Pointer[ring[T]]
	quick []T      // those in the rotation when it is plain and has no slots, otherwise empty
	peers []T      // those in the rotation first, then the others in order of tier
	slots []uint32 // whose the positions are; nil: one each, in the order of peers
	size  int      // positions
	// A steady ring stays as it is until the next Set puts another in its place:
	// nothing falls due. A plain one is steady, not empty and goes by turns.
	steady, plain bool

	version uint64        // of the roster it shows
	due     time.Duration // by roster.now, when it must be made anew; 0 is never
	known   int           // members of the roster

	places []*place[T] // of the peers
	pool   int         // how many peers are in the rotation
	live   int         // peers[:live] are Live
	cool   int         // peers[live:cool] are Cooling, the others LastResort
	salt   uint64      // of draws
	marks  []mark      // of the positions, when slots are used
	counts []uint32    // positions of each peer in the rotation, when slots are used
	keys   *circle     // under ByKey
}

// closed is far above any number of turns: at a thousand million picks a
// second it takes 292 years to get there.
const closed = 1 << 63

// place is a seat in the rotations of one selector.
type place[T any] struct {
	seat *seat[T]
	load atomic.Int64 // turns taken and not done

	// The rest belongs to whoever builds a rotation, under roster.mu.
	index  int     // among the peers
	was    int     // among the peers of the rotation before
	rate   float64 // share of the turns, relative to the others
	count  int     // positions, when slots are used
	want   int     // positions in the rotation being built
	phase  uint64  // one of its marks on the circle
	points int     // on the circle of keys
	first  int     // where its positions begin in a list of them
	seen   int     // of its positions, when they are counted
	pool   uint64  // the last build that has it in the rotation
	stays  uint64  // the last build that found it in the one before
}

// owner returns the index of the peer whose position at is.
func (r *ring[T]) owner(at int) int {
	if r.slots != nil {
		return int(r.slots[at])
	}
	return at
}

// wrap returns the position k after at, going round; both below size.
func (r *ring[T]) wrap(at, k int) int {
	if at += k; at >= r.size {
		at -= r.size
	}
	return at
}

// take gives out the next turn of r, or of the ring that came after it: its
// number, and the ring that it belongs to.
func (s *Selector[T]) take(r *ring[T]) (*ring[T], uint64) {
	for {
		t := r.turn.Add(1) - 1
		if t < closed {
			return r, t
		}
		r = s.after(r)
	}
}

// after returns a ring that came after r, which is closed. A published ring was
// handed all turns before.
func (s *Selector[T]) after(r *ring[T]) *ring[T] {
	if next := r.heir.Load(); next != nil {
		return next
	}
	return s.ring.Load()
}

// position is where the next turn falls.
func (r *ring[T]) position() int {
	if r.size == 0 {
		return 0
	}
	return int((r.turn.Load() &^ closed) % uint64(r.size))
}

// tier is that of peer i.
func (r *ring[T]) tier(i int) Tier {
	switch {
	case i < r.live:
		return Live
	case i < r.cool:
		return Cooling
	}
	return LastResort
}

// from yields the index of each peer once: those in the rotation in the order of
// their turns from position at on, then the others. An empty ring yields none.
func (r *ring[T]) from(at int) iter.Seq[int] {
	return func(yield func(int) bool) {
		if r.size == 0 {
			return
		}
		if r.slots == nil {
			for i := at; i < r.pool; i++ {
				if !yield(i) {
					return
				}
			}
			for i := range at {
				if !yield(i) {
					return
				}
			}
		} else {
			seen := newBits(r.pool)
			for k := range r.slots {
				i := r.owner(r.wrap(at, k))
				if seen.add(i) && !yield(i) {
					return
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

// hand passes the rotation from r on to next in one step, so that no turn is
// given twice and none is lost. follow[k] is the position in next that comes
// after the k-th of r, counted from r's position from. The caller is the only
// writer.
//
// The step is the compare-and-swap that closes r: it succeeds only when next
// already stands at the turn which r was about to give. A reader that comes
// too late sees the closed bit and goes on in next, which is complete; readers
// never wait.
func (r *ring[T]) hand(next *ring[T], from int, follow []int) {
	r.heir.Store(next)
	for {
		t := r.turn.Load()
		passed := 0
		if n := r.size; n > 0 {
			passed = (int(t%uint64(n)) - from + n) % n
		}
		next.turn.Store(uint64(follow[passed]))
		if r.turn.CompareAndSwap(t, t|closed) {
			return
		}
	}
}

// bitset is a set of small numbers.
type bitset []uint64

func newBits(n int) bitset { return make(bitset, (n+63)/64) }

// add says whether i was not there yet.
func (b bitset) add(i int) bool {
	w, m := i/64, uint64(1)<<(i%64)
	if b[w]&m != 0 {
		return false
	}
	b[w] |= m
	return true
}
