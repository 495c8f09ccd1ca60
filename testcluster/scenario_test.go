package testcluster_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

type (
	World = testcluster.World
	Node  = testcluster.Node
	Spec  = testcluster.Spec
)

type world func(t *testing.T, scenario func(*World))

// in runs one scenario in several worlds: in virtual time at once, and where
// time is real beside the others, when all that is virtual is done.
func in(t *testing.T, scenario func(*World), worlds map[string]world) {
	if run, ok := worlds["virtual"]; ok {
		t.Run("virtual", func(t *testing.T) { run(t, scenario) })
	}
	for _, name := range []string{"loopback", "namespaces"} {
		if _, ok := worlds[name]; ok {
			t.Parallel()
			break
		}
	}
	for _, name := range []string{"loopback", "namespaces"} {
		if run, ok := worlds[name]; ok {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, scenario)
			})
		}
	}
}

var (
	virtual = map[string]world{"virtual": testcluster.Virtual}
	both    = map[string]world{"virtual": testcluster.Virtual, "loopback": testcluster.Loopback}
	// hosts: worlds in which a host can lose its power or its cable.
	hosts = map[string]world{"virtual": testcluster.Virtual, "namespaces": testcluster.Namespaces}
	all   = map[string]world{"virtual": testcluster.Virtual, "loopback": testcluster.Loopback, "namespaces": testcluster.Namespaces}
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Where time is real a test sleeps more than it works.
	if p := flag.Lookup("test.parallel").Value; p.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		p.Set("8")
	}
	code := m.Run()
	testcluster.RemoveBinary()
	os.Exit(code)
}

const (
	// crashBar is how long a killed peer may be handed out: in virtual time a
	// few hops, and 50 ms where processes take their time.
	crashBar = 50 * ms
	// silenceBar is how long a silent one may be.
	silenceBar = 2 * time.Second
	// returnBar is how long after its first byte it may be held back.
	returnBar = 50 * ms
)

// gone is how long it may take until a peer that has gone without a word is
// failed everywhere: memberlist's own time, and some probes that were late.
func gone(n int) time.Duration { return testcluster.Detection(n) + 5*time.Second }

func TestJoinIsSeenByAll(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(3)
		w.Whole(nodes, 2*time.Second)
		start := time.Now()
		late := w.Start(Spec{Name: "late", Join: []string{nodes[1].Addr()}, Tags: map[string]string{"zone": "b"}})
		took := w.Told(start, nodes, "joined", "late", time.Second)
		w.Logf("a peer that joined was seen by all after %v", took)
		nodes = append(nodes, late)
		w.Whole(nodes, time.Second)
		for _, n := range nodes {
			w.Eventually(time.Second, "its tags are known", func() error {
				all, err := w.Members(n)
				if err != nil {
					return err
				}
				if all["late"].Tags["zone"] != "b" {
					return fmt.Errorf("%s sees tags %v", n.Name, all["late"].Tags)
				}
				return nil
			})
			w.Rotation(n, nodes)
		}
		for _, n := range nodes {
			if s := w.Status(n); !s.Verdict.OK || s.Cluster.Size != 4 || s.Node.State != "alive" {
				w.Errorf("status of %s: %+v of %d, %s", n.Name, s.Verdict, s.Cluster.Size, s.Node.State)
			}
		}
		w.Unharmed(start)
	}, both)
}

func TestKilledPeerIsNeverHandedOutAgain(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		victim, rest := nodes[3], testcluster.Without(nodes, nodes[3])
		start := time.Now()
		victim.Kill()
		took := w.Told(start, rest, "failed", victim.Name, crashBar)
		w.Logf("a killed peer was failed everywhere after %v", took)
		for _, n := range rest {
			w.Rotation(n, rest)
			all, err := w.Members(n)
			if m := all[victim.Name]; err != nil || m.State != "failed" || m.Cause != "crashed" || m.Eligible {
				w.Errorf("%s sees %s %s, %s, %v", n.Name, victim.Name, m.State, m.Cause, err)
			}
		}
		w.Unharmed(start, victim)
	}, all)
}

