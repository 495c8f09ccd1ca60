package lockclient_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// Many ask at one time and are sent together: each gets what it asked for, and one
// whose key is spoiled gets its own error.
func TestBatch(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		c, admin := w.client("a"), w.admin()
		must[struct{}](t)(struct{}{}, hold(t, c, "warm").Release(t.Context()))
		const n, spoiled, long = 40, 33, 5 * time.Minute
		must[int64](t)(admin.RPush(t.Context(), fmt.Sprintf("peer:{demo%d}:f", spoiled), "x").Result())

		locks := make([]*lockclient.Lock, n)
		// together runs f for all, so that none is answered before the last asks.
		together := func(f func(i int)) {
			var wg sync.WaitGroup
			w.redis.Pause()
			for i := range n {
				wg.Go(func() { f(i) })
			}
			time.Sleep(20 * time.Millisecond)
			w.redis.Resume()
			wg.Wait()
		}
		take := func(i int) {
			opts := []lockclient.Option{lockclient.WithTTL(time.Minute)}
			if i%3 == 0 {
				opts = []lockclient.Option{lockclient.WithTTL(long)}
			}
			l, err := c.Acquire(t.Context(), fmt.Sprint("demo", i), opts...)
			var u *lockclient.UnavailableError
			switch {
			case i != spoiled && err != nil:
				t.Errorf("demo%d: %v", i, err)
			case i == spoiled && (!errors.As(err, &u) || u.Cause != lockclient.CauseWrongType):
				t.Errorf("demo%d, spoiled: %v, want the wrong type", i, err)
			}
			locks[i] = l
		}
		together(take)
		for i, l := range locks {
			if l == nil {
				continue
			}
			left := must[time.Duration](t)(admin.PTTL(t.Context(), fmt.Sprintf("peer:{demo%d}", i)).Result())
			if isLong := left > time.Minute; isLong != (i%3 == 0) {
				t.Errorf("demo%d lasts %v more", i, left)
			}
		}
		if t.Failed() {
			return
		}
		// Half give back, and take anew at once; the others hold.
		together(func(i int) {
			if l := locks[i]; l != nil && i%2 == 0 {
				if err := l.Release(t.Context()); err != nil {
					t.Errorf("demo%d: %v", i, err)
				}
				fence := l.Fence()
				if take(i); locks[i] != nil && locks[i].Fence() <= fence {
					t.Errorf("demo%d: fence %d after %d", i, locks[i].Fence(), fence)
				}
			}
		})
		for i, l := range locks {
			if i != spoiled && (l == nil || !l.Valid()) {
				t.Errorf("demo%d is not held", i)
			}
		}
	})
}

// A server that is fed by many goroutines gets scripts for several locks; one that
// is part of a cluster, and takes none, gets them one by one.
func TestBatchIsOneScript(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"}} {
		s := startRedis(t, args...)
		if args != nil {
			slots := []any{"CLUSTER", "ADDSLOTS"}
			for i := range 16384 {
				slots = append(slots, i)
			}
			s.do(slots...)
			for admin := s.admin(); admin.Set(t.Context(), "up", 1, 0).Err() != nil; {
				time.Sleep(10 * time.Millisecond) // the node takes its time to be a cluster
			}
		}
		c := s.client(t)
		must[struct{}](t)(struct{}{}, hold(t, c, "warm").Release(t.Context()))
		time.Sleep(100 * time.Millisecond) // by then the server knows all scripts
		// What a cluster refuses in the first round is not tried in the second.
		for round := range 2 {
			s.do("CONFIG", "RESETSTAT")
			const goroutines, each = 64, 20
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for range each {
						l, err := c.Acquire(t.Context(), fmt.Sprint("demo", g))
						if err != nil {
							t.Error(err)
							return
						}
						if err := l.Release(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			// A hold that lasts is renewed, by a script of its own. Of all these only
			// releases and renewals do a GET.
			info := must[map[string]map[string]string](t)(s.admin().InfoMap(t.Context(), "commandstats").Result())
			renewed := calls(info["Commandstats"]["cmdstat_get"]) - goroutines*each
			sent, asked := commands(t, s)-renewed, 2*goroutines*each
			t.Logf("%v: %d questions were %d scripts, and %d renewals", args, asked, sent, renewed)
			if args == nil && sent > asked/2 || args != nil && (sent < asked || sent > asked+10) {
				t.Errorf("%v: %d questions were %d scripts", args, asked, sent)
			}
			refused := strings.Contains(fmt.Sprint(s.do("INFO", "errorstats")), "errorstat_CROSSSLOT")
			if want := args != nil && round == 0; refused != want {
				t.Errorf("%v, round %d: a script was refused for crossing slots: %v, want %v", args, round, refused, want)
			}
		}
	}
}
