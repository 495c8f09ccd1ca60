package core

import (
	"slices"
	"testing"
	"time"
)

// Each row is what comes about the record of one member; want is the number of what
// is shown, and whether its owner is asked within a second.
func TestRecords(t *testing.T) {
	id := recOf(1).ID
	for _, tt := range []struct {
		why  string
		in   []Input
		want uint64
		asks bool
	}{
		{"the next number", []Input{Record{Peer: id, Number: 2}}, 2, false},
		{"the same number", []Input{Record{Peer: id, Number: 1, Body: []byte("x")}}, 1, false},
		{"an older one after a newer", []Input{Record{Peer: id, Number: 3}, Record{Peer: id, Number: 2}}, 3, false},
		{"a number alone", []Input{Number{Peer: id, Number: 2}}, 1, true},
		{"a number, and its record", []Input{Number{Peer: id, Number: 2}, Record{Peer: id, Number: 2}}, 2, false},
		{"a number, and an older record", []Input{Number{Peer: id, Number: 3}, Record{Peer: id, Number: 2}}, 2, true},
		{"no number that anybody has", []Input{Number{Peer: id, Number: maxNumber + 1}}, 1, false},
		{"nor a record of it", []Input{Record{Peer: id, Number: maxNumber + 1}}, 1, false},
		{"of one that is unknown", []Input{Number{Peer: 77, Number: 5}, Record{Peer: 77, Number: 5}}, 1, false},
	} {
		r := newRig(t, 3)
		for _, in := range tt.in {
			r.step(in)
		}
		r.wait(time.Second)
		if in, _ := r.Shown(id); in.Number != tt.want {
			t.Errorf("%s: number %d, want %d", tt.why, in.Number, tt.want)
		}
		asks := 0
		for _, s := range r.sends {
			if w, ok := s.Msg.(Want); ok && w.Owner == id && w.From == r.self.ID {
				asks++
			}
		}
		if asks > 0 != tt.asks || asks > 5 {
			t.Errorf("%s: asks %d times, want it %v", tt.why, asks, tt.asks)
		}
	}
}

// Whoever spreads a record in this peer's name is contradicted.
func TestForgedRecord(t *testing.T) {
	for why, tt := range map[string]struct {
		in   Input
		want uint64
	}{
		"a newer record":       {Record{Peer: recOf(0).ID, Number: 7}, 8},
		"another of its own":   {Record{Peer: recOf(0).ID, Number: 1, Body: []byte("forged")}, 2},
		"its own comes back":   {Record{Peer: recOf(0).ID, Number: 1}, 1},
		"an older one":         {Record{Peer: recOf(0).ID, Number: 0, Body: []byte("forged")}, 1},
		"a newer number":       {News{Recs: []Rec{{ID: recOf(0).ID, Epoch: 1, State: Alive, Number: 7}}}, 8},
		"a number with a word": {News{Recs: []Rec{{ID: recOf(0).ID, Epoch: 1, State: Left, Number: 7}}}, 8},
	} {
		r := newRig(t, 3)
		out := r.step(tt.in)
		if r.self.number != tt.want || r.self.Rec.Number != tt.want {
			t.Errorf("%s: number %d and %d, want %d", why, r.self.number, r.self.Rec.Number, tt.want)
		}
		spread := false
		for _, s := range out.Sends {
			if m, ok := s.Msg.(RecordOf); ok && m.Peer == r.self.ID && len(s.To) == 2 {
				spread = true
			}
		}
		if spread != (tt.want > 1) {
			t.Errorf("%s: spreads its own %v", why, spread)
		}
	}
}

// A new record of this peer's goes to all, and is shown.
func TestSetRecord(t *testing.T) {
	r := newRig(t, 3)
	out := r.step(SetRecord{Body: []byte("new"), Data: 7})
	in, _ := r.Shown(r.self.ID)
	if in.Number != 2 || string(in.Body) != "new" || in.Data != 7 {
		t.Errorf("shown %d %q %v, want 2 new 7", in.Number, in.Body, in.Data)
	}
	if len(out.Changes) != 1 || out.Changes[0].Kind != Updated || len(out.Sends) != 1 || len(out.Sends[0].To) != 2 {
		t.Errorf("changes %v, sends %v, want one each, to the two others", out.Changes, out.Sends)
	}
}

// A record that was announced while its owner was failed is asked for when the owner
// is back, and for as long as it does not come.
func TestRecordOfOneThatWasFailed(t *testing.T) {
	r := newRig(t, 3)
	rec := recOf(1)
	rec.Epoch, rec.State, rec.Cause, rec.Number = 1, Failed, Crashed, 1
	r.step(News{From: recOf(2).ID, Recs: []Rec{rec}})
	rec.Number = 2
	r.step(News{From: recOf(2).ID, Recs: []Rec{rec}}) // one that is gone cannot be asked
	rec.Epoch, rec.State, rec.Cause = 2, Alive, NoCause
	r.step(News{From: rec.ID, Recs: []Rec{rec}})
	for _, within := range []time.Duration{time.Second, time.Minute, time.Minute} {
		r.sends = r.sends[:0]
		r.wait(within)
		if !slices.ContainsFunc(r.sends, func(s Send) bool { w, ok := s.Msg.(Want); return ok && w.Owner == rec.ID }) {
			t.Errorf("its record was not asked for within %v", within)
		}
	}
}
