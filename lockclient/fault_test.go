package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A won is what an Acquire in the background came to.
type won struct {
	lock *lockclient.Lock
	err  error
	at   time.Time
}

// later acquires name in the background and returns when it is in the queue.
func later(t testing.TB, c *lockclient.Client, name string, opts ...lockclient.Option) <-chan won {
	t.Helper()
	queued, got := make(chan struct{}, 100), make(chan won, 1)
	go func() {
		opts := append(opts, lockclient.OnWait(func(lockclient.Waiting) { queued <- struct{}{} }))
		l, err := c.Acquire(context.Background(), name, opts...)
		got <- won{l, err, time.Now()}
	}()
	select {
	case <-queued:
	case w := <-got:
		t.Fatalf("did not wait: got %v, %v", w.lock, w.err)
	case <-time.After(20 * time.Second):
		t.Fatal("is not in the queue after 20 s")
	}
	return got
}

// listening waits until n processes hear what is said to them: a grant passes one
// over that does not, and a holder hears of a ForceRelease by a renewal only.
func listening(t testing.TB, rdb *redis.Client, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(rdb.PubSubChannels(t.Context(), "peer:process:*").Val()) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes do not listen after 20 s", n)
		}
		time.Sleep(20 * time.Millisecond) // a process of its own: there is nothing to wait on
	}
}

// within returns what comes from ch, or fails.
func within[T any](t testing.TB, d time.Duration, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(d):
		t.Fatalf("%s: nothing within %v", what, d)
		panic("not reached")
	}
}

// lostAt reports when l was lost.
func lostAt(l *lockclient.Lock) <-chan time.Time {
	ch, lost := make(chan time.Time, 1), l.Lost()
	go func() {
		<-lost
		ch <- time.Now()
	}()
	return ch
}

func hold(t testing.TB, c *lockclient.Client, name string, opts ...lockclient.Option) *lockclient.Lock {
	t.Helper()
	l, err := c.Acquire(context.Background(), name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The holder is cut off at every phase of its renewals: it is told before the
// next is granted, and its deadline was before that too.
func TestToldBeforeTheNext(t *testing.T) {
	for phase := range 12 {
		t.Run(fmt.Sprintf("phase=%d", phase), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a, b := w.client("a"), w.client("b")
				l := hold(t, a, "demo")
				next := later(t, b, "demo")
				time.Sleep(w.ttl + w.ttl*time.Duration(phase)/24)
				if !l.Valid() {
					t.Fatalf("lost before the cut: %v", l.Err())
				}
				lost := lostAt(l)
				w.net.Isolate(w.host("a"))
				won := within(t, 3*w.ttl, "the next", next)
				at := within(t, 3*w.ttl, "the loss", lost)
				if won.err != nil {
					t.Fatal(won.err)
				}
				if !at.Before(won.at) || !l.Deadline().Before(won.at) {
					t.Errorf("lost at %v, deadline %v, next granted at %v: want them before it", at, l.Deadline(), won.at)
				}
				if early := won.at.Sub(at); early > w.ttl/50+w.ttl/100 {
					t.Errorf("told %v before the next: too early, that was still its own", early)
				}
				if won.lock.Fence() <= l.Fence() {
					t.Errorf("fence %d after %d", won.lock.Fence(), l.Fence())
				}
				if cause := context.Cause(l.Context()); !errors.Is(cause, lockclient.ErrLost) || !errors.Is(cause, lockclient.ErrExpired) {
					t.Errorf("cause %v, want ErrLost and ErrExpired", cause)
				}
				w.net.Heal()
				if err := l.Release(t.Context()); !errors.Is(err, lockclient.ErrLost) {
					t.Errorf("release after the loss: %v, want ErrLost", err)
				}
				time.Sleep(w.ttl)
				if !won.lock.Valid() {
					t.Errorf("the new holder was disturbed: %v", won.lock.Err())
				}
			})
		})
	}
}

