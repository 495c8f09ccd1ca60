package selector_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/selector"
)

var errRefused = errors.New("connection refused")

// handed returns who is handed out in n picks, sorted.
func handed[T any](t testing.TB, s *selector.Selector[T], n int, id func(T) string) []string {
	t.Helper()
	var out []string
	for range n {
		p, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(out, id(p)) {
			out = append(out, id(p))
		}
	}
	slices.Sort(out)
	return out
}

func expect(t testing.TB, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

func TestFailureCoolsDown(t *testing.T) {
	for _, policy := range []selector.Policy{selector.RoundRobin, selector.Weighted, selector.LeastLoaded, selector.Random, selector.ByKey, selector.Nearest} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Policy: policy})
				s.Set([]string{"a", "b", "c", "d"})
				all := func(when string, want ...string) {
					t.Helper()
					expect(t, when, handed(t, s, 300, itself), want...)
				}
				all("at first", "a", "b", "c", "d")
				s.Report("b", errRefused, 0)
				all("after a failure", "a", "c", "d")
				if got := slices.Collect(s.All()); len(got) != 4 || got[3] != "b" {
					t.Errorf("got walk %q, want b last", got)
				}

				time.Sleep(999 * time.Millisecond)
				all("just before the second is over", "a", "c", "d")
				time.Sleep(2 * time.Millisecond)
				all("when it is over", "a", "b", "c", "d")

				// Each failure in a row doubles it; those under way count as one.
				for i, wait := range []time.Duration{2, 4, 8, 16, 32, 32, 32} {
					s.Report("b", errRefused, 0)
					s.Report("b", errRefused, 0)
					time.Sleep(wait*time.Second - time.Millisecond)
					all(fmt.Sprintf("failure %d, before", i+2), "a", "c", "d")
					time.Sleep(2 * time.Millisecond)
					all(fmt.Sprintf("failure %d, after", i+2), "a", "b", "c", "d")
				}

				// A success ends it, and the row.
				s.Report("b", errRefused, 0)
				s.Report("b", nil, 0)
				all("after a success", "a", "b", "c", "d")
				s.Report("b", errRefused, 0)
				time.Sleep(1001 * time.Millisecond)
				all("a second after the first failure of a new row", "a", "b", "c", "d")
			})
		})
	}
}

// When more than half seem to fail, the fault is likely here.
func TestCoolingIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			n     int
			share float64
			want  int // still handed out when all have failed
		}{{1, 0, 1}, {2, 0, 1}, {3, 0, 2}, {10, 0, 5}, {10, 0.1, 9}, {10, 1, 10}, {3, 0.2, 3}, {10, -1, 10}} {
			s := selector.New(selector.Config[string]{ID: itself, MaxCooling: c.share})
			peers := names("p", c.n)
			s.Set(peers)
			for _, p := range peers {
				s.Report(p, errRefused, 0)
			}
			if got := len(handed(t, s, 20*c.n, itself)); got != c.want {
				t.Errorf("%d of %d with at most %v cooling: got %d handed out, want %d", c.n, c.n, c.share, got, c.want)
			}
		}
	})
}

// The cap is of all peers; a filtered few may all cool down, and are then handed
// out as such.
func TestAllOfAFewCoolDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[string]{ID: itself})
		s.Set([]string{"a1", "a2", "b1", "b2", "b3", "b4"})
		as := s.Where("a", func(p string) bool { return p[0] == 'a' })
		s.Report("a1", errRefused, 0)
		expect(t, "a1 cools", handed(t, as, 10, itself), "a2")
		time.Sleep(100 * time.Millisecond)
		as.Report("a2", errRefused, 0)
		expect(t, "both cool", handed(t, as, 10, itself), "a1", "a2")
		turn, err := as.Take(selector.Want{})
		if err != nil || turn.Tier != selector.Cooling {
			t.Errorf("got tier %v, %v, want cooling", turn.Tier, err)
		}
		turn.Done(nil, time.Millisecond) // it is back
		expect(t, "one is back", handed(t, as, 10, itself), turn.Peer)
		expect(t, "all", handed(t, s, 50, itself), append([]string{turn.Peer}, "b1", "b2", "b3", "b4")...)
	})
}

func TestCoolingMayBeOff(t *testing.T) {
	s := selector.New(selector.Config[string]{ID: itself, Cooldown: -1})
	s.Set([]string{"a", "b"})
	s.Report("a", errRefused, 0)
	expect(t, "off", handed(t, s, 10, itself), "a", "b")
}

