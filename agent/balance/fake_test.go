package balance_test

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/testcluster"
)

// fakeAgent answers for one service, web, as an agent does, and does wrong what
// a test asks for. It lives in a bubble.
type fakeAgent struct {
	t    testing.TB
	net  *testcluster.Net
	host *testcluster.Host

	mu       sync.Mutex
	server   *http.Server
	instance string
	index    uint64
	peers    []string // NAME or NAME=HOST:PORT
	joined   string   // status of the check
	changed  chan struct{}
	requests map[string]int
	spoil    func(w http.ResponseWriter, r *http.Request) bool // answers in its place
}

// newFakeAgent returns one that is up.
func newFakeAgent(t testing.TB, peers ...string) *fakeAgent {
	n := testcluster.NewNet(1, testcluster.Link{})
	a := &fakeAgent{
		t: t, net: n, host: n.Host("10.0.0.1"), instance: "1", index: 7,
		peers: peers, joined: "pass", changed: make(chan struct{}), requests: map[string]int{},
	}
	a.up()
	t.Cleanup(a.down)
	return a
}

// up listens and serves.
func (a *fakeAgent) up() {
	a.t.Helper()
	l, err := a.host.ListenContext(a.t.Context(), "tcp", "127.0.0.1:7980")
	if err != nil {
		a.t.Fatal(err)
	}
	s := &http.Server{Handler: a}
	a.mu.Lock()
	a.server = s
	a.mu.Unlock()
	go func() { _ = s.Serve(l) }()
}

// down resets everybody who is connected.
func (a *fakeAgent) down() {
	a.mu.Lock()
	s := a.server
	a.mu.Unlock()
	_ = s.Close()
}

// change sets what the agent knows, and wakes those who wait.
func (a *fakeAgent) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

// set is a change of the peers.
func (a *fakeAgent) set(peers ...string) {
	a.change(func() { a.peers = peers; a.index++ })
}

// all returns what was set last.
func (a *fakeAgent) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers
}

// restart is another start, which knows peers and counts from index.
func (a *fakeAgent) restart(instance string, index uint64, peers ...string) {
	a.down()
	a.mu.Lock()
	a.instance, a.index, a.peers = instance, index, peers
	a.mu.Unlock()
	a.up()
}

// asked returns how many requests of a kind there were: status, read or wait.
func (a *fakeAgent) asked(kind string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[kind]
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	spoil := a.spoil
	kind := "read"
	if r.URL.Path == "/v1/status" {
		kind = "status"
	} else if n, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64); n == a.index {
		kind = "wait"
	}
	a.requests[kind]++
	changed := a.changed
	a.mu.Unlock()
	if spoil != nil && spoil(w, r) {
		return
	}
	if kind == "wait" {
		d, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		select {
		case <-changed:
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var doc any
	switch r.URL.Path {
	case "/v1/status":
		doc = api.Status{
			Schema: api.SchemaStatus, Node: api.StatusNode{Name: "a", Instance: a.instance},
			Checks: []api.Check{{Name: "joined", Status: a.joined, Text: "joined: " + a.joined}},
		}
	case "/v1/services/web":
		w.Header().Set("X-Peer-Index", strconv.FormatUint(a.index, 10))
		if len(a.peers) == 0 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			doc = api.NewProblem(http.StatusNotFound, api.KindNoService, "", "")
			break
		}
		g := api.ServiceGroup{Name: "web", Index: a.index}
		for _, p := range a.peers {
			g.Instances = append(g.Instances, instance(p))
		}
		doc = g
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(doc)
}

// instance reads NAME, NAME=HOST:PORT, and NAME! for one that is not handed out.
func instance(s string) api.ServiceInstance {
	name, at, ok := strings.Cut(s, "=")
	if !ok {
		at = "10.1.0.1:80"
	}
	host, port, _ := net.SplitHostPort(at)
	n, _ := strconv.Atoi(port)
	name, sick := strings.CutSuffix(name, "!")
	return api.ServiceInstance{
		Node: name, Addr: host, Port: uint16(n), Tags: []string{"v1"}, Weight: 1, State: "alive", Eligible: !sick,
		NodeTags: map[string]string{"zone": "z-" + name},
	}
}

// watch follows web by a.
func (a *fakeAgent) watch(edit func(*balance.Config)) *balance.Watch {
	a.t.Helper()
	client, err := api.NewClient("127.0.0.1:7980", api.WithDialer(a.host.DialContext))
	if err != nil {
		a.t.Fatal(err)
	}
	cfg := balance.Config{Service: "web", Client: client, Seed: "test"}
	if edit != nil {
		edit(&cfg)
	}
	return start(a.t, cfg, client.Close)
}

func start(t testing.TB, cfg balance.Config, after func()) *balance.Watch {
	t.Helper()
	w, err := balance.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		if after != nil {
			after()
		}
	})
	return w
}

// names returns whom w hands out, in order.
func names(w *balance.Watch) string {
	var out []string
	for _, p := range w.View().Peers {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

// peer runs h as the peer called name on a host of its own, and returns it as
// set wants it.
func (a *fakeAgent) peer(name string, h http.Handler) string {
	a.t.Helper()
	host := a.net.Host("10.1.0." + strconv.Itoa(1+int(name[0]-'a')))
	l, err := host.ListenContext(a.t.Context(), "tcp", ":80")
	if err != nil {
		a.t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: quiet}
	go func() { _ = s.Serve(l) }()
	a.t.Cleanup(func() { _ = s.Close() })
	return name + "=" + host.String() + ":80"
}

// nobody is a peer that refuses connections.
func (a *fakeAgent) nobody(name string) string {
	return name + "=" + a.net.Host("10.1.0."+strconv.Itoa(1+int(name[0]-'a'))).String() + ":80"
}

// quiet is a log that nobody reads.
var quiet = log.New(io.Discard, "", 0)

// oneList answers like an agent that knows one peer and whose list never
// changes.
func oneList(hostPort string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/status":
			_ = json.NewEncoder(w).Encode(api.Status{Schema: api.SchemaStatus, Node: api.StatusNode{Instance: "1"}})
		case r.URL.Query().Get("index") == "1":
			<-r.Context().Done()
		default:
			_ = json.NewEncoder(w).Encode(api.ServiceGroup{Name: "web", Index: 1, Instances: []api.ServiceInstance{instance("a=" + hostPort)}})
		}
	}
}
