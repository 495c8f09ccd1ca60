package api

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Client talks to one agent. It is safe for use from any goroutine and starts
// none of its own beyond those of net/http. Every error of its methods is a
// *Problem (the agent refused), an *UnreachableError (no agent, or none that
// can be understood) or the caller's own context error.
type Client struct {
	addr    address
	http    *http.Client
	token   string
	timeout time.Duration
}

// Option changes what NewClient builds.
type Option func(*options)

type options struct {
	token   string
	timeout time.Duration
	tls     *tls.Config
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
}

// WithToken sends a bearer token with every request.
func WithToken(token string) Option { return func(o *options) { o.token = token } }

// WithTimeout bounds one request, from the dial to the last byte of the answer;
// a blocking read may take its wait on top, an event stream as long as it
// likes. The default is 10 s; zero or less means no bound.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithTLS sets the certificates of https:// addresses. The default trusts the
// system's.
func WithTLS(c *tls.Config) Option { return func(o *options) { o.tls = c } }

// WithDialer replaces the way to the agent. The network is "tcp" or "unix", the
// address HOST:PORT or the socket's path.
func WithDialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

const (
	defaultTimeout = 10 * time.Second
	dialTimeout    = 5 * time.Second
)

// NewClient returns a client for the agent at addr: "127.0.0.1:7980",
// "http://HOST:PORT", "https://HOST:PORT", "unix:///PATH" or "/PATH"; empty
// means DefaultAddr. It does not dial: an agent that is not there is an
// *UnreachableError of the first request.
func NewClient(addr string, opts ...Option) (*Client, error) {
	a, err := parseAddress(addr)
	if err != nil {
		return nil, err
	}
	o := options{timeout: defaultTimeout, dial: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	for _, opt := range opts {
		opt(&o)
	}
	dial := o.dial
	if a.socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return o.dial(ctx, "unix", a.socket)
		}
	}
	return &Client{
		addr:    a,
		token:   o.token,
		timeout: o.timeout,
		http: &http.Client{
			// A redirect would carry the token to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				// No Proxy: the agent is local, and HTTP_PROXY is not meant for it.
				DialContext:         dial,
				TLSClientConfig:     o.tls,
				TLSHandshakeTimeout: dialTimeout,
				IdleConnTimeout:     30 * time.Second,
				MaxIdleConnsPerHost: 4,
			},
		},
	}, nil
}

// Addr returns the agent's address as a person would write it.
func (c *Client) Addr() string { return c.addr.shown }

// Close closes idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }
