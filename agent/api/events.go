package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	// maxEventLine bounds one line of the stream, in bytes.
	maxEventLine = 1 << 20
	// eventSilence is how long a stream may be without a byte before it counts
	// as broken. The agent sends a comment every 15 s.
	eventSilence = 45 * time.Second
)

// Events follows the agent's feed over one connection: every event newer than
// since, then each as it happens. Zero means everything that the agent still
// has. An event of type "reset" says that some were lost, and that the caller
// should read what it follows anew.
//
// The sequence ends without an error when the agent ends the stream, as it does
// when it stops, and with one error otherwise. Going on with the last Seq seen
// is the caller's choice; Follow does it for ever.
func (c *Client) Events(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		sctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silence := time.AfterFunc(eventSilence, func() { cancel(errSilent) })
		defer silence.Stop()

		q := url.Values{"since": {strconv.FormatUint(since, 10)}}
		resp, err := c.send(sctx, http.MethodGet, "/v1/events", q, nil, "text/event-stream")
		if err != nil {
			yield(Event{}, c.explain(ctx, sctx, err))
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxEventLine))
			yield(Event{}, c.refused(resp, raw))
			return
		}
		if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt != "text/event-stream" {
			yield(Event{}, c.foreign(fmt.Sprintf("it answers %s instead of an event stream", mt)))
			return
		}
		for e, err := range decodeEvents(resp.Body, func() { silence.Reset(eventSilence) }) {
			if err != nil {
				yield(Event{}, c.explain(ctx, sctx, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Event{}, context.Cause(ctx))
		}
	}
}

var errSilent = fmt.Errorf("event stream silent for %v: %w", eventSilence, os.ErrDeadlineExceeded)

// decodeEvents reads server-sent events; alive is called for every line. It
// ends without an error at a clean end of r.
func decodeEvents(r io.Reader, alive func()) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEventLine)
		var data []byte
		for lines.Scan() {
			alive()
			line := lines.Bytes()
			if len(line) > 0 {
				field, value, _ := bytes.Cut(line, []byte(":"))
				if string(field) == "data" {
					data = append(append(data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
				}
				if len(data) > maxEventLine {
					yield(Event{}, &foreignError{"an event of more than 1 MiB"})
					return
				}
				continue
			}
			if len(data) == 0 {
				continue
			}
			var e Event
			if err := json.Unmarshal(data, &e); err != nil {
				yield(Event{}, &foreignError{"an event that is no JSON: " + err.Error()})
				return
			}
			data = data[:0]
			if !yield(e, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Event{}, err)
		}
	}
}

const (
	followMin = 250 * time.Millisecond
	followMax = 10 * time.Second
)

// Follow is Events for ever: whenever the stream breaks or ends it dials again
// with the last Seq it has seen, at first at once, then ever more slowly up to
// every 10 s. Between two connections it yields the error of the first, once,
// so that the caller can say so; it ends when the caller stops ranging, when
// ctx is done, or when the agent refuses for good (a *Problem below 500).
func (c *Client) Follow(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		pause, told := followMin, false
		for {
			for e, err := range c.Events(ctx, since) {
				if err == nil {
					since, pause, told = e.Seq, followMin, false
					if !yield(e, nil) {
						return
					}
					continue
				}
				var p *Problem
				if ctx.Err() != nil || errors.As(err, &p) && p.Status < 500 {
					yield(Event{}, err)
					return
				}
				if !told && !yield(Event{}, err) {
					return
				}
				told = true
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				yield(Event{}, context.Cause(ctx))
				return
			}
			pause = min(2*pause, followMax)
		}
	}
}
