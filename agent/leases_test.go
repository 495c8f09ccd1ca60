package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// leaseWorld is a table of leases on an embedded Redis, in virtual time.
type leaseWorld struct {
	t        testing.TB
	redis    *miniredis.Miniredis
	cut      atomic.Bool // dials are refused
	table    *leases
	other    *lockclient.Client // another process
	mu       sync.Mutex
	observed []string
	onResult func(string)
}

func inLeaseWorld(t *testing.T, f func(t *testing.T, w *leaseWorld)) {
	// As testcluster.Bubble does, which this package cannot import.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		w := &leaseWorld{t: t, redis: miniredis.NewMiniRedis()}
		w.redis.ClockTTL(true)
		w.table = newLeases(w.client("here"), nil, func(result string, _ time.Duration) {
			w.mu.Lock()
			w.observed = append(w.observed, result)
			w.mu.Unlock()
			if w.onResult != nil {
				w.onResult(result)
			}
		})
		w.other = w.client("there")
		f(t, w)
		w.table.close()
		_ = w.table.locks.Close()
		_ = w.other.Close()
		w.redis.Close()
	})
}

func (w *leaseWorld) client(node string) *lockclient.Client {
	w.t.Helper()
	c, err := lockclient.Start(lockclient.Config{
		URL: "redis://redis:6379", Node: node, PID: 7, Command: "test",
		Dial: func(context.Context, string, string) (net.Conn, error) {
			if w.cut.Load() {
				return nil, syscall.ECONNREFUSED
			}
			c, err := w.redis.Dial()
			return newBuffered(c), err
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// buffered is a pipe whose writes do not wait for the reader, as in a network.
type buffered struct {
	net.Conn
	out  chan []byte
	done chan struct{}
	once sync.Once
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 64), done: make(chan struct{})}
	go func() {
		for {
			select {
			case p := <-b.out:
				if _, err := c.Write(p); err != nil {
					return
				}
			case <-b.done:
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case b.out <- bytes.Clone(p):
		return len(p), nil
	case <-b.done:
		return 0, net.ErrClosed
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Conn.Close()
}

// ask reads a request as it comes over HTTP.
func ask(t testing.TB, ttl, wait int64) lockQuery {
	t.Helper()
	q, err := readLockRequest(api.LockRequest{TTLMS: new(ttl), WaitMS: new(wait), Command: "backup", PID: 42}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (w *leaseWorld) acquire(name string, ttl, wait int64) api.Lease {
	w.t.Helper()
	l, err := w.table.acquire(context.Background(), name, ask(w.t, ttl, wait))
	if err != nil {
		w.t.Fatalf("acquire %s: %v", name, err)
	}
	return l
}

func (w *leaseWorld) info(name string) lockclient.Info {
	w.t.Helper()
	i, err := w.other.Inspect(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// wantProblem checks that err is a problem of this status and kind that says so.
func wantProblem(t testing.TB, what string, err error, status int, kind, says string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) {
		t.Errorf("%s: got %v, want a problem of kind %s", what, err, kind)
		return
	}
	if p.Status != status || p.Kind() != kind || p.Fix == "" || !strings.Contains(p.Detail+" "+p.Fix, says) {
		t.Errorf("%s: got %d %s: %s (%s), want %d %s that says %q", what, p.Status, p.Kind(), p.Detail, p.Fix, status, kind, says)
	}
}

func TestLease(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		l := w.acquire("demo", 3000, 0)
		if l.Schema != api.SchemaLease || l.Name != "demo" || len(l.Lease) != 32 || l.Fence == 0 || l.TTLMS != 3000 {
			t.Errorf("got %+v", l)
		}
		if left := l.ElapsedMS + l.ExpiresInMS; left > 2970 || left < 2900 {
			t.Errorf("it is good for %d ms of 3000, want a margin and no more", left)
		}
		if h := w.info("demo").Holder; h == nil || h.Node != "here" || h.Command != "backup" || h.PID != 42 {
			t.Errorf("it is held by %v", h)
		}
		_, err := w.table.acquire(ctx, "demo", ask(t, 3000, 0))
		wantProblem(t, "a second one", err, 409, api.KindLockHeld, "held by here (pid 42, backup)")
		var p *api.Problem
		if errors.As(err, &p) && (p.Holder == nil || p.Holder.Command != "backup") {
			t.Errorf("the problem names %+v", p.Holder)
		}
		for range 10 { // 20 s of a lease of 3 s
			time.Sleep(2 * time.Second)
			r, err := w.table.renew(ctx, "demo", l.Lease)
			if err != nil || r.Fence != l.Fence || r.Lease != l.Lease || r.ExpiresInMS < 2900 {
				t.Fatalf("renewed: %+v, %v", r, err)
			}
		}
		if st := w.table.locks.Stats(); st.Held != 1 || st.Renewed != 10 {
			t.Errorf("%d held, %d renewals, want 1 and the 10 of the client", st.Held, st.Renewed)
		}
		out, err := w.table.release(ctx, "demo", l.Lease)
		if err != nil || out.Name != "demo" || out.Fence != l.Fence {
			t.Errorf("released: %+v, %v", out, err)
		}
		if w.info("demo").Holder != nil {
			t.Error("it is held after its release")
		}
		if out, err = w.table.release(ctx, "demo", l.Lease); err != nil || out.Fence != l.Fence {
			t.Errorf("released again: %+v, %v", out, err)
		}
		_, err = w.table.renew(ctx, "demo", l.Lease)
		wantProblem(t, "renewed after its release", err, 409, api.KindLockLost, "it was released")
		if again := w.acquire("demo", 3000, 0); again.Fence <= l.Fence || again.Lease == l.Lease {
			t.Errorf("%+v after %+v", again, l)
		}
	})
}

// Whoever does not renew has vanished, and is not waited for.
func TestLeaseOfAVanishedClient(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		began := time.Now()
		l := w.acquire("demo", 3000, 0)
		good := time.Duration(l.ElapsedMS+l.ExpiresInMS) * time.Millisecond
		next, err := w.other.Acquire(ctx, "demo")
		if err != nil {
			t.Fatal(err)
		}
		if after := time.Since(began); after < good || after > 3100*time.Millisecond {
			t.Errorf("the next one had it after %v; the lease was good for %v", after, good)
		}
		_, err = w.table.renew(ctx, "demo", l.Lease)
		wantProblem(t, "renewed", err, 409, api.KindLockLost, "not renewed in time")
		_, err = w.table.release(ctx, "demo", l.Lease)
		wantProblem(t, "released", err, 409, api.KindLockLost, "not renewed in time")
		if !next.Valid() || w.info("demo").Holder.Node != "there" {
			t.Error("the next holder was disturbed")
		}
		for _, c := range [][2]string{{"demo", "0123"}, {"other", l.Lease}, {"demo", ""}} {
			_, err = w.table.renew(ctx, c[0], c[1])
			wantProblem(t, "renewed "+c[1]+" of "+c[0], err, 404, api.KindNoLease, "no such lease")
			_, err = w.table.release(ctx, c[0], c[1])
			wantProblem(t, "released "+c[1]+" of "+c[0], err, 404, api.KindNoLease, "no such lease")
		}
	})
}

func TestLeaseTakenByForce(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		l := w.acquire("demo", 60000, 0)
		time.Sleep(time.Second) // it listens by now
		if _, err := w.other.ForceRelease(t.Context(), "demo"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := w.table.locks.Stats().Held; n != 0 {
			t.Errorf("%d held at once afterwards", n)
		}
		_, err := w.table.renew(t.Context(), "demo", l.Lease)
		wantProblem(t, "renewed", err, 409, api.KindLockLost, "released by force")
	})
}

func TestLeaseWaits(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		first, err := w.other.Acquire(ctx, "demo")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = w.table.acquire(ctx, "demo", ask(t, 3000, 1500))
		wantProblem(t, "waited", err, 409, api.KindLockHeld, "not obtained in 1.5s; it is held by there (pid 7, test); this request was number 1")
		if d := time.Since(began); d != 1500*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		time.AfterFunc(4*time.Second, func() { _ = first.Release(ctx) })
		began = time.Now()
		l := w.acquire("demo", 3000, 60000)
		if d := time.Since(began); d > 4100*time.Millisecond {
			t.Errorf("waited %v for what was free after 4 s", d)
		}
		if l.ElapsedMS < 3990 || l.ExpiresInMS < 2900 {
			t.Errorf("handed over with %+v, want a whole time to live, and how long that took", l)
		}

		// The connection goes while it waits.
		gone, leave := context.WithCancel(ctx)
		time.AfterFunc(time.Second, leave)
		_, err = w.table.acquire(gone, "demo", ask(t, 3000, 60000))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("gone while waiting: %v", err)
		}
		synctest.Wait()
		if n := len(w.info("demo").Waiters); n != 0 {
			t.Errorf("%d are left in the queue", n)
		}

		// And it goes when the lock has just come.
		if _, err := w.table.release(ctx, "demo", l.Lease); err != nil {
			t.Fatal(err)
		}
		gone, leave = context.WithCancel(ctx)
		w.onResult = func(string) { leave() }
		if _, err := w.table.acquire(gone, "demo", ask(t, 60000, 0)); !errors.Is(err, context.Canceled) {
			t.Errorf("gone when it came: %v", err)
		}
		w.onResult = nil
		if h := w.info("demo").Holder; h != nil {
			t.Errorf("held by %v for a client that is gone", h)
		}
		if got := fmt.Sprint(w.observed); got != "[held acquired cancelled acquired]" {
			t.Errorf("observed %v", got)
		}
	})
}

