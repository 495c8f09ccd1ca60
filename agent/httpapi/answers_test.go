package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
)

// decode reads an answer of 200 into a T.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s: %s", a.code, a.header.Get("Content-Type"), a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("decode: %v: %s", err, a.body)
	}
	return v
}

func TestMembersFilters(t *testing.T) {
	a := newFakeAgent()
	a.members.Members[1].State = "failed"
	a.members.Members[1].Eligible = false
	a.members.Members[2].Name = "node-2.example.com"
	a.members.Members[2].Services = []api.Service{{Name: "web", Port: 80}}
	a.members.Members[2].Tags = map[string]string{"url": "http://x:1/", "zone": "zc"}
	e := start(t, a)
	tests := []struct{ query, want string }{
		{"", "a b node-2.example.com"},
		{"?state=alive", "a node-2.example.com"},
		{"?state=alive,failed", "a b node-2.example.com"},
		{"?state=left&state=failed", "b"},
		{"?state=", "a b node-2.example.com"},
		{"?tag=zone:zb", "b"},
		{"?tag=url:http://x:1/", "node-2.example.com"},
		{"?tag=url:http://x:1/&tag=zone:zb", ""},
		{"?tag=none:", ""},
		{"?service=web", "node-2.example.com"},
		{"?service=we", ""},
		{"?name=b", "b"},
		{"?name=node-*", "node-2.example.com"},
		{"?name=?", "a b"},
		{"?name=*.com&state=failed", ""},
	}
	for _, tt := range tests {
		got := e.get("/v1/members" + tt.query)
		m := decode[api.Members](t, got)
		var names []string
		for _, x := range m.Members {
			names = append(names, x.Name)
		}
		if s := strings.Join(names, " "); s != tt.want {
			t.Errorf("%s: got %q, want %q", tt.query, s, tt.want)
		}
		if i := got.header.Get("X-Peer-Index"); i != "3" || m.Index != 3 {
			t.Errorf("%s: X-Peer-Index %q and index %d, want 3", tt.query, i, m.Index)
		}
	}
	if len(a.members.Members) != 3 {
		t.Errorf("filtering changed the agent's own list: %v", a.members.Members)
	}
}

func TestMemberOfTwoWithOneName(t *testing.T) {
	a := newFakeAgent()
	for i, eligible := range []bool{false, true, false} {
		a.members.Members[i].Name = "b"
		a.members.Members[i].Eligible = eligible
	}
	e := start(t, a)
	if m := decode[api.Member](t, e.get("/v1/members/b")); m.Instance != a.members.Members[1].Instance {
		t.Errorf("got %+v, want the one that is handed out", m)
	}
	a.change(func(a *fakeAgent) {
		a.members.Members = []api.Member{{Name: "sp ace/ü%"}, {Name: ".."}}
	})
	for _, escaped := range []string{"sp%20ace%2F%C3%BC%25", "%2E%2E"} {
		decode[api.Member](t, e.get("/v1/members/"+escaped))
	}
}

// nulls lists the paths in a document at which there is a null.
func nulls(v any, at string) []string {
	var out []string
	switch v := v.(type) {
	case nil:
		return []string{at}
	case map[string]any:
		for k, x := range v {
			out = append(out, nulls(x, at+"."+k)...)
		}
	case []any:
		for _, x := range v {
			out = append(out, nulls(x, at+"[]")...)
		}
	}
	return out
}

func TestNothingIsNullThatShouldBeEmpty(t *testing.T) {
	a := newFakeAgent()
	a.members = api.Members{Members: []api.Member{{Name: "x", Services: []api.Service{{Name: "s"}}}}}
	a.locks.Locks = []api.Lock{{Name: "l"}}
	e := start(t, a)
	allowed := map[string]bool{".members[].rtt_ms": true, ".peers[].rtt_ms": true, ".locks[].holder": true, ".locks.backend.latency_ms": true}
	for _, target := range []string{"/v1/members", "/v1/status", "/v1/locks", "/v1/next", "/page.json"} {
		doc := decode[any](t, e.get(target))
		for _, path := range nulls(doc, "") {
			if !allowed[path] {
				t.Errorf("%s: %s is null", target, path)
			}
		}
		if m, _ := doc.(map[string]any); target != "/page.json" && !strings.HasPrefix(fmt.Sprint(m["schema"]), "peer.") {
			t.Errorf("%s: schema is %v", target, m["schema"])
		}
	}
}