// Reports of those who have gone, or came back as another, change nothing.
func TestLateReports(t *testing.T) {
	s := ofStrings("me")
	s.Set([]string{"a", "b", "c"})
	turn, err := s.Take(selector.Want{})
	if err != nil {
		t.Fatal(err)
	}
	s.Set(nil)
	s.Set([]string{"a", "b", "c"})
	turn.Done(errRefused, 0)
	s.Report("d", errRefused, 0)
	expect(t, "late", handed(t, s, 10, itself), "a", "b", "c")
}

func TestTiersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[backend]{
			ID:       byName,
			Seed:     "me",
			Standby:  func(b backend) bool { return b.standby },
			Self:     "b0",
			SelfRule: selector.SelfLast,
		})
		peers := backends(1, 1, 1, 1, 1)
		peers[4].standby = true
		s.Set(peers)
		s.Report(peers[1], errRefused, 0)
		time.Sleep(time.Millisecond)
		s.Report(peers[2], errRefused, 0)

		var tiers []selector.Tier
		var order []string
		for p, tier := range s.Order(selector.Want{}) {
			order, tiers = append(order, p.name), append(tiers, tier)
		}
		if !slices.IsSorted(tiers) || !slices.Equal(order[:3], []string{"b3", "b1", "b2"}) {
			t.Errorf("got order %q in tiers %v, want b3, then b1 and b2, which cool down, the earlier first", order, tiers)
		}

		var tried []string
		for i, want := range []selector.Tier{selector.Live, selector.Cooling, selector.Cooling, selector.LastResort, selector.LastResort} {
			turn, err := s.Take(selector.Want{Exclude: tried})
			if err != nil {
				t.Fatal(err)
			}
			if turn.Tier != want || slices.Contains(tried, turn.Peer.name) {
				t.Errorf("try %d after %q: got %s, %v, want another one that is %v", i, tried, turn.Peer.name, turn.Tier, want)
			}
			tried = append(tried, turn.Peer.name)
		}
		_, err := s.Take(selector.Want{Exclude: tried})
		var none *selector.NoMatchError
		if !errors.Is(err, selector.ErrNoMatch) || errors.Is(err, selector.ErrNoPeers) || !errors.As(err, &none) || *none != (selector.NoMatchError{Peers: 5, Matching: 5}) {
			t.Errorf("got %v when all are excluded, want a NoMatchError of 5", err)
		}
	})
}

func TestSelfRules(t *testing.T) {
	for _, c := range []struct {
		rule   selector.SelfRule
		peers  []string
		want   []string
		length int
	}{
		{selector.SelfIncluded, []string{"me", "a", "b"}, []string{"a", "b", "me"}, 3},
		{selector.SelfLast, []string{"me", "a", "b"}, []string{"a", "b"}, 3},
		{selector.SelfLast, []string{"me"}, []string{"me"}, 1},
		{selector.SelfNever, []string{"me", "a", "b"}, []string{"a", "b"}, 2},
		{selector.SelfNever, []string{"me"}, nil, 0},
	} {
		s := selector.New(selector.Config[string]{ID: itself, Self: "me", SelfRule: c.rule})
		s.Set(c.peers)
		if s.Len() != c.length {
			t.Errorf("rule %d with %q: got Len %d, want %d", c.rule, c.peers, s.Len(), c.length)
		}
		if c.want == nil {
			if _, err := s.Next(); !errors.Is(err, selector.ErrNoMatch) {
				t.Errorf("rule %d with %q: got %v, want ErrNoMatch", c.rule, c.peers, err)
			}
			continue
		}
		expect(t, fmt.Sprint("rule ", c.rule), handed(t, s, 30, itself), c.want...)
	}
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[string]{ID: itself, Seed: "me", SlowStart: 10 * time.Second})
		s.Set(names("p", 9))
		share := func() float64 {
			n := 0
			for range 9100 {
				if p, _ := s.Next(); p == "new" {
					n++
				}
			}
			return float64(n) / 910
		}
		s.Set(append(names("p", 9), "new"))
		last := 0.0
		for sec := range 12 {
			got := share()
			want := min(1, float64(1+sec*9/10)/10)
			want = want * 10 / (9 + want) // of ten
			if math.Abs(got-want) > 0.03 || got < last-0.01 {
				t.Errorf("%d s after it joined: got %.3f of a full share, want %.3f", sec, got, want)
			}
			last = got
			time.Sleep(time.Second)
		}
		if got := handed(t, s, 10, itself); len(got) != 10 {
			t.Errorf("got %d peers in ten turns at the end, want 10", len(got))
		}
	})
}

