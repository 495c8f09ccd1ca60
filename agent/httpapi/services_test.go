package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/testcluster"
)

// calls records what was asked of the fake agent's services.
type calls struct {
	mu    sync.Mutex
	lines []string
	err   error
}

func (c *calls) add(format string, a ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, fmt.Sprintf(format, a...))
	return c.err
}

func (a *fakeAgent) Report(r api.NextReport) error {
	return a.calls.add("report %s %s %v %g", r.Name, r.Service, r.OK, r.LatencyMS)
}

func (a *fakeAgent) Register(_ context.Context, name string, r api.Registration) error {
	raw, _ := json.Marshal(r)
	return a.calls.add("register %s %s", name, raw)
}

func (a *fakeAgent) Deregister(_ context.Context, name string) error {
	return a.calls.add("deregister %s", name)
}

func (a *fakeAgent) Drain(_ context.Context, name string, draining bool) error {
	return a.calls.add("drain %s %v", name, draining)
}

func (a *fakeAgent) Pass(_ context.Context, name string, r api.PassRequest) error {
	return a.calls.add("pass %s %s %s", name, r.Health, r.Output)
}

func (a *fakeAgent) Services() api.Services {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.services
}

func (a *fakeAgent) ServicesChanged(ctx context.Context, name string, index uint64) error {
	return a.await(ctx, func() bool {
		now := a.services.Index
		for _, g := range a.services.Services {
			if g.Name == name {
				now = g.Index
			}
		}
		return now != index
	})
}

// twoServices runs web on b and c, of which c is critical, and db on b.
func twoServices() api.Services {
	instance := func(node, addr string, port uint16, health string, tags ...string) api.ServiceInstance {
		return api.ServiceInstance{
			Node: node, Addr: addr, Port: port, Health: health, Tags: tags, Weight: 1, State: "alive", Eligible: health == "passing",
			NodeTags: map[string]string{"zone": "z1", "rack.id": "7"},
		}
	}
	return api.Services{Schema: api.SchemaServices, SeenBy: "a", Index: 9, Services: []api.ServiceGroup{
		{Name: "db", Index: 4, Eligible: 1, Instances: []api.ServiceInstance{instance("b", "10.0.0.2", 5432, "passing")}},
		{Name: "web", Index: 9, Eligible: 1, Tags: []string{"canary"}, Instances: []api.ServiceInstance{
			instance("b", "10.0.0.2", 8080, "passing", "canary"), instance("c", "fd00::3", 8080, "critical"),
		}},
	}}
}

func TestServices(t *testing.T) {
	a := newFakeAgent()
	a.services = twoServices()
	e := start(t, a)
	for target, want := range map[string]string{
		"/v1/services":                         "200 db:b web:b web:c",
		"/v1/services?eligible":                "200 db:b web:b",
		"/v1/services?service_tag=canary":      "200 web:b",
		"/v1/services/web":                     "200 web:b web:c",
		"/v1/services/web?eligible=true":       "200 web:b",
		"/v1/services/wbe":                     "404",
		"/v1/services?eligible=perhaps":        "400",
		"/v1/services?passing":                 "400",
		"/v1/services/web?index=8&wait=1s":     "200 web:b web:c",
		"/v1/services/web?wait=1s":             "400",
		"/v1/services/web?eligible=1&wait=-1s": "400",
	} {
		r := e.get(target)
		var got strings.Builder
		got.WriteString(fmt.Sprint(r.code))
		if r.code == http.StatusOK {
			var doc struct {
				api.ServiceGroup
				Services []api.ServiceGroup
			}
			if err := json.Unmarshal([]byte(r.body), &doc); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(target, "/v1/services/") {
				doc.Services = []api.ServiceGroup{doc.ServiceGroup}
			}
			for _, g := range doc.Services {
				for _, i := range g.Instances {
					got.WriteString(" " + g.Name + ":" + i.Node)
				}
			}
			if strings.Contains(r.body, ":null,\"") && !strings.Contains(r.body, `"rtt_ms":null`) {
				t.Errorf("%s: a null in %s", target, r.body)
			}
		}
		if got.String() != want {
			t.Errorf("%s: got %s, want %s: %s", target, got.String(), want, r.body)
		}
		if r.code != 400 && r.header.Get("X-Peer-Index") != "9" {
			t.Errorf("%s: index %q", target, r.header.Get("X-Peer-Index"))
		}
	}
	if r := e.get("/v1/services/db"); r.header.Get("X-Peer-Index") != "4" {
		t.Errorf("index of db: %q", r.header.Get("X-Peer-Index"))
	}
	if r := e.get("/v1/services/wbe"); !strings.Contains(r.body, `did you mean \"web\"?`) {
		t.Errorf("no suggestion: %s", r.body)
	}
}

