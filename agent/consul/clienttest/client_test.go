package clienttest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// start runs an agent on free loopback ports and stops it with the test.
func start(t *testing.T, name string, seeds []string, services ...agent.ServiceConfig) *agent.Agent {
	t.Helper()
	c := agent.DefaultConfig()
	c.Name, c.Bind, c.HTTP.Addr, c.Consul.Addr = name, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Join, c.Services, c.Tags = seeds, services, map[string]string{"zone": "z-" + name}
	a, err := agent.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop(context.Background()) })
	return a
}

func local(t *testing.T, a *agent.Agent) *api.Client {
	t.Helper()
	c, err := api.NewClient(a.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func consulClient(t *testing.T, a *agent.Agent) *consulapi.Client {
	t.Helper()
	cfg := consulapi.DefaultConfig()
	cfg.Address = a.ConsulAddr()
	c, err := consulapi.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// addrs is where entries can be reached, as every client of Consul works it out.
func addrs(entries []*consulapi.ServiceEntry) []string {
	out := []string{}
	for _, e := range entries {
		host := e.Service.Address
		if host == "" {
			host = e.Node.Address
		}
		out = append(out, fmt.Sprintf("%s@%s:%d", e.Node.Node, host, e.Service.Port))
	}
	slices.Sort(out)
	return out
}

// A watch as consul-template, Traefik and others write it: read with the last
// index, again and again. It sees every state that lasts, and wakes for nothing
// else.
func TestWatch(t *testing.T) {
	a := start(t, "a", nil, agent.ServiceConfig{Name: "web", Port: 80, Tags: []string{"v1"}, Check: agent.CheckConfig{TTL: time.Hour}})
	b := start(t, "b", []string{a.GossipAddr()}, agent.ServiceConfig{Name: "web", Port: 81, Addr: "10.0.0.2", Check: agent.CheckConfig{TTL: time.Hour}})
	health := consulClient(t, a).Health()
	pass := func(at *agent.Agent, health string) {
		t.Helper()
		if err := local(t, at).Pass(t.Context(), "web", api.PassRequest{Health: health}); err != nil {
			t.Fatal(err)
		}
	}
	type reading struct {
		addrs []string
		index uint64
	}
	seen := make(chan reading, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		index := uint64(0)
		for ctx.Err() == nil {
			entries, meta, err := health.Service("web", "", true, (&consulapi.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx))
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("read: %v", err)
				}
				return
			}
			if meta.LastIndex == 0 || !meta.KnownLeader || meta.LastIndex < index {
				t.Errorf("meta %+v after index %d", meta, index)
			}
			if meta.LastIndex != index {
				seen <- reading{addrs(entries), meta.LastIndex}
			}
			index = meta.LastIndex
		}
	}()
	next := func(what string, want ...string) {
		t.Helper()
		select {
		case r := <-seen:
			if !slices.Equal(r.addrs, want) {
				t.Errorf("%s: got %v, want %v", what, r.addrs, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: nothing", what)
		}
	}
	next("at first")
	pass(a, "passing")
	next("a is well", "a@127.0.0.1:80")
	pass(b, "passing")
	next("b too", "a@127.0.0.1:80", "b@10.0.0.2:81")
	pass(b, "critical")
	next("b is not", "a@127.0.0.1:80")
	// What does not matter to this answer: a sick one that drains, another service.
	if err := local(t, b).Drain(t.Context(), "web", true); err != nil {
		t.Fatal(err)
	}
	if err := local(t, a).Register(t.Context(), "db", api.Registration{Port: 5432}); err != nil {
		t.Fatal(err)
	}
	if err := local(t, b).Drain(t.Context(), "web", false); err != nil {
		t.Fatal(err)
	}
	pass(b, "passing")
	next("b is well again", "a@127.0.0.1:80", "b@10.0.0.2:81")
	b.Kill()
	next("b has crashed", "a@127.0.0.1:80")
	cancel()
	<-done
}

// Everything else that the client reads.
func TestReads(t *testing.T) {
	a := start(t, "a", nil, agent.ServiceConfig{Name: "web", Port: 80, Tags: []string{"v1", "canary"}, Meta: map[string]string{"k": "v"}})
	b := start(t, "b", []string{a.GossipAddr()}, agent.ServiceConfig{Name: "web", Port: 81, Tags: []string{"v1"}, Check: agent.CheckConfig{TTL: time.Hour}})
	c := consulClient(t, a)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		all, _, err := c.Catalog().Service("web", "", nil)
		if err == nil && len(all) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("web: %v, %v", all, err)
		}
	}
	check := func(what string, got any, err error, want string) {
		t.Helper()
		if s := fmt.Sprint(got); err != nil || s != want {
			t.Errorf("%s: got %s, %v; want %s", what, s, err, want)
		}
	}
	services, _, err := c.Catalog().Services(nil)
	check("services", services, err, "map[web:[canary v1]]")
	services, _, err = c.Catalog().Services(&consulapi.QueryOptions{NodeMeta: map[string]string{"zone": "z-b"}})
	check("services of b", services, err, "map[web:[v1]]")
	dcs, err := c.Catalog().Datacenters()
	check("datacenters", dcs, err, "[peer]")
	leader, err := c.Status().Leader()
	check("leader", leader, err, a.GossipAddr())
	peers, err := c.Status().Peers()
	check("peers", len(peers), err, "2")
	self, err := c.Agent().Self()
	check("self", self["Config"]["Datacenter"], err, "peer")
	name, err := c.Agent().NodeName()
	check("node name", name, err, "a")

	nodes, _, err := c.Catalog().Nodes(&consulapi.QueryOptions{Near: "_agent"})
	if err != nil || len(nodes) != 2 || nodes[0].Node != "a" || nodes[0].Address != "127.0.0.1" || nodes[0].Meta["zone"] != "z-a" {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}
	listed, _, err := c.Catalog().ServiceMultipleTags("web", []string{"v1", "canary"}, nil)
	if err != nil || len(listed) != 1 || listed[0].Node != "a" || listed[0].ServicePort != 80 || listed[0].ServiceMeta["k"] != "v" || listed[0].ServiceWeights.Passing != 1 {
		t.Errorf("catalog: %+v, %v", listed, err)
	}
	entries, _, err := c.Health().ServiceMultipleTags("web", []string{"v1"}, false, nil)
	if err != nil || len(entries) != 2 || entries[0].Checks.AggregatedStatus() != "passing" || entries[1].Checks.AggregatedStatus() != "critical" {
		t.Errorf("health: %+v, %v", entries, err)
	}
	if err := local(t, b).Drain(t.Context(), "web", true); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		checks, _, err := c.Health().Checks("web", nil)
		if err == nil && checks.AggregatedStatus() == "maintenance" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("one that drains: %+v, %v", checks, err)
		}
	}
	state, _, err := c.Health().State("critical", nil)
	check("critical", len(state), err, "2")
	node, _, err := c.Catalog().Node("b", nil)
	if err != nil || node.Node.Node != "b" || node.Services["web"].Port != 81 {
		t.Errorf("node b: %+v, %v", node, err)
	}
	node, _, err = c.Catalog().Node("nobody", nil)
	if err != nil || node != nil {
		t.Errorf("nobody: %+v, %v", node, err)
	}
	_, _, err = c.Health().Service("web", "", true, &consulapi.QueryOptions{Filter: `Service.Port == 80`})
	if err == nil {
		t.Error("a filter that is not heeded is not refused")
	}
	if err := c.Agent().ServiceRegister(&consulapi.AgentServiceRegistration{Name: "x", Port: 1}); err == nil {
		t.Error("a registration seems to have worked")
	}
}
