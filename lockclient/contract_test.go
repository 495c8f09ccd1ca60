package lockclient_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/peerhq/peer/lockclient"
)

// A world is a Redis and the way to it.
type world struct {
	url  string
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// client starts a client of w that is closed at the end of the test.
func (w world) client(t testing.TB, change ...func(*lockclient.Config)) *lockclient.Client {
	t.Helper()
	cfg := lockclient.Config{URL: w.url, Dial: w.dial, Node: "node", PID: 7, Command: "test"}
	for _, f := range change {
		f(&cfg)
	}
	c, err := lockclient.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func node(name string) func(*lockclient.Config) {
	return func(c *lockclient.Config) { c.Node = name }
}

// inWorlds runs f against the embedded Redis in virtual time, the same over
// loopback, and a real redis-server.
func inWorlds(t *testing.T, f func(t *testing.T, w world)) {
	t.Run("bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, bubble(t)) })
	})
	t.Run("embedded", func(t *testing.T) {
		m := miniredis.RunT(t)
		m.ClockTTL(true)
		f(t, world{url: "redis://" + m.Addr()})
	})
	t.Run("redis", func(t *testing.T) { f(t, world{url: startRedis(t).url()}) })
}

// bubble is an embedded Redis inside a synctest bubble.
func bubble(t testing.TB) world {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	t.Cleanup(m.Close)
	return world{url: "redis://bubble:6379", dial: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestAcquireRelease(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		ctx := t.Context()
		a, b := w.client(t, node("a")), w.client(t, node("b"))
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo"))
		if l.Fence() == 0 || !l.Valid() || l.Name() != "demo" {
			t.Errorf("got fence %d, valid %v, name %q, want a fence, true, demo", l.Fence(), l.Valid(), l.Name())
		}
		_, err := b.TryAcquire(ctx, "demo")
		var held *lockclient.HeldError
		if !errors.As(err, &held) || !errors.Is(err, lockclient.ErrHeld) {
			t.Fatalf("got %v, want a HeldError", err)
		}
		if h := held.Holder; h.Node != "a" || h.PID != 7 || h.Command != "test" || h.Since.IsZero() {
			t.Errorf("got holder %+v, want a, 7, test, a time", h)
		}
		if err := l.Release(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(ctx); err != nil {
			t.Errorf("second release: %v", err)
		}
		if l.Valid() || !errors.Is(context.Cause(l.Context()), lockclient.ErrReleased) {
			t.Errorf("after release: valid %v, cause %v", l.Valid(), context.Cause(l.Context()))
		}
		m := must[*lockclient.Lock](t)(b.TryAcquire(ctx, "demo"))
		if m.Fence() <= l.Fence() {
			t.Errorf("got fence %d after %d, want a greater one", m.Fence(), l.Fence())
		}
	})
}

func TestWaitersInOrder(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		ctx := t.Context()
		a, b, c := w.client(t, node("a")), w.client(t, node("b")), w.client(t, node("c"))
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo"))
		got := make(chan string, 4)
		locks := make(chan *lockclient.Lock, 4)
		for i, who := range []struct {
			name string
			c    *lockclient.Client
		}{{"b1", b}, {"c1", c}, {"b2", b}, {"a1", a}} {
			waiting := make(chan int, 10)
			go func() {
				l, err := who.c.Acquire(ctx, "demo", lockclient.OnWait(func(w lockclient.Waiting) {
					select {
					case waiting <- w.Position:
					default:
					}
				}))
				if err != nil {
					t.Error(err)
				}
				got <- who.name
				locks <- l
			}()
			if p := <-waiting; p != i+1 {
				t.Errorf("%s got position %d, want %d", who.name, p, i+1)
			}
		}
		info := must[lockclient.Info](t)(a.Inspect(ctx, "demo"))
		if info.Holder == nil || info.Holder.Node != "a" || len(info.Waiters) != 4 || info.Waiters[1].Node != "c" {
			t.Errorf("got %+v, want holder a and waiters b c b a", info)
		}
		if _, err := c.TryAcquire(ctx, "demo"); !errors.Is(err, lockclient.ErrHeld) {
			t.Errorf("a try past the queue: got %v, want ErrHeld", err)
		}
		fence := l.Fence()
		for _, want := range []string{"b1", "c1", "b2", "a1"} {
			if err := l.Release(ctx); err != nil {
				t.Fatal(err)
			}
			if g := <-got; g != want {
				t.Errorf("got %s, want %s", g, want)
			}
			l = <-locks
			if l.Fence() <= fence {
				t.Errorf("got fence %d after %d", l.Fence(), fence)
			}
			fence = l.Fence()
		}
	})
}

func TestRenewedBeyondTTL(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		ctx := t.Context()
		a := w.client(t)
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo", lockclient.WithTTL(time.Second)))
		select {
		case <-l.Lost():
			t.Fatalf("lost: %v", l.Err())
		case <-time.After(2500 * time.Millisecond):
		}
		if !l.Valid() {
			t.Error("not valid after two and a half times its time to live")
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}
