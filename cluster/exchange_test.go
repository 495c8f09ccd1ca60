package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/core"
)

// What a peer tells in a push/pull is what another one then knows.
func TestStateGoesAcross(t *testing.T) {
	a := stillOf(t, 20)
	body := []byte(`{"tags":{"zone":"b"}}`)
	a.step(core.Record{Peer: core.ID(stillID(3)), Number: 4, Body: body, Data: record{Tags: map[string]string{"zone": "b"}}})
	a.step(core.Beats{Beats: []core.Beat{{Peer: core.ID(stillID(5)), Count: 77, Age: time.Second}}})
	a.settle()
	var state []byte
	a.owned(func() { state = a.localState() })

	b := still(t)
	moved := stillSelf + 1
	b.session.Store(&session{instance: moved, addr: netip.MustParseAddrPort("10.0.0.8:7946"), watch: b.session.Load().watch})
	b.core = core.New(core.Config{
		Self: core.Rec{ID: core.ID(moved), Name: "other", Addr: b.advertised(), WireMin: wireMin, WireMax: wireMax}, ForgetAfter: time.Hour,
	}, b.now())
	b.table, b.shown, b.changed = map[Instance]Member{}, nil, nil
	b.carryOut(b.core.First())
	b.mergeState(state)
	b.settle()
	if got := len(b.View().Members); got != 21 {
		t.Fatalf("%d members came across, want 21: %v", got, b.View().Members)
	}
	if m := b.View().Lookup("host-00003"); len(m) != 1 || m[0].Tags["zone"] != "b" {
		t.Errorf("the record did not come across: %+v", m)
	}
	if m := b.View().Lookup("host-00005")[0]; time.Since(m.Heartbeat()) > 3*time.Second {
		t.Errorf("the heartbeat did not come across: %v", time.Since(m.Heartbeat()))
	}
	if m := b.View().Lookup("self"); len(m) != 1 || m[0].Version != "1.2.3" || m[0].State != Alive {
		t.Errorf("the sender did not come across: %+v", m)
	}
}

// A frame that a later version sends, and bytes that it puts behind what is known
// of a frame or of a record, are left alone; all else in the exchange counts.
func TestLaterFramesAreLeftAlone(t *testing.T) {
	c := stillOf(t, 3)
	recs := []core.Rec{stillRec(1), stillRec(9)}
	recs[1].Ext = []byte("of a later version")
	var state []byte
	for _, frame := range [][]byte{
		[]byte("~a frame that nobody knows"),
		core.AppendRecs(nil, core.FrameTable, recs[0].ID, recs),
		{0xff},
		append(core.Number{Peer: core.ID(stillID(1)), Number: 8}.Append(nil), 1, 2, 3),
		append(core.Want{From: 1, Owner: 2}.Append(nil), 9),
		recordFrame(core.ID(stillID(9)), 5, []byte(`{"tags":{"zone":"c"},"later":1}`)),
	} {
		state = appendFrame(state, frame)
	}
	c.mergeState(state)
	c.settle()
	if m := c.View().Lookup("host-00009"); len(m) != 1 || m[0].Tags["zone"] != "c" {
		t.Errorf("got %+v", m)
	}
	if rec, _ := c.core.Lookup(core.ID(stillID(9))); string(rec.Ext) != "of a later version" {
		t.Errorf("passed on with %q", rec.Ext)
	}
	if rec, _ := c.core.Lookup(core.ID(stillID(1))); rec.Number != 8 {
		t.Errorf("number %d, want 8", rec.Number)
	}
}

// One frame that is broken, and one record that cannot be used, spoil themselves
// alone.
func TestBrokenFramesSpoilThemselvesAlone(t *testing.T) {
	c := stillOf(t, 3)
	evil, later, lonely := stillRec(6), stillRec(7), stillRec(8)
	evil.Name = "p\x1b[2J"
	later.WireMin, later.WireMax = wireMax+1, wireMax+1
	lonely.Addr = netip.MustParseAddrPort("127.0.0.1:7946")
	good := stillRec(9)
	good.Version = "1.0\x1b[2J\u202e"
	var state []byte
	for _, frame := range [][]byte{
		{core.FrameTable},
		{core.FrameVote, 1, 2},
		{frameRecord},
		{frameBeats, 1},
		recordFrame(core.ID(stillID(1)), 5, []byte(`{"tags":`)),
		core.AppendRecs(nil, core.FrameTable, core.ID(stillID(1)), []core.Rec{evil, later, lonely, good}),
	} {
		state = appendFrame(state, frame)
	}
	c.mergeState(append(state, 0x85)) // and one that is cut off
	c.settle()
	var names []string
	for _, m := range c.View().Members {
		names = append(names, m.Name)
	}
	if want := []string{"host-00001", "host-00002", "host-00009", "self"}; !slices.Equal(names, want) {
		t.Fatalf("members %q, want %q", names, want)
	}
	if m := c.View().Lookup("host-00009")[0]; !clean(m.Version) {
		t.Errorf("version %q could act on a terminal", m.Version)
	}
}

