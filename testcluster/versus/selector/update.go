package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/go-kratos/kratos/v2/selector/wrr"

	"github.com/peerhq/peer/selector"
)

// swapper has one peer leave and another one join.
type swapper func(gone, come string)

// update is a row of the second table.
type update struct {
	name string
	bars []float64 // ns, for each size; nil: none
	most int       // peers that are worth the wait
	make func(peers []string) swapper
}

// whole is how a taker is updated: it gets the list as it is now.
func whole(t taker, peers []string) swapper {
	list := slices.Clone(peers)
	t.set(list)
	return func(gone, come string) {
		list[slices.Index(list, gone)] = come
		t.set(list)
	}
}

var ourBars = []float64{200_000, 5_000_000}

var updates = []update{
	{"**ours**: in turn", ourBars, 1e9, func(p []string) swapper { return whole(newOwn(selector.RoundRobin, nil), p) }},
	{"**ours**: weighted", ourBars, 1e9, func(p []string) swapper { return whole(newOwn(selector.Weighted, uneven), p) }},
	{"**ours**: less loaded of two", ourBars, 1e9, func(p []string) swapper { return whole(newOwn(selector.LeastLoaded, nil), p) }},
	{"**ours**: by key", ourBars, 1e9, func(p []string) swapper { return whole(newOwn(selector.ByKey, nil), p) }},
	{"atomic + snapshot", nil, 1e9, func(p []string) swapper { return whole(&counter{}, p) }},
	{"mutex + slice", nil, 1e9, func(p []string) swapper { return whole(&locked{}, p) }},
	{"grpc round_robin", nil, 1000, func(p []string) swapper { return whole(newGRPC("round_robin", "{}"), p) }},
	{"grpc weighted_round_robin", nil, 1000, func(p []string) swapper { return whole(newGRPC("weighted_round_robin", weighted), p) }},
	{"go-kit round robin", nil, 1e9, func(p []string) swapper { return whole(newKit(), p) }},
	{"kratos p2c", nil, 1e9, func(p []string) swapper { return whole(newKratos(p2c.New(), nil), p) }},
	{"kratos wrr", nil, 1e9, func(p []string) swapper { return whole(newKratos(wrr.New(), nil), p) }},
	{"buraksezer/consistent", nil, 1000, func(p []string) swapper { return newCircle(p).swap }},
	{"kkdai/maglev", nil, 1000, func(p []string) swapper { return newLookup(p).swap }},
}

// measureUpdates measures all updates in turn, round by round.
func measureUpdates(s settings) table {
	if !s.wants("update") {
		return table{}
	}
	t := table{head: []string{"update, one of N leaves and one joins"}}
	took := make([]map[int][]float64, len(updates))
	swaps := make([]map[int]swapper, len(updates))
	last := make([]map[int]string, len(updates))
	for i, u := range updates {
		took[i], swaps[i], last[i] = map[int][]float64{}, map[int]swapper{}, map[int]string{}
		for _, n := range s.sizes {
			if n > u.most {
				continue
			}
			swaps[i][n] = u.make(append(names("p", n-1), "x0"))
			last[i][n] = "x0"
		}
	}
	next := 0
	for round := range s.rounds {
		for i := range updates {
			k := (i + round) % len(updates)
			for _, n := range s.sizes {
				if n > updates[k].most {
					continue
				}
				var each []float64
				for begun := time.Now(); len(each) == 0 || time.Since(begun) < s.slice; {
					next++
					come := fmt.Sprint("x", next)
					at := time.Now()
					swaps[k][n](last[k][n], come)
					each = append(each, float64(time.Since(at)))
					last[k][n] = come
				}
				took[k][n] = append(took[k][n], median(each))
			}
		}
		say("updates, round %d of %d, load %.1f", round+1, s.rounds, load())
	}
	for _, n := range s.sizes {
		t.head = append(t.head, fmt.Sprintf("N = %d", n), "our bar", "")
	}
	for i, u := range updates {
		line := []string{u.name}
		for k, n := range s.sizes {
			v := took[i][n]
			switch {
			case len(v) == 0:
				line = append(line, "not run", "–", "–")
			case u.bars == nil:
				line = append(line, span(v), "–", "–")
			default:
				line = append(line, span(v), "≤ "+ns(u.bars[k]), verdict(v, u.bars[k]))
			}
		}
		t.lines = append(t.lines, line)
	}
	return t
}