// Redis does not answer for twice the time to live.
func TestStalled(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		a, b := w.client("a"), w.client("b")
		l := hold(t, a, "demo")
		next := later(t, b, "demo")
		lost := lostAt(l)
		w.redis.Pause()
		start := time.Now()
		at := within(t, time.Minute, "the loss", lost)
		if w.net != nil && at.Sub(start) > w.ttl {
			t.Errorf("told %v after the stall, want within %v", at.Sub(start), w.ttl)
		}
		if d := l.Deadline().Sub(start); d > w.ttl {
			t.Errorf("its deadline is %v after the stall, want within %v", d, w.ttl)
		}
		time.Sleep(2*w.ttl - time.Since(start))
		w.redis.Resume()
		won := within(t, 5*w.ttl+20*w.slack, "the next", next)
		if won.err != nil {
			t.Fatal(won.err)
		}
		if won.lock.Fence() <= l.Fence() || !l.Deadline().Before(won.at) {
			t.Errorf("fence %d after %d, granted %v after the deadline", won.lock.Fence(), l.Fence(), won.at.Sub(l.Deadline()))
		}
	})
}

// Redis is killed, stays away, and comes back without its data.
func TestRestartedEmpty(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		l := hold(t, a, "demo")
		first, second := later(t, b, "demo"), later(t, c, "demo")
		lost := lostAt(l)
		w.redis.Kill()
		within(t, 2*w.ttl, "the loss", lost)
		if _, err := a.TryAcquire(t.Context(), "other"); !errors.Is(err, lockclient.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		time.Sleep(w.ttl)
		w.redis.RestartEmpty()
		// Whichever comes back first: b waited before c.
		won := within(t, 10*time.Second, "the first after Redis came back", first)
		if won.err != nil {
			t.Fatal(won.err)
		}
		if won.lock.Fence() <= l.Fence() {
			t.Errorf("fence %d after %d", won.lock.Fence(), l.Fence())
		}
		won.lock.Release(t.Context())
		other := within(t, 5*time.Second, "the other", second)
		if other.err != nil || other.lock.Fence() <= won.lock.Fence() {
			t.Errorf("got %v, %v", other.lock, other.err)
		}
	})
}

// Redis is back at once, without its data, and in a quiet period grants nothing
// that may still be held.
func TestQuietAfterStart(t *testing.T) {
	t.Parallel()
	w := world{t: t, redis: testcluster.StartRedis(t), ttl: 2 * time.Second}
	quiet := func(cfg *lockclient.Config) { cfg.QuietAfterStart = w.ttl }
	a, b := w.client("a", quiet), w.client("b", quiet)
	// However long Redis has been up by now.
	longer := func(cfg *lockclient.Config) { cfg.QuietAfterStart = time.Hour }
	_, err := w.client("c", longer).TryAcquire(t.Context(), "demo")
	var u *lockclient.UnavailableError
	if !errors.As(err, &u) || u.Cause != lockclient.CauseStarted {
		t.Errorf("got %v, want %q", err, lockclient.CauseStarted)
	}
	time.Sleep(w.ttl + 2*time.Second) // Redis counts in whole seconds
	l := hold(t, a, "demo")
	next := later(t, b, "demo")
	time.Sleep(w.ttl / 2)
	lost := lostAt(l)
	w.redis.RestartEmpty()
	restarted := time.Now()
	won := within(t, 4*w.ttl, "the next", next)
	if won.err != nil {
		t.Fatal(won.err)
	}
	if at := within(t, time.Second, "the loss", lost); !at.Before(won.at) || !l.Deadline().Before(won.at) {
		t.Errorf("granted %v after the restart; lost after %v, deadline after %v",
			won.at.Sub(restarted), at.Sub(restarted), l.Deadline().Sub(restarted))
	}
	if won.lock.Fence() <= l.Fence() {
		t.Errorf("fence %d after %d", won.lock.Fence(), l.Fence())
	}
}

// Redis is back at once: the holder is told as soon as it can be, not when its
// next renewal is due.
func TestToldOfRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a := w.client("a")
		l := hold(t, a, "demo")
		time.Sleep(w.ttl)
		lost := lostAt(l)
		w.redis.RestartEmpty()
		start := time.Now()
		if at := within(t, w.ttl, "the loss", lost); at.Sub(start) > time.Second {
			t.Errorf("told %v after the restart", at.Sub(start))
		}
	})
}

