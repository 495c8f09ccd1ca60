package port

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// aesKey is a key of AES-GCM whose nonce is always the same, which only a test
// may do.
type aesKey struct {
	aead cipher.AEAD
	name string
	old  bool
}

func newAES(t testing.TB, name byte) *aesKey {
	t.Helper()
	b, err := aes.NewCipher(bytes.Repeat([]byte{name}, 32))
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return &aesKey{aead: g, name: string(name)}
}

func (k *aesKey) Seal(dst, message, ad []byte) []byte {
	dst = append(dst, 1)
	dst = append(dst, make([]byte, 12)...)
	return k.aead.Seal(dst, make([]byte, 12), message, ad)
}
func (k *aesKey) Overhead() int       { return 29 }
func (k *aesKey) Fingerprint() string { return k.name }
func (k *aesKey) Old() bool           { return k.old }

// aesKeys is a Sealer of such keys, the first of which encrypts.
type aesKeys struct {
	keys  []*aesKey
	plain bool // plain text is taken in, and sent
}

func (s aesKeys) Primary() string { return s.keys[0].name }
func (s aesKeys) Sends() Key {
	if s.plain {
		return nil
	}
	return s.keys[0]
}
func (s aesKeys) TakesPlain() bool { return s.plain }
func (s aesKeys) Open(head, sealed, ad []byte) ([]byte, Key, error) {
	if len(sealed) < 29 {
		return nil, nil, errors.New("short")
	}
	for _, k := range s.keys {
		if m, err := k.aead.Open(bytes.Clone(head), sealed[1:13], sealed[13:], ad); err == nil {
			return m, k, nil
		}
	}
	return nil, nil, errors.New("no key")
}

func openTest(t *testing.T, edit func(*Config)) *Port {
	t.Helper()
	cfg := Config{Bind: netip.MustParseAddrPort("127.0.0.1:0"), Label: "l", MaxNodes: testNodes, MaxFrame: testFrame}
	if edit != nil {
		edit(&cfg)
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Shutdown() })
	p.Serve()
	return p
}

func labelled(b []byte) []byte { return append([]byte{msgLabel, 1, 'l'}, b...) }

func within[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing came", what)
	}
	return v
}

func TestOpenTakesBothHalvesOrNone(t *testing.T) {
	p := openTest(t, nil)
	_, err := Open(Config{Bind: p.Addr()})
	if err == nil || !strings.Contains(err.Error(), "--bind") || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
	at := p.Addr()
	if err := errors.Join(p.Shutdown(), p.Shutdown()); err != nil {
		t.Error(err)
	}
	// Only the packet half is taken: the other one is given back.
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Skipf("somebody else was quicker: %v", err)
	}
	if _, err := Open(Config{Bind: at}); err == nil {
		t.Error("it opened a port of which half was taken")
	}
	u.Close()
	again, err := Open(Config{Bind: at})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Shutdown(); err != nil { // without Serve
		t.Error(err)
	}
	if again.Context().Err() == nil {
		t.Error("its context has not ended")
	}
}

// Every way a message may go, with every pair of keys.
func TestMessagesArrive(t *testing.T) {
	one, two := newAES(t, '1'), newAES(t, '2')
	old := newAES(t, '1')
	old.old = true
	for _, tt := range []struct {
		name         string
		from, to     Sealer
		stale        string // fingerprint that Stale is told
		log, explain string // of a message that does not arrive
	}{
		{"plain", plainText{}, plainText{}, "", "", ""},
		{"one key", aesKeys{keys: []*aesKey{one}}, aesKeys{keys: []*aesKey{one}}, "", "", ""},
		{"the second of two", aesKeys{keys: []*aesKey{one}}, aesKeys{keys: []*aesKey{two, one}}, "", "", ""},
		{"an old one", aesKeys{keys: []*aesKey{one}}, aesKeys{keys: []*aesKey{two, old}}, "1", "", ""},
		{"a switch, plain", plainText{}, aesKeys{[]*aesKey{one}, true}, "", "", ""},
		{"a switch, encrypted", aesKeys{keys: []*aesKey{one}}, aesKeys{[]*aesKey{one}, true}, "", "", ""},
		{"another key", aesKeys{keys: []*aesKey{one}}, aesKeys{keys: []*aesKey{two}}, "", wrongKey, "uses another gossip key"},
		{"none", plainText{}, aesKeys{keys: []*aesKey{two}}, "", wrongKey, "this peer has no key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out lockedBuffer
			var mu sync.Mutex
			var stale []string
			var states []byte
			to := openTest(t, func(c *Config) {
				c.Keys = tt.to
				c.Logger = hclog.New(&hclog.LoggerOptions{Output: &out})
				c.Stale = func(fingerprint string, from netip.AddrPort, state []byte) {
					mu.Lock()
					defer mu.Unlock()
					stale, states = append(stale, fingerprint), append(states, state...)
					if from.IsValid() == (state != nil) {
						t.Errorf("from %v with state %q", from, state)
					}
				}
			})
			from := openTest(t, func(c *Config) { c.Keys = tt.from })
			addr := to.Addr().String()

			ping := labelled(packed1(msgPing, pingBody{1, "x"}))
			for range 3 { // loopback loses none, but that is no promise
				if _, err := from.WriteTo(ping, addr); err != nil {
					t.Fatal(err)
				}
			}
			a := from.Attempt()
			defer a.Done()
			conn, err := from.DialAddressTimeout(memberlist.Address{Addr: addr, Name: a.Name}, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			push := state(2, 5)
			for _, b := range [][]byte{labelled(nil), push} { // as memberlist writes it
				if _, err := conn.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if tt.explain != "" {
				_, err := conn.Read(make([]byte, 1))
				if got := a.Explain(to.Addr(), errors.Join(err, errors.New("as memberlist has it"))).Error(); !strings.Contains(got, tt.explain) {
					t.Errorf("explained as %q, want %q in it", got, tt.explain)
				}
				for end := time.Now().Add(5 * time.Second); !strings.Contains(out.String(), tt.log) && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if !strings.Contains(out.String(), tt.log) {
					t.Errorf("log %q, want %q", out.String(), tt.log)
				}
				select {
				case p := <-to.PacketCh():
					t.Errorf("packet %q came through", p.Buf)
				case <-to.StreamCh():
					t.Error("a stream came through")
				default:
				}
				return
			}
			if got := within(t, to.PacketCh(), "packet"); !bytes.Equal(got.Buf, ping) {
				t.Errorf("packet %x, want %x", got.Buf, ping)
			}
			in := within(t, to.StreamCh(), "stream")
			defer in.Close()
			want := labelled(push)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("stream of %d bytes, %v", len(got), err)
			}
			mu.Lock()
			defer mu.Unlock()
			if s := strings.Join(stale, ""); strings.Trim(s, tt.stale) != "" || tt.stale != "" && len(s) < 2 {
				t.Errorf("told of the old keys %q, want %q", stale, tt.stale)
			}
			if tt.stale != "" && len(states) != 5 {
				t.Errorf("the state %q is told, want the 5 bytes of the program's own", states)
			}
		})
	}
}