// A blocking read answers when its own service changes, and not before.
func TestServiceBlocks(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		a.services = twoServices()
		e := start(t, a)
		began := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			a.change(func(a *fakeAgent) { a.services.Services[1].Index, a.services.Index = 12, 12 })
			time.Sleep(3 * time.Second)
			a.change(func(a *fakeAgent) { a.services.Services[0].Index, a.services.Index = 13, 13 })
		}()
		if r := e.get("/v1/services/db?index=4&wait=1m"); r.header.Get("X-Peer-Index") != "13" || time.Since(began) != 6*time.Second {
			t.Errorf("after %v index %s", time.Since(began), r.header.Get("X-Peer-Index"))
		}
		began = time.Now()
		if r := e.get("/v1/services/db?index=13&wait=5s"); r.code != 200 || time.Since(began) != 5*time.Second {
			t.Errorf("after %v %d", time.Since(began), r.code)
		}
	})
}

func TestServiceChanges(t *testing.T) {
	const json = "Content-Type: application/json"
	for _, c := range []struct {
		method, target, body string
		code                 int
		want                 string
	}{
		{"PUT", "/v1/services/web", `{"port":8080,"check":{"tcp":"127.0.0.1:8080"}}`, 200, `register web {"port":8080,"check":{"tcp":"127.0.0.1:8080"}}`},
		{"PUT", "/v1/services/web", `{"port":8080,"wait":0}`, 400, ""},
		{"PUT", "/v1/services/web", `{"port":65536}`, 400, ""},
		{"PUT", "/v1/services/web", `{"port":-1}`, 400, ""},
		{"PUT", "/v1/services/web", `{"port":"8080"}`, 400, ""},
		{"PUT", "/v1/services/web?force", `{"port":1}`, 400, ""},
		{"DELETE", "/v1/services/web", "", 200, "deregister web"},
		{"PUT", "/v1/services/web/pass", "", 200, "pass web  "},
		{"PUT", "/v1/services/web/pass", `{"health":"warning","output":"slow"}`, 200, "pass web warning slow"},
		{"PUT", "/v1/services/web/drain", `{"draining":true}`, 200, "drain web true"},
		{"PUT", "/v1/services/web/drain", `{"draining":false}`, 200, "drain web false"},
		{"PUT", "/v1/services/web/drain", "", 400, ""},
		{"POST", "/v1/next/report", `{"name":"b","service":"web","ok":false,"latency_ms":1.5}`, 200, "report b web false 1.5"},
		{"POST", "/v1/next/report", `{"name":"b"}`, 400, ""},
		{"POST", "/v1/services", `{}`, 405, ""},
	} {
		a := newFakeAgent()
		e := start(t, a)
		if r := e.ask(e.http, c.method, c.target, c.body, json); r.code != c.code {
			t.Errorf("%s %s %s: %d, want %d: %s", c.method, c.target, c.body, r.code, c.code, r.body)
		}
		if got := strings.Join(a.calls.lines, "; "); got != c.want {
			t.Errorf("%s %s %s: asked the agent %q, want %q", c.method, c.target, c.body, got, c.want)
		}
		if r := e.ask(e.http, c.method, c.target, c.body); r.code != http.StatusUnsupportedMediaType {
			t.Errorf("%s %s as a form may send it: %d", c.method, c.target, r.code)
		}
	}
	a := newFakeAgent()
	a.calls.err = api.NewProblem(409, api.KindServiceFixed, "no", "yes")
	if r := start(t, a).ask(start(t, a).local, "DELETE", "/v1/services/web", ""); r.code != 409 {
		t.Errorf("an agent's problem: %d", r.code)
	}
}

