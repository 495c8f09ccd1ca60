package port

import (
	"bytes"
	"io"
	"log"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A real memberlist on loopback, and one that may not join it.
func TestRealStrangersAreOneLine(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for _, tt := range []struct {
		name               string
		ours, theirs       []byte
		ourLabel, theLabel string
		want               string
	}{
		{"wrong key", key, other, "l", "l", wrongKey},
		{"no key", key, nil, "l", "l", wrongKey},
		{"a key here not", nil, key, "l", "l", "it is encrypted and this peer has no key"},
		{"wrong label", key, key, "l", "m", wrongLabel},
		{"no label", nil, nil, "l", "", wrongLabel},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out lockedBuffer
			node := func(name, label string, key []byte, l *log.Logger) *memberlist.Memberlist {
				cfg := memberlist.DefaultLANConfig()
				cfg.Name, cfg.Label, cfg.SecretKey, cfg.Logger = name, label, key, l
				cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "127.0.0.1", 0, 0
				cfg.TCPTimeout = 2 * time.Second
				m, err := memberlist.Create(cfg)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := m.Shutdown(); err != nil {
						t.Error(err)
					}
				})
				return m
			}
			a := node("a", tt.ourLabel, tt.ours, newMemberlistLogger(hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true}), time.Now))
			b := node("b", tt.theLabel, tt.theirs, log.New(io.Discard, "", 0))
			for range 5 {
				if _, err := b.Join([]string{a.LocalNode().FullAddress().Addr}); err == nil {
					t.Fatal("it joined")
				}
			}
			for end := time.Now().Add(5 * time.Second); out.String() == "" && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			got := out.String()
			if strings.Count(got, "\n") != 1 || !strings.Contains(got, "[WARN]  gossip dropped") ||
				!strings.Contains(got, tt.want) || !strings.Contains(got, "addr=127.0.0.1:") {
				t.Errorf("five attempts are logged as\n%swant one warning %q", got, tt.want)
			}
		})
	}
}
