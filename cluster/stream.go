package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/peerhq/peer/cluster/internal/port"
)

// The last bytes and the usual ones of a watch stream.
const (
	byteBeat    = 'b'
	byteEcho    = 'e'
	byteGoodbye = 'G' // the ring has changed; no offence
	byteLeave   = 'L' // this peer leaves
)

// watchStream is one live stream.
type watchStream struct {
	conn    net.Conn
	peer    Instance
	dialled bool
	over    bool // closed by this side, or with a goodbye: its end is no break
}

func (s *watchStream) write(b byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeLimit)) // a stopped peer fills its buffer
	_, _ = s.conn.Write([]byte{b})
}

// hangUp closes r's streams, last word first. The caller holds c.mu.
func (c *Cluster) hangUp(r *row, last byte) {
	c.end(r.out, last)
	c.end(r.in, last)
	r.out, r.in = nil, nil
}

// end closes s after a last word. The caller holds c.mu.
func (c *Cluster) end(s *watchStream, last byte) {
	if s == nil {
		return
	}
	s.over = true
	if !c.spawn(func() { // a full buffer must not hold up the table
		s.write(last)
		s.conn.Close()
	}) {
		s.conn.Close()
	}
}

// dialLater opens a stream to r, or finds out why that cannot be; broke says
// that one has just ended without a goodbye. The caller holds c.mu.
func (c *Cluster) dialLater(r *row, broke bool) {
	r.had = r.had || broke // also for the dial that is under way already
	if r.dialling && time.Since(r.dialled) < redialStale || c.closed || c.left {
		return
	}
	r.dialling = true
	r.dialled = time.Now()
	inst := r.m.Instance
	kind := byte(kindProbe)
	if r.succ {
		kind = kindWatch
	}
	addr := r.m.Addr
	c.spawn(func() {
		for try := 0; ; try++ {
			conn, who, err := c.dialWatch(addr, kind, inst, helloTimeout)
			ev, again := evNone, false
			switch {
			case err == nil && who == inst:
			case err == nil, errors.Is(err, syscall.ECONNREFUSED):
				ev = evFirst
			default:
				// A reset in the handshake, while the kernel still closes files. It may
				// hit a dial that was under way, or is a new partner's, too: when several
				// die at once the ring moves while they do.
				var ne net.Error
				again = try < redialMax && !(errors.As(err, &ne) && ne.Timeout())
			}
			if again {
				if c.sleep(redialWait) {
					continue
				}
			}
			c.dialled(inst, kind, conn, ev, err)
			return
		}
	})
}

// lookAt checks on r because somebody accuses it, or has heard from it while I do
// not. The caller holds c.mu.
func (c *Cluster) lookAt(r *row) { c.dialLater(r, false) }

// dialWatch opens a stream to addr and asks who is there. conn is nil unless it
// is the one wanted.
func (c *Cluster) dialWatch(addr netip.AddrPort, kind byte, want Instance, timeout time.Duration) (conn net.Conn, who Instance, err error) {
	end := time.Now().Add(timeout)
	conn, err = c.port.Dial(addr, timeout)
	if err != nil {
		return nil, 0, err
	}
	who, err = c.greet(conn, kind, want, end)
	if err != nil || who != want {
		conn.Close()
		return nil, who, err
	}
	return conn, who, nil
}

// dialled books the outcome of a dial.
func (c *Cluster) dialled(inst Instance, kind byte, conn net.Conn, ev evidence, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[inst]
	if r != nil {
		r.dialling = false
	}
	switch {
	case conn == nil && r == nil:
	case conn == nil:
		if ev == evFirst && r.had {
			ev = evBroke
		}
		if ev != evNone {
			c.blame(r, ev)
		}
	case r == nil || c.closed || c.left || kind == kindProbe || !r.succ || r.m.State == Failed || r.m.State == Left:
		if r != nil {
			c.clear(r, time.Now())
			c.heardFrom(r)
		}
		c.end(&watchStream{conn: conn}, byteGoodbye)
	default:
		c.take(r, &watchStream{conn: conn, peer: inst, dialled: true})
	}
	c.publish()
}

