package lockclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

var errEnough = errors.New("had enough")

// patient has calls go on for half a minute, and what they leave behind stay for a
// minute: longer than these tests wait where time is real.
func patient(cfg *lockclient.Config) { cfg.TTL = time.Minute }

// soon bounds what may pass between the end of a context and the return of who
// was called with it.
func (w world) soon() time.Duration {
	if w.net == nil {
		return 20 * time.Second
	}
	return 5 * time.Millisecond
}

// left calls f with a context that ends after a while, and checks when and how it
// returns.
func left(t *testing.T, w world, after, grace time.Duration, f func(context.Context) error) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(t.Context(), after, errEnough)
	defer cancel()
	if err := f(ctx); !errors.Is(err, errEnough) {
		t.Errorf("got %v, want the cause of the context", err)
	}
	if d := time.Since(start); d < after+grace || d > after+grace+w.soon() {
		t.Errorf("returned after %v, want %v", d, after+grace)
	}
}

// free checks that nothing is in the way of taking these locks, soon.
func free(t *testing.T, w world, names ...string) {
	t.Helper()
	c := w.client("free", patient)
	for _, name := range names {
		ctx, cancel := context.WithTimeout(t.Context(), w.ttl/2+w.soon())
		l, err := c.Acquire(ctx, name)
		cancel()
		if err != nil {
			t.Fatalf("%s is in the way: %v", name, err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Redis does not answer: who leaves is let go at once, whatever the call is
// blocked in, and nothing is left behind.
func TestLeftWhileStalled(t *testing.T) {
	acquire := func(c *lockclient.Client) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.Acquire(ctx, "demo")
			return err
		}
	}
	t.Run("connected", func(t *testing.T) {
		inWorlds(t, func(t *testing.T, w world) {
			c := w.client("a", patient)
			must[struct{}](t)(struct{}{}, hold(t, c, "warm").Release(t.Context()))
			w.redis.Stall()
			left(t, w, w.ttl/10, 0, acquire(c))
			w.redis.Heal()
			free(t, w, "demo")
		})
	})
	t.Run("not connected", func(t *testing.T) {
		inWorlds(t, func(t *testing.T, w world) {
			w.redis.Stall()
			c := w.client("a", patient)
			left(t, w, w.ttl/10, 0, acquire(c))
			w.redis.Heal()
			free(t, w, "demo")
		})
	})
	t.Run("release", func(t *testing.T) {
		inWorlds(t, func(t *testing.T, w world) {
			l := must[*lockclient.Lock](t)(w.client("a", patient).Acquire(t.Context(), "demo"))
			w.redis.Stall()
			left(t, w, w.ttl/10, 2*time.Second, l.Release)
			w.redis.Heal()
			free(t, w, "demo")
		})
	})
}

// Many ask at one time, so that they are sent together, and some of them leave:
// the others are served all the same.
func TestSomeLeaveABatch(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		c := w.client("a", patient)
		must[struct{}](t)(struct{}{}, hold(t, c, "warm").Release(t.Context()))
		w.redis.Pause()
		const n = 40
		var names []string
		var wg, leavers sync.WaitGroup
		for i := range n {
			name := fmt.Sprint("demo", i)
			names = append(names, name)
			// Those that begin leave: the first of them carries a batch for all.
			if i < 4 || i%2 == 0 {
				leavers.Go(func() {
					left(t, w, w.ttl/10+time.Duration(i)*time.Millisecond, 0, func(ctx context.Context) error {
						_, err := c.Acquire(ctx, name)
						return err
					})
				})
				if i == 3 {
					time.Sleep(5 * time.Millisecond)
				}
				continue
			}
			wg.Go(func() {
				l, err := c.Acquire(t.Context(), name)
				if err != nil {
					t.Errorf("%s stayed, and got %v", name, err)
					return
				}
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(w.ttl / 2)
		leavers.Wait()
		w.redis.Resume()
		wg.Wait()
		free(t, w, names...)
		if s := c.Stats(); s.Held != 0 || s.Waiting != 0 {
			t.Errorf("held %d, waiting %d, want none", s.Held, s.Waiting)
		}
	})
}

// A waiter leaves at the very moment at which it asks again, so that nothing of
// the question gets out: it is out of the queue all the same when its client has
// closed, and does not wait for an answer that nobody was asked for.
func TestLeftBeforeItIsSent(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		hold(t, w.client("a"), "demo")
		ctx, cancel := context.WithCancelCause(t.Context())
		var asked atomic.Int32
		b := w.client("b", func(cfg *lockclient.Config) {
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := w.host("b").DialContext(ctx, network, addr)
				return &lateWriter{Conn: conn, stopped: make(chan struct{}, 1), before: func(c *lateWriter) {
					if asked.Add(1) == 2 { // the first one has put it into the queue
						cancel(errEnough)
						<-c.stopped
					}
				}}, err
			}
		})
		if _, err := b.Acquire(ctx, "demo"); !errors.Is(err, errEnough) {
			t.Fatalf("got %v, want the cause of the context", err)
		}
		start := time.Now()
		b.Close()
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		if n := len(must[lockclient.Info](t)(w.client("c").Inspect(t.Context(), "demo")).Waiters); n > 0 {
			t.Errorf("%d are in the queue, want none", n)
		}
	})
}

