package agent_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// start runs an agent on free loopback ports and stops it with the test.
func start(t *testing.T, edit func(*agent.Config)) *agent.Agent {
	t.Helper()
	c := agent.DefaultConfig()
	c.Name, c.Bind, c.HTTP.Addr, c.Version = "a", "127.0.0.1:0", "127.0.0.1:0", "1.2.3"
	if edit != nil {
		edit(&c)
	}
	a, err := agent.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop(context.Background()) })
	return a
}

func client(t *testing.T, a *agent.Agent) *api.Client {
	t.Helper()
	c, err := api.NewClient(a.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits for a real cluster; the deadline is only for a broken one.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestThreeAgents(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		t.Run(host, func(t *testing.T) { threeAgents(t, host) })
	}
}

func threeAgents(t *testing.T, host string) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		testcluster.Unavailable(t, "ipv6", fmt.Sprintf("this host has no %s: %v", host, err))
	}
	_ = l.Close()
	on := func(name string, join ...string) *agent.Agent {
		return start(t, func(c *agent.Config) {
			c.Name, c.Bind, c.HTTP.Addr, c.Join = name, host+":0", host+":0", join
		})
	}
	a := on("a")
	b := on("b", a.GossipAddr())
	c := on("c", a.GossipAddr())
	ca, cb := client(t, a), client(t, b)
	eventually(t, "a and b see three", func() bool {
		sa, erra := ca.Status(t.Context())
		sb, errb := cb.Status(t.Context())
		return erra == nil && errb == nil && sa.Cluster.Alive == 3 && sb.Cluster.Alive == 3
	})
	seen := map[string]int{}
	for range 9 {
		n, err := ca.Next(t.Context(), api.NextQuery{})
		if err != nil {
			t.Fatal(err)
		}
		seen[n.Peers[0].Name]++
	}
	if seen["a"] != 3 || seen["b"] != 3 || seen["c"] != 3 {
		t.Errorf("nine turns among three: %v", seen)
	}
	n, err := ca.Next(t.Context(), api.NextQuery{Count: 5, Exclude: []string{"b"}})
	if err != nil || len(n.Peers) != 2 {
		t.Errorf("five of two that are not excluded: %v, %v", n.Peers, err)
	}
	m, err := ca.Member(t.Context(), "c")
	if err != nil || m.Addr != c.GossipAddr() || !strings.HasPrefix(m.Addr, host+":") {
		t.Errorf("c is at %s, %v; want %s", m.Addr, err, c.GossipAddr())
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	m, err = ca.Member(t.Context(), "b")
	if err != nil || m.State != "left" || m.Eligible {
		t.Errorf("after its goodbye b is %s, %v", m.State, err)
	}
	c.Kill()
	eventually(t, "a knows that c is dead", func() bool {
		m, err := ca.Member(t.Context(), "c")
		return err == nil && m.State == "failed" && m.Cause == "crashed"
	})
}
