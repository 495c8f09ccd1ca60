package cluster_test

import (
	"bytes"
	"compress/lzw"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

// memberlist's wire, as a stranger would write it.

const (
	wirePing, wireSuspect, wireAlive, wireDead, wirePushPull = 0, 3, 4, 5, 6
	wireCompound, wireUser, wireCompress, wireEncrypt        = 7, 8, 9, 10
	wireCRC, wireLabel                                       = 12, 244
)

type wireNode struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Vsn         []uint8
}

type wireState struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

type wireHeader struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

func pack(kind byte, v any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	if err := codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func labelled(label string, b []byte) []byte {
	return append(append([]byte{wireLabel, byte(len(label))}, label...), b...)
}

func compound(parts ...[]byte) []byte {
	b := []byte{wireCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

func withCRC(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{wireCRC}, crc32.ChecksumIEEE(b)), b...)
}

func meta(number byte) []byte { return append([]byte{1, number}, "9.9.9"...) }

func nodeName(name string, i cluster.Instance) string { return name + "#" + i.String() }

var (
	testKey  = bytes.Repeat([]byte{7}, 32)
	otherKey = bytes.Repeat([]byte{8}, 32)
)

func keyed(keys ...[]byte) func(*cluster.Config) {
	return func(c *cluster.Config) { c.Keys = keys }
}

// logTo gives a peer a logger of its own that others can read.
func logTo(l *lines) func(*cluster.Config) {
	return func(c *cluster.Config) {
		c.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: l})
	}
}

// lines keeps what a logger writes.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSpace(string(p)))
	return len(p), nil
}

// with returns the lines that have s in them.
func (l *lines) with(s string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range l.all {
		if strings.Contains(line, s) {
			out = append(out, line)
		}
	}
	return out
}

// attacker is a host that is no member.
type attacker struct {
	t      *testing.T
	host   *testcluster.Host
	packet net.PacketConn
}

func (w *world) attacker() *attacker {
	w.t.Helper()
	h := w.net.Host("10.66.6.6")
	p, err := h.ListenPacket(netip.AddrPortFrom(h.Addr(), 0))
	if err != nil {
		w.t.Fatal(err)
	}
	return &attacker{w.t, h, p}
}

func (a *attacker) send(p *peer, b []byte) {
	a.t.Helper()
	if _, err := a.packet.WriteTo(b, net.UDPAddrFromAddrPort(p.Self().Addr)); err != nil {
		a.t.Fatal(err)
	}
}

// stream opens a stream to p, writes b, and closes it after d.
func (a *attacker) stream(p *peer, b []byte, d time.Duration) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := a.host.Dial(ctx, p.Self().Addr)
	if err != nil {
		return // full of others: no harm done
	}
	go func() {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(d))
		_, _ = c.Write(b)
		_, _ = io.Copy(io.Discard, c)
	}()
}

// members draws who is there by state, which must not change.
func members(p *peer) string { return draw(p.View()) }

// unharmed fails unless every peer of ps sees what it saw before, and an honest
// newcomer is seen by all within a second.
func (w *world) unharmed(ps []*peer, before []string, i int, edit ...func(*cluster.Config)) {
	w.t.Helper()
	for j, p := range ps {
		if got := members(p); got != before[j] {
			w.t.Errorf("%s sees %s, before it saw %s", p.cfg.Name, got, before[j])
		}
	}
	late := w.start(fmt.Sprintf("late%02d", i), 100+i, append(edit, seeds(0))...)
	w.within(time.Second, "everybody knows an honest newcomer", func() bool {
		return all(ps, func(o *peer) bool { return stateOf(o, late.cfg.Name) == "alive" }) && late.View().Count(cluster.Alive) > len(ps)
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = late.Leave(ctx)
	late.Close()
	w.within(time.Second, "the newcomer has left", func() bool {
		return all(ps, func(o *peer) bool { return stateOf(o, late.cfg.Name) == "left/left" })
	})
	for _, p := range ps {
		if err := p.Forget(late.cfg.Name); err != nil {
			w.t.Error(err)
		}
	}
}

// eachWay runs f without a key and with one.
func eachWay(t *testing.T, f func(t *testing.T, w *world, edit func(*cluster.Config))) {
	for _, tt := range []struct {
		name string
		edit func(*cluster.Config)
	}{{"plain", keyed()}, {"keyed", keyed(testKey)}} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) { f(t, w, tt.edit) })
		})
	}
}

func views(ps []*peer) []string {
	var out []string
	for _, p := range ps {
		out = append(out, members(p))
	}
	return out
}

