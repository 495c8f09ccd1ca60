package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// belief is one time span in which a program believed that it held the lock.
type belief struct {
	by         string
	fence      uint64
	from, till time.Time
	lost       error
}

// history is what several contenders of one lock believed.
type history struct {
	mu      sync.Mutex
	beliefs []*belief // in the order of their beginning
	errs    []error
}

// contend takes the lock again and again until ctx is done.
func (h *history) contend(ctx context.Context, c *lockclient.Client, by string, hold time.Duration) {
	for ctx.Err() == nil {
		l, err := c.Acquire(ctx, "demo")
		if err != nil {
			if ctx.Err() == nil {
				h.mu.Lock()
				h.errs = append(h.errs, err)
				h.mu.Unlock()
				time.Sleep(50 * ms)
			}
			continue
		}
		b := &belief{by: by, fence: l.Fence(), from: time.Now()}
		h.mu.Lock()
		h.beliefs = append(h.beliefs, b)
		h.mu.Unlock()
		select {
		case <-time.After(hold):
		case <-l.Lost():
		case <-ctx.Done():
		}
		till := time.Now()
		if d := l.Deadline(); d.Before(till) {
			till = d
		}
		h.mu.Lock()
		b.till, b.lost = till, l.Err()
		h.mu.Unlock()
		l.Release(context.WithoutCancel(ctx))
	}
}

// grants returns how often the lock was granted since a moment.
func (h *history) grants(since time.Time) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.beliefs {
		if b.from.After(since) {
			n++
		}
	}
	return n
}

// lost returns how many holds were lost since a moment.
func (h *history) lost(since time.Time) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.beliefs {
		if b.from.After(since) && b.lost != nil {
			n++
		}
	}
	return n
}

// check fails the test where two believed at one time, and where a fence did
// not rise.
func (h *history) check(w *World) {
	w.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, b := range h.beliefs[1:] {
		a := h.beliefs[i]
		if b.from.Before(a.till) || a.till.IsZero() {
			w.Errorf("%s held it until %v, %s from %v", a.by, a.till, b.by, b.from)
		}
		if b.fence <= a.fence {
			w.Errorf("fence %d of %s after fence %d of %s", b.fence, b.by, a.fence, a.by)
		}
	}
	for _, err := range h.errs {
		if !errors.Is(err, lockclient.ErrUnavailable) {
			w.Errorf("an error without a type: %v", err)
		}
	}
}

func TestLockUnderRedisFaults(t *testing.T) {
	in(t, func(w *World) {
		const hold = 150 * ms
		ttl := time.Second
		if w.Name != "virtual" {
			ttl = 3 * time.Second // a hold of a moment must not be lost to a busy machine
		}
		r := w.StartRedis()
		ctx, cancel := context.WithCancel(w.Context())
		h := new(history)
		var wg sync.WaitGroup
		for _, by := range []string{"p0", "p1", "p2"} {
			n := w.Place(Spec{Name: by})
			c := lockClient(w, lockclient.Config{Node: by, TTL: ttl, Dial: n.Dial})
			wg.Go(func() { h.contend(ctx, c, by, hold) })
		}
		granted := func(what string, within time.Duration) {
			w.Helper()
			since := time.Now()
			w.Eventually(within, what+": granted again", func() error {
				if h.grants(since) < 3 {
					return fmt.Errorf("%d grants", h.grants(since))
				}
				return nil
			})
		}
		granted("at first", 3*time.Second)

		r.Stall()
		w.Sleep(2 * ttl)
		r.Heal()
		granted("after a stall", 3*ttl)

		r.Cut()
		w.Sleep(ttl)
		r.Heal()
		granted("after a cut", 3*ttl)

		r.Pause()
		w.Sleep(2 * ttl)
		r.Resume()
		granted("after a pause", 3*ttl)

		r.Kill()
		w.Sleep(ttl)
		r.RestartEmpty()
		granted("after a restart without its data", 3*ttl)

		for range 5 {
			r.Reset()
			w.Sleep(100 * ms)
		}
		granted("after resets", 3*ttl)

		slow := time.Now()
		r.Slow(ttl / 5)
		w.Sleep(ttl) // what was under way may be lost
		settled := time.Now()
		w.Sleep(4 * ttl)
		if lost := h.lost(settled); lost > 0 {
			w.Errorf("%d holds were lost at a latency of ttl/5", lost)
		}
		if h.grants(settled) == 0 {
			w.Error("nothing was granted at a latency of ttl/5")
		}
		w.Logf("%d grants in %v of slowness", h.grants(slow), time.Since(slow))
		r.Heal()
		granted("after being slow", 3*ttl)

		cancel()
		wg.Wait()
		h.check(w)
		w.Logf("%d grants, %d lost, %d errors", len(h.beliefs), h.lost(time.Time{}), len(h.errs))
	}, both)
}

