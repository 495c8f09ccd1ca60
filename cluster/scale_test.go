package cluster_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

func long() bool { return os.Getenv("PEER_TEST_LONG") != "" }

// TestScale lives through a cluster's life at growing sizes, on links of 1 ms,
// where every time is exact. 512 and 1,000 members, which are not cut in halves,
// take minutes of real time and some gigabytes, and run on demand:
//
//	PEER_TEST_LONG=1 go test -run TestScale -v -timeout 2h ./cluster
func TestScale(t *testing.T) {
	sizes := []int{8, 32, 128}
	switch {
	case long():
		sizes = append(sizes, 512, 1000)
	case testcluster.RaceDetector:
		sizes = sizes[:2]
		t.Log("128 members are for a run without the race detector")
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) { inWorld(t, func(t *testing.T, w *world) { scale(t, w, n) }) })
	}
}

// idleBytes a second may a peer send, whatever the size. The headers of the watch
// streams' bytes come on top, some 750 bytes a second at any size, and both
// together stay within 2 KB.
const idleBytes = 1200

// idle measures what the peers send while nothing happens.
func idle(t *testing.T, ps []*peer) {
	sent := func() (sum uint64) {
		for _, p := range ps {
			c := p.host.Counters()
			sum += c.PacketBytes + 28*c.Packets + c.StreamBytes
		}
		return sum
	}
	time.Sleep(time.Minute) // what a start has to repeat is over
	before := sent()
	const lasts = 3 * time.Minute
	time.Sleep(lasts)
	rate := float64(sent()-before) / lasts.Seconds() / float64(len(ps))
	t.Logf("idle, each sends %.0f bytes a second", rate)
	if rate > idleBytes {
		t.Errorf("idle, each sends %.0f bytes a second, want at most %d", rate, idleBytes)
	}
}

func scale(t *testing.T, w *world, n int) {
	wide := time.Duration(max(1, n/128)) // beyond 128 gossip carries what no stream does
	var ps []*peer
	for i := range n {
		ps = append(ps, w.start(fmt.Sprintf("p%03d", i), i, seeds(0)))
	}
	took := w.within(wide*5*time.Second, "all see all", func() bool {
		return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == n })
	})
	t.Logf("%d started at once: all saw all after %v", n, took)
	time.Sleep(15 * time.Second)
	if n <= 32 || long() {
		idle(t, ps)
	}

	ps = append(ps, w.start("late", n, seeds(n/2)))
	unaware := func() (some int) {
		for _, o := range ps {
			if stateOf(o, "late") != "alive" {
				some++
			}
		}
		return some
	}
	limit, passed := 100*time.Millisecond, 0
	if n > 17 { // more than a newcomer talks to at once: gossip brings it to the others
		limit, passed = wide*time.Second, 1
	}
	took = w.within(limit, "everybody but one at most knows the newcomer", func() bool { return unaware() <= passed })
	// Whom gossip passes by hears of it from the next few acks.
	took += w.within(10*time.Second, "everybody knows the newcomer", func() bool { return unaware() == 0 })
	t.Logf("one joined: all saw it after %v", took)
	settle()

	// lose takes the victim away, and returns when the first and when the last of
	// the others had it out of rotation.
	lose := func(victim int, limit time.Duration, how func(*testcluster.Host)) (first, last time.Duration) {
		v := ps[victim]
		ps = slices.Delete(ps, victim, victim+1)
		how(v.host)
		start := time.Now()
		out := func(o *peer) bool { return gone(o, v.cfg.Name) }
		w.within(limit, "somebody has it out of rotation", func() bool { return slices.ContainsFunc(ps, out) })
		first = time.Since(start)
		w.within(limit-first, "everybody has it out of rotation", func() bool { return all(ps, out) })
		return first, time.Since(start)
	}
	first, last := lose(n/3, 100*time.Millisecond, (*testcluster.Host).Crash)
	t.Logf("one killed: out of the first view after %v, of every view after %v", first, last)
	settle()
	first, last = lose(2*n/3, 2*time.Second, (*testcluster.Host).PowerOff)
	t.Logf("one silent: out of the first view after %v, of every view after %v", first, last)
	time.Sleep(30 * time.Second)
	if b := blamed(ps, fmt.Sprintf("p%03d", n/3), fmt.Sprintf("p%03d", 2*n/3), fmt.Sprintf("p%03d", 2*n/3+1)); len(b) > 0 {
		t.Errorf("%d views changed for no reason, the first: %s", len(b), b[0])
	}
	if n > 128 {
		return
	}

	var a, b []*testcluster.Host
	for i, p := range ps {
		if i%2 == 0 {
			a = append(a, p.host)
		} else {
			b = append(b, p.host)
		}
	}
	w.net.Cut(a, b)
	time.Sleep(time.Minute)
	w.net.Heal()
	took = w.within(wide*3*time.Second, "whole again", func() bool {
		return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == len(ps) })
	})
	t.Logf("cut in halves for a minute: whole %v after", took)
}
