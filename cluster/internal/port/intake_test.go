package port

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

func packed1(kind byte, vs ...any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	enc := codec.NewEncoder(b, &codec.MsgpackHandle{})
	for _, v := range vs {
		if err := enc.Encode(v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

type (
	stateHeader struct {
		Nodes, UserStateLen int
		Join                bool
	}
	stateNode struct {
		Name        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Incarnation uint32
		State       int
		Vsn         []uint8
	}
	userHeader struct{ UserMsgLen int }
	pingBody   struct {
		SeqNo uint32
		Node  string
	}
	ackBody struct {
		SeqNo   uint32
		Payload []byte
	}
	errorBody struct{ Error string }
)

// state is a push/pull of n nodes and user bytes.
func state(n, user int) []byte {
	vs := []any{stateHeader{n, user, true}}
	for i := range n {
		vs = append(vs, stateNode{
			Name: fmt.Sprintf("peer-%d.example.org#%016x", i, (i+1)<<22), Addr: []byte{10, 0, byte(i >> 8), byte(i)}, Port: 7946,
			Meta: append([]byte{1, byte(i & 127)}, "1.2.3"...), Incarnation: 1 << 30, State: i % 4, Vsn: []uint8{1, 5, 2, 0, 0, 0},
		})
	}
	return append(packed1(msgPushPull, vs...), make([]byte, user)...)
}

func free(int) error { return nil }

// The bounds of the tests.
const (
	testNodes = 20_000
	testFrame = 64<<10 + 128
)

var testLimits = limits{testNodes, testFrame}

func newTestGuard() *guard {
	return newGuard(Config{MaxNodes: testNodes, MaxFrame: testFrame}.withDefaults())
}

func TestIntakeTakesWhatPeersSend(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"alone", state(1, 30)},
		{"nobody", state(0, 0)},
		{"a thousand", state(1000, 300<<10)},
		{"the largest", state(testNodes/2, 512<<10)},
		{"user message", append(packed1(msgUser, userHeader{testFrame - 100}), make([]byte, testFrame-100)...)},
		{"ping", packed1(msgPing, pingBody{1 << 31, "p1#0000000000000005"})},
		{"ack", packed1(msgAck, ackBody{7, nil})},
		{"error", packed1(msgError, errorBody{strings.Repeat("x", 300)})},
		{"own error", errorMessage(refusedLabel)},
		{"encrypted", append(binary.BigEndian.AppendUint32([]byte{msgEncrypted}, 100_000), make([]byte, 100_000)...)},
	} {
		for _, label := range []string{"", "l", strings.Repeat("l", 255)} {
			b := tt.b
			if label != "" {
				b = append(append([]byte{msgLabel, byte(len(label))}, label...), b...)
			}
			for how, r := range map[string]io.Reader{"at once": bytes.NewReader(b), "bit by bit": iotest.HalfReader(bytes.NewReader(b))} {
				in := &intake{r: r, limits: testLimits, hold: free}
				got, err := in.label()
				if got != label || err != nil {
					t.Fatalf("%s %s: label %q, %v", tt.name, how, got, err)
				}
				kind, err := in.message()
				if err != nil || kind != tt.b[0] || in.pos != len(b) {
					t.Fatalf("%s %s: type %d, %d bytes, %v, want type %d, %d bytes", tt.name, how, kind, in.pos, err, tt.b[0], len(b))
				}
				out := make([]byte, len(b)+10)
				if n := in.copyAt(out, 0); !bytes.Equal(out[:n], b) {
					t.Errorf("%s %s: other bytes came out", tt.name, how)
				}
				in.drop()
			}
		}
	}
}

func TestIntakeRefuses(t *testing.T) {
	body := func(b []byte) []byte { return b[1:] }
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"compressed", packed1(msgCompress, ackBody{})},
		{"a list for a header", []byte{msgPushPull, 0x93, 1, 1, 1}},
		{"a header with lists", packed1(msgPushPull, map[string]any{"Nodes": []int{1}})},
		{"a header with a field twice", append([]byte{msgPushPull, 0x82}, append(append([]byte("\xa5Nodes\x01"), "\xa5Nodes"...), 0x02)...)},
		{"an unknown field", packed1(msgPushPull, map[string]int{"Nodes": 0, "Other": 1})},
		{"negative", packed1(msgPushPull, stateHeader{Nodes: -1})},
		{"a million nodes", packed1(msgPushPull, stateHeader{Nodes: 1_000_000})},
		{"2^40 nodes", packed1(msgPushPull, stateHeader{Nodes: 1 << 40})},
		{"20 MiB", packed1(msgPushPull, stateHeader{UserStateLen: 20 << 20})},
		{"empty nodes", append(packed1(msgPushPull, stateHeader{Nodes: 1000}), bytes.Repeat([]byte{0x80}, 1000)...)},
		{"nested nodes", append(packed1(msgPushPull, stateHeader{Nodes: 1}), body(packed1(0, map[string]any{"Name": map[string]int{"x": 1}, strings.Repeat("y", 60): 1}))...)},
		{"a long name", append(packed1(msgPushPull, stateHeader{Nodes: 1}), body(packed1(0, stateNode{Name: strings.Repeat("x", 5000)}))...)},
		{"more nodes than the cluster may have", state(testNodes+1, 0)},
		{"a longer frame than any", append(packed1(msgUser, userHeader{testFrame + 1}), make([]byte, testFrame+1)...)},
		{"a long user message", packed1(msgUser, userHeader{20 << 20})},
		{"a fraction", packed1(msgUser, map[string]float64{"UserMsgLen": 1})},
		{"a large ping", packed1(msgPing, map[string]string{"Node": strings.Repeat("x", 4000), "SourceNode": strings.Repeat("x", 4000)})},
		{"4 GB encrypted", []byte{msgEncrypted, 255, 255, 255, 255}},
		{"an empty label", []byte{msgLabel, 0, msgPing}},
		{"a label twice", []byte{msgLabel, 1, 'a', msgLabel, 1, 'a'}},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
	} {
		in := &intake{r: bytes.NewReader(tt.b), limits: testLimits, hold: free}
		_, err := in.label()
		if err == nil {
			_, err = in.message()
		}
		if !errors.Is(err, errIntake) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func FuzzIntake(f *testing.F) {
	f.Add(state(3, 20))
	f.Add(append([]byte("\xf4\x01l"), packed1(msgPing, pingBody{1, "x"})...))
	f.Add(append(packed1(msgUser, userHeader{3}), "abc"...))
	f.Add(append(binary.BigEndian.AppendUint32([]byte{msgEncrypted}, 4), "abcd"...))
	f.Add(packed1(msgPushPull, stateHeader{Nodes: 1_000_000}))
	f.Add([]byte{msgPushPull, 0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		held := 0
		in := &intake{r: bytes.NewReader(b), limits: testLimits, hold: func(n int) error { held = n; return nil }}
		defer in.drop()
		_, err := in.label()
		if err == nil {
			_, err = in.message()
		}
		if held > len(b)+chunkSize {
			t.Errorf("%d bytes kept of %d", held, len(b))
		}
		if err == nil && (in.pos > len(b) || in.pos > maxMessage+maxSmall) {
			t.Errorf("took %d bytes out of %d", in.pos, len(b))
		}
		if errorText(b) != "" && b[0] != msgError {
			t.Errorf("an error of type %d", b[0])
		}
		_ = checkPacket(b)
	})
}

func TestCheckPacket(t *testing.T) {
	ping := packed1(msgPing, pingBody{1, "x"})
	bomb := packed1(msgCompress, ackBody{0, make([]byte, 10)})
	two := func(a, b []byte) []byte {
		out := []byte{msgCompound, 2, byte(len(a) >> 8), byte(len(a)), byte(len(b) >> 8), byte(len(b))}
		return append(append(out, a...), b...)
	}
	crc := func(b []byte) []byte { return append([]byte{msgCRC, 1, 2, 3, 4}, b...) }
	label := func(b []byte) []byte { return append([]byte{msgLabel, 2, 'a', 'b'}, b...) }
	for _, b := range [][]byte{ping, two(ping, ping), crc(ping), label(crc(two(ping, ping))), {}, {msgLabel}, {msgLabel, 200}, {msgCompound}, {msgCompound, 255}, {msgCRC}, {0}, {1, 2, 3}} {
		if err := checkPacket(b); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	}
	for _, b := range [][]byte{bomb, two(ping, bomb), two(bomb, ping), crc(bomb), label(bomb), label(crc(two(ping, bomb))), two(ping, two(ping, bomb))} {
		if err := checkPacket(b); !errors.Is(err, errIntake) {
			t.Errorf("%x passed: %v", b, err)
		}
	}
}

// from is a stream of a remote address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", f.addr)
	if err != nil {
		panic(err)
	}
	return a
}

