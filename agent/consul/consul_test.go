package consul_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/consul"
)

// compact is what a person wrote over several lines, as it goes over the wire.
func compact(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return b.String() + "\n"
}

func TestShapes(t *testing.T) {
	f := newFake()
	f.set("web",
		f.on(0, func(i *consul.Instance) { i.Tags, i.Weight, i.Health = []string{"v1"}, 3, "passing" }),
		f.on(1, func(i *consul.Instance) {
			i.Addr, i.Meta, i.Draining, i.Node.Fault = "10.9.9.9", map[string]string{"k": "v"}, true, "the peer is suspect"
		}))
	h := consul.New(f)
	const nodeA = `"ID":"e568eafb-7631-b02f-059a-6e373200970d","Node":"a","Address":"10.0.0.1","Datacenter":"peer","TaggedAddresses":{"lan":"10.0.0.1","wan":"10.0.0.1"}`
	serf := func(node, status, output string) string {
		return fmt.Sprintf(`{"Node":%q,"CheckID":"serfHealth","Name":"Serf Health Status","Status":%q,"Notes":"","Output":%q,"ServiceID":"","ServiceName":"","ServiceTags":[],"Type":""}`, node, status, output)
	}
	checkA := `{"Node":"a","CheckID":"service:web","Name":"Service 'web' check","Status":"passing","Notes":"","Output":"","ServiceID":"web","ServiceName":"web","ServiceTags":["v1"],"Type":""}`
	checkB := `{"Node":"b","CheckID":"_service_maintenance:web","Name":"Service Maintenance Mode","Status":"critical","Notes":"it is draining","Output":"","ServiceID":"web","ServiceName":"web","ServiceTags":[],"Type":""}`
	webA := `{"ID":"web","Service":"web","Tags":["v1"],"Address":"","Meta":{},"Port":80,"Weights":{"Passing":3,"Warning":1},"EnableTagOverride":false}`
	for path, want := range map[string]string{
		"catalog/services":    `{"web":["v1"]}`,
		"catalog/datacenters": `["peer"]`,
		"health/service/web?passing": `[{"Node":{` + nodeA + `,"Meta":{"zone":"z0"}},"Service":` + webA +
			`,"Checks":[` + serf("a", "passing", "the peer is alive") + `,` + checkA + `]}]`,
		"health/service/nope": `[]`,
		"health/checks/web":   `[` + checkA + `,` + checkB + `]`,
		"health/checks/nope":  `[]`,
		"health/node/a":       `[` + serf("a", "passing", "the peer is alive") + `,` + checkA + `]`,
		"health/node/nope":    `[]`,
		"catalog/service/web?node-meta=zone:z0": `[{` + nodeA + `,"NodeMeta":{"zone":"z0"},"ServiceID":"web","ServiceName":"web","ServiceTags":["v1"],
			"ServiceAddress":"","ServiceWeights":{"Passing":3,"Warning":1},"ServiceMeta":{},"ServicePort":80,"ServiceEnableTagOverride":false}]`,
		"catalog/service/nope":         `[]`,
		"catalog/node/a":               `{"Node":{` + nodeA + `,"Meta":{"zone":"z0"}},"Services":{"web":` + webA + `}}`,
		"catalog/node/nope":            `null`,
		"catalog/nodes?node-meta=a:b":  `[]`,
		"health/state/critical":        `[` + checkB + `]`,
		"status/leader":                `"10.0.0.1:7946"`,
		"status/peers":                 `["10.0.0.1:7946","10.0.0.2:7946","10.0.0.3:7946"]`,
		"health/service/web?tag=v2":    `[]`,
		"catalog/services?dc=peer":     `{"web":["v1"]}`,
		"catalog/services?what=x":      `{"web":["v1"]}`,
		"catalog/services?stale=&ns=":  `{"web":["v1"]}`,
		"health/state/warning?pretty=": `[]`,
	} {
		if r := ask(t, h, path); r.status != 200 || r.body != compact(t, want) {
			t.Errorf("%s: got %d\n%swant\n%s", path, r.status, r.body, compact(t, want))
		}
	}
	var all []struct {
		Service struct{ Address string }
		Checks  []struct{ CheckID, Status, Output string }
	}
	if err := json.Unmarshal([]byte(ask(t, h, "health/service/web").body), &all); err != nil || len(all) != 2 {
		t.Fatalf("web: %v, %v", all, err)
	}
	if b := fmt.Sprint(all[1]); b != "{{10.9.9.9} [{serfHealth critical the peer is suspect} {_service_maintenance:web critical }]}" {
		t.Errorf("b: %s", b)
	}
	var self map[string]map[string]any
	if err := json.Unmarshal([]byte(ask(t, h, "agent/self").body), &self); err != nil || self["Config"]["Datacenter"] != "peer" || self["Config"]["NodeName"] != "a" {
		t.Errorf("self: %v, %v", self, err)
	}
	r := ask(t, h, "catalog/nodes")
	if r.header.Get("X-Consul-KnownLeader") != "true" || r.header.Get("X-Consul-LastContact") != "0" {
		t.Errorf("headers: %v", r.header)
	}
}

