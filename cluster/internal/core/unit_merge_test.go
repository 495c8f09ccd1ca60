package core

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// parseRec reads "2 suspect overdue": epoch, state, cause.
func parseRec(t testing.TB, s string) (rec Rec) {
	var state, cause string
	if n, _ := fmt.Sscan(s, &rec.Epoch, &state, &cause); n < 2 {
		t.Fatalf("record %q", s)
	}
	for st := Alive; st <= Replaced; st++ {
		if st.String() == state {
			rec.State = st
		}
	}
	for c := NoCause; c <= Deaf; c++ {
		if c.String() == cause {
			rec.Cause = c
		}
	}
	if rec.State == 0 || rec.Cause.String() != cause {
		t.Fatalf("record %q", s)
	}
	return rec
}

func formatRec(r *Rec) string {
	return strings.TrimSpace(fmt.Sprint(r.Epoch, " ", r.State, " ", r.Cause))
}

// apply makes rec what the row of the member says, as if it had always been so.
func (r *rig) apply(rec Rec) {
	if rec.worse(&r.about.Rec) {
		full := r.export(r.about)
		full.Epoch, full.State, full.Cause = rec.Epoch, rec.State, rec.Cause
		r.step(News{Recs: []Rec{full}})
	}
	r.sends = nil
}

// Each row is the record of a member here, the one that comes, what is made of it
// at once, and after askWait in which the member is silent or heard.
func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		have, got, how string // how: news, table of another, its own table
		heard          bool
		now, later     string
	}{
		// What is announced counts at once, if it is greater.
		{"1 alive", "1 suspect overdue", "news", true, "1 suspect overdue", "1 suspect overdue"},
		{"1 alive", "1 failed crashed", "news", true, "1 failed crashed", "1 failed crashed"},
		{"1 suspect overdue", "1 suspect deaf", "news", true, "1 suspect deaf", "1 suspect deaf"},
		{"1 suspect deaf", "1 suspect overdue", "news", true, "1 suspect deaf", "1 suspect deaf"},
		{"1 suspect overdue", "1 alive", "news", true, "1 suspect overdue", "1 suspect overdue"},
		{"1 suspect overdue", "2 alive", "news", true, "2 alive", "2 alive"},
		{"2 alive", "1 failed crashed", "news", true, "2 alive", "2 alive"},
		{"1 failed crashed", "2 alive", "news", true, "2 alive", "2 alive"},
		{"1 failed crashed", "2 suspect mute", "news", true, "2 suspect mute", "2 suspect mute"},
		{"1 failed crashed", "1 left", "news", true, "1 left", "1 left"},
		{"1 left", "1 failed crashed", "news", true, "1 left", "1 left"},
		{"1 left", "1 forgotten", "news", true, "1 forgotten", "1 forgotten"},
		{"1 replaced", "1 forgotten", "news", true, "1 replaced", "1 replaced"},
		{"1 replaced", "2 alive", "news", true, "2 alive", "2 alive"},

		// An old verdict in a table waits for the member's answer.
		{"1 alive", "1 suspect overdue", "table", false, "1 alive", "1 suspect overdue"},
		{"1 alive", "1 failed crashed", "table", false, "1 alive", "1 failed crashed"},
		{"1 alive", "1 failed crashed", "table", true, "1 alive", "1 alive"},
		{"1 suspect overdue", "1 failed crashed", "table", false, "1 suspect overdue", "1 failed crashed"},
		{"1 suspect overdue", "1 failed crashed", "table", true, "1 suspect overdue", "1 suspect overdue"},
		{"1 alive", "3 failed crashed", "table", true, "1 alive", "1 alive"},
		{"1 alive", "3 failed crashed", "table", false, "1 alive", "3 failed crashed"},

		// What nobody but the member may say, and what is no worse, needs no answer.
		{"1 alive", "1 left", "table", true, "1 left", "1 left"},
		{"1 alive", "1 replaced", "table", true, "1 replaced", "1 replaced"},
		{"1 failed crashed", "2 alive", "table", true, "2 alive", "2 alive"},
		{"1 failed crashed", "2 failed crashed", "table", true, "2 failed crashed", "2 failed crashed"},
		{"1 failed crashed", "3 suspect mute", "table", true, "3 suspect mute", "3 suspect mute"},
		{"1 alive", "1 suspect deaf", "own", true, "1 suspect deaf", "1 suspect deaf"},
		{"2 alive", "1 suspect deaf", "own", true, "2 alive", "2 alive"},
	} {
		t.Run(fmt.Sprint(tt.have, " + ", tt.how, " ", tt.got, " heard ", tt.heard), func(t *testing.T) {
			r := newRig(t, 7)
			r.apply(parseRec(t, tt.have))
			if !tt.heard && r.about.watch != nil { // silent for a while: nobody has decided yet
				r.about.watch.heard, r.about.watch.since = 0, r.now-silentAfter/2
				r.quiet[r.about.ID] = true
			}
			rec, from := r.export(r.about), recOf(1).ID
			in := parseRec(t, tt.got)
			rec.Epoch, rec.State, rec.Cause = in.Epoch, in.State, in.Cause
			switch tt.how {
			case "news":
				r.step(News{From: from, Recs: []Rec{rec}})
			case "own":
				from = rec.ID
				fallthrough
			case "table":
				r.step(Table{From: from, Recs: []Rec{rec}})
			}
			if got := formatRec(&r.about.Rec); got != tt.now {
				t.Errorf("at once: got %q, want %q", got, tt.now)
			}
			if waits := tt.now != tt.later || tt.how == "table" && r.about.pending != nil; waits {
				if n := newsTo(r.sends, rec.ID, rec.ID); n == nil || formatRec(n) != tt.got {
					t.Errorf("the member is told %+v, want %q", n, tt.got)
				}
			}
			r.wait(askWait)
			if got := formatRec(&r.about.Rec); got != tt.later {
				t.Errorf("after the wait: got %q, want %q", got, tt.later)
			}
		})
	}
}

