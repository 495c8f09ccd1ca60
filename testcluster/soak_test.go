package testcluster_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// A mishap is one fault of the soak and how to undo it.
type mishap struct {
	name  string
	lasts time.Duration
	do    func(w *World, nodes []*Node, r *rand.Rand) (undo func())
}

// pick returns one of nodes.
func pick(nodes []*Node, r *rand.Rand) *Node { return nodes[r.IntN(len(nodes))] }

// away ends a peer in one way or another and brings it back later.
func away(end func(*Node), back func(*Node)) func(w *World, nodes []*Node, r *rand.Rand) func() {
	return func(_ *World, nodes []*Node, r *rand.Rand) func() {
		n := pick(nodes, r)
		end(n)
		return func() {
			if back != nil {
				back(n)
			}
			n.Restart(nil)
		}
	}
}

func wire(change func(*testcluster.Link)) func(w *World, nodes []*Node, r *rand.Rand) func() {
	return func(w *World, _ []*Node, _ *rand.Rand) func() {
		l := testcluster.Wire
		change(&l)
		w.Net().SetDefault(l)
		return func() { w.Net().SetDefault(testcluster.Wire) }
	}
}

var mishaps = []mishap{
	{name: "kill", lasts: time.Minute, do: away((*Node).Kill, nil)},
	{name: "power off", lasts: 2 * time.Minute, do: away((*Node).PowerOff, nil)},
	{name: "back at a new address", lasts: 10 * time.Second, do: away((*Node).Kill, (*Node).Move)},
	{name: "leave", lasts: time.Minute, do: away((*Node).Stop, nil)},
	{name: "stop", lasts: 90 * time.Second, do: func(_ *World, nodes []*Node, r *rand.Rand) func() {
		n := pick(nodes, r)
		n.Pause()
		return n.Resume
	}},
	{name: "isolate", lasts: 2 * time.Minute, do: func(w *World, nodes []*Node, r *rand.Rand) func() {
		w.Isolate(pick(nodes, r))
		return w.Heal
	}},
	{name: "cut in two", lasts: 5 * time.Minute, do: func(w *World, nodes []*Node, r *rand.Rand) func() {
		k := 1 + r.IntN(len(nodes)-1)
		w.Cut(nodes[:k], nodes[k:])
		return w.Heal
	}},
	{name: "one way", lasts: 3 * time.Minute, do: func(w *World, nodes []*Node, r *rand.Rand) func() {
		w.CutOneWay([]*Node{pick(nodes, r)}, []*Node{pick(nodes, r)})
		return w.Heal
	}},
	{name: "loss", lasts: 3 * time.Minute, do: wire(func(l *testcluster.Link) { l.Loss = 0.15 })},
	{name: "slowness", lasts: 3 * time.Minute, do: wire(func(l *testcluster.Link) { l.Latency, l.Jitter = 80*ms, 80*ms })},
	{name: "streams reset", lasts: time.Second, do: func(_ *World, nodes []*Node, r *rand.Rand) func() {
		pick(nodes, r).Host().ResetStreams()
		return func() {}
	}},
	{name: "everybody killed", lasts: 30 * time.Second, do: func(_ *World, nodes []*Node, _ *rand.Rand) func() {
		for _, n := range nodes {
			n.Kill()
		}
		return func() {
			for _, n := range nodes {
				n.Restart(nil)
			}
		}
	}},
}

// TestSoak lets one fault after another happen, some on top of each other, and
// wants the cluster whole after each round; in the end nothing may have leaked.
// PEER_TEST_SEED replays a list of faults, which is not the same run: the
// runtime orders what happens at one instant as it likes.
func TestSoak(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PEER_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	lasts := span(2*time.Hour, 7*24*time.Hour)
	in(t, func(w *World) {
		r := rand.New(rand.NewPCG(seed, 0))
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Minute)
		goroutines, heap := footprint(w)
		start := time.Now()
		var done []string
		for time.Since(start) < lasts {
			var undo []func()
			used := map[int]bool{}
			longest := time.Duration(0)
			for range 1 + r.IntN(2) {
				i := r.IntN(len(mishaps))
				if used[i] || len(used) > 0 && (i < 4 || i == len(mishaps)-1) {
					continue // two that end a peer would have to agree on whom
				}
				used[i] = true
				m := mishaps[i]
				lasts := time.Duration(r.Int64N(int64(m.lasts)) + 1)
				longest = max(longest, lasts)
				done = append(done, fmt.Sprintf("%v: %s for %v", time.Since(start).Round(time.Second), m.name, lasts.Round(ms)))
				undo = append(undo, m.do(w, nodes, r))
				w.Sleep(time.Duration(r.Int64N(int64(5 * time.Second))))
			}
			w.Sleep(longest)
			for _, u := range slices.Backward(undo) {
				u()
			}
			w.Sleep(15 * time.Second)
			for _, n := range nodes { // one that was out twice within five minutes may be suspect still
				if s := w.Status(n); s.Cluster.Alive+s.Cluster.Suspect != len(nodes) {
					w.Fatalf("seed %d: 15 s after the end of the last of these %s sees %+v, want %d alive or suspect:\n%s", seed, n.Name, s.Cluster, len(nodes), last(done, 6))
				}
			}
			for waited := 15 * time.Second; ; waited += 5 * time.Second {
				least := len(nodes)
				for _, n := range nodes {
					least = min(least, w.Status(n).Cluster.Alive)
				}
				if least == len(nodes) {
					break
				}
				if waited > 6*time.Minute { // more than any relapse costs
					w.Fatalf("seed %d: %v after the end of the last of these one sees %d alive, want %d:\n%s", seed, waited, least, len(nodes), last(done, 6))
				}
				w.Sleep(5 * time.Second)
			}
			w.ForgetEvents()
			w.Sleep(time.Duration(r.Int64N(int64(2 * time.Minute))))
		}
		w.Sleep(5 * time.Minute)
		after, heapAfter := footprint(w)
		w.Logf("seed %d: %d faults in %v; goroutines %d before, %d after; heap %d KiB before, %d KiB after", seed, len(done), lasts, goroutines, after, heap>>10, heapAfter>>10)
		if after > goroutines+goroutines/10 {
			w.Errorf("seed %d: %d goroutines before, %d after", seed, goroutines, after)
		}
		if heapAfter > 2*heap+8<<20 {
			w.Errorf("seed %d: %d KiB before, %d KiB after", seed, heap>>10, heapAfter>>10)
		}
	}, virtual)
}

func last(list []string, n int) (out string) {
	for _, s := range list[max(0, len(list)-n):] {
		out += "  " + s + "\n"
	}
	return out
}

// footprint returns how many goroutines and bytes of heap there are.
func footprint(w *World) (int, uint64) {
	w.ForgetEvents()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}
