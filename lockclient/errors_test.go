package lockclient_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// TestUnavailable: each thing that can be wrong has a cause and a fix of its
// own, leaves nothing half done, and is over when it is over.
func TestUnavailable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string // of redis-server
		prepare []string // a command
		mend    []string
		cause   lockclient.Cause
		text    string
	}{
		{
			name: "no password", args: []string{"--requirepass", "secret"},
			cause: lockclient.CausePassword, text: "set the password file",
		},
		{
			name: "replica", prepare: []string{"REPLICAOF", "127.0.0.1", "1"}, mend: []string{"REPLICAOF", "NO", "ONE"},
			cause: lockclient.CauseReadOnly, text: "connect to the primary",
		},
		{
			name: "too few replicas", prepare: []string{"CONFIG", "SET", "min-replicas-to-write", "1"},
			mend:  []string{"CONFIG", "SET", "min-replicas-to-write", "0"},
			cause: lockclient.CauseReadOnly, text: "too few replicas",
		},
		{
			name: "out of memory", prepare: []string{"CONFIG", "SET", "maxmemory", "1"}, mend: []string{"CONFIG", "SET", "maxmemory", "0"},
			cause: lockclient.CauseMemory, text: "raise maxmemory",
		},
		{
			name: "no right", prepare: []string{"ACL", "SETUSER", "default", "-evalsha"}, mend: []string{"ACL", "SETUSER", "default", "+evalsha"},
			cause: lockclient.CausePermission, text: "rights that the lock needs",
		},
		{
			name: "no right inside", prepare: []string{"ACL", "SETUSER", "default", "-getset"}, mend: []string{"ACL", "SETUSER", "default", "+getset"},
			cause: lockclient.CausePermission, text: "rights that the lock needs",
		},
		{
			name: "no right to the key", prepare: []string{"ACL", "SETUSER", "default", "resetkeys", "~other"}, mend: []string{"ACL", "SETUSER", "default", "allkeys"},
			cause: lockclient.CausePermission, text: "rights that the lock needs",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startRedis(t, tt.args...)
			if tt.prepare != nil {
				s.do(words(tt.prepare)...)
			}
			c := s.client(t)
			for range 2 {
				start := time.Now()
				for _, acquire := range []func(context.Context, string, ...lockclient.Option) (*lockclient.Lock, error){c.Acquire, c.TryAcquire} {
					_, err := acquire(t.Context(), "demo")
					var u *lockclient.UnavailableError
					if !errors.As(err, &u) || !errors.Is(err, lockclient.ErrUnavailable) {
						t.Fatalf("got %v, want an UnavailableError", err)
					}
					if strings.Contains(err.Error(), "script") {
						t.Errorf("speaks of scripts: %v", err)
					}
					if u.Cause != tt.cause || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("got %q: %v, want %q and %q", u.Cause, err, tt.cause, tt.text)
					}
				}
				if d := time.Since(start); d > 4500*time.Millisecond { // no call ends before five
					t.Errorf("took %v to say so", d)
				}
			}
			if s := c.Stats(); s.LastError == nil {
				t.Error("Stats does not know")
			}
			if tt.mend == nil {
				return
			}
			s.do(words(tt.mend)...)
			l, err := c.TryAcquire(t.Context(), "demo")
			if err != nil {
				t.Fatalf("after it was mended: %v", err)
			}
			if s := c.Stats(); !s.Up || s.LastError != nil {
				t.Errorf("Stats: up %v, last error %v, want up and none", s.Up, s.LastError)
			}
			info := must[lockclient.Info](t)(c.Inspect(t.Context(), "demo"))
			if len(info.Waiters) != 0 {
				t.Errorf("left behind: %+v", info.Waiters)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func words(s []string) []any {
	a := make([]any, len(s))
	for i := range s {
		a[i] = s[i]
	}
	return a
}

// What Redis says while it reads its data, and other words it may find.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		reply string
		cause lockclient.Cause
		up    bool
	}{
		{"LOADING Redis is loading the dataset in memory", lockclient.CauseLoading, false},
		{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", lockclient.CauseReadOnly, true},
		{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", lockclient.CauseReadOnly, true},
		{"ERR max number of clients reached", lockclient.CauseClients, true},
		{"WRONGPASS invalid username-password pair or user is disabled.", lockclient.CausePassword, false},
	} {
		t.Run(strings.Fields(tt.reply)[0], func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				c := w.client("a")
				hold(t, c, "demo").Release(t.Context())
				mini := w.redis.(*testcluster.EmbeddedRedis).Mini()
				mini.SetError(tt.reply)
				_, err := c.TryAcquire(t.Context(), "demo")
				var u *lockclient.UnavailableError
				if !errors.As(err, &u) || u.Cause != tt.cause {
					t.Errorf("got %v, want %q", err, tt.cause)
				}
				if s := c.Stats(); s.Up != tt.up || s.LastError == nil {
					t.Errorf("Stats: up %v, last error %v, want up %v and an error", s.Up, s.LastError, tt.up)
				}
				mini.SetError("")
				hold(t, c, "demo")
				if s := c.Stats(); !s.Up || s.LastError != nil {
					t.Errorf("Stats: up %v, last error %v, want up and none", s.Up, s.LastError)
				}
			})
		})
	}
}

