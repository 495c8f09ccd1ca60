package httpapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// StartMux serves mux instead of the endpoint's own routes, behind the same
// guards: the limits and time-outs of connections, the checks of host, origin
// and token. It is for those who speak another protocol over HTTP.
//
// A request's context ends when Close begins. An answer that takes longer than
// 30 s sets its own write deadline (http.ResponseController). The patterns of
// mux label the metrics, whose names begin with prefix; what names it in their
// help texts.
func StartMux(cfg Config, mux *http.ServeMux, prefix, what string) (*Server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	s.mux = mux
	s.metrics = newMetrics(prefix, what)
	s.start()
	return s, nil
}

// Metrics returns the server's own numbers. Those of Start are in its /metrics.
func (s *Server) Metrics() prometheus.Gatherer { return s.metrics.registry }

func (s *Server) serveMux(w http.ResponseWriter, r *http.Request) {
	ctx, done := s.untilStop(r.Context())
	defer done()
	s.mux.ServeHTTP(w, r.WithContext(ctx))
}
