package consul

import (
	"net"
	"net/http"
	"strconv"
)

// me returns the node that is asked.
func (h *handler) me() Node {
	nodes, _ := h.source.Nodes()
	for _, n := range nodes {
		if n.Self {
			return n
		}
	}
	return Node{}
}

func (n Node) gossip() string {
	return net.JoinHostPort(address(n.IP), strconv.Itoa(int(n.Port)))
}

// self is /v1/agent/self: what clients look up in it, above all the datacenter.
func (h *handler) self(*http.Request, query) reading {
	return still(func() any {
		n, dc := h.me(), h.source.Datacenter()
		return map[string]map[string]any{
			"Config": {
				"Datacenter": dc, "PrimaryDatacenter": dc, "NodeName": n.Name, "NodeID": nodeID(dc, n.Name),
				"Server": false, "Revision": "", "Version": h.source.Version(),
			},
			"DebugConfig": {},
			"Member":      {"Name": n.Name, "Addr": address(n.IP), "Port": n.Port, "Tags": orEmptyMap(n.Tags), "Status": 1},
			"Meta":        anyMap(n.Tags),
			"Stats":       {"consul": map[string]string{"server": "false"}},
		}
	})
}

func anyMap(in map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range in {
		out[k] = v
	}
	return out
}

// leader is /v1/status/leader. Nobody leads; clients ask to see whether there is
// a cluster.
func (h *handler) leader(*http.Request, query) reading {
	return still(func() any {
		if h.source.Ready() != nil {
			return ""
		}
		return h.me().gossip()
	})
}

// peers is /v1/status/peers: who is well.
func (h *handler) peers(*http.Request, query) reading {
	return still(func() any {
		out := []string{}
		nodes, _ := h.source.Nodes()
		for _, n := range nodes {
			if n.Fault == "" {
				out = append(out, n.gossip())
			}
		}
		return out
	})
}
