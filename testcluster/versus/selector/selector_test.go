package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Everybody hands out those that were set, and follows a change.
func TestTakers(t *testing.T) {
	for _, c := range churned {
		t.Run(c.name, func(t *testing.T) {
			k := c.make()
			for _, peers := range [][]string{{"a1", "b1", "c1"}, {"a1", "c1"}, {"a1", "c1", "d1", "e1"}} {
				k.set(peers)
				seen := map[string]bool{}
				for range 300 {
					p := k.next()
					if !slices.Contains(peers, p) {
						t.Fatalf("got %q of %v", p, peers)
					}
					seen[p] = true
				}
				if len(seen) != len(peers) {
					t.Errorf("got %v of %v", seen, peers)
				}
			}
		})
	}
}

// A rotation that starts anew at each change is told from one that does not.
func TestQualityTells(t *testing.T) {
	if q := churn(&resetting{}, 100, 5000); q.verdict() != "MISS" || q.spread < 2 {
		t.Errorf("one that begins anew passes: %+v", q)
	}
}

// resetting begins anew at each change.
type resetting struct {
	peers []string
	at    int
}

func (r *resetting) set(peers []string) { r.peers, r.at = peers, 0 }

func (r *resetting) next() string {
	r.at++
	return r.peers[(r.at-1)%len(r.peers)]
}

// All tables once, as short as can be.
func TestAllTables(t *testing.T) {
	s, err := parse([]string{"-n", "1", "-t", "1ms", "-picks", "2000"})
	if err != nil {
		t.Fatal(err)
	}
	s.sizes = []int{50}
	begun := time.Now()
	for want, table := range map[int]table{len(picks): measurePicks(s), len(updates): measureUpdates(s), len(churned): measureQuality(s)} {
		if len(table.lines) != want {
			t.Errorf("got %d lines, want %d", len(table.lines), want)
		}
		var out strings.Builder
		s.print(&out, table)
		t.Logf("in %v:\n%s", time.Since(begun), &out)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"-rows rr,quality -n 1", ""},
		{"-rows robin", `no rows of kind "robin"`},
		{"-n 0", "must be more than nothing"},
		{"rr", `unknown argument "rr"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: got error %v, want %q", c.args, err, c.want)
		}
	}
}
