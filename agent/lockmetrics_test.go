package agent_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// sample reads one sample of the text format.
func sample(t *testing.T, text, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Errorf("no %s", series)
		return -1
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Errorf("%s: %v", series, err)
	}
	return v
}

// Locks of HTTP clients show in the status, in the feed and in the metrics.
func TestLocksShow(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	a := start(t, func(c *agent.Config) { c.Redis.URL = "redis://" + r.Addr() })
	c := client(t, a)
	ctx := t.Context()
	eventually(t, "Redis is up", func() bool { return a.Status(ctx).Locks.Backend.Up })
	l, err := c.Acquire(ctx, "kept", api.LockOptions{Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	short, err := c.Acquire(ctx, "short", api.LockOptions{TTL: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, "kept", api.LockOptions{Wait: 9 * time.Second})
		waits <- err
	}()
	eventually(t, "one held, one waiting", func() bool {
		s := a.Status(ctx)
		return s.Locks.Held == 1 && s.Locks.Waiting == 1
	})
	if _, err := c.Renew(ctx, l); err != nil {
		t.Error(err)
	}
	// Who does not listen yet misses what took its lock away.
	eventually(t, "the agent listens", func() bool { return r.Listeners() == 1 })
	if _, err := c.ForceRelease(ctx, "kept"); err != nil {
		t.Error(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("the next one: %v", err)
	}
	if err := c.Release(ctx, short); err == nil {
		t.Error("the short one was not lost")
	}
	var feed []string
	for e, err := range c.Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Lock != nil {
			feed = append(feed, strings.TrimPrefix(e.Type, "lock_")+" "+e.Lock.Name)
		}
		if len(feed) == 5 {
			break
		}
	}
	got := fmt.Sprint(feed)
	for _, want := range []string{"acquired kept", "acquired short", "lost short", "lost kept"} {
		if !strings.Contains(got, want) {
			t.Errorf("the feed says %s, not %s", got, want)
		}
	}

	raw, err := c.Raw(ctx, "GET", "/metrics", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for series, want := range map[string]float64{
		`peer_lock_acquire_seconds_count{result="acquired"}`:    3,
		`peer_lock_acquire_seconds_count{result="held"}`:        0,
		`peer_lock_acquire_seconds_count{result="cancelled"}`:   0,
		`peer_lock_acquire_seconds_count{result="unavailable"}`: 0,
		`peer_lock_acquired_total`:                              3,
		`peer_lock_lost_total{reason="expired"}`:                1,
		`peer_lock_lost_total{reason="forced"}`:                 1,
		`peer_lock_lost_total{reason="taken"}`:                  0,
		`peer_lock_lost_total{reason="unavailable"}`:            0,
		`peer_lock_renewals_total{result="failed"}`:             0,
		`peer_locks_held`:    1,
		`peer_locks_waiting`: 0,
		`peer_redis_up`:      1,
	} {
		if v := sample(t, text, series); v != want {
			t.Errorf("%s is %v, want %v", series, v, want)
		}
	}
	if v := sample(t, text, `peer_lock_renewals_total{result="ok"}`); v < 1 {
		t.Errorf("%v renewals", v)
	}
	if v := sample(t, text, `peer_redis_latency_seconds`); v <= 0 || v > 5 {
		t.Errorf("latency %v", v)
	}
	r.Kill()
	eventually(t, "Redis is down", func() bool {
		raw, err := c.Raw(ctx, "GET", "/metrics", nil, nil)
		return err == nil && strings.Contains(string(raw), "\npeer_redis_up 0\n")
	})

	promtool, err := exec.LookPath("promtool")
	if err != nil {
		testcluster.Unavailable(t, "promtool", "no promtool on the PATH: the metrics are not checked by it")
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// The page shows the locks of everybody, holders and waiters in order, though
// the feed tells of this agent's only.
func TestPageShowsLocksOfOtherHosts(t *testing.T) {
	r := testcluster.StartAnyRedis(t)
	a := start(t, func(c *agent.Config) { c.Redis.URL = "redis://" + r.Addr() })
	b := start(t, func(c *agent.Config) { c.Name, c.Redis.URL = "b", "redis://"+r.Addr() })
	ca, cb := client(t, a), client(t, b)
	ctx := t.Context()
	page := func() string {
		raw, err := ca.Raw(ctx, "GET", "/page.json", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	l, err := cb.Acquire(ctx, "elsewhere", api.LockOptions{Command: "deploy"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := cb.Acquire(ctx, "elsewhere", api.LockOptions{Wait: 30 * time.Second})
		done <- err
	}()
	pid := strconv.Itoa(os.Getpid())
	eventually(t, "the holder and the waiter show", func() bool {
		p := page()
		return strings.Contains(p, `"node":"b","process":"deploy, pid `+pid) && strings.Contains(p, `"text":"b `+pid)
	})
	if err := cb.Release(ctx, l); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next holder shows", func() bool {
		p := page()
		return strings.Contains(p, `"node":"b"`) && !strings.Contains(p, "deploy") && strings.Contains(p, `"waiters":[]`)
	})
}