func TestLeasesAreBounded(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		var all []api.Lease
		for i := range maxLeases {
			all = append(all, w.acquire(fmt.Sprint("lock", i), 60000, 0))
		}
		_, err := w.table.acquire(ctx, "one more", ask(t, 60000, 0))
		wantProblem(t, "one more", err, 503, api.KindTooManyLeases, "peer lock")
		if _, err := w.table.release(ctx, "lock0", all[0].Lease); err != nil {
			t.Fatal(err)
		}
		w.acquire("one more", 60000, 0)
		time.Sleep(61 * time.Second) // nobody renews
		synctest.Wait()
		if w.table.taken != 0 || len(w.table.live) != 0 {
			t.Errorf("%d places taken, %d leases live after their time", w.table.taken, len(w.table.live))
		}
		if len(w.table.ended) != maxEnded || len(w.table.oldest) != maxEnded {
			t.Errorf("%d ends remembered, want %d", len(w.table.ended), maxEnded)
		}
		_, err = w.table.renew(ctx, "lock9", all[9].Lease)
		wantProblem(t, "renewed late", err, 409, api.KindLockLost, "")
		_, err = w.table.renew(ctx, "lock0", all[0].Lease)
		wantProblem(t, "renewed, and forgotten", err, 404, api.KindNoLease, "")
	})
}