// What a caller does to its maps afterwards is announced by nobody.
func TestTagsAndServicesAreCopied(t *testing.T) {
	c := still(t)
	tags := map[string]string{"a": "1"}
	services := []Service{{Name: "web", Tags: []string{"v1"}, Meta: map[string]string{"k": "v"}}}
	c.owned(func() {
		if err := c.SetTags(tags); err != nil {
			t.Error(err)
		}
		if err := c.SetServices(services); err != nil {
			t.Error(err)
		}
	})
	tags["a"], services[0].Name, services[0].Tags[0], services[0].Meta["k"] = "changed", "changed", "changed", "changed"
	m := c.Self()
	if m.Tags["a"] != "1" || m.Services[0].Name != "web" || m.Services[0].Tags[0] != "v1" || m.Services[0].Meta["k"] != "v" {
		t.Errorf("the View shows what the caller changed afterwards: %v %+v", m.Tags, m.Services)
	}
	c.owned(func() {
		if err := c.SetTags(map[string]string{"b": "2"}); err != nil {
			t.Error(err)
		}
	})
	if m.Tags["a"] != "1" || c.Self().Services[0].Name != "web" {
		t.Error("a later change reached an earlier View, or the services with it")
	}
}

// A View shows its members in order, each once, whatever came and went.
func TestViewsStaySorted(t *testing.T) {
	c := stillOf(t, 50)
	before := c.View()
	old := slices.Clone(before.Members)
	for i := range 40 {
		gone, back, late := stillRec(1+i), stillRec(60-i), stillRec(1+i)
		gone.State = core.Left
		late.ID, late.Addr = late.ID+1, stillAddr(200+i) // a second start of the name, elsewhere
		c.step(core.News{From: gone.ID, Recs: []core.Rec{back, gone, late}})
		if i%3 == 0 {
			c.settle()
		}
		if i%7 == 0 {
			c.step(core.Forget{Name: stillRec(1 + i/2).Name})
		}
	}
	c.settle()
	v := c.View()
	if !slices.IsSortedFunc(v.Members, func(a, b Member) int { return compareKey(key{a.Name, a.Instance}, key{b.Name, b.Instance}) }) {
		t.Error("the View is not sorted")
	}
	seen := map[Instance]bool{}
	for _, m := range v.Members {
		if seen[m.Instance] {
			t.Errorf("%s stands twice", m.Name)
		}
		seen[m.Instance] = true
		if i, ok := c.core.Shown(core.ID(m.Instance)); !ok || stateOf(i.Shown) != m.State {
			t.Errorf("%s is shown as %s, want %v", m.Name, m.State, i.Shown)
		}
	}
	if len(v.Members) != len(c.table) {
		t.Errorf("%d members, want %d", len(v.Members), len(c.table))
	}
	if len(before.Members) != len(old) || !slices.EqualFunc(before.Members, old, func(a, b Member) bool { return a.Instance == b.Instance && a.State == b.State }) {
		t.Error("a View that was published has changed")
	}
}

