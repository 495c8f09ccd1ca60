package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// gone says whether o no longer hands out name.
func gone(o *peer, name string) bool {
	return !slices.ContainsFunc(o.View().Eligible(), func(m cluster.Member) bool { return m.Name == name })
}

// blamed lists who called somebody suspect or failed whom it should not have.
func blamed(ps []*peer, but ...string) []string {
	var out []string
	for _, o := range ps {
		for _, e := range o.events() {
			if (e.Type == cluster.Fell || e.Type == cluster.Overdue) && !slices.Contains(but, e.Member.Name) {
				out = append(out, fmt.Sprintf("%s called %s %s (%s)", o.cfg.Name, e.Member.Name, e.Type, e.Member.Cause))
			}
		}
	}
	return out
}

func settle() { time.Sleep(5 * time.Second) }

func TestCrash(t *testing.T) {
	for _, test := range []struct{ n, dead int }{{2, 1}, {3, 1}, {5, 1}, {10, 1}, {10, 3}, {32, 1}, {32, 8}} {
		t.Run(fmt.Sprintf("%d of %d", test.dead, test.n), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(test.n)
				settle()
				var names []string
				for _, p := range ps[test.n-test.dead:] {
					p.host.Crash()
					names = append(names, p.cfg.Name)
				}
				rest := ps[:test.n-test.dead]
				took := w.within(50*time.Millisecond, "failed, crashed everywhere", func() bool {
					return all(rest, func(o *peer) bool {
						return !slices.ContainsFunc(names, func(n string) bool { return stateOf(o, n) != "failed/crashed" })
					})
				})
				t.Logf("everywhere after %v", took)
				time.Sleep(time.Minute)
				if b := blamed(rest, names...); len(b) > 0 {
					t.Error(strings.Join(b, "\n"))
				}
			})
		})
	}
}

func TestSilence(t *testing.T) {
	for _, n := range []int{2, 3, 10, 32} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(n)
				settle()
				last := ps[n-1]
				last.host.PowerOff()
				took := w.within(2*time.Second, "out of rotation everywhere", func() bool {
					return all(ps[:n-1], func(o *peer) bool { return gone(o, last.cfg.Name) })
				})
				verdict := w.within(30*time.Second, "failed everywhere", func() bool {
					return all(ps[:n-1], func(o *peer) bool { return stateOf(o, last.cfg.Name) == "failed/unreachable" })
				})
				t.Logf("out after %v, verdict after %v", took, took+verdict)
				if b := blamed(ps[:n-1], last.cfg.Name); len(b) > 0 {
					t.Error(strings.Join(b, "\n"))
				}
			})
		})
	}
}

func TestPause(t *testing.T) {
	for _, d := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 4500 * time.Millisecond, 30 * time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(10)
				settle()
				ps[9].host.Pause()
				time.Sleep(d)
				ps[9].host.Resume()
				back := 50 * time.Millisecond
				if d > 5*time.Second {
					back = 5 * time.Second
				}
				took := w.within(back, "back in rotation everywhere", func() bool {
					return all(ps, func(o *peer) bool { return len(o.View().Eligible()) == 10 })
				})
				t.Logf("back after %v", took)
				for _, o := range ps {
					for _, e := range o.events() {
						if e.Type == cluster.Fell && (e.Member.Name != "p09" || d < 5*time.Second) {
							t.Errorf("%s called %s failed (%s)", o.cfg.Name, e.Member.Name, e.Member.Cause)
						}
					}
				}
				if d < time.Second {
					if b := blamed(ps); len(b) > 0 {
						t.Error(strings.Join(b, "\n"))
					}
				}
			})
		})
	}
}

func TestCutStreamsChangeNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10)
		settle()
		for range 20 {
			for _, p := range ps {
				p.host.ResetStreams()
			}
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if b := blamed(ps); len(b) > 0 {
			t.Error(strings.Join(b, "\n"))
		}
	})
}

