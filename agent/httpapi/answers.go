package httpapi

import (
	"net/http"
)

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request, _ query) {
	writeJSON(w, r, tidyStatus(s.agent.Status(r.Context())))
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, _ query) {
	s.scrape.ServeHTTP(w, r)
}