// Whoever announces what is out of date is told so; a member that tells of itself
// is not.
func TestOutOfDateNewsIsAnswered(t *testing.T) {
	for _, tt := range []struct {
		from ID
		want bool
	}{{recOf(1).ID, true}, {recOf(6).ID, false}, {0, false}} {
		r := newRig(t, 7)
		r.apply(parseRec(t, "2 alive"))
		rec := r.export(r.about)
		rec.Epoch, rec.State, rec.Cause = 1, Suspect, Overdue
		r.step(News{From: tt.from, Recs: []Rec{rec}})
		if got := newsTo(r.sends, tt.from, rec.ID) != nil; got != tt.want {
			t.Errorf("news of %d: answered %v, want %v", tt.from, got, tt.want)
		}
	}
}

// Two tables that are exchanged become equal, in whatever order their records come.
func TestTablesBecomeEqual(t *testing.T) {
	states := []string{
		"1 alive", "1 suspect overdue", "1 suspect deaf", "1 failed crashed", "1 left", "1 forgotten",
		"1 replaced", "2 alive", "2 suspect mute", "2 failed unreachable",
	}
	for _, a := range states {
		for _, b := range states {
			x, y := newRig(t, 7), newRig(t, 7)
			for r, s := range map[*rig]string{x: a, y: b} {
				r.apply(parseRec(t, s))
				if r.about.watch != nil {
					r.about.watch.heard, r.about.watch.since = 0, r.now-silentAfter/2
				}
				r.quiet[r.about.ID] = true
			}
			tx, ty := x.Table(nil), y.Table(nil)
			x.step(Table{From: recOf(1).ID, Recs: ty})
			y.step(Table{From: recOf(1).ID, Recs: tx})
			x.wait(askWait)
			y.wait(askWait)
			if gx, gy := formatRec(&x.about.Rec), formatRec(&y.about.Rec); gx != gy || x.Hash() != y.Hash() {
				t.Errorf("%q and %q become %q and %q, want them equal", a, b, gx, gy)
			}
		}
	}
}

// A member is remembered from when it went, not from when this peer learned of it.
func TestAge(t *testing.T) {
	r := newRig(t, 7)
	rec := r.export(r.about)
	rec.State, rec.Age = Left, time.Hour
	r.step(Table{From: recOf(1).ID, Recs: []Rec{rec}})
	if got := r.export(r.about).Age; got != time.Hour {
		t.Errorf("gone for %v, want an hour", got)
	}
	in, _ := r.Shown(rec.ID)
	if in.Since != r.now {
		t.Errorf("shown so since %v ago, want since now", r.now-in.Since)
	}
}

// A newcomer takes an unknown member as the table has it, and nobody who was gone
// for too long.
func TestAdmit(t *testing.T) {
	const forget = 72 * time.Hour
	for _, tt := range []struct {
		rec  string
		age  time.Duration
		want string // shown
	}{
		{"1 alive", 1000 * time.Hour, "alive"},
		{"1 suspect overdue", 1000 * time.Hour, "suspect overdue"},
		{"1 failed crashed", time.Hour, "failed crashed"},
		{"1 failed crashed", forget * 9 / 10, "failed crashed"},
		{"1 failed crashed", forget - time.Hour, ""}, // this peer may have dropped it just now
		{"1 left", time.Hour, "left"},
		{"1 left", forget, ""},
		{"1 forgotten", time.Minute, ""},
		{"1 replaced", time.Minute, ""},
	} {
		r := newRig(t, 7)
		rec := recOf(50)
		in := parseRec(t, tt.rec)
		rec.Epoch, rec.State, rec.Cause, rec.Age = in.Epoch, in.State, in.Cause, tt.age
		out := r.step(Table{From: recOf(1).ID, Recs: []Rec{rec}})
		for _, c := range out.Changes {
			if c.Peer == rec.ID && c.Kind != Joined {
				t.Errorf("%s: change %d, want that it joined alone", tt.rec, c.Kind)
			}
		}
		got := ""
		if in, ok := r.Shown(rec.ID); ok {
			got = verdict(in.Shown, in.Why)
		}
		if got != tt.want {
			t.Errorf("%s for %v: shown %q, want %q", tt.rec, tt.age, got, tt.want)
		}
	}
}

