package selector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/selector"
)

func even(p string) bool { return p[len(p)-1]%2 == 0 }

func TestWhere(t *testing.T) {
	s := ofStrings("me")
	s.Set(names("p", 10))
	w := s.Where("even", even)
	expect(t, "even", handed(t, w, 50, itself), "p0", "p2", "p4", "p6", "p8")
	if again := s.Where("even", even); again != w {
		t.Error("the same name gives another selector")
	}
	if w.With(selector.Random).Policy() != selector.Random || w.With(selector.RoundRobin) != w {
		t.Error("With gives another policy than asked, or a new selector for the same one")
	}
	both := w.Where("above 4", func(p string) bool { return p > "p4" })
	expect(t, "filter of a filter", handed(t, both, 50, itself), "p6", "p8")
	expect(t, "by lot", handed(t, both.With(selector.Random), 200, itself), "p6", "p8")
	if outer := s.Where("above 4", func(p string) bool { return p > "p4" }); outer == both {
		t.Error("one name under two selectors gives one selector")
	}

	// After Set returns, nobody is handed out who has gone, and who is new is.
	s.Set([]string{"p2", "p12", "p6", "p1"})
	expect(t, "after Set", handed(t, w, 50, itself), "p12", "p2", "p6")
	expect(t, "after Set, inner", handed(t, both, 50, itself), "p6")
	w.Set([]string{"p1"})
	if _, err := both.Next(); !errors.Is(err, selector.ErrNoMatch) || err.Error() != "selector: no peer matches: none of 1" {
		t.Errorf("got %v, want ErrNoMatch", err)
	}
	if _, err := s.Next(); err != nil {
		t.Errorf("got %v, want p1", err)
	}
	s.Set(nil)
	if _, err := both.Next(); !errors.Is(err, selector.ErrNoPeers) {
		t.Errorf("got %v of nobody, want ErrNoPeers", err)
	}
}

// A filtered selector keeps its own place: its peers get equal turns whatever is
// picked elsewhere and whoever comes and goes.
func TestWhereKeepsItsPlace(t *testing.T) {
	s := ofStrings("me")
	base := names("p", 20)
	s.Set(base)
	w := s.Where("even", even)
	rnd := rand.New(rand.NewPCG(1, 1))
	turns := map[string]int{}
	for i := range 10_000 {
		if i%7 == 0 {
			s.Set(append(slices.Clone(base), fmt.Sprint("q", i%13)))
		}
		for range rnd.IntN(3) {
			_, _ = s.Next()
		}
		p, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		turns[p]++
	}
	least, most := 10_000, 0
	for _, p := range base {
		if even(p) {
			least, most = min(least, turns[p]), max(most, turns[p])
		}
	}
	if least == 0 || float64(most)/float64(least) > 1.02 {
		t.Errorf("got %d to %d turns, want them equal", least, most)
	}
}

// Of many names the oldest are forgotten, and whoever holds one goes on.
func TestWhereIsBounded(t *testing.T) {
	s := ofStrings("me")
	s.Set(names("p", 10))
	first := s.Where("even", even)
	kept := s.Where("kept", even)
	for i := range 300 {
		s.Where(fmt.Sprint("name", i), even)
		if s.Where("kept", even) != kept {
			t.Fatalf("one that is asked for all the time was dropped after %d", i)
		}
	}
	if s.Where("even", even) == first {
		t.Error("300 names later the first is still there")
	}
	s.Set([]string{"p4", "p5"})
	expect(t, "dropped", handed(t, first, 10, itself), "p4")
}

// Property: whatever happens, in any order, by any policy: who is handed out was
// named by the last Set, passes the filter, is not excluded, and comes from the
// best tier there is; a walk names everybody once, tier by tier.
func TestAllPoliciesUnderChurn(t *testing.T) {
	for _, policy := range []selector.Policy{selector.RoundRobin, selector.Weighted, selector.LeastLoaded, selector.Random, selector.ByKey, selector.Nearest} {
		for _, n := range []int{0, 1, 2, 100, 10_000} {
			steps := 700
			if n > 1000 {
				steps = 12
			}
			t.Run(fmt.Sprintf("%v/members=%d", policy, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { churnAll(t, policy, n, steps) })
			})
		}
	}
}

