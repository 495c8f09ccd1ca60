package checks

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// maxHeader bounds what is read of an HTTP answer, in bytes.
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

// probeHTTP asks over a connection of its own: a check that went over a kept one
// would not see that nobody listens any more. The transport of net/http would
// write to standard error what a target says unasked.
func (c *Checker) probeHTTP(ctx context.Context, target string) (health, output string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Critical, "no URL"
	}
	req.Header.Set("User-Agent", "peer-check")
	req.Close = true
	conn, err := c.open(ctx, req.URL)
	if err != nil {
		return Critical, why(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	code, err := exchange(conn, req)
	if err != nil {
		return Critical, why(err)
	}
	output = fmt.Sprintf("answers %d %s", code, http.StatusText(code))
	switch {
	case code >= 200 && code < 300:
		return Passing, output
	case code == http.StatusTooManyRequests:
		return Warning, output
	case code >= 300 && code < 400:
		return Critical, output + "; a check follows no redirect"
	}
	return Critical, output
}

// open connects to the host of u. It uses no proxy: the service is beside this
// agent.
func (c *Checker) open(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := c.cfg.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// exchange sends req and returns the status of the answer, whose body it leaves
// where it is.
func exchange(conn net.Conn, req *http.Request) (int, error) {
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	r := bufio.NewReader(io.LimitReader(conn, maxHeader))
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp.StatusCode, nil
		}
	}
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
	case strings.Contains(err.Error(), "malformed"):
		return "what answers does not speak HTTP"
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return err.Error()
	}
	return "the connection broke before an answer"
}
