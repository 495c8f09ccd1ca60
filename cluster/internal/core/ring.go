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

// walk appends to dst the next watchWidth members that are sound, in one direction
// from this peer, and those on the way that are not: one more is watched for each.
// So who outlives all its neighbours finds the next ones. While it hears few of them
// it goes on to the next watchWidth that it hears, twice as far with every tick.
func (c *Core) walk(dst []*row, step int) []*row {
	at, found := slices.BinarySearchFunc(c.ring, c.self, compareRing)
	if !found {
		return dst
	}
	n := len(c.ring)
	reach := 0
	if c.few > 0 {
		reach = watchWidth << min(c.few, 8)
	}
	for i, sound, heard := 1, 0, 0; i < n && i <= walkLimit && (sound < watchWidth || heard < watchWidth && i <= reach); i++ {
		o := c.ring[((at+i*step)%n+n)%n]
		dst = append(dst, o)
		if c.votes(o) {
			sound++
		}
		if c.hears(o) {
			heard++
		}
	}
	return dst
}

// jury appends to dst those whose word on r is waited for, each once: of the
// watchWidth members on either side of it those that have a vote.
func (c *Core) jury(dst []*row, r *row) []*row {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	if !found {
		return dst
	}
	n, first := len(c.ring), len(dst)
	for i := 1; i <= watchWidth && i < n; i++ {
		for _, o := range []*row{c.ring[(at+i)%n], c.ring[(at-i+n)%n]} {
			if (o == c.self || c.votes(o)) && !slices.Contains(dst[first:], o) {
				dst = append(dst, o)
			}
		}
	}
	return dst
}

// partnersOf appends to dst those who are told and asked of r, each once: the next
// watchWidth members on either side of it that have a vote. While this peer hears
// few, the next ones that it hears as well.
func (c *Core) partnersOf(dst []*row, r *row) []*row {
	at, found := slices.BinarySearchFunc(c.ring, r, compareRing)
	if !found {
		return dst
	}
	n, first := len(c.ring), len(dst)
	for _, step := range []int{1, -1} {
		for i, voters, heard := 1, 0, 0; i < n && i <= walkLimit && (voters < watchWidth || c.few > 0 && heard < watchWidth); i++ {
			o := c.ring[((at+i*step)%n+n)%n]
			if o != c.self && !c.votes(o) {
				continue
			}
			hears := o == c.self || c.hears(o)
			if hears {
				heard++
			}
			if voters++; (hears || voters <= watchWidth) && !slices.Contains(dst[first:], o) {
				dst = append(dst, o)
			}
		}
	}
	return dst
}

// votes says whether o has a vote: it is in rotation, and not one that this peer saw
// vanish.
func (c *Core) votes(o *row) bool {
	return o.State == Alive && (o.watch == nil || o.watch.says != Refuses)
}
