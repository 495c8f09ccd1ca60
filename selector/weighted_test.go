package selector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/peerhq/peer/selector"
)

// backend is a peer with everything that a selector may ask of it.
type backend struct {
	name    string
	weight  int
	zone    string
	standby bool
	version int
}

func byName(b backend) string { return b.name }
func weightOf(b backend) int  { return b.weight }

// backends makes one per weight, called b0 and up.
func backends(weights ...int) []backend {
	out := make([]backend, len(weights))
	for i, w := range weights {
		out[i] = backend{name: fmt.Sprint("b", i), weight: w}
	}
	return out
}

func repeat(n, weight int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = weight
	}
	return out
}

func weighted(seed string, peers []backend) *selector.Selector[backend] {
	s := selector.New(selector.Config[backend]{ID: byName, Seed: seed, Policy: selector.Weighted, Weight: weightOf})
	s.Set(peers)
	return s
}

// tally counts n picks by name.
func tally(t testing.TB, n int, next func() (backend, error)) map[string]int {
	t.Helper()
	turns := make(map[string]int)
	for range n {
		p, err := next()
		if err != nil {
			t.Fatal(err)
		}
		turns[p.name]++
	}
	return turns
}

// In one period everybody gets exactly its weight, and no gap is much longer
// than an even spacing would make it.
func TestWeightedIsExactAndSmooth(t *testing.T) {
	for _, weights := range [][]int{
		{1},
		{7},
		{1, 1, 1},
		{5, 1, 1},
		{1, 2, 3, 4},
		{100, 200, 300},
		{10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		append(repeat(50, 1), repeat(50, 3)...),
	} {
		sum, common := 0, 0
		for _, w := range weights {
			sum += w
			for a, b := common, w; ; a, b = b, a%b {
				if b == 0 {
					common = a
					break
				}
			}
		}
		period := sum / common
		s := weighted("me", backends(weights...))
		last, gap := make(map[string]int), make(map[string]int)
		turns := make(map[string]int)
		for i := range 10 * period {
			p, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			turns[p.name]++
			if at, ok := last[p.name]; ok {
				gap[p.name] = max(gap[p.name], i-at)
			}
			last[p.name] = i
		}
		for _, b := range backends(weights...) {
			if want := 10 * b.weight / common; turns[b.name] != want {
				t.Errorf("%v: %s of weight %d got %d turns in ten periods, want %d", weights, b.name, b.weight, turns[b.name], want)
			}
			even := float64(sum) / float64(b.weight)
			if float64(gap[b.name]) > 1.5*even+2 {
				t.Errorf("%v: %s of weight %d waited %d turns, evenly spaced it were %.1f", weights, b.name, b.weight, gap[b.name], even)
			}
		}
	}
}

func TestWeightedExtremes(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    []float64 // share of the turns
	}{
		{[]int{1_000_000_000, 1_000_000_000}, []float64{0.5, 0.5}},
		{[]int{1_000_000_000, 500_000_000, 500_000_001}, []float64{0.5, 0.25, 0.25}},
		{[]int{1_000_000_000, 1}, []float64{1, 0}}, // the small one is not forgotten, see below
		{[]int{math.MaxInt, math.MaxInt, math.MaxInt}, []float64{1. / 3, 1. / 3, 1. / 3}},
		{[]int{3, 0, -5}, []float64{1, 0, 0}},
		{[]int{997, 1009, 1013}, []float64{0.330, 0.334, 0.336}},
	} {
		s := weighted("me", backends(c.weights...))
		const picks = 50_000
		turns := tally(t, picks, s.Next)
		for i, want := range c.want {
			if got := float64(turns[fmt.Sprint("b", i)]) / picks; math.Abs(got-want) > 0.001 {
				t.Errorf("%v: weight %d got %.4f of the turns, want %.4f", c.weights, c.weights[i], got, want)
			}
		}
		for i, w := range c.weights {
			if n := turns[fmt.Sprint("b", i)]; (w > 0) != (n > 0) {
				t.Errorf("%v: weight %d got %d turns", c.weights, w, n)
			}
		}
	}
}

// With all weights below 1 everybody stands by, and that is the last resort.
func TestNobodyButStandby(t *testing.T) {
	s := weighted("me", backends(0, 0, -1))
	for name, n := range tally(t, 300, s.Next) {
		if n != 100 {
			t.Errorf("%s got %d turns of 300, want 100", name, n)
		}
	}
	turn, err := s.Take(selector.Want{})
	if err != nil || turn.Tier != selector.LastResort {
		t.Errorf("got tier %v, %v, want last_resort", turn.Tier, err)
	}
}

// While others come and go, those that stay keep their exact proportions.
func TestWeightedUnderChurn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	base := backends(append(repeat(30, 1), append(repeat(20, 2), repeat(10, 5)...)...)...)
	s := weighted("me", base)
	turns := make(map[string]int)
	here := 0
	for i := range 400_000 {
		if i%37 == 0 {
			here = 1 - here
			peers := append([]backend(nil), base...)
			if here == 1 {
				peers = append(peers, backend{name: "flapper", weight: 1 + i/37%7})
			}
			rnd.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
			s.Set(peers)
		}
		p, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		turns[p.name]++
	}
	least, most := math.Inf(1), 0.0
	for _, b := range base {
		x := float64(turns[b.name]) / float64(b.weight)
		least, most = min(least, x), max(most, x)
	}
	if most/least > 1.01 {
		t.Errorf("got most/fewest turns for a weight %.4f, want at most 1.01", most/least)
	}
	if flapper := float64(turns["flapper"]) / (4. / 2) / least; flapper < 0.8 || flapper > 1.2 {
		t.Errorf("got %.3f of its fair share for the one that comes and goes", flapper)
	}
}

