package httpapi

import (
	_ "embed"
	"net/http"
	"strconv"
)

// openAPI describes the routes for programs; a test holds it against the list.
//
//go:embed openapi.json
var openAPI []byte

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request, _ query) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(openAPI)))
	_, _ = w.Write(openAPI) // a client that has gone wants no answer
}