// The clock of Redis is set: fences rise all the same, and who waits gets in.
func TestClockOfRedisSet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				mini := w.redis.(*testcluster.EmbeddedRedis).Mini()
				a, b := w.client("a"), w.client("b")
				l := hold(t, a, "demo")
				fence := l.Fence()
				l.Release(t.Context())
				mini.SetTime(time.Now().Add(by))
				for range 3 {
					l = hold(t, a, "demo")
					if l.Fence() <= fence {
						t.Errorf("fence %d after %d", l.Fence(), fence)
					}
					fence = l.Fence()
					next := later(t, b, "demo")
					l.Release(t.Context())
					won := within(t, time.Second, "the next", next)
					if won.err != nil || won.lock.Fence() <= fence {
						t.Errorf("got %v, fence %d after %d", won.err, won.lock.Fence(), fence)
					}
					fence = won.lock.Fence()
					won.lock.Release(t.Context())
				}
			})
		})
	}
}

// A connection that breaks costs nobody a lock or a place.
func TestConnectionsReset(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.steady()
		// The resets go on for longer than the time to live, and than a claim of
		// those who wait: a third of theirs.
		wait := lockclient.WithTTL(3 * w.ttl)
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		l := hold(t, a, "demo")
		first := later(t, b, "demo", wait)
		second := later(t, c, "demo", wait)
		for range 8 {
			w.redis.Reset()
			time.Sleep(w.ttl / 5)
		}
		listening(t, w.admin(), 3)
		if !l.Valid() {
			t.Fatalf("lost: %v", l.Err())
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		won := within(t, w.ttl+20*w.slack, "the first", first)
		if won.err != nil {
			t.Fatal(won.err)
		}
		select {
		case won := <-second:
			t.Fatalf("the second also got it: %v %v", won.lock, won.err)
		default:
		}
		won.lock.Release(t.Context())
		if won := within(t, w.ttl+20*w.slack, "the second", second); won.err != nil {
			t.Fatal(won.err)
		}
	})
}

// Round trips below a third of the time to live keep a lock, and any below the
// time to live get one.
func TestSlow(t *testing.T) {
	for _, tt := range []struct {
		share float64 // of the time to live
		kept  bool
	}{{0.01, true}, {0.1, true}, {0.2, true}, {0.3, true}, {0.6, false}} {
		t.Run(fmt.Sprint(tt.share), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				a := w.client("a")
				warm := hold(t, a, "warm")
				time.Sleep(time.Second)
				warm.Release(t.Context())
				w.redis.Slow(time.Duration(float64(w.ttl) * tt.share))
				l, err := a.Acquire(t.Context(), "demo")
				if err != nil {
					t.Fatal(err)
				}
				if !l.Valid() {
					t.Fatal("not valid when granted")
				}
				if !tt.kept {
					return
				}
				time.Sleep(10 * w.ttl)
				if !l.Valid() {
					t.Errorf("lost: %v", l.Err())
				}
			})
		})
	}
}

// A free lock costs one round trip of a warm connection, whatever it takes.
func TestOneRoundTrip(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a := w.client("a")
		hold(t, a, "warm").Release(t.Context())
		const rtt = 120 * time.Millisecond
		w.redis.Slow(rtt)
		for _, wait := range []bool{true, false} {
			start := time.Now()
			acquire := a.TryAcquire
			if wait {
				acquire = a.Acquire
			}
			l, err := acquire(t.Context(), "demo")
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > rtt+5*time.Millisecond {
				t.Errorf("wait %v: took %v, want one round trip of %v", wait, d, rtt)
			}
			l.Release(t.Context())
		}
	})
}

// The answer is lost on its way: nothing stays behind that nobody knows of.
func TestLostReply(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.client("a"), w.client("b")
		hold(t, a, "warm").Release(t.Context())
		redis := w.net.Host("10.0.0.1")
		w.net.CutOneWay([]*testcluster.Host{redis}, []*testcluster.Host{w.host("a")})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Acquire(ctx, "demo"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the end of the context", err)
		}
		if info, _ := b.Inspect(t.Context(), "demo"); info.Holder == nil {
			t.Fatal("the question did not arrive: this test shows nothing")
		}
		w.net.Heal()
		start := time.Now()
		l := hold(t, b, "demo")
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("the lock that nobody knew of was in the way for %v", d)
		}
		l.Release(t.Context())
	})
}

