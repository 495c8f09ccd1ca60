package lockclient_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// What 64 waiters cost while nothing happens: what all clients together send in
// a second, what Redis does in it, and connections of each.
func TestIdleWaiters(t *testing.T) {
	for _, processes := range []int{1, 64} {
		t.Run(fmt.Sprintf("processes=%d", processes), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w world) {
				holder := w.client("holder")
				hold(t, holder, "demo")
				var open atomic.Int64
				clients := make([]*lockclient.Client, processes)
				for i := range clients {
					name := fmt.Sprint("p", i)
					clients[i] = w.client(name, func(cfg *lockclient.Config) {
						cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
							conn, err := w.host(name).DialContext(ctx, network, addr)
							if err != nil {
								return nil, err
							}
							open.Add(1)
							return counted{conn, sync.OnceFunc(func() { open.Add(-1) })}, nil
						}
					})
				}
				for i := range 64 {
					go clients[i%processes].Acquire(context.Background(), "demo")
				}
				time.Sleep(time.Minute)
				if info := must[lockclient.Info](t)(holder.Inspect(t.Context(), "demo")); len(info.Waiters) != 64 {
					t.Fatalf("%d wait, want 64", len(info.Waiters))
				}
				mini := w.redis.(*testcluster.EmbeddedRedis).Mini()
				var sent atomic.Int64
				mini.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
					if cmd == "EVALSHA" || cmd == "EVAL" || cmd == "PING" {
						sent.Add(1)
					}
					return false
				})
				before := mini.CommandCount()
				const seconds = 120
				time.Sleep(seconds * time.Second)
				done := float64(mini.CommandCount()-before) / seconds
				perSecond := float64(sent.Load()) / seconds
				t.Logf("64 waiters in %d processes: %.1f calls and %.1f commands a second", processes, perSecond, done)
				if perSecond > 40 || processes == 1 && done > 10 {
					t.Errorf("%.1f calls, %.1f commands a second", perSecond, done)
				}
				// One for calls and one to listen; two more for a burst of calls.
				if n := open.Load(); n > int64(max(4, 2*processes)) {
					t.Errorf("%d connections are open in %d processes", n, processes)
				}
			})
		})
	}
}

// counted tells of its end.
type counted struct {
	net.Conn
	closed func()
}

func (c counted) Close() error {
	c.closed()
	return c.Conn.Close()
}
