//go:build linux

package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// Who waits and is told to stop does so, whatever is wrong with Redis.
func TestLockSignalWhileWaitingForASickRedis(t *testing.T) {
	for _, c := range []struct {
		name string
		hurt func(*testcluster.RedisServer)
	}{
		{"stalled", (*testcluster.RedisServer).Stall},
		{"cut off", (*testcluster.RedisServer).Cut},
		{"killed", (*testcluster.RedisServer).Kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := testcluster.StartAnyRedis(t)
			t.Cleanup(r.Heal)
			client := lockClient(t, r)
			if _, err := client.Acquire(context.Background(), "demo"); err != nil {
				t.Fatal(err)
			}
			p := peerLock(t, r, "demo", "--", "true").start()
			eventually(t, "it waits", func() bool { return len(inspect(t, client, "demo").Waiters) == 1 })
			eventually(t, "and knows it", func() bool { return r.Listeners() == 2 }) // else it ends with 69
			c.hurt(r)
			time.Sleep(100 * time.Millisecond) // for its client to meet with it
			start := time.Now()
			_ = p.Process.Signal(syscall.SIGTERM)
			if got := p.code(); got != 128+int(syscall.SIGTERM) {
				t.Errorf("got code %d: %s", got, &p.errOut)
			}
			if d := time.Since(start); d > 4*time.Second { // a call may take 5
				t.Errorf("took %v", d)
			}
		})
	}
}

// What was handed over is renewed like any other, for longer than its first
// lease and than a whole one.
func TestLockHandedOverLasts(t *testing.T) {
	t.Parallel()
	r := testcluster.StartAnyRedis(t)
	client := lockClient(t, r)
	first := peerLock(t, r, "--ttl", "6s", "--grace", "100ms", "demo", "--", "sleep", "0.5").start()
	eventually(t, "the first one holds it", func() bool { return inspect(t, client, "demo").Holder != nil })
	second := peerLock(t, r, "--ttl", "6s", "--grace", "100ms", "demo", "--", "sh", "-c", "sleep 8; exit 3").start()
	if got := first.code(); got != 0 {
		t.Errorf("the first one ends with %d: %s", got, &first.errOut)
	}
	if got := second.code(); got != 3 {
		t.Errorf("the second one ends with %d: %s", got, &second.errOut)
	}
}

// A lock that is renewed while its COMMAND starts has a longer deadline than the
// guard was given, and the guard is told so at once.
func TestLockRenewedWhileItStarts(t *testing.T) {
	t.Parallel()
	held, err := lockClient(t, testcluster.StartAnyRedis(t)).Acquire(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	granted := held.Deadline()
	eventually(t, "it is renewed", func() bool { return held.Deadline().After(granted) })
	before := time.Now().Add(1500 * time.Millisecond) // the next renewal is after 5 s
	g, err := guard.Start(guard.Config{
		Title: "demo", Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 3; exit 3"}, Env: os.Environ(),
		Grace: 100 * time.Millisecond, Deadline: before,
	})
	if err != nil {
		t.Fatal(err)
	}
	if lost := new(invocation).follow(held, before, lockCall{ttl: lockclient.DefaultTTL}, g, nil); lost {
		t.Errorf("lost: %v", held.Err())
	}
	if res, err := g.Result(); err != nil || res.Code != 3 || res.Stopped {
		t.Errorf("COMMAND ended with %+v, %v", res, err)
	}
}
