package testcluster_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// place makes hosts for peers that join by a name.
func place(w *World, seed string, names ...string) []*Node {
	var out []*Node
	for _, name := range names {
		out = append(out, w.Place(Spec{Name: name, Join: []string{seed}}))
	}
	return out
}

func startAll(w *World, nodes []*Node) {
	w.Helper()
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			if err := n.TryStart(); err != nil {
				w.Errorf("start %s: %v", n.Name, err)
			}
		})
	}
	wg.Wait()
}

// The name of a headless service stands for all of its peers: each finds itself
// among its seeds.
func TestSeedNameStandsForAll(t *testing.T) {
	in(t, func(w *World) {
		nodes := place(w, "seeds.test:7946", "p0", "p1", "p2", "p3")
		w.Resolve("seeds.test", nodes...)
		startAll(w, nodes)
		w.Logf("whole after %v", w.Whole(nodes, 2*time.Second))
	}, hosts)
}

// Two clusters have grown apart, for the name of their seeds stood for one half
// here and for the other there. When it stands for all they become one.
func TestGrownApart(t *testing.T) {
	in(t, func(w *World) {
		nodes := append(place(w, "ab.test:7946", "p0", "p1"), place(w, "cd.test:7946", "p2", "p3")...)
		// Each of them has another seed beside itself, which answers.
		w.Resolve("ab.test", nodes[:2]...)
		w.Resolve("cd.test", nodes[2:]...)
		startAll(w, nodes)
		w.Whole(nodes[:2], 5*time.Second)
		w.Whole(nodes[2:], 5*time.Second)
		w.Sleep(5 * time.Second)
		w.Resolve("ab.test", nodes...)
		w.Resolve("cd.test", nodes...)
		w.Logf("one %v after the name stood for all", w.Whole(nodes, 35*time.Second))
	}, hosts)
}

// Whoever is the first of three with one name is handed out, the same one in
// every view, and the next one when it has gone.
func TestThreeOfOneName(t *testing.T) {
	in(t, func(w *World) {
		watcher := w.Start(Spec{Name: "watcher"})
		var webs []*Node
		for range 3 {
			webs = append(webs, w.Start(Spec{Name: "web", Join: []string{watcher.Addr()}}))
			w.Sleep(500 * ms)
		}
		agree := func(by, webs []*Node, within time.Duration) {
			w.Helper()
			took := w.Eventually(within, "every view hands out the first", func() error {
				for _, n := range by {
					doc, err := n.Client().Members(w.Context(), membersNamed("web"))
					if err != nil {
						return err
					}
					live := 0
					for _, m := range doc.Members {
						first := m.Addr == webs[0].Addr()
						if m.State == "alive" {
							live++
						}
						if m.Eligible != first || m.State == "alive" && (m.Cause == "conflict") != (len(webs) > 1) {
							return fmt.Errorf("%s at %s sees that at %s %s, %s, eligible %v", n.Name, n.Addr(), m.Addr, m.State, m.Cause, m.Eligible)
						}
					}
					if live != len(webs) {
						return fmt.Errorf("%s at %s sees %d live ones", n.Name, n.Addr(), live)
					}
				}
				return nil
			})
			w.Logf("%d of one name: every view hands out the first after %v", len(webs), took)
		}
		all := append([]*Node{watcher}, webs...)
		agree(all, webs, 3*time.Second)
		for _, n := range webs {
			if s := w.Status(n); s.Verdict.OK || !strings.Contains(s.Verdict.Text+strings.Join(s.Verdict.Reasons, " "), "web") {
				w.Errorf("the one at %s says %+v", n.Addr(), s.Verdict)
			}
		}
		webs[0].Stop()
		agree(append([]*Node{watcher}, webs[1:]...), webs[1:], 3*time.Second)
		webs[1].Kill()
		agree([]*Node{watcher, webs[2]}, webs[2:], 3*time.Second)
		w.Unharmed(time.Now().Add(-time.Hour), webs...)
	}, both)
}

// No peer waits for another that leaves as well.
func TestAllLeaveAtOnce(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		var mu sync.Mutex
		var longest time.Duration
		var wg sync.WaitGroup
		start := time.Now()
		for _, n := range nodes {
			wg.Go(func() {
				n.Stop()
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(start))
			})
		}
		wg.Wait()
		w.Logf("five left at once: the last was gone after %v", longest)
		if limit := w.Limit(time.Second); longest > limit {
			w.Errorf("the last was gone after %v, want %v", longest, limit)
		}
	}, all)
}
