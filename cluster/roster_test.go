package cluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// TestPassedBy lets gossip pass some by: while a newcomer is announced not one
// packet reaches them, for less time than makes UDP count as blocked. They must
// find out for themselves, long before memberlist's own exchange is due.
func TestPassedBy(t *testing.T) {
	const n, deaf = 40, 16
	inWorld(t, func(t *testing.T, w *world) {
		ps := w.group(n)
		time.Sleep(2 * time.Minute) // what a start has to repeat is over
		for _, p := range ps[:deaf] {
			for _, o := range ps {
				if o != p {
					w.net.SetLink(o.host, p.host, testcluster.Link{Latency: time.Millisecond, BlockUDP: true})
				}
			}
		}
		late := w.start("late", n, seeds(n-1))
		for _, p := range ps[:deaf] {
			w.net.SetLink(late.host, p.host, testcluster.Link{Latency: time.Millisecond, BlockUDP: true})
		}
		time.Sleep(10 * time.Second)
		knows := func(p *peer) bool { return stateOf(p, "late") == "alive" }
		if !all(ps[deaf:], knows) {
			t.Error("somebody who hears gossip does not know the newcomer")
		}
		passed := slices.DeleteFunc(slices.Clone(ps[:deaf]), knows)
		if len(passed) == 0 {
			t.Fatal("the newcomer came to all who hear no gossip: nothing is left to find out")
		}
		w.net.Heal()
		took := w.within(20*time.Second, "those who were passed by know the newcomer", func() bool { return all(passed, knows) })
		t.Logf("%d whom gossip had passed by knew the newcomer after %v", len(passed), took)
	})
}
