package core

import (
	"slices"
	"testing"
	"time"
)

// tells lets another say of this peer what s says.
func (r *rig) tells(s string) {
	rec := r.export(r.self)
	in := parseRec(r.t, s)
	rec.Epoch, rec.State, rec.Cause, rec.Age = in.Epoch, in.State, in.Cause, 0
	r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
}

// Each row is what this peer is told of itself, one after the other, and what it
// says of itself then.
func TestTold(t *testing.T) {
	for _, tt := range []struct {
		why  string
		told []string
		want string
	}{
		{"the first return is free", []string{"1 suspect overdue"}, "2 alive"},
		{"whatever the cause", []string{"1 suspect mute"}, "2 alive"},
		{"a failed one comes back by way of the ring", []string{"1 failed crashed"}, "3 alive"},
		{"what is no worse is no matter", []string{"1 alive"}, "1 alive"},
		{"nor what is past", []string{"1 suspect overdue", "1 failed crashed"}, "2 alive"},
		{"a later epoch of it cannot be", []string{"7 alive"}, "8 alive"},
		{"nor with a verdict", []string{"7 suspect overdue"}, "8 alive"},
		{"it did not leave", []string{"1 left"}, "2 alive"},
		{"it cannot be forgotten", []string{"1 forgotten"}, "2 alive"},
		{"it was not replaced", []string{"1 replaced"}, "2 alive"},
		{"it denies once a second", []string{"1 left", "2 left"}, "2 alive"},
		{"the second return waits", []string{"1 suspect overdue", "2 suspect overdue"}, "2 suspect mute"},
		{"on the ring", []string{"1 suspect overdue", "2 failed crashed"}, "3 suspect mute"},
		{"the last epoch stays the last", []string{"1099511627776 left"}, "1099511627776 alive"},
		{"its address cannot be dialled", []string{"1 suspect unreachable"}, "1 suspect unreachable"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := newRig(t, 7)
			for _, s := range tt.told {
				r.sends = nil
				r.tells(s)
			}
			if got := formatRec(&r.self.Rec); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want != "1 alive" && len(tt.told) == 1 {
				for i := 1; i < 7; i++ {
					if n := newsTo(r.sends, recOf(i).ID, r.self.ID); n == nil || formatRec(n) != tt.want {
						t.Errorf("member %d is told %+v, want %q", i, n, tt.want)
					}
				}
			}
		})
	}
}

// Whoever says what is past is sent this peer's record; after it left, too.
func TestToldOfThePast(t *testing.T) {
	r := newRig(t, 7)
	r.tells("1 suspect overdue")
	r.sends = nil
	r.tells("1 failed crashed")
	if n := newsTo(r.sends, recOf(1).ID, r.self.ID); n == nil || formatRec(n) != "2 alive" {
		t.Errorf("answer %+v, want 2 alive", n)
	}
	r.step(Leave{})
	r.sends = nil
	r.tells("3 suspect overdue")
	if n := newsTo(r.sends, recOf(1).ID, r.self.ID); n == nil || formatRec(n) != "3 left" {
		t.Errorf("answer of one that left %+v, want 3 left", n)
	}
}

// Each further relapse within relapseWithin doubles how long all must have been well.
func TestDamping(t *testing.T) {
	r := newRig(t, 7)
	for relapse, want := range []time.Duration{0, cleanFirst, 2 * cleanFirst, 4 * cleanFirst, 8 * cleanFirst, cleanMost, cleanMost} {
		rec := r.export(r.self)
		rec.State, rec.Cause = Suspect, Overdue
		r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
		want = min(want, cleanMost)
		if want > 0 {
			if d := r.Stats().Damped; d != want {
				t.Errorf("relapse %d: damped for %v, want %v", relapse, d, want)
			}
			r.wait(want - TickEvery)
			if r.self.State != Suspect {
				t.Fatalf("relapse %d: back before %v", relapse, want)
			}
			r.wait(2 * TickEvery)
		}
		if r.self.State != Alive {
			t.Fatalf("relapse %d: not back after %v", relapse, want)
		}
		r.wait(time.Minute)
	}
	r.wait(relapseWithin)
	r.tells(formatRec(&Rec{Epoch: r.self.Epoch, State: Suspect, Cause: Overdue}))
	if r.self.State != Alive {
		t.Error("after a long time in rotation the return is not free")
	}
}

