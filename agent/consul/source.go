package consul

import (
	"context"
	"net/netip"
	"time"
)

// Node is a member of the cluster.
type Node struct {
	Name  string
	IP    netip.Addr
	Port  uint16 // of its gossip
	Tags  map[string]string
	Fault string        // why it is not to be used; "" when it is well
	RTT   time.Duration // 0 until measured
	Self  bool          // it is the one that is asked
}

// Instance is a service on one node.
type Instance struct {
	Node     Node
	Addr     string // empty means that of the node
	Port     uint16
	Tags     []string
	Meta     map[string]string
	Weight   int
	Health   string // passing, warning or critical; "" when unchecked
	Draining bool
}

// Service is the name of a service and the tags that any instance of it has.
type Service struct {
	Name string
	Tags []string
}

// Source tells what the answers are made of. Its methods are called from many
// goroutines; what they return is not changed. Lists are in a stable order and
// hold nobody who has left. An index is above 0, rises, and stands for all that
// a list says, round trips apart.
type Source interface {
	// Datacenter is the name that the cluster goes by.
	Datacenter() string
	// Version is that of the agent.
	Version() string
	// Ready says why what is known is not to be acted on yet, or returns nil.
	Ready() error
	// Nodes returns the members, and NodesChanged returns nil when their index is
	// not index any more, or the error of ctx.
	Nodes() ([]Node, uint64)
	NodesChanged(ctx context.Context, index uint64) error
	// Services returns what runs anywhere, and Instances where service runs.
	Services() ([]Service, uint64)
	Instances(service string) ([]Instance, uint64)
	// ServicesChanged returns nil when the index of service, or of all services
	// when it is empty, is not index any more, or an error when ctx is done.
	ServicesChanged(ctx context.Context, service string, index uint64) error
}
