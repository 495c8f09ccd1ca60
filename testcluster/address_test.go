package testcluster_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// What an interface tells a process about its address is the kernel's doing.
var kernel = map[string]world{"namespaces": testcluster.Namespaces}

// anyAddress is bound by who takes the address that its host has.
const anyAddress = "0.0.0.0:7946"

// seenAt waits until each of by sees n alive at the address that its host has.
func seenAt(w *World, by []*Node, n *Node, within time.Duration) time.Duration {
	w.Helper()
	return w.Eventually(within, "all see it at its address", func() error {
		for _, o := range by {
			all, err := w.Members(o)
			if err != nil {
				return err
			}
			if m := all[n.Name]; m.State != "alive" || m.Addr != n.Addr() || !m.Eligible {
				return fmt.Errorf("%s sees %s %s at %q, want it alive at %s", o.Name, n.Name, m.State, m.Addr, n.Addr())
			}
		}
		return nil
	})
}

// A host gets another address while its peer runs, as DHCP may have it.
func TestAddressChangesWhileRunning(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(3)
		moved := w.Start(Spec{Name: "moved", Join: []string{nodes[0].Addr()}, Bind: anyAddress})
		all := append(nodes, moved)
		w.Whole(all, 5*time.Second)
		w.Sleep(3 * time.Second)
		before := w.Status(moved).Node
		start := time.Now()
		moved.TakeAddress()
		moved.GiveAddress()
		took := seenAt(w, all, moved, 10*time.Second)
		w.Logf("seen by all at its new address after %v", took)
		w.Whole(all, 10*time.Second)
		if now := w.Status(moved).Node; now.PID != before.PID || !now.StartedAt.Equal(before.StartedAt) {
			w.Errorf("it was %+v and is %+v, want the same process", before, now)
		}
		w.Unharmed(start, moved)
	}, kernel)
}

// An interface is down for so long that the others bury its host, and up again.
func TestInterfaceDown(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(4)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(3 * time.Second)
		down, rest := nodes[2], testcluster.Without(nodes, nodes[2])
		start := time.Now()
		down.LinkDown()
		w.Told(start, rest, "suspect", down.Name, silenceBar)
		w.Sleep(20*time.Second - time.Since(start))
		for _, n := range rest {
			w.Rotation(n, rest)
		}
		down.LinkUp()
		w.Logf("whole %v after the interface was up", w.Whole(nodes, 5*time.Second))
		w.Unharmed(start, down)
	}, kernel)
}

// A host boots, and its peer starts before there is an address. It joins when there
// is one. Nobody is ever told an address that means another host there.
func TestStartBeforeTheAddress(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(3)
		early := w.Start(Spec{Name: "early", Join: []string{nodes[0].Addr()}, Bind: anyAddress})
		w.Whole(append(nodes, early), 5*time.Second)
		w.Sleep(2 * time.Second)
		early.Stop()
		early.TakeAddress()
		start := time.Now()
		early.Restart(nil)
		w.Sleep(4 * time.Second)
		if s := w.Status(early); s.Verdict.OK {
			w.Errorf("without an address it says %q", s.Verdict.Text)
		}
		early.GiveAddress()
		given := time.Now()
		all := append(nodes, early)
		seenAt(w, all, early, 10*time.Second)
		w.Whole(all, 10*time.Second)
		w.Logf("whole %v after it had an address", time.Since(given))
		for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.By != early.Name && s.About(early.Name) }) {
			if addr, err := netip.ParseAddrPort(s.Event.Member.Addr); err != nil || addr.Addr().IsLoopback() || addr.Addr().IsUnspecified() {
				w.Errorf("%s was told of it at %q: %v", s.By, s.Event.Member.Addr, s)
			}
		}
		w.Unharmed(start, early)
	}, kernel)
}

// A peer that advertises an address at which nobody is reached hears that from
// those who dial it back, and says so. The others do not take it for dead.
func TestAdvertisedAddressNobodyReaches(t *testing.T) {
	in(t, func(w *World) {
		nodes := w.StartMany(4)
		w.Whole(nodes, 5*time.Second)
		start := time.Now()
		unused := "10.77.250.250:7946"
		lost := w.Start(Spec{Name: "lost", Join: []string{nodes[0].Addr()}, Bind: anyAddress, Advertise: unused})
		took := w.Eventually(15*time.Second, "all say that it is unreachable there", func() error {
			for _, n := range nodes {
				all, err := w.Members(n)
				if err != nil {
					return err
				}
				m, ok := all["lost"]
				if !ok || m.State == "alive" || m.Cause != "unreachable" || m.Eligible || m.Addr != unused {
					return fmt.Errorf("%s sees it %s, %s at %q, eligible %v", n.Name, m.State, m.Cause, m.Addr, m.Eligible)
				}
			}
			return nil
		})
		w.Logf("all said that it is unreachable after %v", took)
		// Nobody can send it anything: it asks when no ping of its own was answered
		// for 15 s.
		w.Eventually(20*time.Second, "it says so itself", func() error {
			s := w.Status(lost)
			for _, warning := range s.Warnings {
				if warning.Code == "address_unreachable" && strings.Contains(warning.Text, unused) {
					return nil
				}
			}
			return fmt.Errorf("it says %+v", s.Warnings)
		})
		w.Logf("it said so itself after %v", time.Since(start))
		steady := time.Now()
		w.Sleep(20 * time.Second)
		turns := map[string]int{}
		for _, s := range w.Events(steady, func(s testcluster.Seen) bool { return s.By != lost.Name && s.About(lost.Name) }) {
			turns[s.By]++
		}
		for by, k := range turns {
			if k > 2 {
				w.Errorf("%s saw it change %d times, want it to stay unreachable", by, k)
			}
		}
		w.Unharmed(start, lost)
	}, hosts)
}