func TestThreeOfTenKilledInOneInstant(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(10)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		dead, rest := nodes[3:6], slices.Concat(nodes[:3], nodes[6:])
		start := time.Now()
		for _, n := range dead {
			n.Kill()
		}
		for _, n := range dead {
			took := w.Told(start, rest, "failed", n.Name, crashBar)
			w.Logf("%s was failed everywhere after %v", n.Name, took)
		}
		for _, n := range rest {
			w.Rotation(n, rest)
		}
		w.Unharmed(start, dead...)
	}, virtual)
}

func TestSilentPeer(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		victim, rest := nodes[1], testcluster.Without(nodes, nodes[1])
		start := time.Now()
		victim.PowerOff()
		out := w.Told(start, rest, "suspect", victim.Name, silenceBar)
		w.Logf("a peer without power was out of rotation everywhere after %v", out)
		for _, n := range rest {
			w.Rotation(n, rest)
		}
		took := w.Told(start, rest, "failed", victim.Name, gone(len(nodes)))
		w.Logf("a peer without power was failed everywhere after %v", took)
		for _, n := range rest {
			w.Rotation(n, rest)
			all, err := w.Members(n)
			if m := all[victim.Name]; err != nil || m.State != "failed" || m.Cause != "unreachable" {
				w.Errorf("%s sees %s %s, %s, %v; want failed, unreachable", n.Name, victim.Name, m.State, m.Cause, err)
			}
		}
		w.Unharmed(start, victim)
	}, hosts)
}

func TestStoppedPeerComesBack(t *testing.T) {
	for _, stop := range []time.Duration{2 * time.Second, 4500 * ms, 30 * time.Second} {
		t.Run(stop.String(), func(t *testing.T) {
			in(t, func(w *World) { stopped(w, stop) }, virtual)
		})
	}
}

func TestStoppedProcessComesBack(t *testing.T) {
	in(t, func(w *World) { stopped(w, 3*time.Second) }, map[string]world{"namespaces": testcluster.Namespaces})
}

// stopped is SIGSTOP for a while, then SIGCONT.
func stopped(w *World, stop time.Duration) {
	nodes := w.StartMany(5)
	w.Whole(nodes, 5*time.Second)
	w.Sleep(3 * time.Second)
	victim, rest := nodes[2], testcluster.Without(nodes, nodes[2])
	start := time.Now()
	victim.Pause()
	out := w.Told(start, rest, "suspect", victim.Name, silenceBar)
	w.Logf("a stopped peer was out of rotation everywhere after %v", out)
	w.Sleep(stop - time.Since(start))
	resumed := time.Now()
	victim.Resume()
	limit := returnBar
	if stop > 5*time.Second {
		limit = 5 * time.Second // it was buried meanwhile
	}
	took := w.Whole(nodes, limit)
	w.Logf("stopped for %v, whole %v after it went on", stop, took)
	w.Sleep(10 * time.Second)
	w.Whole(nodes, 0)
	verdicts := w.Events(start, func(s testcluster.Seen) bool { return s.Event.Type == "failed" })
	if stop < 5*time.Second && len(verdicts) > 0 {
		w.Errorf("stopped for %v: %v", stop, verdicts)
	}
	for _, s := range verdicts {
		if s.By == victim.Name && s.At.After(resumed) {
			w.Errorf("it has called another dead: %v", s)
		}
	}
	w.Unharmed(start, victim)
	for _, n := range rest {
		w.Rotation(n, nodes)
	}
}

func TestGracefulLeave(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(500 * ms)

		leaver, rest := nodes[4], nodes[:4]
		start := time.Now()
		leaver.Stop()
		w.Logf("a polite stop took %v", time.Since(start))
		took := w.Told(start, rest, "left", leaver.Name, 50*ms)
		w.Logf("seen as left everywhere after %v", took)

		// Asked for over HTTP it is no different.
		second, rest2 := rest[3], rest[:3]
		again := time.Now()
		second.Leave()
		// It waits 100 ms, so that the answer gets through.
		w.Told(again, rest2, "left", second.Name, 150*ms)

		w.Sleep(2 * time.Second)
		for _, n := range rest2 {
			w.Rotation(n, rest2)
		}
		w.AllSee(rest2, leaver.Name, "left", 0)
		w.AllSee(rest2, second.Name, "left", 0)
		w.Unharmed(start)

		// Who left may come back.
		back := time.Now()
		leaver.Restart(nil)
		w.Told(back, rest2, "joined", leaver.Name, 2*time.Second)
		w.Whole(append(slices.Clone(rest2), leaver), 2*time.Second)
	}, all)
}

