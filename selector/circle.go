package selector

import (
	"cmp"
	"math/bits"
	"slices"
)

// mark is a point on a circle of 2^64 steps that belongs to a peer. The weighted
// rotation goes from mark to mark; a key belongs to the mark that comes after it.
type mark struct {
	at  uint64
	who uint32 // index among the peers
}

// compareMarks orders them round the circle, and by who where they coincide.
func compareMarks(a, b mark) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.who, b.who))
}

// sortMarks sorts marks that lie about evenly round the circle, in linear time:
// each goes to the bucket of its first bits, and neighbours are put right after.
func sortMarks(in []mark) []mark {
	if len(in) < 2 {
		return in
	}
	n := uint64(len(in))
	starts := make([]uint32, n+1)
	for _, m := range in {
		starts[bucket(m.at, n)+1]++
	}
	for i := range n {
		starts[i+1] += starts[i]
	}
	out := make([]mark, n)
	for _, m := range in {
		b := bucket(m.at, n)
		out[starts[b]] = m
		starts[b]++
	}
	// Most marks are where they belong; a few neighbours are not. Should they
	// ever crowd in a few buckets, this is not the way.
	moves := 0
	for i := 1; i < len(out); i++ {
		for j := i; j > 0 && compareMarks(out[j], out[j-1]) < 0; j-- {
			out[j], out[j-1] = out[j-1], out[j]
			if moves++; moves > 8*len(out) {
				slices.SortFunc(out, compareMarks)
				return out
			}
		}
	}
	return out
}

// bucket is which of n equal parts of the circle at lies in.
func bucket(at, n uint64) uint64 {
	b, _ := bits.Mul64(at, n)
	return b
}

// circle says which peer a key belongs to: consistent hashing with more than one
// probe (Appleton and O'Reilly, 2015). Each peer has some points on the circle,
// the same on every client; a key has two, and belongs to the peer whose point
// follows most closely on one of them. A peer that leaves gives up its keys to
// many others, one that joins takes some from many, and no other key moves.
type circle struct {
	marks []mark
	// first[b] is the first mark in the b-th part of the circle or after it: with
	// a few marks each, a search is a few steps.
	first  []uint32
	shift  int      // leaves of a point its part
	shares []uint32 // points of each peer
	all    int64    // points of all
}

// find returns which mark comes at or after h.
func (c *circle) find(h uint64) int {
	i := int(c.first[h>>c.shift])
	for i < len(c.marks) && c.marks[i].at < h {
		i++
	}
	if i == len(c.marks) {
		return 0
	}
	return i
}

// keySeed keeps the probes of keys apart from the points of peers so called.
const keySeed = mulC

// owner returns the peer that key belongs to.
func (c *circle) owner(key string) int {
	h := hash(keySeed, key)
	other := fold(h, mulB)
	a, b := c.marks[c.find(h)], c.marks[c.find(other)]
	who := a.who
	if b.at-other < a.at-h {
		who = b.who
	}
	return int(who)
}

// walk goes over the marks that follow the probes of a key, the closest first:
// the peer that the key belongs to, then those to which it would go on.
type walk struct {
	marks  []mark
	probes [2]uint64
	next   [2]int
}

func (c *circle) walk(key string) walk {
	h := hash(keySeed, key)
	other := fold(h, mulB)
	return walk{c.marks, [2]uint64{h, other}, [2]int{c.find(h), c.find(other)}}
}

// step returns the next peer. Peers have several marks and so come again; all
// have come once each probe has gone round.
func (w *walk) step() int {
	k := 0
	if w.way(1) < w.way(0) {
		k = 1
	}
	i := w.next[k]
	if w.next[k]++; w.next[k] == len(w.marks) {
		w.next[k] = 0
	}
	return int(w.marks[i].who)
}

// way is how far probe k has to go to its next mark.
func (w *walk) way(k int) uint64 { return w.marks[w.next[k]].at - w.probes[k] }

// index fills first.
func (c *circle) index() {
	c.shift = 64 - max(1, bits.Len(uint(len(c.marks)))-2)
	first := make([]uint32, 1<<(64-c.shift)+1)
	b := uint64(0)
	for i, m := range c.marks {
		for here := m.at >> c.shift; b <= here; b++ {
			first[b] = uint32(i)
		}
	}
	for ; b < uint64(len(first)); b++ {
		first[b] = uint32(len(c.marks))
	}
	c.first = first
}