func TestLeaseRequests(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		for _, c := range []struct {
			r    api.LockRequest
			says string
		}{
			{api.LockRequest{TTLMS: new(int64(99))}, "from 100 to 86400000"},
			{api.LockRequest{TTLMS: new(int64(0))}, "from 100 to 86400000"},
			{api.LockRequest{TTLMS: new(int64(-5))}, "ttl_ms -5"},
			{api.LockRequest{TTLMS: new(int64(86400001))}, "ttl_ms 86400001"},
			{api.LockRequest{TTLMS: new(int64(1 << 62))}, "out of bounds"},
			{api.LockRequest{WaitMS: new(int64(-1))}, "from 0 to 86400000"},
			{api.LockRequest{WaitMS: new(int64(1 << 62))}, "out of bounds"},
			{api.LockRequest{Command: strings.Repeat("x", 65)}, "at most 64 bytes"},
			{api.LockRequest{Command: "a\nb"}, "control characters"},
			{api.LockRequest{PID: -1}, "no process"},
		} {
			_, err := readLockRequest(c.r, 0)
			wantProblem(t, fmt.Sprintf("%+v", c.r), err, 400, api.KindBadRequest, c.says)
		}
		q, err := readLockRequest(api.LockRequest{}, forever)
		if err != nil || q.ttl != 15*time.Second || q.wait != forever || q.command == "" {
			t.Errorf("an empty one: %+v, %v", q, err)
		}
		for _, name := range []string{"", strings.Repeat("x", 513), "a\x00b", "\xff"} {
			_, err := w.table.acquire(t.Context(), name, q)
			wantProblem(t, fmt.Sprintf("%.9q", name), err, 400, api.KindBadRequest, "1 to 512 bytes")
		}
		if len(w.observed) != 0 {
			t.Errorf("observed %v, where Redis was not asked", w.observed)
		}
		for _, name := range []string{"{brace}", "a/b c", "ü", strings.Repeat("x", 512)} {
			w.acquire(name, 1000, 0)
		}
	})
}

