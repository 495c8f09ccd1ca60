package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/web"
)

const (
	// pageEvents is how many events the page shows.
	pageEvents = 60
	// pageTimeout bounds what the page waits for the shared Redis: a page that
	// says it is down is worth more than one that waits for it.
	pageTimeout = 1500 * time.Millisecond
)

func (s *Server) servePage(w http.ResponseWriter, r *http.Request, _ query) {
	var b bytes.Buffer
	if err := s.pages.Render(&b, s.view(r.Context())); err != nil {
		panic(err) // the template is embedded and renders every view
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes()) // a browser that has gone wants no page
}

func (s *Server) servePageData(w http.ResponseWriter, r *http.Request, _ query) {
	writeJSON(w, r, s.view(r.Context()))
}

func (s *Server) view(ctx context.Context) web.View {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	snap := web.Snapshot{Status: s.agent.Status(ctx), Members: s.agent.Members()}
	if snap.Status.Locks.Backend.Kind != "none" {
		snap.Locks, snap.LocksProblem, snap.LocksAge = s.lookAtLocks(ctx, snap.Status.Events.Seq)
	} else {
		snap.LocksProblem = api.NewProblem(http.StatusServiceUnavailable, api.KindNoRedis, "",
			"set redis.url in the configuration, or start with --redis redis://HOST:6379")
	}
	snap.Events = s.recent(ctx, snap.Status.Events.Seq)
	return web.NewView(snap)
}

// recent returns the last events before and with seq.
func (s *Server) recent(ctx context.Context, seq uint64) []api.Event {
	if seq == 0 {
		return nil // asking would wait for the first
	}
	es, err := s.agent.Events(ctx, seq-min(seq, pageEvents))
	if err != nil {
		return nil
	}
	if len(es) > 0 && es[0].Type == "reset" {
		es = es[1:] // the page does not care for what came before
	}
	return es[max(0, len(es)-pageEvents):]
}

func (s *Server) serveAsset(w http.ResponseWriter, r *http.Request, _ query) {
	a, ok := s.pages.Asset(r.PathValue("file"))
	if !ok {
		writeProblem(w, r, api.NewProblem(http.StatusNotFound, api.KindNotFound,
			fmt.Sprintf("there is no %s", quotePath(r.URL)), "reload the page: its assets change with the agent's version"))
		return
	}
	w.Header().Set("Content-Type", a.Type)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.Body) // as above
}
