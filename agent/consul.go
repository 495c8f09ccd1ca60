package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/agent/consul"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/cluster"
)

// ConsulConfig is the server that answers Consul's reads. No address: there is
// none.
type ConsulConfig struct {
	Addr     string `yaml:"addr"`     // HOST:PORT, such as 127.0.0.1:8500; default: none
	Insecure bool   `yaml:"insecure"` // allows an address beyond loopback
}

func (c ConsulConfig) validate() error {
	if c.Addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Addr)
	switch {
	case err != nil:
		return fmt.Errorf("consul.addr %q: want HOST:PORT, for example 127.0.0.1:8500", c.Addr)
	case !isLoopback(host) && !c.Insecure:
		return fmt.Errorf("consul.addr %s is beyond loopback: whoever reaches it sees what runs where; listen on 127.0.0.1, or set consul.insecure on a network you trust", c.Addr)
	}
	return nil
}

// startConsul answers Consul's reads, if that is wanted, to those who have the
// endpoint's token, if there is one.
func (a *Agent) startConsul(r resolved) error {
	c := a.cfg.Consul
	if c.Addr == "" {
		return nil
	}
	l, err := a.cfg.Seams.Listen(context.Background(), "tcp", c.Addr)
	if err != nil {
		return explainListen("consul address", c.Addr, "consul.addr", err)
	}
	a.consul, err = httpapi.StartMux(httpapi.Config{
		TCP:          l,
		Addr:         c.Addr,
		AllowedHosts: a.cfg.HTTP.AllowedHosts,
		Token:        r.token,
		TokenHeader:  "X-Consul-Token",
		Version:      a.cfg.Version,
		Logger:       a.logger.Named("consul"),
	}, consul.New(&directory{Agent: a}), "peer_consul", "the Consul-shaped endpoint")
	if err != nil {
		l.Close()
		return err
	}
	a.consulAddr = l.Addr().String()
	a.logger.Info("consul's reads are answered", "addr", a.consulAddr)
	return nil
}

// ConsulAddr returns where Consul's reads are answered, HOST:PORT, or "".
func (a *Agent) ConsulAddr() string { return a.consulAddr }

// directory is what the Consul-shaped endpoint asks of the agent.
type directory struct {
	*Agent
	joined atomic.Pointer[time.Time] // when it was first seen to have joined
}

const (
	// young is how old an agent is that may have joined just now, and settle how
	// long it then takes to hear of everything.
	young  = 10 * time.Second
	settle = time.Second
)

// Ready implements consul.Source.
func (d *directory) Ready() error {
	_, all := d.Agent.Ready()
	for _, c := range all {
		if c.Status == "fail" && (c.Name == "gossip" || c.Name == "joined") {
			return errors.New(c.Text)
		}
	}
	if len(d.cfg.Join) == 0 {
		return nil
	}
	now := d.cfg.Seams.Now()
	d.joined.CompareAndSwap(nil, &now)
	if now.Sub(d.started) < young && now.Sub(*d.joined.Load()) < settle {
		return errors.New("this peer has just joined")
	}
	return nil
}

// Datacenter implements consul.Source.
func (d *directory) Datacenter() string { return d.cfg.Cluster }

// Version implements consul.Source.
func (d *directory) Version() string { return d.cfg.Version }

// Nodes implements consul.Source.
func (d *directory) Nodes() ([]consul.Node, uint64) {
	v := d.cluster.View()
	var out []consul.Node
	for _, m := range v.Members {
		if m.State != cluster.Left {
			out = append(out, consulNode(m))
		}
	}
	return out, v.Index
}

// NodesChanged implements consul.Source.
func (d *directory) NodesChanged(ctx context.Context, index uint64) error {
	return d.cluster.Changed(ctx, index)
}

// Services implements consul.Source.
func (d *directory) Services() ([]consul.Service, uint64) {
	c := d.catalog()
	var out []consul.Service
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		var tags []string
		for _, e := range c.services[name].endpoints {
			tags = append(tags, e.service.Tags...)
		}
		slices.Sort(tags)
		out = append(out, consul.Service{Name: name, Tags: slices.Compact(tags)})
	}
	return out, c.index
}

// Instances implements consul.Source.
func (d *directory) Instances(service string) ([]consul.Instance, uint64) {
	c := d.catalog()
	l := c.services[service]
	if l == nil {
		return nil, c.since(service)
	}
	out := make([]consul.Instance, len(l.endpoints))
	for i, e := range l.endpoints {
		s := e.service
		out[i] = consul.Instance{
			Node: consulNode(e.member), Addr: s.Addr, Port: s.Port, Tags: s.Tags, Meta: s.Meta, Weight: e.weight(), Health: s.Health, Draining: s.Draining,
		}
	}
	return out, c.since(service)
}

// consulNode draws m. Its fault says nothing that a service's index does not
// move for.
func consulNode(m cluster.Member) consul.Node {
	n := consul.Node{Name: m.Name, IP: m.Addr.Addr(), Port: m.Addr.Port(), Tags: m.Tags, RTT: m.RTT(), Self: m.Self}
	switch {
	case m.State != cluster.Alive:
		n.Fault = "the peer is " + string(m.State)
	case m.Shadowed:
		n.Fault = "another live peer has its name"
	}
	return n
}

// closeConsul ends the server, if there is one. It goes before the goodbye: who
// waits for a change must not be told that this host's services are gone.
func (a *Agent) closeConsul(ctx context.Context) error {
	if a.consul == nil {
		return nil
	}
	return a.consul.Close(ctx)
}
