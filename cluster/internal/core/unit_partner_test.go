package core

import (
	"slices"
	"testing"
	"time"
)

// A peer watches three members on either side of it, those that it dials and those
// that dial it, and one more for each suspect among them.
func TestPartners(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 7, 8, 50} {
		c, _, _ := coreOf(n)
		if want := min(n-1, 2*watchWidth); len(c.partners) != want {
			t.Errorf("%d members: %d partners, want %d", n, len(c.partners), want)
		}
		succ := 0
		for _, p := range c.partners {
			if p.watch.succ {
				succ++
			}
		}
		if want := min(n-1, watchWidth); succ != want {
			t.Errorf("%d members: dials %d, want %d", n, succ, want)
		}
	}
	c, _, now := coreOf(50)
	before := slices.Clone(c.partners)
	rec := c.export(before[0])
	rec.State, rec.Cause = Suspect, Deaf
	c.Step(now, News{From: rec.ID, Recs: []Rec{rec}})
	c.ringMoved = true // a suspect alone moves nothing: the next change of the ring does
	c.Step(now, Tick{})
	if len(c.partners) != len(before)+1 || !slices.Contains(c.partners, before[0]) {
		t.Errorf("%d partners beside a suspect, want one more than %d", len(c.partners), len(before))
	}
}

// Watching is mutual: whoever decides on a member has a stream to it.
func TestPartnersAreMutual(t *testing.T) {
	for _, n := range []int{2, 5, 7, 8, 13, 40} {
		watches := map[ID][]ID{}
		for i := range n {
			c := New(Config{Self: recOf(i), Seed: uint64(i)}, time.Hour)
			c.Step(time.Hour, Table{From: 1, Recs: tableOf(n)})
			for _, p := range c.partners {
				watches[c.self.ID] = append(watches[c.self.ID], p.ID)
			}
			slices.Sort(watches[c.self.ID])
			for _, r := range c.byID {
				decides := slices.Contains(c.partnersOf(nil, r), c.self)
				if decides != (r.watch != nil) {
					t.Errorf("%d members: %d decides on %d %v, watches it %v", n, c.self.ID, r.ID, decides, r.watch != nil)
				}
			}
		}
		for id, to := range watches {
			for _, o := range to {
				if _, ok := slices.BinarySearch(watches[o], id); !ok {
					t.Errorf("%d members: %d watches %d and is not watched by it", n, id, o)
				}
			}
		}
	}
}

// Whoever is no partner any more is said goodbye to, and one that is gone too.
func TestUnwatch(t *testing.T) {
	r := newRig(t, 7)
	rec := r.export(r.about)
	rec.State = Left
	out := r.step(News{From: rec.ID, Recs: []Rec{rec}})
	if len(out.Closes) != 1 || out.Closes[0] != (Close{Peer: rec.ID}) {
		t.Errorf("closes %v, want both streams of the one that left", out.Closes)
	}
	if len(r.partners) != 5 || r.about.watch != nil {
		t.Errorf("%d partners, want 5", len(r.partners))
	}
}

// A silent partner is dialled before it is accused, once a second.
func TestRedial(t *testing.T) {
	r := newRig(t, 4)
	r.quiet[r.about.ID] = true
	dials := func(d time.Duration) (n int) {
		r.dials = nil
		r.wait(d)
		for _, d := range r.dials {
			if d.Peer == r.about.ID {
				n++
			}
		}
		return n
	}
	if n := dials(redialAfter); n != 0 {
		t.Errorf("%d dials before %v", n, redialAfter)
	}
	if n := dials(silentAfter - redialAfter); n != 1 {
		t.Errorf("%d dials before it is silent, want 1", n)
	}
	if n := dials(3 * time.Second); n != 0 {
		t.Errorf("%d more dials while one is on its way", n)
	}
	r.step(Dialled{Peer: r.about.ID, Result: TimedOut})
	if n := dials(100 * time.Millisecond); n != 1 {
		t.Errorf("%d dials after that timed out, want 1", n)
	}
}

// A handshake counts as heard. One that reached this peer is dialled back.
func TestUp(t *testing.T) {
	r := newRig(t, 4)
	r.says(Silent)
	if r.about.watch.says != Silent {
		t.Fatal("not silent")
	}
	r.about.watch.proven, r.about.watch.dialing, r.dials = false, false, nil
	r.step(Up{Peer: r.about.ID})
	if r.about.watch.says != Hears || !r.hears(r.about) {
		t.Errorf("says %v, want that it hears it", r.about.watch.says)
	}
	if len(r.dials) != 1 {
		t.Errorf("dials %v, want it back", r.dials)
	}
	// One that is held for gone is told so, and may contradict.
	rec := r.export(r.about)
	rec.State, rec.Cause = Failed, Crashed
	r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
	r.sends = nil
	r.step(Up{Peer: rec.ID})
	if n := newsTo(r.sends, rec.ID, rec.ID); n == nil || n.State != Failed {
		t.Errorf("is told %+v, want that it failed", n)
	}
}

