package cluster_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/cluster"
)

// stuck is a log whose reader does not read.
type stuck struct {
	free  chan struct{}
	calls *atomic.Int64
}

func (s stuck) Write(p []byte) (int, error) {
	s.calls.Add(1)
	<-s.free
	return len(p), nil
}

// A reader of the log that stalls stalls nothing else: the peer sees who comes
// and goes, nobody suspects it, and Close returns.
func TestStalledLogStallsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		log := stuck{free: make(chan struct{}), calls: new(atomic.Int64)}
		defer close(log.free)
		a := w.start("a", 0, func(c *cluster.Config) {
			c.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log})
		})
		b := w.start("b", 1, seeds(0))
		c := w.start("c", 2, seeds(0))
		w.within(5*time.Second, "all see all", func() bool {
			return all([]*peer{a, b, c}, func(p *peer) bool { return p.View().Count(cluster.Alive) == 3 })
		})
		c.host.Crash()
		w.within(time.Second, "the crash is seen", func() bool {
			return a.View().Count(cluster.Failed) == 1 && b.View().Count(cluster.Failed) == 1
		})
		time.Sleep(time.Minute)
		for _, e := range b.events() {
			if e.Member.Name == "a" && e.Type == cluster.Overdue {
				t.Errorf("a was suspected: %+v", e)
			}
		}
		if n := log.calls.Load(); n != 1 {
			t.Errorf("%d lines were written to a log that is stuck", n)
		}
		start := time.Now()
		a.Close()
		if took := time.Since(start); took > time.Second {
			t.Errorf("close took %v", took)
		}
	})
}
