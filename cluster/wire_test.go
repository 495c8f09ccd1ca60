package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/core"
)

var update = flag.Bool("update", false, "write the golden files")

const p1 = Instance(1) << instanceRandomBits

// clean says whether s holds nothing that could act on a terminal or a log.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}

func goldenRecord() record {
	return record{
		Tags: map[string]string{"role": "überall", "zone": "a"},
		Services: []Service{{
			Name: "web", Addr: "10.1.2.3", Port: 80, Tags: []string{"http", "v2"}, Weight: 3,
			Health: "passing", Meta: map[string]string{"path": "/x"}, Draining: true,
		}},
	}
}

var goldenBeats = []core.Beat{{Peer: 7, Count: 900}, {Peer: 1 << 40, Count: 1, Age: 12 * time.Second}}

// goldenTable is two records: one of all fields, and one of the least.
func goldenTable() []core.Rec {
	first := stillRec(1)
	first.Prev, first.Epoch, first.State, first.Cause, first.Level = 9, 300, core.Suspect, core.Lossy, 2
	first.Number, first.Age, first.Ext = 12, time.Minute, []byte{0xaa}
	second := stillRec(2)
	second.Version = ""
	return []core.Rec{first, second}
}

// wire is one of each that this package puts on the gossip port. The golden file
// keeps their bytes: a change there is a change of the protocol, and the next
// version reads what this one wrote.
func wire(tb testing.TB) []struct {
	name string
	b    []byte
} {
	body, err := encodeRecord(goldenRecord())
	if err != nil {
		tb.Fatal(err)
	}
	a := ack{hash: 1<<63 + 5, beats: goldenBeats, at: time.Minute}
	table := core.AppendRecs(nil, core.FrameTable, core.ID(p1), goldenTable())
	frames := [][]byte{table, recordFrame(core.ID(p1), 12, body), appendBeats([]byte{frameBeats}, goldenBeats, 0)}
	var state []byte
	for _, f := range frames {
		state = appendFrame(state, f)
	}
	return []struct {
		name string
		b    []byte
	}{
		{"node name", []byte(nodeName("web-1.example.org", p1))},
		{"meta", appendMeta(nil)},
		{"ack", a.append(nil, time.Minute+time.Second)},
		{"record", frames[1]},
		{"empty record", recordFrame(core.ID(p1), 1, []byte("{}"))},
		{"beats", frames[2]},
		{"state", state},
	}
}

func TestGoldenWire(t *testing.T) {
	const path = "testdata/wire.golden"
	var got strings.Builder
	for _, f := range wire(t) {
		fmt.Fprintf(&got, "%s: %s\n", f.name, hex.EncodeToString(f.b))
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

// golden returns the bytes that the golden file has under name: what a peer of
// this version sends, whatever this code would write now.
func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	all, err := os.ReadFile("testdata/wire.golden")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if text, ok := strings.CutPrefix(line, name+": "); ok {
			b, err := hex.DecodeString(strings.TrimSpace(text))
			if err != nil {
				tb.Fatal(err)
			}
			return b
		}
	}
	tb.Fatalf("the golden file has no %s", name)
	return nil
}

// What a peer of this version wrote is understood.
func TestGoldenWireIsRead(t *testing.T) {
	if name, i, err := parseNodeName(string(golden(t, "node name"))); name != "web-1.example.org" || i != p1 || err != nil {
		t.Errorf("node name: got %q, %v, %v", name, i, err)
	}
	if v, err := parseMeta(golden(t, "meta")); v != 2 || err != nil {
		t.Errorf("meta: got version %d, %v, want 2", v, err)
	}
	older := []core.Beat{goldenBeats[0], goldenBeats[1]}
	older[1].Age += time.Second // for so long the ack had waited
	if a, err := parseAck(golden(t, "ack")); a.hash != 1<<63+5 || !slices.Equal(a.beats, older) || err != nil {
		t.Errorf("ack: got %+v, %v", a, err)
	}
	c := still(t)
	if in, ok := c.readFrame(golden(t, "record")).(core.Record); !ok || in.Peer != core.ID(p1) || in.Number != 12 || !reflect.DeepEqual(in.Data, goldenRecord()) {
		t.Errorf("record: got %+v", in)
	}
	if in, ok := c.readFrame(golden(t, "beats")).(core.Beats); !ok || !slices.Equal(in.Beats, goldenBeats) {
		t.Errorf("beats: got %+v", in)
	}
	c.mergeState(golden(t, "state"))
	c.settle()
	ms := c.View().Lookup("host-00001")
	if len(ms) != 1 || ms[0].State != Suspect || ms[0].Cause != CauseLossy || ms[0].Addr != stillAddr(1) || len(c.View().Members) != 3 {
		t.Errorf("state: got %+v", ms)
	}
}