func alive(name, addr string, port uint16, meta []byte, vsn ...uint8) *memberlist.Node {
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
	good := appendMeta(nil)
	p2 := nodeName("p2", 2<<22)
	for _, tt := range []struct {
		name string
		n    *memberlist.Node
		want string // in the error, "" if it is accepted
	}{
		{"a newcomer", alive(p2, "10.0.0.2", 7946, good), ""},
		{"over IPv6", alive(p2, "fd00::2", 7946, good), ""},
		{"of a later memberlist", alive(p2, "10.0.0.2", 7946, good, 2, 7, 3, 0, 1, 0), ""},
		{"of the next wire version", alive(p2, "10.0.0.2", 7946, []byte{wireMin, wireMax + 1, 7}), ""},
		{"itself", alive(nodeName("self", stillSelf), "10.0.0.7", 7946, good), ""},
		{"its own last start", alive(nodeName("self", stillSelf-1), "10.0.0.7", 7946, good), ""},
		{"a start before, of another name, on its port", alive(nodeName("old", stillSelf-1), "10.0.0.7", 7946, good), ""},

		{"no name", alive("", "10.0.0.2", 7946, good), "has no instance"},
		{"no instance", alive("p2", "10.0.0.2", 7946, good), "has no instance"},
		{"control characters", alive(nodeName("p\x1b[2J", 2<<22), "10.0.0.2", 7946, good), "node name"},
		{"no address", alive(p2, "", 7946, good), "address"},
		{"any address", alive(p2, "0.0.0.0", 7946, good), "address"},
		{"any IPv6 address", alive(p2, "::", 7946, good), "address"},
		{"multicast", alive(p2, "224.0.0.1", 7946, good), "address"},
		{"multicast in disguise", alive(p2, "::ffff:224.0.0.1", 7946, good), "address"},
		{"any address in disguise", alive(p2, "::ffff:0.0.0.0", 7946, good), "address"},
		{"broadcast", alive(p2, "255.255.255.255", 7946, good), "address"},
		{"no port", alive(p2, "10.0.0.2", 0, good), "address"},
		{"loopback, from another host", alive(p2, "127.0.0.1", 7946, good), "member p2"},
		{"no meta", alive(p2, "10.0.0.2", 7946, nil), "meta"},
		{"a later wire alone", alive(p2, "10.0.0.2", 7946, []byte{9, 9}), "upgrade the older of the two"},
		{"protocol 5 alone", alive(p2, "10.0.0.2", 7946, good, 5, 5, 5, 0, 0, 0), "protocol versions"},
		{"protocol 1 alone", alive(p2, "10.0.0.2", 7946, good, 1, 1, 1, 0, 0, 0), "protocol versions"},
		{"protocol 9", alive(p2, "10.0.0.2", 7946, good, 1, 9, 9, 0, 0, 0), "protocol versions"},
		{"protocol 0", alive(p2, "10.0.0.2", 7946, good, 1, 5, 0, 0, 0, 0), "protocol versions"},
		// Versions are told in the meta: one that raised memberlist's delegate version
		// would shut out all that have none.
		{"delegate 1", alive(p2, "10.0.0.2", 7946, good, 1, 5, 2, 0, 1, 1), "protocol versions"},
		{"another name for this instance", alive(nodeName("evil", stillSelf), "10.6.6.6", 7946, good), "forged"},
		{"another address for this instance", alive(nodeName("self", stillSelf), "10.6.6.6", 7946, good), "forged"},
		{"a later start of another name at this peer's address", alive(nodeName("evil", stillSelf+1), "10.0.0.7", 7946, good), "forged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := delegate{still(t)}.NotifyAlive(tt.n)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want it accepted", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("crowded", func(t *testing.T) {
		c := still(t)
		d := delegate{c}
		known := alive(p2, "10.0.0.2", 7946, good)
		d.NotifyJoin(known)
		for i := 1; i < maxNodes; i++ {
			c.nodes.add(Instance(100<<22 + i))
		}
		if err := d.NotifyAlive(alive(nodeName("p3", 3<<22), "10.0.0.3", 7946, good)); err != errCrowded {
			t.Errorf("one more than fit: got %v", err)
		}
		if err := d.NotifyAlive(known); err != nil {
			t.Errorf("a known one: got %v", err)
		}
		d.NotifyLeave(known)
		if err := d.NotifyAlive(alive(nodeName("p3", 3<<22), "10.0.0.3", 7946, good)); err != nil {
			t.Errorf("when one has gone: got %v", err)
		}
	})
}

// The departed are remembered within bounds, and never keep a newcomer out.
func TestManyDepartedKeepNobodyOut(t *testing.T) {
	c := still(t)
	const n = 6_000
	recs := make([]core.Rec, 0, n)
	for i := 1; i <= n; i++ {
		rec := stillRec(i)
		rec.State, rec.Age = core.Left, time.Duration(n-i)*time.Second
		recs = append(recs, rec)
	}
	late := stillRec(n + 1)
	d := delegate{c}
	c.owned(func() {
		d.NotifyMsg(core.AppendRecs(nil, core.FrameTable, core.ID(stillID(1)), recs))
		if err := d.NotifyAlive(alive(nodeName(late.Name, Instance(late.ID)), late.Addr.Addr().String(), 7946, appendMeta(nil))); err != nil {
			t.Errorf("a newcomer is refused: %v", err)
		}
		d.NotifyMsg(core.AppendRecs(nil, core.FrameNews, late.ID, []core.Rec{late}))
	})
	v := c.View()
	if m := v.Lookup(late.Name); len(m) != 1 || !m[0].Eligible() {
		t.Errorf("the newcomer is %+v", m)
	}
	if left := v.Count(Left); left > 4_100 || left < 4_000 {
		t.Errorf("%d that left are remembered, want about 4,096", left)
	}
	if m := v.Lookup(stillRec(n).Name); len(m) != 1 {
		t.Error("the one that left last is forgotten, and earlier ones are not")
	}
}

// forgery fails the test unless c is sound after whatever a stranger sent.
func forgery(t *testing.T, c *Cluster, most int) {
	t.Helper()
	v := c.View()
	self := v.Lookup("self")
	ours := slices.IndexFunc(self, func(m Member) bool { return m.Self })
	if ours < 0 || self[ours].State != Alive || self[ours].Addr != netip.MustParseAddrPort("10.0.0.7:7946") || len(self[ours].Tags) != 0 {
		t.Fatalf("self became %+v", self)
	}
	if len(v.Members) > most {
		t.Errorf("%d members, want at most %d", len(v.Members), most)
	}
	for _, m := range v.Members {
		if !clean(m.Name) || !clean(m.Version) || !core.Usable(m.Addr) || m.Instance == 0 {
			t.Errorf("member %+v", m)
		}
		for k, s := range m.Tags {
			if !clean(k) || strings.ContainsRune(s, '\x1b') {
				t.Errorf("tag %q: %q", k, s)
			}
		}
	}
	if rec, ok := c.core.Lookup(core.ID(stillSelf)); !ok || rec.Epoch > 1<<40 {
		t.Errorf("own record became %+v", rec)
	}
}

// FuzzFrame is one message, by datagram or stream.
func FuzzFrame(f *testing.F) {
	for _, name := range []string{"record", "empty record", "beats"} {
		f.Add(golden(f, name))
	}
	f.Add(core.AppendRecs(nil, core.FrameNews, core.ID(p1), goldenTable()))
	f.Add(core.Vote{About: core.ID(stillSelf), From: core.ID(stillID(1)), Epoch: 1, Seq: 2, Says: core.Silent, Ask: true}.Append(nil))
	f.Add(core.Number{Peer: core.ID(stillSelf), Number: 1 << 39}.Append(nil))
	f.Add(core.Want{From: core.ID(p1), Owner: core.ID(stillSelf)}.Append(nil))
	f.Add(recordFrame(core.ID(stillSelf), 99, []byte(`{"tags":{"zone":"forged"}}`)))
	gone := stillRec(1)
	gone.ID, gone.State = core.ID(stillSelf), core.Replaced
	f.Add(core.AppendRecs(nil, core.FrameNews, core.ID(p1), []core.Rec{gone}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := stillOf(t, 3)
		c.owned(func() { delegate{c}.NotifyMsg(b) })
		forgery(t, c, 3+len(b)/16)
	})
}

// FuzzState is the other half of a push/pull, frames and all.
func FuzzState(f *testing.F) {
	c := stillOf(f, 3)
	c.owned(func() { f.Add(c.localState()) })
	f.Add(golden(f, "state"))
	state := []byte(nil)
	for _, frame := range [][]byte{
		core.AppendRecs(nil, core.FrameTable, core.ID(stillSelf), goldenTable()),
		recordFrame(core.ID(p1), 2, []byte(`{"tags":{"zone":"b"}}`)),
		recordFrame(core.ID(stillSelf), 99, []byte(`{"tags":{"zone":"forged"}}`)),
		appendBeats([]byte{frameBeats}, []core.Beat{{Peer: core.ID(p1), Count: 77, Age: time.Second}, {Peer: core.ID(stillSelf), Count: maxCount}}, 0),
	} {
		f.Add(appendFrame(nil, frame))
		state = appendFrame(state, frame)
	}
	f.Add(state)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := stillOf(t, 3)
		c.owned(func() { delegate{c}.MergeRemoteState(b, true) })
		forgery(t, c, 3+len(b)/16)
	})
}

