package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// Every mistake in the services of a file is reported at once, those of form
// with line and column.
func TestServicesOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peer.yaml")
	read := func(text string) (agent.Config, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := agent.ReadConfigFile(file)
		if err != nil {
			return c, err
		}
		c.Bind = "127.0.0.1:0"
		return c, c.Validate()
	}
	c, err := read(`
services:
- name: web
  port: 8080
  tags: [canary]
  weight: 3
  meta: {path: /}
  check: {http: "http://127.0.0.1:8080/healthz", interval: 2s, timeout: 500ms, rise: 1, fall: 2}
- name: db
  port: 5432
  addr: 10.0.0.9
  check: {ttl: 30s}
`)
	if err != nil || len(c.Services) != 2 || *c.Services[0].Weight != 3 || c.Services[1].Weight != nil || c.Services[0].Check.Fall != 2 {
		t.Fatalf("%+v, %v", c.Services, err)
	}
	for text, want := range map[string]string{
		"services:\n- name: web\n  prot: 1":                            `:3:3: unknown key "services[0].prot"; did you mean "services[0].port"?`,
		"services:\n- name: web\n  port: 65536":                        ":3:9: services[0].port: want a whole number up to 65535",
		"services:\n- name: web\n  port: -1":                           ":3:9: services[0].port: want a whole number",
		"services:\n- name: web\n  port: 1\n  check: {interval: soon}": ":4:21: services[0].check.interval: want a duration",
		"services:\n- name: web\n  port: 1\n  check: http://x":         ":4:10: services[0].check: want a mapping",

		"services: web":                     ":1:11: services: want a list",
		"services:\n- name: web":            "no port",
		"services:\n- name: Web\n  port: 1": "want a DNS label",

		"services:\n- {name: web, port: 1}\n- {name: web, port: 2}":                         `services[1]: service "web" stands twice`,
		"services:\n- {name: web, port: 1, weight: 0}":                                      "weight 0",
		"services:\n- {name: web, port: 1, weight: -1}":                                     "weight -1",
		"services:\n- {name: web, port: 1, weight: 1000000000}":                             "weight 1000000000",
		"services:\n- {name: web, port: 1, check: {interval: 5s}}":                          "exactly one of http",
		"services:\n- {name: web, port: 1, check: {tcp: 'x:1', http: 'http://x'}}":          "exactly one of http",
		"services:\n- {name: web, port: 1, check: {http: 'file:///etc/passwd'}}":            "want a URL",
		"services:\n- {name: web, port: 1, tags: ['a b'], check: {tcp: 'x:0', fall: 9999}}": "fall 9999",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v\nwant %s", text, err, want)
		}
	}
	_, err = read("services:\n- {name: A, weight: 0, tags: ['a b'], check: {tcp: 'x:0', fall: 9999}}")
	if err == nil || strings.Count(err.Error(), "services[0]") < 6 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

// faulty is a data dir that takes nothing when told so.
type faulty struct {
	mu    sync.Mutex
	files map[string][]byte
	err   error
}

// file returns what lies at name; fail has writes of the registrations fail.
func (f *faulty) file(name string) string {
	b, _ := f.ReadFile(name)
	return string(b)
}

func (f *faulty) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *faulty) ReadFile(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.files[filepath.Base(name)]
	if !ok {
		return nil, os.ErrNotExist
	}
	return b, nil
}

func (f *faulty) WriteFile(name string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil || filepath.Base(name) != "services.json" {
		f.files[filepath.Base(name)] = data
		return nil
	}
	return f.err
}

func (f *faulty) Rename(old, new string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[filepath.Base(new)] = f.files[filepath.Base(old)]
	delete(f.files, filepath.Base(old))
	return nil
}

func (f *faulty) MkdirAll(string) error { return nil }

func kindOf(err error) string {
	var p *api.Problem
	if errors.As(err, &p) {
		return fmt.Sprintf("%d %s", p.Status, p.Kind())
	}
	return fmt.Sprint(err)
}

