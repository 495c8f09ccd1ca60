package consul

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"
)

// services is /v1/catalog/services: names with tags. With node-meta it is those
// that run on such nodes.
func (h *handler) services(_ *http.Request, q query) reading {
	return reading{
		read: func() answer {
			all, index := h.source.Services()
			out := map[string][]string{}
			for _, s := range all {
				if len(q.nodeMeta) == 0 {
					out[s.Name] = orEmpty(s.Tags)
					continue
				}
				var tags []string
				instances, _ := h.source.Instances(s.Name)
				for _, i := range instances {
					if q.lets(i.Node) {
						tags = append(tags, i.Tags...)
						out[s.Name] = orEmpty(sorted(tags))
					}
				}
			}
			return answer{doc: out, source: index}
		},
		changed: func(ctx context.Context, index uint64) error { return h.source.ServicesChanged(ctx, "", index) },
	}
}

// instancesOf answers about the service in r's path: with what draw makes of each
// instance, unless it returns false.
func instancesOf[T any](h *handler, r *http.Request, q query, draw func(i Instance, service string) (T, bool)) reading {
	name := r.PathValue("service")
	return reading{
		read: func() answer {
			instances, index := h.source.Instances(name)
			var docs []drawn[T]
			for _, i := range instances {
				if !q.tagged(i.Tags) || !q.lets(i.Node) {
					continue
				}
				if doc, ok := draw(i, name); ok {
					docs = append(docs, drawn[T]{i.Node, doc})
				}
			}
			return listOf(h, q, docs, index)
		},
		changed: func(ctx context.Context, index uint64) error { return h.source.ServicesChanged(ctx, name, index) },
	}
}

// catalogService is /v1/catalog/service/{service}: everywhere it runs, well or
// not.
func (h *handler) catalogService(r *http.Request, q query) reading {
	return instancesOf(h, r, q, func(i Instance, name string) (listed, bool) { return h.listed(i, name), true })
}

// nodes is /v1/catalog/nodes.
func (h *handler) nodes(_ *http.Request, q query) reading {
	return reading{
		read: func() answer {
			all, index := h.source.Nodes()
			var docs []drawn[node]
			for _, n := range all {
				if q.lets(n) {
					docs = append(docs, drawn[node]{n, h.node(n)})
				}
			}
			return listOf(h, q, docs, index)
		},
		changed: h.source.NodesChanged,
	}
}

// drawn is one item of a list, with the node that it is about.
type drawn[T any] struct {
	node Node
	doc  T
}

func docsOf[T any](items []drawn[T]) []T {
	out := make([]T, len(items))
	for i, x := range items {
		out[i] = x.doc
	}
	return out
}

// listOf answers with items, the nearest first if q wants it so and this peer
// knows: from where others stand it does not.
func listOf[T any](h *handler, q query, items []drawn[T], index uint64) answer {
	a := answer{doc: docsOf(items), source: index}
	if q.near == "_agent" || q.near != "" && q.near == h.me().Name {
		a.nearest = func() any {
			return docsOf(slices.SortedStableFunc(slices.Values(items), func(x, y drawn[T]) int {
				return cmp.Compare(x.node.distance(), y.node.distance())
			}))
		}
	}
	return a
}

// distance is how far n is, to sort by: one that was not measured yet is far.
func (n Node) distance() time.Duration {
	switch {
	case n.Self:
		return -1
	case n.RTT <= 0:
		return time.Hour
	}
	return n.RTT
}

// onNode calls f for each service on the node called name, and returns the node,
// nil when there is none, and the index of it all.
func (h *handler) onNode(name string, f func(service string, i Instance)) (found *Node, index uint64) {
	all, index := h.source.Nodes()
	if at := slices.IndexFunc(all, func(n Node) bool { return n.Name == name }); at >= 0 {
		found = &all[at]
	}
	services, _ := h.source.Services()
	for _, s := range services {
		instances, _ := h.source.Instances(s.Name)
		for _, i := range instances {
			if i.Node.Name == name {
				f(s.Name, i)
			}
		}
	}
	return found, index
}

// catalogNode is /v1/catalog/node/{node}: null for one that is not known.
func (h *handler) catalogNode(r *http.Request, _ query) reading {
	return reading{
		read: func() answer {
			services := map[string]service{}
			n, index := h.onNode(r.PathValue("node"), func(s string, i Instance) { services[s] = i.service(s) })
			if n == nil {
				return answer{source: index}
			}
			return answer{doc: map[string]any{"Node": h.node(*n), "Services": services}, source: index}
		},
		changed: h.source.NodesChanged,
	}
}

// datacenters is /v1/catalog/datacenters: there is one.
func (h *handler) datacenters(*http.Request, query) reading {
	return still(func() any { return []string{h.source.Datacenter()} })
}

// still is an answer that nobody waits for.
func still(doc func() any) reading {
	return reading{read: func() answer { return answer{doc: doc(), source: 1} }}
}
