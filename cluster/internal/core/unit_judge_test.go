package core

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// evidences is the notation of votes: one letter for each partner of the member
// in question, this peer first.
var evidences = map[byte]Evidence{'.': Nothing, 'h': Hears, 's': Silent, 'n': NoRoute, 'r': Refuses}

// rig is a core in a cluster whose members are all its partners, and one of them,
// about, is in question.
type rig struct {
	*Core
	t     testing.TB
	now   time.Duration
	about *row
	quiet map[ID]bool // who is not heard
	seq   uint64
	sends []Send
	dials []Dial
}

func newRig(t testing.TB, members int) *rig {
	c, _, now := coreOf(members)
	c.contacts.acked = 1 << 60
	return &rig{Core: c, t: t, now: now, about: c.rows[recOf(members-1).ID], quiet: map[ID]bool{}}
}

func (r *rig) step(in Input) *Output {
	r.t.Helper()
	out := r.Step(r.now, in)
	r.sends = append(r.sends, out.Sends...)
	r.dials = append(r.dials, out.Dials...)
	return out
}

// wait ticks every 50 ms until d is over; all that are not quiet are heard.
func (r *rig) wait(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now = min(r.now+50*time.Millisecond, end)
		r.tickNow()
	}
}

func (r *rig) tickNow() {
	var links []Link
	for _, p := range r.partners {
		l := Link{Peer: p.ID, Out: true}
		if !r.quiet[p.ID] {
			l.Heard = r.now
		}
		links = append(links, l)
	}
	r.step(Tick{Links: links})
}

// says makes e what this peer says of about.
func (r *rig) says(e Evidence) {
	w := r.about.watch
	switch r.quiet[r.about.ID] = e != Hears && e != NoRoute; e {
	case Nothing:
		w.heard, w.since, w.says = 0, never/2, Nothing // the watch never gets as far as silence
	case Hears:
		w.since = 0
		r.step(Heard{Peer: r.about.ID})
	case Silent:
		w.heard, w.since = 1, 1
		r.tickNow()
	case NoRoute:
		w.proven, w.since = false, r.now-2*redialAfter
		r.step(Heard{Peer: r.about.ID})
		r.step(Dialled{Peer: r.about.ID, Result: TimedOut})
	case Refuses:
		w.heard, w.since = 0, r.now
		r.step(Dialled{Peer: r.about.ID, Result: Refused})
	}
}

// vote lets partner i of about, other than this peer, vote.
func (r *rig) vote(i int, e Evidence) {
	r.seq++
	r.step(VoteIn{Vote{About: r.about.ID, From: recOf(i).ID, Epoch: r.about.Epoch, Seq: r.seq, Says: e}})
}

// votes takes in a line of votes, this peer's first.
func (r *rig) votes(line string) {
	for i := range len(line) {
		e, ok := evidences[line[i]]
		if !ok {
			r.t.Fatalf("vote %q", line[i])
		}
		switch {
		case i == 0:
			r.says(e)
		case e != Nothing:
			r.vote(i, e)
		}
	}
}

func verdict(s State, why Cause) string { return strings.TrimSpace(fmt.Sprint(s, " ", why)) }

