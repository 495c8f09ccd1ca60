package port

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

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
	by    Key     // the key that it was encrypted with, or nil
	at    int     // how much of it Read has returned
	err   error   // why there is none
	seal  Key     // encrypts what is written; nil: plain text

	// g.mu guards all below.
	held    int
	owed    int // what it held when it was evicted, until it is closed
	evicted bool
	out     bool // no longer counted
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
		out = sealStream(c.seal, b, c.g.label)
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
		c.in = &intake{r: c.Conn, limits: c.g.limits, hold: c.hold}
		kind, err := c.in.message()
		if err == nil {
			err = c.decrypt(kind, 0)
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
	c.in = &intake{r: io.MultiReader(bytes.NewReader(first), c.Conn), limits: c.g.limits, hold: c.hold}
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
	keys := c.g.keys
	switch {
	case err != nil:
		return err
	case kind == msgEncrypted && keys.Primary() == "":
		c.refuse(refusedSealed)
		return errNoKey
	case (kind == msgPushPull || kind == msgUser || kind == msgPing) && !keys.TakesPlain():
		c.refuse(refusedPlain)
		return errPlain
	}
	if _, err := c.in.message(); err != nil {
		return err
	}
	if err = c.decrypt(kind, start); errors.Is(err, errSealed) {
		c.refuse(refusedKey)
	}
	return err
}

// decrypt decrypts the message of this type, which begins at start and has been
// read. What is answered goes out with the same key.
func (c *guardedConn) decrypt(kind byte, start int) error {
	keys := c.g.keys
	if kind != msgEncrypted {
		if c.source.IsValid() {
			c.seal = nil
		}
		if !keys.TakesPlain() {
			return errPlain
		}
		return nil
	}
	if keys.Primary() == "" {
		return errNoKey
	}
	end := c.in.pos
	if err := c.hold(2 * end); err != nil {
		return err
	}
	sealed := make([]byte, end)
	c.in.copyAt(sealed, 0)
	with := append(sealed[start:start+5:start+5], c.g.label...)
	plain, by, err := keys.Open(sealed[:start], sealed[start+5:], with)
	if err != nil {
		return errSealed
	}
	c.plain, c.by = plain, by
	if c.source.IsValid() {
		c.seal = by
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
