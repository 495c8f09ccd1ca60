package consul

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// node is a node in answers about nodes and about health.
type node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
}

// service is a service in answers about health and about a node.
type service struct {
	ID                string
	Service           string
	Tags              []string
	Address           string // of the service; empty means that of the node
	Meta              map[string]string
	Port              uint16
	Weights           weights
	EnableTagOverride bool
}

type weights struct{ Passing, Warning int }

// check is the outcome of one check, of a node or of a service on it.
type check struct {
	Node        string
	CheckID     string
	Name        string
	Status      string // passing, warning, critical
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
}

// entry is one instance in an answer about health.
type entry struct {
	Node    node
	Service service
	Checks  []check
}

// listed is one instance in an answer of the catalog.
type listed struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceWeights           weights
	ServiceMeta              map[string]string
	ServicePort              uint16
	ServiceEnableTagOverride bool
}

// nodeID is an identity in the form that clients expect of one, and the same for
// the same name.
func nodeID(datacenter, name string) string {
	h := sha256.Sum256([]byte(datacenter + "\x00" + name))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

func address(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().String()
}

func (h *handler) node(n Node) node {
	dc, addr := h.source.Datacenter(), address(n.IP)
	return node{
		ID: nodeID(dc, n.Name), Node: n.Name, Address: addr, Datacenter: dc,
		TaggedAddresses: map[string]string{"lan": addr, "wan": addr}, Meta: orEmptyMap(n.Tags),
	}
}

// service draws i. One instance of a service a node: its name is its identity.
func (i Instance) service(name string) service {
	return service{
		ID: name, Service: name, Tags: orEmpty(i.Tags), Address: i.Addr, Meta: orEmptyMap(i.Meta), Port: i.Port,
		Weights: weights{Passing: max(i.Weight, 1), Warning: 1},
	}
}

func (h *handler) listed(i Instance, name string) listed {
	n, s := h.node(i.Node), i.service(name)
	return listed{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceID: s.ID, ServiceName: s.Service, ServiceTags: s.Tags, ServiceAddress: s.Address, ServiceWeights: s.Weights,
		ServiceMeta: s.Meta, ServicePort: s.Port,
	}
}

const (
	passing  = "passing"
	warning  = "warning"
	critical = "critical"
)

// check draws n's own.
func (n Node) check() check {
	c := check{
		Node: n.Name, CheckID: "serfHealth", Name: "Serf Health Status", Status: passing, Output: "the peer is alive",
		ServiceTags: []string{},
	}
	if n.Fault != "" {
		c.Status, c.Output = critical, n.Fault
	}
	return c
}

// checks draws those of i alone: none when nothing checks it.
func (i Instance) checks(name string) []check {
	out := []check{}
	of := func(id, title string) check {
		return check{Node: i.Node.Name, CheckID: id + ":" + name, Name: title, ServiceID: name, ServiceName: name, ServiceTags: orEmpty(i.Tags)}
	}
	if i.Health != "" {
		c := of("service", "Service '"+name+"' check")
		c.Status = i.Health
		out = append(out, c)
	}
	if i.Draining {
		c := of("_service_maintenance", "Service Maintenance Mode")
		c.Status, c.Notes = critical, "it is draining"
		out = append(out, c)
	}
	return out
}

func (h *handler) entry(i Instance, name string) entry {
	return entry{Node: h.node(i.Node), Service: i.service(name), Checks: append([]check{i.Node.check()}, i.checks(name)...)}
}

// passes says whether all of e's checks do.
func (e entry) passes() bool {
	for _, c := range e.Checks {
		if c.Status != passing {
			return false
		}
	}
	return true
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func orEmptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