// Each row is the votes of all partners on one member, this peer's first (. says
// nothing, h hears, s silent, n no route, r refuses), how long this
// peer waits then, and what it makes of the member.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		why, votes string
		wait       time.Duration
		want       string
	}{
		{"nobody says anything", "......", time.Second, "alive"},
		{"all hear it", "hhhhhh", time.Second, "alive"},

		{"a majority of all partners decides at once", "ssss..", 0, "suspect overdue"},
		{"whatever the others say", "sssshh", 0, "suspect overdue"},
		{"this peer's own voice is one of them", "hssss.", 0, "suspect overdue"},
		{"half is no majority", "sss...", 0, "alive"},
		{"half is more than none after the wait", "sss...", silenceWait, "suspect overdue"},
		{"two are enough after the wait", "ss....", silenceWait, "suspect overdue"},
		{"not before", "ss....", silenceWait - 50*time.Millisecond, "alive"},
		{"one never is", "s.....", 3 * time.Second, "alive"},
		{"nor one other", ".s....", 3 * time.Second, "alive"},
		{"one of one is a majority", "s", 0, "suspect overdue"},
		{"one of two is not", "s.", time.Second, "alive"},
		{"two of two are", "ss", 0, "suspect overdue"},
		{"as many hear it", "sshh..", time.Second, "alive"},
		{"more hear it", "sshhh.", time.Second, "alive"},
		{"fewer hear it, and one is enough: half the packets to them may be lost", "ssshh.", time.Second, "alive"},

		{"it is heard, and nobody can dial it", "nn....", silenceWait, "suspect unreachable"},
		{"one of those who accuse it hears it", "ns....", silenceWait, "suspect unreachable"},
		{"one dials in vain", "n.....", 3 * time.Second, "alive"},
		{"others get through", "nnhh..", time.Second, "alive"},

		{"its address refuses one", "r.....", 0, "alive"},
		{"and nobody contradicts in time", "r.....", crashWait, "failed crashed"},
		{"not before", "r.....", crashWait - 50*time.Millisecond, "alive"},
		{"it refuses another", ".r....", crashWait, "failed crashed"},
		{"somebody hears it: a firewall refuses", "rh....", 2 * crashWait, "alive"},
		{"it refuses more than hear it", "rhr...", crashWait, "failed crashed"},
		{"it refuses a majority", "rrrr..", 0, "failed crashed"},
		{"whatever the others say", "rrrrhh", 0, "failed crashed"},
		{"silence beside a refusal is none", "rssh..", 0, "alive"},
		{"refusals alone count against who hears it", "rsshh.", 2 * crashWait, "alive"},
	} {
		t.Run(tt.why+" "+tt.votes, func(t *testing.T) {
			r := newRig(t, len(tt.votes)+1)
			r.votes(tt.votes)
			r.wait(tt.wait)
			if got := verdict(r.about.State, r.about.Cause); got != tt.want {
				t.Errorf("%s after %v: got %q, want %q", tt.votes, tt.wait, got, tt.want)
			}
		})
	}
}

// Votes come and go.
func TestVotesCount(t *testing.T) {
	v := func(r *rig, from int, epoch, seq uint64, e Evidence) {
		r.step(VoteIn{Vote{About: r.about.ID, From: recOf(from).ID, Epoch: epoch, Seq: seq, Says: e}})
	}
	for _, tt := range []struct {
		why  string
		do   func(r *rig)
		want string // accuse, hear
	}{
		{"each partner has one vote", func(r *rig) { v(r, 1, 1, 1, Silent); v(r, 1, 1, 2, Silent) }, "1 0"},
		{"its newest", func(r *rig) { v(r, 1, 1, 1, Silent); v(r, 1, 1, 2, Hears) }, "0 1"},
		{"whatever came last", func(r *rig) { v(r, 1, 1, 2, Hears); v(r, 1, 1, 1, Silent) }, "0 1"},
		{"a vote ends", func(r *rig) { v(r, 1, 1, 1, Silent); r.wait(voteLife) }, "0 0"},
		{"whether or not a tick came", func(r *rig) { v(r, 1, 1, 1, Silent); r.now += voteLife }, "0 0"},
		{"not before", func(r *rig) { v(r, 1, 1, 1, Silent); r.wait(voteLife - 50*time.Millisecond) }, "1 0"},
		{"one that is no partner has none", func(r *rig) { v(r, 77, 1, 1, Silent) }, "0 0"},
		{"this peer's own vote that comes back has none", func(r *rig) { v(r, 0, 1, 1, Silent) }, "0 0"},
		{"what it does not understand is no vote", func(r *rig) { v(r, 1, 1, 1, Refuses+1) }, "0 0"},
		{"nothing takes nothing back", func(r *rig) { v(r, 1, 1, 1, Silent); v(r, 1, 1, 2, Nothing) }, "1 0"},
		{"a vote of the past epoch is void", func(r *rig) { v(r, 1, 0, 1, Silent) }, "0 0"},
		{"a vote of the next epoch does not count yet", func(r *rig) { v(r, 1, 2, 1, Silent) }, "0 0"},
		{"it counts once the member raised it", func(r *rig) {
			v(r, 1, 2, 1, Silent)
			v(r, 2, 1, 1, Silent)
			rec := r.export(r.about)
			rec.Epoch = 2
			r.step(News{From: rec.ID, Recs: []Rec{rec}})
		}, "1 0"},
		{"a grace is no evidence: a watch that has just begun hears nothing", func(r *rig) { r.says(Nothing) }, "0 0"},
		{"who heard it too long ago says nothing", func(r *rig) {
			r.says(Hears)
			r.now += silentAfter + 1
		}, "0 0"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := newRig(t, 7)
			r.says(Nothing)
			tt.do(r)
			r.Core.now = r.now
			c := r.count(r.about)
			if got := fmt.Sprint(c.accuse, c.hear); got != tt.want {
				t.Errorf("accuse, hear: got %s, want %s", got, tt.want)
			}
		})
	}
}