func TestNext(t *testing.T) {
	a := newFakeAgent()
	var got httpapi.NextQuery
	var fail error
	a.next = func(q httpapi.NextQuery) (api.Next, error) {
		got = q
		return api.Next{Policy: "round_robin", Peers: []api.NextPeer{{Name: "b"}}}, fail
	}
	e := start(t, a)
	n := decode[api.Next](t, e.get("/v1/next?service=web&policy=key&key=a,b&tag=z:1&tag=y:2:3&exclude=a,c&exclude=d&count=3"))
	want := httpapi.NextQuery{
		Service: "web", Policy: "key", Key: "a,b", Tags: map[string]string{"z": "1", "y": "2:3"},
		Exclude: []string{"a", "c", "d"}, Count: 3,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("agent was asked %+v, want %+v", got, want)
	}
	if n.Schema != api.SchemaNext || len(n.Peers) != 1 || n.Peers[0].Tags == nil {
		t.Errorf("answer %+v", n)
	}
	if e.get("/v1/next"); got.Count != 1 {
		t.Errorf("count %d without one, want 1", got.Count)
	}

	fail = fmt.Errorf("take a turn: %w", api.NewProblem(503, api.KindNoMatch, "3 live, none has tag z:1", "drop the tag"))
	if p := problemOf(t, e.get("/v1/next")); p.Kind() != api.KindNoMatch || p.Detail != "3 live, none has tag z:1" {
		t.Errorf("problem %+v is not the agent's", p)
	}
	fail = errors.New("odd")
	if p := problemOf(t, e.get("/v1/next")); p.Status != 500 {
		t.Errorf("an error of its own: %+v", p)
	}
	a.next = func(httpapi.NextQuery) (api.Next, error) { return api.Next{}, nil }
	r := e.get("/v1/next")
	if p := problemOf(t, r); p.Status != 503 || p.Kind() != api.KindNoPeers || r.header.Get("Retry-After") == "" {
		t.Errorf("nobody live: %+v, Retry-After %q", p, r.header.Get("Retry-After"))
	}
}

func TestLocks(t *testing.T) {
	a := newFakeAgent()
	a.locks.Locks = []api.Lock{{Name: "deploy/eu", Fence: 7, Holder: &api.LockHolder{Node: "b", PID: 9}}}
	e := start(t, a)
	if l := decode[api.Locks](t, e.get("/v1/locks")); len(l.Locks) != 1 || l.Locks[0].Waiters == nil {
		t.Errorf("locks %+v", l)
	}
	if l := decode[api.Lock](t, e.get("/v1/locks/deploy%2Feu")); l.Fence != 7 {
		t.Errorf("lock %+v, want fence 7", l)
	}
	a.lock = func(context.Context) (api.Locks, error) { return api.Locks{}, errors.New("dial redis: refused") }
	if p := problemOf(t, e.get("/v1/locks")); p.Status != 502 || p.Kind() != api.KindRedis || !strings.Contains(p.Detail, "refused") {
		t.Errorf("redis down: %+v", p)
	}
	a.lock = func(context.Context) (api.Locks, error) {
		return api.Locks{}, api.NewProblem(503, api.KindNoRedis, "none", "set redis.url")
	}
	if p := problemOf(t, e.get("/v1/locks/x")); p.Status != 503 || p.Fix != "set redis.url" {
		t.Errorf("no redis: %+v", p)
	}
}

func TestJoin(t *testing.T) {
	a := newFakeAgent()
	const js = "Content-Type: application/json"
	e := start(t, a)
	r := decode[api.JoinResult](t, e.ask(e.http, "POST", "/v1/join", `{"addrs":["b:7946"]}`, js))
	if len(r.Joined) != 1 || r.Errors == nil {
		t.Errorf("joined %+v", r)
	}
	a.join = func(context.Context, []string) api.JoinResult {
		return api.JoinResult{Errors: []api.JoinError{{Addr: "b:7946", Error: "refused"}, {Addr: "c:7946", Error: "time-out"}}}
	}
	got := e.ask(e.http, "POST", "/v1/join", `{"addrs":["b:7946","c:7946"]}`, js)
	p := problemOf(t, got)
	var res api.JoinResult
	if err := json.Unmarshal([]byte(got.body), &res); err != nil || len(res.Errors) != 2 || res.Joined == nil {
		t.Errorf("the problem does not carry the outcomes: %v %s", err, got.body)
	}
	if p.Status != 502 || p.Kind() != api.KindJoinFailed || !strings.Contains(p.Detail, "b:7946: refused") {
		t.Errorf("nobody answered: %+v", p)
	}
}

func TestLeave(t *testing.T) {
	a := newFakeAgent()
	e := start(t, a)
	a.leaving = errors.New("leaving already")
	if p := problemOf(t, e.ask(e.local, "POST", "/v1/leave", "")); p.Status != 409 {
		t.Errorf("leave twice: %+v", p)
	}
}

