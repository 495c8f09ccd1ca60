package agent_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// killWorld is an agent with a lease, a held stream and a waiting one, and a
// client of the same Redis that looks on.
type killWorld struct {
	agent  *agent.Agent
	redis  *miniredis.Miniredis
	other  *lockclient.Client
	theirs atomic.Int32   // connections of other
	calls  sync.WaitGroup // of its HTTP clients
}

func newKillWorld(t *testing.T) *killWorld {
	t.Helper()
	w := &killWorld{redis: miniredis.RunT(t)}
	w.redis.ClockTTL(true)
	var err error
	w.other, err = lockclient.Start(lockclient.Config{
		URL: "redis://" + w.redis.Addr(), Node: "there",
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			w.theirs.Add(1)
			return &counted{Conn: conn, gone: sync.OnceFunc(func() { w.theirs.Add(-1) })}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.other.Close() })
	theirs, err := w.other.Acquire(t.Context(), "theirs")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one has settled", func() bool {
		return w.redis.PubSubNumSub() != nil && theirs.Valid() && len(w.redis.PubSubChannels("*")) == 1
	})
	w.agent = start(t, func(c *agent.Config) { c.Redis.URL = "redis://" + w.redis.Addr() })
	c := client(t, w.agent)
	long := api.LockOptions{TTL: time.Minute, Wait: time.Minute}
	if _, err := c.Acquire(t.Context(), "lease", long); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stream", "theirs"} {
		w.calls.Go(func() {
			for range c.Hold(context.Background(), name, long) {
			}
		})
	}
	eventually(t, "the agent holds two and waits for one", func() bool {
		return w.holder(t, "lease") == "a" && w.holder(t, "stream") == "a" && w.waiters(t, "theirs") == 1
	})
	return w
}

// counted tells when it is closed.
type counted struct {
	net.Conn
	gone func()
}

func (c *counted) Close() error {
	defer c.gone()
	return c.Conn.Close()
}

func (w *killWorld) holder(t *testing.T, name string) string {
	t.Helper()
	info, err := w.other.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Holder == nil {
		return ""
	}
	return info.Holder.Node
}

func (w *killWorld) waiters(t *testing.T, name string) int {
	t.Helper()
	info, err := w.other.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return len(info.Waiters)
}

// A killed agent gives nothing back and leaves no queue: for Redis it is a
// process whose connections broke.
func TestKillAbandonsLocks(t *testing.T) {
	w := newKillWorld(t)
	w.agent.Kill()
	w.calls.Wait()
	eventually(t, "its connections are gone", func() bool { return w.redis.CurrentConnectionCount() == int(w.theirs.Load()) })
	for _, name := range []string{"lease", "stream"} {
		if h := w.holder(t, name); h != "a" {
			t.Errorf("%s is held by %q after the kill, want a still", name, h)
		}
	}
	if n := w.waiters(t, "theirs"); n != 1 {
		t.Errorf("%d wait after the kill, want 1 still", n)
	}
	// And those that it held end by themselves.
	w.redis.SetTime(time.Now().Add(time.Minute))
	w.redis.FastForward(time.Minute)
	if h := w.holder(t, "lease"); h != "" {
		t.Errorf("the lease is held by %q a minute later", h)
	}
}

// One that stops gives everything back.
func TestStopReleasesLocks(t *testing.T) {
	w := newKillWorld(t)
	if err := w.agent.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	w.calls.Wait()
	for _, name := range []string{"lease", "stream"} {
		if h := w.holder(t, name); h != "" {
			t.Errorf("%s is held by %q after the stop", name, h)
		}
	}
	if n := w.waiters(t, "theirs"); n != 0 {
		t.Errorf("%d wait after the stop", n)
	}
	w.agent.Kill() // nothing is left to do
}
