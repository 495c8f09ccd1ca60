package core

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// parseMember reads "5 web 1 alive prev 4": instance, name, last byte of the address,
// state.
func parseMember(t testing.TB, s string) (rec Rec) {
	f := strings.Fields(s)
	var host, prev int
	if _, err := fmt.Sscan(strings.Join(f[:3], " "), &rec.ID, &rec.Name, &host); err != nil {
		t.Fatalf("member %q: %v", s, err)
	}
	if len(f) == 6 {
		fmt.Sscan(f[5], &prev)
	}
	rec.Prev, rec.Addr = ID(prev), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(host)}), 7000)
	rec.Epoch, rec.State = 1, parseRec(t, "1 "+f[3]).State
	return rec
}

// permutations calls f with each order of 0 to n-1.
func permutations(n int, f func(order []int)) {
	var rec func(order []int)
	rec = func(order []int) {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if !slices.Contains(order, i) {
				rec(append(slices.Clone(order), i))
			}
		}
	}
	rec(nil)
}

// Each row is a set of members and what is shown of them, in whatever order they
// come, all at once or one by one: the instance, its state, ! if another live one
// has its name, and - if that one is the earlier.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		why     string
		members []string
		want    string
	}{
		{"different names", []string{"5 a 1 alive", "6 b 2 alive"}, "5 alive, 6 alive"},
		{"the earliest of a name is eligible", []string{"5 a 1 alive", "6 a 2 alive", "7 a 3 alive"}, "5 alive !, 6 alive !-, 7 alive !-"},
		{"the earliest that is alive", []string{"5 a 1 suspect", "6 a 2 alive", "7 a 3 alive"}, "5 suspect, 6 alive !, 7 alive !-"},
		{"names differ in case", []string{"5 a 1 alive", "6 A 2 alive"}, "5 alive, 6 alive"},
		{"a later start at the same address", []string{"5 a 1 alive", "6 a 1 alive"}, "6 alive"},
		{"of another name", []string{"5 a 1 alive", "6 b 1 alive"}, "6 alive"},
		{"of three, the last", []string{"5 a 1 alive", "6 a 1 alive", "7 a 1 alive"}, "7 alive"},
		{"a start that names its predecessor", []string{"5 a 1 alive", "6 a 2 alive prev 5"}, "6 alive"},
		{"by a clock that is behind", []string{"6 a 1 alive", "5 a 2 alive prev 6"}, "5 alive"},
		{"at the same address", []string{"6 a 1 alive", "5 a 1 alive prev 6"}, "5 alive"},
		{"of another name", []string{"5 a 1 alive", "6 b 2 alive prev 5"}, "6 alive"},
		{"two that name one another both live", []string{"5 a 1 alive prev 6", "6 a 2 alive prev 5"}, "5 alive !, 6 alive !-"},
		{"a failed one is replaced too", []string{"5 a 1 failed", "6 a 1 alive"}, "6 alive"},
		{"a failed one replaces too", []string{"5 a 1 alive", "6 a 1 failed"}, "6 failed"},
		{"a forgotten one does not", []string{"5 a 1 alive", "6 a 1 forgotten"}, "5 alive"},
		{"a failed one beside a live one of its name is not shown", []string{"5 a 1 failed", "6 a 2 alive"}, "6 alive"},
		{"nor one that left", []string{"5 a 1 left", "6 a 2 alive"}, "6 alive"},
		{"nor if it was the later", []string{"5 a 1 alive", "6 a 2 failed"}, "5 alive"},
		{"of those that are gone the last is shown", []string{"5 a 1 failed", "6 a 2 left", "7 a 3 failed"}, "7 failed"},
		{"beside a suspect", []string{"5 a 1 failed", "6 a 2 suspect"}, "6 suspect"},
		{"a suspect is shown beside a live one", []string{"5 a 1 suspect", "6 a 2 alive"}, "5 suspect, 6 alive"},
		{"a forgotten one is not shown", []string{"5 a 1 forgotten", "6 b 2 replaced"}, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			permutations(len(tt.members), func(order []int) {
				for _, together := range []bool{true, false} {
					r := newRig(t, 3)
					shown := map[ID]bool{}
					follow := func(out *Output) { // what the changes make of the view is what is shown
						for _, ch := range out.Changes {
							shown[ch.Peer] = ch.Kind != Dropped && ch.Kind != Replaces
						}
					}
					var recs []Rec
					for _, i := range order {
						recs = append(recs, parseMember(t, tt.members[i]))
					}
					if together {
						follow(r.step(News{Recs: recs}))
					} else {
						for i := range recs {
							follow(r.step(News{Recs: recs[i : i+1]}))
						}
					}
					var got []string
					for _, row := range r.byID {
						in, ok := r.Shown(row.ID)
						if row.ID < 1000 && ok != shown[row.ID] {
							t.Errorf("order %v: shown %v, and the changes say %v", order, ok, shown[row.ID])
						}
						if row.ID >= 1000 || !ok {
							continue
						}
						s := fmt.Sprint(row.ID, " ", in.Shown, " ", map[bool]string{true: "!"}[in.Conflict], map[bool]string{true: "-"}[in.Shadowed])
						got = append(got, strings.TrimSpace(s))
					}
					if got := strings.Join(got, ", "); got != tt.want {
						t.Errorf("order %v, together %v: got %q, want %q", order, together, got, tt.want)
					}
				}
			})
		})
	}
}

