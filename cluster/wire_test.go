package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"math"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/datadir"
)

// nowhere is the gossip port of a host without a network.
type nowhere struct {
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (nowhere) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(10, 0, 0, 7), 7946, nil
}
func (nowhere) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }
func (n nowhere) PacketCh() <-chan *memberlist.Packet     { return n.packets }
func (n nowhere) StreamCh() <-chan net.Conn               { return n.streams }
func (nowhere) Shutdown() error                           { return nil }
func (nowhere) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errors.New("no network")
}

// deaf is one memberlist for all that a decoder may ask of it.
var deaf = sync.OnceValue(func() *memberlist.Memberlist {
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.Logger = nodeName("self", 7<<instanceRandomBits), stdlog.New(io.Discard, "", 0)
	cfg.Transport = nowhere{make(chan *memberlist.Packet), make(chan net.Conn)}
	ml, err := memberlist.Create(cfg)
	if err != nil {
		panic(err)
	}
	return ml
})

// still returns a cluster that has no network and runs nothing: the table and
// what decodes for it. It knows p1 beside itself.
func still(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{
		cfg:     Config{Name: "self", Version: "1.2.3"}.withDefaults(),
		started: time.Now(),
		closing: make(chan struct{}),
		leaving: make(chan struct{}),
		rows:    map[Instance]*row{},
		gone:    map[Instance]time.Time{},
		known:   map[string]datadir.Peer{},
		rec:     newReconciler(nil),
		answers: make(chan struct{}), // no slot: nothing is answered
		ml:      deaf(),
	}
	c.logger = c.cfg.Logger
	c.watchKick = make(chan struct{}, 1)
	c.cond = sync.NewCond(&c.mu)
	c.broadcasts = &memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: func() int { return 2 }}
	c.self = &row{swim: true, m: Member{
		Name: "self", Instance: 7 << instanceRandomBits, Addr: netip.MustParseAddrPort("10.0.0.7:7946"), Self: true,
		State: Alive, Tags: map[string]string{}, pulse: newPulse(c.started, c.started),
	}}
	c.rows[c.self.m.Instance] = c.self
	close(c.leaving) // nothing is fetched
	c.memberUp("p1", p1, netip.MustParseAddrPort("10.0.0.1:7946"), 1, "1.2.3")
	return c
}

const p1 Instance = 1 << instanceRandomBits

// clean says whether s holds nothing that could act on a terminal or a log.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
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
		strings.Repeat("x", maxNameBytes+1) + "#0000000000000001", strings.Repeat("x", 1<<20), "p1#\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		if n, i, err := parseNodeName(s); err == nil {
			t.Errorf("%.40q: got %q, %v, want an error", s, n, i)
		} else if !errors.Is(err, errWire) || len(err.Error()) > 1024 || !clean(err.Error()) {
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

func TestMetaRoundTrip(t *testing.T) {
	for _, number := range []uint64{0, 1, 300, math.MaxUint64} {
		for _, version := range []string{"", "1.2.3", strings.Repeat("9", maxVersion)} {
			b := appendMeta(nil, number, version)
			if len(b) > memberlist.MetaMaxSize {
				t.Errorf("meta of %d bytes: memberlist panics above %d", len(b), memberlist.MetaMaxSize)
			}
			n, v, err := parseMeta(b)
			if n != number || v != version || err != nil {
				t.Errorf("%d, %q: got %d, %q, %v", number, version, n, v, err)
			}
		}
	}
	if b := appendMeta(nil, 1, strings.Repeat("9", 1000)); len(b) > 1+10+maxVersion {
		t.Errorf("a long version makes %d bytes of meta", len(b))
	}
	if _, v, _ := parseMeta(append([]byte{wireVersion, 1}, "1.0\x1b[2J\n\u202e\u009b\xff"...)); v != "1.0.[2J...." {
		t.Errorf("hostile version: got %q", v)
	}
}

func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil, 7, "1.2.3"))
	f.Add([]byte{wireVersion, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{2, 1, 'x'})
	f.Add([]byte("\x01\x01\x1b[31m\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		number, version, err := parseMeta(b)
		if err != nil {
			return
		}
		if !clean(version) || utf8.RuneCountInString(version) > maxVersion {
			t.Errorf("version %q", version)
		}
		if n, v, err := parseMeta(appendMeta(nil, number, version)); n != number || v != version || err != nil {
			if len(version) <= maxVersion {
				t.Errorf("again: %d, %q, %v, want %d, %q", n, v, err, number, version)
			}
		}
	})
}

