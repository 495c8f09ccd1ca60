package main

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/go-kratos/kratos/v2/selector/wrr"

	"github.com/peerhq/peer/selector"
)

// bench is something that picks.
type bench struct {
	loop  func(n int) int // picks n times, and returns something of all, so that none is left out
	close func()
}

// pick is a row of the first table.
type pick struct {
	kind, name string
	bar        float64 // ns; 0: none
	make       func(peers []string) bench
}

// taker is who is given peers and hands them out.
type taker interface {
	set(peers []string)
	next() string
}

// with gives t its peers.
func with[T taker](t T, peers []string) T {
	t.set(peers)
	return t
}

const members = 100

var picks = []pick{
	{"floor", "an index of one's own", 0, floor},
	{"floor", "**ours**: cursor", 0, func(p []string) bench { return with(newOwn(selector.RoundRobin, nil), p).cursor() }},
	{"rr", "**ours**: in turn", 3, func(p []string) bench { return with(newOwn(selector.RoundRobin, nil), p).bench() }},
	{"rr", "atomic + snapshot", 0, func(p []string) bench { return with(&counter{}, p).bench() }},
	{"rr", "mutex + slice", 0, func(p []string) bench { return with(&locked{}, p).bench() }},
	{"rr", "grpc round_robin", 0, func(p []string) bench { return with(newGRPC("round_robin", "{}"), p).bench() }},
	{"rr", "go-kit round robin", 0, func(p []string) bench { return with(newKit(), p).bench() }},
	{"weighted", "**ours**: weighted", 4, func(p []string) bench { return with(newOwn(selector.Weighted, uneven), p).bench() }},
	{"weighted", "grpc weighted_round_robin", 0, func(p []string) bench {
		g := with(newGRPC("weighted_round_robin", weighted), p)
		g.weigh(len(p), uneven)
		return g.bench()
	}},
	{"weighted", "kratos wrr", 0, func(p []string) bench { return with(newKratos(wrr.New(), uneven), p).bench() }},
	{"two", "**ours**: less loaded of two", 15, func(p []string) bench { return with(newOwn(selector.LeastLoaded, nil), p).bench() }},
	{"two", "**ours**: less loaded of two, and done", 0, func(p []string) bench { return with(newOwn(selector.LeastLoaded, nil), p).turns() }},
	{"two", "kratos p2c", 0, func(p []string) bench { return with(newKratos(p2c.New(), nil), p).bench() }},
	{"two", "kratos p2c, and done", 0, func(p []string) bench { return with(newKratos(p2c.New(), nil), p).turns() }},
	{"key", "**ours**: by key", 25, func(p []string) bench { return with(newOwn(selector.ByKey, nil), p).keys(0) }},
	{"key", "**ours**: by key, under load", 25, func(p []string) bench { return with(newOwn(selector.ByKey, nil), p).keys(4 * len(p)) }},
	{"key", "buraksezer/consistent", 0, func(p []string) bench { return newCircle(p).bench() }},
	{"key", "kkdai/maglev", 0, func(p []string) bench { return newLookup(p).bench() }},
}

// weighted has gRPC go by reports at once, where it would wait for ten seconds.
const weighted = `{"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s", "weightExpirationPeriod": "3600s"}`

// sink keeps what the loops return.
var sink atomic.Int64

// measurePicks measures all picks in turn, round by round.
func measurePicks(s settings) table {
	t := table{head: []string{fmt.Sprintf("pick, N = %d", members), "1 goroutine", "2 goroutines", "allocs", "× floor", "our bar", ""}}
	var mine []pick
	var benches []bench
	for _, p := range picks {
		if s.wants(p.kind) {
			mine = append(mine, p)
			benches = append(benches, p.make(names("p", members)))
		}
	}
	if len(mine) == 0 {
		return table{}
	}
	one, two := make([][]float64, len(mine)), make([][]float64, len(mine))
	allocs := make([]float64, len(mine))
	base := floor(names("p", members))
	var ground []float64
	for round := range s.rounds {
		ground = append(ground, perPick(base, 1, s.slice/2))
		for i := range mine {
			k := (i + round) % len(mine)
			one[k] = append(one[k], perPick(benches[k], 1, s.slice))
			two[k] = append(two[k], perPick(benches[k], 2, s.slice))
		}
		say("picks, round %d of %d, load %.1f", round+1, s.rounds, load())
	}
	for i, p := range mine {
		allocs[i] = allocsPer(benches[i])
		var times []float64
		for k := range one[i] {
			times = append(times, one[i][k]/ground[k])
		}
		line := []string{p.name, span(one[i]), span(two[i]), fmt.Sprintf("%.0f", allocs[i]), fmt.Sprintf("%.1f", median(times)), "–", "–"}
		if p.bar > 0 {
			line[5], line[6] = fmt.Sprintf("≤ %g ns, 0 allocs", p.bar), verdict(one[i], p.bar)
			if allocs[i] > 0 {
				line[6] = "MISS"
			}
		}
		t.lines = append(t.lines, line)
		if benches[i].close != nil {
			benches[i].close()
		}
	}
	return t
}

// tries is how many times a pick is measured each round. The least counts: what
// else the machine does can only make it longer.
const tries = 10

// perPick returns the ns by the clock over all picks of so many goroutines, the
// least of several tries in about d.
func perPick(b bench, goroutines int, d time.Duration) float64 {
	once := func(n int) time.Duration {
		var wg sync.WaitGroup
		begun := time.Now()
		for range goroutines {
			wg.Go(func() { sink.Add(int64(b.loop(n))) })
		}
		wg.Wait()
		return time.Since(begun)
	}
	n, took := 64, once(64)
	for took < d/tries/2 {
		// A short try is mostly the start of goroutines: no more than tenfold.
		n = min(10*n, int(float64(n)*float64(d/tries)/float64(max(took, 1)))+1)
		took = once(n)
	}
	for range tries {
		took = min(took, once(n))
	}
	return float64(took) / float64(n*goroutines)
}

// allocsPer returns the allocations of one pick.
func allocsPer(b bench) float64 {
	const n = 10_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	least := 0.0
	for try := range 3 { // something else may allocate meanwhile
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sink.Add(int64(b.loop(n)))
		runtime.ReadMemStats(&after)
		if a := float64((after.Mallocs - before.Mallocs) / n); try == 0 || a < least {
			least = a
		}
	}
	return least
}

// span writes figures as their median, with the least and the most.
func span(v []float64) string {
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf("%s (%s..%s)", ns(median(v)), strip(ns(v[0])), strip(ns(v[len(v)-1])))
}