// Two live instances that replace each other come to terms: each contradicts a few
// times, and both are shown.
func TestReplacedAndAlive(t *testing.T) {
	for _, tt := range []struct{ why, self, other string }{
		{"a copy of its data", "5 a 1 alive", "6 a 2 alive prev 5"},
		{"a clock that was ahead", "5 a 1 alive", "6 a 1 alive"},
	} {
		c := New(Config{Self: parseMember(t, tt.self), ForgetAfter: time.Hour}, time.Hour)
		other := parseMember(t, tt.other)
		now := time.Hour
		for range 20 {
			now += denyEvery / 4
			c.Step(now, News{From: other.ID, Recs: []Rec{other}})
			replaced := c.export(c.self)
			replaced.State = Replaced
			c.Step(now, News{From: other.ID, Recs: []Rec{replaced}})
		}
		if c.self.State != Alive || c.self.Prev != other.ID {
			t.Errorf("%s: %v with predecessor %d, want alive and %d", tt.why, c.self.State, c.self.Prev, other.ID)
		}
		if c.self.Epoch > 7 {
			t.Errorf("%s: contradicted %d times in five seconds, want once a second", tt.why, c.self.Epoch-1)
		}
	}
}

// A forgotten name is forgotten for all; whoever lives is not.
func TestForget(t *testing.T) {
	r := newRig(t, 3)
	var recs []Rec
	for _, s := range []string{"5 a 1 failed", "6 a 2 left", "7 b 3 failed", "8 c 4 alive", "9 d 5 suspect"} {
		recs = append(recs, parseMember(t, s))
	}
	r.step(News{Recs: recs})
	for name, want := range map[string][2]bool{"a": {true, true}, "A": {false, true}, "b": {true, true}, "c": {true, false}, "d": {true, false}, "e": {false, true}} {
		if known, gone := r.Departed(name); known != want[0] || gone != want[1] {
			t.Errorf("%s: known %v, gone %v, want %v", name, known, gone, want)
		}
	}
	r.sends = nil
	for _, name := range []string{"a", "c", "d", r.self.Name} {
		r.step(Forget{Name: name})
	}
	for id, want := range map[ID]State{5: Forgotten, 6: Forgotten, 7: Failed, 8: Alive, 9: Suspect, r.self.ID: Alive} {
		if got := r.rows[id].State; got != want {
			t.Errorf("%d: got %v, want %v", id, got, want)
		}
	}
	for i := 1; i < 3; i++ {
		if n := newsTo(r.sends, recOf(i).ID, 5); n == nil || n.State != Forgotten {
			t.Errorf("member %d is told %+v, want that 5 is forgotten", i, n)
		}
	}
	if known, _ := r.Departed("a"); known {
		t.Error("a forgotten name is known")
	}
}

// A name that differs in case from another is warned of once.
func TestNamesInCase(t *testing.T) {
	r := newRig(t, 3)
	warnings := 0
	for _, s := range []string{"5 web 1 alive", "6 Web 2 alive", "6 Web 2 suspect", "5 web 1 suspect"} {
		out := r.step(News{Recs: []Rec{parseMember(t, s)}})
		for _, l := range out.Logs {
			if l.Level == LogWarn {
				warnings++
			}
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings, want 1", warnings)
	}
}
