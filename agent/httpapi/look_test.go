package httpapi_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/web"
	"github.com/peerhq/peer/testcluster"
)

// Pages share their looks at Redis, and look the less often the longer it takes.
func TestPagesShareALookAtTheLocks(t *testing.T) {
	for _, tt := range []struct {
		name       string
		took       time.Duration
		least, max int // looks in a minute of five pages that ask every 2 s
	}{
		{"few keys", 500 * time.Microsecond, 25, 31},
		{"a million keys", 800 * time.Millisecond, 3, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testcluster.Bubble(t, func(t *testing.T) {
				a := newFakeAgent()
				looks := 0
				a.lock = func(context.Context) (api.Locks, error) {
					looks++
					time.Sleep(tt.took)
					return api.Locks{Locks: []api.Lock{{Name: "l", TTLMS: 60000, ExpiresInMS: 60000, Holder: &api.LockHolder{Node: "b"}}}}, nil
				}
				e := start(t, a)
				began := time.Now()
				var pages sync.WaitGroup
				for range 5 {
					pages.Go(func() {
						for time.Since(began) < time.Minute {
							v := decode[web.View](t, e.get("/page.json"))
							if v.Locks.Problem != "" || len(v.Locks.Rows) != 1 {
								t.Errorf("the page says %+v", v.Locks)
							}
							if old := strings.Contains(v.Locks.Total, "as of"); old && v.Locks.Rows[0].LeftMS == "60000" {
								t.Errorf("an old look at a fresh lease: %+v", v.Locks)
							}
							time.Sleep(2 * time.Second)
						}
					})
				}
				pages.Wait()
				if looks < tt.least || looks > tt.max {
					t.Errorf("%d looks, want %d to %d", looks, tt.least, tt.max)
				}
			})
		})
	}
}

// What happens here shows at once, and so does a Redis that is back.
func TestALookAtTheLocksIsFreshWhenItMatters(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		down := false
		a.lock = func(ctx context.Context) (api.Locks, error) {
			if down {
				<-ctx.Done()
				return api.Locks{}, ctx.Err()
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.locks, nil
		}
		e := start(t, a)
		look := func() web.Locks { return decode[web.View](t, e.get("/page.json")).Locks }
		if l := look(); !l.Empty {
			t.Errorf("at first %+v", l)
		}
		a.change(func(a *fakeAgent) { a.locks.Locks = []api.Lock{{Name: "l"}} })
		if l := look(); !l.Empty {
			t.Errorf("at the same moment, without an event: %+v", l)
		}
		a.emit("lock_acquired", "a acquired lock l")
		if l := look(); len(l.Rows) != 1 {
			t.Errorf("after an event: %+v", l)
		}
		down = true
		time.Sleep(2 * time.Second)
		if l := look(); l.Problem == "" {
			t.Errorf("without Redis: %+v", l)
		}
		down = false
		time.Sleep(2 * time.Second)
		if l := look(); len(l.Rows) != 1 {
			t.Errorf("with Redis again: %+v", l)
		}
	})
}