func TestBeatsRoundTrip(t *testing.T) {
	in := []beat{{1, 1, 0}, {math.MaxUint64, 2 * maxCount, 200 * time.Millisecond}, {p1, 5, time.Hour}}
	got, err := parseBeats(appendBeats(nil, in))
	if !slices.Equal(got, in) || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseBeats(appendBeats(nil, []beat{{1, 1, -time.Hour}})); err != nil || got[0].age != 0 {
		t.Errorf("negative age: got %v, %v", got, err)
	}
	if _, err := parseBeats(appendBeats(nil, make([]beat, maxBeats+1))); !errors.Is(err, errWire) {
		t.Errorf("%d heartbeats: %v", maxBeats+1, err)
	}
	if _, err := parseBeats(appendBeats(nil, make([]beat, maxBeats))); err != nil {
		t.Errorf("%d heartbeats: %v", maxBeats, err)
	}
}

func FuzzBeats(f *testing.F) {
	f.Add(appendBeats(nil, []beat{{p1, 5, time.Minute}, {2, 1 << 60, 0}}))
	f.Add(append(bytes.Repeat([]byte{1}, 9), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01))
	f.Fuzz(func(t *testing.T, b []byte) {
		beats, err := parseBeats(b)
		if err != nil {
			return
		}
		if len(beats) > maxBeats || len(beats) > len(b)/10 {
			t.Errorf("%d heartbeats out of %d bytes", len(beats), len(b))
		}
		now := time.Now()
		for _, x := range beats {
			if x.age < 0 || now.Add(-x.age).After(now) {
				t.Errorf("heartbeat from the future: %v", x.age)
			}
		}
		again, err := parseBeats(appendBeats(nil, beats))
		if !slices.Equal(again, beats) || err != nil {
			t.Errorf("again: %v, %v, want %v", again, err, beats)
		}
	})
}

func TestAck(t *testing.T) {
	want := ack{1<<63 + 5, []beat{{p1, 5, time.Minute}}}
	b := want.append(nil)
	if got, err := parseAck(b); err != nil || got.roster != want.roster || !slices.Equal(got.beats, want.beats) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for n := range b {
		if n == 9 {
			continue // a roster and no heartbeats
		}
		if a, err := parseAck(b[:n]); !errors.Is(err, errWire) {
			t.Errorf("%d bytes of it: %v, %v", n, a, err)
		}
	}
	b[0]++
	if a, err := parseAck(b); !errors.Is(err, errWire) {
		t.Errorf("another version: %v, %v", a, err)
	}
}

func FuzzAck(f *testing.F) {
	f.Add(ack{7, []beat{{p1, 5, time.Minute}}}.append(nil))
	f.Add([]byte{wireVersion, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAck(b)
		if err != nil {
			return
		}
		again, err := parseAck(a.append(nil))
		if again.roster != a.roster || !slices.Equal(again.beats, a.beats) || err != nil {
			t.Errorf("again: %v, %v, want %v", again, err, a)
		}
	})
}