func TestGarbage(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
		var log lines
		ps := w.group(4, edit, logTo(&log))
		settle()
		a := w.attacker()
		before := views(ps)
		warned := len(log.with("[WARN]"))
		rnd := rand.New(rand.NewPCG(1, 2))
		garbage := func() []byte {
			b := make([]byte, 1+rnd.IntN(1400))
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			switch rnd.IntN(4) {
			case 0: // any type
				b[0] = byte(rnd.IntN(16))
			case 1: // behind the right label
				b[0] = byte(rnd.IntN(16))
				b = labelled("peer", b)
			case 2: // behind another one
				b = labelled("l\x1b[2J\nx", b)
			}
			return b
		}
		for range 500 {
			for _, p := range ps {
				a.send(p, garbage())
			}
		}
		for range 100 {
			for _, p := range ps {
				a.stream(p, garbage(), 20*time.Second)
			}
		}
		w.unharmed(ps, before, 0, edit)
		time.Sleep(30 * time.Second)
		w.unharmed(ps, before, 1, edit)
		got := log.with("[WARN]")[warned:]
		// One a minute of one source and of each kind without one, at four peers.
		if len(got) > 4*4 {
			t.Errorf("%d warnings about one stranger:\n%s", len(got), strings.Join(got, "\n"))
		}
		for _, l := range got {
			if strings.ContainsAny(l, "\x1b\x00") {
				t.Errorf("a stranger's bytes in the log: %q", l)
			}
		}
	})
}

func TestForgedAlive(t *testing.T) {
	eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
		ps := w.group(4, edit)
		settle()
		a := w.attacker()
		before := views(ps)
		victim := ps[1].Self()
		mine := a.host.Addr().AsSlice()
		later := victim.Instance + 1<<40
		vsn := []uint8{1, 5, 2, 0, 0, 0}
		var nobody cluster.Instance = 1 << 50
		for _, n := range []wireNode{
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: meta(1)}, // no versions
			{Incarnation: 1, Node: "x"}, // the shortest that poisons
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn[:5]},                   // too few
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: []uint8{5, 5, 5, 0, 0, 0}}, // shuts out all others
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: []uint8{1, 5, 2, 3, 3, 3}},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: []uint8{0, 0, 0, 0, 0, 0}},
			{Incarnation: 1, Node: "evil", Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("ev\x1b[2Jil", nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName(strings.Repeat("x", 1000), nobody), Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine[:3], Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: []byte{0, 0, 0, 0}, Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: []byte{224, 0, 0, 1}, Port: 7946, Meta: meta(1), Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Vsn: vsn},
			{Incarnation: 1, Node: nodeName("evil", nobody), Addr: mine, Port: 7946, Meta: make([]byte, 513), Vsn: vsn},
			{Incarnation: 1 << 20, Node: nodeName("evil", victim.Instance), Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn},                 // a second name
			{Incarnation: 1 << 20, Node: nodeName(victim.Name, victim.Instance), Addr: mine, Port: 7946, Meta: meta(200), Vsn: vsn},          // moved
			{Incarnation: 1 << 20, Node: strings.ToUpper(nodeName("P01", victim.Instance)), Addr: mine, Port: 7946, Meta: meta(1), Vsn: vsn}, // spelt otherwise
		} {
			b := pack(wireAlive, n)
			for _, b := range [][]byte{b, withCRC(b), compound(b, b), labelled("other", b)} {
				for _, p := range ps {
					a.send(p, labelled("peer", b))
					a.send(p, b)
				}
			}
			s := wireState{Name: n.Node, Addr: n.Addr, Port: n.Port, Meta: n.Meta, Incarnation: n.Incarnation, Vsn: n.Vsn}
			push := append(pack(wirePushPull, wireHeader{Nodes: 1, Join: true}), pack(0, s)[1:]...)
			for _, p := range ps {
				a.stream(p, labelled("peer", push), time.Second)
			}
		}
		// A later start of a peer, told to that very peer: it knows better.
		a.send(ps[1], labelled("peer", pack(wireAlive, wireNode{
			Incarnation: 1, Node: nodeName(victim.Name, later), Addr: victim.Addr.Addr().AsSlice(), Port: victim.Addr.Port(), Meta: meta(1), Vsn: vsn,
		})))
		time.Sleep(time.Second)
		w.unharmed(ps, before, 0, edit)
		time.Sleep(time.Minute)
		w.unharmed(ps, before, 1, edit)
	})
}