// A time to live of a day is handed over like any other.
func TestLongTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b := w.client("a"), w.client("b")
		day := lockclient.WithTTL(lockclient.MaxTTL)
		l := hold(t, a, "demo", day)
		next := later(t, b, "demo", day)
		time.Sleep(time.Hour)
		l.Release(t.Context())
		won := within(t, time.Second, "the next", next)
		if won.err != nil {
			t.Fatal(won.err)
		}
		time.Sleep(48 * time.Hour)
		if !won.lock.Valid() {
			t.Errorf("lost: %v", won.lock.Err())
		}
	})
}

// Something accepts connections and ends them at once: no storm comes of it.
func TestCutAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		var dials atomic.Int64
		c := w.client("a", func(cfg *lockclient.Config) {
			cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				here, there := net.Pipe()
				there.Close()
				return here, nil
			}
		})
		start := time.Now()
		for time.Since(start) < time.Minute {
			_, err := c.TryAcquire(t.Context(), "demo")
			var u *lockclient.UnavailableError
			if !errors.As(err, &u) || u.Cause != lockclient.CauseCut {
				t.Fatalf("got %v, want %q", err, lockclient.CauseCut)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := dials.Load(); n > 100 {
			t.Errorf("%d dials in a minute", n)
		}
	})
}

// The process of a holder is gone, and that of the waiter next in line.
func TestProcessesGone(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b, c, d := w.client("a"), w.client("b"), w.client("c"), w.client("d")
		l := hold(t, a, "demo")
		later(t, b, "demo")
		third := later(t, c, "demo")
		fourth := later(t, d, "demo")
		time.Sleep(100 * time.Millisecond) // all listen now
		w.host("b").Crash()
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		l.Release(t.Context())
		won := within(t, time.Second, "the one behind a process that is gone", third)
		if won.err != nil || won.at.Sub(start) > 10*time.Millisecond {
			t.Errorf("got it after %v, %v, want at once", won.at.Sub(start), won.err)
		}
		start = time.Now()
		w.host("c").Crash()
		won = within(t, 2*w.ttl, "the one behind a holder that is gone", fourth)
		if won.err != nil || won.at.Sub(start) > w.ttl {
			t.Errorf("got it after %v, %v, want within the time to live", won.at.Sub(start), won.err)
		}
	})
}

// A waiter that is cut off costs those behind it its claim, not more.
func TestWaiterCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		l := hold(t, a, "demo")
		second := later(t, b, "demo")
		third := later(t, c, "demo")
		time.Sleep(100 * time.Millisecond) // no question of b is on its way
		w.net.Isolate(w.host("b"))
		start := time.Now()
		l.Release(t.Context())
		won := within(t, w.ttl, "the one behind", third)
		claim := w.ttl / 3
		if won.err != nil || won.at.Sub(start) > claim+50*time.Millisecond {
			t.Errorf("got it after %v, %v, want within the claim of %v", won.at.Sub(start), won.err, claim)
		}
		w.net.Heal()
		won.lock.Release(t.Context())
		if won := within(t, w.ttl, "the one that was cut off", second); won.err != nil || !won.lock.Valid() {
			t.Errorf("got %v, %v", won.lock, won.err)
		}
	})
}

// A waiter that has been cut off for longer than its claim costs nothing.
func TestWaiterLongCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		l := hold(t, a, "demo")
		later(t, b, "demo")
		third := later(t, c, "demo")
		time.Sleep(100 * time.Millisecond)
		w.net.Isolate(w.host("b"))
		time.Sleep(w.ttl/3 + time.Second)
		start := time.Now()
		l.Release(t.Context())
		won := within(t, w.ttl, "the one behind", third)
		if won.err != nil || won.at.Sub(start) > 10*time.Millisecond {
			t.Errorf("got it after %v, %v, want at once", won.at.Sub(start), won.err)
		}
	})
}

