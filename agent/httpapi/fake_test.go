package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/httpapi"
)

// fakeAgent is an Agent whose answers a test sets. It keeps the contract of the
// interface: it blocks where an agent blocks.
type fakeAgent struct {
	mu      sync.Mutex
	changed chan struct{} // closed and renewed with every change
	status  api.Status
	members api.Members
	locks   api.Locks
	events  []api.Event
	oldest  uint64 // events up to this one are gone
	ready   bool
	checks  []api.Check
	live    error
	left    int

	services api.Services
	calls    calls
	keys     fakeKeys

	next    func(httpapi.NextQuery) (api.Next, error)
	lock    func(context.Context) (api.Locks, error)
	join    func(context.Context, []string) api.JoinResult
	locking fakeLocks
	leaving error
}

func newFakeAgent() *fakeAgent {
	a := &fakeAgent{changed: make(chan struct{}), ready: true}
	a.status = api.Status{
		AsOf:    time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		Verdict: api.Verdict{OK: true, Text: "3 of 3 peers alive"},
		Node:    api.StatusNode{Name: "a", Version: "1.0.0", State: "alive", Mode: "agent"},
		Cluster: api.StatusCluster{Size: 3, Alive: 3, HeartbeatLimitMS: 2000},
		Locks:   api.StatusLocks{Backend: api.LockBackend{Kind: "redis", Addr: "127.0.0.1:6379", Up: true}},
	}
	for i, name := range []string{"a", "b", "c"} {
		a.members.Members = append(a.members.Members, api.Member{
			Name: name, Instance: fmt.Sprintf("%016x", i+1), Addr: fmt.Sprintf("10.0.0.%d:7946", i+1),
			Self: name == "a", State: "alive", Eligible: true, Version: "1.0.0",
			Since: a.status.AsOf.Add(-time.Hour), Tags: map[string]string{"zone": "z" + name},
		})
	}
	a.members.Index = 3
	return a
}

// change runs f with the agent's state and wakes whoever waits.
func (a *fakeAgent) change(f func(*fakeAgent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
	close(a.changed)
	a.changed = make(chan struct{})
}

// emit adds an event about a member and moves the members' index.
func (a *fakeAgent) emit(typ, text string) {
	a.change(func(a *fakeAgent) {
		a.members.Index++
		a.status.Events.Seq++
		a.events = append(a.events, api.Event{Seq: a.status.Events.Seq, Type: typ, At: time.Now().UTC(), Text: text})
	})
}

func (a *fakeAgent) setState(name, state string) {
	a.change(func(a *fakeAgent) {
		a.members.Members = slices.Clone(a.members.Members)
		for i := range a.members.Members {
			if m := &a.members.Members[i]; m.Name == name {
				m.State, m.Eligible = state, state == "alive"
			}
		}
	})
}

func (a *fakeAgent) Status(context.Context) api.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *fakeAgent) Members() api.Members {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.members
}

// await returns when done, asked with a.mu held, says so.
func (a *fakeAgent) await(ctx context.Context, done func() bool) error {
	for {
		a.mu.Lock()
		ok, changed := done(), a.changed
		a.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *fakeAgent) MembersChanged(ctx context.Context, index uint64) error {
	return a.await(ctx, func() bool { return a.members.Index > index })
}

func (a *fakeAgent) Events(ctx context.Context, since uint64) ([]api.Event, error) {
	var out []api.Event
	err := a.await(ctx, func() bool {
		if since < a.oldest {
			out = append(out, api.Event{Seq: a.oldest, Type: "reset", Text: "events are gone"})
		}
		for _, e := range a.events {
			if e.Seq > since && e.Seq > a.oldest {
				out = append(out, e)
			}
		}
		return len(out) > 0
	})
	return out, err
}

func (a *fakeAgent) Next(q httpapi.NextQuery) (api.Next, error) {
	if a.next == nil {
		return api.Next{Policy: "round_robin", Peers: []api.NextPeer{{Name: "b"}}}, nil
	}
	return a.next(q)
}

func (a *fakeAgent) Locks(ctx context.Context) (api.Locks, error) {
	if a.lock != nil {
		return a.lock(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locks, nil
}

func (a *fakeAgent) Join(ctx context.Context, addrs []string) api.JoinResult {
	if a.join != nil {
		return a.join(ctx, addrs)
	}
	return api.JoinResult{Joined: addrs}
}

func (a *fakeAgent) Forget(name string) error {
	if name != "gone" {
		return api.NewProblem(404, api.KindNoMember, "nobody is called "+name, "")
	}
	return nil
}

func (a *fakeAgent) Leave() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left++
	return a.leaving
}

func (a *fakeAgent) Ready() (bool, []api.Check) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready, a.checks
}

func (a *fakeAgent) Live() error { return a.live }

// memListener is a listener of in-memory connections: like those of a network
// it has deadlines, and it works where time is simulated.
type memListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7980} }

func (l *memListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- addressed{server, l.Addr()}:
		return client, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// addressed is a pipe with the address of its listener.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (c addressed) LocalAddr() net.Addr { return c.addr }

// endpoint is a Server under test and the way to it.
type endpoint struct {
	t      testing.TB
	server *httpapi.Server
	tcp    *memListener
	socket *memListener
	http   *http.Client
	local  *http.Client // through the socket
}

// start serves a on in-memory listeners; set changes the configuration.
func start(t testing.TB, a httpapi.Agent, set ...func(*httpapi.Config)) *endpoint {
	t.Helper()
	e := &endpoint{t: t, tcp: newMemListener(), socket: newMemListener()}
	cfg := httpapi.Config{TCP: e.tcp, Socket: e.socket, Addr: "127.0.0.1:7980", Version: "1.0.0"}
	for _, f := range set {
		f(&cfg)
	}
	s, err := httpapi.Start(cfg, a)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	e.server = s
	e.http, e.local = clientOf(e.tcp), clientOf(e.socket)
	t.Cleanup(e.close)
	return e
}

func clientOf(l *memListener) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (e *endpoint) close() {
	e.http.CloseIdleConnections()
	e.local.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.server.Close(ctx); err != nil {
		e.t.Errorf("close: %v", err)
	}
}

// answer is a response, read to its end.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends one request; headers are "Name: value".
func (e *endpoint) ask(c *http.Client, method, target, body string, headers ...string) answer {
	e.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, "http://localhost:7980"+target, r)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, target, err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "" {
			continue
		}
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("%s %s: read: %v", method, target, err)
	}
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

func (e *endpoint) get(target string, headers ...string) answer {
	e.t.Helper()
	return e.ask(e.http, http.MethodGet, target, "", headers...)
}

// raw opens a connection and writes text on it.
func (e *endpoint) raw(text string) (net.Conn, *bufio.Reader) {
	e.t.Helper()
	c, err := e.tcp.dial(e.t.Context())
	if err != nil {
		e.t.Fatalf("dial: %v", err)
	}
	e.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		e.t.Fatalf("write: %v", err)
	}
	return c, bufio.NewReader(c)
}
