package selector_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/selector"
)

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[backend]{
			ID: byName, Seed: "me", Policy: selector.Weighted, Weight: weightOf,
			Zone: func(b backend) string { return b.zone }, Home: "here", HomeEnough: 1,
			Self: "b6", SelfRule: selector.SelfNever,
		})
		peers := backends(3, 1, 1, 0, 1, 1, 1)
		for i := range peers {
			peers[i].zone = "here"
		}
		peers[2].zone = "there"
		s.Set(peers)
		s.Report(peers[1], errRefused, 0)
		s.Report(peers[0], nil, 3*time.Millisecond)
		time.Sleep(250 * time.Millisecond)
		w := s.Where("not b5", func(b backend) bool { return b.name != "b5" })
		if _, err := w.Take(selector.Want{Exclude: []string{"b4"}}); err != nil { // b0
			t.Fatal(err)
		}

		want := selector.Want{Exclude: []string{"b4"}}
		before := w.Explain(want)
		for range 3 {
			if again := w.Explain(want); !slices.Equal(again, before) {
				t.Fatalf("got %+v, then %+v: explaining took a turn", before, again)
			}
		}
		var order []string
		for p := range w.Order(want) {
			order = append(order, p.name)
		}
		lines := map[string]string{}
		for i, st := range before {
			if st.Rank >= 0 && (st.Rank != i || order[i] != st.ID) {
				t.Errorf("got %s at rank %d, but the order is %q", st.ID, st.Rank, order)
			}
			lines[st.ID] = fmt.Sprintf("%v %.2f %d %v: %s", st.Tier, st.Share, st.Load, st.Latency, st.Why)
		}
		for id, want := range map[string]string{
			"b0": "live 0.75 1 3ms: takes turns",
			"b1": "cooling 0.00 0 0s: cools down for 750ms after a failed request",
			"b2": "live 0.00 0 0s: live, but not at home",
			"b3": "last_resort 0.00 0 0s: stands by",
			"b4": "live 0.25 0 0s: excluded by the caller",
			"b5": "last_resort 0.00 0 0s: does not match",
			"b6": "last_resort 0.00 0 0s: is this client itself, which is never handed out",
		} {
			if lines[id] != want {
				t.Errorf("%s: got %q, want %q", id, lines[id], want)
			}
		}
	})
}
