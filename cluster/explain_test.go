package cluster_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// misfits are peers that can not join, and what they are told.
var misfits = []struct {
	name           string
	theirs, joiner func(*cluster.Config)
	want           []string
	warning        string // at the seed
}{
	{
		"another key", keyed(testKey), keyed(otherKey),
		[]string{"uses another gossip key", "fingerprint " + cluster.Fingerprint(otherKey), "--encrypt-file"},
		"sent without this cluster's key",
	},
	{
		"no key", keyed(testKey), keyed(),
		[]string{"is encrypted and this peer has no key", "--encrypt-file"},
		"sent without this cluster's key",
	},
	{
		"a key and they have none", keyed(), keyed(testKey),
		[]string{"is not encrypted and this peer has a key", "--encrypt-file"},
		"it is encrypted and this peer has no key",
	},
	{
		"another label", keyed(), labelOf("other"),
		[]string{`has another label than "other"`, "--cluster"},
		"it belongs to a cluster with another label",
	},
	{
		"another label under a key", keyed(testKey), both(keyed(testKey), labelOf("other")),
		[]string{`has another label than "other"`, "--cluster"},
		"it belongs to a cluster with another label",
	},
	{
		"another label and another key", keyed(testKey), both(keyed(otherKey), labelOf("other")),
		[]string{`has another label than "other"`, "--cluster"},
		"it belongs to a cluster with another label",
	},
}

func labelOf(s string) func(*cluster.Config) { return func(c *cluster.Config) { c.Label = s } }

func both(fs ...func(*cluster.Config)) func(*cluster.Config) {
	return func(c *cluster.Config) {
		for _, f := range fs {
			f(c)
		}
	}
}

func check(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("it joined")
	}
	for _, s := range want {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("got %q, want %q in it", err, s)
		}
	}
}

func TestMisfitsAreToldWhy(t *testing.T) {
	for _, tt := range misfits {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var seedLog, log lines
				seed := w.start("p00", 0, tt.theirs, logTo(&seedLog))
				ps := []*peer{seed, w.start("p01", 1, seeds(0), tt.theirs)}
				settle()
				before := views(ps)
				p := w.start("misfit", 9, seeds(0), tt.joiner, logTo(&log))
				time.Sleep(time.Second)
				check(t, p.Stats().Seeds[0].Err, tt.want)
				check(t, p.Join(t.Context(), []string{ip(1)})[0].Err, tt.want)
				if p.Stats().Joined {
					t.Error("it says that it has joined")
				}
				time.Sleep(10 * time.Minute)
				check(t, p.Stats().Seeds[0].Err, tt.want)
				for i, o := range ps {
					if got := members(o); got != before[i] {
						t.Errorf("%s sees %s, before it saw %s", o.cfg.Name, got, before[i])
					}
				}
				// It was tried some three hundred times.
				if got := seedLog.with(tt.warning); len(got) < 1 || len(got) > 12 {
					t.Errorf("%d warnings in ten minutes, want one a minute at most:\n%s", len(got), strings.Join(got, "\n"))
				}
				if got := log.with("seed does not answer"); len(got) != 1 {
					t.Errorf("the joiner says it %d times, want once:\n%s", len(got), strings.Join(got, "\n"))
				}
			})
		})
	}
}

func TestMisfitsOnLoopback(t *testing.T) {
	for _, tt := range misfits {
		t.Run(tt.name, func(t *testing.T) {
			cs := onLoopback(t, 2, tt.theirs)
			p := oneOnLoopback(t, "misfit", nil, tt.joiner)
			for range 20 { // a stream that is closed too early loses its answer now and then
				out := p.Join(t.Context(), []string{cs[0].Self().Addr.String()})
				check(t, out[0].Err, tt.want)
			}
			if n := len(cs[0].View().Members); n != 2 {
				t.Errorf("%d members, want 2", n)
			}
		})
	}
}

// Of a seed that cannot be reached at all.
func TestUnreachableSeeds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(w *world, h *testcluster.Host)
		want  string
	}{
		{"nobody listens", func(*world, *testcluster.Host) {}, "connection refused: no agent listens there"},
		{"powered off", func(_ *world, h *testcluster.Host) { h.PowerOff() }, "no answer: the host is down, or a firewall drops TCP"},
		{"cut off", func(w *world, h *testcluster.Host) { w.net.Isolate(h) }, "no answer: the host is down, or a firewall drops TCP"},
		{"stopped", func(w *world, h *testcluster.Host) {
			l, _ := h.Listen(netip.AddrPortFrom(h.Addr(), 7946))
			context.AfterFunc(w.t.Context(), func() { l.Close() })
			h.Pause()
		}, "the process there is stopped or stuck"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				tt.fault(w, w.net.Host(ip(5)))
				p := w.start("p1", 1)
				check(t, p.Join(t.Context(), []string{ip(5)})[0].Err, []string{tt.want, "join " + ip(5) + ":7946"})
				synctest.Wait()
			})
		})
	}
	t.Run("no port of that name", func(t *testing.T) {
		addr := "127.0.0.1:" + testcluster.FreePort()
		p := oneOnLoopback(t, "p1", nil, keyed())
		check(t, p.Join(t.Context(), []string{addr})[0].Err, []string{"connection refused"})
	})
}
