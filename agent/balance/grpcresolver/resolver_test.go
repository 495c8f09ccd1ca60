package grpcresolver_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/agent/balance/grpcresolver"
)

const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// host is an agent with a gRPC server beside it.
type host struct {
	t      testing.TB
	cfg    agent.Config
	agent  *agent.Agent
	server *grpc.Server
	at     string // of the server
}

// newHost starts an agent, joined to seeds, and if serves a gRPC server that it
// announces as web.
func newHost(t testing.TB, name string, serves bool, seeds ...*host) *host {
	t.Helper()
	h := &host{t: t, cfg: agent.DefaultConfig()}
	h.cfg.Name, h.cfg.Bind, h.cfg.HTTP.Addr = name, "127.0.0.1:0", "127.0.0.1:0"
	h.cfg.HTTP.Socket = filepath.Join(t.TempDir(), "peer.sock")
	for _, s := range seeds {
		h.cfg.Join = append(h.cfg.Join, s.agent.GossipAddr())
	}
	h.startAgent()
	t.Cleanup(func() { _ = h.agent.Stop(context.Background()) })
	if serves {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.at = l.Addr().String()
		h.server = grpc.NewServer()
		healthpb.RegisterHealthServer(h.server, health.NewServer())
		go func() { _ = h.server.Serve(l) }()
		t.Cleanup(h.server.Stop)
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		if err := h.client().Register(t.Context(), "web", api.Registration{Port: port, Tags: []string{"v-" + name}}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) startAgent() {
	h.t.Helper()
	a, err := agent.Start(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.agent = a
}

func (h *host) client() *api.Client {
	h.t.Helper()
	c, err := api.NewClient(h.cfg.HTTP.Socket)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// drain takes the server out of rotation, or puts it back.
func (h *host) drain(draining bool) {
	h.t.Helper()
	if err := h.client().Drain(h.t.Context(), "web", draining); err != nil {
		h.t.Fatal(err)
	}
}

// dial returns a connection to web by the agent of h.
func dial(t testing.TB, h *host, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target,
		grpc.WithResolvers(grpcresolver.New(balance.Config{Agent: h.cfg.HTTP.Socket, Settle: 20 * time.Second})),
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask does one RPC and returns the address of the server that answered.
func ask(ctx context.Context, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var from peer.Peer
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, append(opts, grpc.Peer(&from))...)
	if err != nil {
		return "", err
	}
	return from.Addr.String(), nil
}

// eventually waits; the deadline is only for what is broken.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, err)
}

// answers waits until exactly these hosts answer, each as often as any other.
func answers(t testing.TB, conn *grpc.ClientConn, want ...*host) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d servers answer in turn", len(want)), func() error {
		got := map[string]int{}
		for range 4 * len(want) {
			at, err := ask(t.Context(), conn)
			if err != nil {
				return err
			}
			got[at]++
		}
		for _, h := range want {
			if got[h.at] != 4 {
				return fmt.Errorf("%v", got)
			}
		}
		return nil
	})
}

// Servers come and go under the stock balancer, all of them too, and come back.
func TestServersComeAndGo(t *testing.T) {
	a := newHost(t, "a", false)
	b, c := newHost(t, "b", true, a), newHost(t, "c", true, a)
	conn := dial(t, a, "peer:///web")
	answers(t, conn, b, c)

	b.drain(true)
	answers(t, conn, c)
	b.drain(false)
	answers(t, conn, b, c)

	// The server ends as a deploy ends it: it is drained first, and no RPC fails.
	c.drain(true)
	answers(t, conn, b)
	c.server.GracefulStop()
	answers(t, conn, b)

	// Nobody: who does not wait is told, and who does is served when somebody is
	// back.
	b.drain(true)
	eventually(t, "nobody answers", func() error {
		if at, err := ask(t.Context(), conn); status.Code(err) != codes.Unavailable {
			return fmt.Errorf("%s answers: %v", at, err)
		}
		return nil
	})
	type result struct {
		at   string
		err  error
		took time.Time
	}
	waiting := make(chan result, 1)
	go func() {
		at, err := ask(context.Background(), conn, grpc.WaitForReady(true))
		waiting <- result{at, err, time.Now()}
	}()
	select {
	case r := <-waiting:
		t.Fatalf("did not wait: %s, %v", r.at, r.err)
	case <-time.After(300 * time.Millisecond):
	}
	b.drain(false)
	back := time.Now()
	r := <-waiting
	if r.err != nil || r.at != b.at {
		t.Errorf("who waited: %s, %v", r.at, r.err)
	}
	t.Logf("who waited was served %v after somebody was back", r.took.Sub(back))
	answers(t, conn, b)
}

