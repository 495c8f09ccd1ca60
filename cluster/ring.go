package cluster

import (
	"cmp"
	"slices"
)

// The ring orders the members by a hash of their instance. Each peer holds a
// watch stream to its watchWidth successors, and both ends of a stream watch
// each other, so that everybody has 2·watchWidth partners. Who is whose partner
// follows from the table alone: all who agree on the members agree on it.

const (
	watchWidth = 3
	// walkLimit bounds how far the walk goes past those who do not answer.
	walkLimit = 64
)

// ringHash spreads instances: those started together differ in few bits.
func ringHash(i Instance) uint64 {
	x := uint64(i)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// ring returns the members that may be alive, in ring order. The caller holds
// c.mu.
func (c *Cluster) ring() []*row {
	if c.ringAt == c.index && c.ringRows != nil {
		return c.ringRows
	}
	rows := make([]*row, 0, len(c.rows))
	for _, r := range c.rows {
		if !r.ghost && (r.m.State == Alive || r.m.State == Suspect) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.m.Instance, b.m.Instance))
	})
	c.ringAt, c.ringRows = c.index, rows
	return rows
}

// successors returns whom r dials: the next watchWidth members, and for each
// among them that is suspect one more. step -1 walks the other way.
func successors(ring []*row, r *row, step int) []*row {
	at := slices.Index(ring, r)
	if at < 0 {
		return nil
	}
	var out []*row
	sound := 0
	for n := 1; n < len(ring) && n <= walkLimit && sound < watchWidth; n++ {
		o := ring[((at+n*step)%len(ring)+len(ring))%len(ring)]
		out = append(out, o)
		if o.m.State == Alive {
			sound++
		}
	}
	return out
}

// partnersOf returns who watches r: watchWidth members on either side, each once.
func partnersOf(ring []*row, r *row) []*row {
	at := slices.Index(ring, r)
	if at < 0 {
		return nil
	}
	n := len(ring) - 1
	if n <= 2*watchWidth {
		return slices.Concat(ring[:at], ring[at+1:])
	}
	out := make([]*row, 0, 2*watchWidth)
	for d := 1; d <= watchWidth; d++ {
		out = append(out, ring[(at+d)%len(ring)], ring[(at-d+len(ring))%len(ring)])
	}
	return out
}
