//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/testcluster"
)

// A backend is a web server whose health a test sets. It answers with its name,
// well or not: only where traffic goes is looked at.
type backend struct {
	name string
	port uint16
	sick atomic.Bool
}

func startBackend(t testing.TB, name string) *backend {
	t.Helper()
	b := &backend{name: name}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz" && b.sick.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/metrics":
			fmt.Fprintln(w, "backend_up 1")
		default:
			fmt.Fprint(w, name)
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	b.port = uint16(port)
	return b
}

// runsWeb has an agent announce b as the service web, and check it often.
func (b *backend) runsWeb(c *agent.Config) {
	c.Services = []agent.ServiceConfig{{
		Name: "web", Port: b.port,
		Check: agent.CheckConfig{HTTP: fmt.Sprintf("http://127.0.0.1:%d/healthz", b.port), Interval: time.Second, Rise: 1, Fall: 1},
	}}
}

// twoBackends are web beside the agents a and b; edit is for a.
func twoBackends(t testing.TB, edit func(*agent.Config)) (at *agent.Agent, a, b *backend) {
	t.Helper()
	a, b = startBackend(t, "a"), startBackend(t, "b")
	at = startAgent(t, "a", func(c *agent.Config) { a.runsWeb(c); edit(c) })
	startAgent(t, "b", func(c *agent.Config) { c.Join = []string{at.GossipAddr()}; b.runsWeb(c) })
	return at, a, b
}

// tool finds a program of another project, or skips.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			testcluster.Unavailable(t, name, "no "+name+" on this machine: its example is not run")
		}
	}
	return path
}

// example copies an example's file into dir, with other values: each of them must
// be in it.
func example(t testing.TB, dir, path string, values ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("examples", path))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	for i := 0; i < len(values); i += 2 {
		if !strings.Contains(s, values[i]) {
			t.Fatalf("%s: no %s", path, values[i])
		}
		s = strings.ReplaceAll(s, values[i], values[i+1])
	}
	fi, err := os.Stat(filepath.Join("examples", path))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(to, []byte(s), fi.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	return to
}

// startTool runs a program until the test ends.
func startTool(t testing.TB, path string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(path, args...), t: t, ended: make(chan struct{})}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() {
		log.Close()
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s says\n%s", filepath.Base(path), b)
		}
	})
	p.start()
	t.Cleanup(func() { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }) // its workers too
	return p
}

// reached returns which backends answer at addr, in so many requests in a row that
// none is left out by chance; an error is one too.
func reached(addr string) []string {
	var out []string
	for range 20 {
		name := "nobody"
		if res, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + addr + "/"); err == nil {
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if name = string(b); res.StatusCode != http.StatusOK {
				name = res.Status
			}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// follows looks where the traffic at addr goes while b is sick and well again.
func follows(t *testing.T, addr string, b *backend) {
	t.Helper()
	goes := func(want ...string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if got = reached(addr); slices.Equal(got, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the traffic goes to %q, want %q", got, want)
			}
		}
	}
	goes("a", "b")
	b.sick.Store(true)
	goes("a")
	b.sick.Store(false)
	goes("a", "b")
}

func TestExampleHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := tool(t, "haproxy")
	at, _, b := twoBackends(t, func(c *agent.Config) { c.DNS.Addr = "127.0.0.1:0" })
	addr := freeAddr()
	cfg := example(t, t.TempDir(), "haproxy/haproxy.cfg", "127.0.0.1:8600", at.DNSAddr(), "127.0.0.1:8000", addr)
	startTool(t, haproxy, "-db", "-f", cfg)
	follows(t, addr, b)
}

