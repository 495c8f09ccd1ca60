package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/web"
)

var asOf = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// snapshot is a cluster in which every text that comes from afar is s.
func snapshot(s string) web.Snapshot {
	ago := asOf.Add(-90 * time.Second)
	ms := 0.5
	return web.Snapshot{
		Status: api.Status{
			AsOf:     asOf,
			Verdict:  api.Verdict{Text: s, Reasons: []string{s}},
			Node:     api.StatusNode{Name: s, Instance: s, Addr: s, HTTPAddr: s, Version: s, Mode: "dev", State: s, StartedAt: ago},
			Cluster:  api.StatusCluster{Label: s, Size: 3, Alive: 1, Encrypted: true, KeyFingerprint: s, Seeds: []api.StatusSeed{{Addr: s, LastError: s}, {Addr: s, LastOKAt: &ago}}, Unseen: []api.StatusUnseen{{Name: s, Addr: s, AbsentMS: 3000, Since: ago}}},
			Locks:    api.StatusLocks{Backend: api.LockBackend{Kind: "redis", Addr: s, LastError: s, LatencyMS: &ms}},
			Checks:   []api.Check{{Name: s, Status: s, Text: s}},
			Warnings: []api.Warning{{Code: s, Text: s, Fix: s}},
			Events:   api.StatusEvents{Seq: 1},
		},
		Members: api.Members{Members: []api.Member{
			{Name: s, Instance: s, Addr: s, State: s, Cause: s, Since: ago, Version: s, RTTMS: &ms, Tags: map[string]string{s: s}, Services: []api.Service{{Name: s, Health: s}}},
			{Name: s, Self: true, State: "alive"},
		}},
		Locks: api.Locks{Locks: []api.Lock{
			{Name: s, Holder: &api.LockHolder{Node: s, Command: s, Since: &ago}, Waiters: []api.LockWaiter{{Node: s}}},
			{Name: s},
		}},
		Events: []api.Event{{Seq: 1, Type: s, At: ago, Text: s}},
	}
}

func render(t testing.TB, s web.Snapshot) string {
	t.Helper()
	p, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Render(&b, web.NewView(s)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// shape lists the elements of a document, and the names of their attributes:
// all that text must not be able to change.
func shape(t testing.TB, doc string) []string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		var s strings.Builder
		s.WriteString(n.Data)
		for _, a := range n.Attr {
			s.WriteString(" " + a.Key)
			if a.Key == "href" && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("a link to %q", a.Val)
			}
		}
		out = append(out, s.String())
	}
	return out
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{"x", "<script>alert(1)</script>", `"><img src=x onerror=y>`, "javascript:alert(1)", "' onclick='x", "{{.}}", "</title>", "-->", "\x00\xff\u202e\n", "/../../x", "]]>", "</template>"} {
		f.Add(s)
	}
	want := shape(f, render(f, snapshot("a")))
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" || s == "alive" || s == "left" || s == "suspect" || s == "failed" {
			return // these mean something
		}
		got := shape(t, render(t, snapshot(s)))
		if !reflect.DeepEqual(got, want) {
			for i := range got {
				if i >= len(want) || got[i] != want[i] {
					t.Fatalf("%q changes the page: element %d is %q", s, i, got[i])
				}
			}
			t.Fatalf("%q shortens the page to %d elements of %d", s, len(got), len(want))
		}
	})
}

func TestHiddenCharactersAreShown(t *testing.T) {
	page := render(t, snapshot("a\u202eb\u200bc\x07d\u00a0e\nf\ufeffg"))
	for _, r := range "\u202e\u200b\x07\ufeff" {
		if n := strings.Count(visible(page), string(r)); n > 0 {
			t.Errorf("%q is on the page %d times", r, n)
		}
	}
	if !strings.Contains(page, `a\u{202e}b\u{200b}c\u{7}d`) {
		t.Error("the hidden characters are not named")
	}
}

// visible returns the text of a page without its attributes.
func visible(page string) string { return regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, "") }

