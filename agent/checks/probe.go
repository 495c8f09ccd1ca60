package checks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// maxHeader bounds what is read of a target's answer, in bytes. Of an HTTP body
// nothing is.
const maxHeader = 64 << 10

// probe asks a target once and says how it is. It returns when ctx is done at
// the latest.
func (c *Checker) probe(ctx context.Context, s Spec) (health, output string) {
	switch {
	case s.HTTP != "":
		return c.probeHTTP(ctx, s.HTTP)
	case s.TCP != "":
		return c.probeTCP(ctx, s.TCP)
	}
	return c.probeGRPC(ctx, s.GRPC)
}

func (c *Checker) probeTCP(ctx context.Context, addr string) (health, output string) {
	conn, err := c.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return Critical, why(err)
	}
	conn.Close()
	return Passing, "accepts connections"
}

func (c *Checker) probeHTTP(ctx context.Context, target string) (health, output string) {
	resp, err := c.ask(ctx, http.MethodGet, target, nil, nil)
	if err != nil {
		return Critical, why(err)
	}
	defer resp.Body.Close()
	output = fmt.Sprintf("answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return Passing, output
	case code == http.StatusTooManyRequests:
		return Warning, output
	case code >= 300 && code < 400:
		return Critical, output + "; a check follows no redirect"
	}
	return Critical, output
}

// ask does one HTTP request over a connection of its own: a check that goes
// over a kept connection would not see that nobody listens any more.
func (c *Checker) ask(ctx context.Context, method, target string, body *frame, protocols *http.Protocols) (*http.Response, error) {
	dial, hangUp := c.dialOnce(ctx)
	t := &http.Transport{
		// No Proxy: the service is beside this agent.
		DialContext:            dial,
		DisableKeepAlives:      protocols == nil,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              protocols,
	}
	req, err := newRequest(ctx, method, target, body)
	if err != nil {
		hangUp()
		return nil, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		hangUp()
		return nil, err
	}
	resp.Body = closer{resp.Body, hangUp}
	return resp, nil
}

// dialOnce returns a way to dial and one to close what was dialled, also what
// comes of a dial that is still under way: net/http keeps an HTTP/2 connection
// whose request was given up.
func (c *Checker) dialOnce(ctx context.Context) (dial func(context.Context, string, string) (net.Conn, error), hangUp func()) {
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := c.cfg.Dial(ctx, network, addr)
		if err == nil {
			context.AfterFunc(over, func() { conn.Close() })
		}
		return conn, err
	}, end
}

func newRequest(ctx context.Context, method, target string, body *frame) (*http.Request, error) {
	var req *http.Request
	var err error
	if body == nil {
		req, err = http.NewRequestWithContext(ctx, method, target, nil)
	} else {
		req, err = http.NewRequestWithContext(ctx, method, target, body.reader())
	}
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "peer-check")
	if body != nil {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	return req, nil
}

// why says in a line of ours what went wrong: what a target sends is not shown.
func why(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return "unknown host " + dns.Name
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "too large"), strings.Contains(err.Error(), "exceeded"):
		return "what answers does not speak HTTP as it should"
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return err.Error()
	}
	return "the connection broke before an answer"
}
