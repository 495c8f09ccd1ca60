package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// world is a simulated network with peers p1, p2, … on it, each on a host of
// its own. It lives in a synctest bubble.
type world struct {
	t     *testing.T
	net   *testcluster.Net
	peers map[string]*peer
}

type peer struct {
	*cluster.Cluster
	host *testcluster.Host
	cfg  cluster.Config

	mu  sync.Mutex
	log []cluster.Event
}

func (p *peer) note(e cluster.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, e)
}

func (p *peer) events() []cluster.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// inWorld runs f in a bubble and then lets memberlist's last probes end.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	testcluster.Bubble(t, func(t *testing.T) {
		w := &world{t: t, net: testcluster.NewNet(1, testcluster.Link{Latency: time.Millisecond}), peers: map[string]*peer{}}
		defer func() {
			for _, p := range w.peers {
				p.Close()
			}
			time.Sleep(2 * time.Minute)
		}()
		f(t, w)
	})
}

func ip(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250+1) }

// start starts name at ip(i), changed by edits.
func (w *world) start(name string, i int, edit ...func(*cluster.Config)) *peer {
	w.t.Helper()
	host := w.net.Host(ip(i))
	host.Restart()
	p := &peer{host: host}
	p.cfg = cluster.Config{
		Name: name, Bind: host.Addr().String() + ":7946", Insecure: true, Network: host, Version: "1.2.3",
		OnEvent: func(e cluster.Event, _ *cluster.View) { p.note(e) },
	}
	if os.Getenv("PEER_TEST_LOG") != "" {
		p.cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Debug, Output: os.Stderr})
	}
	for _, f := range edit {
		f(&p.cfg)
	}
	c, err := cluster.Start(p.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	p.Cluster = c
	w.peers[name+"@"+host.Addr().String()] = p
	return p
}

func seeds(i ...int) func(*cluster.Config) {
	return func(c *cluster.Config) {
		for _, i := range i {
			c.Seeds = append(c.Seeds, ip(i))
		}
	}
}

// group starts n peers that join by the first and waits until each sees all.
func (w *world) group(n int, edit ...func(*cluster.Config)) []*peer {
	w.t.Helper()
	var ps []*peer
	for i := range n {
		ps = append(ps, w.start(fmt.Sprintf("p%02d", i), i, append(edit, seeds(0))...))
	}
	w.within(10*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == n }) })
	return ps
}

func all(ps []*peer, f func(*peer) bool) bool {
	return !slices.ContainsFunc(ps, func(p *peer) bool { return !f(p) })
}

// within fails unless f holds before d has passed; it returns how long it took.
func (w *world) within(d time.Duration, what string, f func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > d {
			for _, name := range slices.Sorted(maps.Keys(w.peers)) {
				if p := w.peers[name]; len(w.peers) <= 40 {
					w.t.Logf("%s sees %s", p.cfg.Name, draw(p.View()))
				}
			}
			w.t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

// draw shows a view in one line: "p00 alive, p01 failed/crashed".
func draw(v *cluster.View) string {
	var out []string
	for _, m := range v.Members {
		s := m.Name + " " + string(m.State)
		if m.Cause != "" {
			s += "/" + string(m.Cause)
		}
		if m.Shadowed {
			s += " shadowed"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func stateOf(p *peer, name string) string {
	var out []string
	for _, m := range p.View().Lookup(name) {
		s := string(m.State)
		if m.Cause != "" {
			s += "/" + string(m.Cause)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestJoin(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(8)
		start := time.Now()
		p := w.start("late", 20, seeds(0), func(c *cluster.Config) { c.Tags = map[string]string{"zone": "a"} })
		took := w.within(time.Second, "everybody knows the newcomer", func() bool {
			return all(ps, func(o *peer) bool { return stateOf(o, "late") == "alive" }) && p.View().Count(cluster.Alive) == 9
		})
		t.Logf("join seen by all after %v", took)
		w.within(time.Second, "everybody knows its tags", func() bool {
			return all(ps, func(o *peer) bool { return o.View().Lookup("late")[0].Tags["zone"] == "a" })
		})
		_ = start
	})
}

func TestCrashIsAVerdict(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		ps[4].host.Crash()
		took := w.within(20*time.Second, "everybody calls it failed", func() bool {
			return all(ps[:4], func(o *peer) bool { return strings.HasPrefix(stateOf(o, "p04"), "failed") })
		})
		t.Logf("failed everywhere after %v", took)
		for _, o := range ps[:4] {
			for _, e := range o.events() {
				if e.Member.Name != "p04" && (e.Type == cluster.Fell || e.Type == cluster.Overdue) {
					t.Errorf("%s called %s %s", o.cfg.Name, e.Member.Name, e.Type)
				}
			}
		}
	})
}

func TestLeaveIsToldFromFailure(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		go ps[4].Leave(ctx)
		took := w.within(50*time.Millisecond, "everybody shows it as left", func() bool {
			return all(ps[:4], func(o *peer) bool { return stateOf(o, "p04") == "left/left" })
		})
		t.Logf("left everywhere after %v", took)
		time.Sleep(3 * time.Second)
		ps[4].Close()
		time.Sleep(time.Minute)
		for _, o := range ps[:4] {
			if got := stateOf(o, "p04"); got != "left/left" {
				t.Errorf("%s: got %q a minute later, want left", o.cfg.Name, got)
			}
		}
	})
}

func TestHeartbeatAges(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10)
		var worst time.Duration
		for range 120 {
			time.Sleep(time.Second)
			for _, p := range ps {
				worst = max(worst, p.Stats().HeartbeatMax)
			}
		}
		t.Logf("oldest heartbeat among ten in two minutes: %v", worst)
		if limit := ps[0].Stats().HeartbeatLimit; worst > limit {
			t.Errorf("oldest heartbeat %v, want below the limit %v", worst, limit)
		}
	})
}

