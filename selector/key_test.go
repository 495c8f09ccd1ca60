package selector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peerhq/peer/selector"
)

func byKey(seed string, peers []string) *selector.Selector[string] {
	s := selector.New(selector.Config[string]{ID: itself, Seed: seed, Policy: selector.ByKey})
	s.Set(peers)
	return s
}

func owners(t testing.TB, s *selector.Selector[string], keys []string) map[string]string {
	t.Helper()
	out := make(map[string]string, len(keys))
	for _, k := range keys {
		p, err := s.NextFor(k)
		if err != nil {
			t.Fatal(err)
		}
		out[k] = p
	}
	return out
}

// A key finds the same peer from every client, whatever came before.
func TestKeysAreTheSameEverywhere(t *testing.T) {
	keys := names("key", 2000)
	peers := names("p", 60)
	want := owners(t, byKey("a", peers), keys)

	rnd := rand.New(rand.NewPCG(7, 8))
	late := byKey("b", nil)
	for range 50 {
		rnd.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		late.Set(append(names("q", rnd.IntN(9)), peers[:rnd.IntN(60)]...))
		_, _ = late.Next()
	}
	late.Set(peers)
	for k, p := range owners(t, late, keys) {
		if p != want[k] {
			t.Fatalf("%s belongs to %s here and to %s there", k, p, want[k])
		}
	}
}

// Only the keys of the one that leaves move; only to the one that joins.
func TestKeysMoveLittle(t *testing.T) {
	keys := names("key", 5000)
	for _, n := range []int{2, 3, 10, 100} {
		peers := names("p", n)
		s := byKey("me", peers)
		before := owners(t, s, keys)
		s.Set(peers[1:])
		without := owners(t, s, keys)
		moved := 0
		for _, k := range keys {
			if before[k] != without[k] {
				moved++
				if before[k] != peers[0] {
					t.Fatalf("members=%d: %s moved from %s, which stays", n, k, before[k])
				}
			}
			if without[k] == peers[0] {
				t.Fatalf("members=%d: %s belongs to one that left", n, k)
			}
		}
		if share := float64(moved) * float64(n) / float64(len(keys)); share < 0.3 || share > 1.7 {
			t.Errorf("members=%d: %d keys moved, %.2f of the fair share", n, moved, share)
		}
		s.Set(peers)
		for k, p := range owners(t, s, keys) {
			if p != before[k] {
				t.Fatalf("members=%d: %s went to %s when %s came back, it was %s", n, k, p, peers[0], before[k])
			}
		}
	}
}

func TestKeysSpread(t *testing.T) {
	const n = 100
	s := byKey("me", names("p", n))
	shares := make(map[string]float64)
	const keys = 200_000
	for _, p := range owners(t, s, names("user:", keys)) {
		shares[p] += n / float64(keys)
	}
	variance, most := 0.0, 0.0
	for _, x := range shares {
		variance += (x - 1) * (x - 1) / n
		most = max(most, x)
	}
	if dev := math.Sqrt(variance); len(shares) != n || dev > 0.17 || most > 1.5 {
		t.Errorf("got %d peers, shares with deviation %.3f and most %.2f, want %d, at most 0.17 and 1.5", len(shares), dev, most, n)
	}
}

func TestKeysGoByWeight(t *testing.T) {
	s := selector.New(selector.Config[backend]{ID: byName, Policy: selector.ByKey, Weight: weightOf})
	s.Set(backends(append(repeat(40, 100), repeat(20, 300)...)...))
	got := map[int]int{}
	for _, k := range names("key", 30_000) {
		p, err := s.NextFor(k)
		if err != nil {
			t.Fatal(err)
		}
		got[p.weight]++
	}
	if x := float64(got[300]) / float64(got[100]); x < 1.3 || x > 1.7 {
		t.Errorf("20 of weight 300 got %.2f times the keys of 40 of weight 100, want 1.5", x)
	}
}

// The order of a key is what would happen if its peers went one by one.
func TestOrderOfKeyIsItsFuture(t *testing.T) {
	peers := names("p", 12)
	s := byKey("me", peers)
	for _, key := range names("key", 50) {
		var order []string
		for p := range s.Order(selector.Want{Key: key}) {
			order = append(order, p)
		}
		if len(order) != len(peers) {
			t.Fatalf("%s: got %d peers in order, want %d", key, len(order), len(peers))
		}
		left := slices.Clone(peers)
		for _, want := range order {
			s.Set(left)
			if got, _ := s.NextFor(key); got != want {
				t.Fatalf("%s: got %s with %d left, want %s of %q", key, got, len(left), want, order)
			}
			left = slices.DeleteFunc(left, func(p string) bool { return p == want })
		}
		s.Set(peers)
	}
}

// One key may be as busy as it will: nobody has more than 5/4 of its share in
// hand, rounded up.
func TestKeysAreBounded(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} {
		s := byKey("me", names("p", n))
		rnd := rand.New(rand.NewPCG(9, uint64(n)))
		zipf := rand.NewZipf(rnd, 1.2, 1, 1<<20)
		var hand []selector.Turn[string]
		load := make(map[string]int)
		for i := range 4000 {
			if len(hand) > 30*n || len(hand) > 0 && rnd.IntN(3) == 0 {
				k := rnd.IntN(len(hand))
				load[hand[k].Peer]--
				hand[k].Done(nil, 0)
				hand[k] = hand[len(hand)-1]
				hand = hand[:len(hand)-1]
			}
			turn, err := s.Take(selector.Want{Key: fmt.Sprint("key", zipf.Uint64())})
			if err != nil {
				t.Fatal(err)
			}
			hand = append(hand, turn)
			load[turn.Peer]++
			// Shares of the circle differ by peer here only by their points, which
			// are as many.
			if bound := math.Ceil(1.25 * float64(len(hand)) / float64(n)); float64(load[turn.Peer]) > bound {
				t.Fatalf("members=%d pick %d: %s has %d of %d in hand, at most %.0f allowed", n, i, turn.Peer, load[turn.Peer], len(hand), bound)
			}
		}
	}
}

// Without a key the policy takes turns, and another policy ignores keys.
func TestKeyWhereItDoesNotBelong(t *testing.T) {
	s := byKey("me", names("p", 3))
	seen := map[string]int{}
	for range 9 {
		p, _ := s.NextFor("")
		seen[p]++
	}
	if len(seen) != 3 || seen["p0"] != 3 {
		t.Errorf("got %v of an empty key, want turns", seen)
	}
	r := s.With(selector.RoundRobin)
	clear(seen)
	for range 9 {
		p, _ := r.NextFor("key")
		seen[p]++
	}
	if len(seen) != 3 || seen["p0"] != 3 {
		t.Errorf("got %v under round_robin, want turns", seen)
	}
}