func churnAll(t *testing.T, policy selector.Policy, n, steps int) {
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(policy)))
	s := selector.New(selector.Config[backend]{
		ID:        byName,
		Seed:      "me",
		Policy:    policy,
		Weight:    weightOf,
		Standby:   func(b backend) bool { return b.standby },
		Zone:      func(b backend) string { return b.zone },
		Home:      "z0",
		RTT:       func(b backend) time.Duration { return time.Duration(b.version) * time.Millisecond },
		Self:      "b0",
		SelfRule:  selector.SelfLast,
		SlowStart: 3 * time.Second,
	})
	passes := func(b backend) bool { return b.version%3 > 0 }
	w := s.Where("passes", passes)
	now := map[string]backend{}
	set := func() {
		clear(now)
		var peers []backend
		for i := range n + rnd.IntN(3) {
			if rnd.IntN(8) > 0 {
				b := backend{fmt.Sprint("b", i), rnd.IntN(5), fmt.Sprint("z", rnd.IntN(2)), rnd.IntN(6) == 0, rnd.IntN(9)}
				peers, now[b.name] = append(peers, b), b
			}
		}
		rnd.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		s.Set(peers)
	}
	check := func(s *selector.Selector[backend], b backend, err error, filtered bool) {
		t.Helper()
		if err != nil {
			if s.Len() > 0 || errors.Is(err, selector.ErrNoPeers) != (len(now) == 0) {
				t.Fatalf("got %v with %d of %d", err, s.Len(), len(now))
			}
			return
		}
		if now[b.name] != b || filtered && !passes(b) {
			t.Fatalf("got %+v, which is not as the last Set named it or does not pass", b)
		}
	}
	set()
	var hand []selector.Turn[backend]
	for range steps {
		x, filtered := s, false
		if rnd.IntN(2) == 0 {
			x, filtered = w, true
		}
		switch rnd.IntN(9) {
		case 0:
			set()
		case 1:
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		case 2, 3:
			for i, turn := range hand {
				if rnd.IntN(3) == 0 {
					turn.Done(errRefused, 0)
				} else {
					turn.Done(nil, time.Duration(i)*time.Millisecond)
				}
			}
			hand = hand[:0]
		case 4:
			seen, last := map[string]bool{}, selector.Live
			want := selector.Want{Key: fmt.Sprint("k", rnd.IntN(50)), Exclude: []string{"b1", "b7"}}
			for b, tier := range x.Order(want) {
				check(x, b, nil, filtered)
				if seen[b.name] || tier < last || slices.Contains(want.Exclude, b.name) {
					t.Fatalf("order yields %s of tier %v after %v, twice: %v", b.name, tier, last, seen[b.name])
				}
				seen[b.name], last = true, tier
			}
			excluded := 0
			for _, id := range want.Exclude {
				if b, ok := now[id]; ok && (!filtered || passes(b)) {
					excluded++
				}
			}
			if len(seen)+excluded != x.Len() {
				t.Fatalf("order yields %d without %d excluded, of %d", len(seen), excluded, x.Len())
			}
		case 5, 6:
			best := selector.LastResort
			for _, st := range x.Explain(selector.Want{}) {
				if st.Rank >= 0 {
					best = min(best, st.Tier)
				}
			}
			turn, err := x.Take(selector.Want{Key: fmt.Sprint("k", rnd.IntN(50))})
			check(x, turn.Peer, err, filtered)
			if err == nil {
				hand = append(hand, turn)
				if turn.Tier != best {
					t.Fatalf("got a turn of tier %v, the best there is %v", turn.Tier, best)
				}
			}
		case 7:
			b, err := x.NextFor(fmt.Sprint("k", rnd.IntN(50)))
			check(x, b, err, filtered)
		default:
			b, err := x.Next()
			check(x, b, err, filtered)
		}
	}
}

