package web

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Snapshot is what the page shows: answers of one agent, taken together.
type Snapshot struct {
	Status  api.Status
	Members api.Members
	Locks   api.Locks
	// LocksProblem says why there are no Locks, or is nil.
	LocksProblem *api.Problem
	LocksAge     time.Duration // of Locks and LocksProblem
	Events       []api.Event   // oldest first
}

// View is the page in words. Its JSON is for the page's own script and changes
// with it.
type View struct {
	Title    string    `json:"title"`
	Verdict  Verdict   `json:"verdict"`
	Node     string    `json:"node"`
	Label    string    `json:"label"`
	Dev      bool      `json:"dev"`
	AsOf     Moment    `json:"as_of"`
	Counts   []Count   `json:"counts"`
	Facts    []Fact    `json:"facts"`
	Warnings []Warning `json:"warnings"`
	Members  Members   `json:"members"`
	Locks    Locks     `json:"locks"`
	Events   []Event   `json:"events"` // newest first
	Checks   []Check   `json:"checks"`
	Seeds    []Seed    `json:"seeds"`
	Agent    []Fact    `json:"agent"`
}

// Moment is an instant, for machines and for people.
type Moment struct {
	ISO  string `json:"iso"`
	Text string `json:"text"`
}

// Verdict is the sentence on top.
type Verdict struct {
	State   string   `json:"state"` // ok or bad
	Text    string   `json:"text"`
	Reasons []Reason `json:"reasons"`
}

// Reason is one reason of the verdict.
type Reason struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Count is how many members are in one state.
type Count struct {
	Key   string `json:"key"`
	State string `json:"state"`
	N     string `json:"n"`
	Zero  bool   `json:"zero"`
}

// Fact is a term with its value. Tone is "" or bad.
type Fact struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Note  string `json:"note"`
	Tone  string `json:"tone"`
}

// Warning is what an operator should know, and the way to mend it.
type Warning struct {
	Key  string `json:"key"`
	Code string `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix"`
}

// New makes the view of s. Durations count up to s.Status.AsOf.
func NewView(s Snapshot) View {
	st := s.Status
	now := st.AsOf
	v := View{
		Title:    title(st),
		Verdict:  verdict(st.Verdict),
		Node:     plain(st.Node.Name),
		Label:    plain(st.Cluster.Label),
		Dev:      st.Node.Mode == "dev",
		AsOf:     Moment{ISO: now.UTC().Format(time.RFC3339), Text: now.UTC().Format("15:04:05 UTC")},
		Counts:   counts(st.Cluster),
		Facts:    facts(st),
		Warnings: []Warning{},
		Members:  members(s.Members, st, now),
		Locks:    locks(s, now),
		Events:   events(s.Events, now),
		Checks:   checks(st.Checks),
		Seeds:    seeds(st.Cluster.Seeds, now),
		Agent:    agentFacts(st, now),
	}
	for i, w := range st.Warnings {
		v.Warnings = append(v.Warnings, Warning{Key: key(i, w.Code), Code: plain(w.Code), Text: plain(w.Text), Fix: plain(w.Fix)})
	}
	return v
}

// key tells rows apart that may say the same.
func key(i int, s string) string { return strconv.Itoa(i) + " " + s }

func title(st api.Status) string {
	mark := "✓"
	if !st.Verdict.OK {
		mark = "✕"
	}
	return fmt.Sprintf("%s %d of %d alive · %s", mark, st.Cluster.Alive, st.Cluster.Size, plain(st.Node.Name))
}

func verdict(v api.Verdict) Verdict {
	out := Verdict{State: "ok", Text: plain(v.Text), Reasons: []Reason{}}
	if !v.OK {
		out.State = "bad"
	}
	for i, r := range v.Reasons {
		out.Reasons = append(out.Reasons, Reason{Key: key(i, r), Text: plain(r)})
	}
	return out
}

func counts(c api.StatusCluster) []Count {
	out := make([]Count, 0, 4)
	for _, n := range []struct {
		state string
		n     int
	}{{"alive", c.Alive}, {"suspect", c.Suspect}, {"failed", c.Failed}, {"left", c.Left}} {
		out = append(out, Count{Key: n.state, State: n.state, N: strconv.Itoa(n.n), Zero: n.n == 0})
	}
	if n := len(c.Unseen); n > 0 {
		out = append(out, Count{Key: "unseen", State: "not seen", N: strconv.Itoa(n)})
	}
	return out
}

// facts are the figures beside the counts.
func facts(st api.Status) []Fact {
	handed := Fact{Key: "handed out", Value: plural(st.Selector.Eligible, "peer"), Note: "in turn, by the selector"}
	if st.Selector.Eligible == 0 {
		handed.Tone = "bad"
	}
	return []Fact{handed, lockFact(st.Locks), redisFact(st.Locks.Backend), gossipFact(st.Cluster)}
}

