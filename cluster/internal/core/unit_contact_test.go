package core

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// contacted ticks for d and returns whom the peer contacted how often.
func (r *rig) contacted(d time.Duration) map[ID]int {
	n := map[ID]int{}
	for end := r.now + d; r.now < end; {
		r.now += TickEvery
		var links []Link
		for _, p := range r.partners {
			l := Link{Peer: p.ID, Out: true}
			if !r.quiet[p.ID] {
				l.Heard = r.now
			}
			links = append(links, l)
		}
		for _, c := range r.step(Tick{Links: links}).Contacts {
			n[c.Peer]++
		}
	}
	return n
}

// Each row is a member and whether it is looked for.
func TestWhoIsLookedFor(t *testing.T) {
	for _, tt := range []struct {
		why     string
		members []string
		do      func(r *rig)
		want    []ID
	}{
		{"nobody is lost", []string{"5 a 1 alive"}, nil, nil},
		{"a failed member", []string{"5 a 1 failed"}, nil, []ID{5}},
		{"a suspect that SWIM holds dead", []string{"5 a 1 suspect"}, func(r *rig) { r.rows[5].Level = 1; r.step(Swim{Peer: 5, Dead: true}) }, []ID{5}},
		{"a suspect alone is not", []string{"5 a 1 suspect"}, nil, nil},
		{"nor one that left", []string{"5 a 1 left"}, nil, nil},
		{"nor one that was forgotten", []string{"5 a 1 forgotten"}, nil, nil},
		{"nor one whose address another has", []string{"5 a 1 alive", "6 b 1 failed prev 5"}, func(r *rig) {
			r.edit(r.rows[5], func() { r.rows[5].State, r.rows[5].Epoch, r.rows[5].Prev = Alive, 2, 6 })
		}, nil},
		{"all, when this peer is cut off", []string{"5 a 1 left"}, func(r *rig) {
			for _, p := range r.partners {
				r.quiet[p.ID] = true
				p.watch.heard, p.watch.since = 0, 0
			}
		}, []ID{recOf(1).ID, recOf(2).ID}},
		{"one that SWIM alone knows", nil, func(r *rig) { r.step(Swim{Peer: 5, Addr: recOf(9).Addr}) }, []ID{5}},
		{"not once SWIM holds it dead", nil, func(r *rig) {
			r.step(Swim{Peer: 5, Addr: recOf(9).Addr})
			r.step(Swim{Peer: 5, Addr: recOf(9).Addr, Dead: true})
		}, nil},
		{"one of an earlier run", nil, func(r *rig) {
			r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: recOf(9).Addr}}})
		}, []ID{5}},
		{"not one that left then", nil, func(r *rig) {
			r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: recOf(9).Addr, Left: true}}})
		}, nil},
		{"nor one at this peer's own address", nil, func(r *rig) {
			r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: r.self.Addr}}})
		}, nil},
		{"nor one that is in the table by now", []string{"6 a 2 alive"}, func(r *rig) {
			r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: recOf(9).Addr}}})
		}, nil},
		{"nor one absent for too long", nil, func(r *rig) {
			r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: recOf(9).Addr, Absent: 72*time.Hour + 1}}})
		}, nil},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r := newRig(t, 3)
			var recs []Rec
			for _, s := range tt.members {
				recs = append(recs, parseMember(t, s))
			}
			r.step(News{Recs: recs})
			for id, row := range r.rows { // the new ones have just begun to be watched
				if row.watch != nil && id < 100 {
					row.watch.since = never / 2
					if row.State == Suspect { // the other partners hear it
						row.watch.since = 0
					}
				}
			}
			if tt.do != nil {
				tt.do(r)
			}
			var got []ID
			for id := range r.contacted(2 * time.Second) {
				got = append(got, id)
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("looks for %v, want %v", got, tt.want)
			}
		})
	}
}

