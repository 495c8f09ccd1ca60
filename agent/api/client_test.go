package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

func TestAddresses(t *testing.T) {
	tests := []struct{ addr, shown string }{
		{"", "127.0.0.1:7980"},
		{"127.0.0.1:7980", "127.0.0.1:7980"},
		{"host", "host:7980"},
		{":9000", "127.0.0.1:9000"},
		{"[::1]:9000", "[::1]:9000"},
		{"::1", "[::1]:7980"},
		{"[fe80::1]", "[fe80::1]:7980"},
		{" host:80 ", "host:80"},
		{"http://host", "http://host"},
		{"https://host:8443/peer/", "https://host:8443/peer"},
		{"unix:///run/peer/peer.sock", "unix:///run/peer/peer.sock"},
		{"unix:/run/peer.sock", "unix:///run/peer.sock"},
		{"/run/peer.sock", "unix:///run/peer.sock"},
	}
	for _, tt := range tests {
		c, err := api.NewClient(tt.addr)
		if err != nil {
			t.Errorf("%q: %v", tt.addr, err)
			continue
		}
		if c.Addr() != tt.shown {
			t.Errorf("%q: got %q, want %q", tt.addr, c.Addr(), tt.shown)
		}
	}
	for _, bad := range []string{
		"host:port", "host:0", "host:70000", "a:b:c", "ftp://host", "http://", "http://h:x", "unix://rel/path",
		"unix:", "host/path", "http://h/?q=1", "http://user:s3cret@h", "http://user:s3cret@h:x", "host:80:90",
	} {
		_, err := api.NewClient(bad)
		if err == nil {
			t.Errorf("%q: no error", bad)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error repeats the password: %v", bad, err)
		}
	}
}

// served returns a client of a server that answers with h.
func served(t *testing.T, h http.HandlerFunc, opts ...api.Option) *api.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := api.NewClient(s.URL, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRequests(t *testing.T) {
	var got *http.Request
	var body string
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, body = r, string(raw)
		io.WriteString(w, `{"joined":["x"],"index":7,"name":"n","fence":18446744073709551615}`)
	}, api.WithToken("tok"))
	ctx := t.Context()
	tests := []struct {
		do   func() error
		want string // method, URI, body
	}{
		{func() error { _, err := c.Status(ctx); return err }, "GET /v1/status "},
		{func() error {
			_, err := c.Members(ctx, api.MembersQuery{
				States: []string{"alive", "left"}, Tags: map[string]string{"a": "b:c"},
				Service: "web", Name: "n*", Index: 5, Wait: time.Minute,
			})
			return err
		}, "GET /v1/members?index=5&name=n%2A&service=web&state=alive&state=left&tag=a%3Ab%3Ac&wait=1m0s "},
		{func() error { _, err := c.Member(ctx, "sp ace/ü"); return err }, "GET /v1/members/sp%20ace%2F%C3%BC "},
		{func() error { _, err := c.Member(ctx, ".."); return err }, "GET /v1/members/%2E%2E "},
		{func() error { _, err := c.Lock(ctx, "a/../b?c"); return err }, "GET /v1/locks/a%2F..%2Fb%3Fc "},
		{func() error {
			_, err := c.Next(ctx, api.NextQuery{Service: "web", Policy: "p", Key: "k", Exclude: []string{"a", "b"}, Count: 2})
			return err
		}, "GET /v1/next?count=2&exclude=a&exclude=b&key=k&policy=p&service=web "},
		{func() error { _, err := c.Locks(ctx); return err }, "GET /v1/locks "},
		{func() error { _, err := c.Join(ctx, []string{"h:1"}); return err }, `POST /v1/join {"addrs":["h:1"]}`},
		{func() error { return c.Leave(ctx) }, "POST /v1/leave "},
		{func() error {
			_, err := c.Raw(ctx, "DELETE", "/v1/locks/x", url.Values{"force": {"true"}}, []byte("{}"))
			return err
		}, "DELETE /v1/locks/x?force=true {}"},
	}
	for _, tt := range tests {
		if err := tt.do(); err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		if s := got.Method + " " + got.RequestURI + " " + body; s != tt.want {
			t.Errorf("got %s\nwant %s", s, tt.want)
		}
		if got.Header.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s: no token", tt.want)
		}
		if ct := got.Header.Get("Content-Type"); (got.Method != "GET") != (ct == "application/json") {
			t.Errorf("%s: content type %q", tt.want, ct)
		}
	}
}

