package balance_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
	"github.com/peerhq/peer/testcluster"
)

// farm is a service with peers whose answers a test sets, and a client of it.
type farm struct {
	*fakeAgent
	web *balance.Watch
	tr  *balance.Transport
	*ledger
}

// ledger notes what goes over the wire.
type ledger struct {
	mu   sync.Mutex
	hits []string // NAME METHOD BODY, as the peers saw them

	opened, closed atomic.Int64 // bodies of answers
}

func (l *ledger) note(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hits = append(l.hits, s)
}

// took returns what the peers have seen since it was last called.
func (l *ledger) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.hits
	l.hits = nil
	return out
}

// counting counts the bodies that its base hands out.
type counting struct {
	http.RoundTripper
	*ledger
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		c.opened.Add(1)
		resp.Body = &countedBody{ReadCloser: resp.Body, closed: &c.closed}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	once   sync.Once
	closed *atomic.Int64
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.closed.Add(1) })
	return b.ReadCloser.Close()
}

// newFarm runs one peer a, b, c … for each handler; nil refuses connections.
func newFarm(t *testing.T, edit func(*balance.Config), handlers ...http.HandlerFunc) *farm {
	t.Helper()
	f := &farm{fakeAgent: newFakeAgent(t), ledger: &ledger{}}
	var peers []string
	for i, h := range handlers {
		name := string(rune('a' + i))
		if h == nil {
			peers = append(peers, f.nobody(name))
			continue
		}
		peers = append(peers, f.peer(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			f.note(strings.TrimSpace(name + " " + r.Method + " " + string(body)))
			w.Header().Set("Peer", name)
			h(w, r)
		})))
	}
	f.set(peers...)
	f.web = f.watch(edit)
	if err := f.web.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.tr = balance.NewTransport(f.web)
	plain := &http.Transport{DialContext: f.host.DialContext}
	t.Cleanup(plain.CloseIdleConnections)
	f.tr.Base = counting{plain, f.ledger}
	return f
}

func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "%d by %s", status, w.Header().Get("Peer"))
	}
}

func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// send does one request and returns the answer's body, or the error.
func (f *farm) send(req *http.Request) (string, error) {
	resp, err := f.tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (f *farm) get() (string, error) { return f.send(request("GET", nil)) }

func request(method string, body io.Reader) *http.Request {
	r, err := http.NewRequest(method, "http://web/path?q=1", body)
	if err != nil {
		panic(err)
	}
	return r
}

// standing returns how the peer called name stands.
func (f *farm) standing(name string) selector.Standing[*balance.Peer] {
	f.t.Helper()
	for _, s := range f.web.Explain(selector.Want{}) {
		if s.ID == name {
			return s
		}
	}
	f.t.Fatalf("nobody is called %s", name)
	return selector.Standing[*balance.Peer]{}
}

// balanced fails when a body of an answer was not closed, or a turn not ended.
func (f *farm) balanced() {
	f.t.Helper()
	if o, c := f.opened.Load(), f.closed.Load(); o != c {
		f.t.Errorf("%d bodies of answers, and %d closed", o, c)
	}
	for _, s := range f.web.Explain(selector.Want{}) {
		if s.Load != 0 {
			f.t.Errorf("%s has %d turns in hand", s.ID, s.Load)
		}
	}
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { testcluster.Bubble(t, f) })
}

// closing counts how often it is closed.
type closing struct {
	io.Reader
	n atomic.Int64
}

func (c *closing) Close() error {
	c.n.Add(1)
	return nil
}

// keyOf returns a key that belongs to these peers in this order.
func keyOf(w *balance.Watch, order string) string {
	for i := 0; ; i++ {
		key := fmt.Sprint(i)
		var got []string
		for p := range w.Selector().Order(selector.Want{Key: key}) {
			got = append(got, p.Name)
		}
		if strings.HasPrefix(strings.Join(got, " "), order) {
			return key
		}
	}
}
