package selector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// However many turns are taken between the making of a rotation and its hand
// over, the sequence of turns is the one that there would have been without it.
func TestHandOver(t *testing.T) {
	id := func(s string) string { return s }
	for _, weights := range [][]int{{1, 1, 1, 1, 1}, {1, 2, 3}, {5, 1, 1, 2, 2}} {
		weight := func(p string) int { return weights[p[1]-'0'] }
		var peers []string
		for i := range weights {
			peers = append(peers, fmt.Sprint("p", i))
		}
		start := func() *Selector[string] {
			s := New(Config[string]{ID: id, Seed: "me", Policy: Weighted, Weight: weight})
			s.Set(peers)
			return s
		}
		for before := range 8 {
			for during := range 30 {
				calm, s := start(), start()
				var want, got []string
				turns := func(s *Selector[string], to *[]string, n int) {
					for range n {
						p, err := s.Next()
						if err != nil {
							t.Fatal(err)
						}
						*to = append(*to, p)
					}
				}
				turns(calm, &want, before+during+30)

				turns(s, &got, before)
				old := s.ring.Load()
				next, from, follow := s.build(old)
				turns(s, &got, during)
				old.hand(next, from, follow)
				turns(s, &got, 15) // old passes them on
				s.ring.Store(next)
				turns(s, &got, 15)
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("weights %v, %d turns before and %d during:\ngot  %v\nwant %v", weights, before, during, got, want)
				}
			}
		}
	}
}

// Marks are sorted whether they lie evenly, as they should, or in a heap.
func TestSortMarks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 100, 5000} {
		for _, width := range []uint64{1 << 63, 1 << 40, 10, 1} {
			marks := make([]mark, n)
			for i := range marks {
				marks[i] = mark{rnd.Uint64N(width) * 2, uint32(rnd.IntN(n))}
			}
			want := slices.SortedFunc(slices.Values(marks), compareMarks)
			if got := sortMarks(marks); !slices.Equal(got, want) {
				t.Errorf("%d marks below %d are not sorted", n, 2*width)
			}
		}
	}
}