func TestRejectingFirewallBetweenOnePair(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(10)
		settle()
		a, b := ps[2], ps[5]
		w.net.SetLink(a.host, b.host, testcluster.Link{Refuse: true, Latency: time.Millisecond})
		w.net.SetLink(b.host, a.host, testcluster.Link{Refuse: true, Latency: time.Millisecond})
		time.Sleep(5 * time.Minute)
		for _, o := range ps {
			for _, e := range o.events() {
				pair := (o == a || o == b) && (e.Member.Name == a.cfg.Name || e.Member.Name == b.cfg.Name)
				if e.Type == cluster.Fell || e.Type == cluster.Overdue && !pair {
					t.Errorf("%s called %s %s (%s)", o.cfg.Name, e.Member.Name, e.Type, e.Member.Cause)
				}
			}
		}
	})
}

// A new partner is dialled again as soon as a dial has timed out. Here the first
// five packets of its handshake are lost.
func TestNewPartnerHardToReach(t *testing.T) {
	for i := 1; i < 10; i++ {
		inWorld(t, func(t *testing.T, w *world) {
			ps := w.group(10)
			settle()
			host := w.net.Host("10.0.0.21")
			w.net.Cut([]*testcluster.Host{ps[i].host}, []*testcluster.Host{host})
			late := w.start("late", 20, seeds(0))
			if late.host != host {
				t.Fatal("the newcomer is at another host")
			}
			time.Sleep(2750 * time.Millisecond)
			w.net.Heal()
			time.Sleep(30 * time.Second)
			if b := blamed(append(ps, late)); len(b) > 0 {
				t.Error(strings.Join(b, "\n"))
			}
		})
	}
}

// shared returns a member that at least n peers called suspect within a second.
func shared(ps []*peer, n int) string {
	at := map[string][]time.Time{}
	for _, o := range ps {
		for _, e := range o.events() {
			if e.Type == cluster.Overdue {
				at[e.Member.Name] = append(at[e.Member.Name], e.At)
			}
		}
	}
	for name, ts := range at {
		slices.SortFunc(ts, time.Time.Compare)
		for i := n - 1; i < len(ts); i++ {
			if ts[i].Sub(ts[i-n+1]) < time.Second {
				return name
			}
		}
	}
	return ""
}

func TestLoss(t *testing.T) {
	for _, test := range []struct {
		loss   float64
		views  int // changes of single views that are let pass
		failed int // of them verdicts of SWIM
	}{{0.05, 0, 0}, {0.10, 3, 0}, {0.20, 40, 0}} {
		t.Run(fmt.Sprintf("%.0f %%", 100*test.loss), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ps := w.group(10)
				settle()
				w.net.SetDefault(testcluster.Link{Latency: time.Millisecond, Loss: test.loss})
				time.Sleep(4 * time.Minute)
				b := blamed(ps)
				failed := 0
				for _, s := range b {
					if strings.Contains(s, " failed ") {
						failed++
					}
				}
				t.Logf("%d changes of view by ten peers in 4 minutes", len(b))
				if len(b) > test.views || failed > test.failed {
					t.Error(strings.Join(b, "\n"))
				}
				if c := shared(ps, 3); c != "" {
					t.Errorf("%s was out of several views at once: want single views only", c)
				}
			})
		})
	}
}

func TestLoneSurvivor(t *testing.T) {
	for _, n := range []int{6, 10, 20} {
		for _, how := range []string{"killed", "silent"} {
			t.Run(fmt.Sprintf("%d %s", n, how), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					ps := w.group(n)
					settle()
					for _, p := range ps[1:] {
						if how == "killed" {
							p.host.Crash()
						} else {
							p.host.PowerOff()
						}
					}
					limit := 200 * time.Millisecond
					if how == "silent" {
						limit = 2 * time.Second
					}
					took := w.within(limit, "all others out of rotation", func() bool { return len(ps[0].View().Eligible()) == 1 })
					t.Logf("after %v", took)
				})
			})
		}
	}
}