func TestNextAsText(t *testing.T) {
	a := newFakeAgent()
	a.next = func(httpapi.NextQuery) (api.Next, error) {
		return api.Next{Peers: []api.NextPeer{{Name: "b", Addr: "10.0.0.2", Port: 8080}, {Name: "c", Addr: "fd00::3", Port: 81}}}, nil
	}
	e := start(t, a)
	const text = "10.0.0.2:8080\n[fd00::3]:81\n"
	for _, c := range []struct {
		target, accept string
		text           bool
	}{
		{"/v1/next", "", false},
		{"/v1/next?format=text", "", true},
		{"/v1/next?format=json", "Accept: text/plain", false},
		{"/v1/next", "Accept: text/plain", true},
		{"/v1/next", "Accept: text/plain;q=0.9, */*", true},
		{"/v1/next", "Accept: application/json, text/plain;q=0.5", false},
		{"/v1/next", "Accept: */*", false},
	} {
		r := e.get(c.target, c.accept)
		if (r.body == text) != c.text || strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") != c.text {
			t.Errorf("%s %q: %s %q", c.target, c.accept, r.header.Get("Content-Type"), r.body)
		}
	}
	if r := e.get("/v1/next?format=xml"); r.code != 400 {
		t.Errorf("format=xml: %d", r.code)
	}
	a.next = func(q httpapi.NextQuery) (api.Next, error) {
		if !q.Explain || len(q.ServiceTags) != 2 {
			t.Errorf("query %+v", q)
		}
		return api.Next{Explain: []api.Standing{{Name: "b", Rank: -1, Why: "draining"}}}, nil
	}
	if r := e.get("/v1/next?explain&service=web&service_tag=a,b"); r.code != 200 || !strings.Contains(r.body, "draining") {
		t.Errorf("explain when it is nobody's turn: %d %s", r.code, r.body)
	}
}

const sd = `[{"targets":["10.0.0.2:5432"],"labels":{"__meta_peer_eligible":"true","__meta_peer_health":"passing","__meta_peer_node":"b","__meta_peer_service":"db","__meta_peer_service_tags":",,","__meta_peer_status":"alive","__meta_peer_tag_rack_id":"7","__meta_peer_tag_zone":"z1","__meta_peer_zone":"z1"}}]
`

func TestPrometheusSD(t *testing.T) {
	a := newFakeAgent()
	a.services = twoServices()
	e := start(t, a)
	r := e.get("/v1/sd/prometheus?service=db", "Accept: application/json", "X-Prometheus-Refresh-Interval-Seconds: 60")
	if r.code != 200 || r.header.Get("Content-Type") != "application/json" || r.body != sd {
		t.Errorf("%d %s %s", r.code, r.header.Get("Content-Type"), r.body)
	}
	if r := e.get("/v1/sd/prometheus?service=nobody"); r.code != 200 || r.body != "[]\n" {
		t.Errorf("nobody: %d %s", r.code, r.body)
	}
	var groups []struct{ Targets []string }
	if err := json.Unmarshal([]byte(e.get("/v1/sd/prometheus").body), &groups); err != nil || fmt.Sprint(groups) != "[{[10.0.0.2:5432]} {[10.0.0.2:8080]} {[[fd00::3]:8080]}]" {
		t.Errorf("all: %v %v", groups, err)
	}
}

// What Prometheus itself makes of it.
func TestPromtoolReadsSD(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		testcluster.Unavailable(t, "promtool", "no promtool on the PATH (Debian: prometheus): whether Prometheus reads the service discovery is not tested")
	}
	a := newFakeAgent()
	a.services = twoServices()
	front := onLoopback(t, a)
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	config := "scrape_configs:\n- job_name: peer\n  http_sd_configs:\n  - url: " + front + "/v1/sd/prometheus\n  relabel_configs:\n  - source_labels: [__meta_peer_node, __meta_peer_service]\n    separator: /\n    target_label: instance\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(promtool, "check", "service-discovery", "--timeout=10s", file, "peer").CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	for _, want := range []string{`"__address__": "10.0.0.2:5432"`, `"__address__": "[fd00::3]:8080"`, `"instance": "c/web"`, `"instance": "b/db"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("promtool does not show %s:\n%s", want, out)
		}
	}
}

// onLoopback serves a on a free loopback port, for programs outside of this
// process.
func onLoopback(t *testing.T, a httpapi.Agent) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpapi.Start(httpapi.Config{TCP: l, Addr: l.Addr().String()}, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return "http://" + l.Addr().String()
}
