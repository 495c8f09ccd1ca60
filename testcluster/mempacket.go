package testcluster

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	packetQueue = 2 << 20 // bytes a datagram socket keeps unread; more are lost
	packetMax   = 65507   // bytes of the largest datagram
)

// packetConn is a datagram socket.
type packetConn struct {
	host *Host
	addr netip.AddrPort

	// host.n.mu guards all below.
	changed *sync.Cond
	queue   []packet
	size    int
	closed  bool
	read    deadline
}

type packet struct {
	from netip.AddrPort
	data []byte
}

func newPacketConn(h *Host, addr netip.AddrPort) *packetConn {
	return &packetConn{host: h, addr: addr, changed: sync.NewCond(&h.n.mu)}
}

// ReadFrom waits for the next datagram; what does not fit into b is lost.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n := p.host.n
	n.mu.Lock()
	defer n.mu.Unlock()
	late := p.read.passed()
	for {
		switch {
		case p.closed:
			return 0, nil, p.error("read", nil, net.ErrClosed)
		case p.host.paused:
		case late:
			return 0, nil, p.error("read", nil, os.ErrDeadlineExceeded)
		case len(p.queue) > 0:
			q := p.queue[0]
			p.queue = p.queue[1:]
			p.size -= len(q.data)
			return copy(b, q.data), udpAddr(q.from), nil
		case p.read.passed():
			return 0, nil, p.error("read", nil, os.ErrDeadlineExceeded)
		}
		p.changed.Wait()
	}
}

// WriteTo sends b to addr, a *net.UDPAddr. It blocks only while the host is
// paused.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, p.error("write", addr, syscall.EINVAL)
	}
	to := netip.AddrPortFrom(u.AddrPort().Addr().Unmap(), u.AddrPort().Port())

	h, n := p.host, p.host.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for h.paused && !p.closed {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, p.error("write", addr, net.ErrClosed)
	case len(b) > packetMax:
		return 0, p.error("write", addr, syscall.EMSGSIZE)
	case !to.IsValid() || to.Port() == 0:
		return 0, p.error("write", addr, syscall.EINVAL)
	}
	h.counters.Packets++
	h.counters.PacketBytes += uint64(len(b))
	dst := h.target(to.Addr())
	if dst == nil {
		return len(b), nil
	}
	source := netip.AddrPortFrom(h.source(p.addr.Addr(), to.Addr()), p.addr.Port())
	f := n.send(source.Addr(), to.Addr(), false)
	if f.lost {
		return len(b), nil
	}
	data := slices.Clone(b)
	n.after(f.delay, func() { dst.receive(source, to, data) })
	return len(b), nil
}

// receive hands a datagram that has arrived to its socket. The caller holds
// n.mu.
func (h *Host) receive(from, to netip.AddrPort, data []byte) {
	if h.state != hostUp {
		return
	}
	p, ok := find(h.packets, to)
	if !ok || p.size+len(data) > packetQueue {
		return
	}
	p.queue = append(p.queue, packet{from, data})
	p.size += len(data)
	p.changed.Broadcast()
}

// Close ends all calls that wait.
func (p *packetConn) Close() error {
	p.host.n.mu.Lock()
	defer p.host.n.mu.Unlock()
	if p.closed {
		return p.error("close", nil, net.ErrClosed)
	}
	p.close()
	return nil
}

// close gives the address free. The caller holds n.mu.
func (p *packetConn) close() {
	p.closed = true
	p.queue, p.size = nil, 0
	p.read.stop()
	delete(p.host.packets, p.addr)
	p.changed.Broadcast()
}

// LocalAddr returns a *net.UDPAddr.
func (p *packetConn) LocalAddr() net.Addr { return udpAddr(p.addr) }

// SetDeadline sets the read deadline; writes do not wait.
func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetReadDeadline bounds ReadFrom, calls that already wait included.
func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.host.n.mu.Lock()
	defer p.host.n.mu.Unlock()
	if p.closed {
		return p.error("set", nil, net.ErrClosed)
	}
	p.read.set(t, p.changed)
	return nil
}

// SetWriteDeadline does nothing: writes do not wait.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer are there because a *net.UDPConn has them.
func (p *packetConn) SetReadBuffer(int) error  { return nil }
func (p *packetConn) SetWriteBuffer(int) error { return nil }

func (p *packetConn) error(op string, addr net.Addr, err error) error {
	return opError(op, "udp", udpAddr(p.addr), addr, err)
}