func TestExampleNginx(t *testing.T) {
	t.Parallel()
	nginx := tool(t, "nginx")
	tool(t, "jq")
	r := testcluster.StartAnyRedis(t)
	at, _, b := twoBackends(t, func(*agent.Config) {})
	dir, err := os.MkdirTemp("", "peer-nginx-") // its workers, of another user, must get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := freeAddr()
	conf := example(t, dir, "nginx/nginx.conf", "127.0.0.1:8000", addr, "auto", "1")
	script := example(t, dir, "nginx/reload-nginx")
	upstreams := filepath.Join(dir, "web.conf")
	w := peerWatch(t, at, r, "--lock", "nginx-reload", "web", "--", script, upstreams)
	w.Env = append(w.Env, fmt.Sprintf("NGINX=%s -p %s -c %s", nginx, dir, conf))
	w.start()
	eventually(t, "the upstreams are written", func() bool { _, err := os.Stat(upstreams); return err == nil })
	startTool(t, nginx, "-p", dir, "-c", conf, "-g", "daemon off;")
	follows(t, addr, b)
}

// The unit's command line is one that peer understands.
func TestExampleUnit(t *testing.T) {
	unit, err := os.ReadFile("examples/nginx/peer-watch-web.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/peer (.*) web -- /\S+/reload-nginx \S+$`).FindSubmatch(unit)
	if start == nil {
		t.Fatal("no ExecStart")
	}
	p := startTool(t, "peer", append(strings.Fields(strings.Replace(string(start[1]), "/etc/peer/peer.yaml", emptyFile(t), 1)), "--addr", freeAddr(), "--redis", "redis://"+freeAddr(), "web", "--", "true")...)
	if code := p.code(); code != exitUnavailable {
		t.Errorf("without an agent it ends with %d", code)
	}
}

// targets returns what Prometheus at addr scrapes with success, as JOB NODE HEALTH.
func targets(t testing.TB, addr string) []string {
	t.Helper()
	var doc struct {
		Data struct {
			ActiveTargets []struct {
				Labels    map[string]string
				ScrapeURL string
				Health    string
			}
		}
	}
	res, err := http.Get("http://" + addr + "/api/v1/targets?state=active")
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		return nil
	}
	var out []string
	for _, x := range doc.Data.ActiveTargets {
		if x.Health == "up" && x.Labels["service"] == "web" {
			out = append(out, strings.TrimSpace(x.Labels["job"]+" "+x.Labels["node"]+" "+x.Labels["health"]))
		}
	}
	slices.Sort(out)
	return out
}

// scrapes waits until Prometheus at addr scrapes these.
func scrapes(t *testing.T, addr string, want ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if got = targets(t, addr); slices.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it scrapes %q, want %q", got, want)
		}
	}
}

func startPrometheus(t *testing.T, cfg string) (addr string) {
	t.Helper()
	addr = freeAddr()
	startTool(t, tool(t, "prometheus"), "--config.file="+cfg, "--storage.tsdb.path="+filepath.Join(t.TempDir(), "data"), "--web.listen-address="+addr)
	return addr
}

func TestExamplePrometheus(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus")
	at, _, b := twoBackends(t, func(*agent.Config) {})
	addr := startPrometheus(t, example(t, t.TempDir(), "prometheus/prometheus.yml", "127.0.0.1:7980", at.HTTPAddr(), "15s", "1s"))
	scrapes(t, addr, "peer a passing", "peer b passing")
	b.sick.Store(true)
	scrapes(t, addr, "peer a passing", "peer b critical")
	b.sick.Store(false)
	scrapes(t, addr, "peer a passing", "peer b passing")
}

func TestExamplePrometheusAsFromConsul(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	at, _, b := twoBackends(t, func(c *agent.Config) { c.Consul.Addr = "127.0.0.1:0" })
	cfg := example(t, t.TempDir(), "prometheus/consul.yml", "127.0.0.1:8500", at.ConsulAddr(), "15s", "1s")
	if out, err := exec.Command(promtool, "check", "config", cfg).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "field consul_sd_configs not found") {
			testcluster.Unavailable(t, "consul_sd", "this Prometheus was built without consul_sd_configs: that example is not run")
		}
		t.Fatalf("%v: %s", err, out)
	}
	addr := startPrometheus(t, cfg)
	scrapes(t, addr, "consul a", "consul b")
	b.sick.Store(true)
	scrapes(t, addr, "consul a")
	b.sick.Store(false)
	scrapes(t, addr, "consul a", "consul b")
}