func TestForgedFrames(t *testing.T) {
	frame := func(kind byte, i cluster.Instance, number uint64, body string) []byte {
		b := binary.BigEndian.AppendUint64([]byte{wireUser, kind}, uint64(i))
		return append(binary.AppendUvarint(b, number), body...)
	}
	t.Run("of nobody", func(t *testing.T) {
		eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
			ps := w.group(4, edit)
			settle()
			a := w.attacker()
			before := views(ps)
			for i := range cluster.Instance(200) {
				for _, p := range ps {
					a.send(p, labelled("peer", frame('F', i<<40, 1, "")))
					a.send(p, labelled("peer", frame('R', i<<40, 9, `{"tags":{"a":"b"}}`)))
					a.send(p, labelled("peer", append([]byte{wireUser, 'W'}, make([]byte, 8*int(i))...)))
				}
			}
			time.Sleep(5 * time.Second)
			w.unharmed(ps, before, 0, edit)
		})
	})
	t.Run("in a member's name", func(t *testing.T) {
		eachWay(t, func(t *testing.T, w *world, edit func(*cluster.Config)) {
			ps := w.group(4, edit, func(c *cluster.Config) { c.Tags = map[string]string{"zone": "a"} })
			settle()
			a := w.attacker()
			before := views(ps)
			victim := ps[1].Self().Instance
			own := func() bool {
				return all(ps, func(p *peer) bool { return p.View().Lookup("p01")[0].Tags["zone"] == "a" })
			}
			for _, number := range []uint64{2, 1000, 1 << 39, 1 << 40, 1 << 62, 1<<64 - 1} {
				for _, p := range ps {
					a.send(p, labelled("peer", frame('R', victim, number, `{"tags":{"zone":"forged"}}`)))
				}
				time.Sleep(5 * time.Millisecond)
				if number < 1<<40 {
					// Without a key it is believed for a moment, and then the owner speaks.
					w.within(time.Second, "the owner's record is back", own)
				}
			}
			if len(ps[0].cfg.Keys) > 0 && !own() {
				t.Error("a record was changed without the key")
			}
			// To one peer only: the others pass it on, so that its owner hears of it.
			for _, count := range []uint64{1, 1 << 20, 1 << 40, 1 << 62, 1<<64 - 1} {
				a.send(ps[0], labelled("peer", frame('F', victim, count, "")))
				time.Sleep(5 * time.Millisecond)
				w.within(2*time.Second, "everybody sees that it is still there", func() bool {
					return all(ps, func(p *peer) bool { return stateOf(p, "p01") == "alive" })
				})
			}
			time.Sleep(time.Minute)
			w.unharmed(ps, before, 0, edit)
		})
	})
}

// A peer that joins at an address where a stranger answers.
func TestHostileAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		answer     []byte
	}{
		{"a million nodes", "1000000 nodes", pack(wirePushPull, wireHeader{Nodes: 1_000_000, UserStateLen: 20 << 20})},
		{"web server", `"HTTP/1.1 400 Bad Req"`, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
		{"hostile text", `it answered ".[2J.. hello"`, []byte("\x1b[2J\x07\x00 hello")},
		{"nothing", "cut off without a word", nil},
		{"half", "broke off", pack(wirePushPull, wireHeader{Nodes: 2})},
		{"an error", "refused by the peer there: .[2J", pack(13, struct{ Error string }{"\x1b[2J"})},
		{"compressed", "type 9", pack(wireCompress, struct{ Algo, Buf []byte }{nil, make([]byte, 100)})},
		{"encrypted", "is encrypted and this peer has no key", append([]byte{wireEncrypt, 0, 0, 0, 40}, make([]byte, 40)...)},
		{"encrypted, 4 GB of it", "is encrypted and this peer has no key", append([]byte{wireEncrypt, 255, 255, 255, 255}, make([]byte, 40)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				h := w.net.Host("10.66.6.6")
				l, err := h.Listen(netip.AddrPortFrom(h.Addr(), 7946))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						_, _ = c.Read(make([]byte, 64<<10)) // or the answer would be cut short
						_, _ = c.Write(tt.answer)
						c.Close()
					}
				}()
				p := w.start("p1", 1)
				out := p.Join(t.Context(), []string{"10.66.6.6"})
				if out[0].Err == nil || !strings.Contains(out[0].Err.Error(), tt.want) {
					t.Errorf("got %v, want %q in it", out[0].Err, tt.want)
				}
				if members(p) != "p1 alive" {
					t.Errorf("it sees %s", members(p))
				}
			})
		})
	}
}

// memory watches what the process takes from the system while f runs, in bytes
// above what it took before.
func memory(f func()) (peak uint64) {
	taken := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased + m.StackSys
	}
	runtime.GC()
	before := taken()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if now := taken(); now > before {
				peak = max(peak, now-before)
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return peak
}

// onLoopback starts n peers on the real network that join the first.
func onLoopback(t *testing.T, n int, edit func(*cluster.Config)) []*cluster.Cluster {
	t.Helper()
	var cs []*cluster.Cluster
	for i := range n {
		cs = append(cs, oneOnLoopback(t, fmt.Sprintf("p%d", i), cs, edit))
	}
	waitReal(t, "all see all", func() bool {
		for _, c := range cs {
			if c.View().Count(cluster.Alive) != n {
				return false
			}
		}
		return true
	})
	return cs
}

