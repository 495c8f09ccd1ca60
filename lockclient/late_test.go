package lockclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// While an answer takes longer than the lock would live, a waiter stays, and gets
// it when answers come in time again, before those who came later.
func TestLateGrantKeepsItsPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		short := lockclient.WithTTL(time.Second)
		l := hold(t, a, "demo")
		next := later(t, b, "demo", short)
		w.redis.Slow(1200 * time.Millisecond)
		go l.Release(t.Context())
		select {
		case won := <-next:
			t.Fatalf("the wait ended: %v, %v", won.lock, won.err)
		case <-time.After(20 * time.Second):
		}
		w.redis.Heal()
		won := within(t, 5*time.Second, "the grant", next)
		if won.err != nil || !won.lock.Valid() || won.lock.Fence() <= l.Fence() {
			t.Fatalf("got %v, %v", won.lock, won.err)
		}
		behind := later(t, c, "demo", short)
		if err := won.lock.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if won := within(t, time.Second, "the next", behind); won.err != nil {
			t.Error(won.err)
		}
	})
}

// What is handed over far away is kept too, whenever the turn comes: where little
// would be left of it, it is asked for anew before it counts.
func TestHandedOverFarAway(t *testing.T) {
	for _, rtt := range []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, time.Second, 1250 * time.Millisecond, 2 * time.Second} {
		t.Run(rtt.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a, b := w.client("a"), w.client("b")
				long := lockclient.WithTTL(lockclient.DefaultTTL)
				w.redis.Slow(rtt)
				for phase := time.Duration(0); phase < 6*time.Second; phase += 230 * time.Millisecond {
					name := fmt.Sprint("demo ", phase)
					l := hold(t, a, name, long)
					next := later(t, b, name, long)
					time.Sleep(10*time.Second + phase)
					go l.Release(t.Context())
					won := within(t, 20*time.Second, "the grant", next)
					if won.err != nil {
						t.Fatalf("after %v: %v", phase, won.err)
					}
					time.Sleep(lockclient.DefaultTTL)
					if !won.lock.Valid() {
						t.Errorf("after %v: lost: %v", phase, won.lock.Err())
					}
					if err := won.lock.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// A waiter whose connections have all just broken listens again a round trip or two
// later, and gets its turn.
func TestListensAgainAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		long := lockclient.WithTTL(10 * time.Minute)
		l := hold(t, a, "demo", long)
		first := later(t, b, "demo", long)
		second := later(t, c, "demo", long)
		time.Sleep(5 * time.Second)
		w.host("b").ResetStreams()
		time.Sleep(20 * time.Millisecond)
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		won := within(t, time.Second, "the first one's turn", first)
		if won.err != nil {
			t.Fatal(won.err)
		}
		select {
		case <-second:
			t.Error("the second one has it too")
		default:
		}
	})
}

// One who does not wait yet is told that no grant comes in time.
func TestLateFirstAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a := w.client("a")
		hold(t, a, "warm").Release(t.Context())
		w.redis.Slow(1200 * time.Millisecond)
		_, err := a.Acquire(t.Context(), "demo", lockclient.WithTTL(time.Second))
		var u *lockclient.UnavailableError
		if !errors.As(err, &u) || u.Cause != lockclient.CauseTimeout || !strings.Contains(err.Error(), "in time") {
			t.Errorf("got %v, want %q", err, lockclient.CauseTimeout)
		}
		w.redis.Heal()
		time.Sleep(3 * time.Second)
		if info := must[lockclient.Info](t)(a.Inspect(t.Context(), "demo")); info.Holder != nil || len(info.Waiters) > 0 {
			t.Errorf("left behind: %+v", info)
		}
	})
}

// A hold that is taken by force the moment it began is told at once too, whether
// its process listens already or only begins to.
func TestForcedAtOnce(t *testing.T) {
	for _, listens := range []bool{false, true} {
		t.Run(fmt.Sprintf("listens=%v", listens), func(t *testing.T) {
			inWorlds(t, func(t *testing.T, w world) {
				a, b := w.client("a"), w.client("b")
				long := lockclient.WithTTL(10 * time.Minute)
				if listens {
					hold(t, a, "other", long)
					time.Sleep(200*time.Millisecond + w.slack)
				}
				for i := range 10 {
					name := fmt.Sprint("demo ", i)
					l := hold(t, a, name, long)
					lost := lostAt(l)
					start := time.Now()
					must[lockclient.Info](t)(b.ForceRelease(t.Context(), name))
					limit := 150 * time.Millisecond // it begins to listen after 100
					if listens {
						limit = 10 * time.Millisecond
					}
					if w.net == nil {
						limit = time.Minute // its next renewal would be after three
					}
					if d := within(t, 2*time.Minute, "the loss", lost).Sub(start); d > limit {
						t.Errorf("told after %v", d)
					}
					listens = true
				}
			})
		})
	}
}

// The word that a hold was taken by force comes before the hold itself: the one
// that gets it finds it lost, and not at its next renewal.
func TestForcedBeforeItsGrantIsSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		answers := &valve{}
		a := w.client("a", func(cfg *lockclient.Config) {
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := w.host("a").DialContext(ctx, network, addr)
				return &valved{Conn: conn, valve: answers}, err
			}
		})
		b := w.client("b")
		hold(t, a, "other")
		time.Sleep(time.Second) // a listens now
		answers.shut()
		got := make(chan won, 1)
		go func() {
			l, err := a.Acquire(t.Context(), "demo", lockclient.WithTTL(10*time.Minute))
			got <- won{l, err, time.Now()}
		}()
		time.Sleep(50 * time.Millisecond)
		if info := must[lockclient.Info](t)(b.ForceRelease(t.Context(), "demo")); info.Holder == nil || info.Holder.Node != "a" {
			t.Fatalf("took it from %+v, want a", info.Holder)
		}
		time.Sleep(50 * time.Millisecond)
		answers.open()
		won := within(t, time.Second, "the grant", got)
		if won.err != nil {
			t.Fatal(won.err)
		}
		within(t, 10*time.Millisecond, "the loss", won.lock.Lost())
		if !errors.Is(won.lock.Err(), lockclient.ErrForced) {
			t.Errorf("got %v, want ErrForced", won.lock.Err())
		}
	})
}

// A valve holds back what comes through its connections, but for subscriptions.
type valve struct {
	mu   sync.Mutex
	gate chan struct{} // nil when it is open
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gate = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.gate)
	v.gate = nil
}

type valved struct {
	net.Conn
	valve      *valve
	subscribed atomic.Bool
}

func (c *valved) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("subscribe")) {
		c.subscribed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *valved) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.valve.mu.Lock()
	gate := c.valve.gate
	c.valve.mu.Unlock()
	if gate != nil && !c.subscribed.Load() {
		<-gate
	}
	return n, err
}
