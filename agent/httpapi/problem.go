package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/peerhq/peer/agent/api"
)

// badRequest is a parameter or body that does not parse.
func badRequest(fix, format string, args ...any) *api.Problem {
	return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, fmt.Sprintf(format, args...), fix)
}

// asProblem returns the problem in err, or one of status and kind around it.
func asProblem(err error, status int, kind, fix string) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	return api.NewProblem(status, kind, err.Error(), fix)
}

func writeProblem(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	writeProblemWith(w, r, p.Status, p)
}

// writeProblemWith sends a problem document with members of its own.
func writeProblemWith(w http.ResponseWriter, r *http.Request, status int, doc any) {
	if status < 400 || status > 599 { // an agent's slip must not look like success
		status = http.StatusInternalServerError
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Cache-Control", "no-store")
	send(w, r, "application/problem+json", status, doc)
}

// writeJSON sends doc.
func writeJSON(w http.ResponseWriter, r *http.Request, doc any) {
	send(w, r, "application/json", http.StatusOK, doc)
}

func send(w http.ResponseWriter, r *http.Request, contentType string, status int, doc any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(doc); err != nil {
		panic(fmt.Errorf("encode answer to %s: %w", r.URL.Path, err)) // wire types always encode
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that has gone wants no answer
}