// The dials for those that are lost are bounded for all together, each has its turn,
// and a single one is dialled at least every lastRetry.
func TestLookingIsBounded(t *testing.T) {
	r := newRig(t, 3)
	var recs []Rec
	for i := range 150 {
		rec := recOf(100 + i)
		rec.State = Failed
		recs = append(recs, rec)
	}
	r.step(News{Recs: recs})
	got := r.contacted(150 * time.Second)
	total := 0
	for _, n := range got {
		total += n
	}
	if most := retryBurst + 150*retryRate; total > most || total < most-retryRate {
		t.Errorf("%d dials in 150 s, want about %d", total, most)
	}
	if len(got) != 150 {
		t.Errorf("%d of 150 had their turn", len(got))
	}

	r = newRig(t, 3)
	r.step(News{Recs: recs[:1]})
	if n := r.contacted(time.Second)[recs[0].ID]; n < 2 {
		t.Errorf("one that is lost is dialled %d times in its first second, want at least 2", n)
	}
	if n := r.contacted(time.Minute)[recs[0].ID]; n < 24 || n > 40 {
		t.Errorf("it is dialled %d times in a minute, want every %v", n, lastRetry)
	}
}

// Tables that differ for a second are exchanged, the less often the longer they
// differ; equal ones are not.
func TestExchangeWhenTablesDiffer(t *testing.T) {
	r := newRig(t, 3)
	id := recOf(1).ID
	exchanges := func(hash uint64, d time.Duration) (n int) {
		for end := r.now + d; r.now < end; {
			r.now += TickEvery
			n += len(r.step(Ack{Peer: id, Hash: hash}).Contacts)
		}
		return n
	}
	if n := exchanges(r.Hash(), time.Minute); n != 0 {
		t.Errorf("%d exchanges of equal tables", n)
	}
	if n := exchanges(1, differsFor); n != 0 {
		t.Errorf("%d exchanges before they differed for %v", n, differsFor)
	}
	if n := exchanges(1, 2*TickEvery); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	if n := exchanges(1, 10*time.Minute); n < 90 || n > 150 {
		t.Errorf("%d exchanges in ten minutes, want one in %v", n, exchangeMost)
	}
	exchanges(r.Hash(), TickEvery)
	if n := exchanges(1, 2*differsFor); n == 0 {
		t.Error("after they were equal it waits as long as before")
	}
}

// The hash tells tables apart, and does not depend on how they came about.
func TestHash(t *testing.T) {
	hash := func(recs ...string) uint64 {
		r := newRig(t, 3)
		for _, s := range recs {
			r.step(News{Recs: []Rec{parseMember(t, s)}})
		}
		return r.Hash()
	}
	if hash("5 a 1 alive", "6 b 2 failed") != hash("6 b 2 failed", "5 a 1 alive") {
		t.Error("the order counts")
	}
	if hash("5 a 1 alive", "5 a 1 suspect") != hash("5 a 1 suspect") {
		t.Error("the way there counts")
	}
	if hash("5 a 1 alive") == hash("5 a 1 suspect") || hash() == hash("5 a 1 alive") {
		t.Error("different tables are the same")
	}
	// Whatever happened, the running sum is the sum of the rows.
	r := newRig(t, 7)
	r.votes("rrrr..")
	r.tells("1 suspect mute")
	r.step(Record{Peer: recOf(1).ID, Number: 9})
	r.step(Table{From: recOf(1).ID, Recs: []Rec{parseMember(t, "5 a 1 left")}})
	r.now += 100 * time.Hour
	r.tickNow()
	var sum uint64
	for _, row := range r.byID {
		sum += row.sum()
	}
	if r.Hash() != sum {
		t.Error("the hash is out of step with the rows")
	}
}

