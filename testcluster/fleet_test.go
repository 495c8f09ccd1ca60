package testcluster_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

func TestOneJoinsManySeeIt(t *testing.T) {
	sizes := []int{8, 32}
	if long() {
		sizes = append(sizes, 128)
	}
	for _, n := range sizes {
		t.Run(fmt.Sprintf("members=%d", n), func(t *testing.T) {
			in(t, func(w *World) {
				nodes := w.StartMany(n)
				w.Whole(nodes, 10*time.Second)
				w.Sleep(10 * time.Second)
				start := time.Now()
				w.Start(Spec{Name: "late", Join: []string{nodes[n/2].Addr()}})
				took := w.Told(start, nodes, "joined", "late", time.Second)
				w.Logf("one joined %d: all knew after %v", n, took)
			}, virtual)
		})
	}
}

func TestManyJoinAtOnce(t *testing.T) {
	tests := []struct {
		n      int
		spread time.Duration
	}{{32, 0}, {50, 50 * ms}, {100, 0}}
	for _, tt := range tests {
		if testcluster.RaceDetector && tt.n > 50 {
			t.Logf("%d members are for a run without the race detector", tt.n)
			continue
		}
		t.Run(fmt.Sprintf("members=%d,spread=%v", tt.n, tt.spread), func(t *testing.T) {
			in(t, func(w *World) {
				nodes := []*Node{w.Start(Spec{Name: "seed"})}
				for i := range tt.n {
					nodes = append(nodes, w.Place(Spec{Name: fmt.Sprintf("p%d", i), Join: []string{nodes[0].Addr()}}))
				}
				start := time.Now()
				var wg sync.WaitGroup
				for i, n := range nodes[1:] {
					wg.Go(func() {
						time.Sleep(tt.spread * time.Duration(i) / time.Duration(tt.n))
						if err := n.TryStart(); err != nil {
							w.Errorf("start %s: %v", n.Name, err)
						}
					})
				}
				wg.Wait()
				w.Whole(nodes, 6*time.Second-time.Since(start))
				w.Logf("%d joined within %v: whole after %v", tt.n, tt.spread, time.Since(start))
				w.Unharmed(start)
			}, virtual)
		})
	}
}

func TestSeedsDownAtTheStart(t *testing.T) {
	in(t, func(w *World) {
		seed := w.Place(Spec{Name: "seed"})
		var nodes []*Node
		for i := range 3 {
			nodes = append(nodes, w.Start(Spec{Name: fmt.Sprintf("p%d", i), Join: []string{seed.Addr()}}))
		}
		for _, n := range nodes {
			w.Eventually(5*time.Second, "says that it is alone, and why", func() error {
				s := w.Status(n)
				if s.Node.State != "alive" || s.Cluster.Alive != 1 {
					return fmt.Errorf("%s is %s among %d", n.Name, s.Node.State, s.Cluster.Alive)
				}
				if len(s.Cluster.Seeds) != 1 || s.Cluster.Seeds[0].LastError == "" || s.Cluster.Seeds[0].LastOKAt != nil {
					return fmt.Errorf("%s says of its seeds %+v", n.Name, s.Cluster.Seeds)
				}
				if s.Verdict.OK {
					return fmt.Errorf("%s says %q", n.Name, s.Verdict.Text)
				}
				return nil
			})
			if _, err := n.Client().Raw(w.Context(), "GET", "/readyz", nil, nil); err == nil {
				w.Errorf("%s says that it is ready", n.Name)
			}
			if got := w.Turn(n); got != n.Name {
				w.Errorf("alone, %s hands out %q, want itself", n.Name, got)
			}
		}
		w.Sleep(3 * time.Second)
		start := time.Now()
		if err := seed.TryStart(); err != nil {
			w.Fatal(err)
		}
		nodes = append(nodes, seed)
		took := w.Whole(nodes, 5*time.Second)
		w.Logf("whole %v after the seed had come, at %v", took, time.Since(start))
		for _, n := range nodes[:3] {
			if _, err := n.Client().Raw(w.Context(), "GET", "/readyz", nil, nil); err != nil {
				w.Errorf("%s is not ready: %v", n.Name, err)
			}
		}
	}, both)
}

// TestSeedsDownForLong: a seed that was away for ten minutes is found as fast.
func TestSeedsDownForLong(t *testing.T) {
	in(t, func(w *World) {
		seed := w.Place(Spec{Name: "seed"})
		seed.Host().PowerOff()
		nodes := []*Node{
			w.Start(Spec{Name: "p0", Join: []string{seed.Addr()}}),
			w.Start(Spec{Name: "p1", Join: []string{seed.Addr()}}),
		}
		w.Sleep(10 * time.Minute)
		if err := seed.TryStart(); err != nil {
			w.Fatal(err)
		}
		took := w.Whole(append(nodes, seed), 5*time.Second)
		w.Logf("whole %v after a seed had come that was dark for 10 min", took)
	}, virtual)
}

