package agent_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// in returns a member that came into its state 12 s before noon.
func in(name string, s cluster.State, why cluster.Cause) cluster.Member {
	return cluster.Member{Name: name, State: s, Cause: why, Addr: netip.MustParseAddrPort("10.0.0.9:7946"), Since: noon.Add(-12 * time.Second)}
}

func itself(m cluster.Member) cluster.Member {
	m.Self = true
	return m
}

func remembered(names ...string) (out []cluster.Remembered) {
	for _, n := range names {
		out = append(out, cluster.Remembered{Name: n, Addr: netip.MustParseAddrPort("10.0.0.9:7946")})
	}
	return out
}

func TestVerdict(t *testing.T) {
	a, b := itself(in("a", cluster.Alive, "")), in("b", cluster.Alive, "")
	for _, tt := range []struct {
		members []cluster.Member
		unseen  []cluster.Remembered
		ok      bool
		want    string
	}{
		{[]cluster.Member{a}, nil, true, "alone: 1 peer alive; no locks"},
		{[]cluster.Member{a, b}, nil, true, "2 of 2 peers alive; no locks"},
		{[]cluster.Member{a, b}, remembered("n5", "n4"), false, "2 of 4 peers alive; n4, n5 remembered, not seen since this start; no locks"},
		{[]cluster.Member{a}, remembered("z", "y", "x", "w", "v"), false, "1 of 6 peers alive; v, w, x and 2 more remembered, not seen since this start; no locks"},
		{[]cluster.Member{a}, []cluster.Remembered{{Name: "gone", Left: true}}, true, "alone: 1 peer alive; no locks"},
		{[]cluster.Member{a, in("b", cluster.Failed, cluster.CauseUnreachable)}, nil, false, "1 of 2 peers alive; b failed (unreachable) for 12s; no locks"},
		{[]cluster.Member{a, in("b", cluster.Suspect, cluster.CauseUnreachable)}, nil, false, "1 of 2 peers alive; b suspect: unreachable at 10.0.0.9:7946, for 12s; no locks"},
		{[]cluster.Member{a, in("b", cluster.Suspect, cluster.CauseDeaf)}, nil, false, "1 of 2 peers alive; b suspect: hears nobody, for 12s; no locks"},
		{[]cluster.Member{a, in("b", cluster.Suspect, cluster.CauseMute)}, nil, false, "1 of 2 peers alive; b suspect: is not heard, for 12s; no locks"},
		{[]cluster.Member{a, in("b", cluster.Suspect, cluster.CauseLossy)}, nil, false, "1 of 2 peers alive; b suspect: loses packets, for 12s; no locks"},
		{[]cluster.Member{a, in("b", cluster.Suspect, cluster.CauseStalled)}, nil, false, "1 of 2 peers alive; b suspect: was held up, for 12s; no locks"},
		// This peer's own trouble comes first.
		{
			[]cluster.Member{in("a", cluster.Failed, cluster.CauseCrashed), itself(in("b", cluster.Suspect, cluster.CauseLossy))},
			nil, false, "0 of 2 peers alive; this peer is out of rotation: loses packets, for 12s; a failed (crashed) for 12s; no locks",
		},
	} {
		v := &cluster.View{Members: tt.members}
		s := api.Status{Locks: api.StatusLocks{Backend: api.LockBackend{Kind: "none"}}}
		s.Cluster.Unseen = agent.Unseen(tt.unseen, noon)
		s.Cluster.Alive = v.Count(cluster.Alive)
		s.Cluster.Size = len(v.Members) + len(s.Cluster.Unseen)
		if got := agent.Verdict(s, v, noon); got.OK != tt.ok || got.Text != tt.want {
			t.Errorf("got  %v %q\nwant %v %q", got.OK, got.Text, tt.ok, tt.want)
		}
	}
}