func TestHealedPartition(t *testing.T) {
	cuts := []struct {
		n   int
		cut time.Duration
	}{{8, 10 * time.Second}, {8, time.Minute}, {32, time.Minute}, {8, span(2*time.Hour, 24*time.Hour)}}
	for _, tt := range cuts {
		t.Run(fmt.Sprintf("members=%d,cut=%v", tt.n, tt.cut), func(t *testing.T) {
			in(t, func(w *World) {
				nodes := w.StartMany(tt.n)
				w.Whole(nodes, 5*time.Second)
				w.Sleep(5 * time.Second)
				a, b := nodes[:tt.n/2], nodes[tt.n/2:]
				start := time.Now()
				w.Cut(a, b)
				w.Sleep(tt.cut)
				if tt.cut >= time.Minute {
					// While half of the probes fail a few views may waver.
					doubts := 0
					for _, half := range [][]*Node{a, b} {
						w.Whole(half, 0)
						w.Rotation(half[0], half)
						for _, n := range half {
							doubts += len(w.Events(start, func(s testcluster.Seen) bool {
								return s.By == n.Name && s.At.Sub(start) > 5*time.Second && s.Event.Type != "alive" && slices.ContainsFunc(half, func(n *Node) bool { return s.About(n.Name) })
							}))
						}
					}
					if doubts > tt.n/8 {
						w.Errorf("members doubted others of their own half %d times", doubts)
					}
				}
				w.Heal()
				took := w.Whole(nodes, 3*time.Second)
				w.Logf("%d members cut in halves for %v: whole after %v", tt.n, tt.cut, took)
				start = time.Now()
				w.Sleep(time.Minute)
				w.Whole(nodes, 0)
				w.Unharmed(start)
			}, virtual)
		})
	}
}

// TestHealedCut is the partition with real processes: as short as it can be for
// both sides to have dropped each other.
func TestHealedCut(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(2 * time.Second)
		a, b := nodes[:2], nodes[2:]
		w.Cut(a, b)
		w.Eventually(40*time.Second, "each side has buried the other", func() error {
			for _, n := range nodes {
				if s := w.Status(n); s.Cluster.Failed < 2 {
					return fmt.Errorf("%s counts %d failed", n.Name, s.Cluster.Failed)
				}
			}
			return nil
		})
		w.Rotation(a[0], a)
		w.Rotation(b[0], b)
		w.Heal()
		took := w.Whole(nodes, 3*time.Second)
		w.Logf("five cut in two and three: whole %v after the network was back", took)
	}, hosts)
}

// long says whether the rows that take minutes are wanted too.
func long() bool { return os.Getenv("PEER_TEST_LONG") != "" }

// span returns how much virtual time a scenario gets: short, or all when the
// long rows are wanted, or less than short under the race detector, where an
// hour is as instructive and five times as dear.
func span(short, all time.Duration) time.Duration {
	switch {
	case long():
		return all
	case testcluster.RaceDetector:
		return short / 4
	}
	return short
}

func TestFullRestartWithoutSeeds(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(6)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(2 * time.Second) // the data dirs are written soon after a change
		for _, n := range nodes {
			n.Kill()
		}
		w.Sleep(100 * ms)
		start := time.Now()
		for i, n := range nodes {
			if i%3 == 2 {
				n.Move()
			}
			n.Restart(func(s *Spec) { s.Join = nil })
		}
		took := w.Whole(nodes, time.Second)
		w.Logf("six peers killed and restarted without a seed: whole after %v", took)
		w.Sleep(time.Second)
		w.Whole(nodes, 0)
		w.Unharmed(start)
		for _, n := range nodes {
			w.Rotation(n, nodes)
		}
	}, both)
}

func TestFullRestartStaggered(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(9)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(2 * time.Second)
		for _, n := range nodes {
			n.Kill()
		}
		w.Sleep(time.Hour)
		for i, n := range nodes {
			w.Sleep(7 * time.Second)
			if i%3 == 0 {
				n.Move()
			}
			n.Restart(func(s *Spec) { s.Join = nil })
		}
		took := w.Whole(nodes, 5*time.Second)
		w.Logf("nine peers restarted 7 s apart: whole %v after the last", took)
	}, virtual)
}
