package port

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Whoever reaches the gossip port may open streams, with a key or without. The
// guard holds all that have been accepted until they are closed or turn out to
// be watch streams, and makes room for a newcomer by closing the one that has
// been there longest of the source that has most. An honest exchange takes a
// few round trips and is gone before its turn comes; a thousand that claim much
// and send nothing only push each other out.

const (
	maxStreams  = 256     // accepted and not closed
	maxHeld     = 8 << 20 // bytes of their messages together
	readTimeout = 10 * time.Second
	owedFor     = 50 * time.Millisecond
	drainFor    = time.Second
	drainBytes  = 1 << 20
)

var errEvicted = errors.New("closed to make room for others")

// guard keeps the streams of one port. Its methods may be called from any
// goroutine.
type guard struct {
	label  string // of this cluster
	keys   Sealer
	limits limits

	mu      sync.Mutex
	streams []*guardedConn // in order of arrival
	held    int            // bytes
	owed    int            // bytes that evicted streams have not given back yet
}

func newGuard(cfg Config) *guard {
	return &guard{
		label: cfg.Label, keys: cfg.Keys,
		limits: limits{nodes: uint64(cfg.MaxNodes), frame: uint64(cfg.MaxFrame)},
	}
}

// admit counts a stream that was accepted, making room if there is none.
func (g *guard) admit(conn net.Conn) *guardedConn {
	c := &guardedConn{Conn: conn, g: g, source: netip.IPv6Unspecified()}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.source = sourceOf(a.AddrPort().Addr())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inbound() >= maxStreams {
		g.evict(g.crowded())
	}
	g.streams = append(g.streams, c)
	return c
}

// opened counts a stream that this peer opened. trace may be nil.
func (g *guard) opened(conn net.Conn, trace *trace) *guardedConn {
	c := &guardedConn{Conn: conn, g: g, trace: trace, seal: g.keys.Sends()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams = append(g.streams, c)
	return c
}

// The caller holds g.mu.
func (g *guard) inbound() int {
	n := 0
	for _, c := range g.streams {
		if c.source.IsValid() {
			n++
		}
	}
	return n
}

// crowded returns the oldest stream of the source that has most. The caller
// holds g.mu.
func (g *guard) crowded() *guardedConn {
	count := make(map[netip.Addr]int, len(g.streams))
	most := 0
	for _, c := range g.streams {
		if c.source.IsValid() {
			count[c.source]++
			most = max(most, count[c.source])
		}
	}
	for _, c := range g.streams {
		if c.source.IsValid() && count[c.source] == most {
			return c
		}
	}
	return nil
}

// evict closes c. The caller holds g.mu; closing a socket does not block.
func (g *guard) evict(c *guardedConn) {
	c.evicted, c.owed = true, c.held
	g.owed += c.held
	g.forget(c)
	c.Conn.Close()
}

// forget no longer counts c. The caller holds g.mu.
func (g *guard) forget(c *guardedConn) {
	if c.out {
		return
	}
	c.out = true
	g.held -= c.held
	for i, o := range g.streams {
		if o == c {
			g.streams = append(g.streams[:i], g.streams[i+1:]...)
			return
		}
	}
}

// hold lets c keep total bytes, at the cost of whoever keeps most. Those who were
// evicted give their bytes back when they run next, and are waited for a little.
func (c *guardedConn) hold(total int) error {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for end := time.Now().Add(owedFor); g.owed > maxHeld && !c.evicted && time.Now().Before(end); {
		g.mu.Unlock()
		time.Sleep(time.Millisecond)
		g.mu.Lock()
	}
	if c.evicted {
		return errEvicted
	}
	if c.out {
		return net.ErrClosed
	}
	g.held += total - c.held
	c.held = total
	for g.held > maxHeld {
		largest := c
		for _, o := range g.streams {
			if o.held > largest.held {
				largest = o
			}
		}
		g.evict(largest)
		if largest == c {
			return errEvicted
		}
	}
	return nil
}
