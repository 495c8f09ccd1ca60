package testcluster_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/testcluster"
)

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

var realDial dialFunc = new(net.Dialer).DialContext

// redisClient is a client without retries, so that a test sees each error. It waits
// so long for an answer.
func redisClient(t testing.TB, addr string, dial dialFunc, patience time.Duration) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: addr, Dialer: dial, MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true,
		DialTimeout: 10 * time.Second, ReadTimeout: patience, WriteTimeout: patience, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// testRedisFaults is the contract of a testcluster.Redis, the same for all.
func testRedisFaults(t *testing.T, r testcluster.Redis, dial dialFunc) {
	c, brief := redisClient(t, r.Addr(), dial, 10*time.Second), redisClient(t, r.Addr(), dial, 300*ms)
	ctx := t.Context()
	set := func(want string) error {
		t.Helper()
		if err := c.Set(ctx, "key", want, 0).Err(); err != nil {
			return err
		}
		if got := c.Get(ctx, "key").Val(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		return nil
	}
	works := func(when string) {
		t.Helper()
		// The pool may still hold streams that have ended.
		for range 20 {
			if set(when) == nil {
				break
			}
		}
		if err := set(when); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	var timeout net.Error
	works("at first")

	if err := c.Set(ctx, "gone", "x", 50*ms).Err(); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * ms)
	if got := c.Exists(ctx, "gone").Val(); got != 0 {
		t.Error("a key outlived its time")
	}

	r.Stall()
	if err := brief.Set(ctx, "key", "stalled", 0).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("stalled: %v, want a time-out", err)
	}
	r.Heal()
	works("after a stall")

	r.Pause()
	if err := brief.Set(ctx, "key", "paused", 0).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("paused: %v, want a time-out", err)
	}
	r.Resume()
	works("after a pause")

	old, err := dial(ctx, "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	write(t, old, "*1\r\n$4\r\nPING\r\n")
	want(t, old, "+PONG\r\n")
	r.Reset()
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: the old stream reads %v", err)
	}
	works("after a reset")

	r.Cut()
	for err := set("cut"); !errors.Is(err, syscall.ECONNREFUSED); err = set("cut") {
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("cut: %v", err)
		}
	}
	r.Heal()
	works("after a cut")

	r.Slow(100 * ms)
	quickest := time.Hour
	for range 20 { // a busy machine adds to some of them
		start := time.Now()
		if err := c.Ping(ctx).Err(); err != nil {
			t.Errorf("slow by 100 ms: %v", err)
		}
		if quickest = min(quickest, time.Since(start)); quickest < 250*ms {
			break
		}
	}
	if quickest < 100*ms || quickest > 250*ms {
		t.Errorf("slow by 100 ms: %v", quickest)
	}
	r.Heal()
	works("after being slow")

	r.Kill()
	for err := set("killed"); !errors.Is(err, syscall.ECONNREFUSED); err = set("killed") {
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("killed: %v", err)
		}
	}
	r.RestartEmpty()
	if got, err := c.Exists(ctx, "key").Result(); err != nil || got != 0 {
		t.Errorf("restarted empty: %d keys, %v", got, err)
	}
	works("after a restart")
}

func TestRedisServerFaults(t *testing.T) {
	r := testcluster.StartRedis(t)
	testRedisFaults(t, r, realDial)
}

func TestFallbackRedisFaults(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv("PEER_TEST_REQUIRE", "")
	r := testcluster.StartAnyRedis(t)
	if !r.Embedded() {
		t.Fatal("found a redis-server without a PATH")
	}
	testRedisFaults(t, r, realDial)
}

func TestEmbeddedRedisFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := two(testcluster.Link{Latency: ms / 2})
		r := testcluster.StartEmbedded(t, b)
		testRedisFaults(t, r, a.DialContext)
	})
}

func TestRedisServerArguments(t *testing.T) {
	r := testcluster.StartRedis(t, "--requirepass", "secret")
	c := redisClient(t, r.Addr(), realDial, 10*time.Second)
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("no password was asked for")
	}
}