func FuzzFarewell(f *testing.F) {
	f.Add(farewellFrame(p1, 900)[1:])
	f.Add([]byte("12345678\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, count, err := parseFarewell(b)
		if err != nil {
			return
		}
		if j, n, err := parseFarewell(farewellFrame(i, count)[1:]); j != i || n != count || err != nil {
			t.Errorf("again: %v %d %v, want %v %d", j, n, err, i, count)
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	in := record{
		Tags: map[string]string{"zone": "a", "role": "überall"},
		Services: []Service{{
			Name: "web", Addr: "10.1.2.3", Port: 80, Tags: []string{"http", "v2"}, Weight: 3,
			Health: "passing", Meta: map[string]string{"path": "/x"},
		}},
	}
	body, err := encodeRecord(in)
	if err != nil {
		t.Fatal(err)
	}
	i, number, b, err := parseRecord(recordFrame(p1, 12, body)[1:])
	if i != p1 || number != 12 || err != nil {
		t.Fatalf("got %v, %d, %v", i, number, err)
	}
	out, err := decodeRecord(b)
	if !reflect.DeepEqual(out, in) || err != nil {
		t.Errorf("got %+v, %v, want %+v", out, err, in)
	}
	if _, _, _, err := parseRecord(recordFrame(p1, 1, make([]byte, maxRecord+1))[1:]); !errors.Is(err, errWire) {
		t.Errorf("%d bytes: %v", maxRecord+1, err)
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
		{"health", service(`"health":"fine"`)},
		{"service tag", service(`"tags":["a b"]`)},
		{"many service tags", service(`"tags":[` + many(65, `"t%d"`, ",") + `]`)},
		{"service meta", service(`"meta":{"k":"\u0085"}`)},
		{"many service metas", service(`"meta":{` + many(maxTags+1, `"t%d":""`, ",") + `}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := decodeRecord([]byte(tt.json))
			if !errors.Is(err, errWire) {
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
		for k, v := range r.Tags {
			if !clean(k) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("tag %q: %q", k, v)
			}
		}
		for _, s := range r.Services {
			if !clean(s.Name) || !clean(strings.Join(s.Tags, "")) || strings.ContainsFunc(s.Addr, func(r rune) bool { return !unicode.IsPrint(r) }) {
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

func FuzzWanted(f *testing.F) {
	f.Add(wantedFrame([]Instance{p1, 2, 3})[1:])
	f.Add([]byte("1234567"))
	f.Fuzz(func(t *testing.T, b []byte) {
		is, err := parseWanted(b)
		if err != nil {
			return
		}
		if len(is) > maxWanted || !bytes.Equal(wantedFrame(is)[1:], b) {
			t.Errorf("got %v out of %x", is, b)
		}
	})
}

func TestFramesRoundTrip(t *testing.T) {
	frames := [][]byte{farewellFrame(p1, 3), {frameBeats}, recordFrame(p1, 1, []byte("{}")), bytes.Repeat([]byte{'x'}, 300)}
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
		if f, _, err := cutFrame(bad); !errors.Is(err, errWire) {
			t.Errorf("%x: got %q, %v", bad, f, err)
		}
	}
}

func FuzzNotice(f *testing.F) {
	f.Add(noticeFrame(notice{accused: p1, witness: 2, epoch: 3, seq: 4, ev: evSilent})[1:])
	f.Add(refuteFrame(p1, 9)[1:])
	f.Add(noticesFrame([]notice{{accused: p1, witness: 2}, {accused: p1, witness: 3, seq: 300, ev: evBroke}})[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if ns, err := parseNotices(b); err == nil {
			again, err := parseNotices(noticesFrame(ns)[1:])
			if !slices.Equal(again, ns) || err != nil || len(ns) > maxNotices {
				t.Errorf("again: %+v, %v, want %+v", again, err, ns)
			}
		}
		if n, err := parseNotice(b); err == nil {
			if again, err := parseNotice(noticeFrame(n)[1:]); again != n || err != nil || n.ev > evSilent {
				t.Errorf("again: %+v, %v, want %+v", again, err, n)
			}
		}
		if i, epoch, err := parseRefute(b); err == nil {
			if j, e, err := parseRefute(refuteFrame(i, epoch)[1:]); i != j || e != epoch || err != nil {
				t.Errorf("again: %v %d %v, want %v %d", j, e, err, i, epoch)
			}
		}
	})
}

// FuzzHello is the handshake of a watch stream, as an accepting peer reads it.
func FuzzHello(f *testing.F) {
	c := still(f)
	f.Add(c.encodeHello(hello{kind: kindWatch, from: p1, want: 7 << instanceRandomBits}))
	f.Add([]byte{watchMagic, helloVersion})
	k, err := newSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	c.keys.set.Store(&keySet{keys: []heldKey{{sealer: k}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nobody has the key, so nothing passes.
		if h, _, err := c.decodeHello(b); err == nil {
			t.Errorf("a stranger's hello passed: %+v", h)
		}
	})
}

// FuzzState is the other half of a push/pull, frames and all, and every single
// message on the way.
func FuzzState(f *testing.F) {
	c := still(f)
	c.mu.Lock()
	_ = c.setOwn(record{Tags: map[string]string{"zone": "a"}})
	c.mu.Unlock()
	f.Add(c.localState(time.Now()))
	state := []byte{wireVersion}
	for _, frame := range [][]byte{
		farewellFrame(p1, 9),
		recordFrame(p1, 2, []byte(`{"tags":{"zone":"b"}}`)),
		recordFrame(c.self.m.Instance, 99, []byte(`{"tags":{"zone":"forged"}}`)),
		wantedFrame([]Instance{p1, c.self.m.Instance}),
		numberFrame(p1, 3),
		appendBeats([]byte{frameBeats}, []beat{{p1, 77, time.Second}, {c.self.m.Instance, 2 * maxCount, 0}}),
	} {
		f.Add(append([]byte{wireVersion}, appendFrame(nil, frame)...))
		state = appendFrame(state, frame)
	}
	f.Add(state)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := still(t)
		c.mergeState(b, time.Now())
		v := c.View()
		if len(v.Members) != 2 {
			t.Fatalf("%d members, want 2: a state makes none and drops none", len(v.Members))
		}
		self := v.Lookup("self")
		if len(self) != 1 || self[0].State != Alive || len(self[0].Tags) != 0 {
			t.Fatalf("self became %+v", self)
		}
		if n := c.beatNow(time.Now()); n > 3*maxCount {
			t.Errorf("own counter leapt to %d", n)
		}
		for k, s := range v.Lookup("p1")[0].Tags {
			if !clean(k) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("tag %q: %q", k, s)
			}
		}
	})
}

func alive(name string, addr string, port uint16, meta []byte, vsn ...uint8) *memberlist.Node {
	if len(vsn) == 0 {
		vsn = []uint8{memberlist.ProtocolVersionMin, memberlist.ProtocolVersionMax, 2, 0, 0, 0}
	}
	n := &memberlist.Node{Name: name, Port: port, Meta: meta, PMin: vsn[0], PMax: vsn[1], PCur: vsn[2], DMin: vsn[3], DMax: vsn[4], DCur: vsn[5]}
	if addr != "" {
		n.Addr = netip.MustParseAddr(addr).AsSlice()
	}
	return n
}

func TestNotifyAlive(t *testing.T) {
	good := appendMeta(nil, 1, "1.2.3")
	self := nodeName("self", 7<<instanceRandomBits)
	for _, tt := range []struct {
		name string
		n    *memberlist.Node
		ok   bool
	}{
		{"a newcomer", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good), true},
		{"over IPv6", alive(nodeName("p2", 2<<22), "fd00::2", 7946, good), true},
		{"of a later protocol", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 2, 7, 3, 0, 1, 0), true},
		{"itself", alive(self, "10.0.0.7", 7946, good), true},
		{"p1 again", alive(nodeName("p1", p1), "10.0.0.1", 7946, good), true},
		{"p1 restarted", alive(nodeName("p1", 2<<22), "10.0.0.1", 7946, good), true},
		{"its own last start", alive(nodeName("self", 6<<22), "10.0.0.7", 7946, good), true},

		{"no name", alive("", "10.0.0.2", 7946, good), false},
		{"no instance", alive("p2", "10.0.0.2", 7946, good), false},
		{"control characters", alive(nodeName("p\x1b[2J", 2<<22), "10.0.0.2", 7946, good), false},
		{"no address", alive(nodeName("p2", 2<<22), "", 7946, good), false},
		{"any address", alive(nodeName("p2", 2<<22), "0.0.0.0", 7946, good), false},
		{"any IPv6 address", alive(nodeName("p2", 2<<22), "::", 7946, good), false},
		{"multicast", alive(nodeName("p2", 2<<22), "224.0.0.1", 7946, good), false},
		{"multicast in disguise", alive(nodeName("p2", 2<<22), "::ffff:224.0.0.1", 7946, good), false},
		{"any address in disguise", alive(nodeName("p2", 2<<22), "::ffff:0.0.0.0", 7946, good), false},
		{"broadcast", alive(nodeName("p2", 2<<22), "255.255.255.255", 7946, good), false},
		{"no port", alive(nodeName("p2", 2<<22), "10.0.0.2", 0, good), false},
		{"no meta", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, nil), false},
		{"another wire", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, []byte{9, 1}), false},
		{"long meta", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, append(good, make([]byte, 400)...)), false},
		{"protocol 5 alone", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 5, 5, 5, 0, 0, 0), false},
		{"protocol 1 alone", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 1, 1, 1, 0, 0, 0), false},
		{"protocol 9", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 1, 9, 9, 0, 0, 0), false},
		{"protocol 0", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 1, 5, 0, 0, 0, 0), false},
		{"delegate 1", alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good, 1, 5, 2, 1, 1, 1), false},
		{"another name for p1's instance", alive(nodeName("evil", p1), "10.6.6.6", 7946, good), false},
		{"another spelling of p1's instance", alive("p1#0000000000400000"[:18]+"A", "10.6.6.6", 7946, good), false},
		{"another name for this instance", alive(nodeName("evil", 7<<22), "10.6.6.6", 7946, good), false},
		{"a restart of this very peer", alive(nodeName("self", 8<<22), "10.0.0.7", 7946, good), false},
		{"somebody else at this peer's address", alive(nodeName("evil", 1<<21), "10.0.0.7", 7946, good), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := still(t)
			d := delegate{c}
			if err := d.NotifyAlive(tt.n); (err == nil) != tt.ok {
				t.Errorf("got %v, want accepted: %v", err, tt.ok)
			}
		})
	}
	t.Run("superseded", func(t *testing.T) {
		c := still(t)
		c.gone[p1] = time.Now()
		if err := (delegate{c}).NotifyAlive(alive(nodeName("p1", p1), "10.0.0.1", 7946, good)); err != errSuperseded {
			t.Errorf("got %v", err)
		}
	})
	t.Run("crowded", func(t *testing.T) {
		c := still(t)
		for i := len(c.rows); i < maxMembers; i++ {
			c.rows[Instance(100<<22+i)] = c.rows[p1]
		}
		if err := (delegate{c}).NotifyAlive(alive(nodeName("p2", 2<<22), "10.0.0.2", 7946, good)); err != errCrowded {
			t.Errorf("got %v", err)
		}
		if err := (delegate{c}).NotifyAlive(alive(nodeName("p1", p1), "10.0.0.1", 7946, good)); err != nil {
			t.Errorf("who is known already: got %v", err)
		}
	})
}

func FuzzNotifyAlive(f *testing.F) {
	good := appendMeta(nil, 1, "1.2.3")
	f.Add(nodeName("p2", 2<<22), []byte{10, 0, 0, 2}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add(nodeName("p1", p1), []byte{10, 0, 0, 1}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add(nodeName("self", 8<<22), []byte{10, 0, 0, 7}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add("p\x00#", []byte(nil), uint16(0), []byte(nil), []byte{0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, name string, addr []byte, port uint16, meta, vsn []byte) {
		if len(vsn) < 6 {
			return // memberlist refuses those
		}
		c := still(t)
		n := alive(name, "", port, meta, vsn[:6]...)
		n.Addr = addr
		d := delegate{c}
		err := d.NotifyAlive(n)
		if err != nil {
			if len(err.Error()) > 1024 || !clean(err.Error()) {
				t.Errorf("error %.200q", err)
			}
			return
		}
		if s, i, _ := parseNodeName(name); s == "p1" && i != p1 || s == "self" && i != c.self.m.Instance {
			return // which of two starts to believe is settled over the network
		}
		d.NotifyJoin(n)
		d.NotifyUpdate(n)
		v := c.View()
		if self := v.Lookup("self"); len(self) == 0 || self[0].Addr != c.self.m.Addr || !self[0].Eligible() && len(self) == 1 {
			t.Fatalf("self became %+v", self)
		}
		if len(v.Members) > 3 {
			t.Errorf("one announcement made %d members", len(v.Members)-2)
		}
		for _, m := range v.Members {
			if !clean(m.Name) || !clean(m.Version) || !m.Addr.IsValid() || m.Addr.Port() == 0 || m.Addr.Addr().IsUnspecified() || m.Addr.Addr().IsMulticast() {
				t.Errorf("member %+v", m)
			}
		}
		c.wg.Wait()
	})
}