// While the agent restarts RPCs go on as before, and after it changes are seen
// again.
func TestAgentRestarts(t *testing.T) {
	a := newHost(t, "a", false)
	b, c := newHost(t, "b", true, a), newHost(t, "c", true, a)
	a.cfg.Join = []string{b.agent.GossipAddr()}
	conn := dial(t, a, "peer:///web")
	answers(t, conn, b, c)
	for name, end := range map[string]func(){
		"killed":  func() { a.agent.Kill() },
		"stopped": func() { _ = a.agent.Stop(context.Background()) },
	} {
		end()
		for range 20 {
			if _, err := ask(t.Context(), conn); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			time.Sleep(10 * time.Millisecond) // some of them while the watch tries
		}
		a.startAgent()
		for range 50 {
			if _, err := ask(t.Context(), conn); err != nil {
				t.Fatalf("after it was %s: %v", name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		answers(t, conn, b, c)
		c.drain(true)
		answers(t, conn, b)
		c.drain(false)
		answers(t, conn, b, c)
	}
}

// Without an agent RPCs fail and say why, and wait for it if they may.
func TestNoAgent(t *testing.T) {
	b := newHost(t, "b", true)
	a := newHost(t, "a", false, b)
	a.agent.Kill()
	conn := dial(t, a, "peer:///web")
	if _, err := ask(t.Context(), conn); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no agent answers") {
		t.Errorf("got %v", err)
	}
	a.startAgent()
	if at, err := ask(t.Context(), conn, grpc.WaitForReady(true)); err != nil || at != b.at {
		t.Errorf("got %s, %v", at, err)
	}
}

// What a target may say.
func TestTargets(t *testing.T) {
	a := newHost(t, "a", true)
	b := newHost(t, "b", true, a)
	eventually(t, "b sees both", func() error {
		if g, err := b.client().Service(t.Context(), "web", api.ServicesQuery{}); err != nil || g.Eligible != 2 {
			return fmt.Errorf("%d, %v", g.Eligible, err)
		}
		return nil
	})
	for target, want := range map[string][]*host{
		"peer:///web":                             {a, b},
		"peer:web":                                {a, b},
		"peer://" + b.agent.HTTPAddr() + "/web":   {a, b},
		"peer:///web?tag=v-b":                     {b},
		"peer:///web?tag=v-b&member=zone:nowhere": nil,
		"peer:///wbe":                             nil,
	} {
		conn := dial(t, b, target)
		if want == nil {
			if _, err := ask(t.Context(), conn); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", target, err)
			}
			continue
		}
		answers(t, conn, want...)
	}
	for target, want := range map[string]string{
		"peer:///":                 "want peer:///SERVICE",
		"peer:///web/v1":           "want peer:///SERVICE",
		"peer:///web?tga=x":        `unknown parameter "tga"`,
		"peer:///web?member=x":     "want member=KEY:VALUE",
		"peer://u:p@127.0.0.1/web": "it carries a user",
		"peer://127.0.0.1:0/web":   "parse agent address",
	} {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			conn.Connect()
			_, err = ask(t.Context(), conn)
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", target, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "u:p@") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
	if resolver.Get(grpcresolver.Scheme) == nil {
		t.Error("the scheme is not registered")
	}
}
