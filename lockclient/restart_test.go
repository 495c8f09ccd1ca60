package lockclient_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// Redis comes back without its data, whether it has forgotten all or everything
// since a snapshot that knows the lock. Whichever of the waiters reaches it first:
// they are served in the order in which they asked before.
func TestOrderKeptOverRestart(t *testing.T) {
	for _, lost := range []struct {
		what string
		lose func(t *testing.T, w world)
	}{
		{"all is lost", func(_ *testing.T, w world) {
			w.redis.Kill()
			time.Sleep(700 * time.Millisecond)
			w.redis.RestartEmpty()
		}},
		{"an old snapshot", func(t *testing.T, w world) {
			// The fence of a grant before all this, and nothing else.
			for i := range restartLocks {
				name := fmt.Sprint("peer:{demo ", i, "}")
				if err := w.admin().Set(t.Context(), name+":f", "1000000000000000", 0).Err(); err != nil {
					t.Fatal(err)
				}
				if err := w.admin().Del(t.Context(), name, name+":q", name+":w").Err(); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(lost.what, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, w world) {
				w = w.steady()
				a := w.client("a")
				var waiters []*lockclient.Client
				for i := range 5 {
					waiters = append(waiters, w.client(fmt.Sprint("waiter ", i)))
				}
				var served [restartLocks]chan int
				var all sync.WaitGroup
				for i := range served {
					served[i] = make(chan int, len(waiters))
					name := fmt.Sprint("demo ", i)
					hold(t, a, name)
					for j, c := range waiters {
						next := later(t, c, name)
						all.Go(func() {
							if won := <-next; won.err != nil {
								t.Error(won.err)
							} else {
								served[i] <- j
								won.lock.Release(context.Background())
							}
						})
					}
				}
				lost.lose(t, w)
				all.Wait()
				for i, ch := range served {
					close(ch)
					var got []int
					for j := range ch {
						got = append(got, j)
					}
					if !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
						t.Errorf("lock %d was given to %v, want the order in which they asked", i, got)
					}
				}
			})
		})
	}
}

// restartLocks is how many locks TestOrderKeptOverRestart looks at: any one of them
// has its order by chance.
const restartLocks = 4
