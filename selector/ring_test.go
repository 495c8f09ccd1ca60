package selector_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/peerhq/peer/selector"
)

func itself(id string) string { return id }

func ofStrings(seed string) *selector.Selector[string] {
	return selector.New(selector.Config[string]{ID: itself, Seed: seed})
}

// names returns n peers called PREFIX0 and up.
func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// queue is the simple model: a list of IDs whose front is next. Where a joiner
// went is the selector's choice, so the model learns it when it first sees it.
type queue struct {
	order  []string
	joined map[string]bool // named by a Set, not seen since
}

func (q *queue) set(ids []string) {
	member := make(map[string]bool, len(ids))
	for _, id := range ids {
		member[id] = true
	}
	q.order = slices.DeleteFunc(q.order, func(id string) bool { return !member[id] })
	known := make(map[string]bool, len(ids))
	for _, id := range q.order {
		known[id] = true
	}
	q.joined = make(map[string]bool)
	for id := range member {
		if !known[id] {
			q.joined[id] = true
		}
	}
}

// next checks one turn.
func (q *queue) next(t testing.TB, got string) {
	t.Helper()
	if q.joined[got] {
		delete(q.joined, got)
		q.order = append(q.order, got)
		return
	}
	if len(q.order) == 0 || q.order[0] != got {
		t.Fatalf("got turn of %q, want the front of %.5q", got, q.order)
	}
	q.order = append(q.order[1:], got)
}

// walk checks a whole walk, and learns from it where everybody is.
func (q *queue) walk(t testing.TB, got []string) {
	t.Helper()
	if want := len(q.order) + len(q.joined); len(got) != want {
		t.Fatalf("walk named %d peers, want %d", len(got), want)
	}
	stayed := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return q.joined[id] })
	if !slices.Equal(stayed, q.order) {
		t.Fatalf("walk went %.5q, want %.5q", stayed, q.order)
	}
	clear(q.joined)
	if len(got) > 0 {
		q.order = append(slices.Clone(got[1:]), got[0])
	}
}

// Under any churn, the rotation is that of the model.
func TestRotationAgainstModel(t *testing.T) {
	for _, c := range []struct{ n, steps int }{{0, 200}, {1, 2000}, {2, 2000}, {3, 2000}, {100, 3000}, {10_000, 60}} {
		for round := range uint64(3) {
			t.Run(fmt.Sprintf("members=%d/%d", c.n, round), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(uint64(c.n), round))
				s := ofStrings(fmt.Sprint("client", round))
				q := &queue{}
				set := func(ids []string) {
					s.Set(ids)
					q.set(ids)
				}
				base := names("p", c.n)
				set(base)
				for range c.steps {
					switch rnd.IntN(8) {
					case 0: // a few leave, a few join, all in another order
						ids := names("p", c.n)
						for range rnd.IntN(c.n/10 + 2) {
							ids = append(ids, fmt.Sprint("flapper", rnd.IntN(c.n+3)))
						}
						slices.Sort(ids)
						ids = slices.Compact(ids)
						rnd.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
						set(ids[:len(ids)-min(len(ids), rnd.IntN(c.n/10+2))])
					case 1: // everybody may have gone
						if rnd.IntN(20) == 0 {
							set(nil)
						} else {
							set(base)
						}
					case 2:
						q.walk(t, slices.Collect(s.All()))
					default:
						for range rnd.IntN(c.n + 3) {
							got, err := s.Next()
							if errors.Is(err, selector.ErrNoPeers) {
								if s.Len() != 0 {
									t.Fatalf("got %v with %d peers", err, s.Len())
								}
								break
							}
							if err != nil {
								t.Fatal(err)
							}
							q.next(t, got)
						}
					}
					if got, want := s.Len(), len(q.order)+len(q.joined); got != want {
						t.Fatalf("got Len %d, want %d", got, want)
					}
				}
			})
		}
	}
}

func TestSameSetInAnotherOrderChangesNothing(t *testing.T) {
	peers := names("p", 50)
	a, b := ofStrings("me"), ofStrings("me")
	a.Set(peers)
	b.Set(peers)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		rnd.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		b.Set(peers)
		x, _ := a.Next()
		y, _ := b.Next()
		if x != y {
			t.Fatalf("turn %d: got %q after a shuffled Set, want %q", i, y, x)
		}
	}
}

func TestEmpty(t *testing.T) {
	s := ofStrings("me")
	for _, peers := range [][]string{nil, {}, {"a"}, nil} {
		s.Set(peers)
		got, err := s.Next()
		if len(peers) == 0 {
			if got != "" || !errors.Is(err, selector.ErrNoPeers) {
				t.Errorf("got %q, %v of nobody, want ErrNoPeers", got, err)
			}
			for p := range s.All() {
				t.Errorf("All yields %q of nobody", p)
			}
		} else if got != "a" || err != nil {
			t.Errorf("got %q, %v, want a", got, err)
		}
	}
}

