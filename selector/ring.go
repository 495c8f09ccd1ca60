package selector

import "sync/atomic"

// ring is one rotation of the peers, immutable but for its turn. Readers share
// it without a lock.
type ring[T any] struct {
	// turn counts the turns given so far; turn t belongs to peers[t%len]. With
	// the bit closed set no more turns are given here, and heir gives them.
	turn atomic.Uint64
	heir atomic.Pointer[ring[T]]

	peers []T
	seats []*seat[T] // the same places, for the writer
}

// closed is far above any number of turns: at a thousand million picks a
// second it takes 292 years to get there.
const closed = 1 << 63

// seat is one peer's membership, from the Set that first names it to the first
// that does not. Only the writer touches it.
type seat[T any] struct {
	id    string
	peer  T
	round uint64 // the last Set that named it
	rank  uint64 // orders those who join together
}

// take gives out the next turn: the ring that it belongs to, and its place
// there. An empty ring gives place 0.
func (r *ring[T]) take() (*ring[T], int) {
	for {
		t := r.turn.Add(1) - 1
		if t < closed {
			if n := uint64(len(r.peers)); n > 0 {
				return r, int(t % n)
			}
			return r, 0
		}
		r = r.heir.Load()
	}
}

// place is where the next turn falls.
func (r *ring[T]) place() int {
	if len(r.seats) == 0 {
		return 0
	}
	return int(r.turn.Load() % uint64(len(r.seats)))
}

// hand passes the rotation from r on to next in one step, so that no turn is
// given twice and none is lost. start[k] is the place in next that follows the
// k-th seat of r, counted from r's place from. The caller is the only writer.
//
// The step is the compare-and-swap that closes r: it succeeds only when next
// already stands at the turn which r was about to give. A reader that comes
// too late sees the closed bit and goes on in next, which is complete; readers
// never wait.
func (r *ring[T]) hand(next *ring[T], from int, start []int) {
	r.heir.Store(next)
	for {
		t := r.turn.Load()
		passed := 0
		if n := len(r.seats); n > 0 {
			passed = (int(t%uint64(n)) - from + n) % n
		}
		next.turn.Store(uint64(start[passed]))
		if r.turn.CompareAndSwap(t, t|closed) {
			return
		}
	}
}
