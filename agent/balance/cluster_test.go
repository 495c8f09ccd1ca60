package balance_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/testcluster"
)

// runsWeb configures an agent beside which web runs.
func runsWeb(port uint16) func(*agent.Config) {
	return func(c *agent.Config) { c.Services = []agent.ServiceConfig{{Name: "web", Port: port}} }
}

// beside follows service by the agent of n.
func beside(w *testcluster.World, n *testcluster.Node, service string, onChange func(balance.View)) *balance.Watch {
	w.Helper()
	client, err := api.NewClient("127.0.0.1:7980", api.WithDialer(n.Dial))
	if err != nil {
		w.Fatal(err)
	}
	return start(w.TB, balance.Config{Service: service, Client: client, OnChange: onChange}, client.Close)
}

// With real agents: a program's view is as fresh as its agent's, survives the
// agent's restart and crash, and never has less in it than is known.
func TestBesideAgents(t *testing.T) {
	testcluster.Virtual(t, func(w *testcluster.World) {
		nodes := []*testcluster.Node{w.Start(testcluster.Spec{Name: "p0"})}
		for i := range 3 {
			nodes = append(nodes, w.Start(testcluster.Spec{
				Name: fmt.Sprintf("p%d", i+1), Join: []string{nodes[0].Addr()}, Config: runsWeb(80),
			}))
		}
		w.Whole(nodes, 5*time.Second)
		var least atomic.Int64
		least.Store(3)
		web := beside(w, nodes[0], "web", func(v balance.View) { least.Store(min(least.Load(), int64(len(v.Peers)))) })
		all := beside(w, nodes[0], "", nil)
		see := func(within time.Duration, of *balance.Watch, want string) time.Duration {
			w.Helper()
			return w.Eventually(within, "it hands out "+want, func() error {
				if got := names(of); got != want {
					return fmt.Errorf("it hands out %q, %v", got, of.View().Err)
				}
				return nil
			})
		}
		see(time.Second, web, "p1 p2 p3")
		see(time.Second, all, "p0 p1 p2 p3")
		if p, err := all.Next(); err != nil || p.HostPort() != p.Addr+":7946" {
			w.Errorf("a member is at %s, %v", p.HostPort(), err)
		}

		// The agent beside the program restarts politely, and crashes, and stays
		// away for a while.
		for _, end := range []func(){nodes[0].Stop, nodes[0].Kill} {
			end()
			w.Sleep(20 * time.Second)
			if v := web.View(); v.Err == nil || v.Age() < 15*time.Second {
				w.Errorf("the agent is away: %v, %v old", v.Err, v.Age())
			}
			if got := names(web); got != "p1 p2 p3" {
				w.Errorf("the agent is away, and %q are handed out", got)
			}
			nodes[0].Restart(nil)
			w.Eventually(15*time.Second, "the agent is believed again", func() error { return web.View().Err })
			see(time.Second, web, "p1 p2 p3")
			see(5*time.Second, all, "p0 p1 p2 p3")
		}
		if n := least.Load(); n != 3 {
			w.Errorf("a view of %d of three was handed out", n)
		}

		// A peer crashes while the agent is up, and another one while it is away.
		nodes[3].Kill()
		took := see(time.Second, web, "p1 p2")
		w.Logf("a crashed peer is out of the program's rotation after %v", took)
		nodes[0].Kill()
		nodes[2].Kill()
		w.Sleep(10 * time.Second)
		nodes[0].Restart(nil)
		see(15*time.Second, web, "p1")

		// An agent that does not find its cluster again is not believed.
		nodes[0].Kill()
		w.Isolate(nodes[0])
		nodes[0].Restart(func(s *testcluster.Spec) { s.Join = []string{nodes[1].Addr()} })
		w.Sleep(30 * time.Second)
		if got := names(web); got != "p1" {
			w.Errorf("it is alone, and %q are handed out", got)
		}
		w.Heal()
		w.Eventually(30*time.Second, "the agent is believed again", func() error { return web.View().Err })
		see(time.Second, web, "p1")

		// Nobody, and back: with a program that waits.
		if err := nodes[1].Client().Drain(w.Context(), "web", true); err != nil {
			w.Fatal(err)
		}
		see(time.Second, web, "")
		came := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			defer cancel()
			p, err := web.NextWait(ctx)
			if err == nil && p.Name != "p1" {
				err = errors.New("it is " + p.Name)
			}
			came <- err
		}()
		w.Sleep(10 * time.Second)
		if err := nodes[1].Client().Drain(w.Context(), "web", false); err != nil {
			w.Fatal(err)
		}
		back := time.Now()
		if err := <-came; err != nil || time.Since(back) > time.Second {
			w.Errorf("back after %v: %v", time.Since(back), err)
		}
	})
}