// take makes s one of r's streams, in place of an older one of its kind, and
// reads it. The caller holds c.mu and publishes.
func (c *Cluster) take(r *row, s *watchStream) {
	slot := &r.in
	if s.dialled {
		slot = &r.out
	}
	if old := *slot; old != nil {
		old.over = true
		old.conn.Close()
	}
	*slot = s
	r.had = true
	port.SetUserTimeout(s.conn, userLimit)
	c.clear(r, time.Now())
	c.heardFrom(r)
	if !c.spawn(func() { c.readWatch(s) }) {
		s.conn.Close()
	}
}

// acceptWatch is called by the port for each stream that begins with
// port.WatchMagic, on a goroutine of that stream.
func (c *Cluster) acceptWatch(conn net.Conn) {
	h, err := c.answer(conn)
	if err != nil || h.want != c.self.m.Instance || h.kind != kindWatch {
		// Who only asks who is here hangs up by itself; whoever wanted an earlier
		// instance has read by now that it is gone.
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
			_, _ = conn.Read(make([]byte, 1))
		}
		conn.Close()
		return
	}
	for end := time.Now().Add(time.Second); ; {
		c.mu.Lock()
		r := c.rows[h.from]
		if r == nil && time.Now().Before(end) && !c.closed {
			// A stream can be here before the announcement of who dialled.
			c.mu.Unlock()
			if !c.sleep(25 * time.Millisecond) {
				break
			}
			continue
		}
		if r != nil && !c.left && r.m.State != Failed && r.m.State != Left {
			c.take(r, &watchStream{conn: conn, peer: h.from})
			c.publish()
		} else {
			c.end(&watchStream{conn: conn}, byteGoodbye)
		}
		c.mu.Unlock()
		return
	}
	conn.Close()
}

// readWatch reads s until it ends.
func (c *Cluster) readWatch(s *watchStream) {
	defer s.conn.Close()
	defer context.AfterFunc(c.port.Context(), func() { s.conn.Close() })()
	buf := make([]byte, 64)
	for {
		n, err := s.conn.Read(buf)
		now := time.Now()
		for _, b := range buf[:n] {
			switch b {
			case byteBeat:
				s.write(byteEcho)
			case byteGoodbye, byteLeave:
				c.farewell(s, b)
				return
			}
		}
		if n > 0 {
			c.mu.Lock()
			if r := c.rows[s.peer]; r != nil && r.m.State != Left {
				r.m.pulse.touch(now)
				c.clear(r, now)
				c.heardFrom(r)
				c.publish()
			}
			c.mu.Unlock()
		}
		if err != nil {
			c.broken(s)
			return
		}
	}
}

// farewell takes in the last word on s.
func (c *Cluster) farewell(s *watchStream, b byte) {
	c.mu.Lock()
	s.over = true
	r := c.rows[s.peer]
	if r != nil {
		c.unslot(r, s)
	}
	c.mu.Unlock()
	if b == byteLeave && r != nil {
		c.memberGone(s.peer, r.m.pulse.beat.Load())
	}
}

// broken takes in that s ended without a goodbye.
func (c *Cluster) broken(s *watchStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[s.peer]
	if r == nil {
		return
	}
	c.unslot(r, s)
	if s.over || c.closed || c.left || r.m.State == Failed || r.m.State == Left {
		return
	}
	if r.partner {
		c.dialLater(r, true)
	}
}

func (c *Cluster) unslot(r *row, s *watchStream) {
	if r.out == s {
		r.out = nil
	}
	if r.in == s {
		r.in = nil
	}
}

// sayGoodbye writes the last word on all streams. It is called once, by Leave.
func (c *Cluster) sayGoodbye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rows {
		c.hangUp(r, byteLeave)
	}
}
