package core

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func sampleRec() Rec {
	return Rec{
		ID: 0x0102030405060708, Prev: 7, Name: "web-1", Addr: netip.MustParseAddrPort("192.0.2.7:7946"),
		Epoch: 300, State: Suspect, Cause: Lossy, Level: 3, Number: 12, Age: 90 * time.Second,
		Version: "v2.0.0", WireMin: 1, WireMax: 2,
	}
}

// frames are one of each kind. The golden file keeps their bytes: a change there
// is a change of the protocol.
func frames() []struct {
	name  string
	frame []byte
} {
	six := sampleRec()
	six.Addr, six.State, six.Cause, six.Ext = netip.MustParseAddrPort("[2001:db8::1]:1"), Left, NoCause, []byte{0xaa, 0xbb}
	least := Rec{ID: 1, Name: "a", Addr: netip.MustParseAddrPort("10.0.0.1:1"), Epoch: 1, State: Alive}
	return []struct {
		name  string
		frame []byte
	}{
		{"vote", Vote{About: 1, From: 2, Epoch: 3, Seq: 400, Says: Refuses}.Append(nil)},
		{"vote that asks", Vote{About: 1, From: 2, Epoch: 3, Seq: 4, Says: Silent, Ask: true}.Append(nil)},
		{"news", AppendRecs(nil, FrameNews, 2, []Rec{sampleRec()})},
		{"table", AppendRecs(nil, FrameTable, 2, []Rec{least, six})},
		{"empty table", AppendRecs(nil, FrameTable, 2, nil)},
		{"number", Number{Peer: 2, Number: 300}.Append(nil)},
		{"want", Want{From: 2, Owner: 3}.Append(nil)},
	}
}

