package cluster

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func key(t testing.TB, fill byte) *sealer {
	t.Helper()
	k, err := newSealer(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSeal(t *testing.T) {
	for _, size := range []int{16, 24, 32} {
		k, err := newSealer(bytes.Repeat([]byte{1}, size))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"", "x", strings.Repeat("y", 5000)} {
			sealed := k.seal([]byte("head"), []byte(message), []byte("label"))
			if len(sealed) != 4+sealOverhead+len(message) || bytes.Contains(sealed, []byte("yyyy")) {
				t.Fatalf("%d bytes of %d", len(sealed), len(message))
			}
			got, err := k.open([]byte("head"), sealed[4:], []byte("label"))
			if string(got) != "head"+message || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			for name, open := range map[string]func() ([]byte, error){
				"another label": func() ([]byte, error) { return k.open(nil, sealed[4:], []byte("other")) },
				"another key":   func() ([]byte, error) { return key(t, 9).open(nil, sealed[4:], []byte("label")) },
				"cut off":       func() ([]byte, error) { return k.open(nil, sealed[4:len(sealed)-1], []byte("label")) },
				"nothing":       func() ([]byte, error) { return k.open(nil, nil, []byte("label")) },
				"a flipped bit": func() ([]byte, error) {
					bad := slices.Clone(sealed[4:])
					bad[len(bad)/2] ^= 1
					return k.open(nil, bad, []byte("label"))
				},
			} {
				if got, err := open(); err == nil {
					t.Errorf("%s: opened %q", name, got)
				}
			}
		}
	}
	a, b := key(t, 1).seal(nil, []byte("m"), nil), key(t, 1).seal(nil, []byte("m"), nil)
	if bytes.Equal(a, b) {
		t.Error("a nonce was used twice")
	}
}

// quiet is a member that runs memberlist's own encryption.
type quiet struct{ meta []byte }

func (q quiet) NodeMeta(int) []byte           { return q.meta }
func (quiet) NotifyMsg([]byte)                {}
func (quiet) GetBroadcasts(int, int) [][]byte { return nil }
func (quiet) LocalState(bool) []byte          { return nil }
func (quiet) MergeRemoteState([]byte, bool)   {}

// What goes over the wire is what memberlist itself would send, and takes.
func TestSealIsMemberlistsOwn(t *testing.T) {
	for _, keys := range [][][]byte{nil, {bytes.Repeat([]byte{1}, 32)}, {bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{1}, 32)}} {
		t.Run(fmt.Sprintf("%d keys", len(keys)), func(t *testing.T) {
			c, err := Start(Config{Name: "ours", Bind: "127.0.0.1:0", Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			cfg := memberlist.DefaultLANConfig()
			cfg.Name, cfg.Label = nodeName("stock", 5<<instanceRandomBits), DefaultLabel
			cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "127.0.0.1", 0, 0
			cfg.Delegate, cfg.Logger, cfg.EnableCompression = quiet{appendMeta(nil, 0, "0")}, stdlog.New(io.Discard, "", 0), false
			// It probes by the pings below alone, which may take their time.
			cfg.ProbeInterval, cfg.ProbeTimeout = time.Hour, 20*time.Second
			if len(keys) > 0 {
				if cfg.Keyring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
					t.Fatal(err)
				}
			}
			ml, err := memberlist.Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer ml.Shutdown() //nolint:errcheck // nothing to do about it
			if _, err := ml.Join([]string{c.Self().Addr.String()}); err != nil {
				t.Fatal(err)
			}
			// Datagrams in both directions.
			for range 20 {
				if _, err := ml.Ping(c.ml.LocalNode().Name, net.UDPAddrFromAddrPort(c.Self().Addr)); err != nil {
					t.Fatalf("memberlist's pings are not answered: %v", err)
				}
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if ms := c.View().Lookup("stock"); len(ms) == 1 && ms[0].RTT() > 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("this peer's pings are not answered")
				}
			}
			if n := ml.NumMembers(); n != 2 {
				t.Errorf("memberlist sees %d alive, want 2", n)
			}
			if ms := c.View().Lookup("stock"); len(ms) != 1 {
				t.Errorf("this peer sees %+v", c.View().Members)
			}
			addr := netip.MustParseAddrPort(ml.LocalNode().Address())
			if err := c.exchange(addr); err != nil {
				t.Errorf("an exchange the other way round: %v", err)
			}
		})
	}
}