func TestRestartSupersedes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		old := ps[4].Self().Instance
		ps[4].host.Crash()
		ps[4].Close()
		again := w.start("p04", 4, seeds(0))
		took := w.within(400*time.Millisecond, "everybody sees the new start alone", func() bool {
			return all(ps[:4], func(o *peer) bool {
				ms := o.View().Lookup("p04")
				return len(ms) == 1 && ms[0].Instance == again.Self().Instance && ms[0].Eligible()
			})
		})
		t.Logf("after %v", took)
		time.Sleep(time.Minute)
		for _, o := range append(ps[:4:4], again) {
			if ms := o.View().Lookup("p04"); len(ms) != 1 || ms[0].Instance == old || !ms[0].Eligible() {
				t.Errorf("%s a minute later: %s", o.cfg.Name, draw(o.View()))
			}
		}
	})
}

// A host without a data dir, whose clock was set back while it was down, starts
// as what looks like the past.
func TestRestartAfterTheClockWasSetBack(t *testing.T) {
	for _, down := range []time.Duration{0, time.Minute} {
		t.Run(down.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(5)
				settle()
				old := ps[4]
				old.host.Crash()
				old.Close()
				time.Sleep(down)
				back := w.start("p04", 4, seeds(0), func(c *cluster.Config) {
					c.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
				})
				took := w.within(2*time.Second, "all see its new start", func() bool {
					return all(ps[:4], func(o *peer) bool {
						ms := o.View().Lookup("p04")
						return len(ms) == 1 && ms[0].State == cluster.Alive && ms[0].Instance == back.Self().Instance && ms[0].Eligible()
					})
				})
				t.Logf("its new start is seen by all after %v", took)
				time.Sleep(2 * time.Minute)
				if n := back.View().Count(cluster.Alive); n != 5 {
					t.Errorf("it sees %d alive", n)
				}
				for _, o := range ps[:4] {
					if s := stateOf(o, "p04"); s != "alive" {
						t.Errorf("%s sees it %s", o.cfg.Name, s)
					}
				}
			})
		})
	}
}

func TestNewAddressSameName(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		ps[4].host.Crash()
		ps[4].Close()
		again := w.start("p04", 30, seeds(0))
		took := w.within(500*time.Millisecond, "everybody sees it at its new address", func() bool {
			return all(append(ps[:4:4], again), func(o *peer) bool {
				ms := o.View().Lookup("p04")
				return len(ms) == 1 && ms[0].Addr == again.Self().Addr && ms[0].Eligible()
			})
		})
		t.Logf("after %v", took)
	})
}

