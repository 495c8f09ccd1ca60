package selector

import (
	"math"
	"sort"
)

// slotsLimit bounds the positions of a weighted rotation of n peers: the memory
// of it, and how far weights may lie apart.
func slotsLimit(n int) int { return max(4096, 8*n) }

// ration turns the rates of those in the rotation into whole numbers of
// positions in one period. It says whether all are alike; then each has one.
func (s *Selector[T]) ration(pool []*place[T]) (even bool) {
	even = true
	sum, divisor, whole := 0.0, uint64(0), true
	for _, p := range pool {
		even = even && p.rate == pool[0].rate
		sum += p.rate
		r := p.rate * (slowSteps + 1) // rates are whole, or tenths
		n := math.Round(r)
		if n > 1<<53 || math.Abs(r-n) > 1e-9*r {
			whole = false
		} else {
			divisor = gcd(divisor, uint64(n))
		}
	}
	if even {
		for _, p := range pool {
			p.count = 1
		}
		return true
	}
	factor := float64(slotsLimit(len(pool))) / sum
	if whole {
		factor = min(factor, (slowSteps+1)/float64(divisor))
	}
	for _, p := range pool {
		p.want = max(1, int(math.Round(p.rate*factor)))
	}
	return false
}

// schedule gives the peers in next's rotation their positions: marks on a
// circle, each peer's as far apart from one another as its share is small. A
// peer that stays keeps its marks; when its share has changed, so has the
// distance that is left to its next one, in proportion; one that is new starts
// anywhere. The rotation goes on from where old stands.
func (s *Selector[T]) schedule(old, next *ring[T], from, stay int) {
	at := old.mark(from)
	n := 0
	for k, p := range next.places[:next.pool] {
		switch {
		case k >= stay && stay > 0:
			p.phase = s.rand.Uint64()
		case k >= stay:
			p.phase = ahead(at, evenly(k, next.pool, p.seat.rank), p.want)
		case old.slots == nil:
			p.phase = ahead(at, evenly(k, stay, p.seat.rank), p.want)
		case p.count != p.want:
			p.phase = ahead(at, p.left(at), p.want)
		}
		p.count = p.want
		n += p.count
	}
	marks := make([]mark, 0, n)
	next.counts = make([]uint32, next.pool)
	for i, p := range next.places[:next.pool] {
		next.counts[i] = uint32(p.count)
		for k := range uint64(p.count) {
			marks = append(marks, mark{p.phase + k*p.step(), uint32(i)})
		}
	}
	next.marks = sortMarks(marks)
	next.slots = make([]uint32, n)
	for i, m := range next.marks {
		next.slots[i] = m.who
	}
	next.size = n
	next.turn.Store(uint64(next.after(at)))
}

// mark is where on the circle the turn before position at fell.
func (r *ring[T]) mark(at int) uint64 {
	if r.slots == nil {
		return 0
	}
	return r.marks[r.wrap(at, r.size-1)].at
}

// after is the position whose mark comes next after the point at of the circle.
func (r *ring[T]) after(at uint64) int {
	return sort.Search(r.size, func(i int) bool { return r.marks[i].at > at }) % r.size
}

// step is the distance between two marks of p, which must have two.
func (p *place[T]) step() uint64 {
	if p.count < 2 {
		return 0
	}
	return math.MaxUint64 / uint64(p.count)
}

// left is what is left of the way from one mark of p to its next, seen from at:
// more than 0, and 1 when it has just had its turn.
func (p *place[T]) left(at uint64) float64 {
	next := p.phase
	if step := p.step(); step > 0 {
		if k := (at-p.phase)/step + 1; k < uint64(p.count) {
			next += k * step
		}
	}
	way := next - at - 1 // of the whole circle, when it is 0 away
	return min(1, (float64(way)+1)/(1<<64)*float64(p.count))
}

// ahead is the point that lies a part of the way between two of count marks
// behind at.
func ahead(at uint64, part float64, count int) uint64 {
	way := part / float64(count) * (1 << 64)
	if way >= math.MaxUint64 {
		return at
	}
	return at + uint64(way)
}

// evenly spreads n peers over the way between two marks; the rank of each keeps
// their marks from falling together.
func evenly(k, n int, rank uint64) float64 {
	return (float64(k) + 0.5 + float64(rank)/(1<<66)) / float64(n)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