func TestSameNameOnANewAddress(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(2 * time.Second)
		n, rest := nodes[3], testcluster.Without(nodes, nodes[3])
		n.Kill()
		n.Move()
		start := time.Now()
		n.Restart(nil)
		w.Eventually(400*ms, "all see it at its new address", func() error {
			for _, by := range rest {
				all, err := w.Members(by)
				if err != nil {
					return err
				}
				if m := all[n.Name]; m.State != "alive" || m.Addr != n.Addr() || !m.Eligible {
					return fmt.Errorf("%s sees %s %s at %s", by.Name, n.Name, m.State, m.Addr)
				}
			}
			return nil
		})
		w.Logf("back under its name at a new address after %v", time.Since(start))
		w.Sleep(20 * time.Second) // its predecessor would be dead by now
		w.Whole(nodes, 0)
		w.Unharmed(start, n)
		instance := w.Status(n).Node.Instance
		for _, by := range rest {
			for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.By == by.Name && s.About(n.Name) }) {
				if s.Event.Member.Instance == instance && s.Event.Type != "joined" && s.Event.Type != "updated" {
					w.Errorf("its new start flapped: %v", s)
				}
			}
		}
	}, virtual)
}

func TestTwoLivePeersWithOneName(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(3)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(2 * time.Second)
		start := time.Now()
		twin := w.Start(Spec{Name: "p1", Join: []string{nodes[0].Addr()}})
		for _, by := range append(slices.Clone(nodes), twin) {
			w.Eventually(3*time.Second, "both are shown in conflict, the first handed out", func() error {
				doc, err := by.Client().Members(w.Context(), membersNamed("p1"))
				if err != nil {
					return err
				}
				if len(doc.Members) != 2 {
					return fmt.Errorf("%s shows %d of them", by.Name, len(doc.Members))
				}
				for _, m := range doc.Members {
					if m.State != "alive" || m.Cause != "conflict" || m.Eligible != (m.Addr == nodes[1].Addr()) {
						return fmt.Errorf("%s (%s) shows %s at %s: %s, eligible %v", by.Name, by.Addr(), m.Name, m.Addr, m.Cause, m.Eligible)
					}
				}
				return nil
			})
		}
		w.Logf("two live peers with one name: shown after %v", time.Since(start))
		w.Sleep(time.Minute)
		for _, n := range []*Node{nodes[1], twin} {
			if s := w.Status(n); s.Verdict.OK || s.Node.State != "alive" {
				w.Errorf("%s at %s: %+v, %s", n.Name, n.Addr(), s.Verdict, s.Node.State)
			}
		}
		w.Unharmed(start)

		// With the second gone the first stands alone again.
		twin.Stop()
		w.Eventually(5*time.Second, "the conflict is over", func() error {
			for _, by := range nodes {
				all, err := w.Members(by)
				if err != nil {
					return err
				}
				if m := all["p1"]; m.Cause != "" || m.Addr != nodes[1].Addr() {
					return fmt.Errorf("%s sees %s, %s at %s", by.Name, m.State, m.Cause, m.Addr)
				}
			}
			return nil
		})
	}, virtual)
}

func TestRollingRestart(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(6)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		start := time.Now()
		for i, n := range nodes {
			ask := nodes[(i+1)%len(nodes)]
			others := testcluster.Without(nodes, n)
			n.Stop()
			w.Never(3*time.Second, "turns while it is away", func() error {
				switch got := w.Turn(ask); got {
				case "":
					return fmt.Errorf("%s had nobody to hand out", ask.Name)
				case n.Name:
					return fmt.Errorf("%s handed out %s, which has left", ask.Name, n.Name)
				}
				return nil
			})
			n.Restart(nil)
			w.Whole(append(others, n), 3*time.Second)
		}
		w.Unharmed(start)
	}, virtual)
}

func TestOneHostsClockIsWrong(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			in(t, func(w *World) {
				nodes := w.StartMany(4)
				wrong := w.Start(Spec{Name: "wrong", Join: []string{nodes[0].Addr()}, ClockOffset: off})
				nodes = append(nodes, wrong)
				w.Whole(nodes, 5*time.Second)
				start := time.Now()
				w.Sleep(10 * time.Minute)
				w.Whole(nodes, 0)
				w.Unharmed(start)
				for _, n := range nodes {
					all, err := w.Members(n)
					if err != nil {
						w.Fatal(err)
					}
					for name, m := range all {
						if m.HeartbeatAgeMS < 0 || m.HeartbeatAgeMS > 20_000 {
							w.Errorf("%s: heartbeat of %s is %d ms old", n.Name, name, m.HeartbeatAgeMS)
						}
					}
				}

				// It dies and comes back with the clock set right, which may
				// lie behind its last start.
				down := time.Now()
				wrong.Kill()
				w.Told(down, nodes[:4], "failed", "wrong", gone(5))
				wrong.Restart(func(s *Spec) { s.ClockOffset = 0 })
				w.Whole(nodes, 2*time.Second)

				down = time.Now()
				nodes[2].PowerOff()
				took := w.Told(down, testcluster.Without(nodes, nodes[2]), "failed", "p2", gone(5))
				w.Logf("with a clock off by %v a dead peer was found after %v", off, took)
			}, virtual)
		})
	}
}
