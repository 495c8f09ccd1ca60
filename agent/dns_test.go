package agent_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// What the DNS of one peer says of the services of all.
func TestDNS(t *testing.T) {
	a := start(t, func(c *agent.Config) {
		c.DNS.Addr = "127.0.0.1:0"
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 80, Tags: []string{"canary"}}}
	})
	b := start(t, func(c *agent.Config) {
		c.Name, c.Join = "b", []string{a.GossipAddr()}
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 81, Addr: "10.0.0.2"}}
	})
	resolver := mdns.Client{Timeout: 20 * time.Second}
	ask := func(name string, qtype uint16) string {
		m, _, err := resolver.Exchange(new(mdns.Msg).SetQuestion(name, qtype), a.DNSAddr())
		if err != nil {
			return err.Error()
		}
		out := []string{mdns.RcodeToString[m.Rcode]}
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *mdns.A:
				out = append(out, rr.A.String())
			case *mdns.SRV:
				out = append(out, fmt.Sprintf("%s:%d", rr.Target, rr.Port))
			}
		}
		return strings.Join(out, " ")
	}
	eventually(t, "both are named", func() bool {
		s := ask("web.service.peer.", mdns.TypeA)
		return s == "NOERROR 127.0.0.1 10.0.0.2" || s == "NOERROR 10.0.0.2 127.0.0.1"
	})
	if s := ask("b.node.peer.", mdns.TypeA); s != "NOERROR 127.0.0.1" {
		t.Error(s)
	}
	if s := ask("canary.web.service.peer.", mdns.TypeSRV); s != "NOERROR a.node.peer.:80" {
		t.Error(s)
	}
	if err := client(t, a).Drain(t.Context(), "web", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a is drained", func() bool { return ask("canary.web.service.peer.", mdns.TypeSRV) == "NOERROR" })
	for query, want := range map[string]string{
		"web.service.peer.":        "NOERROR 0a000002.addr.peer.:81",
		"canary.web.service.peer.": "NOERROR",
		"db.service.peer.":         "NXDOMAIN",
		"beta.web.service.peer.":   "NXDOMAIN",
	} {
		if s := ask(query, mdns.TypeSRV); s != want {
			t.Errorf("%s: got %s, want %s", query, s, want)
		}
	}
	if err := client(t, b).Register(t.Context(), "db", api.Registration{Port: 5432}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "db is named", func() bool { return ask("db.service.peer.", mdns.TypeSRV) == "NOERROR b.node.peer.:5432" })
}

func TestDNSSettings(t *testing.T) {
	for want, c := range map[string]agent.DNSConfig{
		"beyond loopback": {Addr: "0.0.0.0:8600"},
		"want HOST:PORT":  {Addr: "8600"},
		"is no domain":    {Addr: "127.0.0.1:8600", Domain: "a b"},
	} {
		cfg := agent.DefaultConfig()
		cfg.DNS = c
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Bind, cfg.HTTP.Addr, cfg.DNS.Addr = "a", "127.0.0.1:0", "127.0.0.1:0", l.Addr().String()
	if a, err := agent.Start(cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
		if a != nil {
			a.Kill()
		}
	}
}
