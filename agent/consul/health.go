package consul

import (
	"net/http"
	"slices"
)

// healthService is /v1/health/service/{service}.
func (h *handler) healthService(r *http.Request, q query) reading {
	return instancesOf(h, r, q, func(i Instance, name string) (entry, bool) {
		e := h.entry(i, name)
		return e, !q.passing || e.passes()
	})
}

// healthChecks is /v1/health/checks/{service}: the checks of the service alone.
func (h *handler) healthChecks(r *http.Request, q query) reading {
	rd := instancesOf(h, r, query{nodeMeta: q.nodeMeta}, func(i Instance, name string) ([]check, bool) { return i.checks(name), true })
	lists := rd.read
	rd.read = func() answer {
		a := lists()
		a.doc = append([]check{}, slices.Concat(a.doc.([][]check)...)...)
		return a
	}
	return rd
}

// healthNode is /v1/health/node/{node}: the checks of a node and of what runs on
// it.
func (h *handler) healthNode(r *http.Request, _ query) reading {
	return reading{
		read: func() answer {
			out := []check{}
			n, index := h.onNode(r.PathValue("node"), func(s string, i Instance) { out = append(out, i.checks(s)...) })
			if n != nil {
				out = slices.Insert(out, 0, n.check())
			}
			return answer{doc: out, source: index}
		},
		changed: h.source.NodesChanged,
	}
}

// healthState is /v1/health/state/{state}: all checks that are passing, warning
// or critical, or any.
func (h *handler) healthState(r *http.Request, q query) reading {
	state := r.PathValue("state")
	if !slices.Contains([]string{"any", passing, warning, critical}, state) {
		return reading{err: refuse(http.StatusBadRequest, "Invalid state %q: want any, passing, warning or critical", state)}
	}
	return reading{
		read: func() answer {
			out := []check{}
			add := func(n Node, checks ...check) {
				for _, c := range checks {
					if q.lets(n) && (state == "any" || c.Status == state) {
						out = append(out, c)
					}
				}
			}
			nodes, index := h.source.Nodes()
			for _, n := range nodes {
				add(n, n.check())
			}
			services, _ := h.source.Services()
			for _, s := range services {
				instances, _ := h.source.Instances(s.Name)
				for _, i := range instances {
					add(i.Node, i.checks(s.Name)...)
				}
			}
			return answer{doc: out, source: index}
		},
		changed: h.source.NodesChanged,
	}
}
