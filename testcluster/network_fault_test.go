package testcluster_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

func membersNamed(name string) api.MembersQuery { return api.MembersQuery{Name: name} }

func TestOneWayDrop(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(6)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		start := time.Now()
		w.CutOneWay(nodes[1:2], nodes[4:5])
		if w.Name == "virtual" {
			w.Sleep(5 * time.Minute)
		} else {
			w.Sleep(20 * time.Second)
		}
		failed := w.Events(start, func(s testcluster.Seen) bool { return s.Event.Type == "failed" })
		if len(failed) > 0 {
			w.Errorf("what one loses on the way to another made %d verdicts, first %v", len(failed), failed[0])
		}
		w.Unharmed(start, nodes[1], nodes[4])
		w.Heal()
		w.Whole(nodes, 3*time.Second)
	}, hosts)
}

// TestLossyNetwork: bare memberlist calls 1 to 3 of 32 failed at 20 % loss on
// this network, in ten minutes.
func TestLossyNetwork(t *testing.T) {
	for _, tt := range []struct {
		loss float64
		most int // members called failed
	}{{0.10, 0}, {0.20, 2}} {
		t.Run(fmt.Sprintf("loss=%v", tt.loss), func(t *testing.T) {
			in(t, func(w *World) {
				if failed := lossy(w, tt.loss); failed > tt.most {
					w.Errorf("%v %% loss: %d of 32 were called failed, want at most %d", 100*tt.loss, failed, tt.most)
				}
			}, virtual)
		})
	}
}

// lossy returns how many of 32 were called failed in ten minutes.
func lossy(w *World, loss float64) int {
	nodes := w.StartMany(32)
	w.Whole(nodes, 10*time.Second)
	w.Sleep(5 * time.Second)
	start := time.Now()
	link := testcluster.Wire
	link.Loss = loss
	w.Net().SetDefault(link)
	during := span(10*time.Minute, 10*time.Minute)
	w.Sleep(during)
	victims := map[string]int{} // by how many
	for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.Event.Type == "failed" }) {
		victims[s.Event.Member.Name]++
	}
	doubts := w.Events(start, func(s testcluster.Seen) bool { return s.Event.Type == "suspect" })
	w.Logf("%v %% loss for %v: %d failed %v, %d single views of a suspect", 100*loss, during, len(victims), victims, len(doubts))
	w.Net().SetDefault(testcluster.Wire)
	w.Whole(nodes, 10*time.Second)
	return len(victims)
}

// TestStreamsCut: every stream between peers is killed, again and again.
func TestStreamsCut(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(8)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		start := time.Now()
		for range 50 {
			for _, n := range nodes {
				n.Host().ResetStreams()
			}
			w.Sleep(500 * ms)
		}
		w.Sleep(30 * time.Second)
		changes := w.Events(start, func(s testcluster.Seen) bool { return s.Event.Member != nil })
		if len(changes) > 0 {
			w.Errorf("cut streams made %d changes of view, first %v", len(changes), changes[0])
		}
		w.Whole(nodes, 0)
	}, virtual)
}

// TestRejectingFirewallBetweenAPair may change that pair's own views only.
func TestRejectingFirewallBetweenAPair(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(8)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		start := time.Now()
		a, b := nodes[2], nodes[5]
		wall := testcluster.Wire
		wall.Refuse = true
		w.Net().SetLink(a.Host(), b.Host(), wall)
		w.Net().SetLink(b.Host(), a.Host(), wall)
		a.Host().ResetStreams()
		w.Sleep(2 * time.Minute)
		for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.Event.Member != nil }) {
			if s.By != a.Name && s.By != b.Name || !s.About(a.Name) && !s.About(b.Name) {
				w.Errorf("a firewall between %s and %s: %v", a.Name, b.Name, s)
			}
		}
		w.Heal()
		w.Whole(nodes, 5*time.Second)
	}, virtual)
}

func TestUDPBlocked(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(5)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		start := time.Now()
		w.BlockUDP()
		if w.Name == "virtual" {
			w.Sleep(5 * time.Minute)
		} else {
			w.Sleep(15 * time.Second)
		}
		w.Unharmed(start)
		w.Whole(nodes, 0)
		w.Eventually(0, "all say that UDP is blocked", func() error {
			for _, n := range nodes {
				s := w.Status(n)
				said := append(s.Verdict.Reasons, s.Verdict.Text)
				for _, warning := range s.Warnings {
					said = append(said, warning.Text)
				}
				if !strings.Contains(strings.Join(said, "\n"), "UDP") {
					return fmt.Errorf("%s says %+v %+v", n.Name, s.Verdict, s.Warnings)
				}
			}
			return nil
		})
		w.Heal()
		w.Whole(nodes, 3*time.Second)
	}, hosts)
}

