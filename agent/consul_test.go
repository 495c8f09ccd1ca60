package agent_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// consulGet reads path of a's Consul-shaped endpoint.
func consulGet(t *testing.T, a *agent.Agent, path string, edit func(*http.Request)) (status int, index, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.ConsulAddr()+"/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("X-Consul-Index"), string(b)
}

// What Consul's clients read at one peer is the services of all, as they change.
func TestConsul(t *testing.T) {
	a := start(t, func(c *agent.Config) {
		c.Consul.Addr = "127.0.0.1:0"
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 80, Tags: []string{"canary"}}}
	})
	b := start(t, func(c *agent.Config) {
		c.Name, c.Join = "b", []string{a.GossipAddr()}
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 81, Addr: "10.0.0.2", Check: agent.CheckConfig{TTL: time.Hour}}}
	})
	const passing = "health/service/web?passing"
	eventually(t, "two run web", func() bool {
		_, _, body := consulGet(t, a, "catalog/service/web", nil)
		return strings.Count(body, `"ServiceID":"web"`) == 2 && strings.Contains(body, `"ServiceAddress":"10.0.0.2"`)
	})
	_, index, body := consulGet(t, a, passing, nil)
	if strings.Contains(body, `"Node":"b"`) || !strings.Contains(body, `"Node":"a","Address":"127.0.0.1"`) {
		t.Errorf("before it gave a sign of life: %s", body)
	}
	type reply struct{ index, body string }
	waiting := make(chan reply, 1)
	go func() {
		_, i, body := consulGet(t, a, passing+"&wait=1m&index="+index, nil)
		waiting <- reply{i, body}
	}()
	if err := client(t, b).Pass(t.Context(), "web", api.PassRequest{}); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-waiting:
		if r.index == index || !strings.Contains(r.body, `"Node":"b"`) {
			t.Errorf("index %s, was %s: %s", r.index, index, r.body)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a blocking read slept through it")
	}
	// A page of a foreign site that points its name here.
	if status, _, body := consulGet(t, a, "catalog/services", func(r *http.Request) { r.Host = "evil.example" }); status != http.StatusMisdirectedRequest {
		t.Errorf("a foreign host: %d %s", status, body)
	}
	// It is counted beside the endpoint.
	m, err := client(t, a).Raw(t.Context(), http.MethodGet, "/metrics", nil, nil)
	if err != nil || !strings.Contains(string(m), `peer_consul_requests_total{code="200",route="/v1/health/service/{service}"}`) {
		t.Errorf("no metrics of it: %v", err)
	}
	// It ends with the agent, and whoever waits is told nothing new: least of all
	// that this host's services are gone.
	_, index, before := consulGet(t, a, passing, nil)
	conn, err := net.Dial("tcp", a.ConsulAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/%s&wait=10m&index=%s HTTP/1.0\r\n\r\n", passing, index)
	time.Sleep(100 * time.Millisecond) // it waits by now, or comes too late: both are well
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	last, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a blocking read outlives the agent")
	}
	// What comes too late may hear that there is no leader: that is no news either.
	if len(last) > 0 && !strings.HasSuffix(string(last), before) && !strings.Contains(string(last), "No cluster leader: ") {
		t.Errorf("at the end it answers %s, before %s", last, before)
	}
	if c, err := net.Dial("tcp", a.ConsulAddr()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// Who has not joined yet does not pass its own services off as all there are.
func TestConsulBeforeTheJoin(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a seed that says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := start(t, func(c *agent.Config) {
		c.Consul.Addr, c.Join = "127.0.0.1:0", []string{l.Addr().String()}
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 80}}
	})
	if status, _, body := consulGet(t, a, "health/service/web", nil); status != 500 || !strings.HasPrefix(body, "No cluster leader: ") {
		t.Errorf("before: %d %s", status, body)
	}
	b := start(t, func(c *agent.Config) {
		c.Name = "b"
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 81}}
	})
	if _, err := client(t, a).Join(t.Context(), []string{b.GossipAddr()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it answers", func() bool {
		status, _, body := consulGet(t, a, "health/service/web", nil)
		if status == 200 && strings.Count(body, `"Service":{`) != 2 {
			t.Errorf("its first answer: %s", body)
		}
		return status == 200
	})
}

// With a token, Consul's own header may carry it.
func TestConsulToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, func(c *agent.Config) { c.Consul.Addr, c.HTTP.TokenFile = "127.0.0.1:0", file })
	for header, want := range map[string]int{"": 401, "X-Consul-Token: secret": 200, "X-Consul-Token: other": 401, "Authorization: Bearer secret": 200} {
		status, _, _ := consulGet(t, a, "catalog/services", func(r *http.Request) {
			if k, v, ok := strings.Cut(header, ": "); ok {
				r.Header.Set(k, v)
			}
		})
		if status != want {
			t.Errorf("%q: got %d, want %d", header, status, want)
		}
	}
	// Our own endpoint does not take it.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.HTTPAddr()+"/v1/status", nil)
	req.Header.Set("X-Consul-Token", "secret")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("at our own endpoint: %d", res.StatusCode)
	}
}

func TestConsulSettings(t *testing.T) {
	for want, c := range map[string]agent.ConsulConfig{
		"beyond loopback": {Addr: "0.0.0.0:8500"},
		"want HOST:PORT":  {Addr: "8500"},
	} {
		cfg := agent.DefaultConfig()
		cfg.Consul = c
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Bind, cfg.HTTP.Addr, cfg.Consul.Addr = "a", "127.0.0.1:0", "127.0.0.1:0", l.Addr().String()
	if a, err := agent.Start(cfg); err == nil || !strings.Contains(err.Error(), "consul address") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
		if a != nil {
			a.Kill()
		}
	}
}
