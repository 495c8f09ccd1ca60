package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A hold as its holder sees it is two operations: it begins somewhere between
// the call of Acquire and its return, and ends between the call of Release and
// its return, or when it was lost, at its deadline.
type operation struct {
	key    string
	client int
	begin  bool
	fence  uint64
}

// turns is the state of one key: who holds it, and the last fence.
type turns struct {
	holder int // 0: nobody
	fence  uint64
}

// byKey takes the history of each key by itself.
func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	keys := map[string][]porcupine.Operation{}
	for _, o := range history {
		k := o.Input.(operation).key
		keys[k] = append(keys[k], o)
	}
	return slices.Collect(maps.Values(keys))
}

// exclusion says: one at a time, and fences rise.
var exclusion = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return turns{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(turns), input.(operation)
		if o.begin {
			return s.holder == 0 && o.fence > s.fence, turns{holder: o.client, fence: o.fence}
		}
		return s.holder == o.client && s.fence == o.fence, turns{fence: s.fence}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// A history is what all clients did.
type history struct {
	start time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *history) add(o operation, call, done time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{
		ClientId: o.client, Input: o, Call: call.Sub(h.start).Nanoseconds(), Return: done.Sub(h.start).Nanoseconds(),
	})
}

// work takes locks and gives them back until ctx is done, and reports each
// operation to add, and what should not be to fail.
func work(ctx context.Context, ttl time.Duration, c *lockclient.Client, id int, keys []string, add func(o operation, call, done time.Time), fail func(error)) {
	for ctx.Err() == nil {
		key := keys[rand.N(len(keys))]
		wait, cancel := context.WithTimeout(ctx, rand.N(3*ttl))
		call := time.Now()
		l, err := c.Acquire(wait, key)
		granted := time.Now()
		cancel()
		if err != nil {
			var u *lockclient.UnavailableError
			if !errors.As(err, &u) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				fail(fmt.Errorf("acquire: %w", err))
			}
			pause(ctx, rand.N(ttl/4)+time.Millisecond)
			continue
		}
		o := operation{key: key, client: id, begin: true, fence: l.Fence()}
		add(o, call, granted)
		o.begin = false
		// Most hold it for a moment, some for longer than it lives.
		d := rand.N(ttl / 20)
		if rand.N(4) == 0 {
			d = rand.N(2 * ttl)
		}
		select {
		case <-time.After(d):
			call := time.Now()
			if err := l.Release(context.WithoutCancel(ctx)); errors.Is(err, lockclient.ErrLost) {
				end := l.Deadline()
				if end.After(call) {
					end = call
				}
				add(o, end, end)
			} else {
				add(o, call, time.Now())
			}
		case <-l.Lost():
			told, end := time.Now(), l.Deadline()
			if end.After(told) {
				end = told
			}
			add(o, end, end)
			l.Release(ctx)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// breakIt does one thing to Redis or the network, and mends it.
func breakIt(w world, names []string) string {
	d := rand.N(2 * w.ttl)
	switch rand.N(8) {
	case 0:
		w.redis.Stall()
		time.Sleep(d)
		w.redis.Heal()
		return fmt.Sprint("stalled for ", d)
	case 1:
		w.redis.Pause()
		time.Sleep(d)
		w.redis.Resume()
		return fmt.Sprint("paused for ", d)
	case 2:
		w.redis.Cut()
		time.Sleep(d)
		w.redis.Heal()
		return fmt.Sprint("cut for ", d)
	case 3:
		w.redis.Reset()
		return "reset"
	case 4:
		rtt := rand.N(w.ttl / 3)
		w.redis.Slow(rtt)
		time.Sleep(d)
		w.redis.Heal()
		return fmt.Sprintf("slow by %v for %v", rtt, d)
	case 5:
		if w.quiet {
			w.redis.RestartEmpty()
			return "restarted empty at once"
		}
		// It lost what it knew: nobody may still rely on that.
		w.redis.Kill()
		time.Sleep(w.ttl + d)
		w.redis.RestartEmpty()
		return fmt.Sprint("killed for ", w.ttl+d)
	}
	if w.net == nil {
		w.redis.Reset()
		return "reset"
	}
	name := names[rand.N(len(names))]
	if rand.N(2) == 0 {
		w.net.Isolate(w.host(name))
		time.Sleep(d)
		w.net.Heal()
		return fmt.Sprintf("%s isolated for %v", name, d)
	}
	w.net.CutOneWay([]*testcluster.Host{w.net.Host("10.0.0.1")}, []*testcluster.Host{w.host(name)})
	time.Sleep(d)
	w.net.Heal()
	return fmt.Sprintf("%s hears nothing for %v", name, d)
}

func record(t *testing.T, w world, clients int, length time.Duration) {
	h := &history{start: time.Now()}
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	var wg sync.WaitGroup
	var names, faults []string
	for i := range clients {
		name := fmt.Sprint("host", i)
		names = append(names, name)
		c := w.client(name, func(cfg *lockclient.Config) {
			if w.quiet {
				cfg.QuietAfterStart = w.ttl
			}
		})
		wg.Go(func() { work(ctx, w.ttl, c, i+1, []string{"k", "l"}, h.add, func(err error) { t.Error(err) }) })
	}
	for ctx.Err() == nil {
		pause(ctx, rand.N(w.ttl))
		faults = append(faults, breakIt(w, names))
	}
	wg.Wait()
	enough := 20
	if w.net == nil {
		enough = 5 // on a slow machine
	}
	h.check(t, exclusion, faults, enough)
}

// check fails t when the history is not one that model allows, after these
// faults, or has fewer than enough grants to show anything.
func (h *history) check(t *testing.T, model porcupine.Model, faults []string, enough int) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, time.Minute)
	held := 0
	for _, o := range h.ops {
		if o.Input.(operation).begin {
			held++
		}
	}
	t.Logf("%d grants, %d faults: %v", held, len(faults), result)
	if result == porcupine.Illegal {
		t.Errorf("two held it at one time, or a fence fell. Faults: %q", faults)
		if f := t.ArtifactDir(); f != "" {
			_ = porcupine.VisualizePath(model, info, f+"/history.html")
		}
	}
	if held < enough {
		t.Errorf("only %d grants: this shows nothing", held)
	}
}

// Random faults for ten minutes of virtual time, again and again.
func TestHistoryVirtual(t *testing.T) {
	runs := 4
	if testing.Short() {
		runs = 1
	}
	for i := range runs {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) { record(t, w, 8, 10*time.Minute) })
		})
	}
}

// The same for a while of real time; and with a quiet period, against a Redis that
// is back at once without what it knew.
func TestHistoryReal(t *testing.T) {
	length := 15 * time.Second
	if testing.Short() {
		length = 5 * time.Second
	}
	for _, quiet := range []bool{false, true} {
		t.Run(fmt.Sprintf("quiet=%v", quiet), func(t *testing.T) {
			t.Parallel()
			record(t, world{t: t, redis: testcluster.StartRedis(t), ttl: time.Second, quiet: quiet}, 6, length)
		})
	}
}