func TestNodeNameRoundTrip(t *testing.T) {
	for _, name := range []string{"a", "web-1.example.org", strings.Repeat("x", maxNameBytes)} {
		for _, inst := range []Instance{1, p1, math.MaxUint64} {
			n, i, err := parseNodeName(nodeName(name, inst))
			if n != name || i != inst || err != nil {
				t.Errorf("%s, %v: got %q, %v, %v", name, inst, n, i, err)
			}
		}
	}
}

func TestHostileNodeNames(t *testing.T) {
	for _, s := range []string{
		"", "#", "p1", "p1#", "#0000000000000001", "p1#0000000000000000", "p1#1", "p1#+000000000000001",
		"p1#00000000000000_1", "p1#00000000000000001", "p1#000000000000000A", "p1##000000000000001",
		"p1#0000000000000001#0000000000000001", "p\x1b[2J#0000000000000001", "p 1#0000000000000001",
		"p\u202e1#0000000000000001", "p1\x00#0000000000000001", "é#0000000000000001", "-p#0000000000000001",
		strings.Repeat("x", maxNameBytes+1) + "#0000000000000001", strings.Repeat("x", 1<<20), "p1#" + strings.Repeat("\xff", 16),
	} {
		if n, i, err := parseNodeName(s); err == nil {
			t.Errorf("%.40q: got %q, %v, want an error", s, n, i)
		} else if !errors.Is(err, core.ErrWire) || len(err.Error()) > 1024 || !clean(err.Error()) {
			t.Errorf("%.40q: error %.200q", s, err)
		}
	}
}

func FuzzNodeName(f *testing.F) {
	f.Add("p1#0000000000000001")
	f.Add("p1#000000000000000A")
	f.Add("p\x1b#0000000000000001")
	f.Fuzz(func(t *testing.T, s string) {
		name, inst, err := parseNodeName(s)
		if err != nil {
			if len(err.Error()) > 1024 || !clean(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		if nodeName(name, inst) != s || inst == 0 || !clean(name) || len(name) > maxNameBytes {
			t.Errorf("%q: got %q and %v", s, name, inst)
		}
	})
}

// Members work together whose ranges of wire versions overlap, and the words say
// what to do where they do not.
func TestWireVersions(t *testing.T) {
	for _, tt := range []struct {
		name string
		meta []byte
		want byte // 0: refused
	}{
		{"this version", []byte{wireMin, wireMax}, wireMax},
		{"the next, which speaks this one too", []byte{wireMax, wireMax + 1}, wireMax},
		{"one that speaks all", []byte{1, 255}, wireMax},
		{"one that appends to its meta", []byte{wireMin, wireMax + 3, 7, 7, 7}, wireMax},
		{"one that speaks later ones only", []byte{wireMax + 1, wireMax + 2}, 0},
		{"one that speaks earlier ones only", []byte{1, wireMin - 1}, 0},
	} {
		v, err := parseMeta(tt.meta)
		if v != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: got version %d, %v, want %d", tt.name, v, err, tt.want)
		}
		if tt.want == 0 && (!errors.Is(err, errVersion) || !strings.Contains(err.Error(), "upgrade the older of the two")) {
			t.Errorf("%s: got %q, want words that name the fix", tt.name, err)
		}
	}
	for _, b := range [][]byte{nil, {}, {wireMin}, {0, 2}, {3, 2}} {
		if v, err := parseMeta(b); !errors.Is(err, core.ErrWire) {
			t.Errorf("meta %x: got %d, %v, want ErrWire", b, v, err)
		}
	}
	if n := len(appendMeta(nil)); n > memberlist.MetaMaxSize {
		t.Errorf("meta of %d bytes: memberlist panics above %d", n, memberlist.MetaMaxSize)
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil))
	f.Add([]byte{1, 255, 9})
	f.Add([]byte{3, 3})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseMeta(b)
		if err == nil && (v < wireMin || v > wireMax || v < b[0] || v > b[1]) {
			t.Errorf("%x: agreed on version %d", b, v)
		}
	})
}

