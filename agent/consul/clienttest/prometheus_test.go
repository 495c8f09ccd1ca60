package clienttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	promconsul "github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// Prometheus's consul_sd, as it runs in Prometheus, finds the targets and follows
// their health.
func TestPrometheus(t *testing.T) {
	a := start(t, "a", nil, agent.ServiceConfig{Name: "web", Port: 80, Tags: []string{"v1"}, Check: agent.CheckConfig{TTL: time.Hour}})
	b := start(t, "b", []string{a.GossipAddr()}, agent.ServiceConfig{Name: "web", Port: 81, Addr: "10.0.0.2"})
	cfg := promconsul.DefaultSDConfig
	cfg.Server, cfg.RefreshInterval = a.ConsulAddr(), model.Duration(10*time.Millisecond)
	reg := prometheus.NewRegistry()
	metrics := cfg.NewDiscovererMetrics(reg, discovery.NewRefreshMetrics(reg))
	if err := metrics.Register(); err != nil {
		t.Fatal(err)
	}
	sd, err := cfg.NewDiscoverer(discovery.DiscovererOptions{Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	groups := make(chan []*targetgroup.Group)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sd.Run(ctx, groups)
	}()
	defer func() {
		cancel()
		for {
			select {
			case <-groups:
			case <-done:
				return
			}
		}
	}()
	targets := map[string][]string{} // by source
	finds := func(what string, want ...string) {
		t.Helper()
		for end := time.After(30 * time.Second); ; {
			got := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(targets))...)))
			if slices.Equal(got, want) {
				return
			}
			select {
			case gs := <-groups:
				for _, g := range gs {
					targets[g.Source] = nil
					for _, l := range g.Targets {
						targets[g.Source] = append(targets[g.Source], fmt.Sprint(l["__address__"], " ", l["__meta_consul_node"], " ", l["__meta_consul_health"], " ", l["__meta_consul_tags"], " ", g.Labels["__meta_consul_dc"], " ", l["__meta_consul_metadata_zone"]))
					}
				}
			case <-end:
				t.Fatalf("%s: it finds %q, want %q", what, got, want)
			}
		}
	}
	finds("at first", "10.0.0.2:81 b passing ,, peer z-b", "127.0.0.1:80 a critical ,v1, peer z-a")
	if err := local(t, a).Pass(t.Context(), "web", api.PassRequest{}); err != nil {
		t.Fatal(err)
	}
	finds("a is well", "10.0.0.2:81 b passing ,, peer z-b", "127.0.0.1:80 a passing ,v1, peer z-a")
	if err := local(t, b).Register(t.Context(), "db", api.Registration{Port: 5432}); err != nil {
		t.Fatal(err)
	}
	finds("db too", "10.0.0.2:81 b passing ,, peer z-b", "127.0.0.1:5432 b passing ,, peer z-b", "127.0.0.1:80 a passing ,v1, peer z-a")
	b.Kill()
	finds("b has crashed", "10.0.0.2:81 b critical ,, peer z-b", "127.0.0.1:5432 b critical ,, peer z-b", "127.0.0.1:80 a passing ,v1, peer z-a")
}
