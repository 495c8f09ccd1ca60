package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// The queue, told as a story: lower case letters want to share, capitals want
// the lock alone; each step is a letter that comes, or -letter that releases or
// gives up, and after = stands who holds it then.
func TestSharedInOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		slots int // 0: any number share
		story string
	}{
		{"readers share", 0, "a=a b=ab c=abc -b=ac"},
		{"a writer waits for readers", 0, "a b W=ab -a=b -b=W"},
		{"readers behind a writer wait", 0, "a W b=a -a=W -W=b"},
		{"readers come in together", 0, "W a b c=W -W=abc"},
		{"up to the next writer", 0, "W a b X c=W -W=ab -a=b -b=X -X=c"},
		{"a writer that gives up lets them in", 0, "a W b c=a -W=abc"},
		{"writers in turn", 0, "W X Y=W -W=X -X=Y"},
		{"slots", 2, "a=a b=ab c=ab d=ab -a=bc -b=cd"},
		{"one slot", 1, "a=a b=a -a=b"},
		{"slots given back", 3, "a b c d e=abc -a -b=cde -c=de f=def"},
		{"one in the queue gives up", 2, "a b c d=ab -c -a=bd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inEveryWorld(t, func(t *testing.T, w world) {
				w = w.calm()
				clients := []*lockclient.Client{w.client("x"), w.client("y"), w.client("z")}
				var mu sync.Mutex
				holds := map[byte]*lockclient.Lock{}
				cancels := map[byte]context.CancelFunc{}
				var wg sync.WaitGroup
				holders := func() string {
					mu.Lock()
					defer mu.Unlock()
					var s []byte
					for c := byte('A'); c <= 'z'; c++ {
						if holds[c] != nil {
							s = append(s, c)
						}
					}
					return string(s)
				}
				var fences []uint64
				for i, step := range strings.Fields(tt.story) {
					step, want, checked := strings.Cut(step, "=")
					who := step[len(step)-1]
					if step[0] == '-' {
						mu.Lock()
						l := holds[who]
						delete(holds, who)
						mu.Unlock()
						if l != nil {
							if err := l.Release(t.Context()); err != nil {
								t.Fatalf("release %c: %v", who, err)
							}
						}
						cancels[who]()
					} else {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						cancels[who] = cancel
						var opts []lockclient.Option
						switch {
						case who >= 'a' && tt.slots > 0:
							opts = append(opts, lockclient.Slots(tt.slots))
						case who >= 'a':
							opts = append(opts, lockclient.Shared())
						}
						in := make(chan struct{}, 100)
						opts = append(opts, lockclient.OnWait(func(lockclient.Waiting) { in <- struct{}{} }))
						wg.Go(func() {
							l, err := clients[i%3].Acquire(ctx, "demo", opts...)
							switch {
							case err == nil:
								mu.Lock()
								holds[who] = l
								fences = append(fences, l.Fence())
								mu.Unlock()
							case ctx.Err() == nil:
								t.Errorf("%c: %v", who, err)
							}
							in <- struct{}{}
						})
						<-in
					}
					if !checked {
						settle(w, 100*time.Millisecond, func() bool { return false })
						continue
					}
					settle(w, w.slack, func() bool { return holders() == want })
					if got := holders(); got != want {
						t.Fatalf("%s: after %s got %q, want %q", tt.story, step, got, want)
					}
					info := must[lockclient.Info](t)(clients[0].Inspect(t.Context(), "demo"))
					if len(info.Holders) != len(want) || info.Shared != (want != "" && want[0] >= 'a') {
						t.Errorf("after %s Inspect has %+v, want %d holders", step, info, len(want))
					}
				}
				for _, c := range cancels {
					c()
				}
				wg.Wait()
				seen := map[uint64]bool{}
				for _, f := range fences {
					if seen[f] {
						t.Errorf("fence %d was granted twice", f)
					}
					seen[f] = true
				}
			})
		})
	}
}

// settle waits until nothing moves any more in a bubble, else until ok, at most
// for d.
func settle(w world, d time.Duration, ok func() bool) {
	if w.net != nil {
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		return
	}
	for start := time.Now(); time.Since(start) < d && !ok(); {
		time.Sleep(5 * time.Millisecond)
	}
}

// Shared holds are renewed, expire and are told like any other.
func TestSharedHoldsLast(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.steady()
		a, b := w.client("a"), w.client("b")
		kept := hold(t, a, "demo", lockclient.Shared())
		gone := hold(t, b, "demo", lockclient.Shared())
		next := later(t, a, "demo")
		time.Sleep(2 * w.ttl)
		if !kept.Valid() || !gone.Valid() {
			t.Fatalf("lost: %v, %v", kept.Err(), gone.Err())
		}
		if err := kept.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if w.net == nil {
			gone.Release(t.Context())
		} else {
			w.host("b").Crash()
		}
		won := within(t, 2*w.ttl, "the one that wants it alone", next)
		if won.err != nil || won.lock.Fence() <= gone.Fence() {
			t.Errorf("got %v, %v", won.lock, won.err)
		}
	})
}