// What is not its own fault is not held against a member.
func TestNotBlamed(t *testing.T) {
	for _, tt := range []struct {
		why     string
		members int
		do      func(r *rig)
		want    bool // the second return is free
	}{
		{"it alone is out", 7, func(*rig) {}, false},
		{"one is a third of the ring, and not many", 4, func(r *rig) {
			rec := r.export(r.rows[recOf(1).ID])
			rec.State, rec.Cause = Failed, Crashed
			r.step(News{From: recOf(2).ID, Recs: []Rec{rec}})
		}, false},
		{"a third of the ring is out", 7, func(r *rig) {
			for i := 1; i < 3; i++ {
				rec := r.export(r.rows[recOf(i).ID])
				rec.State, rec.Cause = Failed, Crashed
				r.step(News{From: recOf(5).ID, Recs: []Rec{rec}})
			}
		}, true},
		{"one other is out", 7, func(r *rig) {
			rec := r.export(r.rows[recOf(1).ID])
			rec.State, rec.Cause = Failed, Crashed
			r.step(News{From: recOf(5).ID, Recs: []Rec{rec}})
		}, false},
		{"a third left", 7, func(r *rig) {
			for i := 1; i < 3; i++ {
				rec := r.export(r.rows[recOf(i).ID])
				rec.State = Left
				r.step(News{From: rec.ID, Recs: []Rec{rec}})
			}
		}, false},
	} {
		r := newRig(t, tt.members)
		r.tells("1 suspect overdue")
		r.wait(splitWithin + time.Second)
		tt.do(r)
		r.tells("2 suspect overdue")
		if got := r.self.State == Alive; got != tt.want {
			t.Errorf("%s: the second return is free %v, want %v", tt.why, got, tt.want)
		}
	}
}

// accuse lets partners of this peer vote on it.
func (r *rig) accuse(line string) {
	for i := range len(line) {
		if e := evidences[line[i]]; e != Nothing {
			r.seq++
			r.step(VoteIn{Vote{About: r.self.ID, From: recOf(i + 1).ID, Epoch: r.self.Epoch, Seq: r.seq, Says: e}})
		}
	}
}

