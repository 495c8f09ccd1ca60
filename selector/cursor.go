package selector

import "math/rand/v2"

// Cursor goes round the peers of a selector by itself, for one goroutine. It
// shares no counter with others, so it costs the same however many pick at a
// time; but turns are equal, or by weight, only over its own picks. Each cursor
// starts somewhere else. Under LeastLoaded and Random it goes round, too. A
// cursor that is not used keeps the peers as they were at its last pick, and
// nothing of what came after.
//
// Its methods must not be called by several goroutines at a time.
type Cursor[T any] struct {
	selector *Selector[T]
	ring     *ring[T]
	quick    []T // the peers, when their turns are equal and nothing falls due
	at       int // position of the next turn
}

// Cursor returns a new cursor over the peers of s. It follows every Set.
func (s *Selector[T]) Cursor() *Cursor[T] {
	c := &Cursor[T]{selector: s, ring: new(ring[T])}
	c.move(s.fresh())
	if n := c.ring.size; n > 0 {
		c.at = rand.IntN(n)
	}
	return c
}

// Next returns the cursor's next peer; its errors are those of [Selector.Next].
func (c *Cursor[T]) Next() (T, error) {
	if i := c.at; i < len(c.quick) && c.ring == c.selector.ring.Load() {
		c.at++
		return c.quick[i], nil
	}
	return c.next()
}

// next is Next at the end of a round, or when there is more to it than a turn.
func (c *Cursor[T]) next() (T, error) {
	if r := c.selector.fresh(); r != c.ring {
		c.move(r)
	}
	r := c.ring
	if r.size == 0 {
		var nobody T
		return nobody, r.none()
	}
	if c.at >= r.size {
		c.at = 0
	}
	c.at++
	return r.peers[r.owner(c.at-1)], nil
}

// move goes over to another rotation, to the next turn of the peer whose turn
// was next, or of the first after it that is still there. By weight that is the
// next mark on the circle, where marks stay.
func (c *Cursor[T]) move(to *ring[T]) {
	old, at := c.ring, c.at
	c.ring, c.at, c.quick = to, 0, to.quick
	if to.size == 0 || old.size == 0 {
		return
	}
	if at == old.size {
		at = 0
	}
	if old.slots != nil && to.slots != nil {
		c.at = to.after(old.mark(at))
		return
	}
	if i := to.turnOf(old.places[old.owner(at)]); i >= 0 { // as a rule it is still there
		c.at = i
		return
	}
	turns := make(map[*place[T]]int, to.pool)
	for i := range to.size {
		p := to.places[to.owner(i)]
		if _, ok := turns[p]; !ok {
			turns[p] = i
		}
	}
	for k := 1; k < old.size; k++ {
		if i, ok := turns[old.places[old.owner(old.wrap(at, k))]]; ok {
			c.at = i
			return
		}
	}
}

// turnOf returns the first position of p, -1 when it is not in the rotation.
func (r *ring[T]) turnOf(p *place[T]) int {
	for i := range r.size {
		if r.places[r.owner(i)] == p {
			return i
		}
	}
	return -1
}
