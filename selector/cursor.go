package selector

import "math/rand/v2"

// Cursor goes round the peers of a selector by itself, for one goroutine. It
// shares no counter with others and so costs a fifth of what Next does; each
// cursor starts somewhere else and gives equal turns, or turns by weight, only
// over its own picks. Under LeastLoaded and Random it goes round, too.
//
// Its methods must not be called by several goroutines at a time.
type Cursor[T any] struct {
	selector *Selector[T]
	ring     *ring[T]
	at       int
}

// Cursor returns a new cursor over the peers of s. It follows every Set.
func (s *Selector[T]) Cursor() *Cursor[T] {
	c := &Cursor[T]{selector: s, ring: s.fresh()}
	if n := c.ring.size; n > 0 {
		c.at = rand.IntN(n)
	}
	return c
}

// Next returns the cursor's next peer; its errors are those of [Selector.Next].
func (c *Cursor[T]) Next() (T, error) {
	r := c.ring
	if r != c.selector.ring.Load() || !r.plain {
		if r = c.selector.fresh(); r != c.ring {
			c.move(r)
		}
		if r.size == 0 {
			var nobody T
			return nobody, r.none()
		}
	}
	i := c.at
	if c.at++; c.at == r.size {
		c.at = 0
	}
	return r.peers[r.owner(i)], nil
}

// move goes over to another rotation, to the next turn of the peer whose turn
// was next, or of the first after it that is still there.
func (c *Cursor[T]) move(to *ring[T]) {
	old, at := c.ring, c.at
	c.ring, c.at = to, 0
	if to.size == 0 {
		return
	}
	for k := range old.size {
		p := old.places[old.owner(old.wrap(at, k))]
		from := at * to.size / old.size // about the same place
		for j := range to.size {
			if here := to.wrap(from, j); to.places[to.owner(here)] == p {
				c.at = here
				return
			}
		}
	}
}