// A crash is not taken back by the silence that follows, and a byte that came before
// the stream broke proves nothing.
func TestBroke(t *testing.T) {
	r := newRig(t, 4)
	before := r.now
	r.now += 10 * time.Millisecond
	r.step(Broke{Peer: r.about.ID})
	r.step(Tick{Links: []Link{{Peer: r.about.ID, Heard: before}}})
	if r.hears(r.about) {
		t.Error("hears it by what came before the stream broke")
	}
	r.step(Dialled{Peer: r.about.ID, Result: Refused})
	r.vote(1, Hears)
	r.vote(2, Hears)
	r.quiet[r.about.ID] = true
	r.wait(silentAfter + TickEvery)
	if got := r.about.watch.says; got != Refuses {
		t.Errorf("says that it is %v, want that it vanished", got)
	}
}

// A suspect that is heard is told what is held of it, not in each beat.
func TestTellTheSuspect(t *testing.T) {
	r := newRig(t, 4)
	rec := r.export(r.about)
	rec.State, rec.Cause = Suspect, Overdue
	r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
	r.sends = nil
	r.wait(3 * tellEvery)
	n := 0
	for _, s := range r.sends {
		if newsTo([]Send{s}, rec.ID, rec.ID) != nil {
			n++
		}
	}
	if n < 3 || n > 4 {
		t.Errorf("told %d times in %v, want one in %v", n, 3*tellEvery, tellEvery)
	}
}

// An address that refuses this peer alone is shown as unreachable here, and said
// of nobody else's view.
func TestUnreachableForMeAlone(t *testing.T) {
	r := newRig(t, 7)
	r.votes("rhhhhh")
	r.wait(crashWait)
	r.wait(TickEvery)
	in, _ := r.Shown(r.about.ID)
	if got := verdict(in.Shown, in.Why); got != "suspect unreachable" || r.about.State != Alive {
		t.Errorf("shown %q, in the table %v, want suspect unreachable and alive", got, r.about.State)
	}
	r.about.watch.since = 0
	r.step(Up{Peer: r.about.ID, Out: true})
	if in, _ := r.Shown(r.about.ID); in.Shown != Alive {
		t.Errorf("shown %v after it answered, want alive", in.Shown)
	}
}

// In a large cluster the partners share out whom they tell: together they tell
// everybody, and gossip repeats it.
func TestShare(t *testing.T) {
	const n = 200
	told := map[ID]int{}
	deciders := map[ID]bool{}
	var about *row
	for i := range n {
		c := New(Config{Self: recOf(i), Seed: 1}, time.Hour)
		c.Step(time.Hour, Table{From: 1, Recs: tableOf(n)})
		about = c.rows[recOf(7).ID]
		if !slices.Contains(c.partnersOf(nil, about), c.self) {
			continue
		}
		deciders[c.self.ID] = true
		c.out.reset()
		c.verdict(about, Failed, Crashed)
		s := c.out.Sends[0]
		if !s.Gossip {
			t.Error("gossip does not repeat it")
		}
		for _, id := range s.To {
			told[id]++
		}
	}
	for i := range n {
		id := recOf(i).ID
		if told[id] == 0 && !deciders[id] {
			t.Errorf("%d is told by nobody", id)
		}
		if id != about.ID && !deciders[id] && told[id] != toldBy {
			t.Errorf("%d is told %d times, want by %d", id, told[id], toldBy)
		}
	}
	if told[about.ID] != 2*watchWidth {
		t.Errorf("the member itself is told %d times, want by all its partners", told[about.ID])
	}
}

// Hostile and unlikely inputs harm nobody.
func TestUnlikelyInputs(t *testing.T) {
	r := newRig(t, 4)
	for _, id := range []ID{0, r.self.ID, 77, 1 << 63} {
		for _, in := range []Input{
			Up{Peer: id},
			Up{Peer: id, Out: true},
			Heard{Peer: id},
			Broke{Peer: id},
			Dialled{Peer: id, Result: Refused},
			Swim{Peer: id},
			Swim{Peer: id, Dead: true},
			Ack{Peer: id},
			Beats{[]Beat{{Peer: id, Count: 1}}},
			VoteIn{Vote{About: id, From: id}},
			VoteIn{Vote{About: r.about.ID, From: id, Epoch: 1, Says: Silent}},
			Number{Peer: id, Number: 1},
			Record{Peer: id},
			Tick{Links: []Link{{Peer: id, Heard: never}}},
			Table{From: id},
			News{From: id},
		} {
			r.step(in)
		}
	}
	r.step(nil)
	checkIndexes(t, r.Core)
	if r.self.State != Alive || r.about.State != Alive {
		t.Errorf("this peer is %v, another %v, want both alive", r.self.State, r.about.State)
	}
}
