package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/selector"
)

// A call is one request on its way through the peers.
type call struct {
	t    *Transport
	w    *Watch
	req  *http.Request
	base http.RoundTripper
	body *rewinder

	tried []Try
}

// do sends the request until it has an answer, or nobody is left.
func (c *call) do() (*http.Response, error) {
	turn, err := c.first()
	if err != nil {
		return nil, err
	}
	for {
		resp, try := c.try(turn)
		c.tried = append(c.tried, try)
		if try.Err == nil && !try.failed {
			return resp, nil
		}
		next, ok := c.next(try)
		if !ok {
			if resp != nil {
				return resp, nil
			}
			return nil, &TriedError{Service: c.w.cfg.Service, Tries: c.tried}
		}
		if resp != nil {
			resp.Body.Close() // not drained: that may take for ever
		}
		turn = next
	}
}

// idempotent says whether req may be done twice, by net/http's own rule and with
// PUT and DELETE.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}

// dialling says whether err came before anything was sent: nobody was reached.
func dialling(err error) bool {
	var oe *net.OpError
	return errors.As(err, &oe) && oe.Op == "dial"
}

// firstWait is how long a request waits for the agent's first answer.
const firstWait = 5 * time.Second

// errWaited ends a request's wait for a peer.
var errWaited = errors.New("nobody came in time")

// first takes a turn, and waits for somebody if it may.
func (c *call) first() (selector.Turn[*Peer], error) {
	ctx := c.req.Context()
	if ctx.Err() != nil {
		return selector.Turn[*Peer]{}, context.Cause(ctx)
	}
	want := c.want()
	turn, err := c.w.Take(want)
	fresh := c.w.view.Load().Changed.IsZero()
	if err == nil || c.t.Wait <= 0 && !fresh {
		return turn, err
	}
	wait := c.t.Wait
	if fresh {
		wait = max(wait, firstWait)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errWaited)
	defer cancel()
	if c.t.Wait <= 0 {
		if err := c.w.Ready(ctx); err != nil {
			return turn, err
		}
		return c.w.Take(want)
	}
	for {
		if _, err := c.w.NextWait(ctx); err != nil {
			return turn, err
		}
		if turn, err = c.w.Take(want); err == nil {
			return turn, nil
		}
	}
}

// want asks for a peer that has not been tried.
func (c *call) want() selector.Want {
	var w selector.Want
	if c.t.Key != nil {
		w.Key = c.t.Key(c.req)
	}
	for _, t := range c.tried {
		w.Exclude = append(w.Exclude, t.Peer.Name)
	}
	return w
}

// next takes a turn of another peer, if the request may be sent again after try.
func (c *call) next(try Try) (selector.Turn[*Peer], bool) {
	var none selector.Turn[*Peer]
	switch {
	case len(c.tried) >= c.t.attempts(), c.req.Context().Err() != nil, try.ours:
		return none, false
	case !try.unsent && !idempotent(c.req):
		return none, false
	}
	turn, err := c.w.Take(c.want())
	if err != nil {
		return none, false
	}
	if !c.body.again() {
		turn.Cancel()
		return none, false
	}
	return turn, true
}

// try sends the request to one peer and reports what comes of it. Of an answer
// that counts as failure both are returned.
func (c *call) try(turn selector.Turn[*Peer]) (*http.Response, Try) {
	try := Try{Peer: turn.Peer}
	body, err := c.body.next()
	if err != nil {
		turn.Cancel()
		try.Err, try.ours = fmt.Errorf("rewind the request's body: %w", err), true
		return nil, try
	}
	ctx, cancel := context.WithCancelCause(c.req.Context())
	var way way
	out := c.req.Clone(httptrace.WithClientTrace(ctx, way.trace()))
	out.URL.Host = turn.Peer.HostPort()
	if out.Host == "" {
		out.Host = c.req.URL.Host
	}
	out.Body = body
	stop := func() bool { return true }
	if d := c.t.TryTimeout; d > 0 {
		stop = time.AfterFunc(d, func() { cancel(errTryTimeout) }).Stop
	}
	began := time.Now()
	resp, err := c.base.RoundTrip(out)
	try.Took = time.Since(began)
	if !stop() && context.Cause(ctx) == errTryTimeout {
		if err == nil {
			resp.Body.Close()
		}
		resp, err = nil, errTryTimeout
	}
	if err != nil {
		cancel(nil)
		_, plain := c.base.(*http.Transport)
		try.Err = err
		try.ours = c.body.failed() || plain && !way.asked.Load()
		try.unsent = dialling(err) || plain && !way.got.Load()
		c.blame(turn, try)
		return nil, try
	}
	try.Status = resp.StatusCode
	if try.failed = c.t.failure(resp.StatusCode); try.failed {
		turn.Done(fmt.Errorf("%s answers %s", turn.Peer.HostPort(), resp.Status), 0)
		resp.Body = wrapBody(resp, func(error) { cancel(nil) })
	} else {
		resp.Body = wrapBody(resp, func(err error) {
			c.finish(turn, err, try.Took)
			cancel(nil)
		})
	}
	// What is relative in the answer, such as its Location, is so to what the
	// caller asked for.
	resp.Request = c.req
	return resp, try
}

// finish ends the turn of a try whose answer has been read, or has broken off.
func (c *call) finish(turn selector.Turn[*Peer], err error, took time.Duration) {
	if err != nil && c.req.Context().Err() != nil {
		turn.Cancel()
		return
	}
	turn.Done(err, took)
}

// blame ends the turn of a try that failed without an answer.
func (c *call) blame(turn selector.Turn[*Peer], try Try) {
	ended := c.req.Context().Err()
	if try.ours || ended != nil && (!errors.Is(ended, context.DeadlineExceeded) || len(c.tried) > 0) {
		turn.Cancel()
		return
	}
	turn.Done(try.Err, 0)
}

// way is how far a request came in net/http's own transport.
type way struct{ asked, got atomic.Bool }

func (w *way) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.got.Store(true) },
	}
}
