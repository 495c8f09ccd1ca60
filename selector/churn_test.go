package selector_test

import (
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