// However often weights change, nobody waits for much longer than its weight
// allows.
func TestWeightsMayChange(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10} {
		for _, every := range []int{1, 2, 3, 7} {
			peers := backends(repeat(n, 3)...)
			s := weighted("me", peers)
			last := make(map[string]int)
			for i := range 3000 {
				if i%every == 0 {
					peers[0].weight = 2 + i/every%2
					peers[n-1].weight = 3 + i/every%5
					s.Set(peers)
				}
				p, err := s.Next()
				if err != nil {
					t.Fatal(err)
				}
				last[p.name] = i
				for _, b := range peers {
					// Of 3 each and up to 7 for the last, nobody has less than 2.
					if wait, most := i-last[b.name], (3*n+4)/2+n; wait > most {
						t.Fatalf("members=%d every=%d pick %d: %s of weight %d has waited for %d turns, want at most %d", n, every, i, b.name, b.weight, wait, most)
					}
				}
			}
		}
	}
}

// However many goroutines pick while Set runs, a whole number of periods gives
// everybody exactly its weight.
func TestWeightedNoTurnLostOrDoubled(t *testing.T) {
	weights := []int{5, 1, 1, 2, 3, 3, 1, 4} // 20 in a period
	s := weighted("me", backends(weights...))
	done := make(chan struct{})
	var sets, wg sync.WaitGroup
	sets.Go(func() {
		peers := backends(weights...)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				peers[0], peers[i%8] = peers[i%8], peers[0]
				s.Set(peers)
			}
		}
	})
	var mu sync.Mutex
	total := make(map[string]int)
	for range 4 {
		wg.Go(func() {
			mine := tally(t, 20_000, s.Next)
			mu.Lock()
			defer mu.Unlock()
			for p, n := range mine {
				total[p] += n
			}
		})
	}
	wg.Wait()
	close(done)
	sets.Wait()
	for i, w := range weights {
		if got, want := total[fmt.Sprint("b", i)], w*4*20_000/20; got != want {
			t.Errorf("b%d of weight %d got %d turns, want %d", i, w, got, want)
		}
	}
}

func TestRandomAndLeastLoadedGoByWeight(t *testing.T) {
	for _, p := range []selector.Policy{selector.Random, selector.LeastLoaded} {
		s := selector.New(selector.Config[backend]{ID: byName, Policy: p, Weight: weightOf})
		s.Set(backends(1, 1, 2, 4))
		const picks = 80_000
		turns := tally(t, picks, s.Next)
		for i, w := range []float64{1, 1, 2, 4} {
			// LeastLoaded without load takes one of two different positions, which
			// is by weight as well. Six standard deviations are 0.01.
			if got := float64(turns[fmt.Sprint("b", i)]) / picks; math.Abs(got-w/8) > 0.01 {
				t.Errorf("%v: weight %v got %.3f of the turns, want %.3f", p, w, got, w/8)
			}
		}
	}
}

// Drawing goes on where it was, too: Set after each few picks must not bring the
// same lots again.
func TestDrawsDoNotRepeat(t *testing.T) {
	s := selector.New(selector.Config[backend]{ID: byName, Seed: "me", Policy: selector.Random})
	peers := backends(repeat(50, 1)...)
	turns := make(map[string]int)
	for range 5000 {
		s.Set(peers)
		for p, n := range tally(t, 3, s.Next) {
			turns[p] += n
		}
	}
	least, most := 15_000, 0
	for _, b := range peers {
		least, most = min(least, turns[b.name]), max(most, turns[b.name])
	}
	// 300 each, with a deviation of 17: neither far off nor all the same.
	if least < 200 || most > 400 || most-least < 30 {
		t.Errorf("got %d to %d draws each, want about 300 and not all alike", least, most)
	}
}

// Turns taken and not done spread as two choices do: no peer has many more than
// the mean, where one choice would give it half as much again.
func TestLeastLoadedOfTwo(t *testing.T) {
	t.Run("even", func(t *testing.T) { leastLoaded(t, repeat(100, 1)) })
	t.Run("weights", func(t *testing.T) { leastLoaded(t, append(repeat(50, 1), repeat(50, 2)...)) })
}

func leastLoaded(t *testing.T, weights []int) {
	s := selector.New(selector.Config[backend]{ID: byName, Policy: selector.LeastLoaded, Weight: weightOf})
	s.Set(backends(weights...))
	sum := 0
	for _, w := range weights {
		sum += w
	}
	var turns []selector.Turn[backend]
	const each = 100
	for range sum * each {
		turn, err := s.Take(selector.Want{})
		if err != nil {
			t.Fatal(err)
		}
		turns = append(turns, turn)
	}
	for _, st := range s.Explain(selector.Want{}) {
		if x := float64(st.Load) / float64(each*st.Peer.weight); x < 0.9 || x > 1.1 {
			t.Errorf("%s has %.2f times its share in hand", st.ID, x)
		}
	}
	for _, turn := range turns {
		turn.Done(nil, 0)
	}
	for _, st := range s.Explain(selector.Want{}) {
		if st.Load != 0 {
			t.Errorf("%s has %d in hand when all are done", st.ID, st.Load)
		}
	}
}
