package consul_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/consul"
	"github.com/peerhq/peer/testcluster"
)

// The index of an answer moves when that answer does.
func TestIndexMovesWithTheAnswer(t *testing.T) {
	f := newFake()
	sick := func(i *consul.Instance) { i.Health = "critical" }
	f.set("web", f.on(0, nil), f.on(1, sick))
	h := consul.New(f)
	paths := []string{"health/service/web?passing", "health/service/web?", "health/service/web?near=_agent", "catalog/service/web?", "health/service/db?", "catalog/services?", "catalog/nodes?"}
	last := map[string]uint64{}
	for _, p := range paths {
		last[p] = ask(t, h, p).index
	}
	step := func(what string, moves ...bool) {
		t.Helper()
		for i, p := range paths {
			now := ask(t, h, p).index
			if now < last[p] || (now > last[p]) != moves[i] {
				t.Errorf("%s: %s went from %d to %d", what, p, last[p], now)
			}
			last[p] = now
		}
	}
	step("nothing", false, false, false, false, false, false, false)
	f.set("other", f.on(2, nil))
	step("another service", false, false, false, false, false, true, false)
	f.set("web", f.on(0, nil), f.on(1, sick), f.on(2, sick))
	step("a sick one more", false, true, true, true, false, false, false)
	f.set("web", f.on(0, nil), f.on(1, nil), f.on(2, sick))
	step("one is well again", true, true, true, false, false, false, false) // the catalog has no health
	f.nodes[1].RTT = time.Second
	f.set("web", f.on(0, nil), f.on(1, nil), f.on(2, sick))
	step("a round trip", false, false, false, false, false, false, false)
	f.set("db", f.on(0, nil))
	step("db comes", false, false, false, false, true, true, false)
	f.set("web")
	step("web goes", true, true, true, true, false, true, false)
}

func TestBlocking(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFake()
		f.set("web", f.on(0, nil))
		h := consul.New(f)
		const path = "health/service/web?passing"
		first := ask(t, h, path)

		took := func(p string) (reply, time.Duration) {
			began := time.Now()
			return ask(t, h, p), time.Since(began)
		}
		// Nothing changes: for as long as was asked for, and a little longer.
		for wait, want := range map[string]time.Duration{"": 5 * time.Minute, "&wait=10s": 10 * time.Second, "&wait=300000ms": 5 * time.Minute, "&wait=1h": 10 * time.Minute, "&wait=0s": 5 * time.Minute} {
			r, d := took(first.at(path) + wait)
			if r.index != first.index || r.body != first.body || d < want || d > want+want/16+time.Second {
				t.Errorf("%q: index %d, was %d, after %v", wait, r.index, first.index, d)
			}
		}
		// An index that is not ours, before or ahead, and none.
		for _, i := range []uint64{1, first.index - 1, first.index + 7, 0} {
			if r, d := took(fmt.Sprintf("%s&index=%d&wait=1m", path, i)); d != 0 || r.index != first.index {
				t.Errorf("index %d: %d after %v", i, r.index, d)
			}
		}
		// What matters no matter.
		go func() {
			time.Sleep(time.Second)
			f.set("db", f.on(1, nil))
			f.set("web", f.on(0, nil), f.on(1, func(i *consul.Instance) { i.Health = "critical" }))
			time.Sleep(time.Second)
			f.set("web", f.on(0, nil), f.on(1, nil))
		}()
		second, d := took(first.at(path) + "&wait=1m")
		if second.index <= first.index || d != 2*time.Second {
			t.Errorf("a change: index %d, was %d, after %v", second.index, first.index, d)
		}
		// One that nobody runs can be waited for.
		none := ask(t, h, "health/service/cache?x")
		go func() {
			time.Sleep(time.Second)
			f.set("web")
			time.Sleep(time.Second)
			f.set("cache", f.on(1, nil))
		}()
		if r, d := took(none.at("health/service/cache?x")); r.index <= none.index || d != 2*time.Second || none.body != "[]\n" {
			t.Errorf("cache: index %d, was %d, after %v", r.index, none.index, d)
		}
		// A server that stops, a client that goes.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if r := askContext(t, ctx, h, second.at(path)+"&wait=1m"); time.Since(began) > 3*time.Second || r.status != 200 {
			t.Errorf("when it ends: %+v after %v", r, time.Since(began))
		}
	})
}

func TestTooManyWait(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFake()
		f.set("web", f.on(0, nil))
		h := consul.New(f)
		first := ask(t, h, "catalog/services?")
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if r := ask(t, h, first.at("catalog/services?")); r.status != 200 {
					t.Errorf("got %d", r.status)
				}
			})
		}
		synctest.Wait()
		if r := ask(t, h, first.at("catalog/services?")); r.status != http.StatusTooManyRequests {
			t.Errorf("the next one: %d", r.status)
		}
		if r := ask(t, h, "catalog/services?"); r.status != 200 {
			t.Errorf("one that does not wait: %d", r.status)
		}
		f.set("db", f.on(0, nil))
		wg.Wait()
		if r := ask(t, h, first.at("catalog/services?")); r.status != 200 {
			t.Errorf("afterwards: %d", r.status)
		}
	})
}

// Whoever follows an answer by its index ends with the last one, however the
// changes fall between its reads. One that is alone is never told the same twice;
// of several one may see what comes and goes between two reads of another.
func TestFollowersMissNothing(t *testing.T) {
	t.Run("alone", func(t *testing.T) { follow(t, 1) })
	t.Run("many", func(t *testing.T) { follow(t, 4) })
}

func follow(t *testing.T, each int) {
	testcluster.Bubble(t, func(t *testing.T) {
		f := newFake()
		h := consul.New(f)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		paths := []string{"health/service/web?passing", "health/service/web?near=_agent", "catalog/service/web?tag=x", "catalog/services?", "health/state/any?"}
		last := make([]string, each*len(paths))
		for n := range last {
			wg.Go(func() {
				path := paths[n%len(paths)]
				var before reply
				for ctx.Err() == nil {
					r := askContext(t, ctx, h, before.at(path)+"&wait=5m")
					if r.index < before.index {
						t.Errorf("%s: from %d back to %d", path, before.index, r.index)
					}
					if ctx.Err() == nil && r.index != before.index && each == 1 && r.body == before.body {
						t.Errorf("%s: the index moved from %d to %d, and nothing else", path, before.index, r.index)
					}
					before, last[n] = r, r.body
					time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
				}
			})
		}
		for range 2000 {
			var list []consul.Instance
			for n := range 3 {
				if rand.IntN(2) == 0 {
					list = append(list, f.on(n, func(i *consul.Instance) {
						i.Health = []string{"passing", "critical", ""}[rand.IntN(3)]
						i.Tags = [][]string{{"x"}, nil}[rand.IntN(2)]
					}))
				}
			}
			f.set([]string{"web", "db"}[rand.IntN(2)], list...)
			time.Sleep(time.Duration(rand.IntN(2)) * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for n, body := range last {
			if now := ask(t, h, paths[n%len(paths)]).body; body != now {
				t.Errorf("%s: left with\n%swhere it is\n%s", paths[n%len(paths)], body, now)
			}
		}
		cancel()
		wg.Wait()
	})
}
