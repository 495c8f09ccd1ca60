package httpapi

import (
	"bytes"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

func (s *Server) serveNext(w http.ResponseWriter, r *http.Request, q query) {
	nq, p := q.next()
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	text, p := q.wantsText(r)
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	next, err := s.agent.Next(nq)
	if err != nil {
		writeProblem(w, r, asProblem(err, http.StatusInternalServerError, api.KindInternal, "see the agent's log"))
		return
	}
	// Who asks why gets an answer also when it is nobody's turn.
	if len(next.Peers) == 0 && !nq.Explain {
		writeProblem(w, r, api.NewProblem(http.StatusServiceUnavailable, api.KindNoPeers,
			"no live peer can be handed out", "see /v1/members for who is known here and why they are not live"))
		return
	}
	w.Header().Set("Vary", "Accept")
	if text {
		writeHostPorts(w, next)
		return
	}
	writeJSON(w, r, tidyNext(next))
}

// wantsText says whether the answer is to be HOST:PORT lines: ?format decides,
// and without it whichever of text/plain and JSON is accepted first.
func (q query) wantsText(r *http.Request) (bool, *api.Problem) {
	format, p := q.one("format")
	if p != nil {
		return false, p
	}
	switch format {
	case "text":
		return true, nil
	case "json":
		return false, nil
	case "":
	default:
		return false, badRequest("write format=text or format=json", "%q is no format", format)
	}
	for a := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		switch mt, _, _ := mime.ParseMediaType(a); mt {
		case "text/plain":
			return true, nil
		case "application/json", "*/*", "application/*":
			return false, nil
		}
	}
	return false, nil
}

// writeHostPorts sends one HOST:PORT a line.
func writeHostPorts(w http.ResponseWriter, next api.Next) {
	var b bytes.Buffer
	for _, p := range next.Peers {
		b.WriteString(net.JoinHostPort(p.Addr, strconv.Itoa(int(p.Port))))
		b.WriteByte('\n')
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes()) // a client that has gone wants no answer
}