// Everything that is counted or indexed follows the rows.
func checkIndexes(t testing.TB, c *Core) {
	t.Helper()
	gone, names, addrs, heirs := 0, 0, 0, 0
	var ring, missing []ID
	for i, r := range c.byID {
		if c.rows[r.ID] != r || i > 0 && c.byID[i-1].ID >= r.ID {
			t.Errorf("row %d is out of place", r.ID)
		}
		if r.State.gone() {
			gone++
		}
		if r.State.missing() {
			missing = append(missing, r.ID)
		}
		if r.State.onRing() {
			ring = append(ring, r.ID)
		}
		if r.Prev != 0 {
			heirs++
		}
	}
	for _, r := range c.names {
		for ; r != nil; r = r.nextName {
			names++
		}
	}
	for a, r := range c.addrs {
		for ; r != nil; r = r.nextAddr {
			if addrs++; r.Addr != a {
				t.Errorf("row %d is under another address", r.ID)
			}
		}
	}
	for _, h := range c.heirs {
		heirs -= len(h)
	}
	ids := func(rows []*row) (out []ID) {
		for _, r := range rows {
			out = append(out, r.ID)
		}
		slices.Sort(out)
		return out
	}
	n := len(c.rows)
	if gone != c.gone || names != n || addrs != n || heirs != 0 || len(c.byID) != n {
		t.Errorf("%d rows: gone %d and %d, %d by name, %d by address, %d heirs too few", n, gone, c.gone, names, addrs, heirs)
	}
	if !slices.Equal(ids(c.ring), ring) || !slices.Equal(ids(c.missing), missing) {
		t.Errorf("ring %v, want %v; missing %v, want %v", ids(c.ring), ring, ids(c.missing), missing)
	}
}

func TestIndexesFollow(t *testing.T) {
	r := newRig(t, 5)
	g := rng(7)
	states := []State{Alive, Suspect, Failed, Left, Forgotten, Replaced}
	for i := range 5_000 {
		rec := recOf(100 + int(g.next()%60))
		rec.Name = fmt.Sprint("n", g.next()%20)
		rec.Addr = recOf(500 + int(g.next()%20)).Addr
		rec.Prev = recOf(100 + int(g.next()%60)).ID
		rec.Epoch, rec.State = 1+g.next()%3+uint64(i/500), states[g.next()%6]
		r.step(News{Recs: []Rec{rec}})
		if i%100 == 0 {
			r.now += 10 * time.Minute
			r.tickNow()
			checkIndexes(t, r.Core)
		}
	}
	r.now += 100 * time.Hour
	r.tickNow()
	checkIndexes(t, r.Core)
	if r.gone != 0 {
		t.Errorf("%d departed after their time", r.gone)
	}
}

// When UDP is blocked, nobody answers a ping: tables are exchanged all the same.
func TestBlind(t *testing.T) {
	r := newRig(t, 3)
	r.contacts.acked = r.now
	if got := r.contacted(blindAfter); len(got) != 0 {
		t.Errorf("exchanges with %v too soon", got)
	}
	got := r.contacted(2 * time.Minute)
	n := 0
	for _, k := range got {
		n += k
	}
	if n < 3 || n > 7 {
		t.Errorf("%d exchanges in two minutes, want one in %v", n, exchangeMost)
	}
}

// Those of an earlier run that were not seen are told of.
func TestUnseen(t *testing.T) {
	r := newRig(t, 3)
	r.step(Remembered{[]Memory{{ID: 5, Name: "a", Addr: recOf(9).Addr}, {ID: 7, Name: "b", Addr: recOf(8).Addr}}})
	r.step(News{Recs: []Rec{parseMember(t, "8 b 2 alive")}})
	r.wait(TickEvery)
	if got := r.Stats().Unseen; len(got) != 1 || got[0].Name != "a" {
		t.Errorf("unseen %v, want a", got)
	}
	if known, gone := r.Departed("a"); !known || !gone {
		t.Error("a is not known as gone")
	}
	r.step(Forget{Name: "a"})
	if got := r.Stats().Unseen; len(got) != 0 {
		t.Errorf("unseen %v after it was forgotten", got)
	}
}