// A peer's other values are those of the last Set, at the place it had.
func TestValuesFollow(t *testing.T) {
	type peer struct{ name, addr string }
	s := selector.New(selector.Config[peer]{ID: func(p peer) string { return p.name }, Seed: "me"})
	s.Set([]peer{{"a", "old"}, {"b", "old"}, {"c", "old"}})
	first, _ := s.Next()
	s.Set([]peer{{"c", "older"}, {"b", "new"}, {"a", "new"}, {"c", "new"}})
	seen := map[string]bool{first.name: true}
	for range 2 {
		p, _ := s.Next()
		if p.addr != "new" || seen[p.name] {
			t.Errorf("got %v after %v, want a new value of another peer", p, seen)
		}
		seen[p.name] = true
	}
	if s.Len() != 3 {
		t.Errorf("got Len %d with one ID twice, want 3", s.Len())
	}
}

func TestAllMayStop(t *testing.T) {
	s := ofStrings("me")
	s.Set(names("p", 5))
	order := slices.Collect(s.All())
	for range 12 {
		order = append(order[1:], order[0])
		var got []string
		for p := range s.All() {
			got = append(got, p)
			if len(got) == 3 {
				break
			}
		}
		if !slices.Equal(got, order[:3]) {
			t.Fatalf("got walk %q, want %q: one turn on from the last", got, order[:3])
		}
	}
}

// However many goroutines pick while Set runs, no turn is lost or given twice:
// the counts of peers that stay differ by one at most.
func TestNoTurnLostOrDoubled(t *testing.T) {
	const pickers, n = 4, 37
	picks := 100_000
	if testing.Short() {
		picks = 20_000
	}
	s := ofStrings("me")
	peers := names("p", n)
	s.Set(peers)
	done := make(chan struct{})
	var sets sync.WaitGroup
	sets.Go(func() {
		rnd := rand.New(rand.NewPCG(3, 4))
		for {
			select {
			case <-done:
				return
			default:
			}
			rnd.Shuffle(n, func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
			s.Set(peers)
		}
	})
	counts := make([]map[string]int, pickers)
	var wg sync.WaitGroup
	for g := range pickers {
		counts[g] = make(map[string]int)
		wg.Go(func() {
			for range picks {
				p, err := s.Next()
				if err != nil {
					t.Error(err)
					return
				}
				counts[g][p]++
			}
		})
	}
	wg.Wait()
	close(done)
	sets.Wait()
	total := make(map[string]int)
	for _, c := range counts {
		for p, k := range c {
			total[p] += k
		}
	}
	least, most := pickers*picks, 0
	for _, k := range total {
		least, most = min(least, k), max(most, k)
	}
	if len(total) != n || most-least > 1 {
		t.Errorf("got %d peers with %d to %d turns, want %d peers within one turn of each other", len(total), least, most, n)
	}
}

// With peers coming and going meanwhile, those that stay still get equal
// numbers, and nobody gets a turn who was never named.
func TestConcurrentChurn(t *testing.T) {
	const pickers, n = 4, 20
	s := ofStrings("me")
	base := names("p", n)
	s.Set(base)
	var wg, sets sync.WaitGroup
	done := make(chan struct{})
	sets.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				s.Set(append(slices.Clone(base), fmt.Sprint("q", i%5)))
			}
		}
	})
	for range pickers {
		wg.Go(func() {
			for range 5_000 {
				p, err := s.Next()
				if err != nil || (p[0] != 'p' && p[0] != 'q') {
					t.Errorf("got %q, %v", p, err)
					return
				}
			}
			for range 200 {
				seen := make(map[string]bool)
				for p := range s.All() {
					if seen[p] {
						t.Errorf("a walk named %q twice", p)
						return
					}
					seen[p] = true
				}
				if k := len(seen); k < n || k > n+1 {
					t.Errorf("a walk named %d peers, want %d or %d", k, n, n+1)
					return
				}
			}
		})
	}
	wg.Wait()
	close(done)
	sets.Wait()
}

func TestPicksDoNotAllocate(t *testing.T) {
	s := ofStrings("me")
	s.Set(names("p", 100))
	if got := testing.AllocsPerRun(1000, func() { _, _ = s.Next() }); got != 0 {
		t.Errorf("Next allocates %v times", got)
	}
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		for range s.All() {
			n++
		}
	}); got != 0 {
		t.Errorf("a walk allocates %v times", got)
	}
}

func TestNewNeedsID(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New without ID did not panic")
		}
	}()
	selector.New(selector.Config[string]{})
}
