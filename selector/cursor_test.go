package selector_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/selector"
)

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
			if i%7 == 0 {
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

// A cursor that nobody uses keeps the rotation of its last pick and no later one,
// however many there were.
func TestIdleCursorKeepsNothing(t *testing.T) {
	for _, policy := range []selector.Policy{selector.RoundRobin, selector.Weighted} {
		s := selector.New(selector.Config[string]{ID: func(p string) string { return p }, Policy: policy})
		peers := names("p", 1000)
		s.Set(peers)
		c := s.Cursor()
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		before := heap()
		for range 500 {
			s.Set(peers)
		}
		if kept := int64(heap()) - int64(before); kept > 2<<20 {
			t.Errorf("%v: an idle cursor keeps %d KiB after 500 updates of 1,000 peers, want what one update takes", policy, kept>>10)
		}
		if _, err := c.Next(); err != nil { // it is still held, and goes on
			t.Error(err)
		}
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// All peers of a cursor are replaced at once: its next pick takes one walk over the
// rotation, not one for each peer that is gone.
func TestCursorAfterAllAreReplaced(t *testing.T) {
	const n = 20_000
	s := ofStrings("me")
	s.Set(names("old", n))
	c := s.Cursor()
	if _, err := c.Next(); err != nil {
		t.Fatal(err)
	}
	s.Set(names("new", n))
	start := time.Now()
	p, err := c.Next()
	if err != nil || !strings.HasPrefix(p, "new") {
		t.Errorf("got %q, %v, want a new peer", p, err)
	}
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("one pick took %v, want some milliseconds", took)
	}
}
