package consul_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/peerhq/peer/agent/consul"
)

// fake is a source that a test changes: three nodes, and what it puts on them.
type fake struct {
	mu       sync.Mutex
	changed  chan struct{} // closed at a change
	nodes    []consul.Node
	services map[string][]consul.Instance
	index    uint64            // of all
	since    map[string]uint64 // when a service changed last
	reads    int
	why      error // it is not ready
}

func newFake() *fake {
	f := &fake{changed: make(chan struct{}), services: map[string][]consul.Instance{}, index: 1, since: map[string]uint64{}}
	for i, name := range []string{"a", "b", "c"} {
		f.nodes = append(f.nodes, consul.Node{
			Name: name, IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Port: 7946, Self: i == 0, Tags: map[string]string{"zone": "z" + strconv.Itoa(i%2)},
		})
	}
	return f
}

// set changes where a service runs; a nil list takes it away.
func (f *fake) set(service string, list ...consul.Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	f.since[service] = f.index
	if list == nil {
		delete(f.services, service)
	} else {
		f.services[service] = list
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// on is a service on the n-th node.
func (f *fake) on(n int, edit func(i *consul.Instance)) consul.Instance {
	i := consul.Instance{Node: f.nodes[n], Port: 80, Weight: 1}
	if edit != nil {
		edit(&i)
	}
	return i
}

func (f *fake) at(service string) uint64 {
	if f.services[service] == nil {
		return f.index
	}
	return f.since[service]
}

func (f *fake) wait(ctx context.Context, now func() uint64, index uint64) error {
	for {
		f.mu.Lock()
		at, changed := now(), f.changed
		f.mu.Unlock()
		if at != index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fake) Datacenter() string { return "peer" }
func (f *fake) Version() string    { return "1.2.3" }
func (f *fake) Ready() error       { return f.why }

func (f *fake) Nodes() ([]consul.Node, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return slices.Clone(f.nodes), f.index
}

func (f *fake) NodesChanged(ctx context.Context, index uint64) error {
	return f.wait(ctx, func() uint64 { return f.index }, index)
}

func (f *fake) Services() ([]consul.Service, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	var out []consul.Service
	for name, list := range f.services {
		s := consul.Service{Name: name}
		for _, i := range list {
			s.Tags = append(s.Tags, i.Tags...)
		}
		slices.Sort(s.Tags)
		s.Tags = slices.Compact(s.Tags)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b consul.Service) int { return len(a.Name) - len(b.Name) })
	return out, f.index
}

func (f *fake) Instances(service string) ([]consul.Instance, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return slices.Clone(f.services[service]), f.at(service)
}

func (f *fake) ServicesChanged(ctx context.Context, service string, index uint64) error {
	return f.wait(ctx, func() uint64 {
		if service == "" {
			return f.index
		}
		return f.at(service)
	}, index)
}

// reply is an answer to a read.
type reply struct {
	status int
	index  uint64
	body   string
	header http.Header
}

func ask(t testing.TB, h http.Handler, path string) reply {
	t.Helper()
	return askContext(t, t.Context(), h, path)
}

func askContext(t testing.TB, ctx context.Context, h http.Handler, path string) reply {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/"+path, nil))
	r := reply{status: w.Code, body: w.Body.String(), header: w.Header()}
	if w.Code == http.StatusOK {
		var err error
		if r.index, err = strconv.ParseUint(w.Header().Get("X-Consul-Index"), 10, 64); err != nil || r.index == 0 {
			t.Errorf("%s: the index is %q", path, w.Header().Get("X-Consul-Index"))
		}
		if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %s %q", path, w.Header().Get("Content-Type"), r.body)
		}
	}
	return r
}

// at is the path with an index to wait for.
func (r reply) at(path string) string { return fmt.Sprintf("%s&index=%d", path, r.index) }
