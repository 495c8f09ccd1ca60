package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// fill puts n locks where they are held, as clients would leave them.
func fill(t *testing.T, rdb *redis.Client, n int) {
	t.Helper()
	_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			key := fmt.Sprintf("peer:{lock %04d}", i)
			p.Set(t.Context(), key, fmt.Sprintf(`a/1/%d|%d|1700000000000|{"node":"a","pid":7,"cmd":"x","ttl_ms":60000}`, i, i+1), time.Minute)
			p.Set(t.Context(), key+":f", i+1, 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Five thousand locks are listed in few round trips: each takes 20 ms here.
func TestListInFewRoundTrips(t *testing.T) {
	t.Parallel()
	w := world{t: t, redis: testcluster.StartRedis(t), ttl: time.Minute}
	fill(t, w.admin(), 5000)
	c := w.client("a")
	hold(t, c, "warm").Release(t.Context())
	w.redis.Slow(20 * time.Millisecond)
	start := time.Now()
	infos := must[[]lockclient.Info](t)(c.List(t.Context()))
	// Some forty round trips; one for each lock would take more than 100 s.
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
	if len(infos) != 5000 || infos[0].Name != "lock 0000" || infos[4999].Fence != 5000 || infos[7].Holder.Node != "a" {
		t.Errorf("%d locks, want 5000 as they are", len(infos))
	}
}

// A script cache that was flushed, and what another program has put where a lock
// belongs: the list is there all the same.
func TestListInSpiteOf(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.calm()
		admin := w.admin()
		fill(t, admin, 450)
		if err := admin.HSet(t.Context(), "peer:{lock 0003 b}", "some", "thing").Err(); err != nil {
			t.Fatal(err)
		}
		c := w.client("a")
		for range 2 {
			infos := must[[]lockclient.Info](t)(c.List(t.Context()))
			if len(infos) != 451 || infos[4].Name != "lock 0003 b" || infos[4].Holder == nil || infos[4].Holder.Node != "another program" {
				t.Fatalf("%d locks, want 451 and another program's", len(infos))
			}
			if err := admin.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.List(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
}

// BenchmarkList is of 5,000 locks.
func BenchmarkList(b *testing.B) {
	s := startRedis(b)
	admin := s.admin()
	pipe := admin.Pipeline()
	for i := range 5000 {
		pipe.Set(b.Context(), fmt.Sprintf("peer:{lock %d}", i), `a/1/1|1|1700000000000|{"node":"a","pid":7,"cmd":"x","ttl_ms":60000}`, time.Hour)
		pipe.Set(b.Context(), fmt.Sprintf("peer:{lock %d}:f", i), "1", 0)
	}
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	c, err := lockclient.Start(lockclient.Config{URL: s.url(), Node: "node"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		if infos, err := c.List(b.Context()); err != nil || len(infos) != 5000 {
			b.Fatal(len(infos), err)
		}
	}
}
