package testcluster

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// TestStoppedTwice: whoever else stops or kills an agent waits until it is gone,
// in a way that lets virtual time go on.
func TestStoppedTwice(t *testing.T) {
	Virtual(t, func(w *World) {
		n := w.Start(Spec{Name: "p0", Redis: true})
		if _, err := n.Client().Acquire(w.Context(), "demo", api.LockOptions{TTL: time.Minute}); err != nil {
			w.Fatal(err)
		}
		w.Redis.Pause() // its goodbye takes time: it has a lock to give back
		a := n.host.(*virtualHost).agent
		var wg sync.WaitGroup
		start := time.Now()
		var took [3]time.Duration
		for i, end := range []func(){
			func() { _ = a.Stop(context.Background()) },
			func() { _ = a.Stop(context.Background()) },
			a.Kill,
		} {
			wg.Go(func() {
				end()
				took[i] = time.Since(start)
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if took[0] < 100*time.Millisecond {
			t.Fatalf("it stopped in %v: this shows nothing", took[0])
		}
		for _, d := range took {
			if d != took[0] {
				t.Errorf("they took %v, want all the same", took)
			}
		}
	})
}