// A lateWriter calls before ahead of each script, and tells stopped when it was
// given a deadline that is over.
type lateWriter struct {
	net.Conn
	before  func(*lateWriter)
	stopped chan struct{}
}

func (c *lateWriter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("evalsha")) {
		c.before(c)
	}
	return c.Conn.Write(b)
}

func (c *lateWriter) SetDeadline(t time.Time) error {
	err := c.Conn.SetDeadline(t)
	if !t.IsZero() && t.Before(time.Now()) {
		select {
		case c.stopped <- struct{}{}:
		default:
		}
	}
	return err
}

// A context that is over sends nothing and starts nothing, however often somebody
// tries; what has to be given back is given back all the same.
func TestContextIsOver(t *testing.T) {
	s := startRedis(t)
	c := s.client(t, patient)
	l := hold(t, c, "warm")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	cancel(why)
	before, running := commands(t, s), runtime.NumGoroutine()
	const n = 5000
	for i := range n {
		take := c.Acquire
		if i%2 == 0 {
			take = c.TryAcquire
		}
		if l, err := take(ctx, "demo"); l != nil || !errors.Is(err, why) {
			t.Fatalf("got %v, %v", l, err)
		}
	}
	if more := runtime.NumGoroutine() - running; more > 50 {
		t.Errorf("%d goroutines more", more)
	}
	if sent := commands(t, s) - before; sent > n/100 { // "warm" is renewed
		t.Errorf("Redis ran %d scripts for %d calls", sent, n)
	}
	if err := l.Release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
}

// Callers whose deadline ends while others share their batch end their own wait and
// nothing else: no call of another fails, and Redis is not called down.
func TestDeadlinesOfOthers(t *testing.T) {
	s := startRedis(t)
	var down atomic.Int32
	c := s.client(t, patient, func(cfg *lockclient.Config) {
		cfg.OnEvent = func(e lockclient.Event) {
			if e.Type == lockclient.RedisDown {
				down.Add(1)
			}
		}
	})
	hold(t, c, "held")
	end := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				if _, err := c.Acquire(ctx, "held"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("its own deadline: got %v", err)
				}
				cancel()
			}
		})
	}
	for i := range 20 {
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = context.WithoutCancel(ctx)
			}
			for time.Now().Before(end) {
				l, err := c.Acquire(ctx, fmt.Sprint("own", i))
				if err == nil {
					err = l.Release(ctx)
				}
				if err != nil {
					t.Errorf("one without a deadline: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := down.Load(); n > 0 {
		t.Errorf("Redis was called down %d times", n)
	}
}
