package balance

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
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

// RoundTrip sends req to a peer of its service. Nobody to send it to is a
// *NoPeersError; if it was sent and no answer came, the error is a *TriedError.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	host := ""
	if req.URL != nil {
		host = strings.ToLower(req.URL.Hostname())
	}
	w := t.Services[host]
	if host == "" {
		w = nil // for Base to refuse
	}
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

// ownTransport is what does the requests to a service by default.
func ownTransport(service string) *http.Transport {
	return &http.Transport{
		// No Proxy: peers are near, and HTTP_PROXY is not meant for them.
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{ServerName: service, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   5 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
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