// TestHolderIsStoppedAndGoesOn: a holder that is stopped for three times its
// ttl finds its lock lost, and leaves the new one alone.
func TestHolderIsStoppedAndGoesOn(t *testing.T) {
	in(t, func(w *World) {
		const ttl = 2 * time.Second
		a, b := w.Place(Spec{Name: "p0"}), w.Place(Spec{Name: "p1"})
		first := lockClient(w, lockclient.Config{Node: "p0", TTL: ttl, Dial: a.Dial})
		second := lockClient(w, lockclient.Config{Node: "p1", TTL: ttl, Dial: b.Dial})
		old, err := first.Acquire(w.Context(), "demo")
		if err != nil {
			w.Fatal(err)
		}
		a.Pause()
		start := time.Now()
		l, err := second.Acquire(w.Context(), "demo")
		if err != nil {
			w.Fatal(err)
		}
		if took := time.Since(start); took > ttl+500*ms {
			w.Errorf("the next holder waited %v, ttl %v", took, ttl)
		}
		w.Sleep(2 * ttl)
		a.Resume()
		if old.Valid() {
			w.Error("the stopped holder still believes in it")
		}
		select {
		case <-old.Context().Done():
		default:
			w.Error("its context is not done")
		}
		if err := old.Release(w.Context()); !errors.Is(err, lockclient.ErrLost) {
			w.Errorf("its release: %v, want ErrLost", err)
		}
		w.Sleep(2 * ttl)
		if !l.Valid() || l.Fence() <= old.Fence() {
			w.Errorf("the new lock was harmed: valid %v, fence %d after %d", l.Valid(), l.Fence(), old.Fence())
		}
		if info, err := second.Inspect(w.Context(), "demo"); err != nil || info.Holder == nil || info.Holder.Node != "p1" {
			w.Errorf("inspect: %+v, %v", info, err)
		}
	}, virtual)
}

func TestRedisDown(t *testing.T) {
	in(t, func(w *World) {
		r := w.StartRedis()
		var dials atomic.Int64
		count := func(cfg *agent.Config) {
			dial := cfg.Seams.RedisDial
			if dial == nil {
				dial = new(net.Dialer).DialContext
			}
			cfg.Seams.RedisDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return dial(ctx, network, addr)
			}
		}
		nodes := []*Node{w.Start(Spec{Name: "p0", Redis: true, Config: count})}
		nodes = append(nodes, w.Start(Spec{Name: "p1", Redis: true, Config: count, Join: []string{nodes[0].Addr()}}))
		w.Whole(nodes, 3*time.Second)
		backend := func(up bool) {
			w.Helper()
			for _, n := range nodes {
				w.Eventually(12*time.Second, fmt.Sprintf("status says that Redis is up: %v", up), func() error {
					s := w.Status(n)
					if b := s.Locks.Backend; b.Up != up || up != (b.LastError == "") || b.Addr != r.Addr() {
						return fmt.Errorf("%s says %+v", n.Name, b)
					}
					return nil
				})
			}
		}
		backend(true)

		start := time.Now()
		r.Kill()
		down := 60 * time.Second
		if w.Name != "virtual" {
			down = 5 * time.Second
		}
		asked := time.Now()
		_, err := nodes[0].Client().Locks(w.Context())
		var p *api.Problem
		if !errors.As(err, &p) || p.Kind() != api.KindRedis || p.Fix == "" {
			w.Errorf("locks without Redis: %v, want a problem of kind %s that names a fix", err, api.KindRedis)
		}
		if took := time.Since(asked); took > w.Limit(time.Second) {
			w.Errorf("the error took %v", took)
		}
		backend(false)
		dials.Store(0)
		quiet := time.Now()
		w.Sleep(max(down-time.Since(start), 3*time.Second))
		perNode := float64(dials.Load()) / time.Since(quiet).Seconds() / float64(len(nodes))
		w.Logf("%.2f dials per second and node while Redis was down", perNode)
		if perNode >= 2 {
			w.Errorf("%.1f dials per second and node, want less than 2", perNode)
		}
		for _, n := range nodes {
			w.Rotation(n, nodes)
			if _, err := n.Client().Raw(w.Context(), "GET", "/readyz", nil, nil); err != nil {
				w.Errorf("%s is not ready for want of Redis: %v", n.Name, err)
			}
			if page, err := n.Client().Raw(w.Context(), "GET", "/", nil, nil); err != nil || len(page) < 500 {
				w.Errorf("page of %s: %d bytes, %v", n.Name, len(page), err)
			}
		}
		w.Unharmed(start)
		r.RestartEmpty()
		backend(true)
		if _, err := nodes[0].Client().Locks(w.Context()); err != nil {
			w.Errorf("locks after Redis came back: %v", err)
		}
	}, both)
}

func TestRedisRefusesForAReason(t *testing.T) {
	in(t, func(w *World) {
		mini := w.StartRedis().(*testcluster.EmbeddedRedis).Mini()
		n := w.Start(Spec{Name: "p0", Redis: true})
		for _, tt := range []struct{ answer, want string }{
			{"LOADING Redis is loading the dataset in memory", "loading"},
			{"READONLY You can't write against a read only replica.", "read-only"},
			{"NOPERM this user has no permissions to run the 'evalsha' command", "permission"},
			{"WRONGPASS invalid username-password pair or user is disabled.", "password"},
			{"OOM command not allowed when used memory > 'maxmemory'.", "memory"},
		} {
			mini.SetError(tt.answer)
			c := lockClient(w, lockclient.Config{Node: "p0", Dial: n.Dial})
			_, err := c.TryAcquire(w.Context(), "demo")
			var u *lockclient.UnavailableError
			if !errors.As(err, &u) || u.Cause == lockclient.CauseOther || u.Fix == "" {
				w.Errorf("%s: got %v", tt.answer, err)
			}
			// A replica answers pings, and so does one without memory.
			if tt.want != "loading" && tt.want != "password" {
				mini.SetError("")
				continue
			}
			w.Eventually(15*time.Second, "status says why: "+tt.want, func() error {
				if b := w.Status(n).Locks.Backend; b.Up || !contains(b.LastError, tt.want) {
					return fmt.Errorf("%+v", b)
				}
				return nil
			})
			mini.SetError("")
			l, err := c.TryAcquire(w.Context(), "demo")
			if err != nil {
				w.Fatalf("after %s: %v", tt.answer, err)
			}
			if err := l.Release(w.Context()); err != nil {
				w.Error(err)
			}
		}
	}, virtual)
}