// The feed, and who asks why a peer is not handed out, get the same words.
func TestEventsAndExplanations(t *testing.T) {
	for _, tt := range []struct {
		m          cluster.Member
		event, why string
	}{
		{in("b", cluster.Suspect, cluster.CauseOverdue), "b is out of rotation: overdue", "suspect: overdue"},
		{in("b", cluster.Suspect, cluster.CauseUnreachable), "b is out of rotation: unreachable at 10.0.0.9:7946", "suspect: unreachable at 10.0.0.9:7946"},
		{in("b", cluster.Suspect, cluster.CauseDeaf), "b is out of rotation: hears nobody", "suspect: hears nobody"},
	} {
		if got := agent.MemberText(cluster.Event{Type: cluster.Overdue, Member: tt.m}); got != tt.event {
			t.Errorf("event: got %q, want %q", got, tt.event)
		}
		if got := agent.Explain(tt.m); got != tt.why {
			t.Errorf("why: got %q, want %q", got, tt.why)
		}
	}
	if got := agent.Explain(in("b", cluster.Failed, cluster.CauseUnreachable)); got != "failed (unreachable)" {
		t.Errorf("of a failed one: %q", got)
	}
}

func TestJoined(t *testing.T) {
	itself := errors.New("it leads back to this peer itself: give the address of another one")
	refused := errors.New("join 10.0.0.2:7946: connection refused: no agent listens there")
	unknown := errors.New(`resolve seed "host-c": no such host: check the name`)
	many := errors.New("64 addresses, none answers; first: join 10.0.0.2:7946: no answer")
	seeds := func(errs ...error) (out []cluster.SeedStat) {
		for i, err := range errs {
			out = append(out, cluster.SeedStat{Addr: fmt.Sprintf("s%d:7946", i+1), Err: err})
		}
		return out
	}
	for _, tt := range []struct {
		stats        cluster.Stats
		status, want string
	}{
		{cluster.Stats{}, "pass", "alone, and told of no seeds"},
		{cluster.Stats{Unseen: []cluster.Remembered{{Name: "b", Left: true}}}, "pass", "alone, and told of no seeds"},
		{cluster.Stats{Unseen: remembered("b", "c")}, "fail", "none of 2 remembered peers has answered since this start: start one of them, or drop those that will not come back with `peer forget NAME`"},
		{cluster.Stats{Unseen: remembered("b", "c"), Joined: true}, "pass", "1 peers known"},
		{cluster.Stats{Seeds: seeds(refused), Joined: true}, "pass", "1 peers known"},
		{cluster.Stats{Seeds: []cluster.SeedStat{{LastOK: noon}}}, "pass", "1 peers known"},
		{cluster.Stats{Seeds: seeds(nil, nil)}, "fail", "none of 2 seeds has answered yet"},
		{cluster.Stats{Seeds: seeds(refused)}, "fail", "the only seed does not answer: join 10.0.0.2:7946: connection refused: no agent listens there"},
		{cluster.Stats{Seeds: seeds(itself, refused)}, "fail", "none of 2 seeds answers: s1:7946: it leads back to this peer itself; s2:7946: connection refused"},
		{cluster.Stats{Seeds: seeds(unknown, many, nil)}, "fail", "none of 3 seeds answers: s1:7946: no such host; s2:7946: 64 addresses, none answers"},
		{cluster.Stats{Seeds: seeds(refused, refused, refused, refused, refused)}, "fail", "none of 5 seeds answers: s1:7946: connection refused; s2:7946: connection refused; s3:7946: connection refused; and 2 more"},
	} {
		got := agent.CheckJoined(&cluster.View{Members: make([]cluster.Member, 1)}, tt.stats)
		if got.Status != tt.status || got.Text != tt.want {
			t.Errorf("got  %s %q\nwant %s %q", got.Status, got.Text, tt.status, tt.want)
		}
	}
}

func TestNamesThatDifferInCaseOnly(t *testing.T) {
	warned := func(ms ...cluster.Member) (out []string) {
		for _, w := range agent.NameCase(&cluster.View{Members: ms}) {
			if w.Code != "name_case" || w.Fix == "" {
				t.Errorf("%+v", w)
			}
			out = append(out, w.Text)
		}
		return out
	}
	if got := warned(in("Web", cluster.Alive, ""), in("web", cluster.Suspect, ""), in("db", cluster.Alive, "")); len(got) != 1 ||
		got[0] != "the names of the live peers Web and web differ in case only, and DNS takes them for one" {
		t.Errorf("of Web and web: %q", got)
	}
	if got := warned(in("Web", cluster.Alive, ""), in("web", cluster.Failed, ""), in("x", cluster.Alive, ""), in("x", cluster.Alive, "")); got != nil {
		t.Errorf("of one that is dead, and of two of one name: %q", got)
	}
}

