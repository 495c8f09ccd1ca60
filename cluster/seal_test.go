package cluster

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

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

func TestStateOwner(t *testing.T) {
	c := still(t)
	c.mu.Lock()
	_ = c.setOwn(record{})
	c.mu.Unlock()
	if got := stateOwner(c.localState(time.Now())); got != c.self.m.Instance {
		t.Errorf("got %v, want %v", got, c.self.m.Instance)
	}
	for _, b := range [][]byte{nil, {wireVersion}, {9, 1}, make([]byte, 30), appendFrame([]byte{wireVersion}, farewellFrame(p1, 3))} {
		if got := stateOwner(b); got != 0 {
			t.Errorf("%.20x: got %v", b, got)
		}
	}
}