func TestGoldenFrames(t *testing.T) {
	const path = "testdata/wire.golden"
	var got strings.Builder
	for _, f := range frames() {
		fmt.Fprintf(&got, "%s: %s\n", f.name, hex.EncodeToString(f.frame))
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// What was written is read, and what is cut short is an error, wherever it is cut.
func TestFramesRoundTrip(t *testing.T) {
	for _, f := range frames() {
		kind, b := f.frame[0], f.frame[1:]
		read := func(b []byte) (again []byte, err error) {
			switch kind {
			case FrameVote:
				v, err := ParseVote(b)
				return v.Append(nil), err
			case FrameNews:
				n, err := ParseNews(b)
				return AppendRecs(nil, FrameNews, n.From, n.Recs), err
			case FrameTable:
				n, err := ParseTable(b)
				return AppendRecs(nil, FrameTable, n.From, n.Recs), err
			case FrameNumber:
				n, err := ParseNumber(b)
				return n.Append(nil), err
			default:
				w, err := ParseWant(b)
				return w.Append(nil), err
			}
		}
		again, err := read(b)
		if err != nil || !bytes.Equal(again, f.frame) {
			t.Errorf("%s: read and written again %x, %v, want %x", f.name, again, err, f.frame)
		}
		for n := range b {
			again, err := read(b[:n])
			whole := (kind == FrameNews || kind == FrameTable) && err == nil && bytes.Equal(again, f.frame[:n+1])
			if !errors.Is(err, ErrWire) && !whole { // a table may end behind each of its records
				t.Errorf("%s cut to %d bytes: %v, want ErrWire", f.name, n, err)
			}
		}
		if kind == FrameVote || kind == FrameNumber || kind == FrameWant { // a later version adds to it
			if again, err := read(append(bytes.Clone(b), 1, 2, 3)); err != nil || !bytes.Equal(again, f.frame) {
				t.Errorf("%s with more behind it: %x, %v, want it as if there were nothing", f.name, again, err)
			}
		}
	}
}

// encode returns the encoding of sampleRec, changed by f.
func encode(f func(r *Rec)) []byte {
	r := sampleRec()
	f(&r)
	return AppendRec(nil, &r)
}

func addr(s string) func(r *Rec) {
	return func(r *Rec) { r.Addr = netip.MustParseAddrPort(s) }
}

// A record that cannot be used is left out alone; what is new in a later version
// is passed on.
func TestOtherVersionsAndHostileRecords(t *testing.T) {
	const fine, alone, spoils = "fine", "left out alone", "spoils the frame"
	for _, tt := range []struct {
		name string
		rec  []byte
		want string
	}{
		{"as it is", encode(func(*Rec) {}), fine},
		{"more behind it", encode(func(r *Rec) { r.Ext = []byte("later") }), fine},
		{"a cause of a later version", encode(func(r *Rec) { r.Cause = 77 }), fine},
		{"a level of a later version", encode(func(r *Rec) { r.Level = 255 }), fine},
		{"a state of a later version", encode(func(r *Rec) { r.State = Replaced + 1 }), alone},
		{"no state", encode(func(r *Rec) { r.State = 0 }), alone},
		{"no instance", encode(func(r *Rec) { r.ID = 0 }), alone},
		{"no epoch", encode(func(r *Rec) { r.Epoch = 0 }), alone},
		{"the last epoch", encode(func(r *Rec) { r.Epoch = maxEpoch }), fine},
		{"an epoch beyond", encode(func(r *Rec) { r.Epoch = maxEpoch + 1 }), alone},
		{"a number beyond", encode(func(r *Rec) { r.Number = maxNumber + 1 }), alone},
		{"no name", encode(func(r *Rec) { r.Name = "" }), alone},
		{"the longest name", encode(func(r *Rec) { r.Name = strings.Repeat("n", MaxName) }), fine},
		{"a longer name", encode(func(r *Rec) { r.Name = strings.Repeat("n", MaxName+1) }), spoils},
		{"a longer version", encode(func(r *Rec) { r.Version = strings.Repeat("n", MaxVersion+1) }), spoils},
		{"control characters in its name: the caller's to check", encode(func(r *Rec) { r.Name = "a\x00\n\x1b[2J" }), fine},
		{"an IPv6 address", encode(addr("[2001:db8::2]:1")), fine},
		{"port 0", encode(addr("192.0.2.1:0")), alone},
		{"no address", encode(func(r *Rec) { r.Addr = netip.AddrPort{} }), alone},
		{"a zone", encode(addr("[fe80::1%eth0]:1")), alone},
		{"a zone too long for an address", encode(addr("[fe80::1%" + strings.Repeat("z", 64) + "]:1")), spoils},
		{"an IPv4 address in IPv6", encode(addr("[::ffff:192.0.2.1]:1")), alone},
		{"an unspecified address", encode(addr("0.0.0.0:1")), alone},
		{"a multicast address", encode(addr("224.0.0.1:1")), alone},
		{"the broadcast address", encode(addr("255.255.255.255:1")), alone},
		{"nothing", []byte{0}, spoils},
		{"a length beyond the frame", []byte{0x20, 1}, spoils},
		{"an endless length", bytes.Repeat([]byte{0xff}, 11), spoils},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := Rec{ID: 9, Name: "other", Addr: netip.MustParseAddrPort("10.0.0.9:9"), Epoch: 1, State: Alive}
			frame := append(AppendRec([]byte("12345678"), &other), tt.rec...)
			frame = AppendRec(frame, &other)
			_, recs, err := parseRecs(frame, maxNews)
			got := fine
			switch {
			case errors.Is(err, ErrWire) && recs == nil:
				got = spoils
			case err != nil:
				t.Fatal(err)
			case len(recs) == 2:
				got = alone
			case !bytes.Equal(AppendRec(nil, &recs[1]), tt.rec):
				t.Errorf("passed on as %x, want %x", AppendRec(nil, &recs[1]), tt.rec)
			}
			if got != tt.want {
				t.Errorf("%s, want: %s", got, tt.want)
			}
		})
	}
}

