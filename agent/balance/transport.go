package balance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/selector"
)

// Transport is an http.RoundTripper for which a host may be a service: a request
// to http://web/ goes to the peer of web whose turn it is, and when that fails,
// to another one. Requests to other hosts go to Base as they are.
//
// A request is tried again when that can do no harm. That is the case when it
// was not sent at all, because the peer could not be dialled, and else when it
// is idempotent: GET, HEAD, OPTIONS, TRACE, PUT and DELETE are, and so is
// whatever has an Idempotency-Key. A body must have a GetBody, as those of
// http.NewRequest from memory have, or not have been read from. No peer is
// tried twice for one request, nor any after the request's context has ended.
//
// What comes of each try is reported to the Watch, so that a peer that fails is
// left alone for a while: an error of the connection, a time-out, one of
// RetryStatus, a body that breaks off. That the caller gave up is not held
// against a peer, unless its deadline passed while the first was asked.
//
// The Host header is the one of the request, by default the service's name. For
// https without a Base the peers' certificates are checked for that name too; a
// Base of one's own must have it as TLSClientConfig.ServerName.
//
// Its fields must not be changed once it is used.
type Transport struct {
	// Services are the hosts that are services, by name. A port in such a URL is
	// an error: each instance has its own.
	Services map[string]*Watch

	// Base does the requests. Default: a transport of its own for each service,
	// without a proxy, and http.DefaultTransport for other hosts.
	Base http.RoundTripper
	// Attempts is how many peers one request may be sent to. Default: 3.
	Attempts int
	// TryTimeout is how long a peer may take to its answer's header before the
	// request is tried elsewhere. Default: as long as the request's context lets
	// it.
	TryTimeout time.Duration
	// RetryStatus are the answers that count as failures of the peer. The last
	// one is the caller's all the same. Default: 502, 503 and 504; an empty list
	// that is not nil: none.
	RetryStatus []int
	// Wait is how long a request waits for a peer when there is nobody. Default:
	// for the agent's first answer up to five seconds, and after it not at all.
	Wait time.Duration
	// Key is what the policy ByKey goes by. Default: no key.
	Key func(*http.Request) string

	mu  sync.Mutex
	own map[string]*http.Transport // by service; Base's default
}

// NewTransport returns a Transport for the services of watches.
func NewTransport(watches ...*Watch) *Transport {
	t := &Transport{Services: map[string]*Watch{}}
	for _, w := range watches {
		t.Services[w.cfg.Service] = w
	}
	return t
}

// firstWait is how long a request waits for the agent's first answer.
const firstWait = 5 * time.Second

// RoundTrip sends req to a peer of its service. Nobody to send it to is a
// *NoPeersError; if it was sent and no answer came, the error is a *TriedError.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := ""
	if req.URL != nil {
		host = strings.ToLower(req.URL.Hostname())
	}
	w := t.Services[host]
	if w == nil {
		base := t.Base
		if base == nil {
			base = http.DefaultTransport
		}
		return base.RoundTrip(req)
	}
	if p := req.URL.Port(); p != "" {
		closeBody(req)
		return nil, fmt.Errorf("request to %s: port %s: a service's instances have ports of their own; leave it out", req.URL.Host, p)
	}
	c := call{t: t, w: w, req: req, base: t.base(host), body: &rewinder{req: req}}
	defer c.body.done()
	return c.do()
}

// CloseIdleConnections closes the connections to peers that are not in use. An
// http.Client's method of that name calls it.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	t.mu.Lock()
	own := slices.Collect(maps.Values(t.own))
	t.mu.Unlock()
	for _, o := range own {
		o.CloseIdleConnections()
	}
}

// base returns what does the requests to a service.
func (t *Transport) base(service string) http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.own[service]; o != nil {
		return o
	}
	o := ownTransport(service)
	if t.own == nil {
		t.own = map[string]*http.Transport{}
	}
	t.own[service] = o
	return o
}

func (t *Transport) attempts() int {
	if t.Attempts > 0 {
		return t.Attempts
	}
	return 3
}

// failure says whether an answer speaks against its peer.
func (t *Transport) failure(status int) bool {
	if t.RetryStatus == nil {
		return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
	}
	return slices.Contains(t.RetryStatus, status)
}

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
