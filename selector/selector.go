package selector

import (
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

var (
	// ErrNoPeers: the last Set was empty, or there was none yet.
	ErrNoPeers = errors.New("selector: no peers")
	// ErrNoMatch: there are peers, but none that the caller would take.
	ErrNoMatch = errors.New("selector: no peer matches")
)

// Config says how to read a peer. ID is required.
type Config[T any] struct {
	// ID names a peer. Two values with one ID are the same peer: it keeps its
	// place when other values of it change. Called by Set only.
	ID func(T) string

	// Seed is this client's name. The rotation is ordered by it, so that clients
	// with different seeds go round in different orders, and one that comes back
	// with the same seed and the same peers goes round as before. Default: drawn
	// at random.
	Seed string
}

// Selector hands out peers in turn. All its methods may be called from any
// goroutine; those that read never wait for one that writes. It starts no
// goroutine.
type Selector[T any] struct {
	id   func(T) string
	seed uint64
	ring atomic.Pointer[ring[T]]

	mu    sync.Mutex // one Set at a time
	round uint64     // counts the Sets
	seats map[string]*seat[T]
	rand  *rand.Rand
}

// New returns a selector with no peers in it. It panics when cfg.ID is nil.
func New[T any](cfg Config[T]) *Selector[T] {
	if cfg.ID == nil {
		panic("selector: Config.ID is nil: it must name a peer")
	}
	seed := rand.Uint64()
	if cfg.Seed != "" {
		seed = hash(0, cfg.Seed)
	}
	s := &Selector[T]{
		id:    cfg.ID,
		seed:  seed,
		seats: make(map[string]*seat[T]),
		rand:  rand.New(rand.NewPCG(seed, fold(seed, mulB))),
	}
	s.ring.Store(new(ring[T]))
	return s
}

// Next takes a turn and returns the peer whose turn it is, or ErrNoPeers. It
// allocates nothing and costs one atomic addition.
func (s *Selector[T]) Next() (T, error) {
	r, i := s.ring.Load().take()
	if i < len(r.peers) {
		return r.peers[i], nil
	}
	var none T
	return none, ErrNoPeers
}

// All takes a turn each time it is ranged over, and yields the peer whose turn
// it is, then every other peer once, in the order of the rotation: whom to ask
// next when the first does not answer. It works on the peers as they are when
// the range begins; those that Set adds or drops meanwhile are not seen.
func (s *Selector[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		r, i := s.ring.Load().take()
		for _, p := range r.peers[i:] {
			if !yield(p) {
				return
			}
		}
		for _, p := range r.peers[:i] {
			if !yield(p) {
				return
			}
		}
	}
}

// Len returns how many peers there are.
func (s *Selector[T]) Len() int { return len(s.ring.Load().peers) }

// Set replaces the peers. Those that stay keep their places and the rotation
// goes on where it was; those that are new are scattered over it, anywhere
// between next and last. The order of peers does not matter, and of several
// with one ID the last counts. Set keeps no reference to the slice.
func (s *Selector[T]) Set(peers []T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	joined := s.sit(peers)
	old := s.ring.Load()
	from := old.place()
	next, start := s.weave(old, from, joined)
	old.hand(next, from, start)
	s.ring.Store(next)
}

// sit finds or makes the seat of every peer, and returns the new ones in this
// client's own order. The caller holds s.mu.
func (s *Selector[T]) sit(peers []T) (joined []*seat[T]) {
	s.round++
	for _, p := range peers {
		id := s.id(p)
		c := s.seats[id]
		if c == nil {
			c = &seat[T]{id: id, rank: hash(s.seed, id)}
			s.seats[id] = c
			joined = append(joined, c)
		}
		c.peer, c.round = p, s.round
	}
	slices.SortFunc(joined, func(a, b *seat[T]) int {
		if a.rank != b.rank {
			if a.rank < b.rank {
				return -1
			}
			return 1
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return joined
}

// weave makes the rotation that follows old: its seats from the place from on,
// without those that this Set did not name, and among them the joined, each
// interleaving as likely as any other. That makes a joiner's wait uniform over
// the rotation, which is what gives a peer that comes and goes its fair share,
// whatever its rhythm. start is what hand wants. The caller holds s.mu.
func (s *Selector[T]) weave(old *ring[T], from int, joined []*seat[T]) (next *ring[T], start []int) {
	n := len(old.seats)
	stay := 0
	for _, c := range old.seats {
		if c.round == s.round {
			stay++
		}
	}
	next = &ring[T]{
		peers: make([]T, 0, stay+len(joined)),
		seats: make([]*seat[T], 0, stay+len(joined)),
	}
	add := func(c *seat[T]) {
		next.seats = append(next.seats, c)
		next.peers = append(next.peers, c.peer)
	}

	start = make([]int, n+1)
	for k := range n {
		c := old.seats[(from+k)%n]
		if c.round != s.round {
			delete(s.seats, c.id)
		} else {
			for len(joined) > 0 && s.rand.IntN(stay+len(joined)) < len(joined) {
				add(joined[0])
				joined = joined[1:]
			}
			stay--
			add(c)
		}
		start[k+1] = len(next.seats)
	}
	for _, c := range joined {
		add(c)
	}
	return next, start
}