// A peer finds out what is wrong with it.
func TestDiagnose(t *testing.T) {
	held := func(n int, for_ time.Duration) func(r *rig) {
		return func(r *rig) {
			for end := r.now + for_; r.now < end; {
				r.now += TickEvery
				var links []Link
				for i, p := range r.partners {
					l := Link{Peer: p.ID, Heard: r.now, Out: true}
					if i < n {
						l.Pending, l.Heard = stalledAfter+1, r.now-BeatEvery-stalledAfter-1
					}
					links = append(links, l)
				}
				r.step(Tick{Links: links})
			}
		}
	}
	accused := func(line string, for_ time.Duration) func(r *rig) {
		return func(r *rig) {
			for end := r.now + for_; r.now < end; r.wait(TickEvery) {
				r.accuse(line)
			}
			r.wait(TickEvery)
		}
	}
	for _, tt := range []struct {
		why  string
		do   func(r *rig)
		want string
	}{
		{"all is well", held(0, 30*time.Second), "1 alive"},
		{"most do not hear it", accused("ssss..", muteAfter), "1 suspect mute"},
		{"not for long enough", accused("ssss..", muteAfter-2*TickEvery), "1 alive"},
		{"half do not hear it", accused("sss...", 3*muteAfter), "1 alive"},
		{"its address cannot be dialled: that is no silence", accused("ssnn..", 2*muteAfter), "1 alive"},
		{"most of its links are held up", held(4, 10*time.Second), "1 suspect lossy"},
		{"for a moment", held(4, time.Second), "1 alive"},
		{"half of them", held(3, time.Minute), "1 alive"},
	} {
		r := newRig(t, 7)
		tt.do(r)
		if got := formatRec(&r.self.Rec); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
}

// A trouble that a peer noticed itself ends after a few good ticks.
func TestTroubleEnds(t *testing.T) {
	r := newRig(t, 7)
	for range 8 {
		r.accuse("ssss..")
		r.wait(TickEvery)
	}
	if r.self.Cause != Mute || r.Stats().Trouble != Mute {
		t.Fatalf("says %v, want mute", r.self.Cause)
	}
	r.accuse("hhhh..")
	r.wait(TickEvery * recoverTicks * 2)
	if got := formatRec(&r.self.Rec); got != "2 alive" {
		t.Errorf("got %q, want 2 alive", got)
	}
}

// A later vote of a partner stands, whichever comes last.
func TestVotesOnThisPeer(t *testing.T) {
	r := newRig(t, 7)
	v := func(from int, seq uint64, e Evidence) {
		r.step(VoteIn{Vote{About: r.self.ID, From: recOf(from).ID, Epoch: 1, Seq: seq, Says: e}})
	}
	v(1, 2, Hears)
	v(1, 1, Silent)
	if n, _ := r.own.accusers(); n != 0 {
		t.Errorf("%d accuse this peer, want none: the vote is older than one that came", n)
	}
	v(1, 3, NoRoute)
	if n, noRoute := r.own.accusers(); n != 1 || !noRoute {
		t.Errorf("%d accuse this peer, no route %v, want 1 and true", n, noRoute)
	}
	for i := range 100 {
		v(1000+i, 1, Silent)
	}
	if len(r.own.votes) > maxVotes {
		t.Errorf("keeps %d votes, want at most %d", len(r.own.votes), maxVotes)
	}
	r.wait(voteLife)
	if len(r.own.votes) != 0 {
		t.Errorf("keeps %d votes that are over", len(r.own.votes))
	}
}

// One that was held up, and is accused right then, says why.
func TestStalled(t *testing.T) {
	r := newRig(t, 7)
	r.tells("1 suspect overdue")
	r.step(Late{Gap: 4 * time.Second})
	r.tells("2 suspect overdue")
	if got := formatRec(&r.self.Rec); got != "2 suspect stalled" {
		t.Errorf("got %q, want 2 suspect stalled", got)
	}
}

// A peer that leaves says so, and nothing more of anybody.
func TestLeave(t *testing.T) {
	r := newRig(t, 7)
	r.step(Leave{})
	if got := formatRec(&r.self.Rec); got != "2 left" {
		t.Errorf("got %q, want 2 left", got)
	}
	for i := 1; i < 7; i++ {
		if newsTo(r.sends, recOf(i).ID, r.self.ID) == nil {
			t.Errorf("member %d is not told", i)
		}
	}
	r.sends = nil
	for _, p := range slices.Clone(r.partners) {
		r.quiet[p.ID] = true
	}
	r.wait(3 * silentAfter)
	r.step(Leave{})
	if len(r.sends) != 0 || r.cutOff {
		t.Errorf("sends %v after it left, cut off %v", r.sends, r.cutOff)
	}
}

// Whoever waits to come back does not wait for a partner that is out for good.
func TestBackWithoutTheDead(t *testing.T) {
	r := newRig(t, 3)
	rec := r.export(r.about)
	rec.State, rec.Cause = Suspect, Overdue
	r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
	r.quiet[r.about.ID] = true
	r.tells("1 suspect overdue")
	r.tells(formatRec(&Rec{Epoch: r.self.Epoch, State: Suspect, Cause: Overdue}))
	if r.self.State != Suspect {
		t.Fatal("the second return is free")
	}
	r.wait(cleanFirst + time.Second)
	if r.self.State != Alive {
		t.Errorf("is %v, want alive: the one that is alive is heard", r.self.State)
	}
}
