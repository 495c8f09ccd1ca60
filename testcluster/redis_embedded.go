package testcluster

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// EmbeddedRedis is a Redis in memory on a simulated host. Its clock is
// time.Now, so that in a bubble keys expire in virtual time.
type EmbeddedRedis struct {
	t    testing.TB
	host *Host
	addr netip.AddrPort
	mini *miniredis.Miniredis
	done chan struct{} // closed when it accepts no more
}

var _ Redis = (*EmbeddedRedis)(nil)

// StartEmbedded runs a Redis on port 6379 of h until the test ends. In a bubble
// t is the bubble's.
func StartEmbedded(t testing.TB, h *Host) *EmbeddedRedis {
	t.Helper()
	r := &EmbeddedRedis{t: t, host: h, addr: netip.AddrPortFrom(h.Addr(), 6379)}
	r.start()
	t.Cleanup(r.Kill)
	return r
}

func (r *EmbeddedRedis) start() {
	r.t.Helper()
	r.mini = miniredis.NewMiniRedis()
	r.mini.ClockTTL(true)
	c, err := r.mini.Dial() // the first Dial starts the server
	if err != nil {
		r.t.Fatal(err)
	}
	c.Close()
	l, err := r.host.Listen(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	server, done := r.mini.Server(), make(chan struct{})
	r.done = done
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			server.ServeConn(c)
		}
	}()
}

// Mini is the server itself, to look into or to make it answer with an error.
// RestartEmpty replaces it.
func (r *EmbeddedRedis) Mini() *miniredis.Miniredis { return r.mini }

// Addr is the simulated host's address with port 6379.
func (r *EmbeddedRedis) Addr() string { return r.addr.String() }

// Kill crashes the host.
func (r *EmbeddedRedis) Kill() {
	if r.mini == nil {
		return
	}
	r.host.Crash()
	<-r.done
	r.mini.Close()
	r.mini = nil
}

// RestartEmpty starts a new server on the same host.
func (r *EmbeddedRedis) RestartEmpty() {
	r.Kill()
	r.host.Restart()
	r.start()
}

func (r *EmbeddedRedis) Pause()  { r.host.Pause() }
func (r *EmbeddedRedis) Resume() { r.host.Resume() }

// Stall pulls the host's cable.
func (r *EmbeddedRedis) Stall() {
	n := r.host.n
	n.mu.Lock()
	defer n.mu.Unlock()
	r.host.isolated = true
}

// Cut puts a rejecting firewall before the host.
func (r *EmbeddedRedis) Cut() {
	r.around(func(l *Link) { l.Refuse = true })
	r.Reset()
}

func (r *EmbeddedRedis) Reset() { r.host.ResetStreams() }

// Slow adds half of d each way.
func (r *EmbeddedRedis) Slow(d time.Duration) {
	r.around(func(l *Link) { l.Latency += d / 2 })
}

// Heal gives the host the network's default links.
func (r *EmbeddedRedis) Heal() {
	r.around(nil)
	n := r.host.n
	n.mu.Lock()
	defer n.mu.Unlock()
	r.host.isolated = false
}

// around changes every link to and from the host, nil takes all changes back.
// Hosts plugged in later have the default link.
func (r *EmbeddedRedis) around(change func(*Link)) {
	n := r.host.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.hosts {
		if a == r.host.addr {
			continue
		}
		for _, p := range []pair{{a, r.host.addr}, {r.host.addr, a}} {
			if change == nil {
				delete(n.links, p)
				continue
			}
			l, ok := n.links[p]
			if !ok {
				l = n.link
			}
			change(&l)
			n.links[p] = l
		}
	}
}

// Dial connects without the network, for a test's own questions.
func (r *EmbeddedRedis) Dial() (net.Conn, error) { return r.mini.Dial() }