// Services that are well, by what Consul calls so.
func TestPassing(t *testing.T) {
	f := newFake()
	f.set("web",
		f.on(0, func(i *consul.Instance) { i.Health = "warning" }),
		f.on(1, func(i *consul.Instance) { i.Health = "passing"; i.Node.Fault = "the peer is failed" }),
		f.on(2, nil))
	h := consul.New(f)
	for query, want := range map[string]int{"": 3, "?passing": 1, "?passing=1": 1, "?passing=false": 3, "?passing=true&tag=x": 0} {
		if n := strings.Count(ask(t, h, "health/service/web"+query).body, `"Service":{`); n != want {
			t.Errorf("%q: %d, want %d", query, n, want)
		}
	}
}

func TestNear(t *testing.T) {
	f := newFake()
	f.nodes[1].RTT, f.nodes[2].RTT = 5*time.Millisecond, 2*time.Millisecond
	f.set("web", f.on(1, nil), f.on(2, nil), f.on(0, nil))
	h := consul.New(f)
	for path, want := range map[string]string{
		"health/service/web":              "b c a",
		"health/service/web?near=_agent":  "a c b",
		"health/service/web?near=a":       "a c b",
		"health/service/web?near=b":       "b c a", // how far others are from b nobody knows
		"catalog/service/web?near=_agent": "a c b",
		"catalog/nodes":                   "a b c",
		"catalog/nodes?near=_agent":       "a c b",
	} {
		var got []string
		for s := range strings.SplitSeq(ask(t, h, path).body, `"Node":"`) {
			if !strings.Contains(s, "Address") || strings.HasPrefix(s, "[") {
				continue
			}
			got = append(got, s[:1])
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: got %s, want %s", path, g, want)
		}
	}
}

// Who has not joined does not pass its own services off as all there are.
func TestNotReady(t *testing.T) {
	f := newFake()
	f.set("web", f.on(0, nil))
	h := consul.New(f)
	f.why = errors.New("none of 2 seeds answers")
	for _, path := range []string{"health/service/web", "health/service/web?index=7", "catalog/services", "catalog/nodes", "health/state/any"} {
		r := ask(t, h, path)
		if r.status != 500 || r.body != "No cluster leader: none of 2 seeds answers\n" || r.header.Get("X-Consul-KnownLeader") != "false" {
			t.Errorf("%s: got %d %s", path, r.status, r.body)
		}
	}
	if r := ask(t, h, "status/leader"); r.body != "\"\"\n" {
		t.Errorf("leader: %s", r.body)
	}
	if r := ask(t, h, "agent/self"); r.status != 200 {
		t.Errorf("self: %d", r.status)
	}
	f.why = nil
	if r := ask(t, h, "health/service/web"); r.status != 200 {
		t.Errorf("afterwards: %d", r.status)
	}
}

func TestRefusals(t *testing.T) {
	h := consul.New(newFake())
	for path, want := range map[string]string{
		"catalog/nodes?index=x":              "400 Invalid index",
		"catalog/nodes?index=-1":             "400 Invalid index",
		"catalog/nodes?index=1&wait=soon":    "400 Invalid wait time",
		"catalog/nodes?index=1&wait=-5s":     "400 Invalid wait time",
		"health/service/web?passing=perhaps": "400 Invalid value for ?passing",
		"health/service/web?filter=x":        "400 Invalid query: peer does not know \"filter\"",
		"health/service/web?node-meta=x":     "400 Invalid node-meta",
		"health/service/web?ns=other":        "400 Invalid query: ns",
		"health/service/web?dc=east":         "500 No path to datacenter",
		"health/state/well":                  "400 Invalid state",
		"health/service/web?%":               "400 Invalid query",
		"kv/some/key":                        "501 peer has no key-value store",
		"session/list":                       "404 Invalid URL path",
		"catalog/service/":                   "404 Invalid URL path",
		"catalog/service/a/b":                "404 Invalid URL path",
	} {
		r := ask(t, h, path)
		if got := fmt.Sprint(r.status, " ", r.body); !strings.HasPrefix(got, want) || r.header.Get("X-Consul-Index") != "" {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/v1/catalog/nodes", "/v1/agent/service/register"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, path, strings.NewReader("{}")))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("PUT %s: got %d, Allow %q", path, w.Code, w.Header().Get("Allow"))
		}
	}
}
