package selector_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

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
	expect(t, "no filter in a filter", handed(t, both.Where("all", nil), 20, itself), "p6", "p8")
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