func TestViewOfMembers(t *testing.T) {
	s := snapshot("x")
	s.Status.Node.Version = "1.0"
	s.Status.Cluster.HeartbeatLimitMS = 2000
	ms := 1500.0
	s.Members.Members = []api.Member{
		{Name: "z", State: "left", Cause: "left", Version: "0.9", HeartbeatAgeMS: 99},
		{Name: "a", State: "alive", Self: true, Eligible: true, Version: "1.0", HeartbeatAgeMS: 5, RTTMS: &ms, Since: asOf.Add(-75 * time.Second)},
		{Name: "c", State: "suspect", Cause: "overdue", HeartbeatAgeMS: 2500, Version: "1.0"},
		{Name: "b", State: "alive", Eligible: false, Cause: "conflict", Version: "1.1", HeartbeatAgeMS: 300, RTTMS: &ms},
		{Name: "d", State: "suspect", Cause: "unreachable", Addr: "10.0.0.4:7946", HeartbeatAgeMS: 300},
		{Name: "e", State: "suspect", Cause: "deaf", HeartbeatAgeMS: 300},
		{Name: "y", State: "failed", Cause: "crashed", HeartbeatAgeMS: 61000},
	}
	var got strings.Builder
	for _, m := range web.NewView(s).Members.Rows {
		got.WriteString(fmt.Sprintf("%s %s cause=%s self=%v skew=%v held=%v beats=%v age=%s rtt=%s\n", m.Name, m.State, m.Cause, m.Self, m.Skew, m.Held, m.Beats, m.Age, m.RTT))
	}
	const want = `y failed cause=crashed self=false skew=false held=false beats=false age=1 min 1 s rtt=–
c suspect cause=overdue self=false skew=false held=false beats=true age=2.5 s rtt=–
d suspect cause=unreachable at 10.0.0.4:7946 self=false skew=false held=false beats=true age=0.3 s rtt=–
e suspect cause=hears nobody self=false skew=false held=false beats=true age=0.3 s rtt=–
a alive cause= self=true skew=false held=false beats=false age=– rtt=–
b alive cause=conflict self=false skew=true held=true beats=true age=0.3 s rtt=1.5 s
z left cause= self=false skew=false held=false beats=false age=– rtt=–
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// Members of an earlier run that are missing are counted, named and told how to be
// dropped.
func TestViewOfTheUnseen(t *testing.T) {
	s := snapshot("x")
	s.Members.Members = s.Members.Members[:1]
	s.Status.Cluster.Unseen = []api.StatusUnseen{{Name: "n4", Addr: "10.0.0.4:7946", AbsentMS: 75000}}
	v := web.NewView(s)
	if c := v.Counts[len(v.Counts)-1]; c.State != "not seen" || c.N != "1" || v.Members.Alone {
		t.Errorf("counts %+v, alone %v", v.Counts, v.Members.Alone)
	}
	if page := visible(render(t, s)); !strings.Contains(page, "n4 at 10.0.0.4:7946, absent for 1 min 15 s") || !strings.Contains(page, "peer forget NAME") {
		t.Error("n4 is not on the page")
	}
	s.Status.Cluster.Unseen = nil
	if v := web.NewView(s); len(v.Counts) != 4 || v.Members.Unseen == nil || len(v.Members.Unseen) != 0 {
		t.Errorf("nobody is missing: %+v, %+v", v.Counts, v.Members.Unseen)
	}
}

// What keeps a service from being handed out is said in words, not by colour
// alone.
func TestViewOfServices(t *testing.T) {
	s := snapshot("x")
	s.Members.Members = []api.Member{{Name: "a", State: "alive", Services: []api.Service{
		{Name: "plain", Port: 1},
		{Name: "well", Port: 2, Health: "passing"},
		{Name: "warns", Port: 3, Health: "warning"},
		{Name: "sick", Port: 4, Health: "critical"},
		{Name: "drains", Port: 5, Draining: true},
		{Name: "both", Health: "critical", Draining: true},
		{Name: "garbage", Health: "perhaps"},
	}}}
	var got []string
	for _, tag := range web.NewView(s).Members.Rows[0].Tags {
		got = append(got, tag.Kind+": "+tag.Text)
	}
	want := []string{
		"service: plain:1", "service: well:2", "standby: warns:3 warning", "unwell: sick:4 critical",
		"standby: drains:5 draining", "unwell: both critical draining", "unwell: garbage perhaps",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestViewOfLocks(t *testing.T) {
	s := snapshot("x")
	since := asOf.Add(-12 * time.Minute)
	s.Members.Members = []api.Member{{Name: "b", State: "failed"}, {Name: "a", State: "alive"}}
	s.Locks.Locks = []api.Lock{
		{Name: "deploy/eu", Fence: 18446744073709551615, TTLMS: 15000, ExpiresInMS: 8200, Holder: &api.LockHolder{Node: "b", PID: 7, Command: "make", Since: &since}, Waiters: []api.LockWaiter{{Node: "a", PID: 9, Position: 1}, {Node: "c", Position: 2}}},
		{Name: "w", Waiters: []api.LockWaiter{{Node: "a", Position: 1}}},
	}
	v := web.NewView(s)
	l := v.Locks.Rows[0]
	if l.Node != "b" || l.Process != "make, pid 7, for 12 min" || l.Dead != "failed" || l.Fence != "18446744073709551615" ||
		l.Left != "8.2 s of 15 s" || l.Link != "/v1/locks/deploy%2Feu" || l.Waiters[0].Text != "a 9" || l.Waiters[1].Text != "c" {
		t.Errorf("held: %+v", l)
	}
	if l := v.Locks.Rows[1]; l.State != "freed" || l.Node != "nobody yet" || l.Left != "–" || l.Dead != "" {
		t.Errorf("waited for: %+v", l)
	}
	s.LocksProblem = api.NewProblem(502, api.KindRedis, "refuses the password", "mend it")
	if l := web.NewView(s).Locks; !strings.Contains(l.Problem, "refuses the password") || l.Fix != "mend it" || l.Tone != "bad" || l.Empty || len(l.Rows) != 0 {
		t.Errorf("trouble: %+v", l)
	}
	s.LocksProblem = api.NewProblem(503, api.KindNoRedis, "", "set redis.url")
	if l := web.NewView(s).Locks; l.Tone != "" || l.Problem == "" {
		t.Errorf("no redis: %+v", l)
	}
}

// TestNeverATickOnWhatIsNotWell checks the marks that say all is well.
func TestNeverATickOnWhatIsNotWell(t *testing.T) {
	s := snapshot("x")
	if v := web.NewView(s); v.Verdict.State != "bad" || !strings.HasPrefix(v.Title, "✕") || v.Checks[0].State != "fail" ||
		v.Seeds[0].State != "fail" || v.Facts[0].Tone != "bad" || v.Facts[2].Tone != "bad" {
		t.Errorf("view %+v", v)
	}
	s.Status.Verdict.OK = true
	if v := web.NewView(s); v.Verdict.State != "ok" || !strings.HasPrefix(v.Title, "✓") {
		t.Errorf("verdict %+v", v.Verdict)
	}
}

func TestJSONHasNoNulls(t *testing.T) {
	raw, err := json.Marshal(web.NewView(web.Snapshot{}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "null") {
		t.Errorf("%s", raw)
	}
}

func TestPageIsAccessible(t *testing.T) {
	page := render(t, snapshot("x"))
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	attr := func(n *html.Node, key string) string {
		for _, a := range n.Attr {
			if a.Key == key {
				return a.Val
			}
		}
		return ""
	}
	live := 0
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("id %s twice", id)
			}
			ids[id] = true
		}
		if attr(n, "aria-live") != "" {
			live++
		}
		switch n.Data {
		case "html":
			if attr(n, "lang") == "" {
				t.Error("no language")
			}
		case "th":
			if attr(n, "scope") == "" {
				t.Error("a th without scope")
			}
		case "table":
			if n.FirstChild.NextSibling == nil || n.FirstChild.NextSibling.Data != "caption" {
				t.Error("a table without caption")
			}
		case "input":
			if attr(n, "aria-label") == "" {
				t.Error("an input without label")
			}
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s has %s, which the content policy forbids", n.Data, a.Key)
			}
		}
	}
	if live != 1 {
		t.Errorf("%d live regions, want one: the verdict", live)
	}
	for n := range root.Descendants() {
		if ref := attr(n, "aria-labelledby"); ref != "" && !ids[ref] {
			t.Errorf("aria-labelledby names %s, which is not there", ref)
		}
	}
}

// TestContrast reads the colours of both schemes from the style sheet.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, _ := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "*, *::before")
	for name, text := range map[string]string{"light": light, "dark": dark} {
		colour := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colour[m[1]] = m[2]
		}
		for _, ground := range []string{"paper", "raised", "suspect-wash", "failed-wash"} {
			for _, ink := range []string{"ink", "soft", "accent", "alive", "suspect", "failed", "left"} {
				if colour[ink] == "" || colour[ground] == "" {
					t.Fatalf("%s: no colour %s or %s", name, ink, ground)
				}
				if c := contrast(t, colour[ink], colour[ground]); c < 4.5 {
					t.Errorf("%s: %s on %s has a contrast of %.2f, want 4.5", name, ink, ground, c)
				}
			}
		}
	}
}
