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
	maxHeld     = 8 << 20 // bytes of their messages together
	readTimeout = 10 * time.Second
	owedFor     = 50 * time.Millisecond
	drainFor    = time.Second
	drainBytes  = 1 << 20
)

var errEvicted = errors.New("closed to make room for others")

// guard keeps the streams of one transport. Its methods may be called from any
// goroutine.
type guard struct {
	label string     // of this cluster; set before there is a stream
	keys  *keyHolder // likewise

	mu      sync.Mutex
	streams []*guardedConn // in order of arrival
	held    int            // bytes
	owed    int            // bytes that evicted streams have not given back yet
}

// guardedConn is a stream that the guard counts. Each stream of memberlist's
// carries one message in each direction: the whole of what is read was checked
// and decrypted before Read returns any of it, and what is written is encrypted.
type guardedConn struct {
	net.Conn
	g      *guard
	source netip.Addr // zero for a stream that this peer opened
	trace  *trace     // of a stream that this peer opened, or nil

	// Of the one goroutine that uses the stream at a time.
	in    *intake // nil until the message was read
	plain []byte  // the message, if it was encrypted, behind its label
	by    heldKey // the key that it was encrypted with
	at    int     // how much of it Read has returned
	err   error   // why there is none
	seal  *sealer // encrypts what is written; nil: plain text

	// g.mu guards all below.
	held    int
	owed    int // what it held when it was evicted, until it is closed
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
	c := &guardedConn{Conn: conn, g: g, trace: trace, seal: g.keys.load().sends()}
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
	c.settle()
	return c.Conn.Close()
}

// settle says that c's bytes are given back.
func (c *guardedConn) settle() {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.owed -= c.owed
	c.owed = 0
}

// Write is called with a label, once, and with a message, once. When it fails it
// gives the socket up: memberlist forgets to close one whose label could not be
// sent.
func (c *guardedConn) Write(b []byte) (int, error) {
	out := b
	if header, message, _ := cutLabel(b); c.seal != nil && (header == nil || len(message) > 0) {
		out = c.seal.sealStream(b, c.g.label)
	}
	if _, err := c.Conn.Write(out); err != nil {
		c.release()
		c.settle()
		c.Conn.Close()
		return 0, err
	}
	return len(b), nil
}

// Read returns the message. On a stream that this peer opened the first call
// reads it.
func (c *guardedConn) Read(b []byte) (n int, err error) {
	if c.in == nil {
		c.in = &intake{r: c.Conn, hold: c.hold}
		kind, err := c.in.message()
		if err == nil {
			err = c.unseal(kind, 0)
		}
		c.err = err
		if c.trace != nil {
			c.trace.answered(c.in, err)
		}
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.plain != nil:
		n = copy(b, c.plain[c.at:])
	default:
		n = c.in.copyAt(b, c.at)
	}
	c.at += n
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readAll reads what a stranger says on a stream that was accepted, beginning
// with what was read of it already, within readTimeout. Without an error
// memberlist may have it. Who has the wrong label or key is told so.
func (c *guardedConn) readAll(first []byte) error {
	_ = c.Conn.SetDeadline(time.Now().Add(readTimeout))
	c.in = &intake{r: io.MultiReader(bytes.NewReader(first), c.Conn), hold: c.hold}
	label, err := c.in.label()
	if err != nil {
		return err
	}
	if label != c.g.label {
		if label != "" {
			c.refuse(refusedLabel)
		}
		return nil // what was read is enough for memberlist to say whose it is not
	}
	start := c.in.pos
	kind, err := c.in.peek()
	keys := c.g.keys.load()
	switch {
	case err != nil:
		return err
	case kind == msgEncrypted && len(keys.keys) == 0:
		c.refuse(refusedSealed)
		return errNoKey
	case (kind == msgPushPull || kind == msgUser || kind == msgPing) && !keys.takesPlain():
		c.refuse(refusedPlain)
		return errPlain
	}
	if _, err := c.in.message(); err != nil {
		return err
	}
	if err = c.unseal(kind, start); errors.Is(err, errSealed) {
		c.refuse(refusedKey)
	}
	return err
}

// unseal decrypts the message of this type, which begins at start and has been
// read. What is answered goes out with the same key.
func (c *guardedConn) unseal(kind byte, start int) error {
	keys := c.g.keys.load()
	if kind != msgEncrypted {
		if c.source.IsValid() {
			c.seal = nil
		}
		if !keys.takesPlain() {
			return errPlain
		}
		return nil
	}
	if len(keys.keys) == 0 {
		return errNoKey
	}
	end := c.in.pos
	if err := c.hold(2 * end); err != nil {
		return err
	}
	sealed := make([]byte, end)
	c.in.copyAt(sealed, 0)
	with := append(sealed[start:start+5:start+5], c.g.label...)
	plain, by, err := keys.open(sealed[:start], sealed[start+5:], with)
	if err != nil {
		return err
	}
	c.plain, c.by = plain, by
	if c.source.IsValid() {
		c.seal = by.sealer
	}
	return nil
}

// refuse answers why and waits until the other side has read it: to close with
// bytes unread would cut it short. Anybody may read it, so it tells no secret.
func (c *guardedConn) refuse(why string) {
	_ = c.Conn.SetDeadline(time.Now().Add(drainFor))
	if _, err := c.Conn.Write(errorMessage(why)); err != nil {
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