func lockFact(l api.StatusLocks) Fact {
	return Fact{Key: "locks here", Value: fmt.Sprintf("%d held", l.Held), Note: fmt.Sprintf("%d waiting", l.Waiting)}
}

func redisFact(b api.LockBackend) Fact {
	f := Fact{Key: "redis", Note: plain(b.Addr)}
	switch {
	case b.Kind == "none":
		f.Value, f.Note = "not set up", "locks need one: redis.url"
	case !b.Up:
		f.Value, f.Tone = "down", "bad"
		f.Note = cmp.Or(plain(b.LastError), f.Note)
	default:
		f.Value = "up"
		if b.LatencyMS != nil {
			f.Value = "up, " + millis(*b.LatencyMS)
		}
		if b.Kind == "embedded" {
			f.Note = "embedded, nothing is kept"
		}
	}
	return f
}

func gossipFact(c api.StatusCluster) Fact {
	f := Fact{Key: "gossip", Value: "well", Note: "in plain text"}
	if c.HealthScore > 0 {
		f.Value, f.Tone = fmt.Sprintf("strained (%d)", c.HealthScore), "bad"
	}
	if c.Encrypted {
		f.Note = strings.TrimSpace("encrypted " + plain(c.KeyFingerprint))
	}
	return f
}

func agentFacts(st api.Status, now time.Time) []Fact {
	n := st.Node
	out := []Fact{
		{Key: "name", Value: n.Name},
		{Key: "instance", Value: n.Instance},
		{Key: "state", Value: n.State},
		{Key: "gossip", Value: n.Addr},
		{Key: "http", Value: n.HTTPAddr},
		{Key: "version", Value: n.Version},
		{Key: "pid", Value: strconv.Itoa(n.PID)},
		{Key: "started", Value: n.StartedAt.UTC().Format("2006-01-02 15:04:05 UTC"), Note: ago(now, n.StartedAt)},
		{Key: "cluster", Value: cmp.Or(st.Cluster.Label, "no label")},
	}
	for i := range out {
		out[i].Value = cmp.Or(plain(out[i].Value), "–")
	}
	return out
}

// Check is one condition of readiness.
type Check struct {
	Key   string `json:"key"`
	Name  string `json:"name"`
	State string `json:"state"` // pass, warn, fail
	Text  string `json:"text"`
}

func checks(cs []api.Check) []Check {
	out := make([]Check, len(cs))
	for i, c := range cs {
		state := c.Status
		if !slices.Contains([]string{"pass", "warn", "fail"}, state) {
			state = "fail" // never a tick on what is not understood
		}
		out[i] = Check{Key: key(i, c.Name), Name: plain(c.Name), State: state, Text: plain(c.Text)}
	}
	return out
}

// Seed is one address to join by.
type Seed struct {
	Key   string `json:"key"`
	Addr  string `json:"addr"`
	State string `json:"state"` // pass, fail or new
	Text  string `json:"text"`
}

func seeds(ss []api.StatusSeed, now time.Time) []Seed {
	out := make([]Seed, len(ss))
	for i, s := range ss {
		out[i] = Seed{Key: key(i, s.Addr), Addr: plain(s.Addr), State: "new", Text: "not tried yet"}
		answered := ""
		if s.LastOKAt != nil {
			answered = "answered " + ago(now, *s.LastOKAt)
			out[i].State, out[i].Text = "pass", answered
		}
		if s.LastError != "" {
			out[i].State, out[i].Text = "fail", plain(s.LastError)
			if answered != "" {
				out[i].Text += "; " + answered
			}
		}
	}
	return out
}

// Event is one line of the feed.
type Event struct {
	Key   string `json:"key"`
	At    Moment `json:"at"`
	Type  string `json:"type"`
	State string `json:"state"` // what the mark beside it shows
	Text  string `json:"text"`
}

// eventStates is the mark of each type; the others have none.
var eventStates = map[string]string{
	"joined": "alive", "alive": "alive", "redis_up": "pass", "lock_acquired": "held", "lock_released": "freed",
	"suspect": "suspect", "failed": "failed", "left": "left", "forgotten": "left",
	"lock_lost": "fail", "redis_down": "fail", "reset": "warn",
}

func events(es []api.Event, now time.Time) []Event {
	out := make([]Event, 0, len(es))
	for _, e := range slices.Backward(es) {
		at := e.At.UTC()
		text := at.Format("15:04:05")
		if now.Sub(at) > 12*time.Hour {
			text = at.Format("2 Jan 15:04")
		}
		out = append(out, Event{
			Key:   strconv.FormatUint(e.Seq, 10) + " " + e.Type,
			At:    Moment{ISO: at.Format(time.RFC3339), Text: text},
			Type:  plain(strings.ReplaceAll(e.Type, "_", " ")),
			State: cmp.Or(eventStates[e.Type], "note"),
			Text:  plain(cmp.Or(e.Text, e.Type)),
		})
	}
	return out
}

// pathOf returns the JSON route of one thing under a collection.
func pathOf(collection, name string) string { return collection + "/" + api.PathSegment(name) }