// A grant that was called out before the waiter was last told to wait is void.
func TestStaleGrant(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.calm()
		a, b := w.client("a"), w.client("b")
		l := hold(t, a, "demo")
		next := later(t, b, "demo")
		admin := w.admin()
		listening(t, admin, 2) // the holder too
		ids := must[[]string](t)(admin.HKeys(t.Context(), "peer:{demo}:w").Result())
		if len(ids) != 1 {
			t.Fatalf("%d wait, want 1", len(ids))
		}
		process := ids[0][:strings.LastIndex(ids[0], "/")]
		for _, fence := range []uint64{1, l.Fence() - 1, l.Fence()} {
			message := fmt.Sprintf("grant %s %d %d 5000 peer:{demo}", ids[0], fence, time.Now().UnixMilli())
			if n := admin.Publish(t.Context(), "peer:process:"+process, message).Val(); n != 1 {
				t.Fatalf("%d heard it, want 1", n)
			}
		}
		select {
		case won := <-next:
			t.Fatalf("got it, with fence %d: %v", won.lock.Fence(), won.err)
		case <-time.After(100 * time.Millisecond):
		}
		l.Release(t.Context())
		if won := within(t, w.ttl, "the next", next); won.err != nil || won.lock.Fence() <= l.Fence() {
			t.Errorf("got %v", won.err)
		}
	})
}

// A key that is deleted, or becomes something else, is a clean loss.
func TestKeyTampered(t *testing.T) {
	for name, tamper := range map[string]func(w world){
		"deleted":  func(w world) { w.admin().Del(context.Background(), "peer:{demo}") },
		"flushed":  func(w world) { w.admin().FlushAll(context.Background()) },
		"replaced": func(w world) { w.admin().Set(context.Background(), "peer:{demo}", "something", 0) },
		"a list": func(w world) {
			c := w.admin()
			c.Del(context.Background(), "peer:{demo}")
			c.LPush(context.Background(), "peer:{demo}", "something")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, w world) {
				w = w.steady()
				a := w.client("a")
				l := hold(t, a, "demo")
				lost := lostAt(l)
				tamper(w)
				within(t, w.ttl, "the loss", lost)
				if err := l.Release(t.Context()); !errors.Is(err, lockclient.ErrLost) {
					t.Errorf("release: %v, want ErrLost", err)
				}
				_, err := a.TryAcquire(t.Context(), "demo")
				var u *lockclient.UnavailableError
				switch name {
				case "a list", "replaced":
					if !errors.As(err, &u) || u.Cause != lockclient.CauseWrongType {
						t.Errorf("got %v, want a wrong type", err)
					}
				default:
					if err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// Scripts that the server has forgotten are sent again.
func TestScriptsFlushed(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.steady()
		a, b := w.client("a"), w.client("b")
		l := hold(t, a, "demo")
		next := later(t, b, "demo")
		admin := w.admin()
		for range 20 {
			if err := admin.ScriptFlush(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(w.ttl / 10)
		}
		if !l.Valid() {
			t.Fatalf("lost: %v", l.Err())
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if won := within(t, w.ttl, "the next", next); won.err != nil {
			t.Error(won.err)
		}
	})
}

// ForceRelease calls the next and tells the holder, in one round trip.
func TestForceRelease(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.calm()
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		if _, err := c.ForceRelease(t.Context(), "demo"); !errors.Is(err, lockclient.ErrNotHeld) {
			t.Errorf("got %v, want ErrNotHeld", err)
		}
		l := hold(t, a, "demo")
		next := later(t, b, "demo")
		listening(t, w.admin(), 2)
		time.Sleep(200 * time.Millisecond) // the holder renews when it begins to listen: that is over
		lost := lostAt(l)
		start := time.Now()
		info := must[lockclient.Info](t)(c.ForceRelease(t.Context(), "demo"))
		if info.Holder == nil || info.Holder.Node != "a" || info.Fence != l.Fence() {
			t.Errorf("got %+v, want the hold of a", info)
		}
		limit := 10*time.Millisecond + w.slack
		if d := within(t, w.ttl, "the loss", lost).Sub(start); d > limit {
			t.Errorf("told after %v", d)
		}
		if !errors.Is(l.Err(), lockclient.ErrForced) || !errors.Is(l.Err(), lockclient.ErrLost) {
			t.Errorf("got %v, want ErrForced and ErrLost", l.Err())
		}
		won := within(t, w.ttl, "the next", next)
		if won.err != nil || won.at.Sub(start) > limit || won.lock.Fence() <= l.Fence() {
			t.Errorf("got %v after %v, fence %d after %d", won.err, won.at.Sub(start), won.lock.Fence(), l.Fence())
		}
		if err := l.Release(t.Context()); !errors.Is(err, lockclient.ErrLost) {
			t.Errorf("release: %v, want ErrLost", err)
		}
		if !won.lock.Valid() {
			t.Error("the old holder's release hit the new hold")
		}
	})
}
