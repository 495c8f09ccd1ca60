package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

const (
	keepAlive  = 15 * time.Second // between two writes to a quiet stream
	retryAfter = 2 * time.Second  // that a browser waits before it dials again
	batch      = 64               // events in one write
)

// serveEvents follows the feed until the client goes or the agent stops:
// server-sent events, or a JSON value a line for who accepts x-ndjson.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request, q query) {
	since, p := s.startOf(r, q)
	if p != nil {
		writeProblem(w, r, p)
		return
	}
	if !s.streams.take() {
		writeProblem(w, r, api.NewProblem(http.StatusServiceUnavailable, api.KindTooManyStreams,
			fmt.Sprintf("%d event streams are open already", cap(s.streams)), "close one, or read /v1/members with index and wait"))
		return
	}
	defer s.streams.give()

	st := &stream{w: w, rc: http.NewResponseController(w), lines: wantsLines(r)}
	w.Header().Set("Vary", "Accept")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold events back
	if st.lines {
		w.Header().Set("Content-Type", "application/x-ndjson")
	} else {
		w.Header().Set("Content-Type", "text/event-stream")
		st.comment("follows " + r.URL.Path)
		fmt.Fprintf(&st.buf, "retry: %d\n\n", retryAfter.Milliseconds())
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	ctx, done := s.untilStop(r.Context())
	defer done()
	if err := st.follow(ctx, s.agent, since); !errors.Is(err, context.Canceled) {
		s.log.Debug("event stream broke", "err", err)
	}
}

// start says where a stream begins: a client that comes back has said so in
// Last-Event-ID, which is newer than the address it was first given. Without
// either it begins now.
type start struct {
	since uint64
	reset bool // since is from the future: of an earlier start of this agent
}

func (s *Server) startOf(r *http.Request, q query) (start, *api.Problem) {
	now := s.agent.Status(r.Context()).Events.Seq
	since, given, p := q.number("since")
	if p != nil {
		return start{}, p
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil {
			return start{}, badRequest("send the id of an event", "Last-Event-ID %q is no event's id", id)
		}
		since, given = n, true
	}
	switch {
	case !given:
		return start{since: now}, nil
	case since > now:
		return start{since: now, reset: true}, nil
	}
	return start{since: since}, nil
}

// wantsLines says whether a request prefers lines of JSON. Browsers and curl
// get server-sent events.
func wantsLines(r *http.Request) bool {
	for a := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		switch mt, _, _ := mime.ParseMediaType(a); mt {
		case "application/x-ndjson", "application/jsonl", "application/x-jsonlines":
			return true
		case "text/event-stream":
			return false
		}
	}
	return false
}

// A stream writes events to one client. It belongs to one goroutine.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	lines bool
	buf   bytes.Buffer
}

// follow writes until ctx is done or the client does not take it any more.
func (st *stream) follow(ctx context.Context, a Agent, from start) error {
	since := from.since
	if from.reset {
		st.event(api.Event{Seq: since, Type: "reset", At: time.Now().UTC(), Text: "the feed began anew: read again what you follow"})
	}
	for {
		// Also when there is nothing to say yet: the client waits for the header.
		if err := st.flush(); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, keepAlive)
		events, err := a.Events(wait, since)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if !st.lines {
				st.comment("still here")
			}
			continue
		case err != nil:
			return err
		}
		for i, e := range events {
			since = max(since, e.Seq)
			st.event(e)
			if (i+1)%batch == 0 {
				if err := st.flush(); err != nil {
					return err
				}
			}
		}
	}
}

// flush writes what has been gathered. A client that does not take it in time
// is cut off: the deadline is for this write alone.
func (st *stream) flush() error {
	if err := st.rc.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
		return fmt.Errorf("set deadline of event stream: %w", err)
	}
	if _, err := st.w.Write(st.buf.Bytes()); err != nil {
		return fmt.Errorf("write event stream: %w", err)
	}
	st.buf.Reset()
	if err := st.rc.Flush(); err != nil {
		return fmt.Errorf("write event stream: %w", err)
	}
	return nil
}

func (st *stream) comment(text string) { fmt.Fprintf(&st.buf, ": %s\n\n", text) }

func (st *stream) event(e api.Event) {
	raw, err := json.Marshal(e) // one line: newlines in strings are escaped
	if err != nil {
		panic(fmt.Errorf("encode event: %w", err))
	}
	if st.lines {
		st.buf.Write(append(raw, '\n'))
		return
	}
	fmt.Fprintf(&st.buf, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, oneLine(e.Type), raw)
}
