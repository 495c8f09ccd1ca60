package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	maxHeld     = 6 << 20 // bytes of their messages together
	readTimeout = 10 * time.Second
	drainFor    = time.Second
	drainBytes  = 1 << 20
)

var errEvicted = errors.New("closed to make room for others")

// guard keeps the streams of one transport. Its methods may be called from any
// goroutine.
type guard struct {
	mu      sync.Mutex
	streams []*guardedConn // in order of arrival
	held    int            // bytes
}

// guardedConn is a stream that the guard counts. Once its message is read, Read
// returns that message and then io.EOF: each stream of memberlist's carries one
// message in each direction.
type guardedConn struct {
	net.Conn
	g      *guard
	source netip.Addr // zero for a stream that this peer opened
	trace  *trace     // of a stream that this peer opened, or nil

	// Of the one goroutine that reads at a time.
	in  *intake // nil until the message was read
	at  int     // how much of it Read has returned
	err error   // why there is none

	// g.mu guards all below.
	held    int
	evicted bool
	out     bool // no longer counted
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
	c := &guardedConn{Conn: conn, g: g, trace: trace}
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
	c.evicted = true
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

// hold lets c keep total bytes, at the cost of whoever keeps most.
func (c *guardedConn) hold(total int) error {
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
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

// release lets go of a stream that is not memberlist's.
func (c *guardedConn) release() {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.forget(c)
}

// Close is called by whoever reads.
func (c *guardedConn) Close() error {
	c.release()
	if c.in != nil {
		c.in.drop()
	}
	return c.Conn.Close()
}

// Write gives the socket up when it fails: memberlist forgets to close one whose
// label could not be sent.
func (c *guardedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.release()
		c.Conn.Close()
	}
	return n, err
}

// Read returns the message. On a stream that this peer opened the first call
// reads it.
func (c *guardedConn) Read(b []byte) (int, error) {
	if c.in == nil {
		c.in = &intake{r: c.Conn, hold: c.hold}
		var kind byte
		if kind, c.err = c.in.message(); c.trace != nil {
			c.trace.answered(kind, c.in, c.err)
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	n := c.in.copyAt(b, c.at)
	c.at += n
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readAll reads what a stranger says on a stream that was accepted, beginning
// with what was read of it already, within readTimeout. Without an error
// memberlist may have it.
func (c *guardedConn) readAll(first []byte, label string) error {
	_ = c.Conn.SetDeadline(time.Now().Add(readTimeout))
	c.in = &intake{r: io.MultiReader(bytes.NewReader(first), c.Conn), hold: c.hold}
	got, err := c.in.label()
	switch {
	case err != nil:
		return err
	case got == label:
		_, err = c.in.message()
		return err
	case got != "":
		c.refuse(errorMessage(refusedLabel))
	}
	return nil // what was read is enough for memberlist to say whose it is not
}

// refuse sends an answer and waits until the other side has read it: to close
// with bytes unread would cut it short.
func (c *guardedConn) refuse(answer []byte) {
	_ = c.Conn.SetDeadline(time.Now().Add(drainFor))
	if _, err := c.Conn.Write(answer); err != nil {
		return
	}
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c.Conn, drainBytes)
}

// closeAtEnd closes the socket when ctx ends; the function it returns stops
// that, and reports whether it came in time.
func (c *guardedConn) closeAtEnd(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { c.Conn.Close() })
}