func TestBeatsRoundTrip(t *testing.T) {
	in := []core.Beat{{Peer: 1, Count: 1}, {Peer: math.MaxUint64, Count: maxCount, Age: 200 * time.Millisecond}, {Peer: core.ID(p1), Count: 5, Age: time.Hour}}
	got, err := parseBeats(appendBeats(nil, in, 0))
	if !slices.Equal(got, in) || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = parseBeats(appendBeats(nil, in, time.Minute))
	if err != nil || got[0].Age != 0 || got[1].Age != in[1].Age+time.Minute {
		t.Errorf("a minute later: got %v, %v, want them older, but for the sender's own", got, err)
	}
	if got, err := parseBeats(appendBeats(nil, []core.Beat{{Peer: 1, Count: 1, Age: -time.Hour}}, 0)); err != nil || got[0].Age != 0 {
		t.Errorf("negative age: got %v, %v", got, err)
	}
	if _, err := parseBeats(appendBeats(nil, make([]core.Beat, maxBeats+1), 0)); !errors.Is(err, core.ErrWire) {
		t.Errorf("%d heartbeats: %v", maxBeats+1, err)
	}
	if _, err := parseBeats(appendBeats(nil, make([]core.Beat, maxBeats), 0)); err != nil {
		t.Errorf("%d heartbeats: %v", maxBeats, err)
	}
	if _, err := parseBeats(appendBeats(nil, []core.Beat{{Peer: 1, Count: maxCount + 1}}, 0)); !errors.Is(err, core.ErrWire) {
		t.Errorf("a counter that no peer reaches: %v", err)
	}
}

func FuzzBeats(f *testing.F) {
	f.Add(appendBeats(nil, goldenBeats, 0))
	f.Add(append(bytes.Repeat([]byte{1}, 9), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		beats, err := parseBeats(b)
		if err != nil {
			return
		}
		if len(beats) > maxBeats || len(beats) > len(b)/10 {
			t.Errorf("%d heartbeats out of %d bytes", len(beats), len(b))
		}
		for _, x := range beats {
			if x.Age < 0 || x.Count > maxCount {
				t.Errorf("heartbeat %+v", x)
			}
		}
		again, err := parseBeats(appendBeats(nil, beats, 0))
		if !slices.Equal(again, beats) || err != nil {
			t.Errorf("again: %v, %v, want %v", again, err, beats)
		}
	})
}

func TestAckCutShort(t *testing.T) {
	b := golden(t, "ack")
	for n := range b {
		a, err := parseAck(b[:n])
		whole := n >= 8 && err == nil && bytes.Equal(a.append(nil, 0), b[:n]) // it may end behind each heartbeat
		if !errors.Is(err, core.ErrWire) && !whole {
			t.Errorf("%d bytes of it: %+v, %v, want ErrWire", n, a, err)
		}
	}
}

