package httpapi

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWildcard(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"*", "abc", true},
		{"?", "", false},
		{"?", "ü", true},
		{"a*c", "abbc", true},
		{"a*c", "abbd", false},
		{"*b*", "abc", true},
		{"**a", "a", true},
		{"a?c*", "abc", true},
		{"a", "ab", false},
		{strings.Repeat("*a", 30) + "b", strings.Repeat("a", 200), false}, // at once, not in a year
	} {
		if got := wildcard(tt.pattern, tt.s); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func TestNearest(t *testing.T) {
	for got, want := range map[string]string{
		nearestOf("stat", []string{"state", "tag"}):          "state",
		nearestOf("tags", []string{"state", "tag"}):          "tag",
		nearestOf("colour", []string{"state", "tag"}):        "",
		nearestOf("x", []string{"a"}) + "!":                  "!",
		nearestOf(strings.Repeat("a", 1<<20), []string{"a"}): "",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzQuery feeds every parser of query strings: each either refuses with a
// fix, or returns values within their bounds that are the same when read again.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"", "state=alive,left&tag=a:b:c&name=n*&index=3&wait=5s", "count=3&exclude=a,b&exclude=c&policy=p&key=k&service=s",
		"since=18446744073709551615", "verbose", "%zz", "a=1;b=2", "count=-1", "count=9999999999999999999", "tag=:", "wait=1e9h&index=0",
		"tag=a:b&tag=a:b", "index=%00", "name=" + strings.Repeat("*", 500),
	} {
		f.Add(s)
	}
	var all []string
	for _, rt := range routes {
		all = append(all, rt.params...)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, p := parseQuery(raw, all)
		if p != nil {
			if p.Status != 400 || p.Fix == "" || p.Detail == "" {
				t.Fatalf("refused with %+v", p)
			}
			return
		}
		for name := range q.Values {
			if !slices.Contains(all, name) {
				t.Fatalf("let %q through", name)
			}
		}
		if mf, p := q.memberFilter(); p == nil {
			for _, s := range mf.states {
				if !slices.Contains(memberStates, s) {
					t.Fatalf("state %q", s)
				}
			}
			wildcard(mf.name, "a name to hold against")
		} else if p.Fix == "" {
			t.Fatalf("no fix: %+v", p)
		}
		if n, p := q.next(); p == nil {
			if n.Count < 1 || n.Count > maxCount {
				t.Fatalf("count %d", n.Count)
			}
			again, p := parseQuery(n.Values().Encode(), []string{"service", "policy", "key", "tag", "exclude", "count"})
			if p != nil {
				t.Fatalf("%q does not parse again: %+v", n.Values().Encode(), p)
			}
			if m, p := again.next(); p != nil || m.Count != n.Count || m.Key != n.Key || len(m.Tags) != len(n.Tags) || !slices.Equal(m.Exclude, n.Exclude) {
				t.Fatalf("%+v became %+v, %v", n, m, p)
			}
		}
		if b, p := q.blocking(); p == nil && (b.wait < 0 || b.wait > 10*time.Minute) {
			t.Fatalf("wait %v", b.wait)
		}
		if _, p := q.flag("verbose"); p != nil && p.Fix == "" {
			t.Fatalf("no fix: %+v", p)
		}
	})
}

// FuzzHost checks that no Host header but a known name or a loopback address is
// let in, however it is written.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"localhost", "127.0.0.1:80", "[::1]", "evil", "localhost.evil", "evil:7980", "[::ffff:127.0.0.1]:1", "127.1", "0", "127.0.0.1.", "[", "]:", "localhost:80:80", "LOCALHOST."} {
		f.Add(s)
	}
	l, err := newHostList("10.0.0.1:7980", []string{"peer.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !l.allows(host, nil) || host == "" {
			return
		}
		// A browser that resolves this name must end up at ourselves.
		u, err := url.Parse("http://" + host + "/")
		if err != nil {
			return // no browser sends it
		}
		switch name := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); {
		case name == "localhost", name == "10.0.0.1", name == "peer.example", strings.HasPrefix(name, "127."), strings.HasSuffix(name, ":1"), strings.Contains(name, ":ffff:127."), strings.HasPrefix(name, "::ffff:7f"):
		default:
			t.Errorf("host %q was let in", host)
		}
	})
}
