//go:build linux

package main

import (
	"context"
	"syscall"
	"testing"
	"time"

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
			c.hurt(r)
			time.Sleep(100 * time.Millisecond) // for its client to meet with it
			start := time.Now()
			_ = p.Process.Signal(syscall.SIGTERM)
			if got := p.code(); got != 128+int(syscall.SIGTERM) {
				t.Errorf("got code %d: %s", got, &p.errOut)
			}
			if d := time.Since(start); d > time.Second {
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
	first := peerLock(t, r, "--ttl", "1500ms", "demo", "--", "sleep", "0.5").start()
	eventually(t, "the first one holds it", func() bool { return inspect(t, client, "demo").Holder != nil })
	second := peerLock(t, r, "--ttl", "1500ms", "demo", "--", "sh", "-c", "sleep 4; exit 3").start()
	if got := first.code(); got != 0 {
		t.Errorf("the first one ends with %d: %s", got, &first.errOut)
	}
	if got := second.code(); got != 3 {
		t.Errorf("the second one ends with %d: %s", got, &second.errOut)
	}
}