// A frame that is sent with a key of choice is one message of memberlist's.
func TestSend(t *testing.T) {
	key := newAES(t, '1')
	to := openTest(t, func(c *Config) { c.Keys = aesKeys{keys: []*aesKey{newAES(t, '2'), key}} })
	from := openTest(t, nil)
	if err := from.Send(t.Context(), to.Addr(), []byte("Kframe"), key); err != nil {
		t.Fatal(err)
	}
	in := within(t, to.StreamCh(), "stream")
	defer in.Close()
	want := labelled(append(packed1(msgUser), append([]byte("\x81\xaaUserMsgLen\xce\x00\x00\x00\x06"), "Kframe"...)...))
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	at := to.Addr()
	in.Close()
	_ = to.Shutdown()
	if err := from.Send(t.Context(), at, []byte("K"), key); err == nil || !strings.Contains(err.Error(), "no agent listens there") {
		t.Errorf("to nobody: %v", err)
	}
}

// A stream of ours goes to Watch, which Shutdown waits for.
func TestWatchStreams(t *testing.T) {
	got, ended := make(chan string), make(chan struct{})
	var p *Port
	p = openTest(t, func(c *Config) {
		c.Watch = func(conn net.Conn) {
			defer conn.Close()
			b := make([]byte, 5)
			_, _ = io.ReadFull(conn, b)
			got <- string(b)
			<-p.Context().Done()
			time.Sleep(10 * time.Millisecond)
			close(ended)
		}
	})
	conn, err := p.Dial(p.Addr(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\xe7hello")); err != nil {
		t.Fatal(err)
	}
	if s := within(t, got, "hello"); s != "hello" {
		t.Errorf("got %q", s)
	}
	_ = p.Shutdown()
	select {
	case <-ended:
	default:
		t.Error("Shutdown did not wait for Watch")
	}
	if _, err := p.Dial(netip.MustParseAddrPort("127.0.0.1:1"), time.Second); err == nil {
		t.Error("a port that has shut down dials")
	}
}

// An attempt to join is explained by what came back on its stream, not by
// another one's.
func TestAttemptsAreTheirOwn(t *testing.T) {
	p := openTest(t, nil)
	at := netip.MustParseAddrPort("127.0.0.1:1")
	mine, other := p.Attempt(), p.Attempt()
	defer other.Done()
	if mine.Name == other.Name || !strings.Contains(mine.Name, " ") {
		t.Errorf("names %q and %q", mine.Name, other.Name)
	}
	_, err := p.DialAddressTimeout(memberlist.Address{Addr: at.String(), Name: mine.Name}, time.Second)
	if err == nil {
		t.Skip("something listens on port 1")
	}
	if got := mine.Explain(at, err).Error(); !strings.Contains(got, "no agent listens there") {
		t.Errorf("got %q", got)
	}
	cause := errors.New("1 error occurred: failed to join 127.0.0.1:1: broke\x1b")
	if got := other.Explain(at, cause).Error(); got != "join 127.0.0.1:1: broke." {
		t.Errorf("of one that dialled nobody: %q", got)
	}
	mine.Done()
	if _, ok := p.traces.Load(mine.Name); ok {
		t.Error("a trace is kept")
	}
}

func TestUserState(t *testing.T) {
	if got := userState(labelled(append(packed1(msgPushPull, stateHeader{0, 3, true}), "abc"...))); string(got) != "abc" {
		t.Errorf("got %q", got)
	}
	if got := userState(state(3, 9)); len(got) != 9 {
		t.Errorf("behind three nodes: %q", got)
	}
	for _, b := range [][]byte{nil, {msgLabel}, {msgPushPull}, packed1(msgPing, pingBody{}), packed1(msgPushPull, stateHeader{0, 900, true}), state(3, 0)} {
		if got := userState(b); got != nil {
			t.Errorf("%.20x: got %q", b, got)
		}
	}
}