func TestProbes(t *testing.T) {
	a := newFakeAgent()
	a.checks = []api.Check{
		{Name: "gossip", Status: "pass", Text: "listens"},
		{Name: "joined", Status: "fail", Text: "0 of 2 seeds\nanswered"},
		{Name: "redis", Status: "warn", Text: "time-out"},
	}
	e := start(t, a)
	tests := []struct {
		target string
		ready  bool
		live   error
		code   int
		body   string
	}{
		{"/livez", false, nil, 200, "live\n"},
		{"/livez?verbose", false, nil, 200, "[+]process: ok\nlive\n"},
		{"/livez", true, errors.New("the loop stands still"), 503, "[-]process: the loop stands still\nnot live\n"},
		{"/readyz", true, nil, 200, "ready\n"},
		{"/readyz?verbose=true", true, nil, 200, "[+]gossip: listens\n[-]joined: 0 of 2 seeds answered\n[!]redis: time-out\nready\n"},
		{"/readyz", false, nil, 503, "[-]joined: 0 of 2 seeds answered\n[!]redis: time-out\nnot ready\n"},
		{"/readyz?verbose", false, nil, 503, "[+]gossip: listens\n[-]joined: 0 of 2 seeds answered\n[!]redis: time-out\nnot ready\n"},
	}
	for _, tt := range tests {
		a.ready, a.live = tt.ready, tt.live
		got := e.get(tt.target)
		if got.code != tt.code || got.body != tt.body {
			t.Errorf("%s (ready %v, live %v): %d %q, want %d %q", tt.target, tt.ready, tt.live, got.code, got.body, tt.code, tt.body)
		}
	}
	got := e.get("/readyz", "Accept: application/json")
	if !strings.Contains(got.body, `"ok":false`) || !strings.Contains(got.body, `"joined"`) || got.code != 503 {
		t.Errorf("as JSON: %d %s", got.code, got.body)
	}
}

func TestHeadHasTheHeadersAndNoBody(t *testing.T) {
	e := start(t, newFakeAgent())
	for _, target := range []string{"/", "/livez", "/readyz", "/v1/status", "/v1/members", "/v1/locks", "/v1/events", "/metrics", "/openapi.json", "/nope"} {
		get, head := answer{}, e.ask(e.http, http.MethodHead, target, "")
		if target != "/v1/events" {
			get = e.get(target)
			if get.code != head.code || get.header.Get("Content-Type") != head.header.Get("Content-Type") {
				t.Errorf("HEAD %s: %d %v, GET: %d %v", target, head.code, head.header, get.code, get.header)
			}
		} else if head.code != 200 || head.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("HEAD %s: %d %v", target, head.code, head.header)
		}
		if head.body != "" {
			t.Errorf("HEAD %s has a body: %q", target, head.body)
		}
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	a := newFakeAgent()
	a.next = func(httpapi.NextQuery) (api.Next, error) { panic("boom with a s3cret") }
	e := start(t, a)
	got := e.get("/v1/next")
	p := problemOf(t, got)
	if p.Status != 500 || !strings.Contains(p.Detail, "panic 1") || strings.Contains(got.body, "s3cret") {
		t.Errorf("panic: %s", got.body)
	}
	if p := problemOf(t, e.get("/v1/next")); !strings.Contains(p.Detail, "panic 2") {
		t.Errorf("second panic: %+v", p)
	}
	if got := e.get("/livez"); got.code != 200 {
		t.Errorf("after a panic: %d", got.code)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "peer_ready", Help: "x"})
	reg.MustRegister(up)
	e := start(t, newFakeAgent(), func(c *httpapi.Config) { c.Gatherer = reg })
	e.get("/v1/members?state=alive")
	e.get("/v1/members/zz")
	for i := range 5 {
		e.get(fmt.Sprintf("/guess/%d", i))
	}
	got := e.get("/metrics")
	for _, want := range []string{
		"peer_ready 0",
		`peer_http_requests_total{code="200",route="GET /v1/members"} 1`,
		`peer_http_requests_total{code="404",route="GET /v1/members/{name}"} 1`,
		`peer_http_requests_total{code="404",route="other"} 5`,
		`peer_http_request_seconds_count{route="GET /v1/members"} 1`,
		"peer_http_streams 0",
		"peer_http_connections 1",
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("metrics lack %q:\n%s", want, got.body)
		}
	}
	if strings.Contains(got.body, "guess") {
		t.Error("a guessed path became a label")
	}
}