// A wrong password is never shown, and never tried often.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := startRedis(t, "--requirepass", "secret")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wrong-4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int64
	c := s.client(t, func(cfg *lockclient.Config) {
		cfg.PasswordFile = file
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	start, asked := time.Now(), 0
	for time.Since(start) < 3*time.Second {
		_, err := c.TryAcquire(t.Context(), "demo")
		var u *lockclient.UnavailableError
		if !errors.As(err, &u) || u.Cause != lockclient.CausePassword {
			t.Fatalf("got %v, want %q", err, lockclient.CausePassword)
		}
		if strings.Contains(err.Error(), "4711") {
			t.Fatalf("%v shows the password", err)
		}
		asked++
	}
	took := time.Since(start)
	if n := dials.Load(); n > 4+int64(took.Seconds()) || asked < 100 {
		t.Errorf("%d dials for %d questions in %v, want at most 3 at once and one a second", n, asked, took)
	}
	// The right one, and it works.
	if err := os.WriteFile(file, []byte("secret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := s.client(t, func(cfg *lockclient.Config) { cfg.PasswordFile = file })
	if _, err := again.TryAcquire(t.Context(), "demo"); err != nil {
		t.Error(err)
	}
}

// Redis is down for a minute: errors at once, few dials, waiters stay.
func TestDownForAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		var dials atomic.Int64
		a := w.client("a")
		b := w.client("b", func(cfg *lockclient.Config) {
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return w.host("b").DialContext(ctx, network, addr)
			}
		})
		hold(t, a, "demo")
		next := later(t, b, "demo")
		w.redis.Kill()
		dials.Store(0)
		start := time.Now()
		for time.Since(start) < time.Minute {
			asked := time.Now()
			_, err := b.TryAcquire(t.Context(), "other")
			var u *lockclient.UnavailableError
			if !errors.As(err, &u) || u.Cause != lockclient.CauseRefused && u.Cause != lockclient.CauseCut {
				t.Fatalf("got %v, want it refused", err)
			}
			if d := time.Since(asked); d > 100*time.Millisecond {
				t.Fatalf("took %v to say so", d)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if n := dials.Load(); n > 75 {
			t.Errorf("%d dials in a minute", n)
		}
		if s := b.Stats(); s.Up || s.Waiting != 1 {
			t.Errorf("up %v, waiting %d, want false, 1", s.Up, s.Waiting)
		}
		w.redis.RestartEmpty()
		back := time.Now()
		won := within(t, 10*time.Second, "the waiter", next)
		if won.err != nil {
			t.Fatal(won.err)
		}
		// It came back empty: two seconds are for those who waited before.
		if d := won.at.Sub(back); d > 5*time.Second {
			t.Errorf("got it %v after Redis was back", d)
		}
		if !b.Stats().Up {
			t.Error("not up")
		}
	})
}

// An idle client notices within seconds, for less than a call a second.
func TestUpAndDownWhenIdle(t *testing.T) {
	for name, down := range map[string]func(r testcluster.Redis){
		"killed":  testcluster.Redis.Kill,
		"stalled": testcluster.Redis.Stall,
		"paused":  testcluster.Redis.Pause,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				var events []lockclient.Event
				c := w.client("a", func(cfg *lockclient.Config) {
					cfg.OnEvent = func(e lockclient.Event) { events = append(events, e) }
				})
				time.Sleep(time.Minute)
				mini := w.redis.(*testcluster.EmbeddedRedis).Mini()
				if s := c.Stats(); !s.Up || s.Latency <= 0 || s.LastError != nil {
					t.Errorf("up %v, latency %v, error %v", s.Up, s.Latency, s.LastError)
				}
				if n := mini.CommandCount(); n > 60 {
					t.Errorf("%d calls in a minute of idleness", n)
				}
				down(w.redis)
				time.Sleep(5 * time.Second)
				if s := c.Stats(); s.Up || s.LastError == nil {
					t.Errorf("5 s after: up %v, error %v", s.Up, s.LastError)
				}
				time.Sleep(time.Minute)
				if name == "killed" {
					w.redis.RestartEmpty()
				} else {
					w.redis.Heal()
					w.redis.Resume()
				}
				time.Sleep(5 * time.Second)
				if s := c.Stats(); !s.Up || s.LastError != nil {
					t.Errorf("5 s after it was back: up %v, error %v", s.Up, s.LastError)
				}
				c.Close()
				var got []lockclient.EventType
				for _, e := range events {
					got = append(got, e.Type)
				}
				if len(got) != 3 || got[0] != lockclient.RedisUp || got[1] != lockclient.RedisDown || got[2] != lockclient.RedisUp {
					t.Errorf("got events %v, want up down up", got)
				}
			})
		})
	}
}

