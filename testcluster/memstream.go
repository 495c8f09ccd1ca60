package testcluster

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	sendBuffer    = 64 << 10 // bytes that Write takes before it waits
	receiveBuffer = 64 << 10 // bytes kept for a reader that does not read

	firstRTO = 200 * time.Millisecond // retransmission, doubling (Linux's TCP_RTO_MIN)
	lastRTO  = 2 * time.Minute        // its ceiling (TCP_RTO_MAX)
	maxRetry = 15                     // after that many the stream is ETIMEDOUT (tcp_retries2)
)

// stream is one end of a TCP-like connection.
//
// What it writes waits in queue until the link lets it through, travels on
// wire, and lands in the peer's inbox. A segment that is lost holds up all
// behind it and is sent again after rto, which doubles.
type stream struct {
	n             *Net
	host          *Host
	local, remote netip.AddrPort
	peer          *stream

	// n.mu guards all below.
	changed     *sync.Cond // anything a reader or writer waits for
	read, write deadline

	inbox  []byte
	eof    bool  // the peer has said that nothing more comes
	err    error // reset, timed out
	closed bool  // by this end's process; its kernel may still be sending

	shut        bool // nothing more may be written
	queue       []segment
	wire        []segment
	unacked     int // bytes in queue and wire
	rto         time.Duration
	retries     int
	waiting     *time.Timer // for the next try
	arriving    *time.Timer // for the head of wire
	lastArrival time.Time
}

type segment struct {
	data []byte
	fin  bool
	at   time.Time // of arrival, once on the wire
}

// newStreams returns the two ends of a connection. The caller holds n.mu.
func newStreams(n *Net, client *Host, from netip.AddrPort, server *Host, to netip.AddrPort) (c, s *stream) {
	c = &stream{n: n, host: client, local: from, remote: to, rto: firstRTO, changed: sync.NewCond(&n.mu)}
	s = &stream{n: n, host: server, local: to, remote: from, rto: firstRTO, changed: sync.NewCond(&n.mu)}
	c.peer, s.peer = s, c
	client.streams[c] = struct{}{}
	server.streams[s] = struct{}{}
	return c, s
}

// Read waits for bytes, EOF or the deadline.
func (c *stream) Read(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	late := c.read.passed()
	for {
		switch {
		case c.closed:
			return 0, c.error("read", net.ErrClosed)
		case c.host.paused:
		case late:
			return 0, c.error("read", os.ErrDeadlineExceeded)
		case len(c.inbox) > 0:
			k := copy(b, c.inbox)
			c.inbox = c.inbox[k:]
			c.peer.pump() // there is room again
			return k, nil
		case c.err != nil:
			return 0, c.error("read", c.err)
		case c.eof:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		case c.read.passed():
			return 0, c.error("read", os.ErrDeadlineExceeded)
		}
		c.changed.Wait()
	}
}

// Write returns when the kernel has taken all of b, which says nothing about
// its arrival.
func (c *stream) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	written := 0
	late := c.write.passed()
	for {
		room := sendBuffer - c.unacked
		switch {
		case c.closed:
			return written, c.error("write", net.ErrClosed)
		case c.err != nil:
			return written, c.error("write", c.err)
		case c.shut:
			return written, c.error("write", syscall.EPIPE)
		case !c.host.paused && (late || c.write.passed()):
			return written, c.error("write", os.ErrDeadlineExceeded)
		case written == len(b):
			return written, nil
		case room > 0:
			k := min(room, len(b)-written)
			c.host.counters.StreamBytes += uint64(k)
			c.push(segment{data: slices.Clone(b[written : written+k])})
			if written += k; written == len(b) {
				return written, nil
			}
			continue
		}
		c.changed.Wait()
	}
}

// CloseWrite says that nothing more comes; reading goes on.
func (c *stream) CloseWrite() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	switch {
	case c.closed:
		return c.error("close", net.ErrClosed)
	case c.err != nil:
		return c.error("close", syscall.ENOTCONN)
	}
	c.sendFIN()
	return nil
}

// Close ends all calls that wait. What was written is still delivered.
func (c *stream) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return c.error("close", net.ErrClosed)
	}
	c.close()
	return nil
}

// LocalAddr returns a *net.TCPAddr.
func (c *stream) LocalAddr() net.Addr { return tcpAddr(c.local) }

// RemoteAddr returns a *net.TCPAddr.
func (c *stream) RemoteAddr() net.Addr { return tcpAddr(c.remote) }

// SetDeadline sets both deadlines, also for calls that already wait.
func (c *stream) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.read, &c.write) }

// SetReadDeadline sets the deadline of reads.
func (c *stream) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.read) }

// SetWriteDeadline sets the deadline of writes.
func (c *stream) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.write) }

func (c *stream) setDeadlines(t time.Time, ds ...*deadline) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	for _, d := range ds {
		d.set(t, c.changed)
	}
	return nil
}