func TestKeySet(t *testing.T) {
	now := time.Now()
	draw := func(s *keySet) string {
		var out []string
		for _, k := range s.keys {
			text := fmt.Sprint(k.key[0])
			if k.old() {
				text += "*"
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	later := now.Add(time.Hour)
	a := (&keySet{}).with(key(t, 1))
	for _, tt := range []struct{ what, got, want string }{
		{"one", draw(a), "1"},
		{"twice", draw(a.with(key(t, 1))), "1"},
		{"two", draw(a.with(key(t, 2))), "1 2"},
		{"used", draw(a.with(key(t, 2)).using(key(t, 2), later, false)), "2 1*"},
		{"used at once", draw(a.using(key(t, 2), later, false)), "2 1*"},
		{"used again", draw(a.using(key(t, 2), later, false).using(key(t, 2), later, false)), "2 1*"},
		{"used and another installed", draw(a.with(key(t, 3)).using(key(t, 2), later, false)), "2 1* 3"},
		{"rotated and another installed", draw(a.with(key(t, 3)).using(key(t, 2), later, true)), "2 1* 3*"},
		{"back", draw(a.using(key(t, 2), later, true).using(key(t, 1), later, true)), "1 2*"},
		{"an old one installed anew", draw(a.using(key(t, 2), later, true).with(key(t, 1))), "2 1"},
		{"removed", draw(a.with(key(t, 2)).without(key(t, 2).print)), "1"},
		{"the first removed", draw(a.with(key(t, 2)).without(key(t, 1).print)), "1 2"},
		{"none removed", draw((&keySet{}).without("x")), ""},
		{"in time", draw(a.using(key(t, 2), later, true).at(now)), "2 1*"},
		{"over", draw(a.using(key(t, 2), later, true).at(later.Add(time.Second))), "2"},
		{"none", draw((&keySet{}).at(now)), ""},
		{"unchanged", draw(a), "1"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	for _, tt := range []struct {
		stage        sealStage
		sends, takes bool
		macs         int
	}{{stageStrict, true, false, 1}, {stageAccept, false, true, 2}, {stageSend, true, true, 2}} {
		s := a.clone()
		s.stage = tt.stage
		if (s.sends() != nil) != tt.sends || s.takesPlain() != tt.takes || len(s.macs()) != tt.macs {
			t.Errorf("stage %d: sends %v, takes plain %v, %d MAC keys", tt.stage, s.sends() != nil, s.takesPlain(), len(s.macs()))
		}
	}
	if none := (&keySet{}); none.sends() != nil || !none.takesPlain() || len(none.macs()) != 1 {
		t.Error("without a key everything is plain")
	}
}

// An old command, recorded and sent again, and one signed with an old key.
func TestKeyCommandsAreNotReplayed(t *testing.T) {
	c := still(t)
	c.keys.set.Store((&keySet{}).with(key(t, 1)))
	c.trans = &transport{}
	do := func(by *sealer, cmd keyCommand) error {
		cmd.from = p1
		err := c.takeKeys(c.signKeys(by, cmd.encode()))
		c.wg.Wait()
		return err
	}
	first := func() byte { return c.keys.load().keys[0].key[0] }
	to := func(fill byte, epoch uint64) keyCommand {
		return keyCommand{epoch: epoch, op: opRotate, grace: 3600, key: key(t, fill).key}
	}
	if err := do(key(t, 1), to(2, 100)); err != nil || first() != 2 {
		t.Fatalf("rotate: %v, uses %d", err, first())
	}
	if err := do(key(t, 2), to(3, 200)); err != nil || first() != 3 {
		t.Fatalf("rotate: %v, uses %d", err, first())
	}
	for _, tt := range []struct {
		what string
		by   *sealer
		cmd  keyCommand
	}{
		{"the first one again", key(t, 1), to(2, 100)},
		{"the second one again", key(t, 2), to(3, 200)},
		{"with an old key", key(t, 2), to(66, 300)},
		{"with an unknown key", key(t, 66), to(66, 300)},
		{"an old epoch", key(t, 3), to(2, 150)},
		{"a removal with an old key", key(t, 1), keyCommand{epoch: 400, op: opRemove, key: []byte(key(t, 2).print)}},
		{"a removal of the key in use", key(t, 3), keyCommand{epoch: 400, op: opRemove, key: []byte(key(t, 3).print)}},
	} {
		before := c.keys.load()
		_ = do(tt.by, tt.cmd)
		if now := c.keys.load(); !now.equal(before) {
			t.Errorf("%s: changed the keys to %q", tt.what, now.prints())
		}
	}
	frame := c.signKeys(key(t, 3), keyCommand{from: p1, epoch: 500, op: opRotate, key: key(t, 4).key}.encode())
	for i := range frame {
		bad := slices.Clone(frame)
		bad[i] ^= 1
		if bad[0] == frameKeys {
			_ = c.takeKeys(bad)
		}
	}
	c.wg.Wait()
	if first() != 3 {
		t.Errorf("a command with a flipped bit was obeyed")
	}
}

func FuzzKeyFrames(f *testing.F) {
	f.Add(keyCommand{id: 1, from: p1, epoch: 5, op: opRotate, grace: 9, key: make([]byte, 32)}.encode()[1:])
	f.Add(keyCommand{op: opRemove, key: []byte("0123456789abcdef")}.encode()[1:])
	f.Add(keyAnswer{id: 1, from: p1, failed: true, prints: []string{"0123456789abcdef"}, text: "no\x1b"}.encode()[1:])
	f.Add(sealNews{p1, stageSend, "0123456789abcdef"}.encode()[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if cmd, err := parseKeyCommand(b); err == nil && !bytes.Equal(cmd.encode()[1:], b) {
			t.Errorf("command %+v of %x", cmd, b)
		}
		if a, err := parseKeyAnswer(b); err == nil {
			if len(a.prints) > maxKeys || !clean(a.text) || !clean(strings.Join(a.prints, "")) {
				t.Errorf("answer %+v", a)
			}
			if again, err := parseKeyAnswer(a.encode()[1:]); err != nil || !slices.Equal(again.prints, a.prints) || again.id != a.id {
				if len(a.text) <= maxKeyNote {
					t.Errorf("again: %+v, %v, want %+v", again, err, a)
				}
			}
		}
		if n, err := parseSealNews(b); err == nil && !bytes.Equal(n.encode()[1:], b) {
			t.Errorf("news %+v of %x", n, b)
		}
	})
}

func TestKeyNotes(t *testing.T) {
	until := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	set := (&keySet{epoch: 1 << 51}).with(key(t, 1)).using(key(t, 2), until, true)
	data := encodeKeys(set, until.Add(-time.Hour))
	keys, err := parseKeys(data)
	if err != nil || len(keys) != 2 || keys[0][0] != 2 || keys[1][0] != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	ends, epoch := keyNotes(data)
	if len(ends) != 1 || !ends[key(t, 1).print].Equal(until) || epoch != 1<<51 {
		t.Errorf("got %v, %d", ends, epoch)
	}
	for _, s := range []string{"", "# until tomorrow", "# epoch", "# epoch -1", "# epoch 99999999999999999999", "x # until 2026-11-27T08:00:00Z", string(data[:50])} {
		if ends, epoch := keyNotes([]byte(s)); len(ends) != 0 || epoch != 0 {
			t.Errorf("%q: got %v, %d", s, ends, epoch)
		}
	}
}

func TestStateOwner(t *testing.T) {
	c := still(t)
	c.mu.Lock()
	_ = c.setOwn(record{})
	c.mu.Unlock()
	s := c.localState(time.Now())
	b := append(packed1(msgPushPull, stateHeader{0, len(s), true}), s...)
	if got := stateOwner(append([]byte{msgLabel, 1, 'l'}, b...)); got != c.self.m.Instance {
		t.Errorf("got %v, want %v", got, c.self.m.Instance)
	}
	for _, b := range [][]byte{nil, {msgLabel}, {msgPushPull}, packed1(msgPing, pingBody{}), packed1(msgPushPull, stateHeader{0, 900, true}), state(3, 0), state(3, 9)} {
		if got := stateOwner(b); got != 0 {
			t.Errorf("%.20x: got %v", b, got)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	k := key(b, 1)
	message := make([]byte, 200)
	_, _ = rand.Read(message)
	b.ReportAllocs()
	for b.Loop() {
		sealed := k.seal(make([]byte, 0, 300), message, []byte("peer"))
		if _, err := k.open(nil, sealed, []byte("peer")); errors.Is(err, errSealed) {
			b.Fatal(err)
		}
	}
}
