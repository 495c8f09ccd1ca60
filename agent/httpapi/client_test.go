package httpapi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/testcluster"
)

// TestClientAndServerAgree drives the endpoint through the client that Go
// programs and the command line use.
func TestClientAndServerAgree(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.locks.Locks = []api.Lock{{Name: "a/b", Fence: 3}}
		a.next = func(q httpapi.NextQuery) (api.Next, error) {
			if len(q.Exclude) == 3 {
				return api.Next{}, api.NewProblem(503, api.KindNoMatch, "all are left out", "leave out fewer")
			}
			return api.Next{Policy: q.Policy, Peers: []api.NextPeer{{Name: q.Key}}}, nil
		}
		a.join = func(context.Context, []string) api.JoinResult {
			time.Sleep(15 * time.Second) // slower than other requests may be
			return api.JoinResult{Errors: []api.JoinError{{Addr: "x:1", Error: "refused"}}}
		}
		e := start(t, a, func(c *httpapi.Config) { c.Token = []byte("a token of the agent") })
		c, err := api.NewClient("localhost:7980", api.WithToken("a token of the agent"),
			api.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return e.tcp.dial(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := t.Context()
		if s, err := c.Status(ctx); err != nil || s.Node.Name != "a" {
			t.Errorf("status: %+v, %v", s, err)
		}
		if m, err := c.Members(ctx, api.MembersQuery{Tags: map[string]string{"zone": "zb"}, States: []string{"alive"}}); err != nil || len(m.Members) != 1 || m.Members[0].Name != "b" {
			t.Errorf("members: %+v, %v", m, err)
		}
		began := time.Now()
		if m, err := c.Members(ctx, api.MembersQuery{Index: 3, Wait: time.Minute}); err != nil || m.Index != 3 || time.Since(began) != time.Minute {
			t.Errorf("blocking read: %+v, %v after %v", m, err, time.Since(began))
		}
		if m, err := c.Member(ctx, "b"); err != nil || m.Name != "b" {
			t.Errorf("member: %+v, %v", m, err)
		}
		var p *api.Problem
		if _, err := c.Member(ctx, ".."); !errors.As(err, &p) || p.Kind() != api.KindNoMember {
			t.Errorf("member ..: %v", err)
		}
		if n, err := c.Next(ctx, api.NextQuery{Policy: "by_key", Key: "k&ü", Count: 1}); err != nil || n.Policy != "by_key" || n.Peers[0].Name != "k&ü" {
			t.Errorf("next: %+v, %v", n, err)
		}
		if _, err := c.Next(ctx, api.NextQuery{Exclude: []string{"a", "b", "c"}}); !errors.As(err, &p) || p.Kind() != api.KindNoMatch || p.Fix != "leave out fewer" {
			t.Errorf("no next: %v", err)
		}
		if l, err := c.Lock(ctx, "a/b"); err != nil || l.Fence != 3 {
			t.Errorf("lock: %+v, %v", l, err)
		}
		if r, err := c.Join(ctx, []string{"x:1"}); !errors.As(err, &p) || p.Kind() != api.KindJoinFailed || len(r.Errors) != 1 {
			t.Errorf("join: %+v, %v", r, err)
		}
		if err := c.Leave(ctx); err != nil || a.left != 1 {
			t.Errorf("leave: %v, %d times", err, a.left)
		}

		for range 3 {
			a.emit("updated", "x")
		}
		time.AfterFunc(5*time.Minute, func() { a.emit("left", "y") }) // longer than the client bears silence
		var seqs []uint64
		for ev, err := range c.Events(ctx, 1) {
			if err != nil {
				t.Fatalf("events: %v", err)
			}
			if seqs = append(seqs, ev.Seq); ev.Type == "left" {
				break
			}
		}
		if len(seqs) != 3 || seqs[0] != 2 || seqs[2] != 4 {
			t.Errorf("events %v, want 2 3 4", seqs)
		}
	})
}

func TestTLS(t *testing.T) {
	other := httptest.NewTLSServer(nil) // for its certificate
	defer other.Close()
	roots := x509.NewCertPool()
	roots.AddCert(other.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpapi.Start(httpapi.Config{TCP: l, TLS: &tls.Config{Certificates: other.TLS.Certificates}}, newFakeAgent())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	c, err := api.NewClient("https://"+l.Addr().String(), api.WithTLS(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if st, err := c.Status(t.Context()); err != nil || st.Node.Name != "a" {
			t.Errorf("status: %v, %v", st.Node, err)
		}
	}
	plain, err := api.NewClient("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var u *api.UnreachableError
	if _, err := plain.Status(t.Context()); !errors.As(err, &u) {
		t.Errorf("plain text to TLS: %v", err)
	}
}