func TestLeasesWithoutRedis(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		l := w.acquire("demo", 60000, 0)
		w.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
		_, err := w.table.acquire(ctx, "next", ask(t, 3000, 0))
		wantProblem(t, "out of memory", err, 502, api.KindRedis, "raise maxmemory")
		_, err = w.table.renew(ctx, "demo", l.Lease)
		wantProblem(t, "renewed, out of memory", err, 502, api.KindRedis, "out of memory: its memory is full")
		w.redis.SetError("")
		if _, err = w.table.renew(ctx, "demo", l.Lease); err != nil {
			t.Errorf("renewed when it is well: %v", err)
		}
		w.acquire("busy", 600000, 0)
		time.AfterFunc(time.Second, func() {
			w.cut.Store(true)
			w.redis.Server().Close() // what is open breaks
		})
		_, err = w.table.acquire(ctx, "busy", ask(t, 3000, 20000))
		wantProblem(t, "gone while waiting", err, 502, api.KindRedis, "is redis-server running there?")
		_, err = w.table.acquire(ctx, "next", ask(t, 3000, 0))
		wantProblem(t, "refused", err, 502, api.KindRedis, "refused")
		if got := fmt.Sprint(w.observed); got != "[acquired unavailable acquired unavailable unavailable]" {
			t.Errorf("observed %v", got)
		}
	})
}

func TestLeasesWhenTheAgentStops(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		l := w.acquire("demo", 600000, 0)
		w.acquire("busy", 600000, 0)
		var told []string
		var hold, wait error
		var wg sync.WaitGroup
		wg.Go(func() {
			hold = w.table.hold(ctx, "held", ask(t, 600000, 0), func(e api.HoldEvent) error {
				told = append(told, e.Type+" "+e.Reason)
				return nil
			})
		})
		wg.Go(func() { _, wait = w.table.acquire(ctx, "busy", ask(t, 3000, 60000)) })
		synctest.Wait()
		began := time.Now()
		w.table.close()
		wg.Wait()
		if fmt.Sprint(told) != "[acquired  lost the agent is stopping]" || hold != nil {
			t.Errorf("the hold was told %q and ended with %v", told, hold)
		}
		wantProblem(t, "a wait", wait, 503, api.KindStopping, "another agent")
		_, err := w.table.acquire(ctx, "new", ask(t, 3000, 0))
		wantProblem(t, "a new one", err, 503, api.KindStopping, "another agent")
		if h := w.info("held").Holder; h != nil {
			t.Errorf("the hold is held by %v", h)
		}
		_ = w.table.locks.Close()
		for _, name := range []string{"demo", "busy"} {
			if h := w.info(name).Holder; h != nil {
				t.Errorf("%s is held by %v", name, h)
			}
		}
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		_, err = w.table.renew(ctx, "demo", l.Lease)
		wantProblem(t, "renewed", err, 409, api.KindLockLost, "released")
	})
}

