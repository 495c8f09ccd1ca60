package cluster_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/testcluster"
)

func forgetAfter(d time.Duration) func(*cluster.Config) {
	return func(c *cluster.Config) { c.ForgetAfter = d }
}

func hostsOf(ps ...*peer) (out []*testcluster.Host) {
	for _, p := range ps {
		out = append(out, p.host)
	}
	return out
}

// Every host loses power, so that no disk has a last write, after a time with no
// event that is longer than ForgetAfter. The data dirs bring the cluster back.
func TestPowerCutAfterQuietTime(t *testing.T) {
	for _, quiet := range []time.Duration{time.Minute, 15 * time.Minute} {
		t.Run("quiet for "+quiet.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var ps []*peer
				disks := make([]*testcluster.MemFS, 3)
				for i := range disks {
					disks[i] = new(testcluster.MemFS)
					ps = append(ps, w.start(fmt.Sprintf("p%02d", i), i, seeds(0), forgetAfter(10*time.Minute), inDir(disks[i])))
				}
				whole := func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 }) }
				w.within(10*time.Second, "all see all", whole)
				time.Sleep(quiet)
				for _, p := range ps {
					p.host.PowerOff()
				}
				for i, p := range ps {
					disks[i].Fail(os.ErrPermission)
					p.Close()
					disks[i].Fail(nil)
				}
				time.Sleep(10 * time.Second)
				for i := range disks {
					ps[i] = w.start(fmt.Sprintf("p%02d", i), i, forgetAfter(10*time.Minute), inDir(disks[i]))
				}
				took := w.within(time.Second, "whole from the data dirs", whole)
				t.Logf("whole after %v", took)
			})
		})
	}
}

// A member is killed after a quiet time and starts again without a seed and
// without a data dir: the others look for it.
func TestKilledAfterQuietTimeIsLookedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(3, forgetAfter(10*time.Minute))
		time.Sleep(15 * time.Minute)
		ps[2].host.Crash()
		ps[2].Close()
		time.Sleep(10 * time.Second)
		w.start("p02", 2, forgetAfter(10*time.Minute))
		took := w.within(3*time.Second, "it is let in again", func() bool {
			return all(ps[:2], func(p *peer) bool { return stateOf(p, "p02") == "alive" })
		})
		t.Logf("let in after %v", took)
	})
}

// A member that is alive behind a partition is forgotten on the other side. After
// the heal it is a member again, everywhere.
func TestForgottenBehindAPartition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(4)
		settle()
		w.net.Cut(hostsOf(ps[:3]...), hostsOf(ps[3]))
		w.within(30*time.Second, "failed", func() bool {
			return all(ps[:3], func(p *peer) bool { return strings.HasPrefix(stateOf(p, "p03"), "failed") })
		})
		if err := ps[0].Forget("p03"); err != nil {
			t.Fatal(err)
		}
		w.within(time.Second, "forgotten by all who see it failed", func() bool {
			return all(ps[:3], func(p *peer) bool { return stateOf(p, "p03") == "" })
		})
		time.Sleep(time.Minute)
		w.net.Heal()
		took := w.within(5*time.Second, "one view everywhere", func() bool {
			return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 4 })
		})
		t.Logf("after %v", took)
	})
}

// holders draws what p shows of a name: who of its instances is eligible.
func holders(p *peer, name string) string {
	var s strings.Builder
	for _, m := range p.View().Lookup(name) {
		fmt.Fprintf(&s, "%s %s/%s eligible=%v; ", m.Addr, m.State, m.Cause, m.Eligible())
	}
	return s.String()
}

