package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the endpoint's own numbers.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	conns    prometheus.Gauge
	evicted  prometheus.Counter
}

// otherRoute labels what matches no route, so that strangers cannot make labels.
const otherRoute = "other"

// newMetrics names the numbers of what is served, as the help texts call it, with
// a prefix.
func newMetrics(prefix, what string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_requests_total",
			Help: "Requests answered by " + what + ", by route and status code.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "_request_seconds",
			Help:    "Time from a request to the end of its answer, by route; those that last as long as the client likes are left out.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"route"}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_connections",
			Help: "Open connections to " + what + ".",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_connections_evicted_total",
			Help: "Connections without a request that had to give way to new ones.",
		}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.conns, m.evicted)
	return m
}

// register adds what goes on in s.
func (m *metrics) register(s *Server) {
	m.registry.MustRegister(
		gaugeOf("peer_http_streams", "Open event streams.", s.streams),
		gaugeOf("peer_http_blocked_reads", "Blocking reads that wait for a change.", s.blocked),
		gaugeOf("peer_http_lock_waits", "Requests that wait for a lock or hold one by their connection.", s.waits))
}

func gaugeOf(name, help string, of slots) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of.taken()) })
}

// request counts one answered request. Route is its pattern, or empty.
func (m *metrics) request(route string, code int, took time.Duration) {
	if route == "" {
		route = otherRoute
	}
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	if route != eventsRoute && route != acquireRoute && route != holdRoute {
		m.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
}

// metricsHandler serves the agent's metrics and the endpoint's own.
func (s *Server) metricsHandler() http.Handler {
	all := prometheus.Gatherers{s.metrics.registry}
	if s.cfg.Gatherer != nil {
		all = append(all, s.cfg.Gatherer)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{
		ErrorLog:          logErrors{s},
		ErrorHandling:     promhttp.ContinueOnError, // half the metrics tell more than none
		EnableOpenMetrics: true,
		CoalesceGather:    true,
	})
}

// logErrors is promhttp's way to the log.
type logErrors struct{ s *Server }

func (l logErrors) Println(v ...any) { l.s.log.Warn("metrics are incomplete", "err", v) }