func oneOnLoopback(t *testing.T, name string, others []*cluster.Cluster, edit func(*cluster.Config)) *cluster.Cluster {
	t.Helper()
	cfg := cluster.Config{Name: name, Bind: "127.0.0.1:0"}
	if len(others) > 0 {
		cfg.Seeds = []string{others[0].Self().Addr.String()}
	}
	edit(&cfg)
	c, err := cluster.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func waitReal(t *testing.T, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > 15*time.Second {
			t.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// A thousand streams that claim much, over the real network. memberlist alone
// takes 13.6 GB for the first of these.
func TestGreedyStreams(t *testing.T) {
	million := labelled("peer", pack(wirePushPull, wireHeader{Nodes: 1_000_000, UserStateLen: 20 << 20, Join: true}))
	thousands := labelled("peer", pack(wirePushPull, wireHeader{Nodes: 20_000, UserStateLen: 1 << 20, Join: true}))
	zeros := bytes.Repeat([]byte{0x80}, 64<<10)
	for _, tt := range []struct {
		name  string
		b     []byte
		flood int // bytes that follow
	}{
		{"a million nodes", million, 0},
		{"as many nodes as are let pass", thousands, 0},
		{"nodes of one byte", thousands, 1 << 20},
		{"20 MiB encrypted", labelled("peer", []byte{wireEncrypt, 1, 64, 0, 0}), 1 << 20},
		{"as much encrypted as is let pass", labelled("peer", []byte{wireEncrypt, 0, 63, 0, 0}), 1 << 20},
		{"a message of 20 MiB", labelled("peer", pack(wireUser, struct{ UserMsgLen int }{20 << 20})), 1 << 20},
		{"silence", nil, 0},
		{"half a label", []byte{wireLabel, 200, 'p'}, 0},
		{"a watch stream", []byte{0xE7}, 0},
	} {
		for _, edit := range []func(*cluster.Config){keyed(), keyed(testKey)} {
			cfg := cluster.Config{}
			edit(&cfg)
			t.Run(fmt.Sprintf("%s/keys=%d", tt.name, len(cfg.Keys)), func(t *testing.T) {
				cs := onLoopback(t, 3, edit)
				target := cs[0].Self().Addr.String()
				var conns []net.Conn
				var joined time.Duration
				peak := memory(func() {
					var wg sync.WaitGroup
					for range 1000 {
						c, err := net.Dial("tcp", target)
						if err != nil {
							t.Fatal(err)
						}
						conns = append(conns, c)
						_, _ = c.Write(tt.b)
						if tt.flood > 0 {
							wg.Go(func() {
								_ = c.SetDeadline(time.Now().Add(2 * time.Second))
								for sent := 0; sent < tt.flood; sent += len(zeros) {
									if _, err := c.Write(zeros); err != nil {
										return
									}
								}
							})
						}
					}
					late := oneOnLoopback(t, "late", cs, edit)
					joined = waitReal(t, "an honest peer joins meanwhile", func() bool {
						for _, c := range append(cs[:3:3], late) {
							if c.View().Count(cluster.Alive) != 4 {
								return false
							}
						}
						return true
					})
					wg.Wait()
				})
				for _, c := range conns {
					c.Close()
				}
				t.Logf("+%.1f MB, honest join after %v", float64(peak)/1e6, joined)
				if peak > 50e6 {
					t.Errorf("took %.1f MB, want less than 50", float64(peak)/1e6)
				}
				if n := len(cs[1].View().Members); n != 4 {
					t.Errorf("%d members, want 4", n)
				}
			})
		}
	}
}

// A datagram of 60 KB that unpacks to 40 MB.
func TestCompressedDatagrams(t *testing.T) {
	cs := onLoopback(t, 1, keyed())
	bomb := pack(wireCompress, struct {
		Algo uint8
		Buf  []byte
	}{0, lzwBomb(60 << 10)})
	small := pack(wireCompress, struct {
		Algo uint8
		Buf  []byte
	}{0, lzwBomb(20 << 10)})
	c, err := net.Dial("udp", cs[0].Self().Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peak := memory(func() {
		for range 50 {
			_, _ = c.Write(labelled("peer", bomb))
			_, _ = c.Write(labelled("peer", withCRC(bomb)))
			_, _ = c.Write(labelled("peer", compound(small, small)))
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
	})
	t.Logf("+%.1f MB", float64(peak)/1e6)
	if peak > 50e6 {
		t.Errorf("took %.1f MB, want less than 50", float64(peak)/1e6)
	}
}

// lzwBomb returns size bytes of LZW that unpack to as much as they can.
func lzwBomb(size int) []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	zeros := make([]byte, 64<<10)
	for b.Len() < size {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()[:size]
}