func TestHomeFirst(t *testing.T) {
	peers := func(home, away int) []backend {
		var out []backend
		for i := range home {
			out = append(out, backend{name: fmt.Sprint("h", i), zone: "here"})
		}
		for i := range away {
			out = append(out, backend{name: fmt.Sprint("f", i), zone: "there"})
		}
		return out
	}
	for _, c := range []struct {
		home, away, enough int
		fail               int     // peers at home that fail
		want               float64 // share of the turns that stays at home
	}{
		{3, 6, 0, 0, 1},
		{10, 10, 0, 3, 1},          // seven of ten are enough
		{10, 10, 0, 5, 5. / 7},     // five are not
		{0, 6, 0, 0, 0},            // nobody at home
		{6, 0, 0, 3, 1},            // nobody elsewhere
		{2, 4, 3, 0, 2. / 3},       // two of the three wanted
		{1, 4, 4, 0, 1. / 4},       //
		{4, 4, 3, 0, 1},            //
		{100, 100, 150, 0, 2. / 3}, //
	} {
		synctest.Test(t, func(t *testing.T) {
			s := selector.New(selector.Config[backend]{
				ID: byName, Seed: "me", Home: "here", HomeEnough: c.enough, MaxCooling: 1,
				Zone: func(b backend) string { return b.zone },
			})
			all := peers(c.home, c.away)
			s.Set(all)
			for _, p := range all[:c.fail] {
				s.Report(p, errRefused, 0)
			}
			const picks = 21_000
			home := 0
			turns := map[string]int{}
			for range picks {
				p, err := s.Next()
				if err != nil {
					t.Fatal(err)
				}
				turns[p.name]++
				if p.zone == "here" {
					home++
				}
			}
			if got := float64(home) / picks; math.Abs(got-c.want) > 0.01 {
				t.Errorf("%+v: got %.3f of the turns at home, want %.3f", c, got, c.want)
			}
			if got := s.Len(); got != c.home+c.away {
				t.Errorf("%+v: got Len %d", c, got)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	rtt := map[string]time.Duration{
		"a": 300 * time.Microsecond, "b": 400 * time.Microsecond, "c": 500 * time.Microsecond,
		"d": 2 * time.Millisecond, "e": 40 * time.Millisecond, "f": 0,
	}
	s := selector.New(selector.Config[string]{
		ID: itself, Policy: selector.Nearest,
		RTT: func(p string) time.Duration { return rtt[p] },
	})
	s.Set([]string{"f", "e", "d", "c", "b", "a"})
	expect(t, "nearest", handed(t, s, 30, itself), "a", "b", "c")
	if got := slices.Collect(s.All())[3:]; !slices.Equal(got, []string{"d", "e", "f"}) {
		t.Errorf("got %q after the nearest, want them by distance", got)
	}
	rtt["e"] = 10 * time.Microsecond
	s.Set([]string{"f", "e", "d"})
	expect(t, "after a change", handed(t, s, 30, itself), "e")
}

// Without round trips, those reported decide.
func TestNearestByReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := selector.New(selector.Config[string]{ID: itself, Policy: selector.Nearest})
		s.Set([]string{"a", "b", "c"})
		expect(t, "unknown", handed(t, s, 30, itself), "a", "b", "c")
		s.Report("a", nil, 5*time.Millisecond)
		s.Report("b", nil, 20*time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		expect(t, "c is not known yet", handed(t, s, 30, itself), "a", "c")
		s.Report("c", nil, 30*time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		expect(t, "all are known", handed(t, s, 30, itself), "a")
		for range 100 {
			s.Report("a", nil, 90*time.Millisecond)
		}
		time.Sleep(1100 * time.Millisecond)
		expect(t, "changed", handed(t, s, 30, itself), "b")
	})
}

// A turn given up is no load and no outcome.
func TestCancelledTurn(t *testing.T) {
	s := selector.New(selector.Config[string]{ID: itself, Seed: "me", Cooldown: time.Hour})
	s.Set([]string{"a", "b", "c", "d"})
	turn, err := s.Take(selector.Want{Exclude: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Report("d", errRefused, 0)
	turn.Cancel()
	for _, st := range s.Explain(selector.Want{}) {
		if st.Load != 0 {
			t.Errorf("%s has %d turns in hand", st.Peer, st.Load)
		}
		if st.Peer == "d" && (st.Strikes != 1 || st.Tier != selector.Cooling) {
			t.Errorf("d is %v after %d failures: who gives up does not tell of it", st.Tier, st.Strikes)
		}
	}
}