func TestRawIsUnchanged(t *testing.T) {
	const want = "{ \"b\" : 1,\n\"a\":1.0e0}\n"
	c := served(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, want) })
	if got, err := c.Raw(t.Context(), "GET", "/v1/status", nil, nil); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestProblemsAndStrangers(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	p, _ := json.Marshal(api.NewProblem(503, api.KindNoPeers, "all 3 have failed", "start one"))
	c := served(t, answer(503, "application/problem+json", string(p)))
	_, err := c.Next(t.Context(), api.NextQuery{})
	var problem *api.Problem
	if !errors.As(err, &problem) || problem.Kind() != api.KindNoPeers || problem.Fix != "start one" {
		t.Errorf("got %v, want the problem", err)
	}
	// A service that runs nowhere can be waited for.
	p, _ = json.Marshal(api.NewProblem(404, api.KindNoService, "", ""))
	c = served(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Peer-Index", "42")
		answer(404, "application/problem+json", string(p))(w, r)
	})
	if _, err = c.Service(t.Context(), "web", api.ServicesQuery{}); !errors.As(err, &problem) || problem.Index != 42 {
		t.Errorf("got %v with index %d, want 42", err, problem.Index)
	}
	for name, h := range map[string]http.HandlerFunc{
		"a page":          answer(200, "text/html", "<html>"),
		"another's 404":   answer(404, "text/plain", "not found"),
		"another's error": answer(400, "application/problem+json", `{"type":"about:blank"}`),
		"a redirect":      answer(302, "text/html", ""),
		"half an answer":  answer(200, "application/json", `{"schema":`),
	} {
		c := served(t, h)
		_, err := c.Status(t.Context())
		var u *api.UnreachableError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), "no peer agent") || !strings.Contains(err.Error(), "PEER_HTTP_ADDR") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	res := `{"type":"urn:peer:error:join-failed","title":"no address answered","status":502,"joined":[],"errors":[{"addr":"h:1","error":"refused"}]}`
	c = served(t, answer(502, "application/problem+json", res))
	r, err := c.Join(t.Context(), []string{"h:1"})
	if !errors.As(err, &problem) || len(r.Errors) != 1 || r.Errors[0].Error != "refused" {
		t.Errorf("join: %+v, %v", r, err)
	}
}

func TestUnreachable(t *testing.T) {
	addr := "127.0.0.1:" + testcluster.FreePort()
	dir := t.TempDir()
	for target, says := range map[string]string{
		addr:                            "no agent answers at " + addr + " (connection refused); start one with `peer agent` or `peer dev`",
		filepath.Join(dir, "peer.sock"): "no such socket",
	} {
		c, err := api.NewClient(target)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context())
		var u *api.UnreachableError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "PEER_HTTP_ADDR") {
			t.Errorf("%s: got %v, want it to say %q", target, err, says)
		}
		for _, err := range c.Events(t.Context(), 0) {
			if !errors.As(err, &u) {
				t.Errorf("%s: events: %v", target, err)
			}
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peer.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"schema":"peer.status/v1","node":{"name":"`+r.Host+`"}}`)
	})}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	c, err := api.NewClient("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	st, err := c.Status(t.Context())
	if err != nil || st.Node.Name != "localhost" {
		t.Errorf("got %+v, %v", st.Node, err)
	}
}

func TestTimeouts(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		deaf := func(ctx context.Context, _, _ string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() { io.Copy(io.Discard, b); b.Close() }()
			return a, nil
		}
		c, err := api.NewClient("h:1", api.WithDialer(deaf))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		timed := func(f func() error) (time.Duration, error) {
			began := time.Now()
			err := f()
			return time.Since(began), err
		}
		var u *api.UnreachableError
		d, err := timed(func() error { _, err := c.Status(t.Context()); return err })
		if d != 10*time.Second || !errors.As(err, &u) || !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "timed out") {
			t.Errorf("status: %v after %v", err, d)
		}
		d, err = timed(func() error {
			_, err := c.Members(t.Context(), api.MembersQuery{Index: 1, Wait: time.Minute})
			return err
		})
		if d != 70*time.Second || !errors.As(err, &u) {
			t.Errorf("blocking read: %v after %v", err, d)
		}
		d, err = timed(func() error {
			for _, err := range c.Events(t.Context(), 0) {
				return err
			}
			return nil
		})
		if d != 45*time.Second || !errors.As(err, &u) {
			t.Errorf("events: %v after %v", err, d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d, err = timed(func() error { _, err := c.Status(ctx); return err })
		if d != time.Second || err != context.DeadlineExceeded {
			t.Errorf("the caller's own deadline: %v after %v", err, d)
		}
	})
}
