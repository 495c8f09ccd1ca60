package testcluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Detection is the longest that memberlist's own verdict on a silent peer takes
// anywhere in a quiet cluster of n with LAN timing. A peer asks each of the others
// once in a pass, in an order that it shuffles anew, so that 2(n-1) seconds may
// pass before it suspects. How long it does so depends on how many others' doubts
// it hears of: 4·max(1, log10 n) seconds with two, six times that with none. Gossip
// sends each message to a few at random, and in a small cluster it passes somebody
// by now and then; the median is 6 s among five.
func Detection(n int) time.Duration {
	return time.Duration((2*float64(n-1) + 24*math.Max(1, math.Log10(float64(n)))) * float64(time.Second))
}

// busy is how long a machine that does other things may hold a peer up, or us.
const busy = 4 * time.Second

// Limit returns how long something may take that takes d on an idle machine: d
// itself in virtual time, some seconds more where time is real.
func (w *World) Limit(d time.Duration) time.Duration {
	if w.Name == "virtual" {
		return d
	}
	return d + busy
}

// Eventually waits until cond returns nil, and fails the test at once when that
// takes longer than the [World.Limit] of within. It returns how long it took.
func (w *World) Eventually(within time.Duration, what string, cond func() error) time.Duration {
	w.Helper()
	within = w.Limit(within)
	start := time.Now()
	for {
		err := cond()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > within {
			w.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(min(max(within/500, 2*time.Millisecond), 50*time.Millisecond))
	}
}

// Never checks for so long that cond stays nil.
func (w *World) Never(during time.Duration, what string, cond func() error) {
	w.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(min(max(during/200, 2*time.Millisecond), 100*time.Millisecond)) {
		if err := cond(); err != nil {
			w.Fatalf("%s: %v", what, err)
		}
	}
}

// Members asks by for all members, by name; of two instances of one name the
// one that is handed out.
func (w *World) Members(by *Node) (map[string]api.Member, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	doc, err := by.client.Members(ctx, api.MembersQuery{})
	if err != nil {
		return nil, fmt.Errorf("members of %s: %w", by.Name, err)
	}
	out := map[string]api.Member{}
	for _, m := range doc.Members {
		if old, ok := out[m.Name]; !ok || !old.Eligible {
			out[m.Name] = m
		}
	}
	return out, nil
}

// Status asks by for its status, which must come.
func (w *World) Status(by *Node) api.Status {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	s, err := by.client.Status(ctx)
	if err != nil {
		w.Fatalf("status of %s: %v", by.Name, err)
	}
	return s
}

// AllSee waits until each of by sees name in state, and returns how long that
// took.
func (w *World) AllSee(by []*Node, name, state string, within time.Duration) time.Duration {
	w.Helper()
	return w.Eventually(within, fmt.Sprintf("all see %s %s", name, state), func() error {
		for _, n := range by {
			all, err := w.Members(n)
			if err != nil {
				return err
			}
			m, ok := all[name]
			if got := stateOf(m, ok); got != state && got != state+", "+m.Cause {
				return fmt.Errorf("%s sees %s %s", n.Name, name, got)
			}
		}
		return nil
	})
}

func stateOf(m api.Member, known bool) string {
	switch {
	case !known:
		return "not at all"
	case m.Cause != "":
		return m.State + ", " + m.Cause
	}
	return m.State
}

// Whole waits until each of nodes sees exactly all of them alive, and returns
// how long that took.
func (w *World) Whole(nodes []*Node, within time.Duration) time.Duration {
	w.Helper()
	todo := slices.Clone(nodes)
	took := w.Eventually(within, fmt.Sprintf("%d peers see one another", len(nodes)), func() error {
		for len(todo) > 0 {
			s, err := todo[0].client.Status(w.Context())
			if err != nil {
				return err
			}
			if s.Cluster.Alive != len(nodes) {
				return fmt.Errorf("%s sees %d alive, want %d", todo[0].Name, s.Cluster.Alive, len(nodes))
			}
			todo = todo[1:]
		}
		return nil
	})
	for _, n := range nodes {
		all, err := w.Members(n)
		if err != nil {
			w.Fatal(err)
		}
		for _, other := range nodes {
			if m, ok := all[other.Name]; stateOf(m, ok) != "alive" || !m.Eligible {
				w.Errorf("%s sees %s %s", n.Name, other.Name, stateOf(m, ok))
			}
		}
	}
	return took
}

// Turn takes a turn at by and returns whose it is, "" when nobody is live.
func (w *World) Turn(by *Node) string {
	w.Helper()
	next, err := by.client.Next(w.Context(), api.NextQuery{})
	var p *api.Problem
	switch {
	case errors.As(err, &p) && p.Kind() == api.KindNoPeers:
		return ""
	case err != nil:
		w.Fatalf("turn at %s: %v", by.Name, err)
	}
	return next.Peers[0].Name
}

// Rotation takes turns at by and fails unless they are those of exactly want,
// each as often as the others.
func (w *World) Rotation(by *Node, want []*Node) {
	w.Helper()
	got := map[string]int{}
	for range 3 * len(want) {
		got[w.Turn(by)]++
	}
	for _, n := range want {
		if got[n.Name] != 3 {
			w.Errorf("3 rounds of turns at %s: %v, want 3 of each of %s", by.Name, got, strings.Join(Names(want), " "))
			return
		}
	}
}