func FuzzAck(f *testing.F) {
	f.Add(golden(f, "ack"))
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAck(b)
		if err != nil {
			if !errors.Is(err, core.ErrWire) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := parseAck(a.append(nil, 0))
		if again.hash != a.hash || !slices.Equal(again.beats, a.beats) || err != nil {
			t.Errorf("again: %v, %v, want %v", again, err, a)
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	body, err := encodeRecord(goldenRecord())
	if err != nil {
		t.Fatal(err)
	}
	in, err := parseRecord(recordFrame(core.ID(p1), 12, body)[1:])
	if in.Peer != core.ID(p1) || in.Number != 12 || err != nil || !bytes.Equal(in.Body, body) || !reflect.DeepEqual(in.Data, goldenRecord()) {
		t.Fatalf("got %+v, %v", in, err)
	}
	if _, err := parseRecord(recordFrame(core.ID(p1), 1, make([]byte, maxRecord+1))[1:]); !errors.Is(err, core.ErrWire) {
		t.Errorf("%d bytes: %v", maxRecord+1, err)
	}
	if _, err := parseRecord(recordFrame(core.ID(p1), maxCount+1, []byte("{}"))[1:]); !errors.Is(err, core.ErrWire) {
		t.Errorf("a number that no peer reaches: %v", err)
	}
	largest := record{Services: []Service{{Name: "web", Meta: map[string]string{}}}}
	for i := range 300 {
		largest.Services[0].Meta[fmt.Sprintf("k%03d", i)] = strings.Repeat("x", maxTagValueBytes)
	}
	if _, err := encodeRecord(largest); err == nil || !strings.Contains(err.Error(), "announce fewer or shorter ones") {
		t.Errorf("its own too large record: %v, want words that name the fix", err)
	}
}

// What a later version announces and this one does not know changes nothing else:
// an unknown health counts as unchecked, and the record is passed on as it came.
func TestRecordOfALaterVersion(t *testing.T) {
	body := []byte(`{"tags":{"a":"b"},"shape":{"round":[1]},"services":[
		{"name":"web","port":80,"health":"passing","paint":"red"},{"name":"db","port":5432,"health":"maintenance"}]}`)
	r, err := decodeRecord(body)
	if err != nil {
		t.Fatalf("the whole record is dropped for one unknown health: %v", err)
	}
	if r.Tags["a"] != "b" || len(r.Services) != 2 || r.Services[0].Health != "passing" || r.Services[1].Health != "" {
		t.Errorf("got %+v", r)
	}
	c := stillOf(t, 3)
	c.step(c.readFrame(recordFrame(core.ID(stillID(1)), 2, body)))
	c.settle()
	if m := c.View().Lookup("host-00001")[0]; m.Tags["a"] != "b" || len(m.Services) != 2 {
		t.Errorf("shown: %+v", m)
	}
	if n, held := c.core.Body(core.ID(stillID(1))); n != 2 || !bytes.Equal(held, body) {
		t.Errorf("passed on: number %d, %s", n, held)
	}
}

// many returns n of s, made different by a number in place of %d.
func many(n int, s, between string) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(s, i)
	}
	return strings.Join(out, between)
}

