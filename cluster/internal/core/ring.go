package core

import (
	"cmp"
	"slices"
)

// place spreads instances over the ring: those started together differ in few
// bits.
func place(id ID) uint64 { return mix(uint64(id)) }

func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func compareRing(o, r *row) int {
	return cmp.Or(cmp.Compare(o.place, r.place), cmp.Compare(o.ID, r.ID))
}

func (c *Core) ringIn(r *row) {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	if !found {
		c.ring = slices.Insert(c.ring, at, r)
		c.ringMoved = true
	}
}

func (c *Core) ringOut(r *row) {
	if at, found := slices.BinarySearchFunc(c.ring, r, compareRing); found {
		c.ring = slices.Delete(c.ring, at, at+1)
		c.ringMoved = true
	}
}

// walk appends to dst the next watchWidth members that are in rotation, in one
// direction from r, and the suspects and those that refuse this peer on the way: one
// more is watched for each. So who outlives all its neighbours finds the next ones
// at once.
func (c *Core) walk(dst []*row, r *row, step int) []*row {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	if !found {
		return dst
	}
	n := len(c.ring)
	for i, sound := 1, 0; i < n && i <= walkLimit && sound < watchWidth; i++ {
		o := c.ring[((at+i*step)%n+n)%n]
		dst = append(dst, o)
		if o.State == Alive && (o.watch == nil || o.watch.says != Refuses) {
			sound++
		}
	}
	return dst
}

// partnersOf appends to dst those who decide on r: watchWidth members on either
// side of it, each once.
func (c *Core) partnersOf(dst []*row, r *row) []*row {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	if !found {
		return dst
	}
	n := len(c.ring)
	if n-1 <= 2*watchWidth {
		return append(append(dst, c.ring[:at]...), c.ring[at+1:]...)
	}
	for d := 1; d <= watchWidth; d++ {
		dst = append(dst, c.ring[(at+d)%n], c.ring[(at-d+n)%n])
	}
	return dst
}