func FuzzNotifyAlive(f *testing.F) {
	good := appendMeta(nil)
	f.Add(nodeName("p2", 2<<22), []byte{10, 0, 0, 2}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add(nodeName("self", 8<<22), []byte{10, 0, 0, 7}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add(nodeName("host-00001", stillID(1)), []byte{10, 0, 0, 13}, uint16(7946), good, []byte{1, 5, 2, 0, 0, 0})
	f.Add("p\x00#", []byte(nil), uint16(0), []byte(nil), []byte{0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, name string, addr []byte, port uint16, meta, vsn []byte) {
		if len(vsn) < 6 {
			return // memberlist refuses those
		}
		c := stillOf(t, 3)
		d := delegate{c}
		n := alive(name, "", port, meta, vsn[:6]...)
		n.Addr = addr
		if err := d.NotifyAlive(n); err != nil {
			if len(err.Error()) > 1024 || !clean(err.Error()) {
				t.Errorf("error %.200q", err)
			}
			return
		}
		c.owned(func() {
			d.NotifyJoin(n)
			d.NotifyUpdate(n)
			d.NotifyPingComplete(n, time.Millisecond, meta)
		})
		forgery(t, c, 3) // SWIM alone makes no member
		c.owned(func() { d.NotifyLeave(n) })
		forgery(t, c, 3)
	})
}