func TestDo(t *testing.T) {
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		c := w.client("a")
		broken := errors.New("broken")
		if err := c.Do(t.Context(), "demo", func(context.Context, *lockclient.Lock) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("got %v, want what the function returned", err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			c.Do(t.Context(), "demo", func(context.Context, *lockclient.Lock) error { panic("now") })
		}()
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Do(ctx, "demo", func(inner context.Context, l *lockclient.Lock) error {
			cancel()
			<-inner.Done()
			if !l.Valid() {
				t.Error("the end of the caller's context ended the lock")
			}
			return inner.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		err = c.Do(t.Context(), "demo", func(inner context.Context, l *lockclient.Lock) error {
			time.Sleep(150 * time.Millisecond)
			if _, err := c.ForceRelease(context.Background(), "demo"); err != nil {
				t.Error(err)
			}
			<-inner.Done()
			if cause := context.Cause(inner); !errors.Is(cause, lockclient.ErrLost) {
				t.Errorf("cause %v, want ErrLost", cause)
			}
			return nil
		})
		if !errors.Is(err, lockclient.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if info := must[lockclient.Info](t)(c.Inspect(t.Context(), "demo")); info.Holder != nil {
			t.Errorf("still held: %+v", info)
		}
	})
}

// A waiter that gives up at any moment leaves nothing behind.
func TestCancelWhileWaiting(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, time.Second, 4 * time.Second} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a, b := w.client("a"), w.client("b")
				l := hold(t, a, "demo")
				ctx, cancel := context.WithTimeoutCause(t.Context(), after, errors.New("had enough"))
				defer cancel()
				start := time.Now()
				_, err := b.Acquire(ctx, "demo")
				if err == nil || !strings.Contains(err.Error(), "had enough") {
					t.Errorf("got %v, want the cause of the context", err)
				}
				if d := time.Since(start); d > after+time.Millisecond {
					t.Errorf("returned %v after the end of its context", d-after)
				}
				time.Sleep(time.Second)
				if info := must[lockclient.Info](t)(a.Inspect(t.Context(), "demo")); len(info.Waiters) != 0 {
					t.Errorf("left behind: %+v", info.Waiters)
				}
				l.Release(t.Context())
				if s := b.Stats(); s.Waiting != 0 || s.Held != 0 {
					t.Errorf("waiting %d, held %d, want none", s.Waiting, s.Held)
				}
			})
		})
	}
}

// The grant and the end of the waiter's context cross.
func TestCancelCrossesGrant(t *testing.T) {
	for us := range 12 {
		after := time.Duration(us) * 50 * time.Microsecond
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a, b := w.client("a"), w.client("b")
				l := hold(t, a, "demo")
				ctx, cancel := context.WithCancel(t.Context())
				got := make(chan won, 1)
				go func() {
					l, err := b.Acquire(ctx, "demo")
					got <- won{l, err, time.Now()}
				}()
				time.Sleep(10 * time.Millisecond)
				go l.Release(context.Background())
				time.Sleep(after)
				cancel()
				if won := <-got; won.err == nil {
					won.lock.Release(t.Context())
				}
				start := time.Now()
				hold(t, a, "demo")
				if d := time.Since(start); d > 50*time.Millisecond {
					t.Errorf("the lock was in the way for %v", d)
				}
			})
		})
	}
}

// Close gives everything back, and is quick about it even when Redis is not there.
func TestClose(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.calm()
		a, b := w.client("a"), w.client("b")
		l, s := hold(t, a, "demo"), hold(t, a, "shared", lockclient.Shared())
		theirs := hold(t, b, "theirs")
		waiting := later(t, a, "theirs")
		next := later(t, b, "demo")
		if s := a.Stats(); s.Held != 2 || s.Waiting != 1 {
			t.Errorf("held %d, waiting %d, want 2, 1", s.Held, s.Waiting)
		}
		start := time.Now()
		a.Close()
		a.Close()
		if d := time.Since(start); d > min(100*time.Millisecond+w.slack, 1900*time.Millisecond) { // it gives up after two seconds
			t.Errorf("took %v", d)
		}
		for _, l := range []*lockclient.Lock{l, s} {
			if l.Valid() || !errors.Is(context.Cause(l.Context()), lockclient.ErrReleased) {
				t.Errorf("%s: valid %v, cause %v", l.Name(), l.Valid(), context.Cause(l.Context()))
			}
			if err := l.Release(t.Context()); err != nil {
				t.Errorf("%s: release after Close: %v", l.Name(), err)
			}
		}
		if won := within(t, time.Second+w.slack, "the waiter of the closed client", waiting); !errors.Is(won.err, lockclient.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", won.err)
		}
		if won := within(t, time.Second+w.slack, "the next", next); won.err != nil {
			t.Error(won.err)
		}
		info := must[lockclient.Info](t)(b.Inspect(t.Context(), "theirs"))
		if len(info.Waiters) != 0 {
			t.Errorf("left behind: %+v", info.Waiters)
		}
		if _, err := a.Acquire(t.Context(), "demo"); !errors.Is(err, lockclient.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if _, err := a.Inspect(t.Context(), "demo"); !errors.Is(err, lockclient.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		theirs.Release(t.Context())

		hold(t, b, "more")
		w.redis.Pause()
		start = time.Now()
		b.Close()
		if d := time.Since(start); d > 2500*time.Millisecond+w.slack {
			t.Errorf("took %v while Redis did not answer", d)
		}
		w.redis.Resume()
	})
}

