package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// Several that die in one instant are partners of one another, and the ring
// moves with each verdict: who has just moved next to an accused never had a
// stream to it and has no word against it. In whatever order the notices come,
// that must not look like a living member's friends.
func TestSeveralCrashInAnyOrder(t *testing.T) {
	worst := time.Duration(0)
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testcluster.Bubble(t, func(t *testing.T) {
				w := &world{
					t: t, peers: map[string]*peer{},
					net: testcluster.NewNet(seed, testcluster.Link{Latency: time.Millisecond, Jitter: 12 * time.Millisecond}),
				}
				defer func() {
					for _, p := range w.peers {
						p.Close()
					}
					time.Sleep(2 * time.Minute)
				}()
				ps := w.group(10)
				settle()
				r := rand.New(rand.NewPCG(seed, 0))
				r.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
				dead, rest := ps[:3], ps[3:]
				for _, p := range dead {
					p.host.Crash()
				}
				took := w.within(15*time.Second, "none of the dead is handed out", func() bool {
					return all(rest, func(o *peer) bool {
						return gone(o, dead[0].cfg.Name) && gone(o, dead[1].cfg.Name) && gone(o, dead[2].cfg.Name)
					})
				})
				if took > 150*time.Millisecond {
					t.Errorf("out of rotation everywhere after %v", took)
				}
				worst = max(worst, took)
				time.Sleep(10 * time.Second)
				if b := blamed(rest, dead[0].cfg.Name, dead[1].cfg.Name, dead[2].cfg.Name); len(b) > 0 {
					t.Error(strings.Join(b, "\n"))
				}
				for _, o := range rest {
					if n := o.View().Count(cluster.Alive); n != len(rest) {
						t.Errorf("%s sees %d alive, want %d", o.cfg.Name, n, len(rest))
					}
				}
			})
		})
	}
	t.Logf("slowest %v", worst)
}