// A name is started again elsewhere while its first holder lives on behind a
// partition. After the heal all show both, and the same one is eligible.
func TestNameStartedElsewhereDuringAPartition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(5)
		settle()
		w.net.Cut(append(hostsOf(ps[:3]...), w.net.Host(ip(50))), hostsOf(ps[3:]...))
		w.within(30*time.Second, "failed", func() bool {
			return all(ps[:3], func(p *peer) bool { return strings.HasPrefix(stateOf(p, "p04"), "failed") })
		})
		again := w.start("p04", 50, seeds(0))
		time.Sleep(10 * time.Second)
		w.net.Heal()
		everybody := append(ps[:5:5], again)
		first := fmt.Sprintf("%s alive/conflict eligible=true; ", ps[4].Self().Addr)
		agree := func() bool {
			return all(everybody, func(p *peer) bool {
				s := holders(p, "p04")
				return s == holders(ps[0], "p04") && strings.Contains(s, first) && strings.Count(s, "eligible=true") == 1
			})
		}
		took := w.within(5*time.Second, "one view of the name, and its first holder eligible", agree)
		t.Logf("after %v: %s", took, holders(again, "p04"))
		time.Sleep(10 * time.Minute)
		if !agree() {
			for _, p := range everybody {
				t.Errorf("ten minutes later %s at %s sees %s", p.cfg.Name, p.host.Addr(), holders(p, "p04"))
			}
		}
	})
}

// Join beside Close ends with an outcome for each address, and leaves nothing
// running.
func TestJoinBesideClose(t *testing.T) {
	for range 20 {
		c, err := cluster.Start(cluster.Config{Name: "a", Bind: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for _, o := range c.Join(context.Background(), []string{"127.0.0.1:1", "127.0.0.2:1"}) {
					if o.Err == nil {
						t.Errorf("join %s: nobody is there, and there is no error", o.Addr)
					}
				}
			})
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// tap keeps what one peer writes on the streams that it dials.
type tap struct {
	cluster.Network
	mu      sync.Mutex
	written [][]byte
}

type tapped struct {
	net.Conn
	t *tap
	i int
}

func (t *tap) Dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	c, err := t.Network.Dial(ctx, a)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = append(t.written, nil)
	return tapped{c, t, len(t.written) - 1}, nil
}

func (c tapped) Write(b []byte) (int, error) {
	c.t.mu.Lock()
	c.t.written[c.i] = append(c.t.written[c.i], b...)
	c.t.mu.Unlock()
	return c.Conn.Write(b)
}

// A stranger without the key recorded what a member wrote on its streams, its
// handshakes, its beats and its goodbye, and plays that to everybody. Nothing
// moves.
func TestReplayedStreamsMoveNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		key := func(c *cluster.Config) { c.Keys = [][]byte{[]byte("0123456789abcdef0123456789abcdef")} }
		rec := &tap{}
		var ps []*peer
		for i := range 4 {
			edit := []func(*cluster.Config){key, seeds(0)}
			if i == 1 {
				edit = append(edit, func(c *cluster.Config) { rec.Network, c.Network = c.Network, rec })
			}
			ps = append(ps, w.start(fmt.Sprintf("p%02d", i), i, edit...))
		}
		w.within(10*time.Second, "all see all", func() bool { return all(ps, func(p *peer) bool { return p.View().Count(cluster.Alive) == 4 }) })
		time.Sleep(time.Minute)
		rec.mu.Lock()
		var streams [][]byte
		for _, b := range rec.written {
			if len(b) > 0 && b[0] == 0xE7 { // a watch stream
				streams = append(streams, b)
			}
		}
		rec.mu.Unlock()
		if len(streams) == 0 {
			t.Fatal("no watch stream was seen")
		}
		before := views(ps)
		stranger := w.net.Host(ip(77))
		for i := range 60 {
			victim := ps[[]int{0, 2, 3}[i%3]]
			conn, err := stranger.Dial(t.Context(), netip.AddrPortFrom(victim.host.Addr(), 7946))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(streams[i%len(streams)])
			_, _ = conn.Write([]byte("L"))
			if i%2 == 0 {
				conn.Close()
			} else {
				defer conn.Close()
			}
			for range 20 {
				time.Sleep(10 * time.Millisecond)
				for _, p := range ps {
					if s := stateOf(p, "p01"); s != "alive" {
						t.Fatalf("%s sees p01 %s", p.cfg.Name, s)
					}
				}
			}
		}
		time.Sleep(time.Minute)
		w.unharmed(ps, before, 0, key)
	})
}

