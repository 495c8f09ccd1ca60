package testcluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	backlog  = 128         // streams that wait for Accept; more dials are not answered
	firstSYN = time.Second // until a lost SYN is sent again, doubling: at 1, 3, 7, … s
	maxSYN   = 7           // tries, the last one ends after 127 s
)

// listener is a listening stream socket.
type listener struct {
	host *Host
	addr netip.AddrPort

	// host.n.mu guards all below.
	changed *sync.Cond
	queue   []*stream
	closed  bool
	accept  deadline
}

func newListener(h *Host, addr netip.AddrPort) *listener {
	return &listener{host: h, addr: addr, changed: sync.NewCond(&h.n.mu)}
}

// Accept waits for the next stream.
func (l *listener) Accept() (net.Conn, error) {
	l.host.n.mu.Lock()
	defer l.host.n.mu.Unlock()
	late := l.accept.passed()
	for {
		switch {
		case l.closed:
			return nil, l.error("accept", net.ErrClosed)
		case l.host.paused:
		case late:
			return nil, l.error("accept", os.ErrDeadlineExceeded)
		case len(l.queue) > 0:
			c := l.queue[0]
			l.queue = l.queue[1:]
			return c, nil
		case l.accept.passed():
			return nil, l.error("accept", os.ErrDeadlineExceeded)
		}
		l.changed.Wait()
	}
}

// Close resets the streams that nobody accepted.
func (l *listener) Close() error {
	l.host.n.mu.Lock()
	defer l.host.n.mu.Unlock()
	if l.closed {
		return l.error("close", net.ErrClosed)
	}
	l.close()
	return nil
}

// close gives the address free. The caller holds n.mu.
func (l *listener) close() {
	l.closed = true
	for _, c := range l.queue {
		if !c.closed {
			c.vanish()
			c.answerRST(c.peer)
		}
	}
	l.queue = nil
	l.accept.stop()
	delete(l.host.listeners, l.addr)
	l.changed.Broadcast()
}

// Addr returns a *net.TCPAddr.
func (l *listener) Addr() net.Addr { return tcpAddr(l.addr) }

// SetDeadline bounds Accept, calls that already wait included.
func (l *listener) SetDeadline(t time.Time) error {
	l.host.n.mu.Lock()
	defer l.host.n.mu.Unlock()
	if l.closed {
		return l.error("set", net.ErrClosed)
	}
	l.accept.set(t, l.changed)
	return nil
}

func (l *listener) error(op string, err error) error {
	return opError(op, "tcp", nil, tcpAddr(l.addr), err)
}

// DialContext is Dial in the shape of [net.Dialer]: network is "tcp", addr an
// IP address (or localhost) with a port.
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	a, err := resolve(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return h.Dial(ctx, a)
}

// Dial opens a stream to addr. See [cluster.Network].
func (h *Host) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	c, err := h.dial(ctx, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	if err != nil {
		return nil, opError("dial", "tcp", nil, tcpAddr(addr), err)
	}
	return c, nil
}

// errLost: a packet of the handshake was lost.
var errLost = errors.New("handshake lost")

func (h *Host) dial(ctx context.Context, to netip.AddrPort) (*stream, error) {
	if err := h.runnable(ctx); err != nil {
		return nil, err
	}
	if !to.IsValid() || to.Port() == 0 {
		return nil, syscall.ECONNREFUSED
	}
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	h.counters.Dials++
	epoch := h.epoch
	from := netip.AddrPortFrom(h.source(netip.Addr{}, to.Addr()), h.freePort())
	again := firstSYN
	for range maxSYN {
		start := time.Now()
		c, err := h.handshake(ctx, from, to)
		if h.epoch != epoch {
			if c != nil {
				c.close()
			}
			return nil, net.ErrClosed
		}
		if err == nil {
			// A stopped process does not see that its dial is through.
			if err = h.runnable(ctx); err != nil {
				c.close()
			}
		}
		if !errors.Is(err, errLost) {
			return c, err
		}
		if err := h.sleep(ctx, again-time.Since(start)); err != nil {
			return nil, err
		}
		again *= 2
	}
	return nil, syscall.ETIMEDOUT
}

// handshake tries once. It gives n.mu up while packets travel.
func (h *Host) handshake(ctx context.Context, from, to netip.AddrPort) (*stream, error) {
	syn := h.n.send(from.Addr(), to.Addr(), true)
	if syn.lost {
		return nil, errLost
	}
	if err := h.sleep(ctx, syn.delay); err != nil {
		return nil, err
	}
	if syn.refused {
		return nil, syscall.ECONNREFUSED
	}
	server := h.target(to.Addr())
	if server == nil || server.state == hostOff {
		return nil, errLost
	}
	l, listening := find(server.listeners, to)
	if listening && len(l.queue) >= backlog {
		return nil, errLost
	}
	answer := h.n.send(to.Addr(), from.Addr(), true)
	if answer.lost || answer.refused {
		return nil, errLost
	}
	if err := h.sleep(ctx, answer.delay); err != nil {
		return nil, err
	}
	if !listening {
		return nil, syscall.ECONNREFUSED
	}

	// Connected, as this end sees it. The last ACK tells the server; should it
	// be lost, the first bytes do.
	c, s := newStreams(h.n, h, from, server, to)
	ack := h.n.send(from.Addr(), to.Addr(), true)
	c.lastArrival = time.Now().Add(ack.delay)
	h.n.after(ack.delay, func() {
		switch {
		case s.closed || s.err != nil: // the server died meanwhile
		case l.closed:
			s.vanish()
			s.answerRST(c)
		default:
			l.queue = append(l.queue, s)
			l.changed.Broadcast()
		}
	})
	return c, nil
}

// runnable waits while the process is paused. The caller holds n.mu.
func (h *Host) runnable(ctx context.Context) error {
	if h.paused {
		stop := context.AfterFunc(ctx, func() {
			h.n.mu.Lock()
			defer h.n.mu.Unlock()
			h.changed.Broadcast()
		})
		defer stop()
	}
	for h.paused && ctx.Err() == nil {
		h.changed.Wait()
	}
	switch {
	case ctx.Err() != nil:
		return contextError(ctx.Err())
	case h.state != hostUp:
		return net.ErrClosed
	}
	return nil
}

// sleep gives n.mu up for d. The caller holds n.mu.
func (h *Host) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	h.n.mu.Unlock()
	defer h.n.mu.Lock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx.Err())
	}
}
