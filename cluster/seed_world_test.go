package cluster_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/cluster"
)

// names is a resolver that knows addresses by name.
type names struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

// set has name stand for the addresses of the hosts i.
func (n *names) set(name string, i ...int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = map[string][]netip.Addr{}
	for _, i := range i {
		n.addrs[name] = append(n.addrs[name], netip.MustParseAddr(ip(i)))
	}
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addrs, ok := n.addrs[host]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (*names) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// logLines is a log kept in memory, a line a Write.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// about returns the lines that hold word.
func (l *logLines) about(word string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, word) {
			out = append(out, line)
		}
	}
	return out
}

// A stale name with hundreds of records is one short line, not one each
// attempt and not one each record.
func TestSeedNameWithManyDeadRecords(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dns, dead := &names{}, make([]int, 250)
		for i := range dead {
			dead[i] = 300 + i
		}
		dns.set("stale", dead...)
		log := &logLines{}
		p := w.start("a", 0, func(c *cluster.Config) {
			c.Resolver, c.Seeds = dns, []string{"stale"}
			c.Logger = hclog.New(&hclog.LoggerOptions{Output: log})
		})
		time.Sleep(time.Minute)
		err := p.Stats().Seeds[0].Err
		if err == nil || len(err.Error()) > 200 || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "64 addresses, none answers; first: join ") {
			t.Errorf("the seed's error: %v", err)
		}
		if lines := log.about("seed does not answer"); len(lines) != 1 || len(lines[0]) > 400 {
			t.Errorf("in a minute %d lines about the seed: %.600q", len(lines), lines)
		}
	})
}

// The name of a seed is the resolver's of Config, and asked anew each time.
func TestSeedIsLookedUpByTheResolverOfConfig(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dns := &names{}
		dns.set("seed", 9)
		p := w.start("a", 0, func(c *cluster.Config) { c.Resolver, c.Seeds = dns, []string{"seed"} })
		time.Sleep(5 * time.Second)
		w.start("b", 1)
		dns.set("seed", 1)
		w.within(20*time.Second, "the seed is found where the name has moved", func() bool { return p.View().Count(cluster.Alive) == 2 })
		if out := p.Join(t.Context(), []string{"nobody"}); out[0].Err == nil || !strings.Contains(out[0].Err.Error(), "no such host") {
			t.Errorf("a name that nobody has: %v", out[0].Err)
		}
	})
}