func TestConflict(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		twin := w.start("p04", 30, seeds(0))
		everybody := append(ps[:5:5], twin)
		w.within(2*time.Second, "everybody shows both in conflict", func() bool {
			return all(everybody, func(o *peer) bool { return stateOf(o, "p04") == "alive/conflict alive/conflict" })
		})
		for _, o := range everybody {
			ms := o.View().Lookup("p04")
			if !ms[0].Eligible() || ms[1].Eligible() || ms[0].Instance != ps[4].Self().Instance {
				t.Errorf("%s: want the first eligible and the second not: %+v", o.cfg.Name, ms)
			}
		}
		twin.Close()
		w.within(30*time.Second, "the conflict ends", func() bool {
			return all(ps, func(o *peer) bool { return stateOf(o, "p04") == "alive" })
		})
	})
}

func TestHealedPartition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(6)
		var a, b []*testcluster.Host
		for i, p := range ps {
			if i < 3 {
				a = append(a, p.host)
			} else {
				b = append(b, p.host)
			}
		}
		for _, cut := range []time.Duration{time.Minute, 61 * time.Minute} {
			w.net.Cut(a, b)
			time.Sleep(cut)
			for _, p := range ps {
				if n := p.View().Count(cluster.Alive); n != 3 {
					t.Fatalf("%s sees %d alive in its half, want 3", p.cfg.Name, n)
				}
			}
			w.net.Heal()
			took := w.within(3*time.Second, "whole again", func() bool {
				return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 6 })
			})
			t.Logf("cut for %v, whole after %v", cut, took)
		}
	})
}

func TestFullRestartWithoutSeeds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var ps []*peer
		dirs := make([]string, 6)
		for i := range dirs {
			dirs[i] = t.TempDir()
			ps = append(ps, w.start(fmt.Sprintf("p%02d", i), i, seeds(0), func(c *cluster.Config) { c.DataDir = dirs[i] }))
		}
		w.within(10*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 6 }) })
		time.Sleep(3 * time.Second)
		for _, p := range ps {
			p.host.Crash()
			p.Close()
		}
		time.Sleep(time.Minute)
		ps = ps[:0]
		for i := range dirs {
			at := i
			if i%3 == 0 {
				at = i + 40
			}
			ps = append(ps, w.start(fmt.Sprintf("p%02d", i), at, func(c *cluster.Config) { c.DataDir = dirs[i] }))
		}
		took := w.within(time.Second, "whole from the data dirs", func() bool {
			return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 6 })
		})
		t.Logf("whole after %v", took)
	})
}

func TestLateSeed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.start("p1", 1, seeds(0))
		time.Sleep(40 * time.Second)
		st := p.Stats()
		if st.Joined || st.Seeds[0].Err == nil {
			t.Fatalf("a seed that is down: joined %v, error %v", st.Joined, st.Seeds[0].Err)
		}
		q := w.start("p0", 0)
		// A dial of up to 2 s that came too early, and a pause of up to 2.5 s.
		w.within(5*time.Second, "whole", func() bool {
			return p.View().Count(cluster.Alive) == 2 && q.View().Count(cluster.Alive) == 2
		})
	})
}

func TestForget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(3)
		if err := ps[0].Forget("nobody"); err != cluster.ErrUnknown {
			t.Errorf("unknown: got %v", err)
		}
		if err := ps[0].Forget("p01"); err != cluster.ErrLiving {
			t.Errorf("living: got %v", err)
		}
		ps[2].host.Crash()
		w.within(20*time.Second, "failed", func() bool { return strings.HasPrefix(stateOf(ps[0], "p02"), "failed") })
		if err := ps[0].Forget("p02"); err != nil {
			t.Errorf("failed: got %v", err)
		}
		if s := stateOf(ps[0], "p02"); s != "" {
			t.Errorf("forgotten: got %q", s)
		}
	})
}

func TestEventsAreInOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(8)
		ps[7].host.Crash()
		time.Sleep(30 * time.Second)
		for i, e := range ps[0].events() {
			if first := ps[0].events()[0].Seq; e.Seq != first+uint64(i) {
				t.Fatalf("event %d has sequence number %d, and the first %d", i+1, e.Seq, first)
			}
		}
		last := ps[0].events()[len(ps[0].events())-1].Seq
		if got := ps[0].View().Index; got != last {
			t.Errorf("index %d after event %d", got, last)
		}
		before := ps[7].View().Index
		ps[7].Close()
		if got := w.start("p07", 7, seeds(0)).View().Index; got <= before {
			t.Errorf("a later start begins with index %d, the one before ended with %d", got, before)
		}
	})
}