// TestSlowQuarter is the Lifeguard paper's experiment: a quarter of the members
// blocks for 12 s, runs for 50 ms, and so on.
func TestSlowQuarter(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(32)
		w.Whole(nodes, 10*time.Second)
		w.Sleep(10 * time.Second)
		slow, healthy := nodes[24:], nodes[:24]
		during := span(time.Minute, 3*time.Minute)
		start := time.Now()
		for time.Since(start) < during {
			for _, n := range slow {
				n.Pause()
			}
			w.Sleep(12 * time.Second)
			for _, n := range slow {
				n.Resume()
			}
			w.Sleep(50 * ms)
		}
		// What the slow ones themselves think of others is not counted: a
		// process that is really stopped has no timers that run meanwhile. A
		// verdict that several see within a few seconds is one.
		names := testcluster.Names(healthy)
		last := map[string]time.Time{}
		own := 0
		verdicts := w.Events(start, func(s testcluster.Seen) bool {
			if s.Event.Type != "failed" || !slices.Contains(names, s.Event.Member.Name) {
				return false
			}
			if !slices.Contains(names, s.By) {
				own++
				return false
			}
			again := s.At.Sub(last[s.Event.Member.Name]) < 10*time.Second
			last[s.Event.Member.Name] = s.At
			return !again
		})
		w.Logf("a quarter of 32 slow for %v: %d verdicts on healthy peers, %d own views of slow ones", during, len(verdicts), own)
		if len(verdicts) > 5 {
			w.Errorf("%d verdicts on healthy peers, want at most 5; first %v", len(verdicts), verdicts[0])
		}
		// A slow one was out more than once: it comes back when all was well for 30 s.
		w.Whole(nodes, 45*time.Second)
	}, virtual)
}

// forgedAlive is memberlist's "alive" message (type 4) in MessagePack, without
// the version vector: it makes a member of protocol 0, with which nobody can
// talk, and which an unprotected memberlist never forgets.
func forgedAlive(name string) []byte {
	b := []byte{4, 0x84}
	str := func(s string) { b = append(append(b, 0xa0|byte(len(s))), s...) }
	str("Incarnation")
	b = append(b, 1)
	str("Node")
	str(name)
	str("Addr")
	b = append(b, 0xa4, 10, 0, 0, 99)
	str("Port")
	b = append(b, 0xcd, 0x1f, 0x0a)
	return b
}

// labelled puts memberlist's label header before a packet.
func labelled(label string, b []byte) []byte {
	return append(append([]byte{244, byte(len(label))}, label...), b...)
}

func TestForgedAndGarbage(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(3)
		w.Whole(nodes, 5*time.Second)
		start := time.Now()
		evil := w.Intruder()
		p, err := evil.ListenPacket(netip.AddrPortFrom(evil.Addr(), 7946))
		if err != nil {
			w.Fatal(err)
		}
		defer p.Close()
		twin := "p1#" + "0000000000000001"
		for i, n := range nodes {
			to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(n.Addr()))
			for _, b := range [][]byte{
				forgedAlive("mallory"), forgedAlive(twin), forgedAlive("mallory#00000000000000ff"),
				{},
				{0},
				{4},
				{244},
				{255},
				{10},
				[]byte(strings.Repeat("\xff", 1400)), []byte("GET / HTTP/1.1\r\n\r\n"),
			} {
				for _, packet := range [][]byte{b, labelled("peer", b)} {
					if _, err := p.WriteTo(packet, to); err != nil {
						w.Fatal(err)
					}
				}
			}
			for _, b := range []string{"", "\xff", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\x00", 4096), "\xe7\x01garbage", "\xf4\x04peer\x06\xff\xff"} {
				c, err := evil.DialContext(w.Context(), "tcp", n.Addr())
				if err != nil {
					w.Fatal(err)
				}
				c.Write([]byte(b))
				if i%2 == 0 {
					c.Close()
				} else {
					defer c.Close() // and one that says nothing more
				}
			}
		}
		w.Sleep(time.Minute)
		w.Whole(nodes, 0)
		for _, n := range nodes {
			if size := w.Status(n).Cluster.Size; size != 3 {
				w.Errorf("%s counts %d members, want 3", n.Name, size)
			}
		}
		w.Unharmed(start)
		late := w.Start(Spec{Name: "late", Join: []string{nodes[0].Addr()}})
		w.Whole(append(nodes, late), 3*time.Second)
	}, virtual)
}