// What nobody may ask for.
func TestBadInput(t *testing.T) {
	inBubble(t, func(t *testing.T, w world) {
		c := w.client("a")
		ctx := t.Context()
		for _, name := range []string{"", strings.Repeat("x", 513), "a\x00b", "line\nbreak", "\x7f", "\xff\xfe"} {
			_, err1 := c.Acquire(ctx, name)
			_, err2 := c.TryAcquire(ctx, name)
			_, err3 := c.Inspect(ctx, name)
			_, err4 := c.ForceRelease(ctx, name)
			for i, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, lockclient.ErrBadName) {
					t.Errorf("%.20q, call %d: got %v, want ErrBadName", name, i, err)
				}
			}
		}
		for _, ttl := range []time.Duration{-1, 1, 99 * time.Millisecond, 24*time.Hour + 1} {
			if _, err := c.TryAcquire(ctx, "demo", lockclient.WithTTL(ttl)); !errors.Is(err, lockclient.ErrBadTTL) {
				t.Errorf("ttl %v: got %v, want ErrBadTTL", ttl, err)
			}
		}
		names := []string{"{brace}", "a}b{c", "100%", "%7B", "peer:{x}", strings.Repeat("ü", 256), "a b|c/d*?[x]"}
		for _, name := range names {
			l, err := c.TryAcquire(ctx, name)
			if err != nil {
				t.Errorf("%q: %v", name, err)
				continue
			}
			defer l.Release(ctx)
		}
		infos := must[[]lockclient.Info](t)(c.List(ctx))
		found := map[string]bool{}
		for _, i := range infos {
			found[i.Name] = i.Holder != nil
		}
		for _, name := range names {
			if !found[name] {
				t.Errorf("List has no %q: %v", name, found)
			}
		}
		if len(infos) != len(names) {
			t.Errorf("List has %d, want %d", len(infos), len(names))
		}
	})
}

// What Start and Validate refuse, and that they do not tell secrets.
func TestBadConfig(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]lockclient.Config{
		"no url":        {},
		"scheme":        {URL: "http://user:hunter2@127.0.0.1"},
		"port":          {URL: "redis://user:hunter2@127.0.0.1:port"},
		"database":      {URL: "redis://user:hunter2@127.0.0.1:6379/x"},
		"no file":       {URL: "redis://127.0.0.1", PasswordFile: "/does/not/exist"},
		"readable file": {URL: "redis://127.0.0.1", PasswordFile: open},
		"prefix":        {URL: "redis://127.0.0.1", Prefix: "a{b}"},
		"ttl":           {URL: "redis://127.0.0.1", TTL: time.Millisecond},
	} {
		c, err := lockclient.Start(cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: started", name)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v shows the password", name, err)
		}
		if cfg.Validate() == nil {
			t.Errorf("%s: Validate finds nothing", name)
		}
	}
	if err := (lockclient.Config{URL: "redis://127.0.0.1"}).Validate(); err != nil {
		t.Error(err)
	}
}
