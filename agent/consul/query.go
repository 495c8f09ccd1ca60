package consul

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// jitter is the part of a wait that may come on top of it.
	jitter = 16
)

// query is a request's parameters. Those that only tell how fresh or how pretty
// an answer should be are passed over, as is what nobody knows: so does Consul.
type query struct {
	index    uint64
	wait     time.Duration
	passing  bool
	tags     []string // all of them, sorted
	nodeMeta []string // KEY:VALUE, all of them, sorted
	near     string
}

// unknownHere change what an answer means, and are refused.
var unknownHere = []string{"filter", "peer", "sg", "next-token", "kind"}

func parseQuery(r *http.Request, datacenter string) (query, error) {
	var q query
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, refuse(http.StatusBadRequest, "Invalid query: %v", err)
	}
	for _, name := range unknownHere {
		if v.Get(name) != "" {
			return q, refuse(http.StatusBadRequest, "Invalid query: peer does not know %q; leave it out", name)
		}
	}
	for _, name := range []string{"ns", "partition"} {
		if s := v.Get(name); s != "" && s != "default" {
			return q, refuse(http.StatusBadRequest, "Invalid query: %s %q: there is only the default one", name, s)
		}
	}
	if dc := v.Get("dc"); dc != "" && dc != datacenter {
		return q, refuse(http.StatusInternalServerError, "No path to datacenter: %q; this one is %q", dc, datacenter)
	}
	if s := v.Get("index"); s != "" {
		if q.index, err = strconv.ParseUint(s, 10, 64); err != nil {
			return q, refuse(http.StatusBadRequest, "Invalid index")
		}
	}
	if s := v.Get("wait"); s != "" {
		if q.wait, err = time.ParseDuration(s); err != nil || q.wait < 0 {
			return q, refuse(http.StatusBadRequest, "Invalid wait time")
		}
	}
	if v.Has("passing") {
		q.passing = true
		if s := v.Get("passing"); s != "" {
			if q.passing, err = strconv.ParseBool(s); err != nil {
				return q, refuse(http.StatusBadRequest, "Invalid value for ?passing")
			}
		}
	}
	for _, m := range v["node-meta"] {
		if !strings.Contains(m, ":") {
			return q, refuse(http.StatusBadRequest, "Invalid node-meta %q: want KEY:VALUE", m)
		}
	}
	q.tags, q.nodeMeta, q.near = sorted(v["tag"]), sorted(v["node-meta"]), v.Get("near")
	return q, nil
}

func sorted(in []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(in)))
}

// patience is how long to wait for a change.
func (q query) patience() time.Duration {
	d := q.wait
	if d == 0 {
		d = defaultWait
	}
	d = min(d, maxWait)
	return d + rand.N(d/jitter+1)
}

// key names the answer that q asks for at path, however it is sorted and however
// long the client waits.
func (q query) key(path string) string {
	return fmt.Sprintf("%s %t %q %q", path, q.passing, q.tags, q.nodeMeta)
}

// lets says whether q's filters let n through.
func (q query) lets(n Node) bool {
	for _, kv := range q.nodeMeta {
		k, want, _ := strings.Cut(kv, ":")
		if got, ok := n.Tags[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// tagged says whether tags has all that q asks for. Consul does not mind case.
func (q query) tagged(tags []string) bool {
	for _, want := range q.tags {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, want) }) {
			return false
		}
	}
	return true
}

// refusal is why a request is not answered.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, a ...any) error {
	return &refusal{status, fmt.Sprintf(format, a...)}
}