// A vote of another epoch makes one of the two learn what it missed, and does not
// undo a verdict: only the member itself does.
func TestVoteOfAnotherEpoch(t *testing.T) {
	for _, epoch := range []uint64{1, 3} {
		r := newRig(t, 7)
		rec := r.export(r.about)
		rec.Epoch, rec.State, rec.Cause = 2, Suspect, Overdue
		r.step(News{From: recOf(1).ID, Recs: []Rec{rec}})
		r.sends = nil
		r.step(VoteIn{Vote{About: rec.ID, From: recOf(1).ID, Epoch: epoch, Seq: 9, Says: Hears}})
		if got := verdict(r.about.State, r.about.Cause); got != "suspect overdue" || r.about.Epoch != 2 {
			t.Errorf("vote of epoch %d: got %d %s, want 2 suspect overdue", epoch, r.about.Epoch, got)
		}
		if n := newsTo(r.sends, recOf(1).ID, rec.ID); n == nil || n.Epoch != 2 {
			t.Errorf("vote of epoch %d: the voter is sent %+v, want the record here", epoch, n)
		}
	}
}

// Whoever asks about a member that is gone has missed the verdict.
func TestVoteOnTheGone(t *testing.T) {
	r := newRig(t, 7)
	r.votes("rrrr..")
	for _, ask := range []bool{true, false} {
		r.sends = nil
		r.step(VoteIn{Vote{About: r.about.ID, From: recOf(4).ID, Epoch: 1, Seq: 9, Says: Refuses, Ask: ask}})
		if n := newsTo(r.sends, recOf(4).ID, r.about.ID); (n != nil && n.State == Failed) != ask {
			t.Errorf("asks %v: is sent %+v", ask, n)
		}
	}
}

// newsTo returns the last record of about that sends has for to.
func newsTo(sends []Send, to, about ID) (rec *Rec) {
	for _, s := range sends {
		m, ok := s.Msg.(News)
		for _, id := range s.To {
			for i := range m.Recs {
				if ok && id == to && m.Recs[i].ID == about {
					rec = &m.Recs[i]
				}
			}
		}
	}
	return rec
}

