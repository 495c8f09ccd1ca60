package httpapi

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

// A targetGroup is one target with its labels, as Prometheus reads it.
// https://prometheus.io/docs/prometheus/latest/http_sd/
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// servePrometheus lists the services for Prometheus: also those that are not
// handed out, since a monitor wants to see what is down; only who has left is
// not in it. The order is stable, because Prometheus tells groups apart by
// their place.
func (s *Server) servePrometheus(w http.ResponseWriter, r *http.Request, q query) {
	service, p := q.one("service")
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	groups := []targetGroup{}
	for _, g := range s.agent.Services().Services {
		if service != "" && g.Name != service {
			continue
		}
		for _, i := range g.Instances {
			groups = append(groups, targetGroup{
				Targets: []string{net.JoinHostPort(i.Addr, strconv.Itoa(int(i.Port)))},
				Labels:  prometheusLabels(g.Name, i),
			})
		}
	}
	writeJSON(w, r, groups)
}

func prometheusLabels(service string, i api.ServiceInstance) map[string]string {
	const meta = "__meta_peer_"
	out := map[string]string{
		meta + "service":  service,
		meta + "node":     i.Node,
		meta + "status":   i.State,
		meta + "health":   i.Health,
		meta + "eligible": strconv.FormatBool(i.Eligible),
		meta + "zone":     i.NodeTags["zone"],
		// With commas around, so that a rule may look for ",canary,".
		meta + "service_tags": "," + strings.Join(i.Tags, ",") + ",",
	}
	for k, v := range i.NodeTags {
		out[meta+"tag_"+labelName(k)] = v
	}
	for k, v := range i.Meta {
		out[meta+"meta_"+labelName(k)] = v
	}
	return out
}

// labelName replaces what may not stand in a label's name.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
