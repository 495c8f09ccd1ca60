package selector_test

import (
	"fmt"
	"slices"
	"testing"
)

// quality is what matters of a rotation under churn.
type quality struct {
	spread  float64 // most over fewest turns of the peers that stayed
	wait    int     // their longest wait, in turns, beyond N + joins meanwhile
	longest int     // their longest wait
	flapper float64 // turns of the one that comes and goes, over its fair share
}

// churn lets n peers stay for picks turns while one more joins and leaves in
// turn, every `every` picks.
func churn(t testing.TB, seed string, n, picks, every int) quality {
	t.Helper()
	s := ofStrings(seed)
	base := names("p", n)
	with := append(slices.Clone(base), "flapper")
	s.Set(base)

	turns := make(map[string]int)
	type mark struct{ pick, joins int }
	last := make(map[string]mark)
	for _, p := range base {
		last[p] = mark{-1, 0}
	}
	here, joins := false, 0
	fair := 0.0
	q := quality{wait: -n}
	for i := range picks {
		if i > 0 && i%every == 0 {
			here = !here
			if here {
				joins++
				s.Set(with)
			} else {
				s.Set(base)
			}
		}
		if here {
			fair += 1 / float64(n+1)
		}
		p, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		turns[p]++
		if p == "flapper" {
			continue
		}
		q.longest = max(q.longest, i-last[p].pick)
		q.wait = max(q.wait, i-last[p].pick-n-(joins-last[p].joins))
		last[p] = mark{i, joins}
	}
	least, most := picks, 0
	for _, p := range base {
		least, most = min(least, turns[p]), max(most, turns[p])
	}
	q.spread = float64(most) / float64(max(least, 1))
	q.flapper = float64(turns["flapper"]) / fair
	return q
}

func TestQualityUnderChurn(t *testing.T) {
	for _, c := range []struct{ n, picks, every int }{
		{1, 20_000, 1},
		{1, 20_000, 2},
		{2, 20_000, 3},
		{10, 20_000, 200},
		{100, 200_000, 37},
		{100, 200_000, 50}, // in step with the rotation
		{100, 200_000, 101},
		{100, 200_000, 1000},
	} {
		for _, seed := range []string{"one", "two"} {
			t.Run(fmt.Sprintf("members=%d/every=%d/%s", c.n, c.every, seed), func(t *testing.T) {
				q := churn(t, seed, c.n, c.picks, c.every)
				if q.spread > 1.01 {
					t.Errorf("got most/fewest turns %.4f, want at most 1.01", q.spread)
				}
				// The flapper that was here when the wait began counts among N.
				if q.wait > 1 {
					t.Errorf("got a wait %d turns beyond N + joins, want none", q.wait)
				}
				// 200 turns between changes make 50 visits: too few to judge.
				if c.n != 10 && (q.flapper < 0.8 || q.flapper > 1.2) {
					t.Errorf("got %.3f of its fair share for the one that comes and goes, want 0.8 to 1.2", q.flapper)
				}
			})
		}
	}
}

// When a peer does not answer and each client asks the next one of its walk,
// what the dead one drops must fall on all alike.
func TestRetriesSpreadOverClients(t *testing.T) {
	const clients, n, picks = 300, 30, 300
	peers := names("p", n)
	load := make(map[string]int)
	for c := range clients {
		s := ofStrings(fmt.Sprint("client", c))
		s.Set(peers)
		for range picks {
			for p := range s.All() {
				if p != "p7" {
					load[p]++
					break
				}
			}
		}
	}
	mean := float64(clients*picks) / (n - 1)
	for p, k := range load {
		if x := float64(k) / mean; x > 1.1 {
			t.Errorf("%s carries %.2f times the mean, want at most 1.1", p, x)
		}
	}
}