// At home is where the agent is, without anybody saying so.
func TestZoneOfTheAgent(t *testing.T) {
	testcluster.Virtual(t, func(w *testcluster.World) {
		var nodes []*testcluster.Node
		for i, zone := range []string{"x", "x", "y"} {
			s := testcluster.Spec{Name: fmt.Sprintf("p%d", i), Tags: map[string]string{"zone": zone}, Config: runsWeb(80)}
			if i > 0 {
				s.Join = []string{nodes[0].Addr()}
			}
			nodes = append(nodes, w.Start(s))
		}
		w.Whole(nodes, 5*time.Second)
		for i, want := range []string{"map[p0:3 p1:3]", "map[p0:3 p1:3]", "map[p2:6]"} {
			for _, service := range []string{"web", ""} {
				client, err := api.NewClient("127.0.0.1:7980", api.WithDialer(nodes[i].Dial))
				if err != nil {
					w.Fatal(err)
				}
				x := start(w.TB, balance.Config{Service: service, Client: client, ZoneTag: "zone"}, client.Close)
				if err := x.Ready(w.Context()); err != nil {
					w.Fatal(err)
				}
				got := map[string]int{}
				for range 6 {
					p, err := x.Next()
					if err != nil {
						w.Fatal(err)
					}
					got[p.Name]++
				}
				if fmt.Sprint(got) != want {
					w.Errorf("beside %s, of service %q: %v, want %s", nodes[i].Name, service, got, want)
				}
			}
		}
	})
}

// In real time, over real sockets, TCP and unix: an agent restarts in its place.
func TestOverSockets(t *testing.T) {
	testcluster.Loopback(t, func(w *testcluster.World) {
		socket := w.TempDir() + "/peer.sock"
		a := w.Start(testcluster.Spec{Name: "a", Config: func(c *agent.Config) { c.HTTP.Socket = socket }})
		b := w.Start(testcluster.Spec{Name: "b", Join: []string{a.Addr()}, Config: runsWeb(8080)})
		w.Whole([]*testcluster.Node{a, b}, 20*time.Second)
		web := start(w.TB, balance.Config{Service: "web", Agent: socket}, nil)
		far := start(w.TB, balance.Config{Service: "web", Client: b.Client()}, nil)
		for _, x := range []*balance.Watch{web, far} {
			ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
			p, err := x.NextWait(ctx)
			cancel()
			if err != nil || p.HostPort() != "127.0.0.1:8080" || p.Name != "b" {
				w.Fatalf("got %+v, %v", p, err)
			}
		}
		a.Kill()
		w.Eventually(20*time.Second, "the program knows that its agent is away", func() error {
			if web.View().Err == nil {
				return errors.New("it does not")
			}
			return nil
		})
		if _, err := web.Next(); err != nil {
			w.Error(err)
		}
		a.Restart(nil)
		w.Eventually(20*time.Second, "and that it is back", func() error { return web.View().Err })
		if err := b.Client().Drain(w.Context(), "web", true); err != nil {
			w.Fatal(err)
		}
		w.Eventually(20*time.Second, "nobody is handed out", func() error {
			if p, err := web.Next(); err == nil {
				return errors.New(p.Name + " is")
			}
			return nil
		})
	})
}