func open(t *testing.T, g *guard, addr string) *guardedConn {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return g.admit(from{a, addr})
}

func evicted(c *guardedConn) bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.evicted
}

func TestGuardMakesRoom(t *testing.T) {
	g := newTestGuard()
	honest := open(t, g, "10.0.0.1:5")
	var crowd []*guardedConn
	for i := range 2 * maxStreams {
		crowd = append(crowd, open(t, g, fmt.Sprintf("[2001:db8::%x]:9", i+1))) // one network
	}
	if evicted(honest) {
		t.Error("the crowd pushed an honest stream out")
	}
	for i, c := range crowd {
		if want := i < len(crowd)-maxStreams+1; evicted(c) != want {
			t.Fatalf("stream %d of the crowd: evicted %v, want the oldest to go", i, evicted(c))
		}
	}
	if _, err := crowd[0].Conn.Read(make([]byte, 1)); err == nil {
		t.Error("an evicted stream is still open")
	}
	newcomer := open(t, g, "10.0.0.2:5")
	if evicted(newcomer) || evicted(honest) {
		t.Error("no room for a newcomer")
	}
	for _, c := range append(crowd, honest, newcomer) {
		c.Close()
		c.Close()
	}
	if len(g.streams) != 0 || g.held != 0 {
		t.Errorf("%d streams, %d bytes are left", len(g.streams), g.held)
	}
}

func TestGuardBoundsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGuard()
		honest := open(t, g, "10.0.0.1:5")
		if err := honest.hold(300 << 10); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			c := open(t, g, fmt.Sprintf("10.0.1.%d:5", i))
			for n := 1 << 20; n < maxMessage; n += 1 << 20 {
				if err := c.hold(n); err != nil && !errors.Is(err, errEvicted) {
					t.Fatal(err)
				}
				if g.held > maxHeld {
					t.Fatalf("%d bytes are held, want at most %d", g.held, maxHeld)
				}
			}
		}
		if evicted(honest) {
			t.Error("the greedy pushed a modest stream out")
		}
		a, _ := net.Pipe()
		own := g.opened(a, nil) // nobody has a better claim, but none is beyond the limit
		if err := own.hold(maxHeld + 1); !errors.Is(err, errEvicted) {
			t.Errorf("got %v", err)
		}
	})
}

// What is read late is cut off.
func TestReadAllTakesItsTime(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	g := newTestGuard()
	c := g.admit(from{a, "10.0.0.1:5"})
	go func() {
		_, _ = b.Write(state(1, 30)[:20])
		time.Sleep(20 * time.Millisecond)
		b.Close()
	}()
	if err := c.readAll(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	c.Close()
}