func (c *stream) error(op string, err error) error {
	return opError(op, "tcp", tcpAddr(c.local), tcpAddr(c.remote), err)
}

// All below is the kernel's part. The caller holds n.mu.

// close is what the kernel does for a process that closes a stream or dies:
// the queue and a FIN still go out, or RST when something was left unread.
func (c *stream) close() {
	if c.closed {
		return
	}
	c.closed = true
	c.read.stop()
	c.write.stop()
	c.changed.Broadcast()
	switch {
	case c.err != nil:
		c.forget()
	case len(c.inbox) > 0:
		c.forget()
		c.answerRST(c.peer)
	default:
		c.sendFIN()
	}
}

// vanish is close without a word to the peer.
func (c *stream) vanish() {
	c.closed = true
	c.read.stop()
	c.write.stop()
	c.forget()
	c.changed.Broadcast()
}

// reset ends c from outside: nothing is left to read or to send.
func (c *stream) reset(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.inbox = nil
	c.forget()
	c.changed.Broadcast()
}

// forget drops what c would still send, and c from its host.
func (c *stream) forget() {
	c.queue, c.wire, c.unacked = nil, nil, 0
	for _, t := range []*time.Timer{c.waiting, c.arriving} {
		if t != nil {
			t.Stop()
		}
	}
	c.waiting, c.arriving = nil, nil
	c.shut = true
	delete(c.host.streams, c)
}

// answerRST sends RST from c's host to the end at, once: it may be lost.
func (c *stream) answerRST(at *stream) {
	if f := c.n.send(c.local.Addr(), c.remote.Addr(), true); !f.lost {
		c.n.after(f.delay, func() { at.reset(syscall.ECONNRESET) })
	}
}

func (c *stream) sendFIN() {
	if !c.shut {
		c.shut = true
		c.push(segment{fin: true})
	}
}

func (c *stream) push(s segment) {
	c.queue = append(c.queue, s)
	c.unacked += len(s.data)
	c.pump()
}

// pump puts on the wire what may go there now.
func (c *stream) pump() {
	for len(c.queue) > 0 && c.waiting == nil && (!c.host.paused || c.closed) {
		s := c.queue[0]
		inFlight := 0
		for _, w := range c.wire {
			inFlight += len(w.data)
		}
		if len(s.data) > 0 && !c.peer.closed && len(c.peer.inbox)+inFlight >= receiveBuffer {
			return // the window is shut; the peer's Read pumps again
		}
		f := c.n.send(c.local.Addr(), c.remote.Addr(), true)
		switch {
		case f.lost:
			c.retry()
			return
		case f.refused:
			c.n.after(f.delay, func() { c.reset(syscall.ECONNRESET) })
			return
		}
		c.rto, c.retries = firstRTO, 0
		c.queue = c.queue[1:]
		s.at = time.Now().Add(f.delay)
		if s.at.Before(c.lastArrival) {
			s.at = c.lastArrival
		}
		c.lastArrival = s.at
		c.wire = append(c.wire, s)
		if len(c.wire) == 1 {
			c.arrive()
		}
	}
}

// retry sends the head of the queue again after a while.
func (c *stream) retry() {
	if c.retries++; c.retries > maxRetry {
		c.reset(syscall.ETIMEDOUT)
		return
	}
	var t *time.Timer
	t = c.n.after(c.rto, func() {
		if c.waiting == t {
			c.waiting = nil
			c.pump()
		}
	})
	c.waiting = t
	c.rto = min(2*c.rto, lastRTO)
}

// arrive delivers all that has arrived, and comes back for the rest.
func (c *stream) arrive() {
	for len(c.wire) > 0 {
		s := c.wire[0]
		if wait := time.Until(s.at); wait > 0 {
			var t *time.Timer
			t = c.n.after(wait, func() {
				if c.arriving == t {
					c.arriving = nil
					c.arrive()
				}
			})
			c.arriving = t
			return
		}
		if c.peer.host.state == hostOff {
			// Lost on the doorstep, with all that follows it.
			c.queue = append(c.wire, c.queue...)
			c.wire = nil
			if c.waiting == nil {
				c.retry()
			}
			return
		}
		c.wire = c.wire[1:]
		c.unacked -= len(s.data)
		c.deliver(s)
	}
	if c.closed && len(c.queue) == 0 && len(c.wire) == 0 {
		c.forget()
	}
	c.changed.Broadcast() // there is room again
	c.pump()
}

// deliver hands one segment to the peer.
func (c *stream) deliver(s segment) {
	p := c.peer
	switch {
	case p.closed || p.err != nil:
		if !s.fin {
			p.answerRST(c)
		}
		return
	case s.fin:
		p.eof = true
	default:
		p.inbox = append(p.inbox, s.data...)
	}
	p.changed.Broadcast()
}