// The departed are dropped when their time is over, and that once.
func TestSweep(t *testing.T) {
	for state, keep := range map[State]time.Duration{Failed: 72 * time.Hour, Left: 72 * time.Hour, Forgotten: replacedFor, Replaced: replacedFor} {
		r := newRig(t, 7)
		rec := recOf(50)
		rec.State = state
		r.step(Table{From: recOf(1).ID, Recs: []Rec{rec}})
		r.now += keep - time.Second
		r.tickNow()
		if r.rows[rec.ID] == nil {
			t.Errorf("%v: dropped too soon", state)
		}
		r.now += time.Second
		r.tickNow()
		if r.rows[rec.ID] != nil || r.gone != 0 {
			t.Errorf("%v: not dropped", state)
		}
		if _, ok := r.Shown(rec.ID); ok {
			t.Errorf("%v: shown still", state)
		}
		if r.expires != never {
			t.Errorf("%v: looked for again at %v", state, r.expires)
		}
	}
}

// The table is bounded: the longest gone go first, an older one does not push out a
// younger, and nobody alive is dropped.
func TestTableIsBounded(t *testing.T) {
	r := newRig(t, 7)
	var recs []Rec
	for i := range maxGone {
		rec := recOf(100 + i)
		rec.State, rec.Age = Left, time.Duration(i+1)*time.Second
		recs = append(recs, rec)
	}
	r.step(Table{From: recOf(1).ID, Recs: recs})
	if r.gone != maxGone {
		t.Fatalf("%d are gone, want %d", r.gone, maxGone)
	}
	older, younger := recOf(90), recOf(91)
	older.State, older.Age = Left, 2*maxGone*time.Second
	younger.State, younger.Age = Left, 0
	r.step(Table{From: recOf(1).ID, Recs: []Rec{older}})
	if r.rows[older.ID] != nil || r.rows[recs[maxGone-1].ID] == nil {
		t.Error("one that is gone for longer pushed out another")
	}
	r.step(Table{From: recOf(1).ID, Recs: []Rec{younger}})
	if r.rows[younger.ID] == nil || r.rows[recs[maxGone-1].ID] != nil {
		t.Error("the longest gone is still there, or the latest is not")
	}
	for i := range 3 {
		rec := r.export(r.rows[recOf(1+i).ID])
		rec.State = Left
		r.step(News{From: rec.ID, Recs: []Rec{rec}})
	}
	r.tickNow()
	if r.gone != maxGone || r.rows[recOf(1).ID] == nil {
		t.Errorf("%d are gone, want the %d latest", r.gone, maxGone)
	}
}

// A heartbeat counts once, and never comes from the future.
func TestBeats(t *testing.T) {
	r := newRig(t, 7)
	r.now += time.Minute
	id := recOf(1).ID
	beat := func(count uint64, age time.Duration) (n int) {
		out := r.step(Beats{[]Beat{{Peer: id, Count: count, Age: age}}})
		return len(out.Heard)
	}
	if beat(5, time.Second) != 1 || beat(5, 0) != 0 || beat(4, 0) != 0 || beat(6, 2*time.Second) != 0 {
		t.Error("a heartbeat that is no news counts")
	}
	if beat(7, -time.Hour); r.rows[id].beatAt > r.now {
		t.Errorf("heard in %v", r.rows[id].beatAt-r.now)
	}
	if got := r.Digest(nil, r.now); len(got) != 2 || got[0].Peer != r.self.ID || got[1].Count != 7 {
		t.Errorf("sends on %v", got)
	}
}

// In a large cluster all heartbeats have their turn.
func TestDigestInTurn(t *testing.T) {
	c, _, now := coreOf(300)
	var beats []Beat
	for i := 1; i < 300; i++ {
		beats = append(beats, Beat{Peer: recOf(i).ID, Count: 1})
	}
	c.Step(now, Beats{beats})
	seen := map[ID]bool{}
	for range 5 {
		d := c.Digest(nil, now)
		if len(d) > digestBeats {
			t.Fatalf("%d heartbeats, want at most %d", len(d), digestBeats)
		}
		for _, b := range d {
			seen[b.Peer] = true
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d have had their turn in five digests, want 300", len(seen))
	}
}
