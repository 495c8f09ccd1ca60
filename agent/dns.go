package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/peerhq/peer/agent/dns"
	"github.com/peerhq/peer/selector"
)

// DNSConfig is the DNS server. No address: there is none.
type DNSConfig struct {
	Addr     string `yaml:"addr"`     // HOST:PORT, UDP and TCP, such as 127.0.0.1:8600; default: none
	Domain   string `yaml:"domain"`   // that names end in; default "peer"
	Insecure bool   `yaml:"insecure"` // allows an address beyond loopback
}

func (c DNSConfig) validate() error {
	var errs []error
	if c.Domain != "" {
		if err := dns.ValidateDomain(c.Domain); err != nil {
			errs = append(errs, fmt.Errorf("dns.domain: %w", err))
		}
	}
	if c.Addr != "" {
		host, _, err := net.SplitHostPort(c.Addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("dns.addr %q: want HOST:PORT, for example 127.0.0.1:8600", c.Addr))
		case !isLoopback(host) && !c.Insecure:
			errs = append(errs, fmt.Errorf("dns.addr %s is beyond loopback: whoever reaches it sees what runs where, and may use it to flood others; listen on 127.0.0.1, or set dns.insecure on a network you trust", c.Addr))
		}
	}
	return errors.Join(errs...)
}

// startDNS answers names, if that is wanted.
func (a *Agent) startDNS() error {
	c := a.cfg.DNS
	if c.Addr == "" {
		return nil
	}
	tcp, err := a.cfg.Seams.Listen(context.Background(), "tcp", c.Addr)
	if err != nil {
		return explainListen("dns address", c.Addr, "dns.addr", err)
	}
	udp, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", tcp.Addr().String())
	if err != nil {
		tcp.Close()
		return explainListen("dns address", c.Addr, "dns.addr", err)
	}
	a.dns, err = dns.Start(dns.Config{UDP: udp, TCP: tcp, Domain: c.Domain, Logger: a.logger.Named("dns")}, names{a})
	if err != nil {
		tcp.Close()
		udp.Close()
		return err
	}
	a.dnsAddr = tcp.Addr().String()
	return nil
}

// DNSAddr returns where DNS is answered, HOST:PORT, or "".
func (a *Agent) DNSAddr() string { return a.dnsAddr }

// names is what the DNS server asks of the agent. Each question for a service
// takes a turn, which is what rotates the answers.
type names struct{ *Agent }

// Service implements dns.Source.
func (n names) Service(name, tag string) ([]dns.Target, bool) {
	l := n.catalog().services[name]
	if l == nil {
		return nil, false
	}
	s := n.selectorOf(name, false)
	known := tag == ""
	for _, e := range l.endpoints {
		known = known || slices.Contains(e.service.Tags, tag)
	}
	if s == nil || !known {
		return nil, known
	}
	var out []dns.Target
	better := false
	for e, tier := range s.Order(selector.Want{}) {
		// Those that stand by are named only when nobody better is left.
		if tier == selector.LastResort && better {
			break
		}
		if tag != "" && !slices.Contains(e.service.Tags, tag) {
			continue
		}
		better = better || tier != selector.LastResort
		out = append(out, dns.Target{
			Node: e.member.Name, IP: e.member.Addr.Addr(), Addr: e.service.Addr, Port: e.service.Port, Weight: e.weight(),
		})
	}
	return out, true
}

// Node implements dns.Source.
func (n names) Node(name string) (ip netip.Addr, live, known bool) {
	for _, m := range n.cluster.View().Members {
		if !strings.EqualFold(m.Name, name) {
			continue
		}
		known = true
		if m.Eligible() {
			return m.Addr.Addr(), true, true
		}
	}
	return ip, false, known
}
