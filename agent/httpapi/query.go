package httpapi

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// A query is a request's parameters, all of them known to its route.
type query struct{ url.Values }

// parseQuery refuses what does not parse and what the route does not know: a
// misspelt filter must not look like an empty one.
func parseQuery(raw string, known []string) (query, *api.Problem) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return query{}, badRequest("escape special characters as %XX", "the query does not parse: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if slices.Contains(known, name) {
			continue
		}
		fix := "leave it out: this path takes no parameters"
		if near := nearestOf(name, known); near != "" {
			fix = fmt.Sprintf("did you mean %q?", near)
		} else if len(known) > 0 {
			fix = "use " + strings.Join(known, ", ")
		}
		return query{}, badRequest(fix, "unknown parameter %q", name)
	}
	return query{v}, nil
}

// one returns a parameter that may be given once, or "".
func (q query) one(name string) (string, *api.Problem) {
	vs := q.Values[name]
	if len(vs) > 1 {
		return "", badRequest("give it once", "parameter %q is given %d times", name, len(vs))
	}
	if len(vs) == 0 {
		return "", nil
	}
	return vs[0], nil
}

// list returns a parameter that may be given several times, or with commas.
func (q query) list(name string) []string {
	var out []string
	for _, v := range q.Values[name] {
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				out = append(out, item)
			}
		}
	}
	return out
}

// tags returns tag=KEY:VALUE parameters. A value may have colons.
func (q query) tags() (map[string]string, *api.Problem) {
	out := map[string]string{}
	for _, t := range q.Values["tag"] {
		k, v, ok := strings.Cut(t, ":")
		if !ok || k == "" {
			return nil, badRequest("write tag=KEY:VALUE", "tag %q is not KEY:VALUE", t)
		}
		if old, dup := out[k]; dup && old != v {
			return nil, badRequest("ask for one value of a tag", "tag %q is asked for as %q and as %q", k, old, v)
		}
		out[k] = v
	}
	return out, nil
}

// number returns a parameter that is a number from 0, and whether it is given.
func (q query) number(name string) (uint64, bool, *api.Problem) {
	s, p := q.one(name)
	if p != nil || !q.Has(name) {
		return 0, false, p
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, false, badRequest("write "+name+"=42", "%s %q is not a number from 0 up", name, s)
	}
	return n, true, nil
}

// flag returns a parameter that is true when given without a value.
func (q query) flag(name string) (bool, *api.Problem) {
	s, p := q.one(name)
	if p != nil || !q.Has(name) {
		return false, p
	}
	if s == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, badRequest("write ?"+name, "%s %q is neither true nor false", name, s)
	}
	return b, nil
}

const (
	defaultWait = 30 * time.Second
	maxWait     = 10 * time.Minute
)

// A blockingQuery waits for members newer than index.
type blockingQuery struct {
	on    bool
	index uint64
	wait  time.Duration
}

func (q query) blocking() (blockingQuery, *api.Problem) {
	b := blockingQuery{wait: defaultWait}
	var p *api.Problem
	if b.index, b.on, p = q.number("index"); p != nil {
		return b, p
	}
	s, p := q.one("wait")
	if p != nil || !q.Has("wait") {
		return b, p
	}
	if !b.on {
		return b, badRequest("give index=N too, from the X-Peer-Index header of the last answer", "wait is given without index")
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxWait {
		return b, badRequest("write wait=30s", "wait %q is not a duration from 0s to %v", s, maxWait)
	}
	b.wait = d
	return b, nil
}

// memberStates are the states that a filter may name.
var memberStates = []string{"alive", "suspect", "failed", "left"}

// A memberFilter lets members through. The zero filter lets all.
type memberFilter struct {
	states  []string
	tags    map[string]string
	service string
	name    string // with * and ? as wildcards
}

func (q query) memberFilter() (memberFilter, *api.Problem) {
	f := memberFilter{states: q.list("state")}
	for _, s := range f.states {
		if !slices.Contains(memberStates, s) {
			fix := "use " + strings.Join(memberStates, ", ")
			if near := nearestOf(s, memberStates); near != "" {
				fix = fmt.Sprintf("did you mean %q?", near)
			}
			return f, badRequest(fix, "%q is no member state", s)
		}
	}
	var p *api.Problem
	if f.tags, p = q.tags(); p != nil {
		return f, p
	}
	if f.service, p = q.one("service"); p != nil {
		return f, p
	}
	f.name, p = q.one("name")
	return f, p
}

const maxCount = 1000

func (q query) next() (NextQuery, *api.Problem) {
	n := NextQuery{Exclude: q.list("exclude"), Count: 1}
	var p *api.Problem
	for _, f := range []struct {
		name string
		to   *string
	}{{"service", &n.Service}, {"policy", &n.Policy}, {"key", &n.Key}} {
		if *f.to, p = q.one(f.name); p != nil {
			return n, p
		}
	}
	if n.Tags, p = q.tags(); p != nil {
		return n, p
	}
	n.ServiceTags = q.list("service_tag")
	if n.Explain, p = q.flag("explain"); p != nil {
		return n, p
	}
	count, given, p := q.number("count")
	if p != nil {
		return n, p
	}
	if given {
		if count < 1 || count > maxCount {
			return n, badRequest(fmt.Sprintf("write a count from 1 to %d", maxCount), "count %d is out of range", count)
		}
		n.Count = int(count)
	}
	return n, nil
}