// What a stranger makes gossip say of a member is undone by that member within
// seconds, and with a key nobody believes it.
func TestForgedVerdictsAreUndone(t *testing.T) {
	for _, state := range []core.State{core.Suspect, core.Failed, core.Left, core.Forgotten, core.Replaced} {
		t.Run(state.String(), func(t *testing.T) {
			eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
				ps := w.group(4, edit)
				settle()
				a := w.attacker()
				victim := ps[1].Self()
				for _, epoch := range []uint64{1, 1000, 1 << 39} {
					rec := core.Rec{
						ID: core.ID(victim.Instance), Name: victim.Name, Addr: victim.Addr, Epoch: epoch, State: state, Number: 1, WireMin: 2, WireMax: 2,
					}
					for _, p := range ps {
						if p != ps[1] {
							a.send(p, labelled("peer", core.AppendRecs([]byte{wireUser}, core.FrameNews, core.ID(ps[2].Self().Instance), []core.Rec{rec})))
						}
					}
					time.Sleep(50 * time.Millisecond)
					if len(ps[0].cfg.Keys) > 0 && !all(ps, func(p *peer) bool { return stateOf(p, "p01") == "alive" }) {
						t.Fatal("a verdict without the key is believed")
					}
					w.within(5*time.Minute, "it is back", func() bool {
						return all(ps, func(p *peer) bool { return stateOf(p, "p01") == "alive" && p.View().Count(cluster.Alive) == 4 })
					})
				}
			})
		})
	}
}

// Names that leave, as autoscaling makes them, are forgotten in the View and in
// the data dir.
func TestLeftNamesAreForgotten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		disk := new(testcluster.MemFS)
		forget := forgetAfter(time.Minute)
		w.start("b", 1, forget)
		a := w.start("a", 0, forget, seeds(1), inDir(disk))
		for i := range 10 {
			p := w.start(fmt.Sprintf("pod-%d", i), 10+i, forget, seeds(1))
			w.within(5*time.Second, "joined", func() bool { return a.View().Count(cluster.Alive) == 3 })
			_ = p.Leave(t.Context())
			p.Close()
		}
		settle() // what changed is written a moment later
		named := func() int {
			data, err := disk.ReadFile("/data/members.json")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Count(string(data), "pod-")
		}
		if named() == 0 {
			t.Fatal("the data dir never named one that left")
		}
		time.Sleep(15 * time.Minute)
		if n, s := named(), draw(a.View()); n > 0 || strings.Contains(s, "pod-") {
			t.Errorf("with ForgetAfter of a minute, 15 minutes later the data dir names %d of them and the view is %s", n, s)
		}
	})
}

// All others lose power: the last one says that it hears nobody, and never that
// they answer again.
func TestLastOneSaysThatItIsAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var log lines
		ps := w.group(3)
		s := w.start("s", 20, seeds(0), logTo(&log))
		w.within(10*time.Second, "joined", func() bool { return all(ps, func(p *peer) bool { return stateOf(p, "s") == "alive" }) })
		settle()
		for _, p := range ps {
			p.host.PowerOff()
		}
		w.within(3*time.Second, "it knows that it is cut off", func() bool { return s.Stats().CutOff })
		for range 120 {
			time.Sleep(time.Second)
			if !s.Stats().CutOff {
				t.Fatal("it counts itself in touch with somebody")
			}
		}
		if len(log.with("no partner answers")) != 1 {
			t.Errorf("it should say once that no partner answers: %q", log.all)
		}
		if again := log.with("partners answer again"); len(again) > 0 {
			t.Errorf("nobody has answered since, and it says: %q", again)
		}
	})
}
