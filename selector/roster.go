package selector

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// roster is who the peers are: what all selectors made from one another share.
type roster[T any] struct {
	cfg     Config[T]
	seed    uint64
	start   time.Time
	version atomic.Uint64 // moves when the members do, or who of them is cooling

	mu      sync.Mutex
	seats   map[string]*seat[T]
	members []*seat[T] // the same, by rank
	sets    uint64     // how many there were
	builds  uint64     // of rotations, to mark what belongs to one
	cooling []*seat[T]
	changed chan struct{} // closed by the next Set; nil when nobody waits
	first   *Selector[T]
	derived map[string]*Selector[T] // by name
	asks    uint64                  // for one of these
}

// seat is one peer's membership, from the Set that first names it to the first
// that does not.
type seat[T any] struct {
	id  string
	key uint64 // the same on every client: where its keys are

	// latency and strikes may be read without the lock.
	latency atomic.Int64 // smoothed, of the requests that succeeded; ns
	strikes atomic.Int32 // failures in a row

	// The rest is guarded by roster.mu.
	peer    T
	rank    uint64 // orders the members, differently on each client
	weight  int
	standby bool
	rtt     time.Duration
	zone    string
	set     uint64        // the last that named it
	joined  time.Duration // by roster.now; below 0 when not slowed
	until   time.Duration // cooling
	here    *place[T]     // of the rotation being built
	build   uint64        // the one that here belongs to
}

func newRoster[T any](cfg Config[T]) *roster[T] {
	seed := rand.Uint64()
	if cfg.Seed != "" {
		seed = hash(0, cfg.Seed)
	}
	return &roster[T]{
		cfg:     cfg,
		seed:    seed,
		start:   time.Now(),
		seats:   make(map[string]*seat[T]),
		derived: make(map[string]*Selector[T]),
	}
}

// now counts from the start and does not step when the wall clock is set.
func (x *roster[T]) now() time.Duration { return time.Since(x.start) }

// selector makes one over x. An unnamed one is the first, which Set keeps up to
// date; the others are made anew by the first pick after a change.
func (x *roster[T]) selector(name string, p Policy, match func(T) bool) *Selector[T] {
	s := &Selector[T]{
		roster: x,
		name:   name,
		policy: p,
		match:  match,
		rand:   rand.New(rand.NewPCG(x.seed, hash(x.seed, name))),
	}
	s.ring.Store(new(ring[T]))
	if name == "" {
		x.first = s
	}
	return s
}

// Set replaces the peers, for s and for all selectors that share them. Those
// that stay keep their places and the rotation goes on where it was; those that
// are new are scattered over it, anywhere between next and last. The order of
// peers does not matter, and of several with one ID the last counts. Set keeps
// no reference to the slice. After it returns, nobody is handed out whom it did
// not name.
func (s *Selector[T]) Set(peers []T) {
	x := s.roster
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seat(peers)
	x.version.Add(1)
	x.first.rebuild()
	if x.changed != nil {
		close(x.changed)
		x.changed = nil
	}
}

// seat finds or makes the seat of every peer, and unseats the others. The
// caller holds x.mu.
func (x *roster[T]) seat(peers []T) {
	x.sets++
	now := x.now()
	slow := len(x.members) > 0
	var joined []*seat[T]
	for _, p := range peers {
		id := x.cfg.ID(p)
		c := x.seats[id]
		if c == nil {
			c = &seat[T]{id: id, key: hash(0, id), rank: hash(x.seed, id), joined: -1}
			if slow && x.cfg.SlowStart > 0 {
				c.joined = now
			}
			x.seats[id] = c
			joined = append(joined, c)
		}
		c.set = x.sets
		x.read(c, p)
	}
	gone := func(c *seat[T]) bool { return c.set != x.sets }
	for _, c := range x.members {
		if gone(c) {
			delete(x.seats, c.id)
		}
	}
	x.cooling = slices.DeleteFunc(x.cooling, gone)
	slices.SortFunc(joined, byRank)
	x.members = merge(slices.DeleteFunc(x.members, gone), joined, byRank)
}

func byRank[T any](a, b *seat[T]) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
}

// merge returns the elements of two sorted slices, sorted.
func merge[E any](a, b []E, order func(E, E) int) []E {
	if len(b) == 0 {
		return a
	}
	out := make([]E, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if order(b[0], a[0]) < 0 {
			out, b = append(out, b[0]), b[1:]
		} else {
			out, a = append(out, a[0]), a[1:]
		}
	}
	return append(append(out, a...), b...)
}

// read takes what the rotation needs to know of a peer.
func (x *roster[T]) read(c *seat[T], p T) {
	c.peer = p
	c.weight = 1
	if x.cfg.Weight != nil {
		c.weight = x.cfg.Weight(p)
	}
	c.standby = c.weight < 1 || x.cfg.Standby != nil && x.cfg.Standby(p)
	c.weight = max(c.weight, 1)
	if x.cfg.RTT != nil {
		c.rtt = x.cfg.RTT(p)
	}
	if x.cfg.Zone != nil {
		c.zone = x.cfg.Zone(p)
	}
}
