package lockclient_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// What becomes of a lock that is held and waited for when Redis begins to refuse,
// and when it no longer does. Nothing of it is a storm.
func TestRefusedWhileHeld(t *testing.T) {
	const ttl = 3 * time.Second // a renewal may take two of them
	for _, tt := range []struct {
		name         string
		args         []string
		refuse, mend [][]string
		kept         bool             // the holder renews all the same
		waiter       lockclient.Cause // it ends with that; empty: it stays
		afterwards   bool             // it can be mended
	}{
		{
			// What needs no more memory is allowed: to renew, and to release.
			name: "out of memory", kept: true, afterwards: true,
			refuse: [][]string{{"CONFIG", "SET", "maxmemory", "1"}},
			mend:   [][]string{{"CONFIG", "SET", "maxmemory", "0"}},
		},
		{
			name: "read-only", afterwards: true,
			refuse: [][]string{{"REPLICAOF", "127.0.0.1", "1"}},
			mend:   [][]string{{"REPLICAOF", "NO", "ONE"}},
		},
		{
			name: "too few replicas", afterwards: true,
			refuse: [][]string{{"CONFIG", "SET", "min-replicas-to-write", "1"}},
			mend:   [][]string{{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		},
		{
			name: "no right", waiter: lockclient.CausePermission, afterwards: true,
			refuse: [][]string{{"ACL", "SETUSER", "default", "-evalsha"}},
			mend:   [][]string{{"ACL", "SETUSER", "default", "+evalsha"}},
		},
		{
			name: "another password", args: []string{"--requirepass", "secret"}, waiter: lockclient.CausePassword,
			refuse: [][]string{{"CONFIG", "SET", "requirepass", "another"}, {"CLIENT", "KILL", "TYPE", "normal"}, {"CLIENT", "KILL", "TYPE", "pubsub"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t, tt.args...)
			short := func(cfg *lockclient.Config) {
				cfg.TTL = ttl
				if tt.args != nil {
					cfg.PasswordFile = filepath.Join(t.TempDir(), "password")
					if err := os.WriteFile(cfg.PasswordFile, []byte("secret"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			a, b := s.client(t, short), s.client(t, short)
			l := hold(t, a, "demo")
			next := later(t, b, "demo")
			lost := l.Lost()
			admin := s.admin()
			do := func(args []string) any {
				t.Helper()
				v, err := admin.Do(context.Background(), words(args)...).Result()
				if err != nil {
					t.Fatalf("%v: %v", args, err)
				}
				return v
			}
			if tt.args != nil {
				admin = s.adminWith("secret")
			}
			for _, args := range tt.refuse {
				do(args)
				if args[1] == "SET" && args[2] == "requirepass" {
					admin = s.adminWith(args[3])
				}
			}
			refused := time.Now()
			before := commandsSoFar(do([]string{"INFO", "stats"}))
			if tt.kept {
				time.Sleep(2 * ttl)
				if !l.Valid() {
					t.Fatalf("lost: %v", l.Err())
				}
			} else {
				within(t, time.Minute, "the loss", lost)
				if d := l.Deadline().Sub(refused); d > ttl {
					t.Errorf("its deadline is %v after Redis began to refuse, want within %v", d, ttl)
				}
			}
			if tt.waiter != "" {
				won := within(t, time.Minute, "the waiter's end", next)
				var u *lockclient.UnavailableError
				if !errors.As(won.err, &u) || u.Cause != tt.waiter || u.Fix == "" {
					t.Errorf("got %v, want %q and a fix", won.err, tt.waiter)
				}
			} else {
				select {
				case won := <-next:
					t.Fatalf("the wait ended: %v, %v", won.lock, won.err)
				default:
				}
			}
			took := time.Since(refused)
			if n := commandsSoFar(do([]string{"INFO", "stats"})) - before; float64(n) > 50+30*took.Seconds() {
				t.Errorf("%d commands in %v", n, took)
			}
			if tt.kept {
				if err := l.Release(t.Context()); err != nil {
					t.Errorf("release: %v", err)
				}
			}
			if !tt.afterwards {
				return
			}
			for _, args := range tt.mend {
				do(args)
			}
			if tt.waiter == "" {
				won := within(t, time.Minute, "the next, after it was mended", next)
				if won.err != nil || won.lock.Fence() <= l.Fence() {
					t.Fatalf("got %v, %v", won.lock, won.err)
				}
				won.lock.Release(t.Context())
			}
			hold(t, b, "demo").Release(t.Context())
			info := must[lockclient.Info](t)(b.Inspect(t.Context(), "demo"))
			if info.Holder != nil || len(info.Waiters) > 0 {
				t.Errorf("left behind: %+v", info)
			}
		})
	}
}

// commandsSoFar reads INFO stats.
func commandsSoFar(info any) int {
	_, rest, _ := strings.Cut(fmt.Sprint(info), "total_commands_processed:")
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n
}

// A Redis that reads its data is there, and says so; who holds and who waits then
// goes on where it was when that takes less than the time to live.
func TestLoading(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.need("6.2") // for a delay while loading
	long := func(cfg *lockclient.Config) { cfg.TTL = time.Minute }
	a, b, c := s.client(t, long), s.client(t, long), s.client(t, long)
	l := hold(t, a, "demo")
	next := later(t, b, "demo")
	const keys = 400
	for i := range keys {
		s.do("SET", fmt.Sprint("ballast:", i), strings.Repeat("x", 1000))
	}
	s.do("SAVE")
	s.kill()
	s.args = append(s.args, "--key-load-delay", "16000", "--loading-process-events-interval-bytes", "1024") // some seconds
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	_, err := c.TryAcquire(t.Context(), "other")
	var u *lockclient.UnavailableError
	if !errors.As(err, &u) || u.Cause != lockclient.CauseLoading || u.Fix == "" {
		t.Fatalf("got %v, want %q", err, lockclient.CauseLoading)
	}
	if st := c.Stats(); st.Up || st.LastError == nil {
		t.Errorf("Stats: up %v, last error %v, want down and why", st.Up, st.LastError)
	}
	select {
	case won := <-next:
		t.Fatalf("the wait ended: %v, %v", won.lock, won.err)
	default:
	}
	loaded := func() bool {
		_, err := c.Inspect(t.Context(), "demo")
		return err == nil
	}
	for deadline := time.Now().Add(time.Minute); !loaded(); {
		if time.Now().After(deadline) {
			t.Fatal("not loaded after a minute")
		}
		time.Sleep(20 * time.Millisecond) // a process of its own: there is nothing to wait on
	}
	if !l.Valid() {
		t.Fatalf("lost: %v", l.Err())
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if won := within(t, time.Minute, "the next", next); won.err != nil || won.lock.Fence() <= l.Fence() {
		t.Errorf("got %v, %v", won.lock, won.err)
	}
}

// CLIENT KILL, of one kind of connection or of all, again and again, costs nobody
// the lock, the place or the word that it is its turn.
func TestClientsKilled(t *testing.T) {
	for _, kind := range []string{"normal", "pubsub", "both"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			// The kills go on for longer than the time to live, and than a claim of
			// those who wait: a third of theirs.
			const ttl = 3 * time.Second
			wait := lockclient.WithTTL(3 * ttl)
			a, b, c := s.client(t), s.client(t), s.client(t)
			l := hold(t, a, "demo", lockclient.WithTTL(ttl))
			first, second := later(t, b, "demo", wait), later(t, c, "demo", wait)
			for range 10 {
				for _, k := range []string{"normal", "pubsub"} {
					if kind == k || kind == "both" {
						s.do("CLIENT", "KILL", "TYPE", k, "SKIPME", "yes")
					}
				}
				time.Sleep(400 * time.Millisecond)
			}
			listening(t, s.admin(), 3)
			if !l.Valid() {
				t.Fatalf("lost: %v", l.Err())
			}
			fence := l.Fence()
			for i, next := range []<-chan won{first, second} {
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
				won := within(t, time.Minute, fmt.Sprint("number ", i+1), next)
				if won.err != nil || won.lock.Fence() <= fence {
					t.Fatalf("got %v, %v", won.lock, won.err)
				}
				l, fence = won.lock, won.lock.Fence()
			}
		})
	}
}

// FLUSHALL takes a lock from who holds it, who is told by the next renewal. Those
// who wait notice by themselves, get it one after the other, and fences go on
// rising.
func TestFlushed(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		w = w.steady()
		a, b, c := w.client("a"), w.client("b"), w.client("c")
		l := hold(t, a, "demo")
		first, second := later(t, b, "demo"), later(t, c, "demo")
		time.Sleep(w.ttl / 2)
		lost := lostAt(l)
		flushed := time.Now()
		if err := w.admin().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		fence := l.Fence()
		for range 2 {
			var next won
			select {
			case next = <-first:
			case next = <-second:
			case <-time.After(w.ttl + 20*w.slack):
				t.Fatal("nobody got it")
			}
			if next.err != nil || next.lock.Fence() <= fence {
				t.Fatalf("got %v, %v, fence after %d", next.lock, next.err, fence)
			}
			fence = next.lock.Fence()
			if err := next.lock.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if d := within(t, time.Minute, "the loss", lost).Sub(flushed); d > w.ttl/2+20*w.slack {
			t.Errorf("told after %v, want by the next renewal", d)
		}
		if err := l.Release(t.Context()); !errors.Is(err, lockclient.ErrLost) {
			t.Errorf("release: %v, want ErrLost", err)
		}
	})
}