// SWIM's verdict counts when the partners were asked and none hears the member.
func TestJudgeSwim(t *testing.T) {
	for _, tt := range []struct {
		why, votes string
		level      uint8
		heard      time.Duration // how long ago its heartbeat came
		wait       time.Duration
		want       string
	}{
		{"the partners are asked first", ".s....", 0, 0, askWait - 50*time.Millisecond, "alive"},
		{"and another does not hear it either", ".s....", 0, 0, askWait, "failed unreachable"},
		{"that nobody answers proves nothing", "......", 0, 0, 3 * askAgain, "alive"},
		{"nor does this peer's own silence", "s.....", 0, 0, 3 * askAgain, "alive"},
		{"unless it has no other partner", "s", 0, 0, askWait, "failed unreachable"},
		{"somebody hears it", ".sh...", 0, 0, askWait, "alive"},
		{"this peer hears it", "hs....", 0, 0, 3 * askAgain, "alive"},
		{"it was damped, and was heard of late", ".s....", 1, 0, askWait, "alive"},
		{"it was damped, and not heard of for long", ".s....", 1, unheardFor, askWait, "failed unreachable"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := newRig(t, len(tt.votes)+1)
			r.about.Level, r.about.beatAt = tt.level, r.now-tt.heard
			r.votes(tt.votes)
			r.sends = nil
			r.step(Swim{Peer: r.about.ID, Dead: true})
			asks := 0
			for _, s := range r.sends {
				if v, ok := s.Msg.(Vote); ok && v.Ask {
					asks++
				}
			}
			if asks != 1 {
				t.Errorf("asks %d times, want once", asks)
			}
			r.wait(tt.wait)
			if got := verdict(r.about.State, r.about.Cause); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Who was heard before it lost most of its partners may be dead, so a peer that hears
// few shows nobody alive without a sign of life since, and vouches for nobody else.
func TestDoubt(t *testing.T) {
	r := newRig(t, 7)
	heard, beats, dead := recOf(4).ID, recOf(5).ID, recOf(6).ID
	for i := range 7 {
		r.quiet[recOf(i).ID] = recOf(i).ID != heard
	}
	r.wait(silentAfter + 3*TickEvery)
	r.now += TickEvery
	r.step(Beats{Beats: []Beat{{Peer: beats, Count: 1 << 20}}})
	for id, want := range map[ID]string{heard: "alive", beats: "suspect", dead: "suspect"} { // beats is silent for this peer itself
		if in, _ := r.Shown(id); in.Shown.String() != want || in.State != Alive {
			t.Errorf("%d is shown %v and is %v in the table, want %s and alive", id, in.Shown, in.State, want)
		}
	}
	for _, rec := range r.Table(nil) {
		if doubted := rec.Cause != NoCause; rec.State != Alive || doubted != (rec.ID != heard && rec.ID != r.self.ID) {
			t.Errorf("exports %d as %v %v", rec.ID, rec.State, rec.Cause)
		}
	}
	other := newRig(t, 2)
	other.step(Table{From: recOf(1).ID, Recs: r.Table(nil)})
	for id, want := range map[ID]State{heard: Alive, dead: Suspect} {
		if o := other.rows[id]; o == nil || o.State != want {
			t.Errorf("who learns %d from that table has it %v, want %v", id, o, want)
		}
	}
	clear(r.quiet)
	r.wait(2 * TickEvery)
	if in, _ := r.Shown(dead); in.Shown != Alive || r.doubt != 0 {
		t.Errorf("shown %v when all are heard again", in.Shown)
	}
}

// A peer that hears nobody accuses nobody, and shows nobody but itself as alive.
func TestCutOff(t *testing.T) {
	r := newRig(t, 4)
	for i := 1; i < 4; i++ {
		r.quiet[recOf(i).ID] = true
	}
	r.wait(silentAfter - 50*time.Millisecond)
	if r.cutOff {
		t.Fatal("cut off before the silence is over")
	}
	r.sends = nil
	r.wait(silenceWait + 100*time.Millisecond)
	for _, s := range r.sends {
		if v, ok := s.Msg.(Vote); ok && v.Says.accuses() {
			t.Errorf("accuses %d", v.About)
		}
	}
	for i := range 4 {
		want := "suspect overdue"
		if i == 0 {
			want = "alive"
		}
		in, _ := r.Shown(recOf(i).ID)
		if got := verdict(in.Shown, in.Why); got != want {
			t.Errorf("member %d is shown %q, want %q", i, got, want)
		}
		if i > 0 && in.State != Alive {
			t.Errorf("member %d is %v in the table, want alive", i, in.State)
		}
	}
	if r.self.State != Suspect || r.self.Cause != Deaf {
		t.Errorf("says of itself %v %v, want suspect deaf", r.self.State, r.self.Cause)
	}
	clear(r.quiet)
	r.wait(recoverTicks * TickEvery)
	for i := range 4 {
		if in, _ := r.Shown(recOf(i).ID); in.Shown != Alive {
			t.Errorf("heard again: member %d is shown %v, want alive", i, in.Shown)
		}
	}
	if r.self.State != Alive || r.self.Epoch != 2 {
		t.Errorf("says of itself %d %v, want 2 alive", r.self.Epoch, r.self.State)
	}
}

// A peer that is cut off takes nobody out, whatever it is told.
func TestCutOffDecidesNothing(t *testing.T) {
	r := newRig(t, 4)
	for i := 1; i < 4; i++ {
		r.quiet[recOf(i).ID] = true
	}
	r.wait(silentAfter + 2*TickEvery)
	r.vote(1, Silent)
	r.vote(2, Silent)
	if r.wait(silenceWait); r.about.State != Alive || !r.cutOff {
		t.Errorf("cut off %v, the member is %v in the table, want alive", r.cutOff, r.about.State)
	}
}

// Whoever asks is answered by those who hear the member, and not many times at once.
func TestAnswer(t *testing.T) {
	r := newRig(t, 4)
	answers := func(e Evidence) (n int) { // how many are told that this peer hears it
		r.sends = nil
		r.seq++
		r.step(VoteIn{Vote{About: r.about.ID, From: recOf(1).ID, Epoch: 1, Seq: r.seq, Says: e, Ask: true}})
		for _, s := range r.sends {
			if v, ok := s.Msg.(Vote); ok && v.Says == Hears {
				n += len(s.To)
			}
		}
		return n
	}
	const all = 3 // the other partners, and the member itself
	if got := answers(Silent); got != all {
		t.Errorf("%d are answered, want %d", got, all)
	}
	if got := answers(Silent); got != 1 {
		t.Errorf("%d are answered when one asks again at once, want 1", got)
	}
	r.now += crashWait
	if got := answers(Silent); got != all {
		t.Errorf("%d are answered a while later, want %d", got, all)
	}
	r.now += silentAfter + 1
	if got := answers(Silent); got != 0 {
		t.Errorf("%d answers of who does not hear it either, want 0", got)
	}
}

// A crash that one sees makes the others look for themselves.
func TestCrashVoteMakesOthersLook(t *testing.T) {
	r := newRig(t, 7)
	r.now += time.Second
	r.wait(0)
	r.dials = nil
	r.vote(1, Silent)
	if len(r.dials) != 0 {
		t.Errorf("silence makes it dial %v", r.dials)
	}
	r.step(Heard{Peer: r.about.ID})
	r.vote(1, Refuses)
	if len(r.dials) != 1 || r.dials[0].Peer != r.about.ID {
		t.Errorf("dials %v, want the one that vanished", r.dials)
	}
}

// A peer that was held up forgives the others that time, and no more.
func TestLate(t *testing.T) {
	r := newRig(t, 4)
	const gap = 10 * time.Second
	r.now += gap
	r.step(Heard{Peer: recOf(1).ID}) // came first
	out := r.step(Late{Gap: gap})
	if out.Stalled != gap {
		t.Errorf("stalled %v, want %v", out.Stalled, gap)
	}
	for _, p := range r.partners {
		r.quiet[p.ID] = true
		if p.watch.heard > r.now {
			t.Errorf("member %d was heard in %v", p.ID, p.watch.heard-r.now)
		}
	}
	r.wait(silentAfter - 100*time.Millisecond)
	for _, p := range r.partners {
		if p.watch.says.accuses() {
			t.Errorf("accuses %d of this peer's own silence", p.ID)
		}
	}
	r.wait(200 * time.Millisecond)
	for _, p := range r.partners {
		if p.watch.says != Silent {
			t.Errorf("says %v of %d, want that it is silent", p.watch.says, p.ID)
		}
	}
}

// What was held against a member is void when it raises its epoch, and nothing
// keeps looking at one that is gone.
func TestVerdictEndsTheDoubt(t *testing.T) {
	r := newRig(t, 7)
	r.votes("rrrr..")
	if r.about.State != Failed {
		t.Fatalf("state %v, want failed", r.about.State)
	}
	r.wait(100 * time.Millisecond)
	if len(r.hot) != 0 {
		t.Errorf("%d rows are looked at in each tick, want none", len(r.hot))
	}
	rec := r.export(r.about)
	rec.Epoch, rec.State, rec.Cause = 2, Alive, NoCause
	r.step(News{From: rec.ID, Recs: []Rec{rec}})
	if got := verdict(r.about.State, r.about.Cause); got != "alive" {
		t.Errorf("it contradicts: got %q, want alive", got)
	}
	if n := r.count(r.about); n.accuse != 0 {
		t.Errorf("%d accuse it still", n.accuse)
	}
}