func TestHold(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		first, err := w.other.Acquire(ctx, "demo")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Second, func() { _ = first.Release(ctx) })
		conn, leave := context.WithCancel(ctx)
		began, deadline, good := time.Now(), time.Time{}, time.Duration(0)
		var told []string
		held := 0
		err = w.table.hold(conn, "demo", lockQuery{ttl: 3 * time.Second, wait: forever, command: "c"}, func(e api.HoldEvent) error {
			if n := len(told); n == 0 || told[n-1] != e.Type {
				told = append(told, e.Type)
			}
			if left := time.Until(deadline); !deadline.IsZero() && left < good/2 {
				t.Errorf("told that it is good for %v, the next line came when %v were left", good, left)
			}
			switch e.Type {
			case api.HoldWaiting:
				if e.Position != 1 || e.Holder == nil || e.Holder.Node != "there" {
					t.Errorf("waiting: %+v", e)
				}
			case api.HoldAcquired, api.HoldHeld:
				deadline = began.Add(time.Duration(e.ElapsedMS+e.ExpiresInMS) * time.Millisecond)
				good = time.Until(deadline)
				if i := w.info("demo"); i.Holder == nil || i.Holder.Node != "here" || time.Until(deadline) > i.ExpiresIn {
					t.Errorf("told %v of %v, held by %v", time.Until(deadline), i.ExpiresIn, i.Holder)
				}
				if held++; held == 100 {
					leave() // the connection
				}
			}
			return nil
		})
		if got := fmt.Sprint(told); got != "[waiting acquired held]" || err != nil {
			t.Errorf("told %v, ended with %v", got, err)
		}
		if h := w.info("demo").Holder; h != nil {
			t.Errorf("held by %v after the connection is gone", h)
		}
		if w.table.taken != 0 {
			t.Errorf("%d places taken", w.table.taken)
		}
	})
}

func TestHoldIsLost(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		var last api.HoldEvent
		note := func(e api.HoldEvent) error { last = e; return nil }
		time.AfterFunc(10*time.Second, func() { _, _ = w.other.ForceRelease(ctx, "demo") })
		if err := w.table.hold(ctx, "demo", ask(t, 3000, 0), note); err != nil || last.Type != api.HoldLost || last.Reason != "released by force" {
			t.Errorf("taken by force: told %+v, ended with %v", last, err)
		}
		w.acquire("busy", 600000, 0)
		last = api.HoldEvent{}
		err := w.table.hold(ctx, "busy", ask(t, 3000, 0), note)
		wantProblem(t, "busy", err, 409, api.KindLockHeld, "held by here")
		if last.Type != "" {
			t.Errorf("told %+v", last)
		}
		err = w.table.hold(ctx, "busy", ask(t, 3000, 1000), note)
		wantProblem(t, "busy for long", err, 409, api.KindLockHeld, "not obtained in 1s")
		if last.Type != api.HoldWaiting {
			t.Errorf("told %+v", last)
		}
		began := time.Now()
		time.AfterFunc(10*time.Second, func() {
			w.cut.Store(true)
			w.redis.Server().Close()
		})
		if err := w.table.hold(ctx, "demo", ask(t, 3000, 0), note); err != nil || last.Type != api.HoldLost || !strings.Contains(last.Reason, "not renewed in time") {
			t.Errorf("without Redis: told %+v, ended with %v", last, err)
		}
		if d := time.Since(began); d > 13*time.Second {
			t.Errorf("told after %v", d)
		}
	})
}

// A client that does not read may work all the same: the lock stays its own for
// as long as it was told, and no longer.
func TestHoldOfAClientThatDoesNotRead(t *testing.T) {
	inLeaseWorld(t, func(t *testing.T, w *leaseWorld) {
		ctx := t.Context()
		for _, c := range []struct {
			name string
			err  error
			kept bool
		}{
			{"stalled", fmt.Errorf("write: %w", os.ErrDeadlineExceeded), true},
			{"gone", syscall.EPIPE, false},
		} {
			var deadline time.Time
			began := time.Now()
			err := w.table.hold(ctx, c.name, ask(t, 3000, 0), func(e api.HoldEvent) error {
				if e.Type == api.HoldHeld && e.ElapsedMS > 5000 {
					return c.err
				}
				deadline = began.Add(time.Duration(e.ElapsedMS+e.ExpiresInMS) * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if c.kept {
				time.Sleep(time.Until(deadline))
				if h := w.info(c.name).Holder; h == nil {
					t.Errorf("%s: released before what it was told", c.name)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if h := w.info(c.name).Holder; h != nil {
				t.Errorf("%s: held by %v", c.name, h)
			}
			synctest.Wait()
			if w.table.taken != 0 {
				t.Errorf("%s: %d places taken", c.name, w.table.taken)
			}
		}
	})
}
