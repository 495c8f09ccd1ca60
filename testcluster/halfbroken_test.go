package testcluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// These are the experiments of the Rapid paper (Suresh et al., USENIX ATC 2018,
// section 7): a member that is half broken for minutes, without being dead.

type fault struct {
	name  string
	begin func(w *World, sick, rest []*Node)
	pulse time.Duration // the fault lasts so long, pauses so long, and again; 0: for good
	says  []string      // a warning of the sick one itself, any of these codes
}

// own are the warnings by which a peer says that it is in trouble itself.
var own = []string{"packets_lost", "not_heard", "cut_off", "out_of_rotation"}

var halfBroken = []fault{
	{"egress loses 80%", func(w *World, sick, rest []*Node) { w.Lose(sick, rest, .8) }, 0, own},
	{"ingress loses 80%", func(w *World, sick, rest []*Node) { w.Lose(rest, sick, .8) }, 0, own},
	{"ingress cut by turns", func(w *World, sick, rest []*Node) { w.CutOneWay(rest, sick) }, 20 * time.Second, nil},
	{"deaf for good", func(w *World, sick, rest []*Node) { w.CutOneWay(rest, sick) }, 0, own},
	{"mute for good", func(w *World, sick, rest []*Node) { w.CutOneWay(sick, rest) }, 0, own},
}

// A half-broken member leaves rotation once and, when it is well for long enough,
// returns once. Nobody holds that against a healthy one.
func TestHalfBrokenMember(t *testing.T) {
	for _, f := range halfBroken {
		t.Run(f.name, func(t *testing.T) {
			in(t, func(w *World) {
				if w.Name != "virtual" && !long() {
					f.run(w, 8, time.Minute, 5)
					return
				}
				f.run(w, 16, 4*time.Minute, 7)
			}, hosts)
		})
	}
	if !long() {
		return
	}
	for _, f := range halfBroken {
		t.Run(f.name+", three of 32", func(t *testing.T) {
			in(t, func(w *World) { f.run(w, 32, 4*time.Minute, 3, 11, 24) }, virtual)
		})
	}
}

// statesAbout bounds the changes of state about a half-broken member in one view in
// four minutes.
const statesAbout = 4

// run breaks these of n by half for a while.
func (f fault) run(w *World, n int, during time.Duration, which ...int) {
	nodes := w.StartMany(n)
	w.Whole(nodes, 10*time.Second)
	w.Sleep(5 * time.Second)
	var sick []*Node
	for _, i := range which {
		sick = append(sick, nodes[i])
	}
	rest := testcluster.Without(nodes, sick...)
	start := time.Now()
	for time.Since(start) < during {
		f.begin(w, sick, rest)
		if f.pulse == 0 {
			w.Sleep(during)
			break
		}
		w.Sleep(f.pulse)
		w.Heal()
		w.Sleep(f.pulse)
	}

	states := map[string]bool{"suspect": true, "failed": true, "alive": true, "left": true}
	about := map[string]int{} // by viewer and subject
	healthy := 0
	for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.Event.Member != nil && states[s.Event.Type] }) {
		switch {
		case isOneOf(s.By, sick):
		case isOneOf(s.Event.Member.Name, sick):
			about[s.By+" about "+s.Event.Member.Name]++
		default:
			if healthy++; healthy <= 5 {
				w.Errorf("a healthy one about a healthy one: %v", s)
			}
		}
	}
	most, all := 0, 0
	for _, k := range about {
		most, all = max(most, k), all+k
	}
	w.Logf("%s: %d changes of state about %d, at most %d in one view, %d about healthy ones", f.name, all, len(sick), most, healthy)
	if most > statesAbout {
		w.Errorf("%d changes of state about one in one view, want at most %d", most, statesAbout)
	}
	for _, n := range sick {
		if len(f.says) > 0 {
			s := w.Status(n)
			said := warns(s, f.says)
			if said == "" {
				w.Errorf("%s does not say what is wrong with it: %+v", n.Name, s.Warnings)
			}
			w.Logf("%s says of itself: %s", n.Name, said)
		}
	}

	w.Heal()
	if during < 4*time.Minute {
		return // whoever was in trouble is held back for minutes
	}
	took := w.Whole(nodes, 6*time.Minute)
	w.Logf("whole again %v after it was well", took)
}

func isOneOf(name string, nodes []*Node) bool {
	for _, n := range nodes {
		if n.Name == name {
			return true
		}
	}
	return false
}

// warns returns the first warning with one of these codes, "" if there is none.
func warns(s api.Status, codes []string) string {
	for _, warning := range s.Warnings {
		if slices.Contains(codes, warning.Code) {
			return warning.Code + ": " + warning.Text
		}
	}
	return ""
}

// The sick ones are neighbours on the ring as often as chance has it; so many of so
// few always are.
func TestHalfBrokenNeighbours(t *testing.T) {
	if !long() {
		t.Skip("takes minutes: PEER_TEST_LONG=1")
	}
	for _, f := range halfBroken[:2] {
		t.Run(fmt.Sprintf("%s, three of 8", f.name), func(t *testing.T) {
			in(t, func(w *World) { f.run(w, 8, 4*time.Minute, 1, 2, 3) }, virtual)
		})
	}
}
