package testcluster

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

type hostState int

const (
	hostUp hostState = iota
	hostCrashed
	hostOff
)

// Host is one machine on a [Net], and the one process on it that is under
// test. It is a [cluster.Network]; ListenContext and DialContext have the
// shapes that HTTP and Redis want. All methods may be called from any
// goroutine.
type Host struct {
	n    *Net
	addr netip.Addr

	// n.mu guards all below.
	state     hostState
	paused    bool
	isolated  bool
	epoch     int        // rises when the process dies; what began before it ends in an error
	changed   *sync.Cond // state or paused changed
	packets   map[netip.AddrPort]*packetConn
	listeners map[netip.AddrPort]*listener
	streams   map[*stream]struct{}
	lastPort  uint16
	counters  Counters
}

// Counters tell what a host has sent since it was plugged in.
type Counters struct {
	Packets     uint64 // datagrams
	PacketBytes uint64 // their payload
	StreamBytes uint64 // written to streams
	Dials       uint64 // streams it tried to open
}

func newHost(n *Net, addr netip.Addr) *Host {
	return &Host{
		n:         n,
		addr:      addr,
		changed:   sync.NewCond(&n.mu),
		packets:   map[netip.AddrPort]*packetConn{},
		listeners: map[netip.AddrPort]*listener{},
		streams:   map[*stream]struct{}{},
		lastPort:  32767,
	}
}

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// String returns the host's address.
func (h *Host) String() string { return h.addr.String() }

// Counters returns what h has sent so far, what was lost on the way included.
func (h *Host) Counters() Counters {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return h.counters
}

// Crash is kill -9: the kernel closes every socket, so that peers read the rest
// and then EOF, or ECONNRESET when something was left unread; new dials are
// refused. The process's own calls end in net.ErrClosed, and so do new ones
// until Restart.
func (h *Host) Crash() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.state != hostUp {
		return
	}
	h.end(hostCrashed, (*stream).close)
}

// PowerOff is a pulled plug: the host vanishes, nobody is told. Dials to it
// time out and streams to it stall. The process's own calls end in
// net.ErrClosed.
func (h *Host) PowerOff() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.state == hostOff {
		return
	}
	h.end(hostOff, (*stream).vanish)
}

// end ends the process. The caller holds n.mu.
func (h *Host) end(s hostState, each func(*stream)) {
	h.epoch++
	h.paused = false
	for c := range h.streams {
		each(c)
	}
	h.state = s
	for _, p := range h.packets {
		p.close()
	}
	for _, l := range h.listeners {
		l.close()
	}
	h.changed.Broadcast()
}

// Restart makes the host ready for a new process, after Crash or PowerOff. What
// still hangs on the old one is answered with RST from now on.
func (h *Host) Restart() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.state = hostUp
	h.changed.Broadcast()
}

// Pause is SIGSTOP: the process reads, accepts and sends nothing, and even its
// deadlines wait. Its kernel goes on accepting streams and keeping bytes and
// datagrams, up to the size of the buffers.
func (h *Host) Pause() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.state == hostUp {
		h.paused = true
	}
}

// Resume is SIGCONT: the process finds all that its kernel has kept.
func (h *Host) Resume() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if !h.paused {
		return
	}
	h.paused = false
	h.changed.Broadcast()
	for _, p := range h.packets {
		p.changed.Broadcast()
	}
	for _, l := range h.listeners {
		l.changed.Broadcast()
	}
	for c := range h.streams {
		c.changed.Broadcast()
		c.pump()
	}
}

// ResetStreams kills every stream of h to or from other hosts, as a firewall
// that forgets its connections does: both ends get ECONNRESET.
func (h *Host) ResetStreams() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	for c := range h.streams {
		if c.peer.host != h {
			c.reset(syscall.ECONNRESET)
			c.peer.reset(syscall.ECONNRESET)
		}
	}
}

// Streams returns how many streams h has open to and from other hosts.
func (h *Host) Streams() int {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	open := 0
	for c := range h.streams {
		if c.peer.host != h && !c.closed {
			open++
		}
	}
	return open
}

// ListenPacket opens a datagram socket. See [cluster.Network].
func (h *Host) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	addr, err := bind(h, addr, h.packets)
	if err != nil {
		return nil, opError("listen", "udp", nil, udpAddr(addr), err)
	}
	p := newPacketConn(h, addr)
	h.packets[addr] = p
	return p, nil
}

// Listen opens a stream listener. See [cluster.Network].
func (h *Host) Listen(addr netip.AddrPort) (net.Listener, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	addr, err := bind(h, addr, h.listeners)
	if err != nil {
		return nil, opError("listen", "tcp", nil, tcpAddr(addr), err)
	}
	l := newListener(h, addr)
	h.listeners[addr] = l
	return l, nil
}

// ListenContext is Listen in the shape of [net.ListenConfig]: network is "tcp",
// addr an IP address (or localhost, or nothing for any) with a port.
func (h *Host) ListenContext(_ context.Context, network, addr string) (net.Listener, error) {
	a, err := resolve(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return h.Listen(a)
}

// bind finds the address that a new socket gets, and whether it may have it.
// The caller holds n.mu.
func bind[S any](h *Host, addr netip.AddrPort, taken map[netip.AddrPort]S) (netip.AddrPort, error) {
	ip := addr.Addr().Unmap()
	if h.state != hostUp {
		return addr, net.ErrClosed
	}
	if ip != h.addr && !ip.IsLoopback() && !ip.IsUnspecified() {
		return addr, syscall.EADDRNOTAVAIL
	}
	clash := func(port uint16) bool {
		for a := range taken {
			if a.Port() == port && (a.Addr() == ip || a.Addr().IsUnspecified() || ip.IsUnspecified()) {
				return true
			}
		}
		return false
	}
	port := addr.Port()
	if port == 0 {
		port = h.freePort()
		for clash(port) {
			port = h.freePort()
		}
	} else if clash(port) {
		return addr, syscall.EADDRINUSE
	}
	return netip.AddrPortFrom(ip, port), nil
}

// freePort returns the next ephemeral port. The caller holds n.mu.
func (h *Host) freePort() uint16 {
	h.lastPort++
	if h.lastPort < 32768 {
		h.lastPort = 32768
	}
	return h.lastPort
}

// target returns the host that addr means when h sends to it, nil when there
// is none. The caller holds n.mu.
func (h *Host) target(addr netip.Addr) *Host {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return h
	}
	return h.n.hosts[addr]
}

// source returns the address from which h sends to addr.
func (h *Host) source(bound, to netip.Addr) netip.Addr {
	switch {
	case bound.IsValid() && !bound.IsUnspecified():
		return bound
	case to.IsLoopback():
		return to
	default:
		return h.addr
	}
}

// find returns the socket that takes what is sent to addr. The caller holds
// n.mu.
func find[S any](sockets map[netip.AddrPort]S, addr netip.AddrPort) (S, bool) {
	if s, ok := sockets[addr]; ok {
		return s, true
	}
	for _, wildcard := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if s, ok := sockets[netip.AddrPortFrom(wildcard, addr.Port())]; ok {
			return s, true
		}
	}
	var none S
	return none, false
}
