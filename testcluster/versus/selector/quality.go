package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/go-kratos/kratos/v2/selector/wrr"

	"github.com/peerhq/peer/selector"
)

// every is how many picks there are between two changes.
const every = 37

// quality is what matters of a rotation under churn.
type quality struct {
	spread  float64 // most over fewest turns of the peers that stayed
	longest int     // their longest wait, in turns
	late    int     // the most turns that one waited beyond N + those that joined meanwhile
	flapper float64 // turns of the one that comes and goes, over its fair share
}

// churn lets n peers stay for so many picks while one more joins and leaves.
func churn(t taker, n, picks int) quality {
	base := names("p", n)
	withFlapper := append(slices.Clone(base), "flapper")
	t.set(base)
	turns := make(map[string]int)
	type mark struct{ pick, joins int }
	last := make(map[string]mark)
	for _, p := range base {
		last[p] = mark{-1, 0}
	}
	here, joins, fair := false, 0, 0.0
	q := quality{late: math.MinInt}
	note := func(p string, i int) {
		q.longest = max(q.longest, i-last[p].pick)
		q.late = max(q.late, i-last[p].pick-n-(joins-last[p].joins))
	}
	for i := range picks {
		if i > 0 && i%every == 0 {
			if here = !here; here {
				joins++
				t.set(withFlapper)
			} else {
				t.set(base)
			}
		}
		if here {
			fair += 1 / float64(n+1)
		}
		p := t.next()
		turns[p]++
		if p != "flapper" {
			note(p, i)
			last[p] = mark{i, joins}
		}
	}
	least, most := math.MaxInt, 0
	for _, p := range base {
		least, most = min(least, turns[p]), max(most, turns[p])
		note(p, picks) // one that never came waits still
	}
	q.spread = float64(most) / float64(least)
	q.flapper = float64(turns["flapper"]) / max(fair, 1)
	return q
}

var churned = []struct {
	name string
	ours bool // and bound to the bars
	make func() taker
}{
	{"**ours**: in turn", true, func() taker { return newOwn(selector.RoundRobin, nil) }},
	{"**ours**: weighted, equal shares", true, func() taker { return newOwn(selector.Weighted, nil) }},
	{"**ours**: less loaded of two", false, func() taker { return newOwn(selector.LeastLoaded, nil) }},
	{"atomic + snapshot", false, func() taker { return &counter{} }},
	{"mutex + slice", false, func() taker { return &locked{} }},
	{"grpc round_robin", false, func() taker { return newGRPC("round_robin", "{}") }},
	{"grpc weighted_round_robin, no reports", false, func() taker { return newGRPC("weighted_round_robin", weighted) }},
	{"go-kit round robin", false, func() taker { return newKit() }},
	{"kratos p2c", false, func() taker { return newKratos(p2c.New(), nil) }},
	{"kratos wrr", false, func() taker { return newKratos(wrr.New(), nil) }},
}

// measureQuality churns them all.
func measureQuality(s settings) table {
	if !s.wants("quality") {
		return table{}
	}
	t := table{head: []string{fmt.Sprintf("quality, N = %d, a change every %d picks", members, every), "max/min", "longest wait", "share of the flapper", "our bar", ""}}
	for _, c := range churned {
		q := churn(c.make(), members, s.picks)
		line := []string{c.name, fmt.Sprintf("%.3f", q.spread), fmt.Sprint(q.longest), fmt.Sprintf("%.2f", q.flapper), "–", "–"}
		if c.ours {
			line[4], line[5] = "≤ 1.01, N + joins, 0.8..1.2", q.verdict()
		}
		t.lines = append(t.lines, line)
		say("quality, %s, load %.1f", c.name, load())
	}
	return t
}

// verdict holds q against the bars. The flapper that was here when a wait began
// counts among N.
func (q quality) verdict() string {
	if q.spread <= 1.01 && q.late <= 1 && q.flapper >= 0.8 && q.flapper <= 1.2 {
		return "pass"
	}
	return "MISS"
}
