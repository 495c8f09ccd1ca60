package selector_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/selector"
)

// The floor: a cursor that one goroutine owns, over a slice that never changes.
func BenchmarkFloor(b *testing.B) {
	peers := names("p", 100)
	i, length := 0, 0
	for b.Loop() {
		if i++; i == len(peers) {
			i = 0
		}
		length += len(peers[i])
	}
	if length < 0 {
		b.Fatal()
	}
}

func BenchmarkNext(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		s := ofStrings("me")
		s.Set(names("p", n))
		b.Run(fmt.Sprintf("members=%d/goroutines=1", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	s := ofStrings("me")
	s.Set(names("p", 100))
	b.Run("members=100/goroutines=2", func(b *testing.B) {
		b.ReportAllocs()
		together(b, 2, func() error { _, err := s.Next(); return err })
	})
}

// together runs f b.N times, shared between goroutines; the figure is the time
// by the clock over all picks.
func together(b *testing.B, goroutines int, f func() error) {
	b.Helper()
	var wg sync.WaitGroup
	for g := range goroutines {
		n := b.N / goroutines
		if g == 0 {
			n = b.N - n*(goroutines-1)
		}
		wg.Go(func() {
			for range n {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAll(b *testing.B) {
	s := ofStrings("me")
	s.Set(names("p", 100))
	b.ReportAllocs()
	for b.Loop() {
		for range s.All() {
		}
	}
}

// One leaves and one joins at each Set.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			s := ofStrings("me")
			base := names("p", n-1)
			one, other := append(slices.Clone(base), "x"), append(slices.Clone(base), "y")
			s.Set(one)
			b.ReportAllocs()
			for b.Loop() {
				s.Set(other)
				one, other = other, one
			}
		})
	}
}

func BenchmarkQualityUnderChurn(b *testing.B) {
	var q quality
	for b.Loop() {
		q = churn(b, "me", 100, 100_000, 37)
	}
	b.ReportMetric(q.spread, "max/min")
	b.ReportMetric(float64(q.longest), "longest-wait")
	b.ReportMetric(q.flapper, "flapper-share")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkPolicies(b *testing.B) {
	even := func(string) int { return 1 }
	uneven := func(p string) int { return 1 + int(p[len(p)-1]-'0')%4 }
	rtt := func(p string) time.Duration { return time.Duration(p[len(p)-1]) * 10 * time.Microsecond }
	for _, c := range []struct {
		policy  selector.Policy
		weights string
		weight  func(string) int
	}{
		{selector.RoundRobin, "even", even},
		{selector.Weighted, "uneven", uneven},
		{selector.LeastLoaded, "even", even},
		{selector.LeastLoaded, "uneven", uneven},
		{selector.Random, "uneven", uneven},
		{selector.Nearest, "even", even},
	} {
		s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Policy: c.policy, Weight: c.weight, RTT: rtt})
		s.Set(names("p", 100))
		b.Run(fmt.Sprintf("%v/weights=%s/members=100", c.policy, c.weights), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDerived(b *testing.B) {
	s := ofStrings("me")
	s.Set(names("p", 100))
	w := s.Where("even", func(p string) bool { return p[len(p)-1]%2 == 0 })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCursor(b *testing.B) {
	s := ofStrings("me")
	s.Set(names("p", 100))
	c := s.Cursor()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNextFor(b *testing.B) {
	s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Policy: selector.ByKey})
	s.Set(names("p", 100))
	keys := names("customer-", 1024)
	i := 0
	pick := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			i++
			if _, err := s.NextFor(keys[i&1023]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("idle", pick)
	for k := range 400 {
		if _, err := s.Take(selector.Want{Key: keys[k]}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("loaded", pick)
}

// A turn taken and ended.
func BenchmarkTake(b *testing.B) {
	for _, p := range []selector.Policy{selector.RoundRobin, selector.LeastLoaded, selector.ByKey} {
		s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Policy: p})
		s.Set(names("p", 100))
		b.Run(p.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, err := s.Take(selector.Want{Key: "customer"})
				if err != nil {
					b.Fatal(err)
				}
				t.Done(nil, 0)
			}
		})
	}
}

func BenchmarkSetOf(b *testing.B) {
	weights := func(p string) int { return 1 + int(p[len(p)-1])%4 }
	for _, p := range []selector.Policy{selector.Weighted, selector.LeastLoaded, selector.ByKey} {
		for _, n := range []int{1000, 10_000} {
			b.Run(fmt.Sprintf("%v/members=%d", p, n), func(b *testing.B) {
				s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Policy: p, Weight: weights})
				base := names("p", n-1)
				one, other := append(slices.Clone(base), "x"), append(slices.Clone(base), "y")
				s.Set(one)
				b.ReportAllocs()
				for b.Loop() {
					s.Set(other)
					one, other = other, one
				}
			})
		}
	}
}
