package lockclient_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A world is a Redis that can be broken, and hosts to reach it from.
type world struct {
	t     testing.TB
	redis testcluster.Redis
	net   *testcluster.Net // nil outside a bubble
	ttl   time.Duration    // what tests of time use here: short where time is real
	slack time.Duration    // what a busy machine may add where time is real
	quiet bool             // it may lose its data at once, and grants nothing for a while then
}

// client starts a client on a host of its own, in a bubble, that is closed at
// the end of the test.
func (w world) client(name string, change ...func(*lockclient.Config)) *lockclient.Client {
	w.t.Helper()
	cfg := lockclient.Config{URL: "redis://" + w.redis.Addr(), Node: name, PID: 7, Command: "test", TTL: w.ttl}
	if w.net != nil {
		cfg.Dial = w.host(name).DialContext
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := lockclient.Start(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// calm is w for a test that does not wait for times to live. Where time is real
// they are long, so that no stall of a busy machine loses a hold or a place; and
// what slack allows is over before a beat, a renewal or the end of a call is due:
// half a minute, one minute and half a minute.
func (w world) calm() world {
	if w.net == nil {
		w.ttl, w.slack = 3*time.Minute, 20*time.Second
	}
	return w
}

// steady is w for a test that outlives a time to live, and loses nothing: where
// time is real, a renewal may take two seconds.
func (w world) steady() world {
	if w.net == nil {
		w.ttl = 3 * time.Second
	}
	return w
}

// host is the one that client(name) runs on.
func (w world) host(name string) *testcluster.Host {
	sum := 0
	for _, b := range []byte(name) {
		sum = (sum*31 + int(b)) % 250
	}
	return w.net.Host("10.0.1." + strconv.Itoa(sum+1))
}

// admin is a plain client, to look and to break things.
func (w world) admin() *redis.Client {
	opt := &redis.Options{Addr: w.redis.Addr(), MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}}
	if w.net != nil {
		dial := w.net.Host("10.0.0.2").DialContext
		opt.Dialer = dial
	}
	c := redis.NewClient(opt)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// inBubble runs f against the embedded Redis in virtual time.
func inBubble(t *testing.T, f func(t *testing.T, w world)) {
	testcluster.Bubble(t, func(t *testing.T) {
		n := testcluster.NewNet(1, testcluster.Link{Latency: 200 * time.Microsecond})
		f(t, world{t: t, redis: testcluster.StartEmbedded(t, n.Host("10.0.0.1")), net: n, ttl: 15 * time.Second})
	})
}

// inWorlds runs f in a bubble, and in real time against a redis-server behind a
// proxy that can stall and cut.
func inWorlds(t *testing.T, f func(t *testing.T, w world)) {
	t.Run("bubble", func(t *testing.T) { inBubble(t, f) })
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, world{t: t, redis: testcluster.StartRedis(t), ttl: 1500 * time.Millisecond, slack: 300 * time.Millisecond})
	})
}

// inEveryWorld runs f also against the embedded Redis over loopback: what it can
// do, it must do like the real one.
func inEveryWorld(t *testing.T, f func(t *testing.T, w world)) {
	inWorlds(t, f)
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		m := miniredis.RunT(t)
		m.ClockTTL(true)
		f(t, world{t: t, redis: embedded{nil, m.Addr()}, ttl: 1500 * time.Millisecond, slack: 300 * time.Millisecond})
	})
}

// embedded is a Redis without faults.
type embedded struct {
	testcluster.Redis
	addr string
}

func (e embedded) Addr() string { return e.addr }

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
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		ctx := t.Context()
		a, b := w.client("a"), w.client("b")
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
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.calm()
		ctx := t.Context()
		a, b, c := w.client("a"), w.client("b"), w.client("c")
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
	inEveryWorld(t, func(t *testing.T, w world) {
		w = w.steady()
		ctx := t.Context()
		a := w.client("a")
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo"))
		select {
		case <-l.Lost():
			t.Fatalf("lost: %v", l.Err())
		case <-time.After(w.ttl * 5 / 2):
		}
		if !l.Valid() {
			t.Error("not valid after two and a half times its time to live")
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}