func TestHostileRecords(t *testing.T) {
	service := func(s string) string { return `{"services":[{"name":"web",` + s + `}]}` }
	for _, tt := range []struct{ name, json string }{
		{"nothing", ``},
		{"not JSON", `tags=1`},
		{"two values", `{} {}`},
		{"a list", `[]`},
		{"cut off", `{"tags":{"a":"b"`},
		{"deep", strings.Repeat(`[`, maxRecord)},
		{"deep in an unknown field", `{"x":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`},
		{"large", `{"x":"` + strings.Repeat("x", maxRecord) + `"}`},
		{"tag with a control character", `{"tags":{"a":"\u001b[2J"}}`},
		{"tag with a line end", `{"tags":{"a":"b\nlevel=error"}}`},
		{"tag that turns text round", `{"tags":{"a":"\u202eevil"}}`},
		{"tag of no width", `{"tags":{"a":"\u200b"}}`},
		{"tag key with a control character", `{"tags":{"a\u0007":"b"}}`},
		{"tag key with a space", `{"tags":{"a b":"b"}}`},
		{"empty tag key", `{"tags":{"":"b"}}`},
		{"long tag", `{"tags":{"a":"` + strings.Repeat("x", maxTagValueBytes+1) + `"}}`},
		{"long tag key", `{"tags":{"` + strings.Repeat("x", maxTagKeyBytes+1) + `":""}}`},
		{"many tags", `{"tags":{` + many(maxTags+1, `"t%d":""`, ",") + `}}`},
		{"tags of a wrong type", `{"tags":{"a":1}}`},
		{"many services", `{"services":[` + many(maxServices+1, `{"name":"s%d"}`, ",") + `]}`},
		{"twenty thousand empty services", `{"services":[` + many(20000, `{}`, ",") + `]}`},
		{"service twice", `{"services":[{"name":"web"},{"name":"web"}]}`},
		{"service without a name", `{"services":[{"port":80}]}`},
		{"service with a dot", `{"services":[{"name":"a.b"}]}`},
		{"service with a control character", `{"services":[{"name":"a\u0000"}]}`},
		{"service with a capital", `{"services":[{"name":"Web"}]}`},
		{"port", service(`"port":65536`)},
		{"negative port", service(`"port":-1`)},
		{"weight", service(`"weight":1001`)},
		{"huge weight", service(`"weight":1e300`)},
		{"negative weight", service(`"weight":-1`)},
		{"address with a control character", service(`"addr":"10.0.0.1\r\nX: y"`)},
		{"address that turns text round", service(`"addr":"\u202e1.0.0.01"`)},
		{"address with a space", service(`"addr":"10.0.0.1 evil"`)},
		{"long address", service(`"addr":"` + strings.Repeat("a", 254) + `"`)},
		{"service tag", service(`"tags":["a b"]`)},
		{"many service tags", service(`"tags":[` + many(65, `"t%d"`, ",") + `]`)},
		{"service meta", service(`"meta":{"k":"\u0085"}`)},
		{"many service metas", service(`"meta":{` + many(maxTags+1, `"t%d":""`, ",") + `}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := decodeRecord([]byte(tt.json))
			if !errors.Is(err, core.ErrWire) {
				t.Fatalf("got %+v, %v, want it refused", r, err)
			}
			if r.Tags != nil || r.Services != nil {
				t.Error("a refused record came back all the same")
			}
			if len(err.Error()) > 300 || !clean(err.Error()) {
				t.Errorf("error of %d bytes: %.300q", len(err.Error()), err)
			}
		})
	}
	for _, s := range []string{
		`{}`, `null`, `{"unknown":[1,2]}`, `{"tags":null,"services":null}`,
		`{"tags":{"a":"` + strings.Repeat("x", maxTagValueBytes) + `"}}`,
		`{"services":[` + many(maxServices, `{"name":"s%d"}`, ",") + `]}`,
	} {
		if _, err := decodeRecord([]byte(s)); err != nil {
			t.Errorf("%.60s: %v", s, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(golden(f, "record")[10:])
	f.Add([]byte(`{"tags":{"zone":"a"},"services":[{"name":"web","port":80,"tags":["x"],"meta":{"k":"v"}}]}`))
	f.Add([]byte(`{"tags":{"zone":"\u001b\u202e"}}`))
	f.Add([]byte(`{"services":[{"addr":"::1","health":"critical","weight":7,"name":"a"}]}`))
	f.Add([]byte(`[[[[[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			if len(err.Error()) > 1024 || !clean(err.Error()) {
				t.Errorf("error %.200q", err)
			}
			return
		}
		if len(r.Tags) > maxTags || len(r.Services) > maxServices {
			t.Errorf("%d tags, %d services", len(r.Tags), len(r.Services))
		}
		printable := func(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) }
		for k, v := range r.Tags {
			if !clean(k) || !printable(v) {
				t.Errorf("tag %q: %q", k, v)
			}
		}
		for _, s := range r.Services {
			if !clean(s.Name) || !clean(strings.Join(s.Tags, "")) || !printable(s.Addr) || !knownHealth(s.Health) {
				t.Errorf("service %+v", s)
			}
		}
		body, err := encodeRecord(r)
		if err != nil {
			return // larger once written out
		}
		if again, err := decodeRecord(body); err != nil || len(again.Tags) != len(r.Tags) || len(again.Services) != len(r.Services) {
			t.Errorf("again: %+v, %v, want %+v", again, err, r)
		}
	})
}

func TestCutFrame(t *testing.T) {
	frames := [][]byte{recordFrame(core.ID(p1), 1, []byte("{}")), {frameBeats}, bytes.Repeat([]byte{'x'}, 300)}
	var b []byte
	for _, f := range frames {
		b = appendFrame(b, f)
	}
	for i, want := range frames {
		got, rest, err := cutFrame(b)
		if !bytes.Equal(got, want) || err != nil {
			t.Fatalf("frame %d: got %q, %v, want %q", i, got, err, want)
		}
		b = rest
	}
	for _, bad := range [][]byte{nil, {0}, {5, 'F'}, {0x80}, binary.AppendUvarint(nil, math.MaxUint64), append(binary.AppendUvarint(nil, 1<<63), 'F')} {
		if f, _, err := cutFrame(bad); !errors.Is(err, core.ErrWire) {
			t.Errorf("%x: got %q, %v", bad, f, err)
		}
	}
}