// Release says what it found.
func TestReleaseOutcomes(t *testing.T) {
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		a := w.client("a")
		admin := w.admin()
		ctx := t.Context()
		l := hold(t, a, "gone")
		admin.Del(ctx, "peer:{gone}")
		err := l.Release(ctx)
		if !errors.Is(err, lockclient.ErrLost) || !errors.Is(err, lockclient.ErrExpired) || errors.Is(err, lockclient.ErrStolen) {
			t.Errorf("nobody holds it: got %v, want ErrExpired", err)
		}
		if again := l.Release(ctx); !errors.Is(again, lockclient.ErrExpired) {
			t.Errorf("again: got %v", again)
		}
		l = hold(t, a, "stolen")
		admin.Set(ctx, "peer:{stolen}", "somebody/else/1|99|1|{}", 0)
		err = l.Release(ctx)
		if !errors.Is(err, lockclient.ErrLost) || !errors.Is(err, lockclient.ErrStolen) || errors.Is(err, lockclient.ErrExpired) {
			t.Errorf("another holds it: got %v, want ErrStolen", err)
		}
		if v := admin.Get(ctx, "peer:{stolen}").Val(); v == "" {
			t.Error("the other's hold was deleted")
		}
		// With a context that is over already.
		l = hold(t, a, "late")
		over, cancel := context.WithCancel(ctx)
		cancel()
		if err := l.Release(over); err != nil {
			t.Errorf("with a context that is over: %v", err)
		}
		if n := admin.Exists(ctx, "peer:{late}").Val(); n != 0 {
			t.Error("was not released")
		}
	})
}

// Events come in order, from one goroutine, and Stats agree.
func TestEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		var got []string
		c := w.client("a", func(cfg *lockclient.Config) {
			cfg.OnEvent = func(e lockclient.Event) {
				if e.At.IsZero() || e.Name != "" && (e.Fence == 0 || e.Took <= 0) {
					t.Errorf("incomplete: %+v", e)
				}
				got = append(got, strings.TrimSpace(string(e.Type)+" "+e.Name))
			}
		})
		time.Sleep(time.Second)
		a, b := hold(t, c, "a"), hold(t, c, "b")
		time.Sleep(time.Second)
		a.Release(t.Context())
		w.redis.Stall()
		<-b.Lost()
		time.Sleep(time.Minute)
		w.redis.Heal()
		time.Sleep(10 * time.Second)
		hold(t, c, "c")
		s := c.Stats()
		if s.Held != 1 || s.Acquired != 3 || s.Lost != 1 || s.Expired != 1 {
			t.Errorf("got %+v, want 1 held, 3 acquired, 1 lost", s)
		}
		c.Close()
		want := "redis_up, lock_acquired a, lock_acquired b, lock_released a, redis_down, lock_lost b, redis_up, lock_acquired c, lock_released c"
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("got  %s\nwant %s", g, want)
		}
	})
}

// One leads; when it is cut off, or gives up, another does.
func TestElect(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		ctx, cancel := context.WithCancel(t.Context())
		terms := make(chan string, 100)
		var wg sync.WaitGroup
		var mu sync.Mutex
		leading := 0
		for _, name := range []string{"a", "b", "c"} {
			c := w.client(name)
			wg.Go(func() {
				err := c.Elect(ctx, "boss", func(ctx context.Context, l *lockclient.Lock) error {
					mu.Lock()
					leading++
					if leading > 1 {
						t.Errorf("%d lead", leading)
					}
					mu.Unlock()
					terms <- name
					<-ctx.Done()
					mu.Lock()
					leading--
					mu.Unlock()
					return nil
				})
				if ctx.Err() == nil {
					t.Errorf("%s: Elect returned %v", name, err)
				}
			})
			time.Sleep(time.Second)
		}
		for _, want := range []string{"a", "b", "c", "a"} {
			if got := within(t, 2*w.ttl, "a leader", terms); got != want {
				t.Errorf("%s leads, want %s", got, want)
			}
			time.Sleep(time.Second)
			w.net.Heal()
			time.Sleep(w.ttl)
			w.net.Isolate(w.host(want))
		}
		w.net.Heal()
		cancel()
		wg.Wait()

		c := w.client("d")
		broken := errors.New("broken")
		if err := c.Elect(t.Context(), "boss", func(context.Context, *lockclient.Lock) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("got %v, want what the leader returned", err)
		}
		if info := must[lockclient.Info](t)(c.Inspect(t.Context(), "boss")); info.Holder != nil {
			t.Errorf("still in office: %+v", info.Holder)
		}
	})
}