// Nothing is registered by half: what is refused, and what the disk does not
// take, leaves everything as it was.
func TestNothingIsRegisteredByHalf(t *testing.T) {
	disk := &faulty{files: map[string][]byte{}}
	a := start(t, func(c *agent.Config) {
		c.DataDir, c.Seams.FS = "/data", disk
		c.Services = []agent.ServiceConfig{{Name: "fixed", Port: 1}}
	})
	c := client(t, a)
	ctx := t.Context()
	zero, huge := 0, 1_000_000_000
	shown := func() string {
		doc, err := c.Services(ctx, api.ServicesQuery{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, g := range doc.Services {
			out = append(out, fmt.Sprintf("%s:%d", g.Name, g.Instances[0].Port))
		}
		return strings.Join(out, " ")
	}
	if err := c.Register(ctx, "web", api.Registration{Port: 80}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "web is shown", func() bool { return shown() == "fixed:1 web:80" })
	before := disk.file("services.json")
	for want, f := range map[string]func() error{
		"400 bad-request":    func() error { return c.Register(ctx, "web", api.Registration{}) },
		"400 bad-request ":   func() error { return c.Register(ctx, "Web", api.Registration{Port: 1}) },
		"400 bad-request  ":  func() error { return c.Register(ctx, "web", api.Registration{Port: 1, Weight: &zero}) },
		"400 bad-request   ": func() error { return c.Register(ctx, "web", api.Registration{Port: 1, Weight: &huge}) },
		"400 bad-request    ": func() error {
			return c.Register(ctx, "x", api.Registration{Port: 1, Check: &api.ServiceCheck{TTLMS: 1 << 62}})
		},
		"400 bad-request     ": func() error {
			return c.Register(ctx, "x", api.Registration{Port: 1, Meta: map[string]string{"k": strings.Repeat("x", 60000)}})
		},
		"409 service-fixed":    func() error { return c.Register(ctx, "fixed", api.Registration{Port: 2}) },
		"409 service-fixed ":   func() error { return c.Deregister(ctx, "fixed") },
		"404 no-such-service":  func() error { return c.Deregister(ctx, "nobody") },
		"404 no-such-service ": func() error { return c.Drain(ctx, "nobody", true) },
		"409 not-a-ttl-check":  func() error { return c.Pass(ctx, "web", api.PassRequest{}) },
		"500 not-kept": func() error {
			disk.fail(errors.New("no space left on device"))
			defer disk.fail(nil)
			return c.Register(ctx, "web", api.Registration{Port: 81})
		},
	} {
		if got := kindOf(f()); got != strings.TrimSpace(want) {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := shown(); got != "fixed:1 web:80" || disk.file("services.json") != before {
			t.Fatalf("after %s: %s, %s", want, got, disk.file("services.json"))
		}
	}
	for i := range 62 {
		if err := c.Register(ctx, fmt.Sprintf("s%d", i), api.Registration{Port: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if got := kindOf(c.Register(ctx, "s62", api.Registration{Port: 1})); got != "400 bad-request" {
		t.Errorf("the 65th service: %s", got)
	}
}

// A damaged file is set aside, and the agent runs and says so.
func TestDamagedRegistrations(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"schema":"peer.kept-services/v9"}`, "\x00\x01", `{"schema":"peer.kept-services/v1","services":[{"name":"web","port":"x"}]}`} {
		disk := &faulty{files: map[string][]byte{"services.json": []byte(text)}}
		a := start(t, func(c *agent.Config) { c.DataDir, c.Seams.FS = "/data", disk })
		if disk.file("services.json.damaged") != text {
			t.Errorf("%q is not set aside", text)
		}
		if w := fmt.Sprint(a.Status(t.Context()).Warnings); !strings.Contains(w, "services.json") {
			t.Errorf("%q: no warning: %s", text, w)
		}
		if err := client(t, a).Register(t.Context(), "web", api.Registration{Port: 80}); err != nil {
			t.Error(err)
		}
		if err := a.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		again := start(t, func(c *agent.Config) { c.DataDir, c.Seams.FS = "/data", disk })
		if g, err := client(t, again).Service(t.Context(), "web", api.ServicesQuery{}); err != nil || g.Eligible != 1 {
			t.Errorf("after a restart: %+v, %v", g, err)
		}
	}
	// One entry that makes no sense does not take the others along.
	disk := &faulty{files: map[string][]byte{"services.json": []byte(`{"schema":"peer.kept-services/v1","services":[{"name":"WEB","port":1},{"name":"db","port":2}]}`)}}
	a := start(t, func(c *agent.Config) { c.DataDir, c.Seams.FS = "/data", disk })
	if doc := a.Services(); len(doc.Services) != 1 || doc.Services[0].Name != "db" {
		t.Errorf("%+v", doc.Services)
	}
}

func FuzzKeptServices(f *testing.F) {
	f.Add(`{"schema":"peer.kept-services/v1","services":[{"name":"web","port":80,"weight":1,"check":{"tcp":"127.0.0.1:1"}}],"draining":["x"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		disk := &faulty{files: map[string][]byte{"services.json": []byte(text)}}
		services := agent.KeptServices(disk, "/data")
		// What was read can be written and read again.
		if again := agent.KeptServices(disk, "/data"); len(again) != len(services) {
			t.Errorf("%q: %d services, then %d", text, len(services), len(again))
		}
	})
}

// A peer that warns stands by, a reported one cools down, and weights count.
func TestTurnsOfAService(t *testing.T) {
	a := start(t, func(c *agent.Config) {
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 80, Check: agent.CheckConfig{TTL: 3600e9}}}
	})
	two := 2
	b := start(t, func(c *agent.Config) {
		c.Name, c.Join = "b", []string{a.GossipAddr()}
		c.Services = []agent.ServiceConfig{{Name: "web", Port: 81, Weight: &two}}
	})
	ca, cb := client(t, a), client(t, b)
	ctx := t.Context()
	turns := func(n int, q api.NextQuery) string {
		t.Helper()
		q.Service = "web"
		got := map[string]int{}
		for range n {
			next, err := cb.Next(ctx, q)
			if err != nil {
				return kindOf(err)
			}
			got[fmt.Sprintf("%s:%d %s", next.Peers[0].Name, next.Peers[0].Port, next.Peers[0].Tier)]++
		}
		return fmt.Sprint(got)
	}
	eventually(t, "b hears of a", func() bool {
		g, err := cb.Service(ctx, "web", api.ServicesQuery{})
		return err == nil && len(g.Instances) == 2
	})
	if got := turns(6, api.NextQuery{}); got != "map[b:81 live:6]" {
		t.Errorf("a has given no sign of life: %s", got)
	}
	if err := ca.Pass(ctx, "web", api.PassRequest{Health: "warning", Output: "slow"}); err != nil {
		t.Fatal(err)
	}
	health := func(want string) {
		t.Helper()
		eventually(t, "a is "+want, func() bool {
			g, err := cb.Service(ctx, "web", api.ServicesQuery{})
			return err == nil && g.Instances[0].Health == want
		})
	}
	health("warning")
	if got := turns(6, api.NextQuery{}); got != "map[b:81 live:6]" {
		t.Errorf("a warns and b is well: %s", got)
	}
	if got := turns(2, api.NextQuery{Exclude: []string{"b"}}); got != "map[a:80 last_resort:2]" {
		t.Errorf("a warns and b is excluded: %s", got)
	}
	if err := ca.Pass(ctx, "web", api.PassRequest{}); err != nil {
		t.Fatal(err)
	}
	health("passing")
	if got := turns(6, api.NextQuery{Policy: "weighted"}); got != "map[a:80 live:2 b:81 live:4]" {
		t.Errorf("by weight: %s", got)
	}
	x, err := cb.Next(ctx, api.NextQuery{Service: "web", Explain: true, Count: 2, Exclude: []string{"a"}})
	if err != nil || len(x.Peers) != 1 || len(x.Explain) != 2 || x.Explain[1].Name != "a" || x.Explain[1].Rank != -1 {
		t.Errorf("explained: %+v, %v", x, err)
	}
	for {
		began := time.Now()
		if err := cb.Report(ctx, api.NextReport{Name: "a", Service: "web"}); err != nil {
			t.Fatal(err)
		}
		got := turns(3, api.NextQuery{})
		if got == "map[b:81 live:3]" {
			break
		}
		// The cool-down of 1 s may be over before the last turn. The next one is longer.
		if time.Since(began) < time.Second {
			t.Fatalf("a request to a has failed: %s", got)
		}
	}
	if err := cb.Report(ctx, api.NextReport{Name: "a", Service: "web", OK: true, LatencyMS: 2}); err != nil {
		t.Fatal(err)
	}
	if got := turns(4, api.NextQuery{}); got != "map[a:80 live:2 b:81 live:2]" {
		t.Errorf("and one has not: %s", got)
	}
	for want, r := range map[string]api.NextReport{
		"404 no-such-member":  {Name: "z", Service: "web"},
		"404 no-such-service": {Name: "a", Service: "wbe"},
		"400 bad-request":     {Name: "a", Service: "web", LatencyMS: -1},
	} {
		if got := kindOf(cb.Report(ctx, r)); got != want {
			t.Errorf("%+v: got %s, want %s", r, got, want)
		}
	}
	if got := turns(1, api.NextQuery{Exclude: []string{"a", "b"}}); got != fmt.Sprintf("%d no-match", http.StatusServiceUnavailable) {
		t.Errorf("everybody excluded: %s", got)
	}
}