// An agent that was restarted while another is away says so on every face, and is
// not ready, until somebody answers or the other is forgotten.
func TestRestartTellsWhoIsMissing(t *testing.T) {
	disk := &faulty{files: map[string][]byte{}}
	kept := func(c *agent.Config) { c.DataDir, c.Seams.FS = "/data", disk }
	a := start(t, kept)
	b := start(t, func(c *agent.Config) { c.Name, c.Join = "b", []string{a.GossipAddr()} })
	c := start(t, func(c *agent.Config) { c.Name, c.Join = "c", []string{a.GossipAddr()} })
	eventually(t, "a knows two", func() bool { return a.Status(t.Context()).Cluster.Alive == 3 })
	if err := c.Stop(t.Context()); err != nil { // one that left is not missed
		t.Fatal(err)
	}
	eventually(t, "a knows that c left", func() bool { return a.Status(t.Context()).Cluster.Left == 1 })
	if got := kindOf(client(t, a).Forget(t.Context(), "b")); got != "409 member-not-gone" {
		t.Errorf("to forget one that lives: %s", got)
	}
	at := b.GossipAddr()
	b.Kill()
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	a = start(t, kept)
	ca := client(t, a)
	s, err := ca.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := s.Cluster.Unseen
	if len(u) != 1 || u[0].Name != "b" || u[0].Addr != at || !u[0].Since.Equal(s.Node.StartedAt) || s.Cluster.Size != 2 {
		t.Fatalf("size %d, unseen %+v", s.Cluster.Size, u)
	}
	if ok, _ := a.Ready(); ok || s.Verdict.OK || !slices.Contains(s.Verdict.Reasons, "b remembered, not seen since this start") {
		t.Errorf("ready %v, %+v", ok, s.Verdict)
	}
	for _, want := range []string{
		"peer_members_unseen 1", "peer_ready 0", "peer_suspicions_total 0", "peer_flaps_total 0", "peer_stalls_total ",
		"peer_stall_seconds_total ", "peer_table_entries ", "peer_log_lines_dropped_total 0",
	} {
		if !slices.ContainsFunc(metrics(t, a), func(line string) bool { return len(line) >= len(want) && line[:len(want)] == want }) {
			t.Errorf("no metric %s", want)
		}
	}
	if got, err := ca.ForgetMember(t.Context(), "b"); err != nil || got != (api.Forgotten{Name: "b", Scope: api.ScopeAgent}) {
		t.Errorf("forgotten: %+v, %v", got, err)
	}
	eventually(t, "b is not missed any more", func() bool {
		ok, _ := a.Ready()
		s := a.Status(t.Context())
		return ok && s.Verdict.OK && len(s.Cluster.Unseen) == 0
	})
	if got := kindOf(ca.Forget(t.Context(), "b")); got != "404 no-such-member" {
		t.Errorf("to forget it again: %s", got)
	}
}

// A member that is gone is forgotten by everybody.
func TestForgetHoldsForTheCluster(t *testing.T) {
	a := start(t, nil)
	b := start(t, func(c *agent.Config) { c.Name, c.Join = "b", []string{a.GossipAddr()} })
	c := start(t, func(c *agent.Config) { c.Name, c.Join = "c", []string{a.GossipAddr()} })
	eventually(t, "all know all", func() bool {
		return a.Status(t.Context()).Cluster.Alive == 3 && b.Status(t.Context()).Cluster.Alive == 3
	})
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := func(x *agent.Agent) int { return x.Status(t.Context()).Cluster.Left }
	eventually(t, "both know that c left", func() bool { return left(a) == 1 && left(b) == 1 })
	if got, err := client(t, a).ForgetMember(t.Context(), "c"); err != nil || got.Scope != api.ScopeCluster {
		t.Fatalf("forgotten: %+v, %v", got, err)
	}
	eventually(t, "b forgets it too", func() bool { return left(a) == 0 && left(b) == 0 })
}
