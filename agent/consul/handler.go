package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// maxBlocked leaves some of the connections that a server keeps to those who
	// do not wait.
	maxBlocked   = 200
	writeTimeout = 30 * time.Second // of an answer that was waited for
)

// handler answers from a source.
type handler struct {
	source  Source
	epoch   uint64 // on top of every index, so that it rises over a restart
	index   indexer
	blocked atomic.Int64
}

// New returns the routes, which answer from source.
func New(source Source) *http.ServeMux {
	h := &handler{source: source, epoch: uint64(time.Now().UnixMilli())}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(r *http.Request, q query) reading{
		"/v1/catalog/services":          h.services,
		"/v1/catalog/service/{service}": h.catalogService,
		"/v1/catalog/nodes":             h.nodes,
		"/v1/catalog/node/{node}":       h.catalogNode,
		"/v1/catalog/datacenters":       h.datacenters,
		"/v1/health/service/{service}":  h.healthService,
		"/v1/health/checks/{service}":   h.healthChecks,
		"/v1/health/node/{node}":        h.healthNode,
		"/v1/health/state/{state}":      h.healthState,
		"/v1/agent/self":                h.self,
		"/v1/status/leader":             h.leader,
		"/v1/status/peers":              h.peers,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, f) })
	}
	mux.HandleFunc("/", h.nothing)
	return mux
}

// reading is how an answer is made.
type reading struct {
	read func() answer
	// changed blocks until the source's index is not index any more; nil when
	// nobody waits for another answer.
	changed func(ctx context.Context, index uint64) error
	err     error // why there is none
}

// answer is what was read at one time.
type answer struct {
	doc    any    // in a stable order
	source uint64 // index of what it was made of
	// nearest, when not nil, returns doc in the order that was asked for: by what
	// changes all the time, and wakes nobody.
	nearest func() any
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, f func(r *http.Request, q query) reading) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, refuse(http.StatusMethodNotAllowed, "method %s not allowed: peer answers reads only", r.Method))
		return
	}
	q, err := parseQuery(r, h.source.Datacenter())
	if err != nil {
		h.fail(w, err)
		return
	}
	rd := f(r, q)
	if rd.err != nil {
		h.fail(w, rd.err)
		return
	}
	if err := h.source.Ready(); err != nil && rd.changed != nil {
		// In the words that clients know for: stay with what you have, try again.
		w.Header().Set("X-Consul-Knownleader", "false")
		h.fail(w, refuse(http.StatusInternalServerError, "No cluster leader: %v", err))
		return
	}
	ctx := r.Context()
	if q.index > 0 && rd.changed != nil {
		if h.blocked.Add(1) > maxBlocked {
			h.blocked.Add(-1)
			w.Header().Set("Retry-After", "1")
			h.fail(w, refuse(http.StatusTooManyRequests, "%d reads wait for a change already", maxBlocked))
			return
		}
		defer h.blocked.Add(-1)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.patience())
		defer cancel()
	}
	a, body, index := h.await(ctx, q, q.key(r.URL.Path), rd)
	if a.nearest != nil {
		body = encode(a.nearest())
	}
	h.send(w, body, index)
}

// await returns the answer when it is another than the client has, or when ctx
// is done. An index that is not ours is of an earlier life: it does not wait.
func (h *handler) await(ctx context.Context, q query, key string, rd reading) (a answer, body []byte, index uint64) {
	for {
		a := rd.read()
		body := encode(a.doc)
		index, ok := h.index.of(key, body, h.epoch+a.source)
		switch {
		case !ok:
			continue
		case q.index == 0, rd.changed == nil, index != q.index, ctx.Err() != nil:
			return a, body, index
		}
		if rd.changed(ctx, a.source) != nil {
			return a, body, index
		}
	}
}

func (h *handler) send(w http.ResponseWriter, body []byte, index uint64) {
	// A recorder of a test cannot time out, and says so.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	w.Header().Set("X-Consul-Knownleader", "true")
	w.Header().Set("X-Consul-Lastcontact", "0")
	w.Header().Set("X-Consul-Effective-Consistency", "stale")
	_, _ = w.Write(body) // a client that has gone wants no answer
}

// fail answers as Consul does: a line of text.
func (h *handler) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var r *refusal
	if errors.As(err, &r) {
		status = r.status
	}
	http.Error(w, err.Error(), status)
}

func (h *handler) nothing(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, refuse(http.StatusMethodNotAllowed, "peer answers reads only: register a service with `peer services register`, take a lock with `peer lock`"))
	case len(r.URL.Path) > 6 && r.URL.Path[:7] == "/v1/kv/":
		// 404 would mean that there is no such key.
		h.fail(w, refuse(http.StatusNotImplemented, "peer has no key-value store"))
	default:
		h.fail(w, refuse(http.StatusNotFound, "Invalid URL path: peer answers Consul's reads of services, nodes and health only"))
	}
}

func encode(doc any) []byte {
	b, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Errorf("encode answer: %w", err)) // these shapes always encode
	}
	return append(b, '\n')
}