// The same with many goroutines: it must not race, and when all turns are done
// no load is left.
func TestConcurrentEverything(t *testing.T) {
	for _, policy := range []selector.Policy{selector.Weighted, selector.LeastLoaded, selector.ByKey} {
		s := selector.New(selector.Config[backend]{ID: byName, Policy: policy, Weight: weightOf, SlowStart: time.Millisecond, Cooldown: 100 * time.Microsecond})
		base := backends(repeat(20, 2)...)
		s.Set(base)
		done := make(chan struct{})
		var writer, wg sync.WaitGroup
		writer.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					s.Set(append(slices.Clone(base), backend{name: fmt.Sprint("x", i%7), weight: 1 + i%4}))
				}
			}
		})
		for g := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(g), 0))
				c := s.Cursor()
				for i := range 3000 {
					turn, err := s.Where("b", func(b backend) bool { return b.name[0] == 'b' }).Take(selector.Want{Key: fmt.Sprint(i % 10)})
					if err != nil || turn.Peer.name[0] != 'b' {
						t.Errorf("got %v, %v", turn.Peer, err)
						return
					}
					if _, err := s.Next(); err != nil {
						t.Error(err)
					}
					if _, err := c.Next(); err != nil {
						t.Error(err)
					}
					var outcome error
					if rnd.IntN(10) == 0 {
						outcome = errRefused
					}
					turn.Done(outcome, time.Duration(i))
					if i%100 == 0 {
						s.Explain(selector.Want{})
					}
				}
			})
		}
		wg.Wait()
		close(done)
		writer.Wait()
		for _, st := range s.Where("b", nil).Explain(selector.Want{}) {
			if st.Load != 0 {
				t.Errorf("%v: %s has %d in hand when all turns are done", policy, st.ID, st.Load)
			}
		}
	}
}

func TestCursor(t *testing.T) {
	for _, policy := range []selector.Policy{selector.RoundRobin, selector.Weighted} {
		s := selector.New(selector.Config[backend]{ID: byName, Seed: "me", Policy: policy, Weight: weightOf})
		c := s.Cursor()
		if _, err := c.Next(); !errors.Is(err, selector.ErrNoPeers) {
			t.Errorf("%v: got %v of nobody, want ErrNoPeers", policy, err)
		}
		base := backends(append(repeat(10, 1), repeat(10, 3)...)...)
		s.Set(base)
		// Others pick and peers come and go; the cursor's own turns are fair.
		turns, last := map[string]int{}, map[string]int{}
		for i := range 40_000 {
			if i%41 == 0 {
				s.Set(append(slices.Clone(base), backend{name: fmt.Sprint("x", i%5), weight: 2}))
			}
			if i%3 == 0 {
				_, _ = s.Next()
			}
			p, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			turns[p.name]++
			last[p.name] = i
		}
		least, most := 1e9, 0.0
		for _, b := range base {
			x := float64(turns[b.name])
			if policy == selector.Weighted {
				x /= float64(b.weight)
			}
			least, most = min(least, x), max(most, x)
		}
		if most/least > 1.15 {
			t.Errorf("%v: got most/fewest turns %.3f for a cursor, want about 1", policy, most/least)
		}
		s.Set(base[:1])
		for range 3 {
			if p, err := c.Next(); err != nil || p.name != "b0" {
				t.Errorf("%v: got %v, %v, want b0", policy, p, err)
			}
		}
		s.Set(nil)
		if _, err := c.Next(); !errors.Is(err, selector.ErrNoPeers) {
			t.Errorf("%v: got %v of nobody, want ErrNoPeers", policy, err)
		}
	}
}

func TestCursorSeesTimePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ofStrings("me")
		s.Set([]string{"a", "b", "c"})
		c, w := s.Cursor(), s.Where("not c", func(p string) bool { return p != "c" }).Cursor()
		seen := func(c *selector.Cursor[string]) int {
			got := map[string]bool{}
			for range 9 {
				p, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				got[p] = true
			}
			return len(got)
		}
		s.Report("a", errRefused, 0)
		if a, b := seen(c), seen(w); a != 2 || b != 1 {
			t.Errorf("got %d and %d peers while one cools, want 2 and 1", a, b)
		}
		time.Sleep(2 * time.Second)
		if a, b := seen(c), seen(w); a != 3 || b != 2 {
			t.Errorf("got %d and %d peers later, want 3 and 2", a, b)
		}
	})
}

func TestNextWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ofStrings("me")
		w := s.Where("even", even)
		type answer struct {
			peer string
			err  error
			at   time.Duration
		}
		answers := make(chan answer, 3)
		start := time.Now()
		ask := func(s *selector.Selector[string], ctx context.Context) {
			p, err := s.NextWait(ctx)
			answers <- answer{p, err, time.Since(start)}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go ask(s, ctx)
		go ask(w, ctx)
		time.Sleep(10 * time.Second)
		s.Set([]string{"p1"})
		if a := <-answers; a != (answer{"p1", nil, 10 * time.Second}) {
			t.Errorf("got %+v, want p1 when it came", a)
		}
		time.Sleep(10 * time.Second)
		s.Set([]string{"p1", "p2"})
		if a := <-answers; a != (answer{"p2", nil, 20 * time.Second}) {
			t.Errorf("got %+v, want p2 when it came", a)
		}

		s.Set([]string{"p1"})
		go ask(w, ctx)
		a := <-answers
		if a.at != time.Minute || !errors.Is(a.err, selector.ErrNoMatch) || !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("got %+v, want both reasons when ctx ends", a)
		}
		if p, err := s.NextWait(ctx); p != "p1" || err != nil {
			t.Errorf("got %q, %v with somebody there, want no wait even with ctx ended", p, err)
		}
	})
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[backend]{
			ID: byName, Seed: "me", Policy: selector.Weighted, Weight: weightOf,
			Zone: func(b backend) string { return b.zone }, Home: "here", HomeEnough: 1,
			Self: "b6", SelfRule: selector.SelfNever,
		})
		peers := backends(3, 1, 1, 0, 1, 1, 1)
		for i := range peers {
			peers[i].zone = "here"
		}
		peers[2].zone = "there"
		s.Set(peers)
		s.Report(peers[1], errRefused, 0)
		s.Report(peers[0], nil, 3*time.Millisecond)
		time.Sleep(250 * time.Millisecond)
		w := s.Where("not b5", func(b backend) bool { return b.name != "b5" })
		if _, err := w.Take(selector.Want{Exclude: []string{"b4"}}); err != nil { // b0
			t.Fatal(err)
		}

		want := selector.Want{Exclude: []string{"b4"}}
		before := w.Explain(want)
		for range 3 {
			if again := w.Explain(want); !slices.Equal(again, before) {
				t.Fatalf("got %+v, then %+v: explaining took a turn", before, again)
			}
		}
		var order []string
		for p := range w.Order(want) {
			order = append(order, p.name)
		}
		lines := map[string]string{}
		for i, st := range before {
			if st.Rank >= 0 && (st.Rank != i || order[i] != st.ID) {
				t.Errorf("got %s at rank %d, but the order is %q", st.ID, st.Rank, order)
			}
			lines[st.ID] = fmt.Sprintf("%v %.2f %d %v: %s", st.Tier, st.Share, st.Load, st.Latency, st.Why)
		}
		for id, want := range map[string]string{
			"b0": "live 0.75 1 3ms: takes turns",
			"b1": "cooling 0.00 0 0s: cools down for 750ms after a failed request",
			"b2": "live 0.00 0 0s: live, but not at home",
			"b3": "last_resort 0.00 0 0s: stands by",
			"b4": "live 0.25 0 0s: excluded by the caller",
			"b5": "last_resort 0.00 0 0s: does not match",
			"b6": "last_resort 0.00 0 0s: is this client itself, which is never handed out",
		} {
			if lines[id] != want {
				t.Errorf("%s: got %q, want %q", id, lines[id], want)
			}
		}
	})
}

func TestPolicyNames(t *testing.T) {
	for p := selector.RoundRobin; p <= selector.Nearest; p++ {
		got, err := selector.ParsePolicy(p.String())
		if err != nil || got != p {
			t.Errorf("%v: parsed as %v, %v", p, got, err)
		}
	}
	if _, err := selector.ParsePolicy("fastest"); err == nil {
		t.Error("an unknown policy parses")
	}
	if got := selector.Policy(99).String() + selector.Tier(-1).String(); got != "Policy(99)Tier(-1)" {
		t.Errorf("got %q", got)
	}
}
