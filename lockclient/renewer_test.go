package lockclient_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// A process that holds many locks renews them together: far away from Redis, one
// round trip for each would take longer than they live.
func TestManyRenewedFarAway(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		const holds = 300
		c := w.client("a")
		w.redis.Slow(80 * time.Millisecond)
		locks := make([]*lockclient.Lock, holds)
		var wg sync.WaitGroup
		for i := range locks {
			wg.Go(func() { locks[i] = hold(t, c, fmt.Sprint("demo", i), lockclient.WithTTL(5*time.Second)) })
		}
		// One far shorter beside them decides only for itself.
		short := hold(t, c, "short", lockclient.WithTTL(time.Second))
		wg.Wait()
		time.Sleep(15 * time.Second)
		for _, l := range append(locks, short) {
			if !l.Valid() {
				t.Fatalf("%s: %v", l.Name(), l.Err())
			}
		}
		if s := c.Stats(); s.RenewFailed != 0 || s.Renewed < 3*holds {
			t.Errorf("renewed %d, failed %d", s.Renewed, s.RenewFailed)
		}
		for _, l := range append(locks, short) {
			wg.Go(func() {
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// What is handed over is granted for less than its time to live at first. It is a
// whole one soon, whether or not its process has a connection for renewals yet.
func TestHandedOverIsWholeSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		short := lockclient.WithTTL(3 * time.Second) // handed over for a second
		a, b := w.client("a"), w.client("b")
		for i := range 3 {
			l := hold(t, a, "demo", short)
			next := later(t, b, "demo", short)
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			won := within(t, time.Second, "the next", next)
			if won.err != nil {
				t.Fatal(won.err)
			}
			time.Sleep(110 * time.Millisecond)
			if left := time.Until(won.lock.Deadline()); left < 2*time.Second {
				t.Errorf("hold %d: %v left after 110 ms, want more than two thirds of 3 s", i+1, left)
			}
			if err := won.lock.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