// What a later version says in a vote is ignored alone.
func TestVoteOfALaterVersion(t *testing.T) {
	b := Vote{About: 1, From: 2, Epoch: 3, Seq: 4, Says: Refuses + 1, Ask: true}.Append(nil)
	b[len(b)-1] |= 0xf0
	got, err := ParseVote(b[1:])
	if want := (Vote{About: 1, From: 2, Epoch: 3, Seq: 4, Ask: true}); got != want || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// What is too long to be kept is not kept, and the record is.
func TestTooMuchBehindARecord(t *testing.T) {
	rec := sampleRec()
	rec.Ext = make([]byte, maxExt+1)
	_, recs, err := parseRecs(AppendRec(make([]byte, 8), &rec), maxNews)
	if err != nil || len(recs) != 1 || recs[0].Ext != nil {
		t.Errorf("%d records, %v, want one without what is behind it", len(recs), err)
	}
	rec.Ext = make([]byte, maxExt)
	_, recs, err = parseRecs(AppendRec(make([]byte, 8), &rec), maxNews)
	if err != nil || len(recs) != 1 || !bytes.Equal(recs[0].Ext, rec.Ext) {
		t.Errorf("%d records, %v, want one with all that is behind it", len(recs), err)
	}
}

func TestTooManyRecords(t *testing.T) {
	recs := tableOf(maxNews + 1)
	if _, err := ParseNews(AppendRecs(nil, FrameNews, 1, recs)[1:]); !errors.Is(err, ErrWire) {
		t.Errorf("%d records: %v, want ErrWire", len(recs), err)
	}
	if n, err := ParseNews(AppendRecs(nil, FrameNews, 1, recs[1:])[1:]); err != nil || len(n.Recs) != maxNews {
		t.Errorf("%d records, %v, want %d", len(n.Recs), err, maxNews)
	}
}

// An age is never negative, and a huge one does not overflow.
func TestAgeOnTheWire(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{
		-time.Hour: 0, time.Second - 1: 0, time.Minute + 1: time.Minute, 1<<63 - 1: maxAge,
	} {
		rec := sampleRec()
		rec.Age = age
		_, recs, err := parseRecs(AppendRec(make([]byte, 8), &rec), maxNews)
		if err != nil || recs[0].Age != want {
			t.Errorf("age %v is read as %v, %v, want %v", age, recs[0].Age, err, want)
		}
	}
}

// leastRec is how many bytes a record has at least.
const leastRec = 35

// What a frame costs to read is bounded by its length: a record takes 160 bytes to
// hold, and the slice of them grows by doubling.
func TestReadingCostsInProportion(t *testing.T) {
	least := Rec{ID: 1, Name: "a", Addr: netip.MustParseAddrPort("10.0.0.1:1"), Epoch: 1, State: Alive}
	unknown := least
	unknown.State = Replaced + 1
	if got := len(AppendRec(nil, &least)); got != leastRec {
		t.Errorf("the least record has %d bytes, want %d", got, leastRec)
	}
	for name, rec := range map[string]Rec{"least": least, "unknown": unknown} {
		var b []byte
		for range maxLive + maxGone {
			b = AppendRec(b, &rec)
		}
		b = append(make([]byte, 8), b...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		table, err := ParseTable(b)
		runtime.ReadMemStats(&after)
		if spent, most := after.TotalAlloc-before.TotalAlloc, uint64(32*len(b)); err != nil || spent > most {
			t.Errorf("%s: %d bytes with %d records cost %d, %v, want at most %d", name, len(b), len(table.Recs), spent, err, most)
		}
	}
}

func FuzzRecs(f *testing.F) {
	for _, fr := range frames() {
		f.Add(fr.frame[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ParseTable(b)
		if len(table.Recs)*leastRec > len(b) {
			t.Errorf("%d bytes are read as %d records", len(b), len(table.Recs))
		}
		if err != nil {
			if !errors.Is(err, ErrWire) || table.Recs != nil {
				t.Errorf("%d records and %v, want none and ErrWire", len(table.Recs), err)
			}
			return
		}
		for i := range table.Recs {
			r := &table.Recs[i]
			if !usable(r.Addr) || r.ID == 0 || r.Epoch == 0 || r.Epoch > maxEpoch || r.State == 0 || r.State > Replaced ||
				r.Name == "" || len(r.Name) > MaxName || len(r.Version) > MaxVersion || len(r.Ext) > maxExt || r.Age < 0 || r.Age > maxAge {
				t.Fatalf("unusable record %+v", r)
			}
		}
		again, err := ParseTable(AppendRecs(nil, FrameTable, table.From, table.Recs)[1:])
		if err != nil || !reflect.DeepEqual(again, table) {
			t.Errorf("read, written and read again: %+v, %v, want %+v", again, err, table)
		}
	})
}

func FuzzVote(f *testing.F) {
	for _, fr := range frames() {
		f.Add(fr.frame[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParseVote(b); err == nil {
			if again, err := ParseVote(v.Append(nil)[1:]); err != nil || again != v {
				t.Errorf("%+v, %v, want %+v", again, err, v)
			}
			if v.Says > Refuses {
				t.Errorf("says %d", v.Says)
			}
		}
		if n, err := ParseNumber(b); err == nil {
			if again, err := ParseNumber(n.Append(nil)[1:]); err != nil || again != n {
				t.Errorf("%+v, %v, want %+v", again, err, n)
			}
		}
		if w, err := ParseWant(b); err == nil {
			if again, err := ParseWant(w.Append(nil)[1:]); err != nil || again != w {
				t.Errorf("%+v, %v, want %+v", again, err, w)
			}
		}
	})
}
